package plug

import (
	"errors"
	"fmt"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
)

// New readies a plug for these taps, open. It changes nothing when it fails. The handle
// is its own from now on.
func New(h hook.Kernel, taps []string, limitBytes int) (p *Plug, err error) {
	p = &Plug{h: h, epoch: 1, last: hook.Stats{Backend: "plug"}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("plug: %w", err), p.each((*port).demolish))
			p.close()
			p = nil
		}
	}()
	if p.watch, err = h.Watch(); err != nil {
		return p, err
	}
	for _, t := range taps {
		o, err := newPort(h, t, uint32(limitBytes/len(taps)))
		if o != nil {
			p.ports = append(p.ports, o)
		}
		if err != nil {
			return p, err
		}
	}
	if err = p.each((*port).attach); err != nil {
		return p, err
	}
	_, err = p.watch.Look(p.devices()) // forget the events of our own doing
	return p, err
}
