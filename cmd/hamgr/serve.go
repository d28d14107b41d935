package main

import (
	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/config"
	"github.com/hamgr/hamgr/hamgr/serve"
)

func (a *app) serve() *cobra.Command {
	var path, managers string
	var flags config.Config
	c := &cobra.Command{
		Use: "serve", Short: "Run this node", Args: cobra.NoArgs,
		Example: "  hamgr serve\n  hamgr serve --node h1 --addr 10.0.0.1 --managers h1=10.0.0.1,h2=10.0.0.2,h3=10.0.0.3",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("socket") {
				flags.Socket = a.socket
			}
			cfg, err := configuration(path, managers, flags)
			if err != nil {
				return err
			}
			return serve.Run(cmd.Context(), cfg, version())
		},
	}
	f := c.Flags()
	f.StringVar(&path, "config", config.DefaultPath, "configuration file; flags override it")
	f.StringVar(&flags.Node, "node", "", "name of this node (default: the host's)")
	f.StringVar(&flags.Addr, "addr", "", "its management address")
	f.StringVar(&flags.Second, "second-addr", "", "its address on a network of other switches: no host is given up at once that is heard there")
	f.StringVar(&managers, "managers", "", "name=address of the managers that a new cluster begins with, with commas, the same on every node")
	f.StringVar(&flags.DataDir, "data", "", "where the managers' log is kept (default /var/lib/hamgr)")
	f.StringVar(&flags.LibvirtURI, "libvirt", "", "libvirt connection (default qemu:///system)")
	f.StringVar(&flags.MemoryDir, "memory-dir", "", "libvirt's memory_backing_dir, a tmpfs (default /dev/shm/hamgr)")
	f.StringVar(&flags.InspectorURL, "inspector", "", "URL of an inspector that takes OPNFV Doctor's events")
	f.StringVar(&flags.Trace, "trace", "", "file to note the moments of each epoch in; none by default")
	return c
}

// configuration is the file with what was given on the command line over it.
func configuration(path, managers string, flags config.Config) (config.Config, error) {
	cfg, err := config.Load(path)
	if err != nil {
		return cfg, err
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&cfg.Node, flags.Node}, {&cfg.Addr, flags.Addr}, {&cfg.Second, flags.Second}, {&cfg.DataDir, flags.DataDir}, {&cfg.Socket, flags.Socket},
		{&cfg.LibvirtURI, flags.LibvirtURI}, {&cfg.MemoryDir, flags.MemoryDir}, {&cfg.InspectorURL, flags.InspectorURL},
		{&cfg.Trace, flags.Trace},
	} {
		if f.from != "" {
			*f.to = f.from
		}
	}
	if managers != "" {
		if cfg.Managers, err = config.ParseManagers(managers); err != nil {
			return cfg, api.Failure(api.CodeBadRequest, "use --managers h1=10.0.0.1,h2=10.0.0.2,h3=10.0.0.3", "%v", err)
		}
	}
	return cfg, cfg.Validate()
}
