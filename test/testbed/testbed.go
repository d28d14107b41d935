// Package testbed is a lab with hamgr on each host, a guest and a checking client: what
// the demo, the end-to-end tests and the benchmarks share.
package testbed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/guest/client"
	"github.com/hamgr/hamgr/test/guest/image"
	"github.com/hamgr/hamgr/test/lab"
)

// Options of a testbed.
type Options struct {
	Hosts    int
	Kind     lab.Kind // of the hosts; a container by default
	Out      string   // directory for binaries, logs and results
	Programs []string // packages of this module to have in the hosts' /opt/hamgr/bin, too
	Progress io.Writer
	Binds    []lab.Bind // more of them
	Config   string     // lines of hamgr.yaml

	Tags  string                       // more build tags for hamgr, with commas
	Serve func(args []string) []string // what a host runs instead of hamgr serve with these arguments
}

// Bed is a running testbed.
type Bed struct {
	*lab.Lab
	Out      string
	hosts    []string
	patience time.Duration // how many times longer than a container everything may take
}

const guestAddr = "10.78.0.201"

// Up builds what is needed and starts the lab.
func Up(ctx context.Context, o Options) (*Bed, error) {
	p, err := lab.Prepare(ctx, o.Progress)
	if err != nil {
		return nil, err
	}
	out, err := filepath.Abs(o.Out)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(o.Progress, "  building hamgr, the guest and its client")
	if err := buildAll(ctx, out, p, o); err != nil {
		return nil, err
	}
	if err := configure(filepath.Join(out, "etc"), o); err != nil {
		return nil, err
	}
	b := &Bed{Out: out, patience: 1}
	if o.Kind == lab.UML {
		b.patience = 4
	}
	voters := 1
	if o.Hosts >= 3 {
		voters = min((o.Hosts-1)|1, 5) // an odd number
	}
	var managers []string
	for i := 1; i <= o.Hosts; i++ {
		b.hosts = append(b.hosts, fmt.Sprintf("h%d", i))
		managers = append(managers, fmt.Sprintf("h%d=10.77.0.%d", i, i))
	}
	b.Lab, err = lab.Up(ctx, lab.Spec{
		Root: p.Root, RunDir: filepath.Join(out, "logs"), Hosts: o.Hosts, Kind: o.Kind, Progress: o.Progress,
		Binds: append([]lab.Bind{{From: filepath.Join(out, "bin"), To: "/opt/hamgr/bin"}, {From: filepath.Join(out, "guest"), To: "/opt/hamgr/guest"},
			{From: filepath.Join(out, "etc"), To: "/etc/hamgr"}}, o.Binds...),
		Services: func(host string) []lab.Service {
			return services(o.Kind, host, strings.Join(managers[:voters], ","), o.Serve)
		},
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// slowHosts is the configuration on hosts with kernels of their own, all on the few cores
// of this machine: one may have to wait that long for its turn.
const slowHosts = `heartbeat: {interval: 100ms, timeout: 1s, detour: 4s, grace: 20s}
raft: {heartbeat: 1s, election: 1s, leader_lease: 700ms, commit: 50ms}
`

// configure writes the hosts' /etc/hamgr.
func configure(dir string, o Options) error {
	text := o.Config
	if o.Kind == lab.UML {
		text += slowHosts
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "hamgr.yaml"), []byte(text), 0o644)
}

// DataDir is hamgr's on every host. The directory of a host's logs outlives a loss of power,
// as disks do; its root file system does not. A host with a kernel of its own has a file
// system of its own there.
const DataDir = "/var/log/lab/data"

// withDisk runs a program once DataDir is a disk.
const withDisk = `set -e
disk=/var/log/lab/disk
test -e $disk || { truncate -s 1G $disk.new; mkfs.ext4 -q $disk.new; mv $disk.new $disk; }
modprobe loop
test -e /dev/loop0 || mknod /dev/loop0 b 7 0
mkdir -p ` + DataDir + `
mountpoint -q ` + DataDir + ` || mount -o loop=/dev/loop0 $disk ` + DataDir + `
exec "$@"`

func services(kind lab.Kind, host, managers string, serve func([]string) []string) []lab.Service {
	if host == "client" {
		return []lab.Service{{Name: "inspector", Args: []string{"/opt/hamgr/bin/inspector", "/var/log/lab/alarms.jsonl"}}}
	}
	args := []string{"/opt/hamgr/bin/hamgr", "serve", "--node", host, "--addr", "10.77.0." + host[1:], "--second-addr", "10.78.0." + host[1:],
		"--managers", managers, "--inspector", "http://10.77.0.100:12345", "--data", DataDir}
	if serve != nil {
		args = serve(args)
	}
	if kind == lab.UML {
		args = append([]string{"/bin/sh", "-c", withDisk, "disk"}, args...)
	}
	return []lab.Service{{Name: "hamgr", Args: args}}
}

// buildAll puts programs and the guest where the hosts see them. What is of no test's own
// is kept in the lab's cache: the go command links only what has changed.
func buildAll(ctx context.Context, out string, p lab.Paths, o Options) error {
	os.RemoveAll(filepath.Join(out, "logs"))
	if o.Tags != "" {
		return build(ctx, out, p, o)
	}
	return lab.Kept(ctx, "programs", func(dir string) error {
		if err := build(ctx, dir, p, o); err != nil {
			return err
		}
		for _, part := range []string{"bin", "guest"} {
			if err := copyFiles(filepath.Join(dir, part), filepath.Join(out, part)); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyFiles makes new files: another test may change the old ones.
func copyFiles(from, to string) error {
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			return err
		}
		os.Remove(filepath.Join(to, f.Name()))
		if err := os.WriteFile(filepath.Join(to, f.Name()), b, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func build(ctx context.Context, out string, p lab.Paths, o Options) error {
	static := []string{"test/inspector", "test/guest/cmd/ledgerclient"}
	for _, pkg := range slices.Concat([]string{"cmd/hamgr"}, o.Programs, static) {
		cmd := exec.CommandContext(ctx, "go", "build", "-tags", "libvirt_dlopen,"+o.Tags, "-o", filepath.Join(out, "bin", filepath.Base(pkg)), "github.com/hamgr/hamgr/"+pkg)
		if slices.Contains(static, pkg) {
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		}
		if msg, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", pkg, err, msg)
		}
	}
	return image.Build(ctx, p.Vmlinuz, p.Modules, filepath.Join(out, "guest"))
}

// G1 is the guest that most tests use.
func G1(memoryMiB uint) image.Guest {
	return image.Guest{Name: "g1", MemoryMiB: memoryMiB, MAC: "52:54:00:78:00:01", IP: guestAddr + "/24", IP6: "fd78::201/64"}
}

// StartGuest defines and starts g1 on a host and waits until its ledger answers.
func (b *Bed) StartGuest(ctx context.Context, host string, memoryMiB uint) error {
	return b.Start(ctx, host, G1(memoryMiB))
}

// WriteDomain shows a guest's definition to the hosts, as /opt/hamgr/guest/NAME.xml.
func (b *Bed) WriteDomain(g image.Guest) error {
	g.Dir = "/opt/hamgr/guest"
	xml, err := g.XML()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.Out, "guest", g.Name+".xml"), []byte(xml), 0o644)
}

// Start defines and starts a guest on a host and waits until it answers at its IPv4 address.
func (b *Bed) Start(ctx context.Context, host string, g image.Guest) error {
	if err := b.WriteDomain(g); err != nil {
		return err
	}
	h := b.Host(host)
	if _, err := h.Exec(ctx, "virsh", "-q", "define", "/opt/hamgr/guest/"+g.Name+".xml"); err != nil {
		return err
	}
	if _, err := h.Exec(ctx, "virsh", "-q", "start", g.Name); err != nil {
		return err
	}
	addr, _, _ := strings.Cut(g.IP, "/")
	return b.waitPing(ctx, addr)
}

func (b *Bed) waitPing(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, b.patience*time.Minute)
	defer cancel()
	for {
		if _, err := b.Host("client").Exec(ctx, "ping", "-c1", "-W1", addr); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the guest does not answer; see %s/logs", b.Out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Hamgr runs the command line on a host.
func (b *Bed) Hamgr(ctx context.Context, host string, args ...string) (string, error) {
	return b.Host(host).Exec(ctx, append([]string{"/opt/hamgr/bin/hamgr"}, args...)...)
}

// outcomeUnknown is hamgr's exit status when it cannot know: the leader changed meanwhile,
// as it may on a busy machine.
const outcomeUnknown = 5

// Tell is Hamgr for what has the same effect when it is said again, as it is when nobody
// knows what came of it.
func (b *Bed) Tell(ctx context.Context, host string, args ...string) (text string, err error) {
	for range 3 {
		if text, err = b.Hamgr(ctx, host, args...); exitStatus(err) != outcomeUnknown {
			break
		}
	}
	return text, err
}

// Protect is `hamgr protect`, said again when nobody knows what came of it.
func (b *Bed) Protect(ctx context.Context, host, domain string, flags ...string) (text string, err error) {
	for range 3 {
		text, err = b.Hamgr(ctx, host, append([]string{"protect", domain}, flags...)...)
		switch {
		case strings.Contains(text, domain+" is already protected"):
			_, err = b.WaitStatus(ctx, host, 40*time.Second, domain+" protected", func(s api.Status, _ *api.ProtectionStatus) bool {
				return slices.ContainsFunc(s.Protections, func(p api.ProtectionStatus) bool { return p.Domain == domain && p.Phase == core.Protected })
			})
			return text, err
		case exitStatus(err) != outcomeUnknown:
			return text, err
		}
	}
	return text, err
}

// exitStatus is that of a command, or -1.
func exitStatus(err error) int {
	var e *exec.ExitError
	if !errors.As(err, &e) {
		return -1
	}
	return e.ExitCode()
}

// Status asks one host.
func (b *Bed) Status(ctx context.Context, host string) (s api.Status, err error) {
	err = b.json(ctx, &s, host, "status", "-o", "json")
	return s, err
}

// Events asks one host.
func (b *Bed) Events(ctx context.Context, host string) (e []core.Event, err error) {
	err = b.json(ctx, &e, host, "events", "-o", "json")
	return e, err
}

func (b *Bed) json(ctx context.Context, out any, host string, args ...string) error {
	text, err := b.Host(host).Command(ctx, append([]string{"/opt/hamgr/bin/hamgr"}, args...)...).Output()
	if err != nil {
		return fmt.Errorf("hamgr %v on %s: %w", args, host, err)
	}
	return json.Unmarshal(text, out)
}

// WaitStatus polls a host until ok likes what it sees; ok gets g1, or nil.
func (b *Bed) WaitStatus(ctx context.Context, host string, limit time.Duration, what string, ok func(api.Status, *api.ProtectionStatus) bool) (api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, b.patience*limit)
	defer cancel()
	var s api.Status
	for {
		var err error
		if s, err = b.Status(ctx, host); err == nil {
			var g *api.ProtectionStatus
			if len(s.Protections) > 0 {
				g = &s.Protections[0]
			}
			if ok(s, g) {
				return s, nil
			}
		}
		select {
		case <-ctx.Done():
			return s, fmt.Errorf("not within %s: %s; last seen %+v (%v)", limit, what, s, err)
		case <-time.After(b.patience * 100 * time.Millisecond): // asking is work, too
		}
	}
}

// Nodes are the names of the hosts that run hamgr.
func (b *Bed) Nodes() []string { return b.hosts }

// WaitCluster waits until all hosts are there and a leader is known.
func (b *Bed) WaitCluster(ctx context.Context) error { return b.WaitNodes(ctx, len(b.hosts)) }

// WaitNodes waits until so many nodes are alive and a leader is known.
func (b *Bed) WaitNodes(ctx context.Context, want int) error {
	_, err := b.WaitStatus(ctx, "h1", time.Minute, fmt.Sprint(want, " nodes alive"), func(s api.Status, _ *api.ProtectionStatus) bool {
		n := 0
		for _, x := range s.Nodes {
			if x.State == "alive" {
				n++
			}
		}
		return s.Leader != "" && n == want
	})
	return err
}

// Check runs hamgr check on each host.
func (b *Bed) Check(ctx context.Context) error {
	for _, h := range b.hosts {
		if _, err := b.Hamgr(ctx, h, "check"); err != nil {
			return err
		}
	}
	return nil
}

// Get asks the guest's web server, from the client host.
func (b *Bed) Get(ctx context.Context, path string) (string, error) {
	return b.Host("client").Exec(ctx, "/opt/hamgr/bin/ledgerclient", "-get", "http://"+guestAddr+":7080"+path)
}

// Client is a checking client at work on the client host.
type Client struct {
	cmd     *exec.Cmd
	mu      sync.Mutex // guards samples
	samples []client.Sample
	result  client.Result
	done    chan struct{}
}

// StartClient begins to ask the guest over one TCP connection; the seed names the client.
func (b *Bed) StartClient(ctx context.Context, interval time.Duration, seed uint64) (*Client, error) {
	return b.startClient(ctx, "-name", fmt.Sprint("client", seed), "-interval", interval.String(), "-seed", fmt.Sprint(seed))
}

// StartUDPClients begins to ask the guest over UDP, so many at a time over one socket; a
// request without an answer for 3 s is lost and sent again.
func (b *Bed) StartUDPClients(ctx context.Context, clients int, interval time.Duration, seed uint64) (*Client, error) {
	return b.startClient(ctx, "-udp", fmt.Sprint(clients), "-name", fmt.Sprint("udp", seed), "-interval", interval.String(), "-seed", fmt.Sprint(seed))
}

func (b *Bed) startClient(ctx context.Context, args ...string) (*Client, error) {
	c := &Client{done: make(chan struct{})}
	c.cmd = b.Host("client").Command(ctx, append([]string{"/opt/hamgr/bin/ledgerclient"}, args...)...)
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Stderr = &bytes.Buffer{}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go c.read(out)
	return c, nil
}

func (c *Client) read(out io.Reader) {
	defer close(c.done)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var line struct {
			client.Sample
			Result *client.Result `json:"result"`
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		c.mu.Lock()
		if line.Result != nil {
			c.result = *line.Result
		} else {
			c.samples = append(c.samples, line.Sample)
		}
		c.mu.Unlock()
	}
	c.cmd.Wait()
}

// Samples are the answers so far.
func (c *Client) Samples() []client.Sample {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]client.Sample(nil), c.samples...)
}

// Failed says that the client has given up.
func (c *Client) Failed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Stop ends this client, and all others, and returns its verdict.
func (c *Client) Stop(b *Bed) (client.Result, error) {
	b.Host("client").Exec(context.Background(), "pkill", "-TERM", "-x", "ledgerclient")
	select {
	case <-c.done:
	case <-time.After(35 * time.Second):
		return client.Result{}, fmt.Errorf("the client does not stop")
	}
	return c.result, nil
}

// Alarm is one event as the inspector got it.
type Alarm struct {
	Received time.Time `json:"received"`
	Event    struct {
		Type    string            `json:"type"`
		Details map[string]string `json:"details"`
	} `json:"event"`
}

// Alarms are what the inspector has received.
func (b *Bed) Alarms() (list []Alarm, err error) {
	data, err := os.ReadFile(filepath.Join(b.Out, "logs", "client", "alarms.jsonl"))
	for line := range bytes.Lines(data) {
		var a Alarm
		if json.Unmarshal(line, &a) == nil {
			list = append(list, a)
		}
	}
	return list, err
}
