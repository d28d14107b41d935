package qmp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
	"github.com/hamgr/hamgr/qmp"
	"github.com/hamgr/hamgr/qmp/qmptest"
)

// echo returns a command's arguments.
func echo(command string, args json.RawMessage, _ []*os.File) (any, error) {
	if command == "echo" {
		return args, nil
	}
	return nil, nil
}

func dial(t *testing.T, srv *qmptest.Server) *qmp.Socket {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	s, err := qmp.DialSocket(ctx, srv.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Disconnect() })
	return s
}

func TestSocketConcurrentCommands(t *testing.T) {
	c := qmp.New(dial(t, qmptest.Serve(t, echo)))
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			var got int
			if err := c.Execute(t.Context(), "echo", i, &got); err != nil || got != i {
				t.Errorf("%d came back as %d, %v", i, got, err)
			}
		})
	}
	all.Wait()
}

func TestSocketLongLine(t *testing.T) {
	c := qmp.New(dial(t, qmptest.Serve(t, echo)))
	long := strings.Repeat("x", 1<<20)
	var got string
	if err := c.Execute(t.Context(), "echo", long, &got); err != nil || got != long {
		t.Fatalf("%d bytes came back, %v", len(got), err)
	}
}

func TestSocketPassesFile(t *testing.T) {
	srv := qmptest.Serve(t, func(command string, _ json.RawMessage, files []*os.File) (any, error) {
		if command != "getfd" {
			return nil, nil
		}
		if len(files) != 1 {
			return nil, fmt.Errorf("%d files", len(files))
		}
		_, err := files[0].Write([]byte("hello"))
		return nil, err
	})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = qmp.New(dial(t, srv)).PassFile(t.Context(), "n", w)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
}

// A reply that comes after its command was given up must not answer the next command.
func TestSocketLateReply(t *testing.T) {
	release := make(chan struct{})
	srv := qmptest.Serve(t, func(command string, _ json.RawMessage, _ []*os.File) (any, error) {
		if command == "slow" {
			<-release
		}
		return command, nil
	})
	c := qmp.New(dial(t, srv))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Execute(ctx, "slow", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	close(release)
	var got string
	if err := c.Execute(t.Context(), "fast", nil, &got); err != nil || got != "fast" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestSocketHangup(t *testing.T) {
	srv := qmptest.Serve(t, func(command string, _ json.RawMessage, _ []*os.File) (any, error) {
		if command == "die" {
			return nil, qmptest.ErrHangup
		}
		return nil, nil
	})
	s := dial(t, srv)
	c := qmp.New(s)
	events, err := s.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Execute(t.Context(), "die", nil, nil); !errors.Is(err, qmp.ErrClosed) {
		t.Fatal(err)
	}
	if _, open := <-events; open {
		t.Fatal("an event from a dead monitor")
	}
	if err := c.Execute(t.Context(), "more", nil, nil); !errors.Is(err, qmp.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := s.Events(t.Context()); !errors.Is(err, qmp.ErrClosed) {
		t.Fatal(err)
	}
	if err := s.Disconnect(); err != nil {
		t.Fatal(err)
	}
}

func TestSocketEvents(t *testing.T) {
	srv := qmptest.Serve(t, echo)
	s := dial(t, srv)
	ctx, cancel := context.WithCancel(t.Context())
	events, err := s.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	srv.Emit("STOP", map[string]any{"why": "test"})
	if e := <-events; e.Event != "STOP" || e.Data["why"] != "test" || e.Timestamp.Seconds != 1 {
		t.Fatalf("%+v", e)
	}
	cancel()
	if _, open := <-events; open {
		t.Fatal("an event after the end of the context")
	}
}

// Events nobody takes must not hold up replies; who misses some is told by the close.
func TestSocketUndrainedEvents(t *testing.T) {
	srv := qmptest.Serve(t, echo)
	s := dial(t, srv)
	events, err := s.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		srv.Emit("STOP", nil)
	}
	if err := qmp.New(s).Execute(t.Context(), "echo", 1, nil); err != nil {
		t.Fatal(err)
	}
	n := 0
	for range events { // ends, since the channel was closed
		n++
	}
	if n == 0 || n == 1000 {
		t.Fatalf("%d events", n)
	}
}

func TestSocketUnframedLines(t *testing.T) {
	srv := qmptest.Serve(t, echo)
	c := qmp.New(dial(t, srv))
	srv.Line(`{"return":{},"id":"somebody-else"}`)
	srv.Line(`{"return":{},"id":99999}`)
	if err := c.Execute(t.Context(), "echo", 1, nil); err != nil {
		t.Fatal(err)
	}
	srv.Line(`no JSON`)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for { // the line and the command race; the line wins soon
		if err := c.Execute(ctx, "echo", 1, nil); err != nil {
			if !errors.Is(err, qmp.ErrClosed) || !strings.Contains(err.Error(), "no JSON") {
				t.Fatal(err)
			}
			return
		}
	}
}

func TestDialSocketErrors(t *testing.T) {
	dir, err := os.MkdirTemp("", "qmp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	if _, err := qmp.DialSocket(t.Context(), path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := qmp.DialSocket(ctx, path); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path) {
		t.Fatalf("a monitor that says nothing: %v", err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("220 mail\n"))
			c.Close()
		}
	}()
	if _, err := qmp.DialSocket(t.Context(), path); err == nil || !strings.Contains(err.Error(), "no greeting") {
		t.Fatal(err)
	}
}

func TestSocketIsAMonitor(t *testing.T) {
	var m goqemu.Monitor = dial(t, qmptest.Serve(t, echo))
	if err := m.Connect(); err != nil {
		t.Fatal(err)
	}
	if out, err := m.Run([]byte(`{"execute":"echo","arguments":7,"id":"mine"}`)); err != nil || !strings.Contains(string(out), `"return":7`) {
		t.Fatalf("%s, %v", out, err)
	}
	if _, err := m.Run([]byte(`oops`)); err == nil {
		t.Fatal("sent what is no JSON")
	}
}
