package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hamgr/hamgr/test/lab"
)

// Server answers for a lab of this process. Its goroutines end with Close.
type Server struct {
	dir    string
	lock   *os.File
	ln     net.Listener
	ctx    context.Context // ends when the lab is to go down
	cancel context.CancelFunc
	gone   chan struct{} // closed when it has
	calls  sync.WaitGroup

	mu  sync.Mutex // held for each verb: one at a time; guards what follows
	lab *lab.Lab   // nil until it is up
	log string
}

const (
	readLimit  = 5 * time.Second // for a request
	closeLimit = 2 * time.Second // for the last answers
)

// Listen takes a run directory and begins to answer. The lab may come later, with Serve.
// The context it returns ends with ctx, or when somebody wants the lab down; its owner is
// to end the lab then, and to Close. An *Error if a lab is up already.
func Listen(ctx context.Context, dir string) (*Server, context.Context, error) {
	lock, err := take(dir)
	if errors.Is(err, errTaken) {
		return nil, nil, &Error{ExitConflict, fmt.Sprintf("a lab is up already, in %s", dir), "lab down ends it; another --run-dir, or HAMGR_LAB_RUN, makes a second one"}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("run directory: %w", err)
	}
	os.Remove(socket(dir)) // of one that was killed
	ln, err := net.Listen("unix", socket(dir))
	if err != nil {
		give(lock, dir)
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	s := &Server{dir: dir, lock: lock, ln: ln, gone: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(ctx)
	go s.accept()
	return s, s.ctx, nil
}

// Serve lets others use the lab. Its hosts' logs are in a directory.
func (s *Server) Serve(l *lab.Lab, logs string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lab, s.log = l, logs
}

// Close is for when the lab is down: it says so to those who wait for it, and gives the
// run directory back.
func (s *Server) Close() {
	s.cancel()
	close(s.gone)
	s.ln.Close()
	answered := make(chan struct{})
	go func() {
		s.calls.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(closeLimit): // somebody does not read, or waits for a host that is gone
	}
	give(s.lock, s.dir)
}

func (s *Server) accept() {
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return // closed
		}
		s.calls.Go(func() {
			defer conn.Close()
			s.answer(conn)
		})
	}
}

func (s *Server) answer(conn net.Conn) {
	var r Request
	conn.SetReadDeadline(time.Now().Add(readLimit))
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		return
	}
	a, err := s.do(r)
	if err != nil {
		a = Answer{Error: asError(err)}
	}
	conn.SetWriteDeadline(time.Now().Add(readLimit))
	json.NewEncoder(conn).Encode(a) // to one who has left: nobody to tell
}
