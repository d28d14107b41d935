package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/hamgr/hamgr/hamgr/core"
)

// notes are what this host remembers of its parts in protections, for a cluster that has
// lost its state (core.Recall). They outlive hamgr and end with the host, as its guests do.
type notes struct {
	path string
	log  *slog.Logger

	mu  sync.Mutex // guards all, and the file
	all map[string]core.Note
}

// openNotes reads what an earlier agent has left. One that cannot be read counts for none:
// then this host has nothing to say for its guests.
func openNotes(dir string, log *slog.Logger) *notes {
	n := &notes{path: filepath.Join(dir, "notes.json"), log: log, all: map[string]core.Note{}}
	text, err := os.ReadFile(n.path)
	if errors.Is(err, fs.ErrNotExist) {
		return n
	}
	if err == nil {
		err = json.Unmarshal(text, &n.all)
	}
	if err != nil || n.all == nil {
		log.Warn("what this host had noted of its guests is lost; a restore of the cluster's state will not know them", "file", n.path, "err", err)
		n.all = map[string]core.Note{}
	}
	return n
}

// Noted is the highest generation that a host has noted, for its registration.
func Noted(dir string, log *slog.Logger) (highest uint64) {
	for _, n := range openNotes(dir, log).all {
		highest = max(highest, n.Generation)
	}
	return highest
}

// primary notes that this host, the primary, is about to do what o says.
func (n *notes) primary(o core.Protection) error {
	return n.write(o.Domain, core.Note{UUID: o.UUID, Generation: o.Generation, Primary: o.Primary, Backup: o.Backup})
}

// alone is for what must not fail for want of a note: then there is to be none at all,
// rather than one that says too much.
func (n *notes) alone(o core.Protection) {
	o.Backup = ""
	if err := n.primary(o); err != nil {
		n.log.Error("it could not be noted that a guest runs here alone; a restore of the cluster's state will not know it", "domain", o.Domain, "err", err)
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.all, o.Domain)
		os.Remove(n.path)
	}
}

func (n *notes) write(domain string, note core.Note) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.all[domain]
	if old == note || old.UUID == note.UUID && old.Generation > note.Generation { // of a job that is over
		return nil
	}
	next := maps.Clone(n.all)
	next[domain] = note
	return n.saveLocked(next)
}

// forget drops the notes of guests whose protection the cluster has ended: they have none,
// or one that is remembered as ended, which is what hosts go by then.
func (n *notes) forget(s core.State) {
	n.mu.Lock()
	defer n.mu.Unlock()
	over := func(domain string, _ core.Note) bool {
		_, protected := s.Protections[domain]
		_, ended := s.Ended[domain]
		return ended && !protected
	}
	next := maps.Clone(n.all)
	maps.DeleteFunc(next, over)
	if len(next) == len(n.all) {
		return
	}
	if err := n.saveLocked(next); err != nil {
		n.log.Warn("notes of protections that are over could not be dropped", "err", err)
	}
}

func (n *notes) list() map[string]core.Note {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.all)
}

// saveLocked writes the file anew. Nothing is synced: it is not to outlive the host.
func (n *notes) saveLocked(next map[string]core.Note) error {
	text, err := json.Marshal(next)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(n.path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(n.path+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(n.path+".new", n.path)
	}
	if err != nil {
		return fmt.Errorf("note in %s: %w", n.path, err)
	}
	n.all = next
	return nil
}
