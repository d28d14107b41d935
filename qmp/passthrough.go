package qmp

import (
	"context"
	"fmt"
	"os"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// CommandFunc sends one command line, with files if any, and returns QEMU's reply line.
// libvirt's virDomainQemuMonitorCommandWithFiles is one. It has to be safe for concurrent
// use, since a call given up may still be under way.
type CommandFunc func(line string, files []*os.File) (string, error)

// Passthrough is a monitor over somebody else's connection to QEMU.
type Passthrough struct{ run CommandFunc }

var (
	_ goqemu.Monitor = (*Passthrough)(nil)
	_ FileRunner     = (*Passthrough)(nil)
)

// NewPassthrough makes a monitor of a function.
func NewPassthrough(run CommandFunc) *Passthrough { return &Passthrough{run} }

// Connect does nothing: the connection is somebody else's.
func (p *Passthrough) Connect() error { return nil }

// Disconnect does nothing.
func (p *Passthrough) Disconnect() error { return nil }

// Run sends one command.
func (p *Passthrough) Run(command []byte) ([]byte, error) {
	out, err := p.run(string(command), nil)
	return []byte(out), err
}

// RunWithFile sends one command with an open file.
func (p *Passthrough) RunWithFile(command []byte, f *os.File) ([]byte, error) {
	out, err := p.run(string(command), []*os.File{f})
	return []byte(out), err
}

// Events is not to be had here: take libvirt's own events. The error is go-qemu's
// ErrEventsNotSupported.
func (p *Passthrough) Events(context.Context) (<-chan goqemu.Event, error) {
	return nil, fmt.Errorf("qmp: a passthrough takes commands only, ask libvirt for events: %w", goqemu.ErrEventsNotSupported)
}
