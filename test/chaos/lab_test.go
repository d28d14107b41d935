package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/testbed"
)

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// bench is one host with a guest, and a client.
type bench struct {
	*testbed.Bed
	labKind lab.Kind
}

func (b bench) hosts() []string { return b.Nodes() }
func (b bench) kind() string    { return string(b.labKind) }
func (b bench) powerOff(_ context.Context, host string) error {
	_, err := b.Host(host).PowerOff()
	return err
}
func (b bench) powerOn(_ context.Context, host string) error { return b.Host(host).Start() }
func (b bench) run(ctx context.Context, host, script string) (string, error) {
	return runScript(b.Host(host).Command(ctx, "sh", "-s"), host, script)
}

// TestEachFaultIsDoneAndUndone: every fault for containers is in force after it was done,
// and is no more when its time is over.
func TestEachFaultIsDoneAndUndone(t *testing.T) { eachFault(t, lab.Container) }

// TestEachFaultOnKernels does so on a host with a kernel, and a clock, of its own, where a
// network is cut by other means.
func TestEachFaultOnKernels(t *testing.T) { eachFault(t, lab.UML) }

func eachFault(t *testing.T, kind lab.Kind) {
	if testing.Short() {
		t.Skip("makes a lab")
	}
	bed, err := testbed.Up(t.Context(), testbed.Options{Hosts: 1, Kind: kind, Out: t.TempDir(), Progress: testLog{t}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Down)
	b := bench{bed, kind}
	if err := b.StartGuest(t.Context(), "h1", 128); err != nil {
		t.Fatal(err)
	}
	faults, err := choose(all(t), string(kind), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if kind == lab.UML { // those that containers do not show
		faults = slices.DeleteFunc(faults, func(f fault) bool { return !f.Power && len(f.Hosts) == 0 && f.vars["way"] != "both" })
	}
	slices.SortStableFunc(faults, func(x, y fault) int { return fate(x) - fate(y) })
	for _, f := range faults {
		t.Run(f.Name, func(t *testing.T) { b.tryOut(t, f) })
	}
}

// fate puts last what a guest does not outlive.
func fate(f fault) int {
	switch {
	case f.Power:
		return 2
	case strings.HasPrefix(f.Name, "qemu-killed"):
		return 1
	}
	return 0
}

func (b bench) tryOut(t *testing.T, f fault) {
	ctx := t.Context()
	lasts := 1500 * time.Millisecond
	if b.labKind == lab.UML {
		lasts = 4 * time.Second
	}
	if f.Lasts[1] == 0 {
		lasts = 0
	}
	const id = "try"
	before := b.look(ctx, f, id)
	in := injector{executor: b, site: labSite, id: id, now: func() (standing, error) { return standing{Primary: "h1"}, nil }}
	ended := make(chan error, 1)
	go func() {
		out, err := in.inject(ctx, []step{{Fault: f.Name, On: primary, Lasts: span{lasts}, fault: f}})
		if err == nil && out[0].Missed != "" {
			err = fmt.Errorf("not done: %s", out[0].Missed)
		}
		ended <- err
	}()
	during := before
	for during == before { // as long as the test may take
		select {
		case err := <-ended:
			ended <- err
			during = b.look(ctx, f, id+"-0")
			for end := time.Now().Add(extra); lasts == 0 && during == before && time.Now().Before(end); { // a killed process may have yet to be run, to end
				during = b.look(ctx, f, id+"-0")
			}
			if lasts > 0 || during == before {
				t.Fatalf("it was not seen to be in force: %q before and after (%v)", before, err)
			}
		default:
			during = b.look(ctx, f, id+"-0")
		}
	}
	b.reaches(t, f)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if after := b.look(ctx, f, id+"-0"); lasts > 0 && after != before {
		t.Fatalf("it is not undone: %q, before %q", after, before)
	}
	for end := time.Now().Add(extra); f.vars["process"] != "" && lasts == 0; { // its supervisor is at work
		if _, err := b.run(ctx, "h1", f.seen(labSite, id)); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nobody has started it again")
		}
	}
}

// look is what a fault sees of itself.
func (b bench) look(ctx context.Context, f fault, id string) string {
	if f.Power {
		return string(b.Host("h1").State())
	}
	out, err := b.run(ctx, "h1", f.seen(labSite, id))
	return fmt.Sprint(err == nil, out)
}

// reaches has a client find out that a cut network is cut.
func (b bench) reaches(t *testing.T, f fault) {
	addr := map[string]string{"management": "10.77.0.1", "guest": "10.78.0.1"}[f.vars["network"]]
	if addr == "" || f.vars["way"] == "" {
		return
	}
	if _, err := b.Host("client").Exec(t.Context(), "ping", "-c1", "-W0.2", addr); err == nil {
		t.Errorf("%s still answers", addr)
	}
}
