package detector

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// link is the connected socket to one peer; nil conn: not dialled yet.
type link struct {
	addr string
	conn net.Conn
}

// send says whether the peer's kernel has refused an earlier heartbeat. Linux reports
// that once, in place of sending, so send tries again. Any other failure looks like what
// it is: silence.
func (l *link) send(b []byte, local net.IP) (refused bool) {
	if l.conn == nil {
		dialer := net.Dialer{Timeout: time.Second}
		if local != nil {
			dialer.LocalAddr = &net.UDPAddr{IP: local}
		}
		conn, err := dialer.Dial("udp", l.addr)
		if err != nil {
			return false
		}
		l.conn = conn
	}
	_, err := l.conn.Write(b)
	if errors.Is(err, syscall.ECONNREFUSED) {
		_, _ = l.conn.Write(b)
		return true
	}
	return false
}

// relink makes links those to addrs, host:port by name, and keeps what is right.
func relink(links map[string]*link, addrs map[string]string) {
	for name, l := range links {
		if addrs[name] != l.addr {
			l.close()
			delete(links, name)
		}
	}
	for name, addr := range addrs {
		if links[name] == nil {
			links[name] = &link{addr: addr}
		}
	}
}

func (l *link) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}
