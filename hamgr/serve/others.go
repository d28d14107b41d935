package serve

import (
	"context"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/cluster"
	"github.com/hamgr/hamgr/hamgr/config"
	"github.com/hamgr/hamgr/hamgr/core"
)

// others asks the other nodes for a cluster that has no log yet, over their API.
type others config.Config

func (o others) at(addr string) *api.Client {
	return api.NewClient("http://" + hostPort(addr, o.Ports.API))
}

func (o others) Standing(ctx context.Context, addr string) (cluster.Standing, error) {
	return o.at(addr).Standing(ctx)
}

func (o others) Blank(ctx context.Context, addr string, n core.Node) error {
	return o.at(addr).Blank(ctx, n)
}
