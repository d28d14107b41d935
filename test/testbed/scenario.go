package testbed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/guest/client"
)

// Scenario protects g1 on h1, takes its host away and watches what a client sees.
type Scenario struct {
	*Bed
	Say  func(what string)
	Show func(text string)
	Seed uint64 // of the client's intervals

	report Report
	client *Client
	backup string // when h1 loses power
	marks  []Mark
}

const (
	requestEvery = 15 * time.Millisecond
	observe      = 3 * time.Second // without, and with protection
)

// Run goes through it all.
func (s *Scenario) Run(ctx context.Context) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience*5*time.Minute)
	defer cancel()
	steps := []func(context.Context) error{s.begin, s.protect, s.powerOff, s.protectedAgain, s.end}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return s.report, err
		}
	}
	return s.report, nil
}

func (s *Scenario) begin(ctx context.Context) error {
	if err := s.WaitCluster(ctx); err != nil {
		return err
	}
	s.versions(ctx)
	if s.patience > 1 {
		s.Say("hamgr check (on each host; what it finds out about QEMU need not be found out in a hurry later)")
		if err := s.Check(ctx); err != nil {
			return err
		}
	}
	s.Say("virsh define g1; virsh start g1 (on h1)")
	if err := s.StartGuest(ctx, "h1", 128); err != nil {
		return err
	}
	s.Say(fmt.Sprintf("a client asks g1 over one TCP connection (seed %d)", s.Seed))
	var err error
	if s.client, err = s.StartClient(ctx, requestEvery, s.Seed); err != nil {
		return err
	}
	from := time.Now()
	time.Sleep(observe)
	s.report.LatencyMS.UnprotectedP50 = s.latency(from, time.Now(), 0.5)
	return nil
}

func (s *Scenario) versions(ctx context.Context) {
	q, _ := s.Host("h1").Exec(ctx, "qemu-system-x86_64", "--version")
	if f := strings.Fields(q); len(f) > 3 {
		s.report.QEMU = f[3]
	}
	v, _ := s.Host("h1").Exec(ctx, "libvirtd", "--version")
	if f := strings.Fields(v); len(f) > 2 {
		s.report.Libvirt = f[2]
	}
}

func (s *Scenario) protect(ctx context.Context) error {
	s.Say("hamgr protect g1")
	s.mark("protect")
	text, err := s.Protect(ctx, "h1", "g1")
	s.Show(text)
	if err != nil {
		return err
	}
	from := time.Now()
	time.Sleep(observe)
	s.report.LatencyMS.ProtectedP50 = s.latency(from, time.Now(), 0.5)
	st, err := s.Status(ctx, "h1")
	if err != nil {
		return err
	}
	s.measured(st)
	text, err = s.Hamgr(ctx, "h1", "status")
	s.Show(text)
	return err
}

func (s *Scenario) measured(st api.Status) {
	if len(st.Protections) != 1 || st.Protections[0].Stats == nil {
		return
	}
	p := st.Protections[0]
	s.report.EpochMS = float64(p.Epoch) / 1e6
	s.report.Backend = p.Stats.Backend
	s.report.PauseMS.P50, s.report.PauseMS.P99 = p.Stats.PauseP50, p.Stats.PauseP99
	s.report.CommitMS.P50, s.report.CommitMS.P99 = p.Stats.CommitP50, p.Stats.CommitP99
}

func (s *Scenario) powerOff(ctx context.Context) error {
	before, err := s.WaitStatus(ctx, "h2", 30*time.Second, "g1 is protected", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Phase == core.Protected
	})
	if err != nil {
		return err
	}
	s.backup = before.Protections[0].Backup
	s.Say("h1 loses power")
	at, err := s.Host("h1").PowerOff()
	if err != nil {
		return err
	}
	s.marks = append(s.marks, Mark{"power-off", at})
	_, err = s.WaitStatus(ctx, "h2", 20*time.Second, "g1 runs on another host", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Primary != "h1" && g.Phase != core.Recovering
	})
	if err != nil {
		return err
	}
	return s.decided(ctx, at)
}

// decided takes the times of the failover from the cluster's own events; all hosts of
// the lab share one clock.
func (s *Scenario) decided(ctx context.Context, at time.Time) error {
	ev, err := s.Events(ctx, "h2")
	if err != nil {
		return err
	}
	var decided, running time.Time
	for _, e := range ev {
		switch {
		case e.Kind == core.FailOver:
			decided = e.Time
		case e.Kind == core.Restored:
			running = e.Time
		}
	}
	if decided.IsZero() || running.IsZero() {
		return fmt.Errorf("no failover among the events: %+v", ev)
	}
	s.marks = append(s.marks, Mark{"detected", decided}, Mark{"running", running})
	s.report.DetectMS, s.report.RestoreMS = ms(decided.Sub(at)), ms(running.Sub(decided))
	s.Say(fmt.Sprintf("detected after %.0f ms, running again %.0f ms later", s.report.DetectMS, s.report.RestoreMS))
	return nil
}

func (s *Scenario) protectedAgain(ctx context.Context) error {
	st, err := s.WaitStatus(ctx, "h2", 30*time.Second, "g1 is protected again", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Phase == core.Protected && g.Primary == s.backup && g.Backup != "" && g.Backup != "h1"
	})
	if err != nil {
		return err
	}
	since := st.Protections[0].Since
	s.marks = append(s.marks, Mark{"protected again", since})
	s.report.Reprotected, s.report.ReprotectMS = true, ms(since.Sub(s.at("running")))
	time.Sleep(observe)
	text, err := s.Hamgr(ctx, "h2", "status")
	s.Show(text)
	return err
}

func (s *Scenario) end(context.Context) error {
	if s.client.Failed() {
		s.Say("the client gave up")
	}
	r, err := s.client.Stop(s.Bed)
	if err != nil {
		return err
	}
	s.report.TCPReset, s.report.Lost, s.report.RolledBack = r.TCPReset, r.Lost, r.RolledBack
	s.report.Requests, s.report.ClientError = r.Requests, r.Error
	s.report.samples, s.report.marks = s.client.Samples(), s.marks
	s.report.OutageMS = ms(Outage(s.report.samples, s.at("power-off")))
	return s.alarms()
}

func (s *Scenario) alarms() error {
	list, err := s.Alarms()
	if err != nil {
		return err
	}
	for _, a := range list {
		s.Show(fmt.Sprintf("  inspector: %-28s %s %s\n", a.Event.Type, a.Event.Details["hostname"], a.Event.Details["cause"]))
		if a.Event.Type == "compute.host.down" {
			s.report.AlarmMS = ms(a.Received.Sub(s.at("detected")))
		}
	}
	if s.report.AlarmMS == 0 {
		return fmt.Errorf("the inspector was not told that h1 is down: %+v", list)
	}
	return nil
}

func (s *Scenario) mark(name string) { s.marks = append(s.marks, Mark{name, time.Now()}) }

func (s *Scenario) at(name string) time.Time {
	i := slices.IndexFunc(s.marks, func(m Mark) bool { return m.Name == name })
	return s.marks[i].At
}

// latency is a quantile of the answers to requests sent in a time, in milliseconds.
func (s *Scenario) latency(from, to time.Time, q float64) float64 {
	return Quantile(s.client.Samples(), from, to, q)
}

// Outage is the longest time without an answer that ended in the 20 s after at.
func Outage(samples []client.Sample, at time.Time) (longest time.Duration) {
	var last time.Time
	for _, x := range samples {
		got := x.Sent.Add(x.Latency)
		if !last.IsZero() && got.After(at) && got.Before(at.Add(20*time.Second)) {
			longest = max(longest, got.Sub(last))
		}
		last = got
	}
	return longest
}

// LongestGap is the longest time without an answer between two moments.
func LongestGap(samples []client.Sample, from, to time.Time) (longest time.Duration) {
	last := from
	for _, x := range samples {
		if got := x.Sent.Add(x.Latency); got.After(from) && got.Before(to) {
			longest, last = max(longest, got.Sub(last)), got
		}
	}
	return longest
}

// Quantile of the latencies of requests sent between two times, in milliseconds.
func Quantile(samples []client.Sample, from, to time.Time, q float64) float64 {
	var l []time.Duration
	for _, x := range samples {
		if x.Sent.After(from) && x.Sent.Before(to) {
			l = append(l, x.Latency)
		}
	}
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return ms(l[int(q*float64(len(l)-1))])
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
