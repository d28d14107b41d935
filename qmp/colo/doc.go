// Package colo is the storing side of QEMU's COLO protocol: it takes the place of COLO's
// secondary, but keeps the checkpoints instead of executing them.
//
//	Arm ----> Ready ----> { WaitRequest -> Capture -> Resume } ----> Disarm
//
// Arm reads the first copy of memory while the guest runs, and stops it for the end of one
// that would have none; each Capture takes the pages dirtied since the last one, and the
// device state, while the guest is stopped.
// WriteRestore turns what was kept into a migration stream that a fresh QEMU accepts.
// Probe finds out by trying whether a QEMU can do all this. Recover takes a QEMU out of a
// session whose agent has died.
//
// # Protocol
//
// QEMU's own words on it are its sources, read at 7.2, 10.0 and 11.1:
//
//   - docs/system/qemu-colo.rst (before 10.2: docs/COLO-FT.txt) and migration/colo.c: the
//     messages of a checkpoint, and who stops and starts the guest when
//   - docs/devel/migration/main.rst and migration/savevm.c: the migration stream's header,
//     sections, commands, footers and description
//   - migration/ram.c: the words of the ram section and the "continue" flag, which refers to
//     the last page's block even across sections
//   - migration/migration.c: the return path and its SHUT message
//   - qapi/migration.json: commands, capabilities, parameters
//
// All numbers are big-endian. The stream comes over one end of a socket pair whose other
// end QEMU gets with getfd ("migrate fd:"), so QEMU needs no right to any path.
//
// A description of the devices' state in JSON would end the first copy, and grow in QEMU's
// memory with each checkpoint; it is switched off (describe), and skipped where that fails.
//
// Everything QEMU marks unstable by the prefix x- is in unstable.go.
package colo
