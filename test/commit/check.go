package commit

import (
	"cmp"
	"encoding/json"
	"os"
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/trace"
)

// Options say what is checked.
type Options struct {
	Domain string
	MACs   []string // of the guest's NICs
	Port   uint16   // of the ledger; 7000 if zero
	// From is when judging begins. What was seen before explains what follows; the first
	// seconds of a capture need that, as frames are held when it begins.
	From time.Time
	// Asked is when requests over UDP begin to be judged, by when they were first sent: what
	// came before met something that is not to be judged. Zero: From, as Answer says.
	Asked time.Time
	// Faults are what was done to the hosts.
	Faults []Fault
	// Clocks is by how much the clocks of network, primary and backup may differ, after
	// what is known of that was corrected.
	Clocks time.Duration
	// Way is what a request may take from a client's port to QEMU's hands. 5 ms if zero.
	Way time.Duration
	// Answer is within what time a request is answered that is not lost: what comes later
	// before the end of the capture is left to the next check. DefaultAnswer if zero.
	Answer time.Duration
}

// Save writes the options to a file, as JSON, for LoadOptions.
func (o Options) Save(file string) error {
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// LoadOptions reads what Save has written.
func LoadOptions(file string) (o Options, err error) {
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	return o, err
}

const (
	defaultPort = 7000
	defaultWay  = 5 * time.Millisecond
	// DefaultAnswer is Options.Answer where that is zero.
	DefaultAnswer = time.Second
	// slack is what a released frame may take from the buffer to the network on a busy
	// machine before it counts as late or lost.
	slack = 100 * time.Millisecond
)

// checker is one Check under way.
type checker struct {
	Options
	timeline *timeline
	packets  []packet // all, by time
	matched  map[string]matched
	report   *Report
}

// Check judges what was seen by what the nodes say they did.
func Check(frames []Frame, events []trace.Event, o Options) Report {
	o.Port, o.Answer, o.Way = cmp.Or(o.Port, defaultPort), cmp.Or(o.Answer, DefaultAnswer), cmp.Or(o.Way, defaultWay)
	c := checker{Options: o, timeline: newTimeline(o.Domain, events), matched: map[string]matched{}, report: &Report{from: o.From}}
	for _, f := range frames {
		c.packets = append(c.packets, dissect(f))
	}
	byTime(c.packets)
	for _, host := range c.hosts() {
		c.host(host)
	}
	c.silence()
	c.restores()
	c.ledger()
	c.report.finish(c.timeline)
	return *c.report
}

// silence is the longest time in which nothing of the guest was seen outside.
func (c *checker) silence() {
	var last time.Time
	for _, p := range c.packets {
		if p.Device != "" || !c.guests(p) || p.Time.Before(c.From) || p.kind == "RARP" {
			continue
		}
		if !last.IsZero() {
			c.report.Silence = max(c.report.Silence, ms(p.Time.Sub(last)))
		}
		last = p.Time
	}
}

// hosts are those with a trace, and those whose network port the guest was seen at.
func (c *checker) hosts() (names []string) {
	for h := range c.timeline.hosts {
		names = append(names, h)
	}
	for _, p := range c.packets {
		if c.guests(p) && !slices.Contains(names, p.Host) {
			names = append(names, p.Host)
		}
	}
	slices.Sort(names)
	return names
}

// guests says that a frame claims to come from the guest.
func (c *checker) guests(p packet) bool { return slices.Contains(c.MACs, p.src) }

// host judges all that left one host.
func (c *checker) host(name string) {
	var inside, outside []packet
	for _, p := range c.packets {
		switch {
		case p.Host != name || !c.guests(p):
		case p.Device != "":
			inside = append(inside, p)
		default:
			outside = append(outside, p)
		}
	}
	o := c.timeline.hosts[name]
	if o == nil {
		o = &output{stretches: []stretch{{state: free}}}
	}
	m := match(o, inside, outside, c.Clocks, func(p packet) bool { return p.kind == "RARP" && c.restoredAt(name, p.Time) })
	c.matched[name] = m
	for _, e := range m.early {
		c.early(name, o, e)
	}
	for _, p := range m.strange {
		c.strange(name, p)
	}
	c.order(m)
	for _, s := range m.emitted {
		c.emission(o, s)
	}
	c.report.add(m, o)
}
