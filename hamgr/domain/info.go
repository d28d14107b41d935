package domain

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// NIC is one network interface of a running domain.
type NIC struct {
	Tap string `json:"tap"`
	MAC string `json:"mac"`
}

// Info is what hamgr wants to know of a domain.
type Info struct {
	Name        string
	UUID        string
	State       string // running, paused, shutoff, ...
	End         End    // how its last run ended
	MemoryBytes uint64
	Emulator    string
	Machine     string
	KVM         bool
	QEMUVersion string // of a running domain
	NICs        []NIC
	XML         string // fit to start the same guest elsewhere
	definition  *libvirtxml.Domain
}

// Running says that the domain's QEMU is there and not waiting to be restored.
func (i Info) Running() bool { return i.State == "running" || i.State == "paused" }

var stateNames = map[libvirt.DomainState]string{
	libvirt.DOMAIN_RUNNING: "running", libvirt.DOMAIN_PAUSED: "paused", libvirt.DOMAIN_SHUTOFF: "shut off",
	libvirt.DOMAIN_CRASHED: "crashed", libvirt.DOMAIN_SHUTDOWN: "shutting down", libvirt.DOMAIN_BLOCKED: "running",
}

// Lookup describes a domain. Errors: ErrNoDomain.
func (h *Host) Lookup(_ context.Context, name string) (info Info, err error) {
	err = h.with(name, func(d *libvirt.Domain) error {
		state, reason, err := d.GetState()
		if err != nil {
			return err
		}
		info.State, info.End = stateNames[state], endOf(state, reason)
		flags := libvirt.DOMAIN_XML_SECURE
		if info.Running() {
			flags |= libvirt.DOMAIN_XML_MIGRATABLE
			if info.QEMUVersion, err = queryVersion(d); err != nil {
				return err
			}
		}
		if info.XML, err = d.GetXMLDesc(flags); err != nil {
			return err
		}
		live, err := d.GetXMLDesc(0)
		if err != nil {
			return err
		}
		return info.read(live)
	})
	return info, err
}

func endOf(s libvirt.DomainState, reason int) End {
	switch {
	case s == libvirt.DOMAIN_CRASHED:
		return EndCrash
	case s != libvirt.DOMAIN_SHUTOFF:
		return EndNone
	case reason == int(libvirt.DOMAIN_SHUTOFF_FAILED) || reason == int(libvirt.DOMAIN_SHUTOFF_CRASHED) || reason == int(libvirt.DOMAIN_SHUTOFF_UNKNOWN):
		return EndCrash
	}
	return EndByRequest
}

func queryVersion(d *libvirt.Domain) (string, error) {
	raw, err := d.QemuMonitorCommand(`{"execute":"query-version"}`, libvirt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
	if err != nil {
		return "", err
	}
	var v struct {
		Return struct {
			QEMU struct{ Major, Minor, Micro int }
		}
	}
	err = json.Unmarshal([]byte(raw), &v)
	q := v.Return.QEMU
	return fmt.Sprintf("%d.%d.%d", q.Major, q.Minor, q.Micro), err
}

func (i *Info) read(xml string) error {
	d := &libvirtxml.Domain{}
	if err := d.Unmarshal(xml); err != nil {
		return fmt.Errorf("its XML: %w", err)
	}
	i.definition = d
	i.Name, i.UUID, i.KVM = d.Name, d.UUID, d.Type == "kvm"
	if d.Memory != nil {
		i.MemoryBytes = uint64(d.Memory.Value) * unit(d.Memory.Unit)
	}
	if d.OS != nil && d.OS.Type != nil {
		i.Machine = d.OS.Type.Machine
	}
	if d.Devices == nil {
		return nil
	}
	i.Emulator = d.Devices.Emulator
	for _, n := range d.Devices.Interfaces {
		if n.Target != nil && n.MAC != nil {
			i.NICs = append(i.NICs, NIC{Tap: n.Target.Dev, MAC: n.MAC.Address})
		}
	}
	return nil
}

func unit(name string) uint64 {
	switch strings.ToLower(name) {
	case "b", "bytes":
		return 1
	case "mib", "m":
		return 1 << 20
	case "gib", "g":
		return 1 << 30
	}
	return 1 << 10
}

// Problems are the reasons why a domain cannot be protected; each says what to do.
func (i Info) Problems() (list []string) {
	d := i.definition
	if d == nil || d.Devices == nil {
		return nil
	}
	for _, disk := range d.Devices.Disks {
		if disk.ReadOnly == nil && disk.Device != "cdrom" && disk.Device != "floppy" && disk.Target != nil {
			list = append(list, fmt.Sprintf("disk %s is writable and hamgr does not replicate disks yet; detach it or make it read-only", disk.Target.Dev))
		}
	}
	if len(d.Devices.Hostdevs) > 0 {
		list = append(list, "it uses devices of the host (hostdev), whose state cannot be checkpointed; detach them")
	}
	for _, n := range d.Devices.Interfaces {
		if n.Source != nil && (n.Source.Direct != nil || n.Source.VHostUser != nil || n.Source.Hostdev != nil) {
			list = append(list, "an interface has no tap device (direct, vhost-user or hostdev); attach it to a bridge")
		}
	}
	return list
}
