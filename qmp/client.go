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

// ContextRunner is a monitor that gives a command up when its context ends, so that no
// goroutine is left behind. files go to QEMU with the command.
type ContextRunner interface {
	RunContext(ctx context.Context, command []byte, files ...*os.File) ([]byte, error)
}

// CommandError is QEMU's refusal of a command.
type CommandError struct {
	Command string // what was asked
	Class   string // QEMU's error class, such as GenericError
	Desc    string // QEMU's own words
}

func (e *CommandError) Error() string { return fmt.Sprintf("QEMU refused %s: %s", e.Command, e.Desc) }

// Client runs commands on a monitor, with deadlines. It is as safe for concurrent use as
// its monitor; both monitors of this package are.
type Client struct{ mon goqemu.Monitor }

// New makes a Client of a connected monitor. Closing the monitor stays the caller's part.
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
// Errors: *CommandError when QEMU refuses, ctx's cause when it does not answer in time.
func (c *Client) Execute(ctx context.Context, command string, args, out any) error {
	return c.run(ctx, command, args, out)
}

// PassFile gives QEMU an open file under a name (command getfd); a file it already has
// under that name is closed. The caller keeps its own copy.
func (c *Client) PassFile(ctx context.Context, name string, f *os.File) error {
	return c.run(ctx, "getfd", map[string]string{"fdname": name}, nil, f)
}

func (c *Client) run(ctx context.Context, command string, args, out any, files ...*os.File) error {
	line, err := json.Marshal(request{command, args})
	if err != nil {
		return fmt.Errorf("qmp %s: arguments: %w", command, err)
	}
	raw, err := c.send(ctx, line, files)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("qmp: no answer to %s: %w", command, context.Cause(ctx))
		}
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	return decode(command, raw, out)
}

func (c *Client) send(ctx context.Context, line []byte, files []*os.File) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if m, ok := c.mon.(ContextRunner); ok {
		return m.RunContext(ctx, line, files...)
	}
	if len(files) == 0 {
		return bounded(ctx, func() ([]byte, error) { return c.mon.Run(line) })
	}
	m, ok := c.mon.(FileRunner)
	if !ok {
		return nil, fmt.Errorf("this monitor (%T) cannot pass files", c.mon)
	}
	return bounded(ctx, func() ([]byte, error) { return m.RunWithFile(line, files[0]) })
}

// bounded waits for a call that knows no deadline. One that does not come back is left to
// end alone: its goroutine ends with the monitor's connection.
func bounded(ctx context.Context, call func() ([]byte, error)) ([]byte, error) {
	type answer struct {
		raw []byte
		err error
	}
	done := make(chan answer, 1)
	go func() {
		raw, err := call()
		done <- answer{raw, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case a := <-done:
		return a.raw, a.err
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
	if r.Return == nil {
		return fmt.Errorf("qmp %s: reply %.80q has neither a return nor an error", command, raw)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(r.Return, out); err != nil {
		return fmt.Errorf("qmp %s: reply %.80q: %w", command, r.Return, err)
	}
	return nil
}
