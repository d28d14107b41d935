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
	"strconv"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

const (
	dialTimeout = time.Second
	// callTimeout bounds every call; the longest honest one is a long poll of eventsWait.
	callTimeout = 45 * time.Second
	maxAnswer   = 16 << 20

	forwarded = "Hamgr-Forwarded" // marks a request that a node sent on, so that it is sent on only once
	indexSeen = "Hamgr-Index"     // in the answer of a leader: the state's index after the request
)

// Client talks to one node. It keeps no connection between two calls: one that was left
// open to a host that has died since would swallow the next request without a word.
type Client struct {
	base string
	http *http.Client
}

// NewSocketClient talks to the node whose unix socket this is.
func NewSocketClient(path string) *Client {
	return newClient("http://hamgr", func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
	})
}

// NewClient talks to the node at a URL such as http://10.0.0.1:7400.
func NewClient(url string) *Client {
	return newClient(strings.TrimSuffix(url, "/"), (&net.Dialer{Timeout: dialTimeout}).DialContext)
}

// newClient sets no proxy: the environment's is not for the management network.
func newClient(base string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *Client {
	t := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	return &Client{base: base, http: &http.Client{Transport: t, Timeout: callTimeout}}
}

// Do sends a request with in as its JSON, and decodes the answer into out unless that is
// nil. Errors: *Error, or ctx's if that was cancelled.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	_, err := c.do(ctx, method, path, in, out, false)
	return err
}

// do also returns the leader's index; hop marks the request as forwarded.
func (c *Client) do(ctx context.Context, method, path string, in, out any, hop bool) (index uint64, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, Failure(CodeBadRequest, "a URL is http://address:port", "%v", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if hop {
		req.Header.Set(forwarded, "1")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, unanswered(ctx, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, unanswered(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		return 0, decodeError(resp.Status, data)
	}
	index, _ = strconv.ParseUint(resp.Header.Get(indexSeen), 10, 64)
	if out == nil {
		return index, nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return index, Failure(CodeFailed, "is that hamgr, and of the same version?", "%s %s: the answer makes no sense: %v", method, c.base+path, err)
	}
	return index, nil
}

// unanswered tells a request that was never sent from one whose outcome is unknown.
func unanswered(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return Failure(CodeUnreachable, "is hamgr serve running there? see its log", "hamgr does not answer: %v", err)
	}
	return Failure(CodeUnknown, "hamgr status shows what has come of it", "hamgr took the request but does not answer: %v", err)
}

func decodeError(status string, data []byte) *Error {
	var body struct{ Error *Error }
	if json.Unmarshal(data, &body) != nil || body.Error == nil || body.Error.Message == "" {
		return Failure(CodeFailed, "", "%s: %.200s", status, bytes.TrimSpace(data))
	}
	return body.Error
}

// Propose hands a command to the leader. Refusals of core.Apply come back as its errors,
// to be matched with errors.Is.
func (c *Client) Propose(ctx context.Context, cmd core.Command) error {
	return c.Do(ctx, http.MethodPost, "/v1/propose", cmd, nil)
}

// Status asks for the cluster as that node sees it.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	err = c.Do(ctx, http.MethodGet, "/v1/status", nil, &s)
	return s, err
}

// Nodes asks for the nodes.
func (c *Client) Nodes(ctx context.Context) (n []NodeStatus, err error) {
	err = c.Do(ctx, http.MethodGet, "/v1/nodes", nil, &n)
	return n, err
}

// Events asks for the decisions after the index since; with wait it returns as soon as
// there is one, or after that time, of which no more than 30 s count.
func (c *Client) Events(ctx context.Context, since uint64, wait time.Duration) (e []core.Event, err error) {
	path := fmt.Sprintf("/v1/events?since=%d", since)
	if wait > 0 {
		path += "&wait=" + wait.String()
	}
	err = c.Do(ctx, http.MethodGet, path, nil, &e)
	return e, err
}
