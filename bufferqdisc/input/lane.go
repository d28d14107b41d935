package input

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// batch bounds how long a reader keeps a Forget waiting.
	batch = 64
	// drainLimit bounds how many packets one look takes that find no end.
	drainLimit = 1 << 20
)

// lane is one NIC at the backup.
type lane struct {
	sockets   []*socket
	readers   sync.WaitGroup
	hold      *hold      // nil before Attend
	collector *collector // of live traffic that waits; nil before Attend
	ears      []*ear

	mu      sync.Mutex // guards the rest; held for at most batch packets
	buf     []byte
	kept    *packetLog
	heard   *packetLog // by the ears, numbered as they came
	mark    uint64     // what had been heard at the last Forget
	waited  *packetLog // at the tap, likewise
	strange uint64     // datagrams that are not the tunnel's
}

// run reads a file until it is closed, a batch at a time, with read.
func run(raw syscall.RawConn, read func(fd, max int) (more bool)) {
	raw.Read(func(fd uintptr) bool {
		for read(int(fd), batch) {
		}
		return false
	})
}

// drain reads what waits in a file now.
func drain(raw syscall.RawConn, read func(fd, max int) bool) error {
	return raw.Control(func(fd uintptr) { read(int(fd), drainLimit) })
}

// readKept reads up to max datagrams of the tunnel and says whether there may be more.
func (l *lane) readKept(fd, max int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return each(fd, max, l.buf, l.put)
}

func (l *lane) put(datagram []byte) {
	low, frame, err := parse(datagram)
	number, ok := unwrap(l.kept.newest, low)
	if err != nil || !ok {
		l.strange++
		return
	}
	l.kept.put(number, noOffload[:], frame)
}

// readHeard reads up to max packets that came in for the guest while it was nowhere.
func (l *lane) readHeard(fd, max int) bool { return l.readNext(fd, max, l.heard) }

// readWaiting reads up to max packets that wait for the guest.
func (l *lane) readWaiting(fd, max int) bool { return l.readNext(fd, max, l.waited) }

func (l *lane) readNext(fd, max int, log *packetLog) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return each(fd, max, l.buf, func(packet []byte) { log.put(log.newest+1, packet) })
}

// noOffload is the vnet header of a frame that is whole.
var noOffload [vnetSize]byte

func each(fd, max int, buf []byte, take func([]byte)) (more bool) {
	for range max {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EINTR:
		case err != nil: // EAGAIN; or the device is gone, and the next wait says so
			return false
		default:
			take(buf[:n])
		}
	}
	return true
}

// forget drops the copies that the guest has, and what was heard before the last time:
// the primary was alive after it, and has had the same.
func (l *lane) forget(taken uint64) {
	for _, s := range l.sockets {
		drain(s.raw, l.readKept) // what has arrived is not missing
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept.forget(taken)
	l.heard.forget(l.mark)
	l.mark = l.heard.newest
}

// take returns what there is to deliver: first the copies, then what came in since.
func (l *lane) take() (copies, live []packet, err error) {
	var errs []error
	for _, s := range l.sockets {
		errs = append(errs, drain(s.raw, l.readKept))
	}
	for _, e := range l.ears {
		errs = append(errs, drain(e.raw, l.readHeard))
	}
	if l.collector != nil {
		errs = append(errs, drain(l.collector.raw, l.readWaiting))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.take(), append(l.heard.take(), l.waited.take()...), errors.Join(errs...)
}

func (l *lane) open(c Config) error {
	for range portsPerNIC {
		s, err := openSocket(c.Listen, c.From)
		if err != nil {
			return err
		}
		l.sockets = append(l.sockets, s)
		l.readers.Go(func() { run(s.raw, l.readKept) })
	}
	return nil
}

// close ends the readers and the hold. It may be called again.
func (l *lane) close() error {
	var errs []error
	if l.hold != nil {
		errs = append(errs, l.hold.open())
	}
	for _, s := range l.sockets {
		s.file.Close()
	}
	for _, e := range l.ears {
		e.file.Close()
	}
	if l.collector != nil {
		l.collector.close()
	}
	l.readers.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("input handler: %w", err)
	}
	return nil
}
