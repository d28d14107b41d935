package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/lab"
)

func TestMain(m *testing.M) {
	lab.Init()
	os.Exit(m.Run())
}

func all(t *testing.T) []fault {
	t.Helper()
	list, err := catalogue()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestCatalogueIsSound: every fault has a name of its own, and its scripts are sh.
func TestCatalogueIsSound(t *testing.T) {
	names := map[string]bool{}
	for _, f := range all(t) {
		if names[f.Name] {
			t.Errorf("two faults are called %s", f.Name)
		}
		names[f.Name] = true
		if f.Power {
			continue
		}
		for _, script := range []string{f.script(labSite, "id", f.Lasts[1]), f.seen(labSite, "id")} {
			cmd := exec.Command("sh", "-n")
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s\n%s", f.Name, err, out, script)
			}
		}
	}
	fit, err := choose(all(t), string(lab.Container), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fit { // a container's clock and disk are this machine's
		if strings.Contains(f.Do, "date -s") || strings.Contains(f.Do, "fsfreeze") || strings.Contains(f.Do, "sysrq") {
			t.Errorf("%s is not for containers", f.Name)
		}
	}
	if _, err := choose(all(t), string(lab.Container), true, []string{"clock-ahead"}); err == nil {
		t.Error("clock-ahead is taken for containers")
	}
}

func TestBadCatalogues(t *testing.T) {
	good := "{name: a, what: b, on: [primary], lasts: [1s, 2s], do: x, undo: y, seen: z}"
	if _, err := parseCatalogue([]byte("- " + good)); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"on: [primary]": "on: [nobody]", "lasts: [1s, 2s], ": "", "undo: y, ": "", "seen: z": "sean: z", "[1s, 2s]": "[2s, 1s]", "what: b": "what: '{c}'", "do: x, ": "",
	} {
		if _, err := parseCatalogue([]byte("- " + strings.Replace(good, from, to, 1))); err == nil {
			t.Errorf("%s instead of %s is accepted", to, from)
		}
	}
}

// TestSchedules: a seed gives the same schedules again, in any order, and what a report
// says of one can be given back.
func TestSchedules(t *testing.T) {
	list := all(t)
	doubled, names := 0, map[string]bool{}
	for n := range 300 {
		steps := draw(list, 7, n)
		if again := draw(list, 7, n); !reflect.DeepEqual(steps, again) {
			t.Fatalf("run %d: %v, and then %v", n, steps, again)
		}
		if len(steps) == 2 && steps[1].After.Duration < time.Second {
			doubled++
		}
		for _, s := range steps {
			names[s.Fault] = true
			if l := s.Lasts.Duration; l < s.fault.Lasts[0] || l > s.fault.Lasts[1] {
				t.Errorf("%v", s)
			}
		}
	}
	if doubled < 50 || len(names) != len(list) {
		t.Errorf("%d of 300 runs have two faults; %d of %d faults occur", doubled, len(names), len(list))
	}
	steps := draw(list, 7, 0)
	text, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "schedule")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if back, err := readSchedule(path, list); err != nil || !reflect.DeepEqual(back, steps) {
		t.Errorf("%v became %v (%v)", steps, back, err)
	}
	for _, bad := range []string{"[]", "[{fault: nonsense}]", "[{fault: power-off, weight: 3}]", "[{fault: qemu-killed, lasts: 1s}]"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readSchedule(path, list); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// fake is an executor of three hosts that answers every script alike.
type fake struct {
	says string
	ran  []string
}

func (f *fake) hosts() []string                        { return []string{"h1", "h2", "h3"} }
func (f *fake) kind() string                           { return realHost }
func (f *fake) powerOff(context.Context, string) error { return errors.New("no power switch") }
func (f *fake) powerOn(context.Context, string) error  { return nil }
func (f *fake) run(_ context.Context, host, _ string) (string, error) {
	f.ran = append(f.ran, host)
	return f.says, nil
}

// TestInject: what cannot be done is told, and what cannot be undone is an error.
func TestInject(t *testing.T) {
	for _, c := range []struct {
		fault, says, missed string
		stuck               bool
	}{
		{"hamgr-stopped", "done\nundone\n", "", false},
		{"hamgr-stopped", "pkill: no such program\nfailed\n", "no such program", false},
		{"hamgr-stopped", "done\nstuck\n", "", true},
		{"power-off", "", "no power switch", false},
	} {
		f, err := named(all(t), c.fault)
		if err != nil {
			t.Fatal(err)
		}
		x := &fake{says: c.says}
		in := injector{executor: x, site: labSite, now: func() (standing, error) { return standing{Primary: "h2", Backup: "h3"}, nil }}
		out, err := in.inject(t.Context(), []step{{Fault: f.Name, On: primary, Lasts: span{time.Millisecond}, fault: f}})
		if (err != nil) != c.stuck || out[0].Host != "h2" || !strings.Contains(out[0].Missed, c.missed) || (out[0].Missed == "") != (c.missed == "") {
			t.Errorf("%+v: %+v, %v", c, out, err)
		}
	}
}

func TestDryRunShowsAllAndDoesNothing(t *testing.T) {
	var out bytes.Buffer
	o := options{runs: 30, seed: 3, ssh: "a=root@192.0.2.1,b,c", via: defaultVia, dry: true, progress: &out, site: labSite}
	if err := o.main(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"on a:", "on b:", "on c:", "fsfreeze", "undo()"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
