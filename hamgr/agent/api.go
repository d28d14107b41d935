package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/input"
	"github.com/hamgr/hamgr/bufferqdisc/plug"
	"github.com/hamgr/hamgr/hamgr/domain"
	"golang.org/x/sys/unix"
)

// DomainInfo is what the managers ask an agent of a domain.
type DomainInfo struct {
	Name        string   `json:"name"`
	UUID        string   `json:"uuid"`
	Running     bool     `json:"running"`
	State       string   `json:"state"`
	MemoryBytes uint64   `json:"memory_bytes"`
	QEMUVersion string   `json:"qemu_version"`
	Emulator    string   `json:"emulator"`
	KVM         bool     `json:"kvm"`
	Problems    []string `json:"problems"` // why it cannot be protected
}

// BackupRequest asks whether a node could hold a replica.
type BackupRequest struct {
	Domain      string `json:"domain"`
	UUID        string `json:"uuid"`
	MemoryBytes uint64 `json:"memory_bytes"`
	QEMUVersion string `json:"qemu_version"`
	Emulator    string `json:"emulator"`
	KVM         bool   `json:"kvm"` // it does not run under emulation
}

// CheckResult is one line of hamgr check.
type CheckResult struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"`
}

// up waits until libvirt answers: a node that has just started serves its API before.
func (a *Agent) up(ctx context.Context) error {
	select {
	case <-a.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s has no connection to libvirt yet; is libvirtd running there?", a.cfg.Node)
	}
}

// Domain describes a domain and tries what its QEMU can do, on a QEMU of its own. It waits
// until this host has seen to what the cluster had decided by index, where that is not 0:
// before, what runs may be a copy of a former time.
func (a *Agent) Domain(ctx context.Context, name string, index uint64) (DomainInfo, error) {
	if err := a.up(ctx); err != nil {
		return DomainInfo{}, err
	}
	if err := a.settled(ctx, name, index); err != nil {
		return DomainInfo{}, err
	}
	i, err := a.host.Lookup(ctx, name)
	if err != nil {
		return DomainInfo{}, err
	}
	d := DomainInfo{Name: i.Name, UUID: i.UUID, Running: i.State == "running", State: i.State, MemoryBytes: i.MemoryBytes,
		QEMUVersion: i.QEMUVersion, Emulator: i.Emulator, KVM: i.KVM, Problems: i.Problems()}
	if d.Running {
		r, err := a.probes.probe(ctx, i.Emulator, i.KVM)
		if err != nil {
			return d, err
		}
		if !r.OK {
			d.Problems = append(d.Problems, r.Missing+"; "+r.Advice)
		}
	}
	return d, nil
}

// settledWait bounds the wait for a job that ends.
const settledWait = 5 * time.Second

func (a *Agent) settled(ctx context.Context, name string, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, settledWait)
	defer cancel()
	for index > 0 && !a.hasSettled(name, index) {
		if sleep(ctx, 10*time.Millisecond) != nil {
			return fmt.Errorf("%s has not seen yet to the end of an earlier protection of %s; try again in a moment", a.cfg.Node, name)
		}
	}
	return nil
}

func (a *Agent) hasSettled(name string, index uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	job := a.primaries[name]
	return a.told.Index >= index && (job == nil || job.stopped())
}

// Definition is libvirt's XML of a domain of this host, fit to start it elsewhere, with its
// secrets. Errors: domain.ErrNoDomain.
func (a *Agent) Definition(ctx context.Context, name string) (string, error) {
	if err := a.up(ctx); err != nil {
		return "", err
	}
	i, err := a.host.Lookup(ctx, name)
	return i.XML, err
}

// BackupCheck says why this node cannot hold a replica; nil: it can.
func (a *Agent) BackupCheck(ctx context.Context, r BackupRequest) error {
	if err := a.up(ctx); err != nil {
		return err
	}
	info, err := a.host.Lookup(ctx, r.Domain)
	switch {
	case err == nil && info.Running():
		return fmt.Errorf("a domain named %s runs on %s already", r.Domain, a.cfg.Node)
	case err == nil && info.UUID != r.UUID:
		return fmt.Errorf("%s has another domain named %s (UUID %s)", a.cfg.Node, r.Domain, info.UUID)
	case err != nil && !errors.Is(err, domain.ErrNoDomain):
		return err
	}
	p, err := a.probes.probe(ctx, r.Emulator, r.KVM)
	if err == nil && p.Version != r.QEMUVersion {
		return fmt.Errorf("QEMU is %s on %s and %s under the guest; install the same on both", p.Version, a.cfg.Node, r.QEMUVersion)
	}
	return errors.Join(err, checkMemory(a.cfg.MemoryDir, r.MemoryBytes))
}

// Stats are those of the protections whose primary is here.
func (a *Agent) Stats() map[string]Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string]Stats{}
	for name, p := range a.primaries {
		s := p.snapshot()
		s.InputReplayed, s.InputHeard = a.delivered[name].Replayed, a.delivered[name].Heard
		out[name] = s
	}
	return out
}

const (
	emulatorPath = "/usr/bin/qemu-system-x86_64"
	kvmPath      = "/dev/kvm"
)

// Check is the preflight of this node.
func (a *Agent) Check(ctx context.Context) []CheckResult {
	var out []CheckResult
	add := func(name string, err error, ok, advice string) {
		r := CheckResult{Name: name, OK: err == nil, Detail: ok}
		if err != nil {
			r.Detail, r.Advice = err.Error(), advice
		}
		out = append(out, r)
	}
	wait, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err := a.up(wait)
	if err == nil {
		_, err = a.host.Lookup(ctx, "hamgr-check")
	}
	if errors.Is(err, domain.ErrNoDomain) {
		err = nil
	}
	add("libvirt", err, "answers", "start libvirtd, or give --libvirt another URI")
	kvm, how := unix.Access(kvmPath, unix.R_OK|unix.W_OK) == nil, "under emulation"
	if kvm {
		how = "with KVM"
	}
	r, err := a.probes.probe(ctx, emulatorPath, kvm)
	if err == nil && !r.OK {
		err = errors.New(r.Missing)
	}
	add("qemu", err, r.Version+" runs COLO checkpoints "+how, r.Advice)
	buffer := "plug: this kernel has sch_plug and ifb"
	if plug.Probe() != nil {
		buffer = "relay: this kernel has no sch_plug or ifb, but tun"
	}
	add("output buffer", unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK), buffer, "modprobe tun, and sch_plug and ifb if there are")
	add("input handler", input.Probe(), "copies of a guest's input can go to its backup", "modprobe vxlan cls_bpf sch_ingress; or protect with --input=off")
	add("memory", checkMemory(a.cfg.MemoryDir, 64<<20), a.cfg.MemoryDir+" has room for replicas", "mount a tmpfs there")
	return out
}
