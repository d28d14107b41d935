package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/commit/rig"
	"github.com/hamgr/hamgr/test/lab"
)

func TestMain(m *testing.M) {
	lab.Init()
	os.Exit(m.Run())
}

// TestSeedIsTheSchedule: the same one draws the same steps, another one others, and a
// few dozen runs have all kinds of faults.
func TestSeedIsTheSchedule(t *testing.T) {
	same, kinds := 0, map[string]bool{}
	for n := range 40 {
		a, b, other := draw(1, n), draw(1, n), draw(2, n)
		if a.fault.Name != b.fault.Name || a.delay != b.delay || a.random.Uint64() != b.random.Uint64() {
			t.Fatalf("step %d differs: %s after %v, %s after %v", n, a.fault.Name, a.delay, b.fault.Name, b.delay)
		}
		if a.fault.Name == other.fault.Name && a.delay == other.delay {
			same++
		}
		kinds[a.fault.Name] = true
	}
	if same > 1 || len(kinds) != len(rig.Faults) {
		t.Errorf("%d of 40 steps are those of another seed; kinds: %v", same, kinds)
	}
}

var seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of TestShortCampaign")

// eachOnce is a step for each kind of fault: of a seed's, the first of its kind.
func eachOnce(seed uint64) (steps []step) {
	had := map[string]bool{}
	for n := 0; len(steps) < len(rig.Faults); n++ {
		if s := draw(seed, n); !had[s.fault.Name] {
			had[s.fault.Name] = true
			steps = append(steps, s)
		}
	}
	return steps
}

// TestShortCampaign is make commit with one fault of each kind: output commit holds over all
// of them, and no request is lost.
func TestShortCampaign(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a lab")
	}
	out, err := os.MkdirTemp("", "commit-")
	if err != nil {
		t.Fatal(err)
	}
	c, err := begin(t.Context(), options{seed: *seed, hosts: string(lab.Container), out: out})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.rig.Down()
		if !t.Failed() {
			os.RemoveAll(out)
			return
		}
		t.Logf("logs and what was captured: %s; the same again: go test ./test/commit/campaign -run TestShortCampaign -args -seed %d", out, *seed)
	})
	if err := c.buffer(t.Context(), eachOnce(*seed)); err != nil {
		t.Fatal(err)
	}
	if err := c.result.write(out, c.sum); err != nil {
		t.Fatal(err)
	}
	for _, f := range rig.Faults {
		if k := c.result.Kinds[f.Name]; k.Runs != 1 || (f.Name == rig.PowerOff || f.Name == rig.QEMUKilled) && k.Moved != 1 {
			t.Errorf("%s: %d runs, %d restores", f.Name, k.Runs, k.Moved)
		}
	}
	enough(t, c.sum)
}

// enough says that there was something to judge.
func enough(t *testing.T, sum commit.Report) {
	t.Helper()
	for _, p := range []string{"TCP", "UDP", "ARP", "ICMPv6NeighborAdvertisement"} {
		if sum.Protocols[p] == 0 {
			t.Errorf("no %s among the %d frames that were held: %v", p, sum.Held, sum.Protocols)
		}
	}
	if sum.Ledger.Linked < 100 || sum.UDP.Answered < 100 || sum.Announcements == 0 || sum.Epochs < 50 {
		t.Errorf("too little was seen: %d epochs, %d announcements, %+v, %+v", sum.Epochs, sum.Announcements, sum.Ledger, sum.UDP)
	}
}

// TestReport: what report.json says, by its names.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	r := result{Seed: 7, Hosts: "container", CPUs: 2, QEMU: "11.1.3", Backend: "relay", Kinds: map[string]kind{}}
	var sum commit.Report
	for _, rep := range []commit.Report{
		{Restores: 1, Silence: 300, Held: 10, UDP: commit.UDP{Sent: 5, Answered: 4, Nobody: 1}},
		{Restores: 1, Silence: 100},
		{Silence: 200, Count: map[commit.Kind]int{commit.Leak: 2, commit.Gap: 1}, Violations: []commit.Violation{{Kind: commit.Leak, Host: "h1"}}},
	} {
		r.add("power-off", rep)
		sum.Merge(rep)
	}
	r.Failed = &failed{Run: 3, Kind: "power-off", Cause: "a leak"}
	r.Checkpoint.add(commit.Report{Restores: 1, RolledBackFrames: 4, Rollbacks: 2})
	if err := r.write(dir, sum); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]any{
		"runs": 3.0, "seed": 7.0, "hosts": "container", "cpus": 2.0, "qemu": "11.1.3", "buffer_backend": "relay", "violations": 3.0,
		"kinds/power-off/runs": 3.0, "kinds/power-off/restores": 2.0, "kinds/power-off/silence_ms/p50": 200.0, "kinds/power-off/silence_ms/max": 300.0,
		"failed/run": 3.0, "failed/kind": "power-off", "failed/cause": "a leak",
		"checkpoint_mode/failovers": 1.0, "checkpoint_mode/frames_rolled_back": 4.0, "checkpoint_mode/contradictions": 2.0,
		"sum/restores": 2.0, "sum/frames_held": 10.0, "sum/count/leak": 2.0, "sum/count/gap": 1.0, "sum/longest_silence_ms": 300.0,
		"sum/udp/sent": 5.0, "sum/udp/reached_nobody": 1.0,
	} {
		v := got
		for _, name := range strings.Split(path, "/") {
			m, _ := v.(map[string]any)
			v = m[name]
		}
		if v != want {
			t.Errorf("%s: %v, want %v", path, v, want)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "commit.png")); err != nil || st.Size() == 0 {
		t.Errorf("no picture: %v", err)
	}
	if err := r.write(filepath.Join(dir, "nowhere"), sum); err == nil {
		t.Error("a report that could not be written is no error")
	}
}
