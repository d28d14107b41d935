// Package probe asks a guest's service whether it answers, from the guest's host.
//
//	tcp://10.0.0.5:80           a connection is accepted
//	http://10.0.0.5:8080/ready  a GET is answered with a status below 400; no redirect is followed
//
// The host needs a way into the guest's network: an address on its bridge, or a router.
// What the guest answers is output like any other, so a held answer takes an epoch.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// Target is a service to ask.
type Target struct{ url *url.URL }

// Parse reads a target as an operator writes it.
func Parse(text string) (Target, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Target{}, err
	case u.Scheme != "tcp" && u.Scheme != "http":
		return Target{}, errors.New("a probe begins with tcp:// or http://")
	case u.Hostname() == "" || u.Port() == "" && u.Scheme == "tcp":
		return Target{}, errors.New("it needs a host and a port")
	case u.Scheme == "tcp" && (u.Path != "" || u.RawQuery != ""):
		return Target{}, errors.New("tcp:// takes a host and a port only")
	case u.User != nil:
		return Target{}, errors.New("it must hold no password: everybody can see it")
	}
	return Target{u}, nil
}

// String is the target as it was written.
func (t Target) String() string { return t.url.String() }

// Try asks once. It returns within ctx, with nothing left behind.
func (t Target) Try(ctx context.Context) error {
	if t.url.Scheme == "http" {
		return t.get(ctx)
	}
	c, err := dial(ctx, "tcp", t.url.Host)
	if err != nil {
		return err
	}
	return c.Close()
}

// dial makes a plain connection: no keep-alives, which nobody would wait for, and no
// Multipath TCP, which a guest's firewall may not like.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	return d.DialContext(ctx, network, addr)
}

// get uses a connection of its own, and no proxy: it is the guest that is asked.
func (t Target) get(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
	if err != nil {
		return err
	}
	client := http.Client{
		Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("GET %s: %s", t.url, resp.Status)
	}
	return nil
}
