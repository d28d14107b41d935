package qmp

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// FileRunner is a monitor that can hand open files to QEMU with a command (SCM_RIGHTS).
type FileRunner interface {
	RunWithFile(command []byte, f *os.File) ([]byte, error)
}

// CommandError is QEMU's refusal of a command.
type CommandError struct {
	Command string // what was asked
	Class   string // QEMU's error class, such as GenericError
	Desc    string // QEMU's own words
}

func (e *CommandError) Error() string { return fmt.Sprintf("QEMU refused %s: %s", e.Command, e.Desc) }

// Client runs commands on a monitor, with deadlines.
type Client struct{ mon goqemu.Monitor }

// New makes a Client of a connected monitor.
func New(m goqemu.Monitor) *Client { return &Client{mon: m} }

type request struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
}

type reply struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// Execute runs one command and decodes what it returns into out (nil: not wanted).
// Errors: *CommandError when QEMU refuses, ctx's error when it does not answer.
func (c *Client) Execute(ctx context.Context, command string, args, out any) error {
	return c.run(ctx, command, args, out, c.mon.Run)
}

// PassFile gives QEMU an open file under a name (command getfd). The caller keeps its own copy.
func (c *Client) PassFile(ctx context.Context, name string, f *os.File) error {
	m, ok := c.mon.(FileRunner)
	if !ok {
		return fmt.Errorf("qmp: this monitor (%T) cannot pass files", c.mon)
	}
	run := func(line []byte) ([]byte, error) { return m.RunWithFile(line, f) }
	return c.run(ctx, "getfd", map[string]string{"fdname": name}, nil, run)
}

// run bounds one call. A monitor has no deadlines of its own, so a call that does not
// come back is left to end alone; its goroutine ends with the monitor's connection.
func (c *Client) run(ctx context.Context, command string, args, out any, send func([]byte) ([]byte, error)) error {
	line, err := json.Marshal(request{command, args})
	if err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	type answer struct {
		raw []byte
		err error
	}
	done := make(chan answer, 1)
	go func() {
		raw, err := send(line)
		done <- answer{raw, err}
	}()
	select {
	case <-ctx.Done():
		return fmt.Errorf("qmp: no answer to %s: %w", command, context.Cause(ctx))
	case a := <-done:
		if a.err != nil {
			return fmt.Errorf("qmp %s: %w", command, a.err)
		}
		return decode(command, a.raw, out)
	}
}

func decode(command string, raw []byte, out any) error {
	var r reply
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("qmp %s: reply %.80q: %w", command, raw, err)
	}
	if r.Error != nil {
		return &CommandError{Command: command, Class: r.Error.Class, Desc: r.Error.Desc}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(r.Return, out); err != nil {
		return fmt.Errorf("qmp %s: reply %.80q: %w", command, r.Return, err)
	}
	return nil
}
