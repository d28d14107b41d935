package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"golang.org/x/sys/unix"
)

const (
	// segmentSize is how much raft-wal allocates at a time. Its 64 MiB would be a
	// thousand times our log.
	segmentSize   = 1 << 20
	snapshotsKept = 2
	logCache      = 256 // newest entries kept in memory for the followers
)

// ErrDirInUse: another process works in the data directory.
var ErrDirInUse = errors.New("data directory is in use")

// store is all that this node keeps on disk.
type store struct {
	lock      *os.File
	wal       *wal.WAL
	meta      *metadb.BoltMetaDB // raft-wal's; its Close forgets it
	logs      raft.LogStore
	snapshots raft.SnapshotStore
}

func openStore(dir string, log hclog.Logger) (_ *store, err error) {
	s := &store{meta: &metadb.BoltMetaDB{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	logDir := filepath.Join(dir, "wal")
	if err := os.MkdirAll(logDir, 0o700); err != nil {
		return nil, fmt.Errorf("cluster: data directory: %w", err)
	}
	if s.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	if s.wal, err = wal.Open(logDir, wal.WithSegmentSize(segmentSize), wal.WithMetaStore(s.meta), wal.WithLogger(log.Named("wal"))); err != nil {
		return nil, fmt.Errorf("cluster: log in %s: %w", logDir, err)
	}
	if err := readable(s.wal); err != nil {
		return nil, fmt.Errorf("cluster: the log in %s is damaged, %w; move %s away and start hamgr again: a node without its log is told all by the others, and has its vote again after hamgr manager add", logDir, err, dir)
	}
	if s.logs, err = raft.NewLogCache(logCache, s.wal); err != nil {
		return nil, fmt.Errorf("cluster: log cache: %w", err)
	}
	if s.snapshots, err = raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, log.Named("snapshot")); err != nil {
		return nil, fmt.Errorf("cluster: snapshots in %s: %w", dir, err)
	}
	return s, nil
}

// readable reads every entry, as Raft will at its start, where one that cannot be read ends
// the process (raft's api.go, NewRaft).
func readable(logs raft.LogStore) error {
	first, err := logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := logs.LastIndex()
	if err != nil {
		return err
	}
	for i := first; i > 0 && i <= last; i++ {
		if err := entry(logs, i); err != nil {
			return fmt.Errorf("entry %d of %d to %d: %w", i, first, last, err)
		}
	}
	return nil
}

// entry reads one; raft-wal's decoder panics at some that are damaged.
func entry(logs raft.LogStore, index uint64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be decoded: %v", p)
		}
	}()
	var l raft.Log
	if err := logs.GetLog(index, &l); err != nil {
		return err
	}
	if l.Index != index {
		return fmt.Errorf("in its place is entry %d", l.Index)
	}
	return nil
}

// lockDir keeps a second process out at once; the database inside raft-wal would wait
// for the first to end, for ever.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cluster: data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("cluster: %w: %s; is hamgr running already? (%w)", ErrDirInUse, dir, err)
	}
	return f, nil
}

func (s *store) close() {
	if s.wal != nil {
		s.wal.Close()
	}
	_ = s.meta.Close()
	if s.lock != nil {
		s.lock.Close()
	}
}
