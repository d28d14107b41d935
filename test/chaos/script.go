package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hamgr/hamgr/test/testbed"
)

// site is what faults must know of a cluster.
type site struct {
	Domain, Memory, Data string
	Mgmt, Guest          string // devices
}

// labSite is what is so in every lab.
var labSite = site{Domain: "g1", Memory: "/dev/shm/hamgr", Data: testbed.DataDir, Mgmt: "eth0", Guest: "eth1"}

// tools are what the catalogue's scripts call.
const tools = `
# qemu COMMAND: of the domain; pgrep and pkill take what follows.
qemu() { "$@" -f "^[^ ]*(qemu|kvm)[^ ]* -name guest=$domain,"; }
room() { df -k --output=$1 "$(findmnt -nT $memory -o TARGET)" | tail -n 1 | tr -d " "; }
# alone: this is the first PID namespace of its kernel (PROC_PID_INIT_INO), no container.
alone() { test "$(readlink /proc/self/ns/pid)" = "pid:[4026531836]"; }
# clock: when this host was booted, by its own clock.
clock() { echo $(($(date +%s) - $(cut -d. -f1 /proc/uptime) >> 2)); }

# drop, pass, dropped: what comes in (ingress) or goes out (egress) at $dev. By tc where
# the kernel has what it needs, else by the tables for IP and those for bridges.
drop() {
	modprobe -qa sch_ingress cls_matchall act_gact 2>/dev/null
	tc qdisc add dev $dev clsact 2>/dev/null && touch $dir/clsact
	tc filter add dev $dev $1 pref 7 matchall action drop 2>/dev/null || tables -I $1
}
pass() {
	tc filter del dev $dev $1 pref 7 2>/dev/null || tables -D $1
	if test -e $dir/clsact && test -z "$(tc filter show dev $dev ingress; tc filter show dev $dev egress)"; then
		rm $dir/clsact; tc qdisc del dev $dev clsact
	fi
}
dropped() { tc filter show dev $dev $1 2>/dev/null | grep -q "pref 7 matchall" || tables -C $1 2>/dev/null; }
tables() {
	case $2 in ingress) at="INPUT -i" through="FORWARD -i" ;; *) at="OUTPUT -o" through="FORWARD -o" ;; esac
	iptables -w $1 $at $dev -j DROP && ip6tables -w $1 $at $dev -j DROP || return 1
	test $1 = -C || { ebtables $1 $at $dev -j DROP && ebtables $1 $through $dev -j DROP; }
}
`

const stateDir = "/run/hamgr-chaos"

// prelude sets all that a fault's commands may use. id tells its state from that of others.
func (f fault) prelude(s site, id string) string {
	vars := map[string]string{"domain": s.Domain, "memory": s.Memory, "data": s.Data}
	var b strings.Builder
	fmt.Fprintf(&b, "mgmt=%s guest=%s dir=%s/%s\n", quote(s.Mgmt), quote(s.Guest), stateDir, id)
	maps.Copy(vars, f.vars)
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		if v := vars[k]; strings.HasPrefix(v, "$") { // one of the variables above
			fmt.Fprintf(&b, "%s=%s\n", k, v)
		} else {
			fmt.Fprintf(&b, "%s=%s\n", k, quote(v))
		}
	}
	return b.String() + tools
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// script does the fault and leaves a shell behind that undoes it. That shell says in
// $dir/says what became of it; result reads that.
func (f fault) script(s site, id string, lasts time.Duration) string {
	var b strings.Builder
	b.WriteString(f.prelude(s, id))
	for _, n := range f.Needs {
		fmt.Fprintf(&b, "command -v %s >/dev/null || { echo 'this host has no %s' >&2; exit 1; }\n", n, n)
	}
	fmt.Fprintf(&b, "act() {\n%s\n}\n", indent(f.Do))
	b.WriteString("mkdir -p $dir || exit 1\ntrap '' HUP\n")
	if lasts == 0 {
		b.WriteString("act\n")
		return b.String()
	}
	fmt.Fprintf(&b, "undo() {\n%s\n}\n", indent(f.Undo))
	fmt.Fprintf(&b, "(act && echo done || { echo failed; exit; }; sleep %.3f; undo && echo undone || echo stuck) </dev/null >$dir/says 2>&1 &\n", lasts.Seconds())
	return b.String()
}

func indent(s string) string { return "\t" + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n\t") }

// result prints what the shell that was left behind has said so far.
func result(id string) string { return fmt.Sprintf("cat %s/%s/says\n", stateDir, id) }

// seen is the fault's own look at itself.
func (f fault) seen(s site, id string) string { return f.prelude(s, id) + f.Seen + "\n" }
