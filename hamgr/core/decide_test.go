package core

import (
	"fmt"
	"testing"
	"time"
)

// big is a cluster of nodes, with ten guests a node as primary and ten as backup.
func big(nodes int) (State, View) {
	s := State{Nodes: map[string]Node{}, Protections: map[string]Protection{}}
	name := func(i int) string { return fmt.Sprintf("node-%04d", i%nodes) }
	v := View{Now: time.Unix(1000, 0), Silence: func(string) time.Duration { return 0 }, Lapsed: func(string) bool { return true }}
	for i := range nodes {
		s.Nodes[name(i)] = Node{Name: name(i), ID: name(i), Addr: name(i), Boot: "1"}
		v.Alive = append(v.Alive, name(i))
		for j := range 10 {
			p := Protection{Domain: fmt.Sprintf("vm-%04d-%d", i, j), Primary: name(i), Backup: name(i + j + 1), Boot: "1",
				Mode: Buffer, Generation: 1, Phase: Protected, Memory: 1 << 30}
			p.UUID = p.Domain
			s.Protections[p.Domain] = p
		}
	}
	dead := name(nodes / 2)
	v.Alive = v.Alive[:nodes-1]
	v.Dead = func(n string) (bool, string) {
		if n == dead {
			return true, "dead"
		}
		return false, ""
	}
	return s, v
}

// BenchmarkDecide is what the leader's round costs in a cluster of so many nodes and ten
// times as many protections: with nobody dead, with one host dead, and with the ten
// guests of that host in want of a new backup.
func BenchmarkDecide(b *testing.B) {
	for _, nodes := range []int{30, 100, 300, 1000, 3000} {
		s, v := big(nodes)
		quiet := v
		quiet.Dead = func(string) (bool, string) { return false, "" }
		b.Run(fmt.Sprintf("nodes=%d/quiet", nodes), func(b *testing.B) {
			for b.Loop() {
				if len(Decide(s, quiet)) != 0 {
					b.Fatal("something to do")
				}
			}
		})
		b.Run(fmt.Sprintf("nodes=%d/dead", nodes), func(b *testing.B) {
			for b.Loop() {
				if n := len(Decide(s, v)); n != 20 {
					b.Fatal(n)
				}
			}
		})
		after := s
		for _, c := range Decide(s, v) {
			if err := Apply(&after, after.Index+1, c); err != nil {
				b.Fatal(err)
			}
			if c.Kind == FailOver {
				_ = Apply(&after, after.Index+1, Command{Kind: Restored, Domain: c.Domain, Generation: c.Generation + 1})
			}
		}
		b.Run(fmt.Sprintf("nodes=%d/solo", nodes), func(b *testing.B) {
			for b.Loop() {
				if n := len(Decide(after, v)); n != 20 {
					b.Fatal(n)
				}
			}
		})
	}
}

// BenchmarkApply is what one failover costs every node of such a cluster.
func BenchmarkApply(b *testing.B) {
	for _, nodes := range []int{10, 100, 1000} {
		s, v := big(nodes)
		c := Decide(s, v)[0]
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			for b.Loop() {
				next := s
				if err := Apply(&next, 1, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
