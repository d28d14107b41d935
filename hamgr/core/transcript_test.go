package core

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the expected parts of testdata/*.txt")

// TestTranscripts plays each testdata/*.txt: blocks of
//
//	verb arg key=value ...
//	----
//	expected outcome
//
// with a blank line between blocks. Each verb has one handler below.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { play(t, f) })
	}
}

func play(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dead: map[string]string{}, silence: map[string]time.Duration{}, free: map[string]uint64{}, lapsed: map[string]bool{}, gone: map[string]bool{}}
	var rewritten []string
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		head, want, ok := strings.Cut(block, "\n----")
		if !ok { // a comment
			rewritten = append(rewritten, block)
			continue
		}
		got := w.do(lastLine(head))
		if want = strings.TrimSpace(want); got != want && !*update {
			t.Errorf("%s:\ngot:\n%s\nwant:\n%s", head, got, want)
		}
		rewritten = append(rewritten, strings.TrimRight(head+"\n----\n"+got, "\n"))
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(rewritten, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// lastLine drops the comment lines above a verb.
func lastLine(s string) string { return s[strings.LastIndex(s, "\n")+1:] }

// world is a state, a clock and who is seen dead.
type world struct {
	s       State
	now     time.Duration
	dead    map[string]string
	silence map[string]time.Duration
	free    map[string]uint64
	lapsed  map[string]bool
	gone    map[string]bool
}

type args struct {
	pos  []string
	keys map[string]string
}

func parse(line string) (string, args) {
	fields := strings.Fields(line)
	a := args{keys: map[string]string{}}
	for _, f := range fields[1:] {
		if k, v, ok := strings.Cut(f, "="); ok {
			a.keys[k] = v
		} else {
			a.pos = append(a.pos, f)
		}
	}
	return fields[0], a
}

func (w *world) do(line string) string {
	verb, a := parse(line)
	switch verb {
	case "nodes":
		for i, n := range a.pos {
			w.apply(Command{Kind: RegisterNode, Node: &Node{Name: n, ID: "id-" + n, Addr: fmt.Sprintf("10.0.0.%d", i+1)}})
		}
		return ""
	case "register":
		return w.apply(Command{Kind: RegisterNode, Node: &Node{Name: a.pos[0], ID: a.keys["id"], Addr: a.keys["addr"], Boot: a.keys["boot"]}})
	case "reboot": // of its hamgr
		n := w.s.Nodes[a.pos[0]]
		n.Boot += "'"
		delete(w.gone, n.Name)
		return w.apply(Command{Kind: RegisterNode, Node: &n})
	case "ended":
		return w.ended(a.pos[0])
	case "protect":
		return w.protect(a)
	case "clock":
		d, _ := time.ParseDuration(a.keys["add"])
		w.now += d
		return ""
	case "die":
		w.silence[a.pos[0]], _ = time.ParseDuration(a.keys["silent"])
		w.dead[a.pos[0]] = a.pos[0] + " is dead"
		return ""
	case "live":
		delete(w.dead, a.pos[0])
		delete(w.lapsed, a.pos[0])
		return ""
	case "drain", "undrain":
		return w.apply(Command{Kind: Kind(verb), Node: &Node{Name: a.pos[0]}})
	case "gone": // its hamgr, as the leader sees it
		w.gone[a.pos[0]] = true
		return ""
	case "lapse":
		w.lapsed[a.pos[0]] = true
		return ""
	case "free":
		w.free[a.pos[0]], _ = strconv.ParseUint(a.pos[1], 10, 64)
		return ""
	case "show":
		return w.show()
	case "events":
		return w.events()
	case "explain":
		return w.explain(a.pos[0])
	case "decide", "obey":
		return w.decide(verb == "obey")
	}
	c := Command{Kind: Kind(verb), Domain: a.pos[0], Backup: a.keys["backup"], Cause: a.keys["cause"]}
	c.Mode, c.Silenced, c.Planned = Mode(a.keys["mode"]), a.keys["silenced"] == "yes", a.keys["planned"] == "yes"
	c.Stopped = a.keys["stopped"] == "yes"
	c.Generation, _ = strconv.ParseUint(a.keys["gen"], 10, 64)
	return w.apply(c)
}

func (w *world) protect(a args) string {
	p := Protection{Domain: a.pos[0], UUID: "uuid-" + a.pos[0], Primary: a.keys["primary"], Backup: a.keys["backup"],
		Pinned: a.keys["pinned"], Mode: Mode(a.keys["mode"]), OnLoss: LossPolicy(a.keys["onloss"]), AntiAffinity: a.keys["group"]}
	p.Memory, _ = strconv.ParseUint(a.keys["memory"], 10, 64)
	if u := a.keys["uuid"]; u != "" {
		p.UUID = u
	}
	return w.apply(Command{Kind: Protect, Protection: &p, Definition: a.keys["xml"]})
}

func (w *world) ended(domain string) string {
	e, ok := w.s.Ended[domain]
	if !ok {
		return "nothing is remembered"
	}
	return fmt.Sprintf("%s: ended with generation %d, %s had it", domain, e.Generation, e.Primary)
}

func (w *world) clock() time.Time { return time.Unix(0, 0).Add(w.now) }

func (w *world) apply(c Command) string {
	if c.Time.IsZero() {
		c.Time = w.clock()
	}
	if err := Apply(&w.s, w.s.Index+1, c); err != nil {
		return "error: " + err.Error()
	}
	if c.Domain != "" && c.Kind != Unprotect {
		return line(w.s.Protections[c.Domain])
	}
	return "ok"
}

func line(p Protection) string {
	out := fmt.Sprintf("%s: %s generation %d, %s -> %s", p.Domain, p.Phase, p.Generation, p.Primary, or(p.Backup, "nobody"))
	if p.Moving {
		out += ", moving"
	}
	if p.Mode != Buffer {
		out += ", mode " + string(p.Mode)
	}
	if p.Cold {
		out += ", anew"
	}
	if p.Starts > 0 {
		out += fmt.Sprintf(", start %d", p.Starts)
	}
	if p.Wanted != "" {
		out += ", to be " + string(p.Wanted)
	}
	if p.Degraded != "" {
		out += ", but " + p.Degraded
	}
	for _, but := range []string{p.Together, p.ProbeFailed} {
		if but != "" {
			out += ", but " + but
		}
	}
	if len(p.Refused) > 0 {
		out += fmt.Sprintf(", refused %v", p.Refused)
	}
	return out
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (w *world) show() string {
	var lines []string
	for _, p := range w.s.Protections {
		lines = append(lines, line(p))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (w *world) events() string {
	var lines []string
	for _, e := range w.s.Events {
		if e.Kind != RegisterNode {
			lines = append(lines, strings.TrimRight(fmt.Sprintf("%d %s %s node=%s target=%s generation=%d %s",
				e.Index, e.Kind, e.Domain, e.Node, e.Target, e.Generation, e.Cause), " "))
		}
	}
	return strings.Join(lines, "\n")
}

func (w *world) view() View {
	v := View{
		Now:     w.clock(),
		Dead:    func(n string) (bool, string) { c, dead := w.dead[n]; return dead, c },
		Silence: func(n string) time.Duration { return w.silence[n] }, MemoryFree: w.free,
		Lapsed: func(n string) bool { return w.lapsed[n] },
		Gone:   func(n string) bool { return w.gone[n] },
	}
	for n := range w.s.Nodes {
		if _, dead := w.dead[n]; !dead {
			v.Alive = append(v.Alive, n)
		}
	}
	return v
}

func (w *world) decide(obey bool) string {
	var lines []string
	for _, c := range Decide(w.s, w.view()) {
		lines = append(lines, fmt.Sprintf("%s %s gen=%d backup=%s", c.Kind, c.Domain, c.Generation, or(c.Backup, "-")))
		if obey {
			lines = append(lines, "  "+w.apply(c))
		}
	}
	return or(strings.Join(lines, "\n"), "nothing")
}

func (w *world) explain(domain string) string {
	e, err := Explain(w.s, w.view(), domain)
	if err != nil {
		return "error: " + err.Error()
	}
	text := fmt.Sprintf("%s since %s", e.Phase, e.Since.Sub(time.Unix(0, 0)))
	if e.Because != "" {
		text += ", because: " + e.Because
	}
	text += "\nnext: " + e.Next
	for _, d := range e.IfDead {
		text += fmt.Sprintf("\nif %s dies: %s", d.Node, d.Outcome)
	}
	return text
}
