package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is set by the linker.
var release = ""

// version is the release, or else the commit that was built.
func version() string {
	if release != "" {
		return release
	}
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return info.Main.Version
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this command", Args: cobra.NoArgs, Example: "  hamgr version",
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": version(), "go": runtime.Version()}
			return a.print(v, func(w io.Writer) { fmt.Fprintf(w, "hamgr %s (%s)\n", v["version"], v["go"]) })
		},
	}
}
