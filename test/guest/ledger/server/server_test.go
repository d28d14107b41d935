package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

func start(t *testing.T) *Server {
	t.Helper()
	s, err := Start(Config{Listen: "127.0.0.1:0", HTTP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// dial has a deadline so that a test fails where it would hang.
func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func ask(t *testing.T, c net.Conn, line string) chain.Reply {
	t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReaderSize(c, 16).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	r, err := chain.ParseReply(strings.TrimSuffix(answer, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// One chain, whichever way an entry comes.
func TestOneChainThreeWays(t *testing.T) {
	s := start(t)
	a := ask(t, dial(t, "tcp", s.Addr()), "t 1 x")
	udp := dial(t, "udp", s.Addr())
	var b [2]chain.Reply
	for i := range b { // the second is a retransmission
		io.WriteString(udp, "u 1 y")
		buf := make([]byte, 256)
		n, err := udp.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if b[i], err = chain.ParseReply(strings.TrimSuffix(string(buf[:n]), "\n")); err != nil {
			t.Fatal(err)
		}
	}
	var c chain.Reply
	get(t, s, "/append?text=z", &c)
	if b[0] != b[1] {
		t.Errorf("a retransmission was answered %+v, then %+v", b[0], b[1])
	}
	if want := chain.Next(a.Hash, "u 1 y"); b[0].Hash != want || b[0].Sequence != 2 {
		t.Errorf("entry over UDP: %+v", b[0])
	}
	if want := chain.Next(b[0].Hash, "http 1 z"); c.Hash != want || c.Sequence != 3 {
		t.Errorf("entry over HTTP: %+v", c)
	}
	var state State
	get(t, s, "/state", &state)
	if state.Sequence != 3 || state.Hash != c.Hash || state.Clients != 3 {
		t.Errorf("state: %+v", state)
	}
}

// Neither half a request at the end of a connection nor one too long makes an entry.
func TestBrokenLines(t *testing.T) {
	s := start(t)
	half := dial(t, "tcp", s.Addr())
	io.WriteString(half, "t 1 x\nt 2 cut off")
	half.(*net.TCPConn).CloseWrite()
	if all, err := io.ReadAll(half); err != nil || strings.Count(string(all), "\n") != 1 {
		t.Errorf("half a request: %q, %v", all, err)
	}
	long := dial(t, "tcp", s.Addr())
	io.WriteString(long, "l 1 "+strings.Repeat("y", chain.MaxLine-3)) // exactly what fills the buffer
	if all, _ := io.ReadAll(long); !strings.HasPrefix(string(all), "! ") {
		t.Errorf("a request too long: %q", all)
	}
	if n := s.ledger.State().Sequence; n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
}

func TestCloseEndsConnections(t *testing.T) {
	s, err := Start(Config{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, "tcp", s.Addr())
	ask(t, c, "a 1 x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
}

// TestRefuse: the port is closed to new connections, not to old ones, and opens again.
func TestRefuse(t *testing.T) {
	s := start(t)
	old := dial(t, "tcp", s.Addr())
	ask(t, old, "t 1 x")
	for range 2 {
		get(t, s, "/refuse?on=1", &MemoryState{})
		if c, err := net.Dial("tcp", s.Addr()); err == nil {
			c.Close()
			t.Error("it listens")
		}
		ask(t, old, "t 2 y")
		get(t, s, "/refuse?on=0", &MemoryState{})
		ask(t, dial(t, "tcp", s.Addr()), "u 1 z")
	}
}

func TestAddressInUse(t *testing.T) {
	s := start(t)
	if two, err := Start(Config{Listen: s.Addr()}); err == nil || !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("a second server on %s: %v, %v", s.Addr(), two, err)
	}
}

// get decodes an answer that has to be 200.
func get(t *testing.T, s *Server, path string, out any) {
	t.Helper()
	if status, text := status(t, s, path); status != http.StatusOK {
		t.Fatalf("%s: %d %s", path, status, text)
	} else if err := json.Unmarshal([]byte(text), out); err != nil {
		t.Fatalf("%s: %v in %s", path, err, text)
	}
}

func status(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(fmt.Sprintf("http://%s%s", s.HTTPAddr(), path))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}
