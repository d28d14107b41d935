package plug

import "github.com/hamgr/hamgr/bufferqdisc/internal/hook"

// Stats may be called at any time.
func (p *Plug) Stats() hook.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.statsLocked()
}

// statsLocked asks the kernel, which counts from New on; closed or cut, it is what the
// kernel said last.
func (p *Plug) statsLocked() hook.Stats {
	p.last.Holding = p.state == holding || p.state == cut
	if p.state == cut || p.state == closed {
		return p.last
	}
	now := hook.Stats{Backend: "plug", Holding: p.last.Holding}
	for _, o := range p.ports {
		c, err := o.box.counters()
		if err != nil {
			return p.last
		}
		now.HeldPackets += c.held
		now.HeldBytes += c.heldBytes
		now.Released += c.released
		now.ReleasedBytes += c.releasedBytes
		now.Dropped += c.dropped
	}
	p.last = now
	return now
}
