package alarm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// inspector answers as status says, for each request in turn, and passes bodies on.
type inspector struct {
	*httptest.Server
	got chan string // method, path, body

	mu     sync.Mutex // guards status
	status []int
}

func newInspector(t *testing.T, status ...int) *inspector {
	i := &inspector{got: make(chan string, 1000), status: status}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		i.mu.Lock()
		code := http.StatusOK
		if len(i.status) > 0 {
			code, i.status = i.status[0], i.status[1:]
		}
		i.mu.Unlock()
		w.WriteHeader(code)
		i.got <- fmt.Sprint(r.Method, " ", r.URL.Path, " ", string(body))
	}))
	t.Cleanup(i.Close)
	return i
}

// logs may be read while it is written.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs a sender with short waits until the test ends.
func start(t *testing.T, url string, options ...Option) (*Sender, *logs) {
	return startWith(t, url, 10*time.Second, 5*time.Second, options...)
}

// startWith is start with the sender's patience with an alarm, and with one try.
func startWith(t *testing.T, url string, giveUp, try time.Duration, options ...Option) (*Sender, *logs) {
	l := &logs{}
	s := New(url, slog.New(slog.NewTextHandler(l, nil)), options...)
	s.firstWait, s.maxWait, s.giveUp, s.tryTimeout = time.Millisecond, 4*time.Millisecond, giveUp, try
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s, l
}

func receive(t *testing.T, i *inspector) string {
	t.Helper()
	select {
	case got := <-i.got:
		return got
	case <-time.After(5 * time.Second):
		t.Fatal("the inspector was not told")
		return ""
	}
}

func TestDoctorTakesIt(t *testing.T) {
	i := newInspector(t)
	s, _ := start(t, i.URL+"/")
	s.Send(event(core.Protect, "not alarming"))
	s.Send(event(core.FailOver, "no heartbeat from h1 for 253ms"))
	text, ok := strings.CutPrefix(receive(t, i), "PUT /events ")
	var list []struct {
		Time, Type string
		Details    map[string]string
	}
	if err := json.Unmarshal([]byte(text), &list); !ok || err != nil || len(list) != 1 {
		t.Fatal(text, err)
	}
	if a := list[0]; a.Type != "compute.host.down" || a.Details["hostname"] != "h1" || a.Details["domain"] != "web1" || a.Time == "" {
		t.Errorf("%+v", a)
	}
}

func TestSouthbound(t *testing.T) {
	i := newInspector(t)
	s, _ := start(t, i.URL, WithDialect(Southbound))
	s.Send(event(core.GoSolo, "x"))
	if got := receive(t, i); !strings.HasPrefix(got, `POST /events {"event":{"time":`) {
		t.Error(got)
	}
}

func TestTriesAgainInOrder(t *testing.T) {
	i := newInspector(t, 500, 503, 429)
	s, _ := start(t, i.URL)
	s.Send(event(core.GoSolo, "first"))
	s.Send(event(core.GoSolo, "second"))
	for n, want := range []string{"first", "first", "first", "first", "second"} {
		if got := receive(t, i); !strings.Contains(got, want) {
			t.Errorf("request %d: %s, want %s", n, got, want)
		}
	}
}

func TestRefusedIsNotTriedAgain(t *testing.T) {
	i := newInspector(t, 405)
	s, l := start(t, i.URL)
	s.Send(event(core.GoSolo, "first"))
	s.Send(event(core.GoSolo, "second"))
	if one, two := receive(t, i), receive(t, i); !strings.Contains(one, "first") || !strings.Contains(two, "second") {
		t.Error(one, two)
	}
	if !strings.Contains(l.String(), "405") {
		t.Error(l)
	}
}

// TestGivesUp: an inspector that is away, and one that hangs, get what comes later.
func TestGivesUp(t *testing.T) {
	hang := make(chan struct{})
	got := make(chan string, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "first") {
			<-hang
		}
		got <- string(body)
	}))
	defer srv.Close()
	defer close(hang)
	s, l := startWith(t, srv.URL, 100*time.Millisecond, time.Second)
	s.Send(event(core.GoSolo, "first"))
	s.Send(event(core.GoSolo, "second"))
	select {
	case body := <-got:
		if !strings.Contains(body, "second") {
			t.Error(body)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came after the one that hangs")
	}
	if !strings.Contains(l.String(), "not delivered") || !strings.Contains(l.String(), "deadline exceeded") {
		t.Error(l)
	}
}

func TestSendNeverBlocks(t *testing.T) {
	s := New("http://127.0.0.1:1", slog.New(slog.DiscardHandler)) // nobody runs it
	for range queueLength + 3 {
		s.Send(event(core.GoSolo, "x"))
	}
	if s.Dropped() != 3 {
		t.Error(s.Dropped())
	}
	none := New("", slog.New(slog.DiscardHandler))
	none.Send(event(core.GoSolo, "x"))
	if _, ok := none.queue.next(); ok {
		t.Error("queued for nobody")
	}
}
