package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// Socket is a monitor on QEMU's own unix socket. go-qemu's SocketMonitor cannot pass
// files, cuts lines at 64 KiB and blocks on undrained events, hence this one.
type Socket struct {
	mu   sync.Mutex // one command at a time
	conn *net.UnixConn
	in   *bufio.Reader
}

var _ goqemu.Monitor = (*Socket)(nil)

// DialSocket connects to a monitor and negotiates its capabilities; the deadline of
// ctx bounds both.
func DialSocket(ctx context.Context, path string) (*Socket, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("qmp: %w", err)
	}
	s := &Socket{conn: c.(*net.UnixConn), in: bufio.NewReader(c)}
	if dl, ok := ctx.Deadline(); ok {
		c.SetDeadline(dl)
	}
	if _, err = s.in.ReadBytes('\n'); err == nil {
		_, err = s.Run([]byte(`{"execute":"qmp_capabilities"}`))
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("qmp: greeting of %s: %w", path, err)
	}
	c.SetDeadline(noDeadline)
	return s, nil
}

// Connect does nothing: DialSocket has connected.
func (s *Socket) Connect() error { return nil }

// Disconnect closes the connection and ends any call under way.
func (s *Socket) Disconnect() error { return s.conn.Close() }

// Run sends one command and returns its reply; events in between are dropped.
func (s *Socket) Run(command []byte) ([]byte, error) { return s.roundTrip(command, nil) }

// RunWithFile sends one command with an open file.
func (s *Socket) RunWithFile(command []byte, f *os.File) ([]byte, error) {
	return s.roundTrip(command, syscall.UnixRights(int(f.Fd())))
}

func (s *Socket) roundTrip(command, rights []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, _, err := s.conn.WriteMsgUnix(append(command, '\n'), rights, nil); err != nil {
		return nil, err
	}
	for {
		line, err := s.in.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		var kind struct {
			Event *string `json:"event"`
		}
		if json.Unmarshal(line, &kind) == nil && kind.Event == nil {
			return line, nil
		}
	}
}

// Events is not offered: nothing that uses a Socket waits for one.
func (s *Socket) Events(context.Context) (<-chan goqemu.Event, error) {
	return nil, fmt.Errorf("qmp: a Socket has no events")
}

var noDeadline time.Time
