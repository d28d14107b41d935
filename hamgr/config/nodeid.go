package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/hamgr/hamgr/internal/durable"
)

// NodeID reads the id of this installation from dir/node-id, and makes it on the first
// call. It tells two hosts of one name apart. A file that holds no UUID is an error, not
// a reason for a new id.
func NodeID(dir string) (string, error) {
	path := filepath.Join(dir, "node-id")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeNodeID(dir, path)
	}
	if err != nil {
		return "", fmt.Errorf("node id: %w", err)
	}
	id, err := uuid.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		return "", fmt.Errorf("node id: %s holds %q: %w; remove the file if this host is to be a new node", path, text, err)
	}
	return id.String(), nil
}

// makeNodeID writes the whole file or none. Of two processes at once the first wins, and
// both return its id.
func makeNodeID(dir, path string) (string, error) {
	id := uuid.NewString()
	err := func() error {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		f, err := os.CreateTemp(dir, "node-id.new*")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		_, err = f.WriteString(id + "\n")
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		if err := os.Link(f.Name(), path); err != nil { // unlike a rename it replaces nothing
			return err
		}
		return durable.SyncDir(dir)
	}()
	if errors.Is(err, fs.ErrExist) {
		return NodeID(dir)
	}
	if err != nil {
		return "", fmt.Errorf("node id: make %s: %w", path, err)
	}
	return id, nil
}
