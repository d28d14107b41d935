// Package image makes the test guest: a stock kernel, and an initramfs of one program
// and the modules it needs to have a network.
package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cavaliergopher/cpio"
	"github.com/ulikunitz/xz"
)

// Build writes vmlinuz and initrd into dir.
func Build(ctx context.Context, vmlinuz, modules, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	kernel, err := os.ReadFile(vmlinuz)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "vmlinuz"), kernel, 0o644); err != nil {
		return err
	}
	program := filepath.Join(dir, "ledger")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "github.com/hamgr/hamgr/test/guest/ledger")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the ledger: %w: %s", err, out)
	}
	var mods moduleList
	if err := mods.add(modules, "virtio_net"); err != nil {
		return err
	}
	return writeInitrd(filepath.Join(dir, "initrd"), program, mods)
}

type module struct {
	name string
	data []byte
}

// moduleList holds modules, dependencies first.
type moduleList []module

func (l *moduleList) add(dir, name string) error {
	for _, m := range *l {
		if m.name == name {
			return nil
		}
	}
	data, err := readModule(dir, name)
	if err != nil {
		return err
	}
	for _, dep := range depends(data) {
		if err := l.add(dir, dep); err != nil {
			return err
		}
	}
	*l = append(*l, module{name, data})
	return nil
}

// depends reads the names in a module's .modinfo section.
func depends(data []byte) []string {
	_, rest, ok := bytes.Cut(data, []byte("\x00depends="))
	if !ok {
		return nil
	}
	list, _, _ := bytes.Cut(rest, []byte{0})
	return strings.FieldsFunc(string(list), func(r rune) bool { return r == ',' })
}

func readModule(dir, name string) ([]byte, error) {
	var found string
	filepath.WalkDir(dir, func(p string, _ fs.DirEntry, _ error) error {
		base := strings.ReplaceAll(filepath.Base(p), "-", "_")
		if base == name+".ko.xz" || base == name+".ko" {
			found = p
			return fs.SkipAll
		}
		return nil
	})
	if found == "" {
		return nil, fmt.Errorf("no module %s below %s", name, dir)
	}
	f, err := os.Open(found)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !strings.HasSuffix(found, ".xz") {
		return io.ReadAll(f)
	}
	r, err := xz.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", found, err)
	}
	return io.ReadAll(r)
}

func writeInitrd(path, program string, mods moduleList) error {
	init, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z := gzip.NewWriter(f)
	c := cpio.NewWriter(z)
	var list []byte
	for _, d := range []string{"dev", "proc", "sys", "modules"} {
		if err := c.WriteHeader(&cpio.Header{Name: d, Mode: cpio.TypeDir | 0o755}); err != nil {
			return err
		}
	}
	files := []module{{"init", init}}
	for _, m := range mods {
		list = append(list, m.name...)
		list = append(list, '\n')
		files = append(files, module{"modules/" + m.name, m.data})
	}
	for _, m := range append(files, module{"modules/list", list}) {
		if err := c.WriteHeader(&cpio.Header{Name: m.name, Mode: cpio.TypeReg | 0o755, Size: int64(len(m.data))}); err != nil {
			return err
		}
		if _, err := c.Write(m.data); err != nil {
			return err
		}
	}
	if err := c.Close(); err != nil {
		return err
	}
	return z.Close()
}
