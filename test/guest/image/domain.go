package image

import (
	"libvirt.org/go/libvirtxml"
)

// Guest describes a test guest.
type Guest struct {
	Name      string
	MemoryMiB uint
	MAC       string
	IP, IP6   string // with prefix length
	Dir       string // of vmlinuz and initrd, as the host sees it
}

// XML is the guest's libvirt domain: TCG, one CPU, one NIC on br0, no disk.
func (g Guest) XML() (string, error) {
	d := libvirtxml.Domain{
		Type: "qemu", Name: g.Name,
		Memory: &libvirtxml.DomainMemory{Value: g.MemoryMiB, Unit: "MiB"},
		VCPU:   &libvirtxml.DomainVCPU{Value: 1},
		OS: &libvirtxml.DomainOS{
			Type:   &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "pc", Type: "hvm"},
			Kernel: g.Dir + "/vmlinuz", Initrd: g.Dir + "/initrd",
			Cmdline: "console=ttyS0 quiet mitigations=off panic=-1 ledger.ip=" + g.IP + " ledger.ip6=" + g.IP6,
		},
		Features: &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}},
		OnCrash:  "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Emulator: "/usr/bin/qemu-system-x86_64",
			Interfaces: []libvirtxml.DomainInterface{{
				MAC:    &libvirtxml.DomainInterfaceMAC{Address: g.MAC},
				Source: &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: "br0"}},
				Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
				Driver: &libvirtxml.DomainInterfaceDriver{Name: "qemu"},
			}},
			Serials: []libvirtxml.DomainSerial{{
				Source: &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{Path: "/var/log/lab/" + g.Name + "-console.log"}},
			}},
			MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"},
		},
	}
	return d.Marshal()
}
