package input

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	portsPerNIC = 3        // of which the primary has one free, we hope
	socketRoom  = 16 << 20 // bytes that wait in the kernel until they are read
)

// socket takes the tunnel's datagrams at one port. Its file may be read by any goroutine.
type socket struct {
	file *os.File
	raw  syscall.RawConn
	port uint16
}

// openSocket takes a free port that only a primary's tunnel can send to: its source port
// is the same.
func openSocket(listen, from netip.Addr) (*socket, error) {
	family := unix.AF_INET
	if listen.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	port, err := bind(fd, listen, from)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("UDP socket on %s for %s: %w", listen, from, err)
	}
	s := &socket{file: os.NewFile(uintptr(fd), "input"), port: port}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	return s, nil
}

func bind(fd int, listen, from netip.Addr) (uint16, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketRoom); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, sockaddr(listen, 0)); err != nil {
		return 0, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	var port int
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		port = a.Port
	case *unix.SockaddrInet6:
		port = a.Port
	}
	return uint16(port), unix.Connect(fd, sockaddr(from, port))
}

func sockaddr(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
}
