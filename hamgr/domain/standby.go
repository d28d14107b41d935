package domain

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// MainRAM is the name of the main RAM's block under libvirt.
const MainRAM = "pc.ram"

// StandbySpec says what to wait for.
type StandbySpec struct {
	XML       string // the primary's, live
	MemoryDir string // libvirt's memory_backing_dir
	RunDir    string // for the FIFO
}

// Standby is a domain that waits, paused, for the migration stream that lets it run.
// Its RAM file is open to whoever writes the replica.
type Standby struct {
	Name    string
	RAMPath string
	NICs    []NIC

	host     *Host
	fifo     *os.File
	fifoPath string
	restored chan error // what libvirt's restore returned
	once     sync.Once
}

// prefix of the taps of standbys made by hamgr: by it a restarted agent knows them.
const tapPrefix = "hs"

// PrepareStandby starts a standby through libvirt's restore from a FIFO and waits until
// its QEMU has made its RAM file. The taps are down: it neither hears nor speaks.
func (h *Host) PrepareStandby(ctx context.Context, spec StandbySpec) (*Standby, error) {
	def, xml, err := standbyXML(spec.XML)
	if err != nil {
		return nil, err
	}
	s := &Standby{Name: def.Name, host: h, fifoPath: filepath.Join(spec.RunDir, def.Name+".restore"), restored: make(chan error, 1)}
	for _, n := range def.Devices.Interfaces {
		s.NICs = append(s.NICs, NIC{Tap: n.Target.Dev, MAC: n.MAC.Address})
	}
	if err := s.openFIFO(spec.RunDir); err != nil {
		return nil, fmt.Errorf("standby %s: %w", s.Name, err)
	}
	c, err := h.connection()
	if err != nil {
		s.closeFIFO()
		return nil, err
	}
	go func() { s.restored <- c.DomainRestoreFlags(s.fifoPath, "", libvirt.DOMAIN_SAVE_RUNNING) }()
	if err := s.feed(ctx, xml, spec.MemoryDir, def); err != nil {
		s.Discard()
		return nil, fmt.Errorf("standby %s: %w", s.Name, err)
	}
	return s, nil
}

// openFIFO opens both ends here, so that the file stays open between libvirt's two
// readings of the header and no open blocks.
func (s *Standby) openFIFO(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	os.Remove(s.fifoPath)
	if err := unix.Mkfifo(s.fifoPath, 0o600); err != nil {
		return err
	}
	s.fifo, err = os.OpenFile(s.fifoPath, os.O_RDWR, 0)
	return err
}

func (s *Standby) closeFIFO() {
	s.once.Do(func() { s.fifo.Close() })
	os.Remove(s.fifoPath)
}

// feed writes the header twice (libvirt reads it once for the domain, once for the data)
// and waits for QEMU's RAM file.
func (s *Standby) feed(ctx context.Context, xml, memoryDir string, def *libvirtxml.Domain) error {
	header := saveHeader(xml)
	if err := s.writeHeader(ctx, append(header, header...)); err != nil {
		return err
	}
	want := int64(def.Memory.Value) * int64(unit(def.Memory.Unit))
	for {
		if path, ok := findRAM(memoryDir, s.Name, want); ok && s.quiet() == nil {
			s.RAMPath = path
			return s.takeWriteEnd()
		}
		select {
		case err := <-s.restored:
			s.restored <- err
			return fmt.Errorf("libvirt gave up: %w", errors.Join(err, errors.New("see its log for QEMU's words")))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *Standby) writeHeader(ctx context.Context, b []byte) error {
	stop := context.AfterFunc(ctx, s.closeFIFO)
	defer stop()
	_, err := s.fifo.Write(b)
	return err
}

// takeWriteEnd gives up the reading end, so that a QEMU that dies breaks the pipe.
func (s *Standby) takeWriteEnd() error {
	w, err := os.OpenFile(s.fifoPath, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	s.fifo.Close()
	s.fifo = w
	return nil
}

// findRAM looks for <dir>/libvirt/qemu/<id>-<name>/pc.ram at its full size.
func findRAM(dir, name string, size int64) (string, bool) {
	paths, _ := filepath.Glob(filepath.Join(dir, "libvirt", "qemu", "*-"+name, MainRAM))
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil && st.Size() == size {
			return p, true
		}
	}
	return "", false
}

// quiet takes the standby's taps down.
func (s *Standby) quiet() error { return s.setTaps(netlink.LinkSetDown) }

func (s *Standby) setTaps(set func(netlink.Link) error) error {
	for _, n := range s.NICs {
		link, err := netlink.LinkByName(n.Tap)
		if err == nil {
			err = set(link)
		}
		if err != nil {
			return fmt.Errorf("tap %s: %w", n.Tap, err)
		}
	}
	return nil
}

// Activate lets the standby run: write gives it the migration stream. On return the
// guest runs; after an error it does not, and Discard is due.
func (s *Standby) Activate(ctx context.Context, write func(io.Writer) error) error {
	if err := s.setTaps(netlink.LinkSetUp); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, s.closeFIFO)
	defer stop()
	if err := write(s.fifo); err != nil {
		return fmt.Errorf("restore %s: %w", s.Name, err)
	}
	s.closeFIFO()
	select {
	case err := <-s.restored:
		if err != nil {
			return fmt.Errorf("restore %s: %w", s.Name, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("restore %s: %w", s.Name, context.Cause(ctx))
	}
}

// Discard ends the standby and leaves nothing of it.
func (s *Standby) Discard() error {
	s.closeFIFO()
	err := s.host.Destroy(context.Background(), s.Name)
	if errors.Is(err, ErrNoDomain) {
		err = nil
	}
	select {
	case <-s.restored:
	case <-time.After(5 * time.Second):
		return fmt.Errorf("libvirt did not give up the standby %s", s.Name)
	}
	return nil
}

// standbyXML makes a primary's XML wait for a restore: RAM in a file, private taps.
func standbyXML(xml string) (*libvirtxml.Domain, string, error) {
	d := &libvirtxml.Domain{}
	if err := d.Unmarshal(xml); err != nil {
		return nil, "", fmt.Errorf("XML of the domain: %w", err)
	}
	d.ID = nil
	d.MemoryBacking = &libvirtxml.DomainMemoryBacking{
		MemorySource:     &libvirtxml.DomainMemorySource{Type: "file"},
		MemoryAccess:     &libvirtxml.DomainMemoryAccess{Mode: "private"},
		MemoryAllocation: &libvirtxml.DomainMemoryAllocation{Mode: "ondemand"},
	}
	if d.Devices != nil {
		for i := range d.Devices.Interfaces {
			d.Devices.Interfaces[i].Target = &libvirtxml.DomainInterfaceTarget{Dev: tapName(d.UUID, i)}
		}
	}
	out, err := d.Marshal()
	return d, out, err
}

func tapName(uuid string, i int) string {
	h := fnv.New32a()
	io.WriteString(h, uuid)
	return fmt.Sprintf("%s%08x%d", tapPrefix, h.Sum32(), i)
}

// saveHeader is libvirt's save image header (src/qemu/qemu_saveimage.h), version 2.
func saveHeader(xml string) []byte {
	b := []byte("LibvirtQemudSave")
	le := binary.LittleEndian
	for _, v := range []uint32{2, uint32(len(xml) + 1), 1, 0, 0} { // version, XML length, running, raw, no cookie
		b = le.AppendUint32(b, v)
	}
	b = append(b, make([]byte, 14*4)...)
	b = append(b, xml...)
	return append(b, 0)
}

// CleanStale ends the standbys that an earlier agent left behind.
func CleanStale(ctx context.Context, h *Host, runDir string) error {
	left, err := filepath.Glob(filepath.Join(runDir, "*.restore"))
	if err != nil {
		return err
	}
	for _, path := range left {
		name := filepath.Base(path[:len(path)-len(".restore")])
		info, err := h.Lookup(ctx, name)
		if err == nil && info.State == "paused" {
			err = h.Destroy(ctx, name)
		}
		if err != nil && !errors.Is(err, ErrNoDomain) {
			return err
		}
		os.Remove(path)
	}
	return nil
}
