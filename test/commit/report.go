package commit

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// Kind names what a violation breaks.
type Kind string

// The kinds of violations.
const (
	Leak        Kind = "leak"         // left before a commit explained it (I1)
	NotOwner    Kind = "not-owner"    // left a host from which the cluster had taken the guest (I2)
	NotRestored Kind = "not-restored" // was seen, and the restored checkpoint is older (I5)
	RolledBack  Kind = "rolled-back"  // the guest contradicts what it said before (I5)
	Strange     Kind = "strange"      // came out of the host, but not out of the guest
	Reordered   Kind = "reordered"    // left before what one NIC had sent in an earlier epoch
	Late        Kind = "late"         // left after newer epochs were committed
	Missing     Kind = "missing"      // was committed, and never left
	Gap         Kind = "gap"          // a request over UDP that nobody answered, outside of any failure
)

// Violation is one broken promise.
type Violation struct {
	Kind   Kind      `json:"kind"`
	Host   string    `json:"host"`
	Time   time.Time `json:"time"`
	Detail string    `json:"detail"`
}

// maxViolations bounds those that are listed; all are counted.
const maxViolations = 50

// Report is what a Check found. Times in milliseconds.
type Report struct {
	Violations []Violation  `json:"violations"`
	Count      map[Kind]int `json:"count"` // of violations, by kind

	Emitted          int            `json:"frames_emitted"`     // by the guest
	Seen             int            `json:"frames_seen"`        // of these, on the network
	Held             int            `json:"frames_held"`        // of these, while output was to be held
	Protocols        map[string]int `json:"protocols_held"`     // Held, by protocol
	Announcements    int            `json:"announcements"`      // by hamgr, of a restored guest
	Restores         int            `json:"restores"`           // failovers
	RolledBackFrames int            `json:"frames_rolled_back"` // seen and not restored, in checkpoint mode
	Rollbacks        int            `json:"rollbacks"`          // contradictions, in checkpoint mode
	Epochs           int            `json:"epochs"`             // committed

	Silence float64 `json:"longest_silence_ms"` // in which the network saw nothing of the guest

	Commit Quantiles `json:"commit_ms"`    // from an epoch's end to its commit
	Hold   Quantiles `json:"hold_ms"`      // from emission to network, of held frames
	After  Quantiles `json:"after_ms"`     // from commit to network, of held frames
	Burst  Quantiles `json:"burst_frames"` // frames of one epoch that had any
	Spread Quantiles `json:"burst_ms"`     // from the first to the last frame of one epoch

	Ledger Ledger `json:"ledger"`
	UDP    UDP    `json:"udp"`

	from          time.Time // nothing before is judged or counted
	holds         []point   // of held frames, for the picture
	bursts        []point   // frames of each epoch
	commits       []float64
	spread, after []float64
}

// point is a value at a time.
type point struct {
	at    time.Time
	value float64
}

// Quantiles of some values.
type Quantiles struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func quantiles(values []float64) Quantiles {
	n := len(values)
	if n == 0 {
		return Quantiles{}
	}
	v := slices.Sorted(slices.Values(values))
	q := func(f float64) float64 { return v[int(f*float64(n-1))] }
	return Quantiles{N: n, P50: q(0.5), P90: q(0.9), P99: q(0.99), Max: v[n-1]}
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

func (r *Report) violation(k Kind, host string, at time.Time, format string, args ...any) {
	if at.Before(r.from) {
		return
	}
	if r.Count == nil {
		r.Count = map[Kind]int{}
	}
	r.Count[k]++
	if len(r.Violations) < maxViolations {
		r.Violations = append(r.Violations, Violation{k, host, at, fmt.Sprintf(format, args...)})
	}
}

// Err is nil when nothing was violated.
func (r *Report) Err() error {
	if len(r.Violations) == 0 {
		return nil
	}
	v := r.Violations[0]
	return fmt.Errorf("output commit was broken: %v; first listed: %s on %s at %s: %s", r.Count, v.Kind, v.Host, v.Time.Format(time.StampMicro), v.Detail)
}

// Write puts the report as JSON.
func (r *Report) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// add counts one host's frames.
func (r *Report) add(m matched, o *output) {
	if r.Protocols == nil {
		r.Protocols = map[string]int{}
	}
	bursts := map[int][]time.Time{}
	r.Announcements += m.announces
	for _, s := range m.emitted {
		if s.Time.Before(r.from) {
			continue
		}
		r.Emitted++
		if s.seen.IsZero() {
			continue
		}
		r.Seen++
		if s.state != held {
			continue
		}
		r.Held++
		r.Protocols[s.kind]++
		r.holds = append(r.holds, point{s.seen, ms(s.seen.Sub(s.Time))})
		if b := s.boundary; b >= 0 && o.boundaries[b].generation == s.generation && !o.boundaries[b].commit.IsZero() {
			bursts[s.boundary] = append(bursts[s.boundary], s.seen)
		}
	}
	r.shape(bursts, o)
}

// shape is that of the bursts in which held frames leave.
func (r *Report) shape(bursts map[int][]time.Time, o *output) {
	for b, seen := range bursts {
		first, last := slices.MinFunc(seen, time.Time.Compare), slices.MaxFunc(seen, time.Time.Compare)
		r.spread = append(r.spread, ms(last.Sub(first)))
		for _, at := range seen {
			r.after = append(r.after, ms(at.Sub(o.boundaries[b].commit)))
		}
		r.bursts = append(r.bursts, point{first, float64(len(seen))})
	}
}

// finish sums up what all hosts did.
func (r *Report) finish(t *timeline) {
	for _, o := range t.hosts {
		for _, b := range o.boundaries {
			if !b.commit.IsZero() && !b.at.Before(r.from) {
				r.commits = append(r.commits, ms(b.commit.Sub(b.at)))
			}
		}
	}
	r.sum()
}

func (r *Report) sum() {
	r.Epochs, r.Commit = len(r.commits), quantiles(r.commits)
	r.Hold, r.Burst = quantiles(values(r.holds)), quantiles(values(r.bursts))
	r.Spread, r.After = quantiles(r.spread), quantiles(r.after)
}

func values(ps []point) (out []float64) {
	for _, p := range ps {
		out = append(out, p.value)
	}
	return out
}
