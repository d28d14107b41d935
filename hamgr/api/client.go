package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// Client talks to one node.
type Client struct {
	base string
	http *http.Client
}

// NewSocketClient talks to the node whose unix socket this is.
func NewSocketClient(path string) *Client {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	return &Client{base: "http://hamgr", http: &http.Client{Transport: t}}
}

// NewClient talks to the node at an address such as http://10.0.0.1:7400.
func NewClient(url string) *Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: time.Second}).DialContext
	return &Client{base: url, http: &http.Client{Transport: t}}
}

// forwarded marks a request that a node sent on, so that it is sent on only once.
const forwarded = "Hamgr-Forwarded"

// Do sends a request and decodes the answer into out. Errors: *Error.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	return c.do(ctx, method, path, in, out, false)
}

func (c *Client) do(ctx context.Context, method, path string, in, out any, hop bool) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return fail("bad-request", "", "%v", err)
	}
	if hop {
		req.Header.Set(forwarded, "1")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fail("unreachable", "is hamgr serve running there? see its log", "hamgr does not answer: %v", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fail("unreachable", "", "the answer broke off: %v", err)
	}
	if resp.StatusCode != http.StatusOK {
		e := &Error{Code: "failed", Message: fmt.Sprintf("%s: %.200s", resp.Status, data)}
		json.Unmarshal(data, &struct{ Error *Error }{e})
		return e
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// Propose hands a command to the leader. Refusals of core.Apply come back as its errors.
func (c *Client) Propose(ctx context.Context, cmd core.Command) error {
	err := c.Do(ctx, "POST", "/v1/propose", cmd, nil)
	var e *Error
	if errors.As(err, &e) {
		for name, sentinel := range refusals {
			if e.Code == name {
				return fmt.Errorf("%w: %s", sentinel, e.Message)
			}
		}
	}
	return err
}

// refusals carry the sentinels of core over HTTP.
var refusals = map[string]error{
	"stale-generation": core.ErrStaleGeneration, "wrong-phase": core.ErrWrongPhase,
	"unknown-domain": core.ErrUnknownDomain, "unknown-node": core.ErrUnknownNode,
	"name-taken": core.ErrNodeNameTaken, "already-protected": core.ErrAlreadyProtected, "bad-command": core.ErrBadCommand,
}
