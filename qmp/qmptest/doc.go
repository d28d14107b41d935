// Package qmptest has stand-ins for QEMU's monitor, for tests of what talks to one. Each
// takes a plain function that answers the commands.
package qmptest
