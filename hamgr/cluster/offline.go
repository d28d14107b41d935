package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/hamgr/core"
)

// ErrNoState: there is nothing of a cluster in a directory.
var ErrNoState = errors.New("no state")

// ReadState is what is in the directory of a node whose hamgr is stopped, up to the last
// entry of its log. Whether that was agreed on only a majority knows; and others may have
// agreed on more. So it says what is ordered (core.Recall), not where guests are. Errors:
// ErrDirInUse, ErrNoState.
func ReadState(dir string) (core.State, error) {
	if _, err := os.Stat(filepath.Join(dir, "wal")); err != nil { // openStore would make one
		return core.State{}, fmt.Errorf("cluster: %w: %w", ErrNoState, err)
	}
	s, err := openStore(dir, hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard}))
	if err != nil {
		return core.State{}, err
	}
	defer s.close()
	m := newMachine(nil, func(uint64, core.Event) {})
	after, err := s.readSnapshot(m)
	if err == nil {
		err = s.readLog(m, after)
	}
	if err != nil {
		return core.State{}, fmt.Errorf("cluster: %s: %w", dir, err)
	}
	if st := m.state.Load(); st.Index > 0 {
		return *st, nil
	}
	return core.State{}, fmt.Errorf("cluster: %w in %s: its log is empty", ErrNoState, dir)
}

// readSnapshot restores the newest, if there is one, and says up to which entry it goes.
func (s *store) readSnapshot(m *machine) (index uint64, err error) {
	list, err := s.snapshots.List()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	meta, r, err := s.snapshots.Open(list[0].ID)
	if err != nil {
		return 0, err
	}
	return meta.Index, m.Restore(r)
}

func (s *store) readLog(m *machine, after uint64) error {
	first, err := s.wal.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.wal.LastIndex()
	if err != nil {
		return err
	}
	if last > after && first > after+1 {
		return fmt.Errorf("the log begins with entry %d, the snapshot ends with %d", first, after)
	}
	for i := after + 1; i <= last; i++ {
		var entry raft.Log
		if err := s.wal.GetLog(i, &entry); err != nil {
			return fmt.Errorf("log entry %d: %w", i, err)
		}
		if entry.Type == raft.LogCommand {
			m.Apply(&entry) // what was refused then is refused now
		}
	}
	return nil
}
