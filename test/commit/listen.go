package commit

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket/afpacket"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// Of the ring that a socket shares with the kernel: how long a frame may wait in it, and
	// 24 MiB in blocks that hold the largest packet each. A block is done with its time, not
	// when it is full, so the blocks are how long this may stand still on a busy machine: 4 s.
	// Time stamps are the kernel's and do not depend on it.
	blockSize    = 1 << 17
	blocks       = 192
	blockTimeout = 20 * time.Millisecond
	pollTimeout  = 100 * time.Millisecond
)

// listener hears what arrives on devices of one network namespace.
type listener struct {
	host  string
	at    func(index int) string // the device's name by its number; empty: not to be heard
	ring  *afpacket.TPacket
	links *netlink.Handle
	since time.Time
	sink  func(Frame)
	heard atomic.Int64  // in Unix nanoseconds: sink has got all frames up to then
	stop  chan struct{} // closed to end run
	done  chan struct{} // closed by run at its end
}

// hear opens a socket in the namespace of a process: on one device, or with an empty
// name on all but those in deaf. Only frames that a device receives count; those with a
// mark do not: no guest's frame has one until a buffer has had it.
func hear(pid int, device string, deaf func(netlink.Link) bool) (*listener, error) {
	l := &listener{stop: make(chan struct{}), done: make(chan struct{})}
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if l.links, err = netlink.NewHandleAt(ns); err != nil {
		return nil, err
	}
	filter, err := l.filter(deaf)
	if err == nil {
		err = inside(ns, func() (err error) {
			l.ring, err = afpacket.NewTPacket(afpacket.OptInterface(device), afpacket.OptAddVLANHeader(true), afpacket.OptBlockSize(blockSize),
				afpacket.OptNumBlocks(blocks), afpacket.OptBlockTimeout(blockTimeout), afpacket.OptPollTimeout(pollTimeout))
			return err
		})
	}
	if err == nil {
		err = l.ring.SetBPF(filter)
	}
	l.since = time.Now() // before, the filter was not there
	if err != nil {
		l.close()
		return nil, fmt.Errorf("commit: listen: %w", err)
	}
	return l, nil
}

// filter accepts what was received, is not marked, and did not come by a deaf device.
func (l *listener) filter(deaf func(netlink.Link) bool) ([]bpf.RawInstruction, error) {
	const packetOutgoing = unix.PACKET_OUTGOING
	prog := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: packetOutgoing, SkipTrue: 1}, bpf.RetConstant{},
		bpf.LoadExtension{Num: bpf.ExtMark}, bpf.JumpIf{Cond: bpf.JumpEqual, SkipTrue: 1}, bpf.RetConstant{},
	}
	if deaf != nil {
		all, err := l.links.LinkList()
		if err != nil {
			return nil, err
		}
		for _, d := range all {
			if deaf(d) {
				prog = append(prog, bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
					bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(d.Attrs().Index), SkipTrue: 1}, bpf.RetConstant{})
			}
		}
	}
	return bpf.Assemble(append(prog, bpf.RetConstant{Val: 1 << 20}))
}

// inside runs f on a thread of its own in a namespace; the thread ends with it.
func inside(ns netns.NsHandle, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is of no use to others
		err := netns.Set(ns)
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

// isTap tells a guest's tap from other devices, those of an output buffer among them: it
// is a port of a bridge.
func isTap(d netlink.Link) bool { return d.Type() == "tuntap" && d.Attrs().MasterIndex != 0 }

// hearTaps listens to what guests emit.
func hearTaps(host string, pid int) (*listener, error) {
	l, err := hear(pid, "", func(d netlink.Link) bool { return !isTap(d) })
	if err != nil {
		return nil, err
	}
	l.host, l.at = host, l.taps()
	return l, nil
}

// taps names the guest's devices; the kernel's number for one is never another's.
func (l *listener) taps() func(int) string {
	names := map[int]string{}
	return func(index int) string {
		if name, ok := names[index]; ok {
			return name
		}
		name := ""
		if d, err := l.links.LinkByIndex(index); err == nil && isTap(d) {
			name = d.Attrs().Name
		}
		names[index] = name
		return name
	}
}

// run reads until it is stopped and has read all that came before.
func (l *listener) run() {
	defer close(l.done)
	var end time.Time
	for {
		if end.IsZero() && stopped(l.stop) {
			end = time.Now()
		}
		asked := time.Now()
		data, ci, err := l.ring.ZeroCopyReadPacketData()
		if err == nil {
			l.take(data, ci.Timestamp, ci.InterfaceIndex)
			l.heard.Store(ci.Timestamp.UnixNano() - 1)
		} else { // nothing was there, except in the block that is being filled
			l.heard.Store(asked.Add(-2 * blockTimeout).UnixNano())
		}
		switch {
		case !end.IsZero() && l.heard.Load() > end.UnixNano():
			return
		case errors.Is(err, afpacket.ErrPoll): // the device is down or gone; it may come back
			time.Sleep(blockTimeout)
		}
	}
}

func stopped(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (l *listener) take(data []byte, at time.Time, index int) {
	if at.Before(l.since) {
		return
	}
	f := Frame{Time: at, Host: l.host}
	if l.at != nil {
		if f.Device = l.at(index); f.Device == "" {
			return
		}
	}
	f.Data = append(f.Data, data...)
	l.sink(f)
}

func (l *listener) start(sink func(Frame)) {
	l.sink = sink
	go l.run()
}

func (l *listener) upTo() int64 { return l.heard.Load() }

func (l *listener) lost() uint {
	_, stats, err := l.ring.SocketStats()
	if err != nil {
		return 0
	}
	return stats.Drops()
}

func (l *listener) end() uint {
	close(l.stop)
	<-l.done
	lost := l.lost()
	l.close()
	return lost
}

func (l *listener) close() {
	if l.ring != nil {
		l.ring.Close()
	}
	l.links.Close()
}
