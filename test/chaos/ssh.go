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
	"time"
)

// remote is a cluster that is reached by commands: a shell on a host by via, ssh(1) as its
// configuration says, and the hosts' power by the operator's own. In the first {} stands
// for the host's address, in the others for its name.
type remote struct {
	to                 map[string]string // by name: the address
	via, offCmd, onCmd string
	hostKind           string
}

const defaultVia = "ssh -o BatchMode=yes -o ConnectTimeout=5 {} sh -s"

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
func (r remote) kind() string    { return r.hostKind }

func (r remote) run(ctx context.Context, host, script string) (string, error) {
	return runScript(shell(ctx, r.via, r.to[host]), host, script)
}

// shell is a command, {} in it replaced.
func shell(ctx context.Context, command, by string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", strings.ReplaceAll(command, "{}", quote(by)))
	cmd.WaitDelay = time.Second // something in the background may keep its output open
	return cmd
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
	out, err := shell(ctx, command, host).CombinedOutput()
	if err != nil {
		return fmt.Errorf("power of %s: %w: %s", host, err, out)
	}
	return nil
}
