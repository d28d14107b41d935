package rig

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/commit/load"
	"github.com/hamgr/hamgr/test/lab"
)

func TestMain(m *testing.M) {
	lab.Init()
	os.Exit(m.Run())
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func up(t *testing.T, o Options) *Rig {
	t.Helper()
	o.Out, o.Progress = t.TempDir(), testLog{t}
	r, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range r.Nodes() {
				log, _ := os.ReadFile(r.Out + "/logs/" + h + "/hamgr.log")
				t.Logf("%s:\n%s", h, log[max(0, len(log)-4000):])
			}
		}
		r.Down()
	})
	return r
}

// answered waits until every flow has got so many more answers.
func answered(t *testing.T, r *Rig, l *load.Load, more int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), r.Patience())
	defer cancel()
	if err := l.Answered(ctx, more); err != nil {
		t.Fatal(err)
	}
}

// TestPowerOff: output commit holds while the guest is protected, over the death of its
// host, and when it is protected again.
func TestPowerOff(t *testing.T) {
	r := up(t, Options{})
	ctx := t.Context()
	l, err := r.Load(30*time.Millisecond, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Protect(ctx); err != nil {
		t.Fatal(err)
	}
	answered(t, r, l, 50) // some hundred frames
	if rep := judge(t, r); rep.Restores != 0 {
		t.Errorf("a failover for no reason: %+v", rep)
	}
	before, err := r.Protected(ctx, 0, r.Patience())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.PowerOff("h1"); err != nil {
		t.Fatal(err)
	}
	p, err := r.Protected(ctx, before.Generation+1, r.Patience())
	if err != nil {
		t.Fatal(err)
	}
	if p.Primary != before.Backup {
		t.Errorf("the guest is on %s, not on its backup %s", p.Primary, before.Backup)
	}
	answered(t, r, l, 30)
	for _, f := range l.Stop() {
		if f.Error != "" || f.RolledBack || f.Requests < 10 {
			t.Errorf("%+v", f)
		}
	}
	rep := judge(t, r)
	if rep.Restores != 1 || rep.Announcements == 0 {
		t.Errorf("%d restores, %d announcements", rep.Restores, rep.Announcements)
	}
	if rep.Ledger.Holes > 0 { // before, a look may have come between two NICs' shares of an epoch
		t.Errorf("the ledger is not shown to go on: %+v", rep.Ledger)
	}
	if err := rep.Plot(filepath.Join(t.TempDir(), "commit.png")); err != nil {
		t.Error(err)
	}
}

// judge fails unless everything was as promised, and enough of it was put to the test.
func judge(t *testing.T, r *Rig) commit.Report {
	t.Helper()
	rep, err := r.Check(r.Began)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Err() != nil {
		rep.Write(testLog{t})
		t.Fatal(rep.Err())
	}
	for _, p := range []string{"TCP", "UDP", "ARP", "ICMPv6NeighborAdvertisement"} {
		if rep.Protocols[p] == 0 {
			t.Errorf("no %s among the %d frames that were held: %v", p, rep.Held, rep.Protocols)
		}
	}
	if rep.Ledger.Linked < 100 {
		t.Errorf("the ledger is not shown to go on: %+v", rep.Ledger)
	}
	return rep
}
