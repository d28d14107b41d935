package domain

import (
	"context"
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// Protectable is Problems, and what QEMU itself says against migrating a running domain.
func (h *Host) Protectable(ctx context.Context, i Info) []string {
	list := i.Problems()
	if !i.Running() {
		return append(list, fmt.Sprintf("%s is %s; start it first", i.Name, i.State))
	}
	ctx, cancel := context.WithTimeout(ctx, versionLimit)
	defer cancel()
	var m struct {
		Blocked []string `json:"blocked-reasons"` // since QEMU 6.0
	}
	if err := h.query(ctx, i.Name, `{"execute":"query-migrate"}`, &m); err != nil {
		return append(list, err.Error()+"; QEMU has to answer before it can be protected")
	}
	for _, b := range m.Blocked {
		list = append(list, fmt.Sprintf("QEMU cannot checkpoint it: %s; detach what it names", b))
	}
	return list
}

// Problems are the reasons in a domain's XML why it cannot be protected; each says what
// to do.
func (i Info) Problems() (list []string) {
	d := i.definition
	if d == nil {
		return nil
	}
	for _, check := range []func(*libvirtxml.Domain) []string{machineProblems, memoryProblems, cpuProblems, diskProblems, nicProblems, deviceProblems} {
		list = append(list, check(d)...)
	}
	if lost, err := unknownXML(i.XML); i.XML != "" && err != nil {
		list = append(list, err.Error())
	} else if len(lost) > 0 {
		list = append(list, fmt.Sprintf("its XML has %s: %v", strings.Join(lost, ", "), ErrUnknownXML))
	}
	return list
}

func machineProblems(d *libvirtxml.Domain) (list []string) {
	if d.Type != "kvm" && d.Type != "qemu" && d.Type != "" {
		list = append(list, fmt.Sprintf("its type is %s; hamgr knows kvm and qemu", d.Type))
	}
	if d.OS != nil && d.OS.Type != nil {
		if a := d.OS.Type.Arch; a != "" && a != "x86_64" && a != "i686" {
			list = append(list, fmt.Sprintf("its architecture is %s; hamgr knows x86_64, whose memory is one block named %s", a, MainRAM))
		}
		if strings.HasPrefix(d.OS.Type.Machine, "microvm") {
			list = append(list, "its machine is a microvm; use pc or q35")
		}
	}
	if d.LaunchSecurity != nil {
		list = append(list, "its memory is encrypted (launchSecurity), so it cannot be copied; take that out")
	}
	return list
}

func memoryProblems(d *libvirtxml.Domain) (list []string) {
	if d.CPU != nil && d.CPU.Numa != nil && len(d.CPU.Numa.Cell) > 0 {
		list = append(list, "its memory is divided into NUMA cells; take <numa> out, so that it is one block")
	}
	if d.Devices != nil && len(d.Devices.Memorydevs) > 0 {
		list = append(list, "it has memory devices (dimm, nvdimm, virtio-mem); put all of its memory into <memory>")
	}
	if b := d.MemoryBacking; b != nil && (b.MemoryHugePages != nil || b.MemoryLocked != nil) {
		list = append(list, "its memory is in huge or locked pages, which a replica's is not; take <hugepages> and <locked> out of <memoryBacking>")
	}
	return list
}

func cpuProblems(d *libvirtxml.Domain) (list []string) {
	if d.CPU == nil {
		return nil
	}
	if d.CPU.Migratable == "off" {
		list = append(list, "its CPU is not migratable (migratable='off'); take that out")
	}
	for _, f := range d.CPU.Features {
		if f.Name == "invtsc" && f.Policy != "disable" && f.Policy != "forbid" && !fixedTSC(d) {
			list = append(list, "its CPU has invtsc, which does not survive a change of host; disable the feature or set a frequency for the timer tsc")
		}
	}
	return list
}

func fixedTSC(d *libvirtxml.Domain) bool {
	if d.Clock == nil {
		return false
	}
	for _, t := range d.Clock.Timer {
		if t.Name == "tsc" && t.Frequency != 0 {
			return true
		}
	}
	return false
}

// diskProblems: what is read-only is the same on both hosts, or the standby does not start.
func diskProblems(d *libvirtxml.Domain) (list []string) {
	if d.Devices == nil {
		return nil
	}
	for _, disk := range d.Devices.Disks {
		name := "a disk"
		if disk.Target != nil {
			name = "disk " + disk.Target.Dev
		}
		switch {
		case disk.Source != nil && (disk.Source.VHostUser != nil || disk.Source.VHostVDPA != nil):
			list = append(list, name+" is served by another process (vhost-user or vDPA), whose state cannot be checkpointed; detach it")
		case disk.ReadOnly != nil || disk.Device == "cdrom":
		case disk.Device == "floppy" && disk.Source == nil: // an empty drive
		default:
			list = append(list, name+" is writable and hamgr does not replicate disks yet; detach it or make it read-only")
		}
	}
	return list
}

func nicProblems(d *libvirtxml.Domain) (list []string) {
	for _, n := range interfaces(d) {
		name := "an interface"
		if n.MAC != nil {
			name = "interface " + n.MAC.Address
		}
		switch {
		case n.Source != nil && n.Source.Hostdev != nil:
			list = append(list, name+" is a device of the host (hostdev, SR-IOV), whose packets hamgr cannot hold; attach it to a bridge")
		case n.Source != nil && n.Source.VHostUser != nil:
			list = append(list, name+" is vhost-user, whose packets and memory are another process's; attach it to a bridge")
		case n.Source != nil && n.Source.Direct != nil:
			list = append(list, name+" is direct (macvtap), whose packets hamgr cannot hold; attach it to a bridge")
		case !hasTap(n):
			list = append(list, name+" has no tap device of its own; attach it to a bridge")
		case n.Target != nil && n.Target.Managed == "no":
			list = append(list, name+" has a tap made by somebody else (managed='no'); let libvirt make it")
		}
	}
	return list
}

func deviceProblems(d *libvirtxml.Domain) (list []string) {
	v := d.Devices
	if v == nil {
		return nil
	}
	if len(v.Hostdevs) > 0 {
		list = append(list, "it uses devices of the host (hostdev), whose state cannot be checkpointed; detach them")
	}
	if len(v.Filesystems) > 0 {
		list = append(list, "it shares directories with the host (filesystem), whose state is not the guest's alone; detach them")
	}
	if len(v.Shmems) > 0 {
		list = append(list, "it shares memory with others (shmem), who would see what was rolled back; detach it")
	}
	for _, t := range v.TPMs {
		if t.Backend != nil {
			list = append(list, "its TPM keeps its state outside of QEMU; detach it")
		}
	}
	for _, in := range v.Inputs {
		if in.Source != nil && (in.Source.Passthrough != nil || in.Source.EVDev != nil) {
			list = append(list, "it reads an input device of the host; detach it")
		}
	}
	if len(v.RedirDevs) > 0 && redirected(v.RedirDevs) {
		list = append(list, "a USB device is redirected into it over the network; detach redirdev")
	}
	return list
}

// redirected: a channel for USB redirection over SPICE is in most desktop guests, and is
// idle until somebody uses it; one to a fixed peer is not.
func redirected(devs []libvirtxml.DomainRedirDev) bool {
	for _, r := range devs {
		if r.Source != nil && r.Source.SpiceVMC == nil {
			return true
		}
	}
	return false
}
