package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"gopkg.in/yaml.v3"
)

// step is one fault of a run. A file with a schedule is a list of these, in YAML or as a
// report has them.
type step struct {
	After span   `yaml:"after" json:"after,omitzero"` // since the fault before began
	Fault string `yaml:"fault" json:"fault"`
	On    role   `yaml:"on" json:"on"`
	Which int    `yaml:"which" json:"which"` // of several hosts in that role, from 0 and round
	Lasts span   `yaml:"lasts" json:"lasts,omitzero"`

	fault fault
}

// span is a time that is written as in 1.5s.
type span struct{ time.Duration }

// MarshalText writes it so.
func (s span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads it so.
func (s *span) UnmarshalText(text []byte) (err error) {
	s.Duration, err = time.ParseDuration(string(text))
	return err
}

func (s step) String() string {
	text := fmt.Sprintf("%s on %s", s.Fault, s.On)
	if s.Lasts.Duration > 0 {
		text += fmt.Sprintf(" for %v", s.Lasts)
	}
	if s.After.Duration > 0 {
		text = fmt.Sprintf("%v later %s", s.After, text)
	}
	return text
}

const (
	doubles = 3           // one run in so many has two faults
	within  = time.Second // between the two
)

// draw is the schedule of one run of a seed: it depends on nothing else, whatever the runs
// before did.
func draw(faults []fault, seed uint64, run int) []step {
	random := rand.New(rand.NewPCG(seed, uint64(run)))
	steps := []step{drawStep(faults, random)}
	if random.IntN(doubles) == 0 {
		s := drawStep(faults, random)
		s.After.Duration = time.Duration(random.Int64N(int64(within))).Round(time.Millisecond)
		steps = append(steps, s)
	}
	return steps
}

// drawStep takes each entry of the catalogue as often, then one of its variants.
func drawStep(faults []fault, random *rand.Rand) step {
	var entries [][]fault
	for i, f := range faults {
		if i == 0 || f.entry != faults[i-1].entry {
			entries = append(entries, nil)
		}
		last := len(entries) - 1
		entries[last] = append(entries[last], f)
	}
	variants := entries[random.IntN(len(entries))]
	f := variants[random.IntN(len(variants))]
	return step{Fault: f.Name, On: f.On[random.IntN(len(f.On))], Which: random.IntN(16), Lasts: span{f.lasting(random)}, fault: f}
}

// readSchedule reads a given one. The faults have to be among those that fit.
func readSchedule(path string, faults []fault) ([]step, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("schedule: %w", err)
	}
	var steps []step
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&steps); err != nil {
		return nil, fmt.Errorf("schedule %s: %w", path, err)
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("schedule %s: there is nothing in it", path)
	}
	for i := range steps {
		if err := steps[i].complete(faults); err != nil {
			return nil, fmt.Errorf("schedule %s: step %d: %w", path, i+1, err)
		}
	}
	return steps, nil
}

func (s *step) complete(faults []fault) (err error) {
	if s.fault, err = named(faults, s.Fault); err != nil {
		return err
	}
	if s.On == "" {
		s.On = s.fault.On[0]
	}
	lasting := s.fault.Lasts[1] > 0
	if lasting && s.Lasts.Duration == 0 {
		s.Lasts.Duration = s.fault.Lasts[0]
	}
	switch {
	case lasting != (s.Lasts.Duration > 0):
		return errors.New("this fault is over at once")
	case s.Lasts.Duration < 0 || s.After.Duration < 0 || s.Which < 0:
		return errors.New("negative")
	}
	return nil
}

// in is the host of a role, as things stand.
func (s step) in(hosts []string, now standing) (string, error) {
	var of []string
	for _, h := range hosts {
		is := other
		switch h {
		case now.Primary:
			is = primary
		case now.Backup:
			is = backup
		}
		if is == s.On {
			of = append(of, h)
		}
	}
	if len(of) == 0 {
		return "", fmt.Errorf("no host is %s", s.On)
	}
	return of[s.Which%len(of)], nil
}
