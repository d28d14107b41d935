package core

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// flock is a cluster whose agents do at once what they are told.
type flock struct {
	*rapid.T
	s     State
	hosts []string
	dead  map[string]bool
	now   time.Time
}

func newFlock(t *rapid.T, hosts int) *flock {
	f := &flock{T: t, dead: map[string]bool{}, now: time.Unix(1e6, 0)}
	for i := range hosts {
		f.hosts = append(f.hosts, fmt.Sprintf("h%d", i+1))
		f.apply(Command{Kind: RegisterNode, Node: &Node{Name: f.hosts[i], ID: f.hosts[i], Addr: f.hosts[i], Boot: "1"}})
	}
	return f
}

func (f *flock) apply(c Command) {
	c.Time = f.now
	if err := Apply(&f.s, f.s.Index+1, c); err != nil {
		f.Fatalf("%+v: %v", c, err)
	}
}

func (f *flock) view() View {
	v := View{Now: f.now, Dead: func(n string) (bool, string) { return f.dead[n], n + " is dead" },
		Silence: func(n string) time.Duration { return 2 * LostAfter }, Lapsed: func(n string) bool { return f.dead[n] }}
	for _, h := range f.hosts {
		if !f.dead[h] {
			v.Alive = append(v.Alive, h)
		}
	}
	return v
}

func (f *flock) usable() (n int) {
	for _, h := range f.hosts {
		if !f.dead[h] && !f.s.Nodes[h].Drained {
			n++
		}
	}
	return n
}

// settle lets leader and agents work until nothing is left to do, which is to be soon.
func (f *flock) settle() {
	for range 100 {
		list := Decide(f.s, f.view())
		for _, c := range list {
			f.apply(c)
		}
		busy := len(list) > 0
		for name, p := range f.s.Protections {
			c := Command{Domain: name, Generation: p.Generation}
			switch {
			case f.dead[p.Primary]:
				continue
			case p.Phase == Syncing:
				c.Kind = Synced
			case p.Phase == Recovering:
				c.Kind = Restored
			case p.Moving:
				c.Kind, c.Planned, c.Silenced = FailOver, true, true
			default:
				continue
			}
			f.apply(c)
			busy = true
		}
		if !busy {
			return
		}
	}
	f.Fatalf("it does not settle: %+v", f.s.Protections)
}

func (f *flock) protect(domain, host string) {
	p := Protection{Domain: domain, UUID: domain, Primary: host, AntiAffinity: "web", OnLoss: OnLossRestart}
	if rapid.Bool().Draw(f.T, "asked for by the API") {
		v := f.view()
		Prefer(f.s, p, v.Alive)
		for _, n := range v.Alive {
			if n != host && p.Backup == "" && !f.s.Nodes[n].Drained {
				p.Backup = n
			}
		}
	}
	f.apply(Command{Kind: Protect, Protection: &p, Definition: "<domain/>"})
	if rapid.Bool().Draw(f.T, "settle first") {
		f.settle()
	}
}

// happen kills a host, or revives it with another hamgr, or drains it, or uses it again. No
// more than one host goes at a time, and none where fewer than least would be left.
func (f *flock) happen(least int) {
	h := rapid.SampledFrom(f.hosts).Draw(f.T, "host")
	n := f.s.Nodes[h]
	spare := f.usable() > least || n.Drained || f.dead[h]
	switch rapid.SampledFrom([]string{"power", "drain"}).Draw(f.T, "what") {
	case "power":
		if f.dead[h] {
			n.Boot += "'"
			f.apply(Command{Kind: RegisterNode, Node: &n})
			delete(f.dead, h)
		} else if spare {
			f.dead[h] = true
		}
	case "drain":
		if n.Drained {
			f.apply(Command{Kind: Undrain, Node: &n})
		} else if spare {
			f.apply(Command{Kind: Drain, Node: &n})
		}
	}
	f.settle()
	f.now = f.now.Add(SeekAgain + time.Second)
	f.settle()
}

// TestAGroupStaysApart: with one host more than there are guests in a group, no failure of
// one host, nor its drain, brings two of them together, whatever happened before.
func TestAGroupStaysApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.IntRange(2, 6).Draw(t, "hosts")
		guests := rapid.IntRange(1, hosts-1).Draw(t, "guests")
		f := newFlock(t, hosts)
		for i, h := range rapid.Permutation(f.hosts).Draw(t, "order")[:guests] {
			f.protect(fmt.Sprintf("web%d", i), h)
		}
		f.settle()
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			f.happen(guests)
			at := map[string]string{}
			for name, p := range f.s.Protections {
				if other := at[p.Primary]; other != "" {
					t.Fatalf("%s and %s are on %s: %+v", name, other, p.Primary, f.s.Protections)
				}
				at[p.Primary] = name
			}
		}
	})
}

// TestTogetherIsBetterThanUnprotected: however few the hosts, all have a replica while two
// can be used, nothing goes to and fro, and what is said of them is true.
func TestTogetherIsBetterThanUnprotected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFlock(t, rapid.IntRange(2, 4).Draw(t, "hosts"))
		for i := range rapid.IntRange(1, 6).Draw(t, "guests") {
			f.protect(fmt.Sprintf("web%d", i), rapid.SampledFrom(f.hosts).Draw(t, "primary"))
		}
		f.settle()
		for range rapid.IntRange(0, 12).Draw(t, "events") {
			f.happen(2)
			for name, p := range f.s.Protections {
				if p.Phase != Protected {
					t.Fatalf("%s is %s", name, p.Phase)
				}
				if near := f.neighbour(p); (near != "") != (p.Together != "") {
					t.Fatalf("%s is said to be %q, and %q is near: %+v", name, p.Together, near, f.s.Protections)
				}
			}
		}
	})
}

// neighbour is who of the group is on the host of p, or would be if that died.
func (f *flock) neighbour(p Protection) string {
	for name, q := range f.s.Protections {
		if name != p.Domain && (q.Primary == p.Primary || q.Primary == p.Backup) {
			return name
		}
	}
	return ""
}
