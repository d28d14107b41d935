package domain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"libvirt.org/go/libvirt"
)

// ErrNoDomain: libvirt on this host has no domain of that name.
var ErrNoDomain = errors.New("no such domain")

// Host is the connection to one libvirtd.
type Host struct {
	uri  string
	mu   sync.Mutex // guards conn
	conn *libvirt.Connect
	subs []chan<- Event
}

var eventLoop sync.Once

// startEventLoop must come before the first connection; libvirt keeps one loop per process.
func startEventLoop() {
	libvirt.EventRegisterDefaultImpl()
	go func() {
		for {
			libvirt.EventRunDefaultImpl()
		}
	}()
}

// Open connects to libvirt, waiting until it answers or ctx ends.
func Open(ctx context.Context, uri string) (*Host, error) {
	eventLoop.Do(startEventLoop)
	h := &Host{uri: uri}
	for {
		_, err := h.connection()
		if err == nil {
			return h, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("libvirt %s does not answer: %w; is libvirtd running?", uri, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// connection is the live connection, made anew when libvirtd was restarted.
func (h *Host) connection() (*libvirt.Connect, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil {
		if ok, err := h.conn.IsAlive(); err == nil && ok {
			return h.conn, nil
		}
		h.conn.Close()
		h.conn = nil
	}
	c, err := libvirt.NewConnect(h.uri)
	if err != nil {
		return nil, err
	}
	c.SetKeepAlive(5, 3)
	if _, err := c.DomainEventLifecycleRegister(nil, h.lifecycle); err != nil {
		c.Close()
		return nil, err
	}
	h.conn = c
	return c, nil
}

// with looks a domain up and frees it after f.
func (h *Host) with(name string, f func(*libvirt.Domain) error) error {
	c, err := h.connection()
	if err != nil {
		return fmt.Errorf("libvirt: %w", err)
	}
	d, err := c.LookupDomainByName(name)
	var le libvirt.Error
	if errors.As(err, &le) && le.Code == libvirt.ERR_NO_DOMAIN {
		return fmt.Errorf("%w: %q", ErrNoDomain, name)
	}
	if err != nil {
		return fmt.Errorf("libvirt: %w", err)
	}
	defer d.Free()
	if err := f(d); err != nil {
		return fmt.Errorf("libvirt, domain %s: %w", name, err)
	}
	return nil
}

// Command is QEMU's monitor behind a domain, as the qmp package wants it.
func (h *Host) Command(name string) func(line string, files []*os.File) (string, error) {
	return func(line string, files []*os.File) (out string, err error) {
		err = h.with(name, func(d *libvirt.Domain) error {
			var e error
			if len(files) == 0 {
				out, e = d.QemuMonitorCommand(line, libvirt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
				return e
			}
			in := make([]os.File, 0, len(files))
			for _, f := range files {
				in = append(in, *f)
			}
			out, _, e = d.QemuMonitorCommandWithFiles(line, in, libvirt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
			return e
		})
		return out, err
	}
}

// Destroy ends a domain at once, like pulling its plug.
func (h *Host) Destroy(_ context.Context, name string) error {
	return h.with(name, func(d *libvirt.Domain) error { return d.Destroy() })
}

// Define makes a domain's definition outlive it.
func (h *Host) Define(_ context.Context, xml string) error {
	c, err := h.connection()
	if err != nil {
		return err
	}
	d, err := c.DomainDefineXML(xml)
	if err != nil {
		return err
	}
	return d.Free()
}

// Event is a domain that stopped.
type Event struct {
	Domain string
	End    End
}

// End is how a guest's run ended.
type End int

// The ways a run ends. EndNone: it has not.
const (
	EndNone End = iota
	EndByRequest
	EndCrash
)

func (h *Host) lifecycle(_ *libvirt.Connect, d *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
	if e.Event != libvirt.DOMAIN_EVENT_STOPPED && e.Event != libvirt.DOMAIN_EVENT_CRASHED {
		return
	}
	name, err := d.GetName()
	if err != nil {
		return
	}
	end := EndByRequest
	if e.Event == libvirt.DOMAIN_EVENT_CRASHED || e.Detail == int(libvirt.DOMAIN_EVENT_STOPPED_FAILED) || e.Detail == int(libvirt.DOMAIN_EVENT_STOPPED_CRASHED) {
		end = EndCrash
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		select { // libvirt's loop must not wait; the agent looks again each second
		case s <- Event{name, end}:
		default:
		}
	}
}

// Events are the domains that stop from now on, until ctx ends.
func (h *Host) Events(ctx context.Context) <-chan Event {
	ch := make(chan Event, 64)
	h.mu.Lock()
	h.subs = append(h.subs, ch)
	h.mu.Unlock()
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for i, s := range h.subs {
			if s == ch {
				h.subs = append(h.subs[:i], h.subs[i+1:]...)
				break
			}
		}
	})
	return ch
}
