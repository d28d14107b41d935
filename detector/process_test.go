package detector

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestProcess: an end is seen at once, whether its parent has waited for it or not, and a
// killed process is told from one that ended in order or was asked to.
func TestProcess(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		signal unix.Signal // 0: it ends by itself
		killed bool
	}{
		"killed":             {"echo; read x", unix.SIGKILL, true},
		"aborted":            {"echo; read x", unix.SIGABRT, true},
		"asked":              {"trap 'exit 0' TERM; echo; read x", unix.SIGTERM, false},
		"asked before ready": {"echo; read x", unix.SIGTERM, false},
		"exits":              {"echo; exit 3", 0, false},
	} {
		for _, waited := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				cmd := exec.Command("sh", "-c", "read x; "+c.script)
				in, out := pipes(t, cmd)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				p, err := WatchProcess(cmd.Process.Pid)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if p.HasEnded() || p.Killed() {
					t.Fatal("ended before it did")
				}
				if _, err := in.WriteString("\n"); err != nil {
					t.Fatal(err)
				}
				if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				if c.signal != 0 {
					if err := cmd.Process.Signal(c.signal); err != nil {
						t.Fatal(err)
					}
				}
				if waited {
					_ = cmd.Wait()
				}
				select {
				case <-p.Ended():
				case <-time.After(10 * time.Second):
					t.Fatal("its end was not seen")
				}
				if got := p.Killed(); got != c.killed {
					// Linux before 6.15 keeps nothing of a process that was waited for.
					if p.said || !waited {
						t.Errorf("killed: %t (status %#x, said %t)", got, p.status, p.said)
					}
				}
				_ = cmd.Wait()
			})
		}
	}
}

func pipes(t *testing.T, cmd *exec.Cmd) (in, out *os.File) {
	t.Helper()
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout = r, w
	t.Cleanup(func() {
		for _, f := range []*os.File{r, in, out, w} {
			f.Close()
		}
	})
	return in, out
}

func TestWatchProcessThatIsGone(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := WatchProcess(cmd.Process.Pid); !errors.Is(err, unix.ESRCH) {
		t.Fatalf("watching the dead: %v", err)
	}
}

func TestWatchProcessUntilClose(t *testing.T) {
	before := pidfds(t)
	p, err := WatchProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	<-p.known
	if pidfds(t) > before {
		t.Fatal("the pidfd is still open")
	}
	if p.HasEnded() || p.Killed() {
		t.Fatal("this process is said to have ended")
	}
}

func pidfds(t *testing.T) (n int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.Contains(to, "pidfd") {
			n++
		}
	}
	return n
}

// TestParseThread: a name may look like the end of one, and what is cut is no thread.
func TestParseThread(t *testing.T) {
	line := "7 (a) Z (b) R 1 7 7 0 -1 1077936132 0" + strings.Repeat(" 0", 41) + " 139\n"
	got, ok := parseThread([]byte(line))
	if want := (thread{'R', 1077936132, 139}); !ok || got != want || got.flags&pfExiting == 0 || got.status.Signal() != unix.SIGSEGV {
		t.Errorf("%+v %t", got, ok)
	}
	for n := range len(line) - 5 {
		if got, ok := parseThread([]byte(line[:n])); ok {
			t.Fatalf("%q is %+v", line[:n], got)
		}
	}
}
