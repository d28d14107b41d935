package agent

import (
	"errors"
	"os/exec"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hamgr/hamgr/detector"
	"github.com/hamgr/hamgr/hamgr/domain"
)

// TestFenced: what is over is let be, and what may run, or may come to run, is ended.
func TestFenced(t *testing.T) {
	p, pid := deadCopy(t)
	mute := errors.New("libvirtd does not answer")
	for name, tc := range map[string]struct {
		info       domain.Info
		err        error
		over, died bool
	}{
		"unknown to libvirt":           {domain.Info{}, domain.ErrNoDomain, true, true},
		"shut off":                     {domain.Info{State: "shut off"}, nil, true, false},
		"has died, as libvirt noticed": {domain.Info{State: "shutting down", PID: pid}, nil, true, true},
		"has died, unnoticed":          {domain.Info{State: "running", PID: pid}, nil, false, true},
		"has died, libvirt is away":    {domain.Info{}, mute, false, true},
		"started again":                {domain.Info{State: "running", PID: pid + 1}, nil, false, false},
		"paused":                       {domain.Info{State: "paused", PID: pid + 1}, nil, false, false},
		"asleep":                       {domain.Info{State: "suspended by the guest", PID: pid + 1}, nil, false, false},
	} {
		if over, died := isOver(tc.info, tc.err), p.diedAs(tc.info, tc.err); over != tc.over || died != tc.died {
			t.Errorf("%s: over %t, died %t", name, over, died)
		}
	}
	if never := (&primary{}); never.diedAs(domain.Info{}, mute) {
		t.Error("died without having been seen")
	}
}

// deadCopy is a primary whose QEMU was killed.
func deadCopy(t *testing.T) (p *primary, pid int) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	qemu, err := detector.WatchProcess(cmd.Process.Pid)
	cmd.Process.Kill()
	cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(qemu.Close)
	<-qemu.Ended()
	return &primary{qemu: qemu}, cmd.Process.Pid
}

// TestLateCopiesEnd: by themselves, or when they are stopped, and once.
func TestLateCopiesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends atomic.Int32
		end, begin := func() { ends.Add(1) }, time.Now()
		p := &primary{late: copyUntilStopped(end)}
		time.Sleep(lateMost - time.Millisecond)
		if synctest.Wait(); ends.Load() != 0 {
			t.Errorf("ended before %v", time.Since(begin))
		}
		time.Sleep(time.Millisecond)
		if synctest.Wait(); ends.Load() != 1 {
			t.Errorf("ended %d times after %v", ends.Load(), time.Since(begin))
		}
		p.stopCopying()
		p.late = copyUntilStopped(end)
		p.stopCopying()
		p.stopCopying()
		time.Sleep(2 * lateMost)
		if synctest.Wait(); ends.Load() != 2 || p.late != nil {
			t.Errorf("ended %d times", ends.Load())
		}
	})
}

// TestMayOutlive: a tap is of no use without its QEMU where libvirt does something to it then.
func TestMayOutlive(t *testing.T) {
	plain := domain.NIC{Tap: "vnet0"}
	for _, tc := range []struct {
		nics []domain.NIC
		want bool
	}{
		{nil, true}, {[]domain.NIC{plain, plain}, true},
		{[]domain.NIC{plain, {Tap: "vnet1", Filtered: true}}, false}, {[]domain.NIC{{Tap: "vnet1", OpenVSwitch: true}}, false},
	} {
		if err := mayOutlive(tc.nics); (err == nil) != tc.want {
			t.Errorf("%+v: %v", tc.nics, err)
		}
	}
}
