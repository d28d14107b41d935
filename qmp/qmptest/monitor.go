package qmptest

import (
	"context"
	"encoding/json"
	"errors"
	"os"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// Handler answers one command with what goes into "return" (nil: an empty object) or an
// error, which goes out with its text, as an *Error with its class. files are valid
// during the call; duplicate what is to be kept.
type Handler func(command string, args json.RawMessage, files []*os.File) (any, error)

// Error is a refusal with a class of its own.
type Error struct{ Class, Desc string }

func (e *Error) Error() string { return e.Desc }

// ErrHangup, from a Handler, ends the connection instead of an answer, as a QEMU that
// dies does.
var ErrHangup = errors.New("qmptest: the connection ends")

// Monitor is a monitor in memory. It implements go-qemu's qmp.Monitor and takes files.
type Monitor struct{ answer Handler }

// NewMonitor makes a Monitor of a function.
func NewMonitor(h Handler) *Monitor { return &Monitor{h} }

// Connect does nothing.
func (m *Monitor) Connect() error { return nil }

// Disconnect does nothing.
func (m *Monitor) Disconnect() error { return nil }

// Run answers one command.
func (m *Monitor) Run(command []byte) ([]byte, error) { return respond(m.answer, command, nil) }

// RunWithFile answers one command that brings a file.
func (m *Monitor) RunWithFile(command []byte, f *os.File) ([]byte, error) {
	return respond(m.answer, command, []*os.File{f})
}

// Events refuses, as a passthrough does.
func (m *Monitor) Events(context.Context) (<-chan goqemu.Event, error) {
	return nil, goqemu.ErrEventsNotSupported
}

func respond(h Handler, line []byte, files []*os.File) ([]byte, error) {
	var cmd struct {
		Execute   string          `json:"execute"`
		Arguments json.RawMessage `json:"arguments"`
		ID        json.RawMessage `json:"id"`
	}
	if err := json.Unmarshal(line, &cmd); err != nil {
		return nil, err
	}
	reply := map[string]any{}
	out, err := h(cmd.Execute, cmd.Arguments, files)
	switch {
	case errors.Is(err, ErrHangup):
		return nil, err
	case err != nil:
		refusal := Error{Class: "GenericError", Desc: err.Error()}
		if e, ok := errors.AsType[*Error](err); ok {
			refusal.Class = e.Class
		}
		reply["error"] = map[string]string{"class": refusal.Class, "desc": refusal.Desc}
	case out == nil:
		reply["return"] = struct{}{}
	default:
		reply["return"] = out
	}
	if cmd.ID != nil {
		reply["id"] = cmd.ID
	}
	return json.Marshal(reply)
}
