package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/commit/load"
	"github.com/hamgr/hamgr/test/guest/client"
	"github.com/hamgr/hamgr/test/testbed"
)

// verdict is what became of one run. Times in milliseconds.
type verdict struct {
	Run        int                 `json:"run"`
	Steps      []step              `json:"schedule"`
	Faults     []done              `json:"faults"`
	Violations []string            `json:"violations,omitempty"` // the first of each kind
	Count      int                 `json:"violation_count,omitempty"`
	Unserved   string              `json:"unserved,omitempty"` // why the guest was not well again, and should have been
	Lost       bool                `json:"lost,omitempty"`     // it is gone, as faults like these may cost it
	Unjudged   []string            `json:"unjudged,omitempty"` // what could not be checked
	Incidental map[commit.Kind]int `json:"incidental,omitempty"`
	Moved      int                 `json:"failovers"`
	OutageMS   float64             `json:"outage_ms"`   // longest time in which no client was answered
	RecoveryMS float64             `json:"recovery_ms"` // from the end of the last fault to protected and answering
	Requests   int                 `json:"requests"`
	Evidence   string              `json:"evidence,omitempty"`

	from  time.Time
	asks  []load.Exchange
	story []standing
	deaf  bool // frames were not recorded: nor will the next run's be judged
}

const maxTold = 10 // violations of a run that are listed

func (v *verdict) broken(format string, args ...any) {
	v.Count++
	if len(v.Violations) < maxTold {
		v.Violations = append(v.Violations, fmt.Sprintf(format, args...))
	}
}

// excused decides what it means that the guest is not well. A loss that the faults do not
// explain is a broken promise.
func (v *verdict) excused(why error) {
	switch {
	case why == nil:
	case why != errLost:
		v.Unserved = why.Error()
	case lossAllowed(v.Faults, v.story):
		v.Lost = true
	default:
		v.broken("%v, and these faults do not explain it", why)
	}
}

// outageSeen looks at the answers from the first fault on, and counts the failovers.
func (v *verdict) outageSeen() {
	v.Requests = len(v.asks)
	if len(v.asks) > 0 {
		v.OutageMS = ms(outage(v.asks, v.from, v.asks[len(v.asks)-1].Got))
	}
	v.Moved = failovers(v.story, v.from)
}

// failovers counts those in a story, from an instant on.
func failovers(story []standing, from time.Time) (n int) {
	for i, s := range story {
		if i > 0 && s.Time.After(from) && s.Phase == core.Recovering && story[i-1].Phase != core.Recovering {
			n++
		}
	}
	return n
}

func (v *verdict) jumped() bool {
	return slices.ContainsFunc(v.Faults, func(d done) bool { return strings.HasPrefix(d.Fault, "clock-") })
}

// frames adds what the frames showed.
func (v *verdict) frames(r commit.Report) {
	excused := excuses(v.Faults)
	list, n := promises(r, excused)
	for _, b := range list {
		v.broken("%s on %s at %s: %s", b.Kind, b.Host, b.Time.Format("15:04:05.000"), b.Detail)
	}
	v.Count += max(0, n-len(list))
	for _, k := range excused {
		if r.Count[k] > 0 {
			if v.Incidental == nil {
				v.Incidental = map[commit.Kind]int{}
			}
			v.Incidental[k] = r.Count[k]
		}
	}
}

// bad says that the run failed.
func (v *verdict) bad() bool { return v.Count > 0 || v.Unserved != "" }

// over says that the guest is not one to go on with.
func (v *verdict) over() bool { return v.bad() || v.Lost }

// line is the run for people.
func (v *verdict) line() string {
	var parts []string
	for _, d := range v.Faults {
		text := d.step.String()
		if d.Host != "" {
			text += " (" + d.Host + ")"
		}
		if d.Missed != "" {
			text += ", not done"
		}
		parts = append(parts, text)
	}
	end := fmt.Sprintf("no answer for %.0f ms, %d failovers, well %.1f s after", v.OutageMS, v.Moved, v.RecoveryMS/1000)
	switch {
	case v.Count > 0:
		end = fmt.Sprintf("VIOLATION: %s", v.Violations[0])
	case v.Unserved != "":
		end = "UNSERVED: " + v.Unserved
	case v.Lost:
		end = "lost, as both of its copies were"
	}
	return strings.Join(parts, "; ") + ": " + end
}

// plot draws each request's latency, the faults and the cluster's decisions.
func (v *verdict) plot(path string) error {
	var samples []client.Sample
	for _, x := range v.asks {
		samples = append(samples, client.Sample{Sent: x.Sent, Latency: x.Got.Sub(x.Sent)})
	}
	var marks []testbed.Mark
	for _, d := range v.Faults {
		marks = append(marks, testbed.Mark{Name: d.Fault + " " + d.Host, At: d.From})
		if d.Lasts.Duration > 0 {
			marks = append(marks, testbed.Mark{Name: "over", At: d.Until})
		}
	}
	for i, s := range v.story {
		if s.Time.After(v.from) && (i == 0 || v.story[i-1].Phase != s.Phase) {
			marks = append(marks, testbed.Mark{Name: fmt.Sprintf("%s %s", s.Phase, s.Primary), At: s.Time})
		}
	}
	return testbed.Timeline(path, "latency of each request", samples, marks)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
