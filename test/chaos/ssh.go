package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
)

// remote is a real cluster, reached with ssh(1) as its configuration says. Power is for the
// operator's own commands: {} in them stands for the host's name.
type remote struct {
	to            map[string]string // by name: what ssh is told
	offCmd, onCmd string
}

// parseHosts reads h1=root@10.0.0.1,h2=...; a name alone is also where ssh finds it.
func parseHosts(text string) (map[string]string, error) {
	to := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, addr, ok := strings.Cut(part, "=")
		if !ok {
			addr = name
		}
		if name == "" || addr == "" || strings.HasPrefix(addr, "-") {
			return nil, fmt.Errorf("hosts: %q is not name=address", part)
		}
		to[name] = addr
	}
	return to, nil
}

func (r remote) hosts() []string { return slices.Sorted(maps.Keys(r.to)) }
func (r remote) kind() string    { return realHost }

func (r remote) run(ctx context.Context, host, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", r.to[host], "sh", "-s")
	return runScript(cmd, host, script)
}

// runScript gives a shell its script.
func runScript(cmd *exec.Cmd, host, script string) (string, error) {
	var out, complaints bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &out, &complaints
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s%s", host, err, out.String(), complaints.String())
	}
	return out.String(), nil
}

func (r remote) powerOff(ctx context.Context, host string) error { return r.power(ctx, r.offCmd, host) }
func (r remote) powerOn(ctx context.Context, host string) error  { return r.power(ctx, r.onCmd, host) }

func (r remote) power(ctx context.Context, command, host string) error {
	if command == "" {
		return errors.New("there is no command for the power of hosts; see -power-off and -power-on")
	}
	out, err := exec.CommandContext(ctx, "sh", "-c", strings.ReplaceAll(command, "{}", quote(host))).CombinedOutput()
	if err != nil {
		return fmt.Errorf("power of %s: %w: %s", host, err, out)
	}
	return nil
}
