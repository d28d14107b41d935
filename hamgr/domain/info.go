package domain

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// NIC is one network interface of a domain that has a tap device.
type NIC struct {
	Tap    string `json:"tap"`
	MAC    string `json:"mac"`
	Bridge string `json:"bridge,omitempty"` // the tap is a port of

	Filtered    bool `json:"filtered,omitempty"`     // by libvirt's nwfilter
	OpenVSwitch bool `json:"open_vswitch,omitempty"` // is what the tap is a port of
}

// Info is what hamgr wants to know of a domain.
type Info struct {
	Name        string
	UUID        string
	State       string // running, paused, shut off, crashed, shutting down; waiting: a standby
	Reason      string // of the state, in libvirt's words
	End         End    // how its last run ended
	PID         int    // of QEMU; 0 when it is not active or not found
	MemoryBytes uint64
	Emulator    string
	Machine     string
	KVM         bool
	QEMUVersion string // such as 11.1.3; of a running or paused domain
	NICs        []NIC
	XML         string // fit to start the same guest elsewhere, with its secrets
	definition  *libvirtxml.Domain
}

// Running says that the domain's QEMU is there and not waiting to be restored.
func (i Info) Running() bool { return i.State == stateRunning || i.State == statePaused }

// Sleeps says that the guest has suspended itself to memory: its QEMU is there.
func (i Info) Sleeps() bool { return i.State == stateAsleep }

const (
	stateRunning  = "running"
	statePaused   = "paused"
	stateEnding   = "shutting down"
	stateWaiting  = "waiting"
	stateAsleep   = "suspended by the guest"
	versionLimit  = 3 * time.Second
	queryVersions = `{"execute":"query-version"}`
)

var stateNames = map[libvirt.DomainState]string{
	libvirt.DOMAIN_RUNNING: stateRunning, libvirt.DOMAIN_BLOCKED: stateRunning, libvirt.DOMAIN_PAUSED: statePaused,
	libvirt.DOMAIN_SHUTOFF: "shut off", libvirt.DOMAIN_CRASHED: "crashed", libvirt.DOMAIN_SHUTDOWN: stateEnding,
	libvirt.DOMAIN_PMSUSPENDED: stateAsleep,
}

// Lookup describes a domain. A QEMU that has died is "shutting down" until libvirt has
// noticed. Errors: ErrNoDomain; one without an answer from a QEMU that hangs.
func (h *Host) Lookup(ctx context.Context, name string) (Info, error) {
	info, err := bounded(ctx, "look up "+name, func() (info Info, err error) {
		err = h.with(name, func(_ *libvirt.Connect, d *libvirt.Domain) error {
			info, err = inspect(d)
			return err
		})
		return info, err
	})
	if err != nil || !info.Running() {
		return info, err
	}
	if info.QEMUVersion, err = h.version(ctx, name); err != nil {
		return Info{}, err
	}
	return info, nil
}

// inspect reads what libvirt knows by itself, without QEMU's monitor.
func inspect(d *libvirt.Domain) (Info, error) {
	state, reason, err := d.GetState()
	if err != nil {
		return Info{}, err
	}
	active := state != libvirt.DOMAIN_SHUTOFF && state != libvirt.DOMAIN_CRASHED
	live, err := d.GetXMLDesc(0)
	if err != nil {
		return Info{}, err
	}
	var info Info
	if err := info.read(live); err != nil {
		return Info{}, err
	}
	flags := libvirt.DOMAIN_XML_SECURE
	if active {
		flags |= libvirt.DOMAIN_XML_MIGRATABLE
		info.PID = qemuPID(info.Name)
	}
	if info.XML, err = d.GetXMLDesc(flags); err != nil {
		return Info{}, err
	}
	info.State, info.End, info.Reason = stateNames[state], endOf(state, reason), reasonName(state, reason)
	switch {
	case waiting(state, reason):
		info.State = stateWaiting
	case info.Running() && info.PID != 0 && !alive(info.PID):
		info.State = stateEnding
	}
	return info, nil
}

// waiting says that QEMU was started for a migration stream that has not come yet.
func waiting(s libvirt.DomainState, reason int) bool {
	return s == libvirt.DOMAIN_PAUSED &&
		(reason == int(libvirt.DOMAIN_PAUSED_MIGRATION) || reason == int(libvirt.DOMAIN_PAUSED_STARTING_UP))
}

func endOf(s libvirt.DomainState, reason int) End {
	switch {
	case s == libvirt.DOMAIN_CRASHED:
		return EndCrash
	case s != libvirt.DOMAIN_SHUTOFF:
		return EndNone
	case slices.Contains(byRequest, libvirt.DomainShutoffReason(reason)):
		return EndByRequest
	}
	return EndCrash
}

// byRequest is why a domain is off that somebody wanted off. Else QEMU died, or libvirtd
// gave it up: so it does, when it is restarted, with one whose monitor does not answer.
var byRequest = []libvirt.DomainShutoffReason{libvirt.DOMAIN_SHUTOFF_SHUTDOWN, libvirt.DOMAIN_SHUTOFF_DESTROYED,
	libvirt.DOMAIN_SHUTOFF_MIGRATED, libvirt.DOMAIN_SHUTOFF_SAVED, libvirt.DOMAIN_SHUTOFF_FROM_SNAPSHOT}

// reasons are libvirt's, by state, in the order of their numbers (virDomain*Reason).
var reasons = map[libvirt.DomainState][]string{
	libvirt.DOMAIN_RUNNING: {"", "booted", "migrated", "restored", "from snapshot", "unpaused", "migration cancelled", "save cancelled", "woken up", "crashed", "post-copy", "post-copy failed"},
	libvirt.DOMAIN_PAUSED:  {"", "by user", "migrating", "saving", "dumping", "disk I/O error", "watchdog", "from snapshot", "shutting down", "snapshot", "crashed", "starting up", "post-copy", "post-copy failed", "libvirt could not resume it"},
	libvirt.DOMAIN_SHUTOFF: {"", "shut down", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "its host's libvirt lost it"},
}

func reasonName(s libvirt.DomainState, reason int) string {
	if names := reasons[s]; reason >= 0 && reason < len(names) {
		return names[reason]
	}
	return ""
}

// version asks QEMU. A monitor that does not answer is an error after versionLimit.
func (h *Host) version(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionLimit)
	defer cancel()
	var v struct {
		QEMU struct{ Major, Minor, Micro int }
	}
	if err := h.query(ctx, name, queryVersions, &v); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d.%d.%d", v.QEMU.Major, v.QEMU.Minor, v.QEMU.Micro), nil
}

// query sends one line to QEMU's monitor and decodes what it returns.
func (h *Host) query(ctx context.Context, name, line string, out any) error {
	raw, err := bounded(ctx, "monitor of "+name, func() (string, error) { return h.Command(name)(line, nil) })
	if err != nil {
		return err
	}
	var reply struct{ Return, Error json.RawMessage }
	if err := json.Unmarshal([]byte(raw), &reply); err != nil {
		return fmt.Errorf("monitor of %s: %w", name, err)
	}
	if reply.Error != nil {
		return fmt.Errorf("monitor of %s: %s: %s", name, line, reply.Error)
	}
	return json.Unmarshal(reply.Return, out)
}

func (i *Info) read(xml string) error {
	d, err := parse(xml)
	if err != nil {
		return err
	}
	i.definition = d
	i.Name, i.UUID, i.KVM = d.Name, d.UUID, d.Type == "kvm"
	i.MemoryBytes = memoryOf(d)
	if d.OS != nil && d.OS.Type != nil {
		i.Machine = d.OS.Type.Machine
	}
	if d.Devices != nil {
		i.Emulator = d.Devices.Emulator
	}
	i.NICs = nicsOf(d)
	return nil
}

func nicsOf(d *libvirtxml.Domain) (out []NIC) {
	for _, n := range interfaces(d) {
		if n.Target == nil || n.Target.Dev == "" || n.MAC == nil || !hasTap(n) {
			continue
		}
		nic := NIC{Tap: n.Target.Dev, MAC: n.MAC.Address, Filtered: n.FilterRef != nil}
		nic.OpenVSwitch = n.VirtualPort != nil && n.VirtualPort.Params != nil && n.VirtualPort.Params.OpenVSwitch != nil
		switch {
		case n.Source.Bridge != nil:
			nic.Bridge = n.Source.Bridge.Bridge
		case n.Source.Network != nil:
			nic.Bridge = n.Source.Network.Bridge
		}
		out = append(out, nic)
	}
	return out
}

// hasTap says that an interface is a tap device, through which all of its traffic goes.
func hasTap(n libvirtxml.DomainInterface) bool {
	return n.Source != nil && (n.Source.Bridge != nil || n.Source.Network != nil || n.Source.Ethernet != nil)
}

func memoryOf(d *libvirtxml.Domain) uint64 {
	if d.Memory == nil {
		return 0
	}
	return uint64(d.Memory.Value) * unit(d.Memory.Unit)
}

// unit is libvirt's scale of memory sizes (its page on the domain's format); KiB unless said.
func unit(name string) uint64 {
	switch strings.ToLower(name) {
	case "b", "byte", "bytes":
		return 1
	case "kb":
		return 1000
	case "m", "mib":
		return 1 << 20
	case "mb":
		return 1000 * 1000
	case "g", "gib":
		return 1 << 30
	case "gb":
		return 1000 * 1000 * 1000
	case "t", "tib":
		return 1 << 40
	}
	return 1 << 10
}
