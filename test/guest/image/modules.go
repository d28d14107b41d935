package image

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ulikunitz/xz"
)

// wanted are the modules for a NIC of QEMU's and to tell QEMU of a panic; what each depends on comes by itself. Which
// of them are modules at all differs between kernels.
var wanted = []string{"virtio_pci", "virtio_net", "af_packet", "pvpanic_mmio"}

// module is one kernel module, not compressed.
type module struct {
	name string // with underscores, as the kernel says it
	data []byte
}

// modules finds the modules of one kernel.
type modules struct {
	dir     string
	files   map[string]string // by name
	builtin map[string]bool
	loaded  map[string]bool
	order   []module // dependencies first
}

// resolve returns the named modules of the kernel whose modules are below dir
// (lib/modules/<version>), each after what it depends on, without what is built in. The
// dependencies are read from the modules themselves: a kernel package that was unpacked
// and not installed has no modules.dep.
func resolve(dir string, names []string) ([]module, error) {
	m := &modules{dir: dir, files: make(map[string]string), builtin: make(map[string]bool), loaded: make(map[string]bool)}
	if err := m.index(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := m.add(name); err != nil {
			return nil, err
		}
	}
	return m.order, nil
}

func (m *modules) index() error {
	list, err := os.ReadFile(filepath.Join(m.dir, "modules.builtin"))
	if err != nil {
		return fmt.Errorf("want a kernel's module directory, lib/modules/<version>: %w", err)
	}
	for _, file := range strings.Fields(string(list)) {
		m.builtin[moduleName(file)] = true
	}
	return filepath.WalkDir(m.dir, func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(d.Name(), ".ko") {
			m.files[moduleName(file)] = file
		}
		return err
	})
}

// moduleName is what the kernel calls the module in a file.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(filepath.ToSlash(file)), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func (m *modules) add(name string) error {
	if m.loaded[name] || m.builtin[name] {
		return nil
	}
	m.loaded[name] = true
	file, ok := m.files[name]
	if !ok {
		return fmt.Errorf("the kernel of %s has no module %s, nor is it built in", m.dir, name)
	}
	data, err := readModule(file)
	if err != nil {
		return fmt.Errorf("module %s: %w", file, err)
	}
	deps, err := depends(data)
	if err != nil {
		return fmt.Errorf("module %s: %w", file, err)
	}
	for _, dep := range deps {
		if err := m.add(dep); err != nil {
			return fmt.Errorf("%w (%s needs it)", err, name)
		}
	}
	m.order = append(m.order, module{name, data})
	return nil
}

// readModule reads a module and decompresses it: the guest shall not have to.
func readModule(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	switch path.Ext(file) {
	case ".ko":
		return data, nil
	case ".xz":
		r, err := xz.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	return nil, errors.New("compressed in a way not known here: want .ko or .ko.xz, as Debian's are")
}

// depends reads the names in a module's .modinfo section, which holds key=value strings,
// each ended by a zero byte.
func depends(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo section: not a kernel module")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for _, entry := range strings.Split(string(info), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}
