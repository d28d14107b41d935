// Package domain is hamgr's view of libvirt: the guests of one host, QEMU's monitor
// behind them, and standbys: paused guests whose RAM file is a replica.
//
// # Standbys
//
// A standby is made by virDomainRestore from a FIFO. libvirt reads a save image
// (src/qemu/qemu_saveimage.h in its sources: a header, the domain's XML, then a migration
// stream) and starts a QEMU that waits for the stream. The stream comes at failover; until
// then the RAM file of that QEMU is the replica, and it is mapped privately and untouched.
//
// Each open of a file finds its beginning. libvirt opens the image once or twice, by its
// version (11.3 twice: for the XML, and for the data), so the FIFO's writer watches with
// inotify and writes the header once for each open.
//
// While a standby waits, libvirt holds a job on it: its XML and state can be read and it
// can be destroyed, but its monitor cannot be used; a command there would block until
// libvirt's own timeout of 30 s. Lookup therefore does not ask the monitor of one.
//
// The restore occupies a worker of libvirtd and a connection of its own (libvirtd serves
// 5 requests of one connection at a time). A host can hold as many standbys as libvirtd
// has workers to spare: max_workers in libvirtd.conf or virtqemud.conf, 20 unless set.
//
// A mark in the domain's metadata says that it is a standby, whose it is, and what its
// XML said before hamgr changed it; Host.Define uses it to give the user's own words back.
//
// # Goroutines
//
//	owner    goroutine                            ends
//	process  libvirt's event loop                 never: libvirt has one per process
//	Host     keep: connects anew when cut off     Host.Close
//	call     one blocking call into libvirt       when libvirt returns; see bounded
//	Standby  restore: virDomainRestore            when the restore ends, at the latest by Discard
//	Standby  image.serve: headers into the FIFO   when QEMU waits, or by Discard
package domain
