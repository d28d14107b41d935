package image

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// minMemoryMiB is what kernel, initramfs and ledger need to come up at all.
const minMemoryMiB = 96

// NIC is a virtio network card.
type NIC struct {
	MAC    string // empty: libvirt makes one up
	Bridge string // empty: br0
	IP     string // IPv4 address with prefix length; empty: none
	IP6    string // IPv6, likewise
}

// Guest describes a test guest.
type Guest struct {
	Name       string
	Type       string // qemu (TCG; also when empty) or kvm
	MemoryMiB  uint
	Dir        string // of vmlinuz and initrd, as the host sees it
	KernelPath string // empty: Dir/vmlinuz
	InitrdPath string // empty: Dir/initrd
	ConsoleLog string // file for the serial line; empty: /var/log/lab/<name>-console.log
	Emulator   string // empty: /usr/bin/qemu-system-x86_64

	MAC, Bridge, IP, IP6 string // of the first NIC, as in NIC
	NICs                 []NIC  // more of them
	Pvpanic              bool   // a device that tells QEMU when its kernel panics
}

// XML is DomainXML of the guest.
func (g Guest) XML() (string, error) { return DomainXML(g) }

// DomainXML is the guest as a libvirt domain: the pc machine, one CPU, virtio NICs on
// bridges, the serial line into a file; no disk, video, USB or balloon.
func DomainXML(g Guest) (string, error) {
	if err := g.check(); err != nil {
		return "", fmt.Errorf("guest %q: %w", g.Name, err)
	}
	d := libvirtxml.Domain{
		Type: orElse(g.Type, "qemu"), Name: g.Name,
		Memory: &libvirtxml.DomainMemory{Value: g.MemoryMiB, Unit: "MiB"},
		VCPU:   &libvirtxml.DomainVCPU{Value: 1},
		OS: &libvirtxml.DomainOS{
			Type:    &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "pc", Type: "hvm"},
			Kernel:  orElse(g.KernelPath, filepath.Join(g.Dir, "vmlinuz")),
			Initrd:  orElse(g.InitrdPath, filepath.Join(g.Dir, "initrd")),
			Cmdline: CommandLine(g.nics()...),
		},
		Features: &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}},
		OnCrash:  "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Emulator:    orElse(g.Emulator, "/usr/bin/qemu-system-x86_64"),
			Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
			Serials: []libvirtxml.DomainSerial{{
				Source: &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{
					Path: orElse(g.ConsoleLog, "/var/log/lab/"+g.Name+"-console.log")}},
			}},
			MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"},
		},
	}
	for _, n := range g.nics() {
		d.Devices.Interfaces = append(d.Devices.Interfaces, n.device())
	}
	if g.Pvpanic {
		d.Devices.Panics = []libvirtxml.DomainPanic{{Model: "isa"}}
	}
	return d.Marshal()
}

// nics is all of them, the first one first.
func (g Guest) nics() []NIC {
	return append([]NIC{{MAC: g.MAC, Bridge: g.Bridge, IP: g.IP, IP6: g.IP6}}, g.NICs...)
}

func (n NIC) device() libvirtxml.DomainInterface {
	d := libvirtxml.DomainInterface{
		Source: &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: orElse(n.Bridge, "br0")}},
		Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
		Driver: &libvirtxml.DomainInterfaceDriver{Name: "qemu"}, // not vhost: its device state is the kernel's
	}
	if n.MAC != "" {
		d.MAC = &libvirtxml.DomainInterfaceMAC{Address: n.MAC}
	}
	return d
}

func (g Guest) check() error {
	if g.Name == "" || strings.ContainsAny(g.Name, "/ \n") {
		return errors.New("want a name without slashes and spaces")
	}
	if g.Type != "" && g.Type != "qemu" && g.Type != "kvm" {
		return fmt.Errorf("type %q: want qemu or kvm", g.Type)
	}
	if g.MemoryMiB < minMemoryMiB {
		return fmt.Errorf("%d MiB of memory: want at least %d", g.MemoryMiB, minMemoryMiB)
	}
	if g.Dir == "" && (g.KernelPath == "" || g.InitrdPath == "") {
		return errors.New("want Dir, or KernelPath and InitrdPath")
	}
	for i, n := range g.nics() {
		if err := n.check(); err != nil {
			return fmt.Errorf("NIC %d: %w", i, err)
		}
	}
	return nil
}

func (n NIC) check() error {
	if n.MAC != "" {
		if _, err := net.ParseMAC(n.MAC); err != nil {
			return err
		}
	}
	for _, a := range []struct {
		text string
		six  bool
	}{{n.IP, false}, {n.IP6, true}} {
		if a.text == "" {
			continue
		}
		if p, err := netip.ParsePrefix(a.text); err != nil {
			return err
		} else if p.Addr().Is6() != a.six {
			return fmt.Errorf("address %s is of the other IP version", a.text)
		}
	}
	return nil
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
