package main

import (
	"maps"

	"github.com/hamgr/hamgr/hamgr/config"
	"github.com/hamgr/hamgr/hamgr/serve"
	"github.com/spf13/cobra"
)

func (a *app) serve() *cobra.Command {
	var path string
	var flags config.Config
	c := &cobra.Command{
		Use: "serve", Short: "Run this node", Args: cobra.NoArgs,
		Example: "  hamgr serve --node h1 --addr 10.0.0.1 --managers h1=10.0.0.1,h2=10.0.0.2,h3=10.0.0.3",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			override(&cfg, flags)
			if cmd.Flags().Changed("managers") {
				cfg.Managers = maps.Clone(flags.Managers)
			}
			cfg.Socket = a.socket
			if err := cfg.Validate(); err != nil {
				return err
			}
			return serve.Run(cmd.Context(), cfg)
		},
	}
	f := c.Flags()
	f.StringVar(&path, "config", config.DefaultPath, "configuration file")
	f.StringVar(&flags.Node, "node", "", "name of this node (default: the host's)")
	f.StringVar(&flags.Addr, "addr", "", "its management address")
	f.StringToStringVar(&flags.Managers, "managers", nil, "name=address of the managers, the same on every node")
	f.StringVar(&flags.DataDir, "data", "", "where the managers' log is kept (default /var/lib/hamgr)")
	f.StringVar(&flags.LibvirtURI, "libvirt", "", "libvirt connection (default qemu:///system)")
	f.StringVar(&flags.MemoryDir, "memory-dir", "", "libvirt's memory_backing_dir, a tmpfs (default /dev/shm/hamgr)")
	f.StringVar(&flags.InspectorURL, "inspector", "", "URL of an inspector that takes OPNFV Doctor's events")
	return c
}

// override takes what was given on the command line.
func override(cfg *config.Config, flags config.Config) {
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&cfg.Node, flags.Node}, {&cfg.Addr, flags.Addr}, {&cfg.DataDir, flags.DataDir}, {&cfg.LibvirtURI, flags.LibvirtURI},
		{&cfg.MemoryDir, flags.MemoryDir}, {&cfg.InspectorURL, flags.InspectorURL},
	} {
		if f.from != "" {
			*f.to = f.from
		}
	}
}
