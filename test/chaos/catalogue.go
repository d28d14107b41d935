package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// role says which of the hosts, as things stand for the guest when a fault is due.
type role string

const (
	primary role = "primary"
	backup  role = "backup"
	other   role = "other" // neither
)

// The kinds of hosts, beside those of the lab.
const realHost = "real"

// What a fault may end.
const (
	endsGuest   = "guest"
	endsReplica = "replica"
)

// fault is one entry of the catalogue; catalogue.yaml says what the fields mean.
type fault struct {
	Name  string              `yaml:"name"`
	What  string              `yaml:"what"`
	Each  []map[string]string `yaml:"each"`
	Hosts []string            `yaml:"hosts"`
	On    []role              `yaml:"on"`
	Needs []string            `yaml:"needs"`
	Lasts [2]time.Duration    `yaml:"lasts,flow"`
	Power bool                `yaml:"power"` // the executor's own: a shell cannot do it
	Ends  []string            `yaml:"ends"`
	Do    string              `yaml:"do"`
	Undo  string              `yaml:"undo"`
	Seen  string              `yaml:"seen"`

	vars  map[string]string // one of Each
	entry int               // of the catalogue
}

//go:embed catalogue.yaml
var catalogueText []byte

// catalogue is every fault, one for each of its variables.
func catalogue() ([]fault, error) { return parseCatalogue(catalogueText) }

func parseCatalogue(text []byte) (out []fault, err error) {
	var entries []fault
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&entries); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	for i, f := range entries {
		f.entry = i
		if len(f.Each) == 0 {
			f.Each = []map[string]string{{}}
		}
		for _, vars := range f.Each {
			one := f.with(vars)
			if err := one.check(); err != nil {
				return nil, fmt.Errorf("catalogue: %s: %w", one.Name, err)
			}
			out = append(out, one)
		}
	}
	return out, nil
}

// with is a fault with these variables, also in its name.
func (f fault) with(vars map[string]string) fault {
	f.vars, f.Each = vars, nil
	for k, v := range vars {
		f.Name = strings.ReplaceAll(f.Name, "{"+k+"}", v)
		f.What = strings.ReplaceAll(f.What, "{"+k+"}", v)
	}
	if e := vars["ends"]; e != "" {
		f.Ends = append(slices.Clone(f.Ends), e)
	}
	return f
}

func (f fault) check() error {
	lasting := f.Lasts[1] > 0
	switch {
	case f.What == "" || strings.Contains(f.Name+f.What, "{"):
		return fmt.Errorf("its description is not complete: %q", f.What)
	case len(f.On) == 0 || slices.ContainsFunc(f.On, func(r role) bool { return r != primary && r != backup && r != other }):
		return fmt.Errorf("on %v", f.On)
	case slices.ContainsFunc(f.Ends, func(e string) bool { return e != endsGuest && e != endsReplica }):
		return fmt.Errorf("ends %v", f.Ends)
	case f.Lasts[0] > f.Lasts[1] || lasting && f.Lasts[0] <= 0:
		return fmt.Errorf("lasts %v", f.Lasts)
	case f.Power:
		return nil
	case f.Do == "" || f.Seen == "":
		return fmt.Errorf("do and seen are needed")
	case lasting != (f.Undo != ""):
		return fmt.Errorf("undo is for what lasts")
	}
	return nil
}

// fits says that it may be done to hosts of a kind.
func (f fault) fits(kind string) bool { return len(f.Hosts) == 0 || slices.Contains(f.Hosts, kind) }

func (f fault) ends(what string) bool { return slices.Contains(f.Ends, what) }

// lasting is a random time.
func (f fault) lasting(random *rand.Rand) time.Duration {
	if f.Lasts[1] == 0 {
		return 0
	}
	from, to := float64(f.Lasts[0]), float64(f.Lasts[1])
	return time.Duration(from * math.Pow(to/from, random.Float64())).Round(time.Millisecond)
}

// choose is the faults of a catalogue for a kind of hosts, those of that name if any are
// given; power says that the hosts' power can be switched.
func choose(all []fault, kind string, power bool, names []string) (out []fault, err error) {
	for _, f := range all {
		if f.fits(kind) && (power || !f.Power) && (len(names) == 0 || slices.Contains(names, f.Name)) {
			out = append(out, f)
		}
	}
	for _, n := range names {
		if !slices.ContainsFunc(out, func(f fault) bool { return f.Name == n }) {
			return nil, fmt.Errorf("there is no fault %q for %s hosts; chaos -list shows them", n, kind)
		}
	}
	return out, nil
}

// named finds a fault.
func named(all []fault, name string) (fault, error) {
	i := slices.IndexFunc(all, func(f fault) bool { return f.Name == name })
	if i < 0 {
		return fault{}, fmt.Errorf("there is no fault %q; chaos -list shows them", name)
	}
	return all[i], nil
}
