package rules

import (
	"testing"

	"github.com/hamgr/hamgr/hamgr/core"
)

func order(p core.Phase) core.Protection {
	return core.Protection{Domain: "g1", UUID: "u", Primary: "h1", Backup: "h2", Mode: core.Buffer, Generation: 4, Phase: p}
}

func TestPrimary(t *testing.T) {
	for _, c := range []struct {
		node     string
		phase    core.Phase
		adopting bool
		guest    Guest
		want     Duty
	}{
		{"h1", core.Protected, false, Running, Session},
		{"h1", core.Protected, false, Unknown, Session},
		{"h1", core.Protected, true, Running, Tell},
		{"h1", core.Protected, false, Crashed, Tell},
		{"h1", core.Syncing, true, Crashed, Tell},
		{"h1", core.Solo, true, Running, Open},
		{"h1", core.Solo, true, Unknown, Open},
		{"h1", core.Solo, false, Ended, Tell},
		{"h1", core.Recovering, true, Crashed, Finish},
		{"h1", core.Lost, true, Running, Finish},
		{"h1", core.Lost, true, Crashed, Stop},
		{"h2", core.Protected, false, Running, Fence},
		{"h2", core.Lost, false, Crashed, Fence},
		{"h2", core.Recovering, false, Crashed, Fence},
	} {
		if got := Primary(c.node, order(c.phase), c.adopting, c.guest); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestALostGuestIsStarted(t *testing.T) {
	o := order(core.Recovering)
	o.Cold = true
	if got := Primary("h1", o, true, Unknown); got != Start {
		t.Errorf("here: %v", got)
	}
	if got := Primary("h2", o, false, Running); got != Fence {
		t.Errorf("elsewhere: %v", got)
	}
}

// TestADeadGuestIsNotLeftAlone: its replica is what is left of it.
func TestADeadGuestIsNotLeftAlone(t *testing.T) {
	for _, c := range []struct {
		phase core.Phase
		guest Guest
		want  core.Kind
	}{
		{core.Protected, Running, core.GoSolo},
		{core.Protected, Unknown, core.GoSolo},
		{core.Protected, Crashed, core.FailOver},
		{core.Syncing, Crashed, core.MarkLost},
		{core.Solo, Crashed, core.MarkLost},
		{core.Protected, Ended, core.Unprotect},
		{core.Protected, Panicked, core.MarkLost},
	} {
		got := AfterSession(order(c.phase), c.guest, "why")
		if got.Kind != c.want || got.Generation != 4 || got.Silenced != (c.want == core.FailOver || c.guest == Panicked) || got.Stopped != (c.want == core.MarkLost) {
			t.Errorf("%s, guest %v: %+v", c.phase, c.guest, got)
		}
	}
	if c := AfterRestore(order(core.Recovering), Unknown); c.Kind != core.MarkLost || !c.Stopped {
		t.Errorf("restored, though nobody has seen it: %+v", c)
	}
}

// TestGone: a node that missed a failover does not open the output of a stale copy.
func TestGone(t *testing.T) {
	for _, c := range []struct {
		owner string
		gen   uint64
		known bool
		want  Duty
	}{
		{"h1", 4, true, Release},
		{"h1", 7, true, Release},
		{"h2", 5, true, Fence},
		{"h1", 3, true, Stop}, // of an earlier protection of that name
		{"", 0, false, Stop},
	} {
		if got := Gone("h1", 4, core.Ended{Primary: c.owner, Generation: c.gen}, c.known); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestOutput(t *testing.T) {
	for _, c := range []struct {
		mode, wanted core.Mode
		moving       bool
		hold, letGo  bool
	}{
		{core.Buffer, "", false, true, false},
		{core.Buffer, core.Checkpoint, false, false, false}, // as it was: held
		{core.Checkpoint, "", false, false, true},
		{core.Checkpoint, core.Buffer, false, true, false},
		{core.Checkpoint, "", true, true, false},
		{core.Buffer, core.Checkpoint, true, true, false},
	} {
		o := order(core.Protected)
		o.Mode, o.Wanted, o.Moving = c.mode, c.wanted, c.moving
		if hold, letGo := Boundary(o); hold != c.hold || letGo != c.letGo {
			t.Errorf("%+v: hold %v, let go %v", c, hold, letGo)
		}
	}
	o := order(core.Protected)
	o.Wanted = core.Checkpoint
	if tell, _ := ModeStep(o, true, ""); !tell {
		t.Error("a wish is not told")
	}
	if tell, _ := ModeStep(o, true, core.Checkpoint); tell {
		t.Error("a wish is told twice")
	}
	o.Mode, o.Wanted = core.Checkpoint, core.Buffer
	if tell, _ := ModeStep(o, false, ""); tell {
		t.Error("buffer is said to be in force, and nothing is held")
	}
	if MayExtend("h2", &o) || MayExtend("h1", nil) || !MayExtend("h1", &o) {
		t.Error("a lease for a guest of another node")
	}
}

func TestReplicas(t *testing.T) {
	r := Replica{"g1", "u", 4}
	s := core.State{Protections: map[string]core.Protection{"g1": order(core.Syncing)}}
	if Admit("h2", s, r) != Admitted || Admit("h3", s, r) != NotMine || Admit("h2", s, Replica{"g1", "u", 3}) != Stale ||
		Admit("h2", s, Replica{"g1", "other", 4}) != NotMine || Admit("h2", core.State{}, r) != NotMine {
		t.Error("admission")
	}
	over := order(core.Recovering)
	over.Primary, over.Backup, over.Generation = "h2", "", 5
	if !TakesOver("h2", over, r) || TakesOver("h2", over, Replica{"g1", "u", 3}) || TakesOver("h1", over, r) {
		t.Error("taking over")
	}
	solo := order(core.Solo)
	solo.Generation, solo.Backup = 5, ""
	if Obsolete("h2", r, over, true) || Obsolete("h2", r, order(core.Protected), true) ||
		!Obsolete("h2", r, solo, true) || !Obsolete("h2", r, core.Protection{}, false) {
		t.Error("obsolete")
	}
}

func TestLeased(t *testing.T) {
	for _, c := range []struct {
		phase core.Phase
		mode  core.Mode
		loss  core.LossPolicy
		want  bool
	}{
		{core.Protected, core.Buffer, core.OnLossStop, false},
		{core.Solo, core.Buffer, "", false},
		{core.Syncing, core.Checkpoint, "", true},
		{core.Protected, core.Checkpoint, "", true},
		{core.Solo, core.Checkpoint, "", false}, // nobody may take it from here
		{core.Solo, core.Buffer, core.OnLossRestart, true},
		{core.Syncing, core.Buffer, core.OnLossRestart, true},
		{core.Recovering, core.Buffer, core.OnLossRestart, true},
	} {
		o := order(c.phase)
		o.Mode, o.OnLoss = c.mode, c.loss
		if got := Leased(o); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestACopyOfAFormerTime is of a node that missed being fenced, and is given the guest again.
func TestACopyOfAFormerTime(t *testing.T) {
	o := order(core.Lost)
	if got := Primary("h1", o, false, Running); got != Finish {
		t.Errorf("a guest that was only out of sight: %v", got)
	}
	if o.Unrun = true; Primary("h1", o, false, Running) != Fence {
		t.Error("one that was to be started here, and is here already")
	}
	if o.Phase = core.Recovering; MayKeep(o, 0) || !MayKeep(o, o.Generation) {
		t.Error("what is here is kept, or what was started is not")
	}
	if o.Unrun = false; !MayKeep(o, 0) {
		t.Error("the guest itself is not kept")
	}
}
