package sim

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// Tell plays a schedule again and tells what happened, to be read by an operator: what
// there was, then a line for each fault, each decision of the cluster and each thing that a
// host did about it, with the time since the start.
func Tell(out io.Writer, s Schedule, m Mutant) (*Violation, Stats) {
	s.tell(out, m)
	w := NewWorld(func(at time.Duration, who, what string) {
		fmt.Fprintf(out, "%9.3f s  %-8s %s\n", at.Seconds(), who, what)
	})
	v, stats := w.Run(s, m)
	if v == nil {
		fmt.Fprintf(out, "%9.3f s  %-8s all is well\n", stats.Simulated.Seconds(), "checker")
	}
	return v, stats
}

func (s Schedule) tell(out io.Writer, m Mutant) {
	fmt.Fprintf(out, "Seed %d", s.Seed)
	if s.Salt > 0 {
		fmt.Fprintf(out, ", salt %d", s.Salt)
	}
	fmt.Fprintf(out, ": %d hosts, the managers are %s; a message takes %v", s.Hosts, strings.Join(names[:s.Managers], ", "), s.Latency)
	if s.Jitter > 0 {
		fmt.Fprintf(out, " to %v", (s.Latency + s.Jitter).Round(10*time.Microsecond))
	}
	if s.Loss > 0 {
		fmt.Fprintf(out, ", %d of 1000 are lost", s.Loss)
	}
	fmt.Fprintln(out, ".")
	if s.Seasoned {
		fmt.Fprintln(out, "The hosts have known each other for long: who is regular may not be silent for long.")
	}
	if s.Second {
		fmt.Fprintln(out, "Heartbeats go by the guests' network too.")
	}
	for i, g := range s.VMs {
		fmt.Fprintf(out, "%s runs on %s, epochs of %s", domains[i], names[g.Primary], ms(g.Epoch))
		if g.Mode == core.Checkpoint {
			fmt.Fprint(out, ", output not held")
		}
		if g.Anew {
			fmt.Fprint(out, ", started anew if its memory is lost")
		}
		if g.Pinned >= 0 {
			fmt.Fprintf(out, ", its backup may be %s only", names[g.Pinned])
		}
		fmt.Fprintln(out, ".")
	}
	if m != NoMutant {
		fmt.Fprintf(out, "Built in on purpose: %s.\n", m)
	}
}
