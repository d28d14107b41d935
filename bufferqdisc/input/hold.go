package input

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cilium/ebpf"
	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"golang.org/x/sys/unix"
)

// retryEvery is the wait for a tap that is down, or whose queue is full.
const retryEvery = time.Millisecond

// hold keeps live traffic from a standby's tap, and is the way past itself.
type hold struct {
	tap  *hook.Tap
	prog *ebpf.Program
	send int  // packet socket on the tap
	held bool // the filter holds

	arrive func() error // tells the bridge that the guest is here; with ears only
	shut   bool
}

// attend puts a hold on a tap and listens at its bridge.
func (l *lane) attend(h kernel, t Tap) (err error) {
	d := &hold{send: -1}
	l.hold = d
	if d.tap, err = hook.Left(h, t.Name); err == nil && d.tap == nil {
		err = fmt.Errorf("there is no tap %q", t.Name)
	}
	if err != nil {
		return err
	}
	if d.send, err = sendSocket(d.tap.Index); err != nil {
		return fmt.Errorf("packet socket on %s: %w", t.Name, err)
	}
	if l.collector, err = openCollector(h, hook.DeviceName(holdPrefix, t.Name)); err != nil {
		return err
	}
	if d.prog, err = load(holdProgram(l.collector.link.Attrs().Index)); err != nil {
		return err
	}
	if err := d.tap.AttachInput(d.prog); err != nil {
		return err
	}
	d.held = true
	if err = l.listen(h, t); err != nil {
		err = fmt.Errorf("listen at the bridge of %s: %w", t.Name, err)
	}
	l.readers.Go(func() { run(l.collector.raw, l.readWaiting) })
	return err
}

func (l *lane) listen(h kernel, t Tap) error {
	if t.MAC == "" {
		return nil
	}
	mac, err := net.ParseMAC(t.MAC)
	if err != nil {
		return err
	}
	if len(mac) != 6 {
		return fmt.Errorf("%s is no Ethernet address", mac)
	}
	tap, err := h.LinkByIndex(l.hold.tap.Index)
	if err != nil {
		return err
	}
	l.ears, err = listen(h, tap, mac)
	for _, e := range l.ears {
		l.readers.Go(func() { run(e.raw, l.readHeard) })
	}
	if len(l.ears) > 0 {
		l.hold.arrive = func() error { return teach(h, tap, mac) }
	}
	return err
}

// sendSocket sends what is written to it out of a device, past its filters and its qdisc:
// packets with vnet headers.
func sendSocket(ifindex int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex}) // protocol 0: it receives nothing
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// open lets live traffic pass, and nothing else any more. It may be called again.
func (d *hold) open() error {
	if d.shut {
		return nil
	}
	err := d.release()
	d.shut = true
	if d.send >= 0 {
		unix.Close(d.send)
	}
	return errors.Join(err, d.prog.Close())
}

// release lets live traffic flow.
func (d *hold) release() error {
	if !d.held {
		return nil
	}
	d.held = false
	up, err := d.tap.IsUp()
	switch {
	case hook.IsGone(err): // and what was on it, too
		return nil
	case err != nil || !up:
		return errors.Join(err, d.tap.DetachInput())
	}
	return stepAside(d.tap)
}

// put gives the guest one packet, with a vnet header. False: the tap is down or its queue full; later, perhaps.
func (d *hold) put(packet []byte) (bool, error) {
	for {
		_, err := unix.Write(d.send, packet)
		switch err {
		case nil:
			return true, nil
		case unix.EINTR:
		case unix.ENETDOWN, unix.ENOBUFS, unix.EAGAIN:
			return false, nil
		default:
			return false, fmt.Errorf("send to %s: %w", d.tap.Name, err)
		}
	}
}
