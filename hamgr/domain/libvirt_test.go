package domain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/qmp"
	"github.com/hamgr/hamgr/qmp/colo"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

const (
	memoryDir = "/dev/shm/hamgr"
	patience  = 30 * time.Second
)

// bench is a libvirt to test against, and a directory.
type bench struct {
	*testing.T
	ctx context.Context
	h   *Host
	dir string
}

func newBench(t *testing.T) *bench {
	uri := os.Getenv(uriVariable)
	if uri == "" {
		t.Skip("TestInLab runs it")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	h, err := Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return &bench{t, ctx, h, t.TempDir()}
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// guest starts a guest that has firmware only, with two interfaces on br0.
func (b *bench) guest(name string) Info {
	b.Helper()
	b.must(b.h.withConnection(func(c *libvirt.Connect) error {
		d, err := c.DomainCreateXML(firmwareGuest(b.T, name), 0)
		if err != nil {
			return err
		}
		return d.Free()
	}))
	b.Cleanup(func() { b.h.Destroy(context.Background(), name) })
	return b.look(name)
}

func (b *bench) look(name string) Info {
	b.Helper()
	i, err := b.h.Lookup(b.ctx, name)
	b.must(err)
	return i
}

func (b *bench) standby(xml string) *Standby {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	start := time.Now()
	s, err := b.h.PrepareStandby(ctx, StandbySpec{XML: xml, MemoryDir: memoryDir, RunDir: b.dir})
	b.must(err)
	b.Logf("standby of %s waits after %s", s.Name, time.Since(start).Round(time.Millisecond))
	b.Cleanup(func() { s.Discard() })
	return s
}

func firmwareGuest(t *testing.T, name string) string {
	d := libvirtxml.Domain{
		Type: "qemu", Name: name, Memory: &libvirtxml.DomainMemory{Value: 64, Unit: "MiB"},
		OS: &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "pc", Type: "hvm"}},
		Devices: &libvirtxml.DomainDeviceList{
			Emulator: "/usr/bin/qemu-system-x86_64",
			Interfaces: []libvirtxml.DomainInterface{
				{MAC: &libvirtxml.DomainInterfaceMAC{Address: "52:54:00:78:00:11"}, Model: &libvirtxml.DomainInterfaceModel{Type: "virtio"}},
				{MAC: &libvirtxml.DomainInterfaceMAC{Address: "52:54:00:78:00:12"}, Model: &libvirtxml.DomainInterfaceModel{Type: "e1000"}, Target: &libvirtxml.DomainInterfaceTarget{Dev: "uplink7"}},
			},
		},
	}
	for i := range d.Devices.Interfaces {
		d.Devices.Interfaces[i].Source = &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: "br0"}}
	}
	text, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// copied is a guest's state in memory: a sink of the COLO stream.
type copied struct {
	blocks []colo.Block
	ram    [][]byte
	config []byte
	device []byte
}

func (c *copied) Layout(configuration []byte, list []colo.Block) error {
	c.config, c.blocks, c.ram = configuration, list, make([][]byte, len(list))
	for i, b := range list {
		c.ram[i] = make([]byte, b.Size)
	}
	return nil
}

func (c *copied) Page(block int, offset uint64, data []byte) error {
	copy(c.ram[block][offset:], data)
	return nil
}

func (c *copied) Fill(block int, offset uint64, value byte) error {
	copy(c.ram[block][offset:], bytes.Repeat([]byte{value}, 4096))
	return nil
}

func (c *copied) main() int {
	for i, b := range c.blocks {
		if b.Name == MainRAM {
			return i
		}
	}
	return -1
}

// copyOf takes one checkpoint of a running guest, which runs on.
func (b *bench) copyOf(name string) *copied {
	b.Helper()
	c := &copied{}
	client := qmp.New(qmp.NewPassthrough(b.h.Command(name)))
	s, err := colo.Arm(b.ctx, client, colo.Options{}, c)
	b.must(err)
	b.must(s.Ready())
	b.must(s.WaitRequest(b.ctx))
	device, err := s.Capture(b.ctx, func() error { return nil }, c)
	b.must(err)
	c.device = bytes.Clone(device)
	b.must(s.Disarm(b.ctx))
	return c
}

func (c *copied) restore(w io.Writer) error {
	return colo.WriteRestore(w, colo.RestoreImage{
		Configuration: c.config, Blocks: c.blocks, DeviceState: c.device,
		Pages: func(yield func(int, uint64, []byte) error) error {
			for i, ram := range c.ram {
				for off := 0; i != c.main() && off < len(ram); off += 4096 {
					if err := yield(i, uint64(off), ram[off:off+4096]); err != nil {
						return err
					}
				}
			}
			return nil
		},
	})
}

// memory is a piece of a guest's physical memory, as the guest sees it.
func (b *bench) memory(name string, at, size int) []byte {
	b.Helper()
	path := filepath.Join(b.dir, "memory")
	var none struct{}
	b.must(b.h.query(b.ctx, name, fmt.Sprintf(`{"execute":"pmemsave","arguments":{"val":%d,"size":%d,"filename":%q}}`, at, size, path), &none))
	data, err := os.ReadFile(path)
	b.must(err)
	return data
}

func (b *bench) links() string {
	out, err := exec.Command("ip", "-br", "link").Output()
	b.must(err)
	return string(out)
}

// nothingLeft checks that a standby has gone without a trace.
func (b *bench) nothingLeft(s *Standby) {
	b.Helper()
	if _, err := os.Stat(s.RAMPath); !errors.Is(err, os.ErrNotExist) {
		b.Errorf("%s is left: %v", s.RAMPath, err)
	}
	if _, err := os.Stat(filepath.Dir(s.RAMPath)); !errors.Is(err, os.ErrNotExist) {
		b.Errorf("the directory of %s is left: %v", s.RAMPath, err)
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "*"+imageSuffix)); len(left) > 0 {
		b.Errorf("left: %v", left)
	}
	if alive(s.PID) {
		b.Errorf("QEMU %d is left", s.PID)
	}
	for _, n := range s.NICs {
		if strings.Contains(b.links(), n.Tap) {
			b.Errorf("tap %s is left", n.Tap)
		}
	}
}
