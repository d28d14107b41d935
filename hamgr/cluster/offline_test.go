package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// TestReadState: what a node knows is in its directory once it is stopped, with and without
// snapshots.
func TestReadState(t *testing.T) {
	for _, every := range []uint64{0, 10} {
		t.Run(fmt.Sprint("snapshots every ", every), func(t *testing.T) {
			l := newLab(t, func(c *Config) { c.SnapshotEvery, c.SnapshotInterval = every, 20*time.Millisecond })
			l.start("h1", "h2", "h3")
			l.register("h1", "h2", "h3")
			dir := l.config("h2").Dir
			for i := range 35 {
				l.protect(fmt.Sprint("g", i), "h1", "h2")
			}
			if _, err := ReadState(dir); !errors.Is(err, ErrDirInUse) {
				t.Fatalf("while hamgr runs: %v", err)
			}
			l.sees("h2", "the last", has("g34", core.Syncing, 1))
			want := l.hosts["h2"].State()
			if every > 0 {
				l.until("a snapshot of h2", func() bool {
					whole, err := filepath.Glob(filepath.Join(dir, "snapshots", "*-*[0-9]"))
					return err == nil && len(whole) > 0
				})
			}
			l.stop("h2")
			got, err := ReadState(dir)
			if err != nil || got.Index == 0 || !reflect.DeepEqual(got.Protections, want.Protections) {
				t.Fatalf("%v: %+v, want %+v", err, got.Protections, want.Protections)
			}
			l.start("h2") // and it works on
			l.register("h2")
		})
	}
	none := filepath.Join(t.TempDir(), "none")
	if _, err := ReadState(none); !errors.Is(err, ErrNoState) {
		t.Fatal(err)
	}
	if _, err := os.Stat(none); err == nil {
		t.Fatal("a directory was made")
	}
}
