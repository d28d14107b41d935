package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernelLab is a lab of hosts with kernels of their own.
func kernelLab(ctx context.Context, t *testing.T, hosts int) *Lab {
	t.Helper()
	p, err := Prepare(t.Context(), os.Stderr) // the first time it takes as long as the network does
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l, err := Up(ctx, Spec{Root: p.Root, RunDir: dir, Hosts: hosts, Kind: UML, MemoryMiB: 512})
	if err != nil {
		for _, f := range []string{"h1/console.log", "h1.init.log"} {
			text, _ := os.ReadFile(filepath.Join(dir, f))
			t.Logf("%s:\n%s", f, text)
		}
		t.Fatal(err)
	}
	t.Cleanup(l.Down)
	return l
}

// TestKernelHost is what a host with its own kernel must do, from boot to power-off.
func TestKernelHost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l := kernelLab(ctx, t, 2)
	t.Run("a kernel of its own", func(t *testing.T) { ownKernel(ctx, t, l.Host("h1")) })
	t.Run("commands", func(t *testing.T) { commands(ctx, t, l.Host("h1")) })
	t.Run("terminal", func(t *testing.T) { terminal(t, l.Host("h1")) })
	t.Run("networks", func(t *testing.T) { networks(ctx, t, l) })
	t.Run("flooded", func(t *testing.T) { flooded(ctx, t, l) })
	t.Run("logs", func(t *testing.T) { logs(ctx, t, l.Host("h1")) })
	t.Run("pause", func(t *testing.T) { pause(ctx, t, l) })
	t.Run("power", func(t *testing.T) { power(ctx, t, l.Host("h1")) })
}

func ownKernel(ctx context.Context, t *testing.T, h *Host) {
	ours, err := os.ReadFile("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	script := `set -e
ip link add ifb0 type ifb; ip link set ifb0 up
ip link add d0 type veth peer d1
tc qdisc add dev d0 clsact
tc filter add dev d0 ingress matchall action mirred egress redirect dev ifb0
tc qdisc add dev ifb0 root plug limit 100000
tc qdisc add dev d1 root netem delay 1ms
ip link del d0; ip link del ifb0
cat /proc/version`
	theirs, err := h.Exec(ctx, "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	if theirs == string(ours) {
		t.Errorf("it has this machine's kernel: %s", theirs)
	}
}

func commands(ctx context.Context, t *testing.T, h *Host) {
	var out, errs bytes.Buffer
	cmd := h.Command(ctx, "sh", "-c", "cat; echo problem >&2; exit 7")
	input := strings.Repeat("a line of input\n", 20000)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || out.String() != input || errs.String() != "problem\n" {
		t.Errorf("%v, %d octets of %d back, stderr %q", err, out.Len(), len(input), errs.String())
	}
	if out, err := h.Exec(ctx, "no-such-program"); err == nil || !strings.Contains(out, "not found") {
		t.Errorf("a program that is not there: %v, %s", err, out)
	}
	if out, err := h.Exec(ctx, "sh", "-c", "kill -9 $$"); err == nil || !strings.Contains(err.Error(), "137") {
		t.Errorf("a command that was killed: %v, %s", err, out)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	h.Exec(short, "sleep", "4711")
	for h.alive(ctx, "sleep 4711") {
		if ctx.Err() != nil {
			t.Fatal("the command outlives its context")
		}
	}
}

// alive says whether a command line is among the host's processes.
func (h *Host) alive(ctx context.Context, line string) bool {
	_, err := h.Exec(ctx, "pgrep", "-xf", line)
	return err == nil
}

func networks(ctx context.Context, t *testing.T, l *Lab) {
	reach := func(from, to string, want bool) {
		t.Helper()
		out, err := l.Host(from).Exec(ctx, "ping", "-c1", "-W2", to)
		if (err == nil) != want {
			t.Errorf("ping %s from %s: %v %s", to, from, err, out)
		}
	}
	reach("h1", "10.77.0.2", true)
	reach("h1", "fd78::2", true)
	reach("client", "10.78.0.1", true)
	if err := l.Host("h1").Cut("mgmt"); err != nil {
		t.Fatal(err)
	}
	reach("h1", "10.77.0.2", false)
	reach("h1", "10.78.0.2", true)
	if err := l.Host("h1").Heal("mgmt"); err != nil {
		t.Fatal(err)
	}
	reach("h1", "10.77.0.2", true)
}

// flooded: a kernel gets what the switch floods for an address that it has heard of from there.
func flooded(ctx context.Context, t *testing.T, l *Lab) {
	away, client := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x78}, packetSocket(t, l.Host("client"), "eth1", 0)
	_, err := unix.Write(client, testFrame(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, away, 0))
	must(t, err)
	port, err := l.handle.LinkByName(l.Host("client").Port("guest"))
	must(t, err)
	must(t, l.handle.NeighDel(&netlink.Neigh{LinkIndex: port.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, HardwareAddr: away}))
	received := func() (n int) {
		t.Helper()
		text, err := l.Host("h1").Exec(ctx, "cat", "/sys/class/net/eth1/statistics/rx_packets")
		must(t, err)
		n, err = strconv.Atoi(strings.TrimSpace(text))
		must(t, err)
		return n
	}
	const all = 100
	before := received()
	for n := range uint32(all) {
		_, err := unix.Write(client, testFrame(away, net.HardwareAddr{2, 0, 0, 0, 0, 1}, n))
		must(t, err)
	}
	for limit := time.Now().Add(patience); received() < before+all; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("h1 got %d of %d packets", received()-before, all)
		}
	}
}

func logs(ctx context.Context, t *testing.T, h *Host) {
	if _, err := h.Exec(ctx, "sh", "-c", "exec 3>/var/log/lab/test.log; echo line >&3; sleep 4712 <&- >&- 2>&- &"); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil { // before the file is closed
		if text, _ := os.ReadFile(filepath.Join(h.spec.LogDir, "test.log")); string(text) == "line\n" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("what the host logs is not seen outside")
}

// pause: a kernel that stands still does not answer, and goes on later with all it ran.
func pause(ctx context.Context, t *testing.T, l *Lab) {
	h := l.Host("h1")
	cmd := h.Command(ctx, "sh", "-c", busy)
	tell, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	_, lines := begin(t, cmd)
	fmt.Fprintln(tell, "before")
	lines.next(t)
	if err := h.Pause(); err != nil {
		t.Fatal(err)
	}
	if ping(t, l, "10.77.0.1") {
		t.Error("a paused host answers")
	}
	if err := h.Resume(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(tell, "after")
	lines.next(t)
	waitPing(t, l, "10.77.0.1")
	tell.Close()
	lines.end(t)
	if err := cmd.Wait(); status(err) != 9 {
		t.Errorf("the command ended with %v after its host was paused and resumed", err)
	}
}

func power(ctx context.Context, t *testing.T, h *Host) {
	cmd := h.Command(ctx, "sleep", "4713")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for !h.alive(ctx, "sleep 4713") {
		if ctx.Err() != nil {
			t.Fatal("the command does not start")
		}
	}
	if _, err := h.Exec(ctx, "touch", "/tmp/before"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.PowerOff(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("a command on a host without power ends well")
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	if out, err := h.Exec(ctx, "ls", "/tmp/before"); err == nil {
		t.Error("after a power-off there is", out)
	}
}
