package cluster

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// stream is raft.StreamLayer over TCP that, unlike Raft's own, closes every connection
// with itself: their readers would else outlive Close.
type stream struct {
	*net.TCPListener
	local *net.TCPAddr // without port: where calls to others come from

	mu     sync.Mutex // guards what follows
	opened bool       // others may call
	closed bool
	conns  map[*conn]struct{}
}

type conn struct {
	net.Conn
	stream *stream
}

func listen(addr string) (*stream, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cluster: address %s: %w", addr, err)
	}
	ln, err := net.ListenTCP("tcp", tcp)
	if err != nil {
		return nil, fmt.Errorf("cluster: listen on %s: %w", addr, err)
	}
	return &stream{TCPListener: ln, local: &net.TCPAddr{IP: tcp.IP, Zone: tcp.Zone}, conns: map[*conn]struct{}{}}, nil
}

// Dial is raft.StreamLayer's.
func (s *stream) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, LocalAddr: s.local}
	c, err := d.Dial("tcp", string(to))
	if err != nil {
		return nil, err
	}
	return s.keep(c)
}

// Accept is net.Listener's. Who calls too early is hung up on.
func (s *stream) Accept() (net.Conn, error) {
	for {
		c, err := s.TCPListener.Accept()
		if err != nil {
			return nil, err
		}
		if s.isOpen() {
			return s.keep(c)
		}
		c.Close()
	}
}

func (s *stream) isOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// open lets others call.
func (s *stream) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = true
}

func (s *stream) keep(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	kept := &conn{Conn: c, stream: s}
	s.conns[kept] = struct{}{}
	return kept, nil
}

// Close ends the listener and every connection.
func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.conns {
		c.Conn.Close()
	}
	clear(s.conns)
	return s.TCPListener.Close()
}

// Close is net.Conn's.
func (c *conn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.conns, c)
	c.stream.mu.Unlock()
	return c.Conn.Close()
}
