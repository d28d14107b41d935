package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/lab/control"
)

// asCommand makes the test's program the command itself.
const asCommand = "HAMGR_LAB_TEST_COMMAND"

func TestMain(m *testing.M) {
	lab.Init()
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// user types commands for a lab of the test's own.
type user struct {
	*testing.T
	dir string
}

// lab runs the command and wants an exit status, and all of these in what it says.
func (u user) lab(exit int, say []string, args ...string) string {
	u.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"--run-dir", u.dir}, args...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Stdin = strings.NewReader("given\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		u.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != exit {
		u.Fatalf("lab %v: exit status %d instead of %d: %s", args, got, exit, out.String())
	}
	for _, s := range say {
		if !strings.Contains(out.String(), s) {
			u.Errorf("lab %v says %q, nothing of %q", args, out.String(), s)
		}
	}
	return out.String()
}

func (u user) status() (s control.Status) {
	u.Helper()
	if err := json.Unmarshal([]byte(u.lab(0, nil, "status", "-o", "json")), &s); err != nil {
		u.Fatal(err)
	}
	return s
}

// TestLab is a life of a lab with all commands, the death of the process that owns it,
// and another life.
func TestLab(t *testing.T) {
	u := user{t, filepath.Join(t.TempDir(), "run")}
	up := []string{"up", "--hosts", "1", "--out", t.TempDir()}
	u.lab(control.ExitNoLab, []string{"no lab is up", "lab up"}, "status")
	u.lab(lab.ExitLab, []string{"no lab is up"}, "exec", "h1", "--", "true")
	u.lab(0, []string{"no lab is up"}, "down")
	u.lab(control.ExitUsage, []string{"0 hosts"}, "up", "--hosts", "0")

	u.lab(0, []string{"libvirt answers", "running"}, up...)
	t.Cleanup(func() { u.lab(0, nil, "down") })
	u.lab(control.ExitConflict, []string{"up already"}, up...)
	u.hosts()

	killed := u.status().Pid
	kill(t, killed)
	u.lab(control.ExitNoLab, nil, "status")
	u.lab(0, nil, up...)
	s := u.status()
	if s.Pid == killed || len(s.Hosts) != 2 || s.Hosts[0].State != lab.StateRunning {
		t.Errorf("after a crash and lab up: %+v", s)
	}
	u.lab(0, []string{"lab is down"}, "down")
	if _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.Pid)); err == nil { // a zombie has none
		t.Error("lab down returns before the lab's process has ended")
	}
	if _, err := os.Stat(u.dir); !os.IsNotExist(err) {
		t.Error("lab down leaves the run directory behind:", err)
	}
}

// kill returns when the process has ended.
func kill(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	}
}

// hosts does what can be done to a host.
func (u user) hosts() {
	u.Helper()
	u.lab(7, []string{"h1\n", "given\n", "/opt/hamgr/bin"}, "exec", "h1", "--", "sh", "-c", "hostname; cat; echo $PATH; exit 7")
	u.lab(0, []string{"State"}, "exec", "h1", "virsh", "list", "--all")
	u.lab(lab.ExitLab, []string{`no host "h9"`, "h1, client"}, "exec", "h9", "true")
	u.lab(control.ExitNotFound, []string{`no host "h9"`, "h1, client"}, "poweroff", "h9")
	u.lab(control.ExitUsage, []string{`no network "wan"`, "mgmt, guest, all"}, "cut", "h1", "wan")
	u.lab(0, []string{"h1\n", "client\n"}, "__complete", "cut", "")
	u.lab(0, []string{"mgmt\n", "guest\n", "all\n"}, "__complete", "cut", "h1", "")

	u.lab(0, nil, "cut", "h1", "all")
	u.is("h1", lab.StateRunning, "cut", "cut")
	u.lab(0, nil, "heal", "h1", "guest")
	u.is("h1", lab.StateRunning, "cut", "up")
	u.lab(0, nil, "heal", "h1", "all")
	u.lab(0, []string{"paused"}, "pause", "h1")
	u.is("h1", lab.StatePaused, "up", "up")
	u.lab(lab.ExitLab, []string{"h1 is paused", "lab resume h1"}, "exec", "h1", "true")
	u.lab(0, nil, "resume", "h1")
	u.lab(control.ExitConflict, []string{"h1 is running"}, "resume", "h1")
	u.lab(0, []string{"off"}, "poweroff", "h1")
	u.is("h1", lab.StateOff, "", "")
	u.lab(control.ExitConflict, []string{"h1 is off", "lab start h1"}, "cut", "h1", "mgmt")
	u.lab(0, nil, "start", "h1")
	u.lab(0, nil, "exec", "h1", "virsh", "version")
	u.is("h1", lab.StateRunning, "up", "up")
}

func (u user) is(host string, state lab.State, mgmt, guest string) {
	u.Helper()
	for _, h := range u.status().Hosts {
		if h.Name == host {
			if h.State != state || h.Networks["mgmt"] != mgmt || h.Networks["guest"] != guest || (h.Pid == 0) != (state == lab.StateOff) {
				u.Errorf("%+v instead of %s, mgmt %s, guest %s", h, state, mgmt, guest)
			}
			return
		}
	}
	u.Errorf("no %s in the status", host)
}
