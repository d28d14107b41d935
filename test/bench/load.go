package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// burn keeps every core busy with a process of its own for d. They end with ctx, and by
// themselves.
func burn(ctx context.Context, d time.Duration) error {
	var all []*exec.Cmd
	for range runtime.NumCPU() {
		c := exec.CommandContext(ctx, "timeout", fmt.Sprint(d.Seconds()), "sh", "-c", "while :; do :; done")
		c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) } // which it hands on to the loop
		if err := c.Start(); err != nil {
			return errors.Join(err, endAll(all))
		}
		all = append(all, c)
	}
	return endAll(all)
}

// endAll waits for processes that end by themselves; timeout(1) says so with 124.
func endAll(all []*exec.Cmd) (err error) {
	for _, c := range all {
		var exit *exec.ExitError
		if e := c.Wait(); e != nil && !(errors.As(e, &exit) && exit.ExitCode() == 124) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// goBench runs a benchmark of this module and returns ns per operation by name.
func goBench(ctx context.Context, pattern, pkg string) (map[string]float64, error) {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", "300ms", pkg).Output()
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s %s: %w: %s", pattern, pkg, err, out)
	}
	times := map[string]float64{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || f[3] != "ns/op" {
			continue
		}
		name := f[0]
		if i := strings.LastIndex(name, "-"); i > 0 {
			name = name[:i] // the number of cores
		}
		if times[name], err = strconv.ParseFloat(f[2], 64); err != nil {
			return nil, err
		}
	}
	return times, nil
}
