// Package colo is the storing side of QEMU's COLO protocol (docs/COLO-FT.txt,
// migration/colo.c, migration/ram.c and migration/savevm.c in QEMU's sources): it takes
// the place of COLO's secondary, but keeps the checkpoints instead of executing them.
//
//	Arm ----> Ready ----> { WaitRequest -> Capture -> Resume } ----> Disarm
//
// Arm reads the first copy of memory while the guest runs; each Capture takes the pages
// dirtied since the last one, and the device state, while the guest is stopped.
// WriteRestore turns what was kept into a migration stream a fresh QEMU accepts.
package colo
