package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// DefaultDir is the run directory: $HAMGR_LAB_RUN, or /run/hamgr-lab.
func DefaultDir() string {
	if d := os.Getenv("HAMGR_LAB_RUN"); d != "" {
		return d
	}
	return "/run/hamgr-lab"
}

func socket(dir string) string { return filepath.Join(dir, "lab.sock") }

var errTaken = errors.New("a lab is up")

// take makes dir this process's own, until the file is closed. errTaken if it is another's.
func take(dir string) (*os.File, error) {
	for range 100 { // another process may remove it between two of these steps
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		f, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, errTaken
			}
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		have, err1 := f.Stat()
		named, err2 := os.Stat(dir)
		if err1 == nil && err2 == nil && os.SameFile(have, named) {
			return f, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("%s comes and goes", dir)
}

// give removes what is in a directory that take took, and gives it back.
func give(f *os.File, dir string) {
	os.Remove(socket(dir))
	os.Remove(dir) // stays if there is something of another's in it
	f.Close()
}
