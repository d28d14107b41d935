// Package durable is what it takes for a file to be there after a loss of power.
package durable

import "os"

// SyncDir makes the entries of a directory durable: those made, renamed and removed. A
// file's own sync does not (fsync(2)).
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
