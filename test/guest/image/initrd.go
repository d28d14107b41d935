package image

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"os"

	"github.com/cavaliergopher/cpio"
)

// writeInitrd writes the initramfs: /init, /modules/<name> and /modules/list, the order
// to load them in. The same input gives the same bytes.
func writeInitrd(file string, init []byte, mods []module) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffer := bufio.NewWriter(f)
	z, err := gzip.NewWriterLevel(buffer, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := writeArchive(z, init, mods); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return buffer.Flush()
}

func writeArchive(w io.Writer, init []byte, mods []module) error {
	c := cpio.NewWriter(w)
	for _, d := range []string{"dev", "proc", "sys", "modules"} {
		if err := c.WriteHeader(&cpio.Header{Name: d, Mode: cpio.TypeDir | 0o755}); err != nil {
			return err
		}
	}
	var list []byte
	for _, m := range mods {
		list = append(append(list, m.name...), '\n')
		if err := addFile(c, "modules/"+m.name, 0o644, m.data); err != nil {
			return err
		}
	}
	if err := addFile(c, "modules/list", 0o644, list); err != nil {
		return err
	}
	if err := addFile(c, "init", 0o755, init); err != nil {
		return err
	}
	return c.Close()
}

func addFile(c *cpio.Writer, name string, mode cpio.FileMode, data []byte) error {
	if err := c.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := c.Write(data)
	return err
}
