package qmptest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// Server is a monitor on a unix socket. It takes any number of clients, one command after
// the other each; its goroutines end with the test.
type Server struct {
	Path   string
	answer Handler
	listen *net.UnixListener
	work   sync.WaitGroup

	mu     sync.Mutex // guards all below, and the writing to conns
	conns  map[*net.UnixConn]struct{}
	closed bool
}

// Serve starts a Server that ends with the test.
func Serve(tb testing.TB, h Handler) *Server {
	tb.Helper()
	dir, err := os.MkdirTemp("", "qmp") // shorter than TempDir: a socket's path has 107 bytes
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{Path: filepath.Join(dir, "s"), answer: h, conns: map[*net.UnixConn]struct{}{}}
	if s.listen, err = net.ListenUnix("unix", &net.UnixAddr{Name: s.Path, Net: "unix"}); err != nil {
		tb.Fatal(err)
	}
	s.work.Go(s.accept)
	tb.Cleanup(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.listen.Close()
		s.Hangup()
		s.work.Wait()
		os.RemoveAll(dir)
	})
	return s
}

// Emit sends an event to every client.
func (s *Server) Emit(event string, data any) {
	line, err := json.Marshal(map[string]any{"event": event, "data": data, "timestamp": map[string]int{"seconds": 1, "microseconds": 2}})
	if err != nil {
		panic(fmt.Sprintf("qmptest: event data: %v", err))
	}
	s.Line(string(line))
}

// Line sends any text to every client, as it is.
func (s *Server) Line(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Write([]byte(text + "\n"))
	}
}

// Hangup drops every client, as a QEMU that dies does.
func (s *Server) Hangup() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

func (s *Server) accept() {
	for {
		c, err := s.listen.AcceptUnix()
		if err != nil {
			return
		}
		if !s.admit(c) {
			c.Close()
			return
		}
		s.work.Go(func() { s.serve(c) })
	}
}

const greeting = `{"QMP":{"version":{"qemu":{"major":11,"minor":1,"micro":3},"package":""},"capabilities":["oob"]}}` + "\n"

func (s *Server) admit(c *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	c.Write([]byte(greeting))
	return true
}

func (s *Server) serve(c *net.UnixConn) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
		c.Close()
	}()
	var buf []byte
	var files []*os.File
	defer func() { closeAll(files) }()
	for {
		part, got, err := receive(c)
		files = append(files, got...)
		if err != nil {
			return
		}
		buf = append(buf, part...)
		for {
			line, rest, whole := bytes.Cut(buf, []byte{'\n'})
			if !whole {
				break
			}
			err := s.reply(c, line, files)
			closeAll(files)
			buf, files = rest, nil
			if err != nil {
				return
			}
		}
	}
}

func (s *Server) reply(c *net.UnixConn, line []byte, files []*os.File) error {
	out, err := respond(s.answer, line, files)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = c.Write(append(out, '\n'))
	return err
}

func receive(c *net.UnixConn) ([]byte, []*os.File, error) {
	data, oob := make([]byte, 64<<10), make([]byte, 256)
	n, on, _, _, err := c.ReadMsgUnix(data, oob)
	if err != nil || n == 0 {
		return nil, nil, net.ErrClosed
	}
	msgs, err := syscall.ParseSocketControlMessage(oob[:on])
	if err != nil {
		return nil, nil, err
	}
	var files []*os.File
	for _, m := range msgs {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return nil, nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return data[:n], files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
