// Package qmp talks to QEMU's monitor (QEMU Machine Protocol; docs/interop/qmp-spec.rst
// and qapi/*.json in QEMU's sources).
//
// A Client gives deadlines and typed results to anything that implements go-qemu's
// qmp.Monitor. Two such monitors are here: Passthrough, over somebody else's connection
// (libvirt's qemu-monitor-command), and Socket, on a monitor's own unix socket.
// Package qmptest has a fake for each.
package qmp
