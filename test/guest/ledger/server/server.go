// Package server offers a ledger (package chain) over TCP, UDP and HTTP. It runs inside
// the test guest and, for tests of what talks to it, in any process.
//
// TCP and UDP speak the protocol of package chain, a line or a datagram each way; HTTP
// is for people and scripts, see http.go. Nothing here wakes up while nobody asks.
package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

// maxConns bounds the TCP connections at a time; more are closed at once.
const maxConns = 512

// Config says where to listen, as host:port; port 0 takes any that is free.
type Config struct {
	Listen string // TCP and UDP
	HTTP   string // empty: no HTTP
}

// Server is a ledger at work. Close it.
type Server struct {
	ledger *chain.Ledger
	memory *memory
	addr   string // of TCP
	udp    net.PacketConn
	web    net.Listener // nil without HTTP
	http   *http.Server
	began  time.Time

	mu     sync.Mutex   // guards what follows
	tcp    net.Listener // nil: connections are refused
	conns  map[net.Conn]struct{}
	closed bool
	wg     sync.WaitGroup // every goroutine of the server
}

// Start listens and serves a new ledger.
func Start(cfg Config) (*Server, error) {
	s := &Server{ledger: chain.New(), memory: newMemory(), conns: make(map[net.Conn]struct{}), began: time.Now()}
	if err := s.listen(cfg); err != nil {
		s.Close()
		return nil, err
	}
	l := s.tcp
	s.wg.Go(func() { s.serveTCP(l) })
	s.wg.Go(s.serveUDP)
	if s.web != nil {
		s.http = &http.Server{Handler: s.routes(), ReadHeaderTimeout: time.Minute}
		s.wg.Go(func() { s.http.Serve(s.web) })
	}
	return s, nil
}

// sockets has keep-alives off: an idle guest shall be idle, and a path that is silent for
// long is what the ledger is there to sit out. Multipath TCP, Go's default for listeners, is
// off because ordinary TCP is what is tested.
func sockets() net.ListenConfig {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	return lc
}

// listen opens the sockets.
func (s *Server) listen(cfg Config) (err error) {
	lc, ctx := sockets(), context.Background()
	if s.tcp, err = lc.Listen(ctx, "tcp", cfg.Listen); err != nil {
		return fmt.Errorf("ledger: TCP: %w", err)
	}
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return fmt.Errorf("ledger: address %q: %w", cfg.Listen, err)
	}
	s.addr = s.tcp.Addr().String()
	port := s.tcp.Addr().(*net.TCPAddr).Port
	if s.udp, err = lc.ListenPacket(ctx, "udp", net.JoinHostPort(host, fmt.Sprint(port))); err != nil {
		return fmt.Errorf("ledger: UDP: %w", err)
	}
	if cfg.HTTP == "" {
		return nil
	}
	if s.web, err = lc.Listen(ctx, "tcp", cfg.HTTP); err != nil {
		return fmt.Errorf("ledger: HTTP: %w", err)
	}
	return nil
}

// Addr is where TCP and UDP are served.
func (s *Server) Addr() string { return s.addr }

// HTTPAddr is where HTTP is served, or empty.
func (s *Server) HTTPAddr() string {
	if s.web == nil {
		return ""
	}
	return s.web.Addr().String()
}

// Close ends every connection and waits until nothing of the server runs.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	var errs []error
	if s.tcp != nil {
		errs = append(errs, s.tcp.Close())
	}
	s.mu.Unlock()
	if s.udp != nil {
		errs = append(errs, s.udp.Close())
	}
	switch {
	case s.http != nil:
		errs = append(errs, s.http.Close())
	case s.web != nil:
		errs = append(errs, s.web.Close())
	}
	s.wg.Wait()
	return errors.Join(append(errs, s.memory.close())...)
}

func (s *Server) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, say: the next may do
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if !s.admit(c) {
			c.Close()
			continue
		}
		s.wg.Go(func() {
			defer s.dismiss(c)
			s.serveConn(c)
		})
	}
}

// admit counts a connection in, unless there are too many or the server is closing.
func (s *Server) admit(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= maxConns {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) dismiss(c net.Conn) {
	c.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// serveConn answers until the client is gone. A line too long ends the connection, after
// a word why: what follows cannot be told from the next request.
func (s *Server) serveConn(c net.Conn) {
	c.(*net.TCPConn).SetNoDelay(true)
	in := bufio.NewScanner(c)
	in.Buffer(make([]byte, 0, 512), chain.MaxLine+1)
	in.Split(wholeLines)
	for in.Scan() {
		if _, err := c.Write([]byte(s.ledger.Answer(in.Text()) + "\n")); err != nil {
			return
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		fmt.Fprintf(c, "! a request has at most %d bytes\n", chain.MaxLine)
	}
}

// wholeLines is bufio.ScanLines without its last, unfinished line: a request cut off in
// the middle is none.
func wholeLines(data []byte, _ bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	return 0, nil, nil
}

func (s *Server) serveUDP() {
	buf := make([]byte, chain.MaxLine+2)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an answer's own ICMP error; nothing is wrong here
			continue
		}
		line := buf[:n]
		if n > 0 && line[n-1] == '\n' {
			line = line[:n-1]
		}
		s.udp.WriteTo([]byte(s.ledger.Answer(string(line))+"\n"), from)
	}
}
