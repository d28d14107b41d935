package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
)

// Sightings are what this host knows of guests, those that run here and those that it has
// had a part in. One that cannot be looked at is an error: nobody may take it for gone.
func (a *Agent) Sightings(ctx context.Context) ([]core.Sighting, error) {
	if err := a.up(ctx); err != nil {
		return nil, err
	}
	names, err := a.host.Running(ctx)
	if err != nil {
		return nil, err
	}
	seen := []core.Sighting{}
	known := a.notes.list()
	for _, name := range names {
		x, err := a.sight(ctx, name)
		if errors.Is(err, domain.ErrNoDomain) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("%s on %s: %w", name, a.cfg.Node, err)
		}
		if n := known[name]; n.UUID == x.Note.UUID {
			x.Note = n
			delete(known, name)
		}
		seen = append(seen, x)
	}
	for name, n := range known {
		seen = append(seen, core.Sighting{Node: a.cfg.Node, Domain: name, Note: n})
	}
	slices.SortFunc(seen, func(x, y core.Sighting) int { return cmp.Compare(x.Domain, y.Domain) })
	return seen, nil
}

func (a *Agent) sight(ctx context.Context, name string) (core.Sighting, error) {
	info, err := a.host.Lookup(ctx, name)
	if err != nil {
		return core.Sighting{}, err
	}
	marked, err := bufferqdisc.Left(taps(info))
	return core.Sighting{Node: a.cfg.Node, Domain: name, Running: true, Marked: marked, Note: core.Note{UUID: info.UUID}}, err
}
