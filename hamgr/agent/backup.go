package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/input"
	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/hamgr/hamgr/qmp/colo"
	"github.com/hamgr/hamgr/storage"
	"github.com/hamgr/hamgr/storage/wire"
)

// backup is the waiting side of one protection: a replica and the standby that has it
// mapped. receive's goroutine owns the replica until takeOver or discard.
type backup struct {
	agent *Agent
	hello wire.Hello
	log   *slog.Logger
	conn  net.Conn

	replica *storage.Replica
	standby *domain.Standby
	begun   bool // the first copy is over

	keeper    *input.Keeper // of copies of the guest's input; nil: none
	inputFull bool          // and that was said

	once sync.Once     // of takeOver and discard: only the first counts
	done chan struct{} // receive has ended
}

const (
	standbyTimeout = 20 * time.Second
	catchUpTimeout = 3 * time.Second
	fencedTimeout  = 10 * time.Second
	restoreTimeout = 10 * time.Second
)

// accept takes checkpoint connections until the listener closes.
func (a *Agent) accept(ctx context.Context, ln net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			a.serveBackup(ctx, conn)
		})
	}
}

// serveBackup is one connection from a primary, from its HELLO to its end.
func (a *Agent) serveBackup(ctx context.Context, conn net.Conn) {
	r := wire.NewReceiver(conn)
	conn.SetReadDeadline(time.Now().Add(helloTimeout))
	h, err := r.Hello()
	if err != nil {
		a.log.Warn("not a primary", "from", conn.RemoteAddr(), "err", err)
		return
	}
	conn.SetReadDeadline(time.Time{})
	b := &backup{agent: a, hello: h, conn: conn, done: make(chan struct{}), log: a.log.With("domain", h.Domain, "side", "backup")}
	if err := b.prepare(ctx); err != nil {
		b.log.Warn("refused", "primary", h.Primary, "generation", h.Generation, "err", err)
		refusal := &wire.RefusedError{Code: wire.CodeStandby, Text: err.Error()}
		errors.As(err, &refusal)
		r.Refuse(refusal)
		return
	}
	if !a.enlist(b) {
		b.discard()
		return
	}
	defer close(b.done)
	a.background.Go(func() { b.watchStandby(ctx) })
	err = b.receive(r)
	b.log.Info("checkpoints stopped", "generation", h.Generation, "cause", err)
	b.usurp(ctx, err)
}

// watchStandby tells the cluster when the standby is no more while checkpoints come: what
// is committed here then cannot be restored. Nobody else may know. The primary finds out
// only when it has a checkpoint to send, and its QEMU may hang.
func (b *backup) watchStandby(ctx context.Context) {
	select {
	case <-b.standby.Ended(): // or was let run
	case <-b.done:
		return
	}
	b.conn.Close()
	a, h := b.agent, b.hello
	p := a.cluster.State().Protections[h.Domain]
	if p.Backup != a.cfg.Node || p.Generation != h.Generation {
		return
	}
	b.log.Warn("the standby has ended", "generation", h.Generation)
	c := core.Command{Kind: core.GoSolo, Domain: h.Domain, Generation: h.Generation, Backup: a.cfg.Node, Cause: "the standby on " + a.cfg.Node + " has ended"}
	if err := a.propose(ctx, c); err != nil && !final(err) {
		b.log.Error("the cluster could not be told that the standby has ended", "err", err)
	}
}

// prepare checks that the cluster wants this, and readies the standby.
func (b *backup) prepare(ctx context.Context) error {
	if err := b.agent.mayBackUp(ctx, b.hello); err != nil {
		return err
	}
	h := b.hello
	if err := b.agent.awaitFenced(ctx, h.Domain); err != nil {
		return err
	}
	if err := b.agent.notes.write(h.Domain, core.Note{UUID: h.UUID, Generation: h.Generation, Primary: h.Primary, Backup: b.agent.cfg.Node}); err != nil {
		return err
	}
	b.agent.dropOlder(h)
	ctx, cancel := context.WithTimeout(ctx, standbyTimeout)
	defer cancel()
	s, err := b.agent.host.PrepareStandby(ctx, domain.StandbySpec{XML: b.hello.DomainXML, MemoryDir: b.agent.cfg.MemoryDir, RunDir: b.agent.cfg.RunDir})
	b.standby = s
	if err == nil {
		b.keepInput()
	}
	return err
}

// mayBackUp waits until this node's state is as new as the primary's and compares.
func (a *Agent) mayBackUp(ctx context.Context, h wire.Hello) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	changed, stop := a.cluster.Watch()
	defer stop()
	for a.cluster.State().Index < h.RaftIndex {
		select {
		case <-changed:
		case <-ctx.Done():
			return &wire.RefusedError{Code: wire.CodeNotMine, Text: a.cfg.Node + " has lost touch with the managers"}
		}
	}
	st := a.cluster.State()
	switch rules.Admit(a.cfg.Node, st, rules.Replica{Domain: h.Domain, UUID: h.UUID, Generation: h.Generation}) {
	case rules.NotMine:
		return &wire.RefusedError{Code: wire.CodeNotMine, Text: fmt.Sprintf("%s is not the backup of %s", a.cfg.Node, h.Domain)}
	case rules.Stale:
		return &wire.RefusedError{Code: wire.CodeStale, Text: fmt.Sprintf("generation %d of %s, now %d", h.Generation, h.Domain, st.Protections[h.Domain].Generation)}
	}
	return checkMemory(a.cfg.MemoryDir, h.MemoryBytes)
}

// awaitFenced waits until the job that this node had for a domain as its primary is over:
// what ends a copy of that name must not find the standby.
func (a *Agent) awaitFenced(ctx context.Context, name string) error {
	a.mu.Lock()
	job := a.primaries[name]
	a.mu.Unlock()
	if job == nil {
		return nil
	}
	select {
	case <-job.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(fencedTimeout):
		return &wire.RefusedError{Code: wire.CodeStandby, Text: fmt.Sprintf("%s has not ended its own copy of %s yet, from when it was the primary", a.cfg.Node, name)}
	}
}

// dropOlder ends the replica of an earlier generation.
func (a *Agent) dropOlder(h wire.Hello) {
	a.mu.Lock()
	old := a.backups[h.Domain]
	if old != nil && old.hello.Generation < h.Generation {
		delete(a.backups, h.Domain)
	} else {
		old = nil
	}
	a.mu.Unlock()
	if old != nil {
		old.discard()
	}
}

// enlist puts b into the table, unless one of the same generation is there.
func (a *Agent) enlist(b *backup) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.backups[b.hello.Domain] != nil {
		return false
	}
	a.backups[b.hello.Domain] = b
	return true
}

// receive fills the replica until the connection ends.
func (b *backup) receive(r *wire.Receiver) error {
	if err := r.Accept(wire.Accepted{InputPorts: b.inputPorts()}); err != nil {
		return err
	}
	layout, err := r.Layout()
	if err != nil {
		return err
	}
	id := storage.Identity{Domain: b.hello.Domain, Generation: b.hello.Generation}
	dir := filepath.Join(b.agent.cfg.MemoryDir, "replicas", b.hello.Domain)
	rep, err := storage.Create(dir, id, layout, b.standby.RAMPath, domain.MainRAM)
	if err != nil {
		r.Refuse(&wire.RefusedError{Code: wire.CodeNoMemory, Text: err.Error()})
		return err
	}
	b.agent.mu.Lock()
	b.replica = rep
	b.agent.mu.Unlock()
	for {
		b.boundSilence()
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return errors.New("the primary hung up")
		}
		if err == nil {
			err = b.take(rep, r, f)
		}
		if err != nil {
			return err
		}
	}
}

func (b *backup) take(rep *storage.Replica, r *wire.Receiver, f wire.Frame) error {
	g := b.hello.Generation
	switch f.Type {
	case wire.TypeBegin:
		b.begun = true
		return rep.Begin(g, f.Epoch)
	case wire.TypePages:
		if !b.begun {
			return rep.WritePages(f.Payload)
		}
		return rep.AddPages(f.Payload)
	case wire.TypeDeviceState:
		rep.SetDeviceState(f.Payload)
	case wire.TypeForget:
		if b.keeper != nil {
			b.keeper.Forget(f.Taken)
		}
	case wire.TypeEnd:
		return b.end(rep, r, f)
	}
	return nil
}

// end applies a whole checkpoint and then, only then, tells the primary.
func (b *backup) end(rep *storage.Replica, r *wire.Receiver, f wire.Frame) error {
	if mutant.Is(mutant.AckBeforeApply) {
		r.Commit(b.committed(f.Epoch))
	}
	if err := rep.Commit(b.hello.Generation, f.Epoch, f.Count); err != nil {
		return err
	}
	b.trace(trace.Committed, f.Epoch)
	if mutant.Is(mutant.AckBeforeApply) {
		return nil
	}
	return r.Commit(b.committed(f.Epoch))
}

// obsolete says that the cluster no longer wants this replica.
func (b *backup) obsolete(node string, p core.Protection, protected bool) bool {
	return rules.Obsolete(node, b.which(), p, protected)
}

func (b *backup) which() rules.Replica {
	return rules.Replica{Domain: b.hello.Domain, UUID: b.hello.UUID, Generation: b.hello.Generation}
}

// discard ends the standby and frees the replica.
func (b *backup) discard() {
	b.once.Do(func() {
		b.conn.Close()
		if err := b.standby.Discard(); err != nil {
			b.log.Warn("the standby was not ended cleanly", "err", err)
		}
		b.closeKeeper()
		if b.replica != nil {
			b.replica.Discard()
		}
	})
}

// takeOver restores the guest here: the cluster has made this node its primary.
// Called with the agent's lock held; the work goes on in a goroutine of its own.
func (b *backup) takeOver(ctx context.Context, p core.Protection) {
	b.once.Do(func() { b.agent.background.Go(func() { b.restore(ctx, p, b.replica) }) })
}

func (b *backup) restore(ctx context.Context, p core.Protection, rep *storage.Replica) {
	start := time.Now()
	b.conn.Close() // what the former primary learns from that counts, see stillBackedUp
	b.agent.notes.alone(p)
	c := core.Command{Kind: core.Restored, Domain: p.Domain, Generation: p.Generation}
	deliver, stop := context.WithTimeout(ctx, restoreTimeout)
	defer stop()
	running := make(chan struct{})
	delivered := b.deliverInput(deliver, running)
	err := b.agent.noteRestored(p, b.standby.NICs)
	var epoch uint64
	if err == nil {
		epoch, err = b.activate(ctx, rep, p.Generation)
	}
	c.Time = time.Now()
	c.Cause = fmt.Sprintf("restored epoch %d in %d ms", epoch, c.Time.Sub(start).Milliseconds())
	if err != nil {
		b.log.Error("the guest could not be restored", "err", err)
		stop()
		c.Stopped = b.standby.Discard() == nil
		b.agent.forgetRestored(p.Domain)
		c.Kind, c.Cause = core.MarkLost, err.Error()
	} else {
		close(running)
		b.agent.restoredRuns(p.Domain)
		b.trace(trace.Restored, epoch)
		b.log.Info("restored", "epoch", epoch, "generation", p.Generation, "took", fmt.Sprintf("%+v", b.standby.Timing()))
	}
	b.finish(ctx, c, rep)
	<-delivered
}

// finish announces the restored guest, tells the cluster, and only then makes the guest
// an ordinary domain: libvirt may take its time over that.
func (b *backup) finish(ctx context.Context, c core.Command, rep *storage.Replica) {
	a := b.agent
	a.background.Go(func() {
		if err := a.propose(ctx, c); err != nil {
			b.log.Error("the cluster could not be told", "command", c.Kind, "err", err)
		}
	})
	if c.Kind == core.Restored {
		a.background.Go(func() {
			if err := domain.AnnounceAll(ctx, b.standby.NICs, c.Time); err != nil {
				b.log.Warn("the restored guest was not announced on the network; switches learn with its first packet", "err", err)
			}
		})
		if err := b.standby.Settle(ctx); err != nil {
			b.log.Warn("the restored guest could not be made an ordinary domain", "err", err)
		}
	}
	if rep != nil {
		rep.Discard()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.backups[b.hello.Domain] == b {
		delete(a.backups, b.hello.Domain)
	}
}

func (b *backup) activate(ctx context.Context, rep *storage.Replica, generation uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	if rep == nil {
		return 0, storage.ErrEmpty
	}
	if err := rep.Freeze(generation); err != nil {
		return 0, err
	}
	epoch, _ := rep.Committed()
	image := colo.RestoreImage{
		Configuration: rep.Layout().Configuration, Blocks: coloBlocks(rep.Layout()),
		Pages: rep.OtherPages, DeviceState: rep.DeviceState(),
	}
	return epoch, b.standby.Activate(ctx, func(w io.Writer) error { return colo.WriteRestore(w, image) })
}

func coloBlocks(l wire.Layout) (out []colo.Block) {
	for _, b := range l.Blocks {
		out = append(out, colo.Block{Name: b.Name, Size: b.Size})
	}
	return out
}
