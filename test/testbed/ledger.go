package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/guest/ledger/server"
)

const (
	ledgerPort = 7080 // its HTTP
	askTimeout = 2 * time.Minute

	startTimeout = 20 * time.Second // for a guest that has just booted
)

// Ledger asks g1's ledger over HTTP, from the client host: path is one of its routes with
// their arguments, as in "/dirty?pages_per_s=1000&mb=16".
func (b *Bed) Ledger(ctx context.Context, path string) (m server.MemoryState, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", guestAddr, ledgerPort, path), nil)
	if err != nil {
		return m, err
	}
	web := http.Client{Transport: &http.Transport{DialContext: b.dialFromClient, DisableKeepAlives: true}}
	resp, err := web.Do(req)
	for end := time.Now().Add(startTimeout); errors.Is(err, unix.ECONNREFUSED) && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond) // its kernel answers before it does
		resp, err = web.Do(req)
	}
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("ledger %s: %s: %s", path, resp.Status, body)
	}
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(body, &m)
}

// dialFromClient connects from the client host's network: a socket belongs to the
// namespace its thread was in when it was made.
func (b *Bed) dialFromClient(ctx context.Context, network, addr string) (net.Conn, error) {
	runtime.LockOSThread() // on errors below for good: then the thread ends with its goroutine
	here, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer here.Close()
	there, err := netns.GetFromPid(b.Host("client").Pid())
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if back := netns.Set(here); back != nil {
		return nil, back
	}
	runtime.UnlockOSThread()
	return conn, err
}
