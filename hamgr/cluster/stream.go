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

// Accept is net.Listener's.
func (s *stream) Accept() (net.Conn, error) {
	c, err := s.TCPListener.Accept()
	if err != nil {
		return nil, err
	}
	return s.keep(c)
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
