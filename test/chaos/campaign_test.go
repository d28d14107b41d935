package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/testbed"
)

// TestShortCampaign is make chaos RUNS=4 with a schedule for each: the backup's standby
// dies; then, when there is a replica again, the primary, which that has to survive; a primary
// that is alone; the random one.
func TestShortCampaign(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a lab")
	}
	o := options{runs: 4, seed: uint64(time.Now().UnixNano()), hosts: string(lab.Container), nodes: 3, out: t.TempDir(), failures: 1, progress: testLog{t}}
	if err := o.prepare(); err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d", o.seed)
	given := map[int][]step{
		1: {{Fault: "qemu-killed", On: backup}},
		2: {{Fault: "power-off", On: primary, Lasts: span{time.Second}}},
		3: {{Fault: "management-cut-both", On: primary, Lasts: span{time.Second}}},
	}
	r, err := o.campaign(t.Context(), func(run int) ([]step, error) {
		steps := given[run]
		for i := range steps {
			if err := steps[i].complete(o.use); err != nil {
				return nil, err
			}
		}
		if steps == nil {
			return o.steps(run)
		}
		return steps, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.err() != nil || r.Runs != 4 || r.Requests == 0 || r.Faults["power-off"].Done == 0 {
		t.Fatalf("%v: %+v", r.err(), r)
	}
	if slow := r.RecoveryMS.Max; slow > 30000 { // which is when the replica is there again
		t.Errorf("protected again %.0f ms after a fault", slow)
	}
	for _, v := range r.Notable {
		if v.Lost && v.Run < 4 {
			t.Errorf("run %d: %s", v.Run, v.line())
		}
	}
}

// TestMutantIsFound: a hamgr that opens the output when a session fails does not get
// through, although its guest is served all the time.
func TestMutantIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a lab")
	}
	o := options{runs: 4, seed: 1, hosts: string(lab.Container), nodes: 3, out: t.TempDir(), failures: 1, progress: testLog{t}, mutants: true, mutant: mutant.ReleaseOnError}
	if err := o.prepare(); err != nil {
		t.Fatal(err)
	}
	r, err := o.campaign(t.Context(), func(int) ([]step, error) {
		s := step{Fault: "hamgr-killed", On: backup}
		err := s.complete(o.use)
		return []step{s}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Violations == 0 || r.Unserved > 0 || len(r.Failed) != 1 || !strings.HasPrefix(r.Failed[0].Violations[0], string(commit.Leak)) {
		t.Errorf("it was not noticed, or for something else: %+v", r)
	}
}

// TestOperator treats a lab as a real cluster: it is reached by a command, and hamgr is asked.
func TestOperator(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a lab")
	}
	ctx := t.Context()
	b, err := testbed.Up(ctx, testbed.Options{Hosts: 3, Out: t.TempDir(), Progress: testLog{t}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Down)
	if err := b.WaitCluster(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.StartGuest(ctx, "h1", 128); err != nil {
		t.Fatal(err)
	}
	if out, err := b.Protect(ctx, "h1", "g1"); err != nil {
		t.Fatal(out, err)
	}
	var nodes []string
	for _, h := range b.Nodes() {
		nodes = append(nodes, fmt.Sprintf("%s=%d", h, b.Host(h).Pid()))
	}
	o := options{
		runs: 2, hosts: string(lab.Container), out: t.TempDir(), failures: 1, seed: 3, progress: testLog{t}, faults: "qemu-killed,management-cut-in",
		ssh: strings.Join(nodes, ","), via: "nsenter -t {} -m -p -n -u -i env PATH=/opt/hamgr/bin:/usr/sbin:/usr/bin sh -s",
		site: labSite, probe: fmt.Sprintf("nsenter -t %d -m -n ping -c1 -W1 10.78.0.201", b.Host("client").Pid()),
	}
	if err := o.main(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := b.Status(ctx, "h3")
	if err != nil || s.Protections[0].Generation < 3 {
		t.Errorf("nothing has happened: %+v, %v", s.Protections, err)
	}
}
