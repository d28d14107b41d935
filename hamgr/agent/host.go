package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/hamgr/hamgr/hamgr/domain"
	"github.com/hamgr/hamgr/qmp"
	"github.com/hamgr/hamgr/qmp/colo"
	"github.com/hamgr/hamgr/storage/wire"
	"golang.org/x/sys/unix"
)

// Rescue takes every guest of this host out of a session whose agent is gone, whatever
// the cluster says and whether it can be reached: a guest that stands still in the middle
// of a checkpoint harms nobody by running on, as its output stays as it is (I6).
func Rescue(ctx context.Context, host *domain.Host, log *slog.Logger) {
	names, err := host.Running(ctx)
	if err != nil {
		log.Warn("the guests of this host could not be listed", "err", err)
	}
	for _, name := range names {
		try, cancel := context.WithTimeout(ctx, rescueTimeout)
		if err := recoverGuest(try, host, name); err != nil {
			log.Warn("it is not known whether a guest stands still in a session that is over", "domain", name, "err", err)
		}
		cancel()
	}
}

const rescueTimeout = 10 * time.Second

func recoverGuest(ctx context.Context, host *domain.Host, name string) error {
	return colo.Recover(ctx, qmp.New(qmp.NewPassthrough(host.Command(name))))
}

// checkMemory refuses a replica that would not fit into the memory of this host.
func checkMemory(dir string, need uint64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return err
	}
	free := min(fs.Bavail*uint64(fs.Bsize), (si.Freeram+si.Bufferram)*uint64(si.Unit))
	if need+need/8 > free {
		return &wire.RefusedError{Code: wire.CodeNoMemory, Text: fmt.Sprintf("the replica needs %d MiB, %s has %d MiB free; free memory or enlarge the tmpfs", (need+need/8)>>20, dir, free>>20)}
	}
	return nil
}

// probeCache remembers what a QEMU binary could do, until the binary changes.
type probeCache struct {
	mu   sync.Mutex // one probe at a time
	seen map[string]colo.Report
}

func (c *probeCache) probe(ctx context.Context, emulator string, kvm bool) (colo.Report, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, err := os.Stat(emulator)
	if err != nil {
		return colo.Report{Missing: err.Error(), Advice: "install QEMU"}, nil
	}
	key := fmt.Sprint(emulator, kvm, st.ModTime(), st.Size())
	if r, ok := c.seen[key]; ok {
		return r, nil
	}
	r, err := colo.Probe(ctx, emulator, kvm)
	if err == nil && r.OK {
		if c.seen == nil {
			c.seen = map[string]colo.Report{}
		}
		c.seen[key] = r
	}
	return r, err
}
