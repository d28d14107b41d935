package input

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	hosts "github.com/hamgr/hamgr/test/lab"
)

// In a child process this variable says what to do on tap g0 of its namespace.
const childEnv = "INPUT_TEST_CHILD"

func TestMain(m *testing.M) {
	hosts.Init()
	if what := os.Getenv(childEnv); what != "" {
		fmt.Println(child(what))
		bufio.NewReader(os.Stdin).ReadByte() // until killed, or its parent is gone
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(what string) error {
	if what != "attend" {
		m, err := NewMirror(MirrorConfig{Taps: []string{"g0"}, To: netip.MustParseAddr("10.0.0.2"), Ports: [][]uint16{{4000}}})
		if err != nil {
			return err
		}
		if err := m.Start(); err != nil || what == "copy" {
			return err
		}
		return m.Pause(time.Minute)
	}
	k, err := NewKeeper(Config{Listen: netip.MustParseAddr("10.0.0.2"), From: netip.MustParseAddr("10.0.0.1"), NICs: 1})
	if err != nil {
		return err
	}
	return k.Attend([]Tap{{Name: "g0", MAC: "52:54:00:00:00:00"}})
}

// startChild runs another process in the thread's namespace.
func startChild(t *testing.T, what string) (kill func()) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+what)
	c.Stderr = os.Stderr
	_, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	dead := false
	kill = func() {
		if !dead {
			dead = true
			c.Process.Kill()
			c.Wait()
		}
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	if line != "<nil>\n" {
		t.Fatalf("child: %s", line)
	}
	return kill
}

// TestDeathHarmsNobody: whatever a process that dies leaves on a tap, its guest is reached
// (I6); and the next process can clear it away, or take its place.
func TestDeathHarmsNobody(t *testing.T) {
	for _, what := range []string{"copy", "pause", "attend"} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t, 1, false)
			h := map[string]*host{"copy": l.primary, "pause": l.primary, "attend": l.backup}[what]
			before := h.traces()
			kill := startChild(t, what)
			if what != "copy" {
				h.send(h.guests[0], 1) // waits
				if p := h.guests[0].tryReceive(); p != nil {
					t.Fatalf("the guest got % x", p)
				}
			}
			kill()
			h.send(h.guests[0], 2)
			h.guests[0].wantSeqs(t, 2)
			if what == "copy" {
				m, k := l.protect(Config{})
				h.send(h.guests[0], 3)
				if kept := k.keptNow(0); len(kept) != 1 {
					t.Errorf("kept %d", len(kept))
				}
				must(t, m.Close())
			}
			must(t, Clear([]string{"g0"}))
			if after := h.traces(); after != before {
				t.Errorf("left\n%s\nwas\n%s", after, before)
			}
		})
	}
}
