package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// ErrClosed is the error of a command on a monitor whose connection has ended, with the
// reason if it was not Disconnect.
var ErrClosed = errors.New("qmp: the monitor's connection is closed")

const (
	// maxLine bounds one line from QEMU; its longest, the schema, is a few hundred KiB.
	maxLine = 16 << 20
	// runTimeout bounds a Run, which has no context.
	runTimeout = 30 * time.Second
)

// Socket is a monitor on QEMU's own unix socket. go-qemu's SocketMonitor cannot give a
// command up, cuts lines at 64 KiB and stands still on undrained events, hence this one:
// replies are matched by id, so one that comes late is not taken for the next one's.
//
// One goroutine reads until the connection ends; Disconnect stops it and waits for it.
type Socket struct {
	conn *net.UnixConn
	done chan struct{} // closed when the reader has ended and err is set

	writing sync.Mutex // held for the length of one line

	mu      sync.Mutex // guards all below
	lastID  uint64
	waiting map[uint64]chan []byte // by id; each holds one reply
	events  map[*subscription]struct{}
	err     error // why the reader ended
}

var (
	_ goqemu.Monitor = (*Socket)(nil)
	_ FileRunner     = (*Socket)(nil)
	_ ContextRunner  = (*Socket)(nil)
)

// DialSocket connects to a monitor and negotiates its capabilities, both within ctx.
func DialSocket(ctx context.Context, path string) (*Socket, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("qmp: %w", err)
	}
	s, err := NewSocket(ctx, c.(*net.UnixConn))
	if err != nil {
		return nil, fmt.Errorf("%w (monitor %s)", err, path)
	}
	return s, nil
}

// NewSocket is DialSocket on a connection there is already; the Socket owns it from now
// on, also after an error.
func NewSocket(ctx context.Context, conn *net.UnixConn) (*Socket, error) {
	s := &Socket{conn: conn, done: make(chan struct{}), waiting: map[uint64]chan []byte{}, events: map[*subscription]struct{}{}}
	in := bufio.NewReader(conn)
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	err := greeting(in)
	if !stop() && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("qmp: no greeting from QEMU; is another client on this monitor? %w", err)
	}
	go s.read(in)
	if err := New(s).Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		s.Disconnect()
		return nil, err
	}
	return s, nil
}

func greeting(in *bufio.Reader) error {
	line, err := readLine(in)
	if err != nil {
		return err
	}
	var hello struct {
		QMP json.RawMessage `json:"QMP"`
	}
	if err := json.Unmarshal(line, &hello); err != nil || hello.QMP == nil {
		return fmt.Errorf("%.80q is no greeting of a QMP monitor", line)
	}
	return nil
}

// Connect does nothing: DialSocket has connected.
func (s *Socket) Connect() error { return nil }

// Disconnect closes the connection, ends every call under way and closes the channels of
// events. It may be called more than once.
func (s *Socket) Disconnect() error {
	err := s.conn.Close()
	<-s.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Run sends one command and returns its reply, within 30 s.
func (s *Socket) Run(command []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	return s.RunContext(ctx, command)
}

// RunWithFile is Run with an open file for QEMU.
func (s *Socket) RunWithFile(command []byte, f *os.File) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	return s.RunContext(ctx, command, f)
}

// RunContext sends one command, with open files for QEMU, and returns its reply. An "id"
// in the command is replaced. Errors: ctx's, ErrClosed.
func (s *Socket) RunContext(ctx context.Context, command []byte, files ...*os.File) ([]byte, error) {
	id, answer, err := s.expect()
	if err != nil {
		return nil, err
	}
	defer s.forget(id)
	if err := s.write(ctx, id, command, files); err != nil {
		return nil, err
	}
	select {
	case line := <-answer:
		return line, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.done:
		return s.last(answer)
	}
}

// last prefers a reply that came just before the connection ended, as quit's does.
func (s *Socket) last(answer <-chan []byte) ([]byte, error) {
	select {
	case line := <-answer:
		return line, nil
	default:
		return nil, s.reason()
	}
}

func (s *Socket) expect() (uint64, chan []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, nil, s.err
	}
	s.lastID++
	answer := make(chan []byte, 1)
	s.waiting[s.lastID] = answer
	return s.lastID, answer, nil
}

func (s *Socket) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
}

func (s *Socket) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// write sends one line. A line cut short would corrupt the next one, so the connection
// is closed then.
func (s *Socket) write(ctx context.Context, id uint64, command []byte, files []*os.File) error {
	line, err := withID(command, id)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = syscall.UnixRights(fds...)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	deadline, _ := ctx.Deadline()
	s.conn.SetWriteDeadline(deadline)
	n, _, err := s.conn.WriteMsgUnix(line, rights, nil)
	if err == nil && n < len(line) {
		_, err = s.conn.Write(line[n:])
	}
	if err == nil {
		return nil
	}
	s.conn.Close()
	if reason := s.reason(); reason != nil {
		return reason
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}

func withID(command []byte, id uint64) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(command, &fields); err != nil {
		return nil, fmt.Errorf("qmp: command %.80q: %w", command, err)
	}
	if fields == nil {
		return nil, fmt.Errorf("qmp: command %.80q is not an object", command)
	}
	fields["id"] = fmt.Appendf(nil, "%d", id)
	line, err := json.Marshal(fields)
	return append(line, '\n'), err
}
