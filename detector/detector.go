package detector

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hamgr/hamgr/detector/judge"
	"github.com/hamgr/hamgr/detector/lease"
)

// The defaults of Config.
const (
	DefaultInterval     = 10 * time.Millisecond
	DefaultTimeout      = 250 * time.Millisecond
	DefaultProcessGrace = 8 * time.Second
)

// Config is how one node listens and to whom it speaks.
type Config struct {
	Self    string          // this node's name
	Listen  string          // host:port for the heartbeats of others; UDP
	Second  string          // the same on a network that shares no switch with that of Listen; none if empty
	Peers   map[string]Peer // every other node, by name
	Cluster string          // heartbeats of a cluster of another name are ignored

	Interval     time.Duration // between two heartbeats; DefaultInterval if 0
	Timeout      time.Duration // of silence until a peer is suspected at the latest; DefaultTimeout if 0
	Floor        time.Duration // the same at the earliest, of a regular peer; 8 Interval if 0
	Detour       time.Duration // the same, of a peer that is heard on the second path; judge.DefaultDetour if 0
	ProcessGrace time.Duration // for a peer's hamgr to come back on a living host; DefaultProcessGrace if 0

	// Incarnation tells this process of the node from an earlier one; the time if 0.
	Incarnation uint64

	// Voter is this node's part in leases: whether it grants them, and to whom. Nil: it
	// is no manager. It is asked often and must not block.
	Voter func() Voter

	Now func() time.Time // time.Now if nil
}

// Peer is where a node listens, each a host:port.
type Peer struct {
	Addr   string
	Second string // empty: nowhere
}

// Voter is a manager's part in leases, as of the moment it is asked (see package lease).
type Voter struct {
	lease.Voter
	Index    uint64          // of the newest change of ownership, or of the managers, that it knows of
	Withheld map[string]bool // nodes that get no grant; not for writing
}

// Detector watches the peers of one node. Its methods may be called by any goroutine.
type Detector struct {
	cfg         Config
	cluster     uint64
	incarnation uint64
	listen      *net.UDPConn
	second      *net.UDPConn // nil: there is no second path

	mu       sync.Mutex // guards what follows
	table    *judge.Table
	links    map[string]*link
	seconds  map[string]*link // to those that have a second path, while this node has one
	holder   *lease.Holder
	sequence uint64
	changed  chan struct{} // closed at the next change, then replaced
}

// New opens the listening socket; heartbeats flow once Run is called. Run closes it.
func New(cfg Config) (*Detector, error) {
	if cfg.Interval == 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Floor == 0 {
		cfg.Floor = 8 * cfg.Interval
	}
	if cfg.Detour == 0 {
		cfg.Detour = judge.DefaultDetour
	}
	if cfg.ProcessGrace == 0 {
		cfg.ProcessGrace = DefaultProcessGrace
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Self == "" || len(cfg.Self) > MaxName {
		return nil, fmt.Errorf("detector: node name %q: 1 to %d octets, please", cfg.Self, MaxName)
	}
	if cfg.Timeout < 2*cfg.Interval {
		return nil, fmt.Errorf("detector: a timeout of %v leaves no room for one lost heartbeat at an interval of %v; make it at least twice that", cfg.Timeout, cfg.Interval)
	}
	conn, err := listen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	var second *net.UDPConn
	if cfg.Second != "" {
		if second, err = listen(cfg.Second); err != nil {
			conn.Close()
			return nil, fmt.Errorf("%w (the second path)", err)
		}
	}
	if cfg.Incarnation == 0 {
		cfg.Incarnation = uint64(cfg.Now().UnixNano())
	}
	d := &Detector{
		cfg: cfg, cluster: clusterHash(cfg.Cluster), incarnation: cfg.Incarnation, listen: conn, second: second,
		holder: lease.NewHolder(cfg.Self, cfg.Incarnation),
		table:  judge.New(cfg.Self, cfg.Timeout, cfg.ProcessGrace), links: map[string]*link{}, seconds: map[string]*link{}, changed: make(chan struct{}),
	}
	d.table.Adapt(cfg.Floor)
	d.table.Detour(cfg.Detour)
	d.SetPeers(cfg.Peers)
	return d, nil
}

func listen(hostPort string) (*net.UDPConn, error) {
	addr, err := net.ResolveUDPAddr("udp", hostPort)
	if err != nil {
		return nil, fmt.Errorf("detector: listen address %q: %w", hostPort, err)
	}
	conn, err := early(func() (*net.UDPConn, error) { return net.ListenUDP("udp", addr) })
	if err != nil {
		return nil, fmt.Errorf("detector: listen for heartbeats on %s: %w", hostPort, err)
	}
	return conn, nil
}

// SetPeers replaces the peers; what is known of those who stay is kept. This node's own
// name in it is passed over.
func (d *Detector) SetPeers(peers map[string]Peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	first, second := map[string]string{}, map[string]string{}
	for name, p := range peers {
		if name == d.cfg.Self {
			continue
		}
		first[name] = p.Addr
		if d.second != nil && p.Second != "" {
			second[name] = p.Second
		}
	}
	relink(d.links, first)
	relink(d.seconds, second)
	d.table.SetPeers(slices.Collect(maps.Keys(first)), d.cfg.Now())
	d.pulseLocked()
}

// Run sends, listens and judges until ctx ends, which is no error. A Detector runs once.
func (d *Detector) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, d.closeListeners)
	defer stop()
	defer d.closeAll()
	var wg sync.WaitGroup
	defer wg.Wait()
	beating, cancel := context.WithCancel(ctx)
	defer cancel()
	defer d.closeListeners() // ends the second path
	wg.Go(func() { d.beat(beating) })
	if d.second != nil {
		wg.Go(func() { _ = receive(d.second, d.heardSecond) }) // a path less is what the first is for
	}
	if err := receive(d.listen, d.heard); ctx.Err() == nil {
		return fmt.Errorf("detector: read heartbeats on %s: %w", d.cfg.Listen, err)
	}
	return nil
}

func (d *Detector) closeListeners() {
	d.listen.Close()
	if d.second != nil {
		d.second.Close()
	}
}

func (d *Detector) closeAll() {
	d.closeListeners()
	d.mu.Lock()
	defer d.mu.Unlock()
	relink(d.links, nil)
	relink(d.seconds, nil)
}

// receive ends when the socket is closed.
func receive(conn *net.UDPConn, take func([]byte)) error {
	buf := make([]byte, maxPacket)
	for {
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		take(buf[:n])
	}
}

func (d *Detector) heard(b []byte) {
	p, err := unmarshal(b, d.cluster)
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.table.Heard(p.Heartbeat, d.cfg.Now()) {
		d.pulseLocked()
	}
	d.holder.Heard(p.Sender, p.echo)
}

// heardSecond passes over the echo: there are no leases by the second path, whose rules
// know one path only.
func (d *Detector) heardSecond(b []byte) {
	p, err := unmarshal(b, d.cluster)
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.table.HeardSecond(p.Heartbeat, d.cfg.Now()) {
		d.pulseLocked()
	}
}

func (d *Detector) beat(ctx context.Context) {
	tick := time.NewTicker(d.cfg.Interval / looks)
	defer tick.Stop()
	for n := 0; ; n++ {
		d.once(n%looks == 0)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// looks is how often in an interval this node judges: a vote that has changed is sent at once.
const looks = 2

// once judges, then tells everybody if it is time or there is news. Sending a datagram
// does not block for longer than the kernel needs to queue it.
func (d *Detector) once(due bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Now()
	if d.table.Tick(now) {
		d.pulseLocked()
	} else if !due {
		return
	}
	d.sequence++
	p := packet{Heartbeat: judge.Heartbeat{Sender: d.cfg.Self, Incarnation: d.incarnation, Sequence: d.sequence, Suspects: d.table.Gossip()}}
	b := p.marshal(d.cluster)
	echoes := make(map[string]lease.Echo, len(d.links))
	for name := range d.links {
		echoes[name] = d.table.Echo(name)
	}
	v := d.voter() // after the echoes: rule R2 of package lease
	d.holder.Sending(d.sequence, d.cfg.Now())
	for name, l := range d.links {
		if l.send(appendEcho(b, v.complete(name, echoes[name])), localIP(d.listen)) {
			d.table.Refused(name, now)
		}
	}
	for _, l := range d.seconds {
		l.send(b, localIP(d.second))
	}
}

func (d *Detector) voter() Voter {
	if d.cfg.Voter == nil {
		return Voter{}
	}
	return d.cfg.Voter()
}

func (v Voter) complete(name string, e lease.Echo) lease.Echo {
	e.Term, e.Grant = v.Term, v.Leads && !v.Withheld[name]
	if e.Grant {
		e.Index = v.Index
	}
	return e
}

// localIP is the address that heartbeats leave from: the one that we listen on.
func localIP(listen *net.UDPConn) net.IP {
	ip := listen.LocalAddr().(*net.UDPAddr).IP
	if ip.IsUnspecified() {
		return nil
	}
	return ip
}

func (d *Detector) pulseLocked() {
	close(d.changed)
	d.changed = make(chan struct{})
}
