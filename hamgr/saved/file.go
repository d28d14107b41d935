package saved

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hamgr/hamgr/internal/durable"
)

// Write puts a whole file in the place of path, or leaves what was there. Nobody but the
// owner may read it.
func Write(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new*") // mode 0600
	if err != nil {
		return fmt.Errorf("saved state: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("saved state: %w", err)
	}
	return nil
}
