// Package qmp talks to QEMU's monitor (QEMU Machine Protocol, docs/interop/qmp-spec.rst
// in QEMU's sources). A Client gives deadlines and typed results to anything that
// implements go-qemu's qmp.Monitor; Passthrough is such a monitor over libvirt's
// qemu-monitor-command, Socket one over a monitor's unix socket.
package qmp
