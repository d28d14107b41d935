package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// names are host names without dots; a heartbeat has room for 63 octets.
var names = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?$`)

// Validate says all that is wrong, each with what to do, joined; nil if nothing is.
func (c Config) Validate() error {
	var errs []error
	for _, check := range []func(Config) []error{checkNode, checkManagers, checkPaths, checkTimes, checkPorts} {
		errs = append(errs, check(c)...)
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("configuration: %w", errors.Join(errs...))
}

func checkNode(c Config) (errs []error) {
	if !names.MatchString(c.Node) {
		errs = append(errs, fmt.Errorf("node: %q is no name: letters, digits, - and _, at most 63", c.Node))
	}
	if err := checkAddr(c.Addr); err != nil {
		errs = append(errs, fmt.Errorf("addr: %w", err))
	}
	if err := checkAddr(c.Second); c.Second != "" && err != nil {
		errs = append(errs, fmt.Errorf("second_addr: %w", err))
	}
	if c.Second != "" && c.Second == c.Addr {
		errs = append(errs, fmt.Errorf("second_addr: %s is addr, too; a second path needs a network of its own", c.Second))
	}
	if c.LibvirtURI == "" {
		errs = append(errs, errors.New("libvirt_uri: empty; qemu:///system is usual"))
	}
	if u, err := url.Parse(c.InspectorURL); c.InspectorURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		errs = append(errs, fmt.Errorf("inspector_url: %q is not http(s)://host...", c.InspectorURL))
	}
	return errs
}

// checkAddr wants addresses, not names: a name server is one more thing that can be down
// during a failover.
func checkAddr(s string) error {
	a, err := netip.ParseAddr(s)
	switch {
	case s == "":
		return errors.New("empty; give the IP address that the other nodes reach this one at")
	case err != nil:
		return fmt.Errorf("%q is not an IP address (no port, no host name)", s)
	case a.IsUnspecified() || a.IsMulticast():
		return fmt.Errorf("%s is nobody's address", s)
	case a.String() != s:
		return fmt.Errorf("%s has to be written as %s, the same on every node", s, a)
	}
	return nil
}

func checkManagers(c Config) (errs []error) {
	switch n := len(c.Managers); {
	case n == 0:
		errs = append(errs, errors.New("managers: none; name 3 or 5 nodes with their addresses"))
	case n > 5 || n%2 == 0:
		errs = append(errs, fmt.Errorf("managers: %d; make it 3 or 5 (1 in a lab): an even one more survives no more failures", n))
	}
	owner := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Managers)) {
		addr := c.Managers[name]
		if !names.MatchString(name) {
			errs = append(errs, fmt.Errorf("managers: %q is no name", name))
		}
		if err := checkAddr(addr); err != nil {
			errs = append(errs, fmt.Errorf("managers: %s: %w", name, err))
		}
		if other := owner[addr]; other != "" {
			errs = append(errs, fmt.Errorf("managers: %s and %s have the same address %s", other, name, addr))
		}
		if owner[addr] = name; name == c.Node && addr != c.Addr {
			errs = append(errs, fmt.Errorf("managers: %s is at %s, but addr says %s", name, addr, c.Addr))
		}
		if addr == c.Addr && name != c.Node {
			errs = append(errs, fmt.Errorf("managers: %s has this node's address %s, but this node is %s", name, addr, c.Node))
		}
	}
	return errs
}

func checkPaths(c Config) (errs []error) {
	for key, path := range map[string]string{"data_dir": c.DataDir, "socket": c.Socket, "memory_dir": c.MemoryDir, "run_dir": c.RunDir} {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", key, path))
		}
	}
	if c.Trace != "" && !filepath.IsAbs(c.Trace) {
		errs = append(errs, fmt.Errorf("trace: %q is not an absolute path", c.Trace))
	}
	if len(c.Socket) > 107 { // sun_path, unix(7), less its final NUL
		errs = append(errs, fmt.Errorf("socket: %d octets, a unix socket takes 107", len(c.Socket)))
	}
	return errs
}

func checkTimes(c Config) (errs []error) {
	least := func(key string, got, min time.Duration) {
		if got < min {
			errs = append(errs, fmt.Errorf("%s: %v is less than %v", key, got, min))
		}
	}
	if c.SyncMiB == 0 || c.SyncMiB > 1<<20 {
		errs = append(errs, fmt.Errorf("sync_mib_per_s: %d; 400 is usual, less than what the network carries", c.SyncMiB))
	}
	least("epoch", c.Epoch, time.Millisecond)
	least("heartbeat.interval", c.Heartbeat.Interval, time.Millisecond)
	least("heartbeat.timeout, twice the interval at least,", c.Heartbeat.Timeout, 2*c.Heartbeat.Interval)
	least("heartbeat.detour, the timeout at least,", c.Heartbeat.Detour, c.Heartbeat.Timeout)
	least("heartbeat.grace, the timeout at least,", c.Heartbeat.Grace, c.Heartbeat.Timeout)
	least("raft.leader_lease", c.Raft.LeaderLease, 5*time.Millisecond)
	least("raft.heartbeat, the leader_lease at least,", c.Raft.Heartbeat, c.Raft.LeaderLease)
	least("raft.election, the heartbeat at least,", c.Raft.Election, c.Raft.Heartbeat)
	least("raft.commit", c.Raft.Commit, time.Millisecond)
	return errs
}

func checkPorts(c Config) (errs []error) {
	owner := map[int]string{}
	for _, p := range []struct {
		key  string
		port int
	}{{"api", c.Ports.API}, {"raft", c.Ports.Raft}, {"heartbeat", c.Ports.Heartbeat}, {"checkpoint", c.Ports.Checkpoint}} {
		if p.port < 1 || p.port > 65535 {
			errs = append(errs, fmt.Errorf("ports.%s: %d is no port", p.key, p.port))
		}
		if other := owner[p.port]; other != "" {
			errs = append(errs, fmt.Errorf("ports.%s: %d is taken by ports.%s", p.key, p.port, other))
		}
		owner[p.port] = p.key
	}
	return errs
}
