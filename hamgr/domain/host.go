package domain

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"libvirt.org/go/libvirt"
)

var (
	// ErrNoDomain: libvirt on this host has no domain of that name.
	ErrNoDomain = errors.New("no such domain")
	// ErrClosed: the Host was closed.
	ErrClosed = errors.New("the connection to libvirt was closed")
)

const (
	keepAliveSeconds = 5
	keepAliveCount   = 3
	// callLimit bounds one call. libvirt's own limit for a domain that is busy is 30 s.
	callLimit = 35 * time.Second
	// retryDelay is the pause between attempts to reach a libvirtd that is down.
	retryDelay = 100 * time.Millisecond
)

// Host is the connection to one libvirtd. It is safe for concurrent use.
type Host struct {
	uri  string
	subs subscribers

	mu     sync.Mutex // guards conn, events and closed
	conn   *libvirt.Connect
	events []int // libvirt's numbers of what is registered with conn
	closed bool

	cut  chan struct{} // one slot: the connection was lost
	stop context.CancelFunc
	kept chan struct{} // closed when keep has ended
}

var eventLoop struct {
	once sync.Once
	err  error
}

// startEventLoop must come before the first connection; libvirt keeps one loop per
// process, and has no way to end it. The timer wakes the loop, which otherwise sleeps
// on while another thread adds something to watch.
func startEventLoop() {
	if eventLoop.err = libvirt.EventRegisterDefaultImpl(); eventLoop.err != nil {
		return
	}
	if _, eventLoop.err = libvirt.EventAddTimeout(1000, func(int) {}); eventLoop.err != nil {
		return
	}
	go func() {
		for {
			if libvirt.EventRunDefaultImpl() != nil {
				time.Sleep(retryDelay) // an error that stays must not take a core
			}
		}
	}()
}

// Open connects to libvirt, waiting until it answers or ctx ends. The connection is made
// anew when it is lost, as when libvirtd is restarted, until Close.
func Open(ctx context.Context, uri string) (*Host, error) {
	if eventLoop.once.Do(startEventLoop); eventLoop.err != nil {
		return nil, fmt.Errorf("libvirt's event loop: %w", eventLoop.err)
	}
	h := &Host{uri: uri, cut: make(chan struct{}, 1), kept: make(chan struct{})}
	for {
		err := h.reach(ctx)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			go h.close() // waits for an attempt that hangs, and ends with it
			return nil, fmt.Errorf("libvirt %s does not answer: %w; is libvirtd running?", uri, err)
		case <-time.After(retryDelay):
		}
	}
	var keep context.Context
	keep, h.stop = context.WithCancel(context.Background())
	go h.keep(keep)
	return h, nil
}

// reach waits, bounded, until there is a connection.
func (h *Host) reach(ctx context.Context) error {
	_, err := bounded(ctx, "connect", func() (struct{}, error) {
		return struct{}{}, h.withConnection(func(*libvirt.Connect) error { return nil })
	})
	return err
}

// Close ends the connection and its events. Standbys have connections of their own.
func (h *Host) Close() error {
	h.stop()
	<-h.kept
	_, err := bounded(context.Background(), "close", func() (struct{}, error) { return struct{}{}, h.close() })
	return err
}

func (h *Host) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return h.dropLocked()
}

// dropLocked gives the connection up. Each callback holds a reference to it.
func (h *Host) dropLocked() error {
	c := h.conn
	if h.conn = nil; c == nil {
		return nil
	}
	h.deregisterLocked(c)
	c.UnregisterCloseCallback()
	_, err := c.Close()
	return err
}

// keep reconnects when the connection was lost, so that events go on arriving.
func (h *Host) keep(ctx context.Context) {
	defer close(h.kept)
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.cut:
		}
		for h.reach(ctx) != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryDelay):
			}
		}
		h.subs.tell(Event{Kind: Reconnected, Detail: "events may have been missed"})
	}
}

// withConnection runs f with a live connection, made anew where needed, that stays valid
// until f returns.
func (h *Host) withConnection(f func(*libvirt.Connect) error) error {
	c, err := h.take()
	if err != nil {
		return fmt.Errorf("libvirt %s: %w", h.uri, err)
	}
	defer c.Close()
	return f(c)
}

// take is the connection with a reference of the caller's own.
func (h *Host) take() (*libvirt.Connect, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	if h.conn != nil {
		if ok, err := h.conn.IsAlive(); err != nil || !ok {
			h.dropLocked()
		}
	}
	if h.conn == nil {
		if err := h.connectLocked(); err != nil {
			return nil, err
		}
	}
	return h.conn, h.conn.Ref()
}

func (h *Host) connectLocked() error {
	c, err := connect(h.uri)
	if err != nil {
		return err
	}
	if err := h.registerLocked(c); err != nil {
		h.deregisterLocked(c)
		c.Close()
		return err
	}
	h.conn = c
	// A driver inside this process, such as test:///, cannot be cut off and says so here.
	_ = c.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) {
		select {
		case h.cut <- struct{}{}:
		default:
		}
	})
	return nil
}

func (h *Host) registerLocked(c *libvirt.Connect) error {
	id, err := c.DomainEventLifecycleRegister(nil, h.lifecycle)
	if err != nil {
		return err
	}
	h.events = append(h.events, id)
	id, err = c.DomainEventWatchdogRegister(nil, h.watchdog)
	if err == nil {
		h.events = append(h.events, id)
	}
	return err
}

func (h *Host) deregisterLocked(c *libvirt.Connect) {
	for _, id := range h.events {
		c.DomainEventDeregister(id)
	}
	h.events = nil
}

// connect opens a connection whose loss is noticed even while nothing is asked.
func connect(uri string) (*libvirt.Connect, error) {
	c, err := libvirt.NewConnect(uri)
	if err == nil {
		_ = c.SetKeepAlive(keepAliveSeconds, keepAliveCount) // not with a driver inside this process
	}
	return c, err
}

// bounded runs a call into libvirt, which cannot be interrupted, and waits for it no
// longer than ctx and callLimit allow. A call given up ends when libvirt returns: a
// libvirtd that hangs is cut off by keepalive after 20 s.
func bounded[T any](ctx context.Context, what string, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("libvirt did not answer in time (%s): %w", what, context.Cause(ctx))
	}
}

// with looks a domain up, and frees it after f. Errors: ErrNoDomain.
func (h *Host) with(name string, f func(*libvirt.Connect, *libvirt.Domain) error) error {
	return h.withConnection(func(c *libvirt.Connect) error {
		d, err := c.LookupDomainByName(name)
		if hasCode(err, libvirt.ERR_NO_DOMAIN) {
			return fmt.Errorf("%w: %q", ErrNoDomain, name)
		}
		if err != nil {
			return fmt.Errorf("libvirt: %w", err)
		}
		defer d.Free()
		if err := f(c, d); err != nil {
			return fmt.Errorf("libvirt, domain %s: %w", name, err)
		}
		return nil
	})
}

// on is with, bounded, for calls without a result.
func (h *Host) on(ctx context.Context, name, what string, f func(*libvirt.Domain) error) error {
	_, err := bounded(ctx, what+" "+name, func() (struct{}, error) {
		return struct{}{}, h.with(name, func(_ *libvirt.Connect, d *libvirt.Domain) error { return f(d) })
	})
	return err
}

func hasCode(err error, code libvirt.ErrorNumber) bool {
	var le libvirt.Error
	return errors.As(err, &le) && le.Code == code
}
