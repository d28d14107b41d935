package server

import (
	"context"
	"fmt"
)

// refuse closes the TCP port, as a service does that has died, or opens it again; the
// connections there are stay.
func (s *Server) refuse(on bool) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || on == (s.tcp == nil):
		return nil
	case on:
		l := s.tcp
		s.tcp = nil
		return l.Close()
	}
	lc := sockets()
	l, err := lc.Listen(context.Background(), "tcp", s.addr)
	if err != nil {
		return fmt.Errorf("ledger: TCP: %w", err)
	}
	s.tcp = l
	s.wg.Go(func() { s.serveTCP(l) })
	return nil
}
