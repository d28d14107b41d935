package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCrash kills the process that owns a lab, with one host paused and one at work.
func TestCrash(t *testing.T) {
	owner := exec.Command("/proc/self/exe")
	owner.Env = append(os.Environ(), roleVariable+"=owner", "HAMGR_LAB_TEST_DIR="+t.TempDir())
	owner.Stderr = os.Stderr
	owner.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	_, lines := begin(t, owner)
	defer owner.Wait()
	defer owner.Process.Kill()
	var inits []int
	if err := json.Unmarshal([]byte(lines.next(t)), &inits); err != nil || len(inits) != 3 {
		t.Fatal("no lab:", inits, err)
	}
	ends, namespaces := watch(t, inits)
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, fd := range ends {
		for end := time.Now().Add(patience); ; {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(0, time.Until(end)).Milliseconds()))
			if n == 1 {
				break
			}
			if !errors.Is(err, unix.EINTR) {
				t.Fatal("a host lives on:", err)
			}
		}
		unix.Close(fd)
	}
	lines.end(t)
	for ns, process := range users() {
		if slices.Contains(namespaces, ns) {
			t.Errorf("%s of a host is still used by %s", ns, process)
		}
	}
	noTraces(t)
}

// watch returns what tells the ends of processes, and their namespaces.
func watch(t *testing.T, pids []int) (ends []int, namespaces []string) {
	t.Helper()
	own := users()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, fd)
		for _, kind := range []string{"mnt", "pid", "net", "uts", "ipc"} {
			ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
			if err != nil || own[ns] == "" {
				t.Fatal(pid, "has no", kind, "namespace:", err)
			}
			namespaces = append(namespaces, ns)
		}
	}
	return ends, namespaces
}

// users are the namespaces of this machine's living processes, each with one of them.
func users() map[string]string {
	m := map[string]string{}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/*")
	for _, link := range links {
		ns, err := os.Readlink(link)
		stat, _ := os.ReadFile(filepath.Join(link, "../../stat"))
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			m[ns] = link
		}
	}
	return m
}

// own makes a lab, says the pids of its inits and waits for its end.
func own() {
	ctx := context.Background()
	p, err := Prepare(ctx, os.Stderr)
	check(err)
	l, err := Up(ctx, Spec{Root: p.Root, RunDir: os.Getenv("HAMGR_LAB_TEST_DIR"), Hosts: 1})
	check(err)
	busy := l.Host("client").Command(ctx, "sleep", "1000")
	busy.Stdout = os.Stdout // not to end before it has
	check(busy.Start())
	check(l.Host("h1").Pause())
	inits := []int{l.sw.Pid()}
	for _, h := range l.Hosts() {
		inits = append(inits, h.Pid())
	}
	check(json.NewEncoder(os.Stdout).Encode(inits))
	select {}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// traces are the mounts and links of labs that this process can see: none, if all is well.
func traces(t *testing.T) (all []string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for m := range strings.Lines(string(mounts)) {
		if strings.HasPrefix(m, "lab ") || strings.Contains(m, " /mnt/root") {
			all = append(all, m)
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		for _, network := range Networks {
			if strings.HasSuffix(l.Name, "-"+network) {
				all = append(all, l.Name)
			}
		}
	}
	return all
}

func noTraces(t *testing.T) {
	t.Helper()
	if left := traces(t); len(left) > 0 {
		t.Errorf("left of a lab: %q", left)
	}
}
