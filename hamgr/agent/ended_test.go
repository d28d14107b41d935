package agent

import (
	"os/exec"
	"testing"

	"github.com/hamgr/hamgr/detector"
	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/domain"
)

// TestEnded: only a process that calls its own end a success has not crashed where libvirt says
// it has; whatever was killed has.
func TestEnded(t *testing.T) {
	for script, want := range map[string]rules.Guest{"exit 0": rules.Ended, "exit 1": rules.Crashed, "kill -KILL $$": rules.Crashed, "kill -ABRT $$": rules.Crashed} {
		cmd := exec.Command("sh", "-c", "read x; "+script)
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := detector.WatchProcess(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if got := ended(domain.EndCrash, p); got != rules.Crashed {
			t.Errorf("%s: while it lives, %v", script, got)
		}
		in.Close()
		<-p.Ended()
		if got := ended(domain.EndCrash, p); got != want {
			t.Errorf("%s: %v, want %v", script, got, want)
		}
		if got := ended(domain.EndPanic, p); got != rules.Panicked {
			t.Errorf("%s: a panic is %v", script, got)
		}
		cmd.Wait()
		p.Close()
	}
	if got := ended(domain.EndCrash, nil); got != rules.Crashed {
		t.Errorf("of no process: %v", got)
	}
}
