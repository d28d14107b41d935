package sim

import (
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// vm is a guest, of which there may be several copies, at most one of which is to be seen.
//
// Its life is a count: each thing it does raises it, writes it into a page, and tells the
// network. A restore goes back to the count of a checkpoint and begins another branch.
//
//	branch 0   1 2 3 4 5 6 7 8          restored from 5: what was seen of 6 to 8 is undone
//	branch 1           `-- 6 7 8 9
type vm struct {
	w        *World
	id       int
	copies   int // ever made
	running  int
	branches []branch
	line     int           // the branch that is the guest now
	doomed   string        // why there is no copy of it left
	forsaken bool          // one was, on its former primary
	free     bool          // the operator has ended the protection
	gone     bool          // and the guest has ended after that
	heard    time.Duration // last, on the branch it is on
	boot     string        // of its backup's hamgr, when it was last called protected
}

type branch struct {
	parent int
	fork   uint64 // the count of the parent at which it began
	seen   uint64 // the highest count that reached the network
	// committed is the highest count of a checkpoint.
	committed uint64
}

const pages = 4

// copy is one QEMU with the guest in it.
type copy struct {
	vm     *vm
	host   *host
	id     uint32
	branch int
	count  uint64
	pages  [pages]uint64 // the count of the last write to each
	dirty  [pages]bool   // since the last checkpoint of a session

	running bool
	hung    int // faults that make its QEMU stand still
	paused  bool
	since   time.Duration // paused since
	tap     tap
}

// tap is what the kernel has between a copy and the network. It outlives hamgr.
type tap struct {
	hold  bool // the buffer holds; without that it lets pass, or is not there
	cut   bool // the buffer is abandoned, or its process died while it held
	epoch uint64
	held  []packet

	gate  bool
	until time.Duration // the gate is open until then
	stays bool          // mutant LeaseUnfenced: the gate waits for its process to close it
	late  []packet      // what waits for it to open
	alone bool          // its process is gone, and with it the place where that waits
}

type packet struct {
	branch int
	count  uint64
	epoch  uint64
}

func newVM(w *World, id int, at *host) *vm {
	g := &vm{w: w, id: id, branches: []branch{{parent: -1}}}
	g.run(at, 0, 0, [pages]uint64{})
	return g
}

// run starts a copy on a host, with a new tap that nothing stands before.
func (g *vm) run(h *host, branch int, count uint64, mem [pages]uint64) *copy {
	c := &copy{vm: g, host: h, id: uint32(g.id | g.copies<<2), branch: branch, count: count, pages: mem, running: true}
	g.copies++
	g.running++
	h.copies[g.id], h.late[g.id] = c, nil
	g.w.after(g.w.between(0, actEvery), event{kind: guestActs, to: uint8(h.id), arg: c.id})
	return c
}

const actEvery = 60 * time.Millisecond

func (h *host) guestActs(id uint32) {
	c := h.copies[id&3]
	if c == nil || c.id != id || !c.running {
		return
	}
	h.w.after(h.w.between(actEvery/2, actEvery*3/2), event{kind: guestActs, to: uint8(h.id), arg: id})
	if c.hung > 0 {
		return
	}
	if c.paused {
		h.w.checkWatchdog(c)
		return
	}
	c.count++
	p := c.count % pages
	c.pages[p], c.dirty[p] = c.count, true
	c.emit(packet{c.branch, c.count, c.tap.epoch + 1})
}

// emit is a packet of the guest's at the tap: first the gate, then the buffer.
func (c *copy) emit(p packet) {
	switch t := &c.tap; {
	case t.cut, !c.gateOpen() && t.alone:
	case !c.gateOpen():
		t.late = append(t.late, p)
	case t.hold:
		t.held = append(t.held, p)
	default:
		c.leaves(p)
	}
}

// letLateGo is the gate's, when it opens or is removed: what waits goes on to the buffer.
func (c *copy) letLateGo() {
	for _, p := range c.tap.late {
		if c.tap.hold {
			p.epoch = c.tap.epoch + 1
			c.tap.held = append(c.tap.held, p)
			continue
		}
		c.leaves(p)
	}
	c.tap.late = nil
}

func (c *copy) openGate() {
	c.letLateGo()
	c.tap.gate = false
}

func (c *copy) gateOpen() bool {
	return !c.tap.gate || c.host.w.now < c.tap.until || c.tap.stays
}

// emits says that what the guest sends now would be seen.
func (c *copy) emits() bool {
	return c.running && !c.paused && c.hung == 0 && !c.tap.hold && !c.tap.cut && c.gateOpen()
}

// leaves is a packet on its way to the network.
func (c *copy) leaves(p packet) {
	if c.host.dark == 0 {
		c.vm.seen(c, p)
	}
}

// The verbs of bufferqdisc.

func (c *copy) hold() { c.tap.hold = true }

func (c *copy) endEpoch() uint64 {
	c.tap.epoch++
	return c.tap.epoch
}

func (c *copy) release(epoch uint64) {
	t := &c.tap
	n := 0
	for n < len(t.held) && t.held[n].epoch <= epoch {
		if c.gateOpen() {
			c.leaves(t.held[n])
		}
		n++
	}
	t.held = append(t.held[:0], t.held[n:]...)
}

func (c *copy) open() {
	c.release(c.tap.epoch + 1)
	c.tap.hold = false
}

func (c *copy) abandon() {
	c.tap.cut, c.tap.hold, c.tap.held = true, false, nil
	c.tap.until, c.tap.stays, c.tap.late = 0, false, nil
}

func (c *copy) clear() { c.tap = tap{epoch: c.tap.epoch} }

// processDied leaves the tap to the kernel.
func (c *copy) processDied() {
	c.tap.late, c.tap.alone = nil, true
	if c.tap.hold {
		c.tap.hold, c.tap.cut, c.tap.held = false, true, nil
	}
}

func (c *copy) pause() {
	c.paused, c.since = true, c.host.w.now
}

func (c *copy) resume() { c.paused = false }

// goesOn is the end of a fault that made its QEMU hang.
func (c *copy) goesOn() {
	c.hung--
	c.since = max(c.since, c.host.w.now) // so long it was not hamgr that kept it
}

// die is the end of its QEMU.
func (c *copy) die() {
	if !c.running {
		return
	}
	c.running = false
	c.vm.running--
	c.host.copies[c.vm.id] = nil
	if len(c.tap.late) > 0 {
		c.host.late[c.vm.id] = c
	}
	if c.vm.free {
		c.vm.gone = true
	}
	if p := c.host.proc; p != nil {
		c.host.w.after(2*time.Millisecond, event{kind: guestGone, to: uint8(c.host.id), inc: p.inc, arg: uint32(c.vm.id)})
	}
}

// owner is the copy on the host that the cluster holds for the guest's; nil: none runs.
func (g *vm) owner() *copy {
	p := g.agreed()
	if p == nil {
		return nil
	}
	return g.w.hosts[hostOf(p.Primary)].copies[g.id]
}

// agreed is what was committed about the guest last; nil: it is not protected.
func (g *vm) agreed() *core.Protection { return g.w.ledger.newest().p[g.id] }
