package domain

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// ErrBusy: this host has a domain of the standby's name that is not a standby of hamgr's.
var ErrBusy = errors.New("a domain of that name is here already")

const (
	pollEvery    = 5 * time.Millisecond
	discardLimit = 10 * time.Second
	settleLimit  = 5 * time.Second
)

// StandbySpec says what to wait for.
type StandbySpec struct {
	XML       string // the primary's Info.XML
	MemoryDir string // libvirt's memory_backing_dir, on a tmpfs
	RunDir    string // for the FIFO
}

// Standby is a domain that waits, paused, for the migration stream that lets it run. Its
// RAM file is open to whoever writes the replica. One goroutine at a time may use it.
//
//	waiting --Activate--> running
//	   |  \                  (an ordinary domain: Discard does nothing)
//	   |   +--error--+
//	   +--Discard----+--> gone
type Standby struct {
	Name        string
	PID         int    // of QEMU
	RAMPath     string // the main RAM's file
	MemoryBlock string // the main RAM's block: MainRAM
	NICs        []NIC

	host   *Host
	token  string
	image  *image
	active bool
	timing Timing

	restored chan struct{} // closed when libvirt's restore has ended
	result   error         // of the restore, valid then
}

// Timing is how long the parts of Activate took.
type Timing struct {
	Check   time.Duration // that the RAM is untouched
	Taps    time.Duration // links up
	Stream  time.Duration // writing it
	Restore time.Duration // from the stream's end until libvirt says the guest runs
	Total   time.Duration // the outage's share
}

// PrepareStandby starts a standby through libvirt's restore from a FIFO and waits until
// its QEMU waits for the stream, with its RAM file there and untouched. The taps are down:
// it neither hears nor speaks. Errors: ErrBusy; ErrUnknownXML; libvirt's own. Nothing is
// left behind after an error.
func (h *Host) PrepareStandby(ctx context.Context, spec StandbySpec) (*Standby, error) {
	token := newToken()
	def, xml, err := standbyXML(spec.XML, token)
	if err != nil {
		return nil, err
	}
	if err := h.mayStart(ctx, def); err != nil {
		return nil, err
	}
	s := &Standby{Name: def.Name, MemoryBlock: MainRAM, NICs: nicsOf(def), host: h, token: token, restored: make(chan struct{})}
	if s.image, err = newImage(spec.RunDir, s.Name, xml); err != nil {
		return nil, fmt.Errorf("standby %s: %w", s.Name, err)
	}
	go s.restore()
	if err := s.ready(ctx, memoryOf(def), spec.MemoryDir); err != nil {
		return nil, errors.Join(fmt.Errorf("standby %s: %w", s.Name, err), s.Discard())
	}
	return s, nil
}

func newToken() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// mayStart refuses where a domain of that name is the user's and active, or another one.
func (h *Host) mayStart(ctx context.Context, def *libvirtxml.Domain) error {
	here, err := bounded(ctx, "look up "+def.Name, func() (i Info, err error) {
		err = h.with(def.Name, func(_ *libvirt.Connect, d *libvirt.Domain) error {
			i, err = inspect(d)
			return err
		})
		return i, err
	})
	switch {
	case errors.Is(err, ErrNoDomain):
		return nil
	case err != nil:
		return err
	case here.UUID != def.UUID:
		return fmt.Errorf("%w: %s, of UUID %s and not %s; rename one of them", ErrBusy, def.Name, here.UUID, def.UUID)
	case here.State != "shut off" && here.State != "crashed":
		return fmt.Errorf("%w: %s is %s; stop it", ErrBusy, def.Name, here.State)
	}
	return nil
}

// restore is one call that lasts as long as the standby waits, on a connection of its own:
// libvirtd answers only a few requests of one connection at a time.
func (s *Standby) restore() {
	defer close(s.restored)
	c, err := connect(s.host.uri)
	if err != nil {
		s.result = err
		return
	}
	defer c.Close()
	s.result = c.DomainRestoreFlags(s.image.path, "", libvirt.DOMAIN_SAVE_RUNNING)
}

// ready waits for QEMU. Its taps are taken down as soon as they are there.
func (s *Standby) ready(ctx context.Context, size uint64, memoryDir string) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if s.started(size) {
			break
		}
		select {
		case <-s.restored:
			return fmt.Errorf("libvirt gave up: %w", orElse(s.result, "the restore ended without a stream"))
		case <-ctx.Done():
			return fmt.Errorf("QEMU did not come to wait for its state in time: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
	if err := checkRAMFile(s.RAMPath, memoryDir); err != nil {
		return err
	}
	for i := range s.NICs {
		s.NICs[i].Bridge = bridgeOf(s.NICs[i].Tap)
	}
	if err := s.image.handOver(); err != nil {
		return err
	}
	return s.Untouched()
}

func orElse(err error, text string) error {
	if err == nil {
		err = errors.New(text)
	}
	return err
}

// started says that QEMU has its memory, its taps are down and it holds the FIFO.
func (s *Standby) started(size uint64) (ok bool) {
	quiet := setTaps(s.NICs, netlink.LinkSetDown) == nil
	if s.PID = qemuPID(s.Name); s.PID == 0 || !quiet {
		return false
	}
	s.RAMPath, ok = ramFile(s.PID, size)
	return ok && holds(s.PID, s.image.path)
}

// holds says that a process has a file open.
func holds(pid int, path string) bool {
	want, err := os.Stat(path)
	if err != nil {
		return false
	}
	fds, _ := filepath.Glob(procPath(pid, "fd/*"))
	for _, fd := range fds {
		if st, err := os.Stat(fd); err == nil && os.SameFile(st, want) {
			return true
		}
	}
	return false
}

// Ended is closed when libvirt's restore has ended: Activate has made it run, or the
// standby died. A replica whose standby is dead cannot be restored.
func (s *Standby) Ended() <-chan struct{} { return s.restored }

// Untouched says that QEMU sees the RAM file and no copies of its own. Errors: ErrTouched.
func (s *Standby) Untouched() error {
	if err := untouched(s.PID, s.RAMPath); err != nil {
		return fmt.Errorf("standby %s: %w", s.Name, err)
	}
	return nil
}

// Activate lets the standby run: write gives it the migration stream. On return the
// guest runs, and Settle is due; after an error it does not, its taps are down, and
// Discard is due.
func (s *Standby) Activate(ctx context.Context, write func(io.Writer) error) error {
	start := time.Now()
	if err := s.activate(ctx, write); err != nil {
		down := setTaps(s.NICs, netlink.LinkSetDown)
		if errors.As(down, &netlink.LinkNotFoundError{}) {
			down = nil // gone with QEMU
		}
		return errors.Join(fmt.Errorf("restore %s: %w", s.Name, err), down)
	}
	s.active = true
	s.timing.Total = time.Since(start)
	return nil
}

func (s *Standby) activate(ctx context.Context, write func(io.Writer) error) error {
	lap := stopwatch()
	if err := s.Untouched(); err != nil {
		return err
	}
	s.timing.Check = lap()
	if err := setTaps(s.NICs, netlink.LinkSetUp); err != nil {
		return err
	}
	s.timing.Taps = lap()
	if err := s.image.writeAll(ctx, write); err != nil {
		return s.why(ctx, err)
	}
	s.timing.Stream = lap()
	select {
	case <-s.restored:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.timing.Restore = lap()
	return s.result
}

func stopwatch() func() time.Duration {
	last := time.Now()
	return func() time.Duration {
		now := time.Now()
		defer func() { last = now }()
		return now.Sub(last)
	}
}

// why adds libvirt's account to a stream that broke.
func (s *Standby) why(ctx context.Context, err error) error {
	select {
	case <-s.restored:
		return errors.Join(err, s.result)
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	return err
}

// Settle makes the guest that runs an ordinary domain: its mark says so, and its
// definition outlives it, unless the user has defined it here before. That is no part of
// an outage; CleanStale does it for an agent that died before.
func (s *Standby) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	return s.host.settle(ctx, s.Name, s.token)
}

// Timing is that of Activate.
func (s *Standby) Timing() Timing { return s.timing }

// Discard ends the standby and leaves nothing of it: no QEMU, FIFO, tap or RAM file. A
// definition that the user has of the domain stays, and so does a domain that is not
// this standby. It may be called again.
func (s *Standby) Discard() error {
	if s.active {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), discardLimit)
	defer cancel()
	err := errors.Join(s.image.close(), s.host.destroyStandby(ctx, s.Name, s.token))
	select {
	case <-s.restored:
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("libvirt did not give up the standby %s; see virsh list, and libvirt's log", s.Name))
	}
	if s.result == nil { // it was let run after all
		err = errors.Join(err, s.host.destroyStandby(ctx, s.Name, s.token))
	}
	return errors.Join(err, s.removeRAM())
}

// removeRAM removes what libvirt removes itself, unless it was stopped in between.
func (s *Standby) removeRAM() error {
	if s.RAMPath == "" || alive(s.PID) {
		return nil
	}
	if err := os.Remove(s.RAMPath); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Remove(filepath.Dir(s.RAMPath)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
