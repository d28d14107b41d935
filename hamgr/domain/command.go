package domain

import (
	"context"
	"fmt"
	"os"

	"libvirt.org/go/libvirt"
)

// Command is QEMU's monitor behind a domain, as the qmp package wants it. It blocks until
// QEMU answers: the qmp package gives its calls deadlines. Not for a waiting standby.
func (h *Host) Command(name string) func(line string, files []*os.File) (string, error) {
	return func(line string, files []*os.File) (out string, err error) {
		err = h.with(name, func(_ *libvirt.Connect, d *libvirt.Domain) error {
			out, err = monitor(d, line, files)
			return err
		})
		return out, err
	}
}

// monitor passes one line to QEMU. virDomainQemuMonitorCommandWithFiles is for files
// only: libvirt before 8.2 does not have it.
func monitor(d *libvirt.Domain, line string, files []*os.File) (string, error) {
	if len(files) == 0 {
		return d.QemuMonitorCommand(line, libvirt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
	}
	in := make([]os.File, 0, len(files))
	for _, f := range files {
		in = append(in, *f)
	}
	out, unwanted, err := d.QemuMonitorCommandWithFiles(line, in, libvirt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
	for _, f := range unwanted {
		f.Close()
	}
	return out, err
}

// Destroy ends a domain at once, like pulling its plug. Errors: ErrNoDomain.
func (h *Host) Destroy(ctx context.Context, name string) error {
	return h.on(ctx, name, "destroy", func(d *libvirt.Domain) error { return d.Destroy() })
}

// Resume lets a paused domain run. Errors: ErrNoDomain.
func (h *Host) Resume(ctx context.Context, name string) error {
	return h.on(ctx, name, "resume", func(d *libvirt.Domain) error { return d.Resume() })
}

// Define makes a domain's definition outlive it. What hamgr changed in the XML of a
// standby is changed back.
func (h *Host) Define(ctx context.Context, xml string) error {
	plain, err := plainXML(xml)
	if err != nil {
		return err
	}
	_, err = bounded(ctx, "define", func() (struct{}, error) {
		return struct{}{}, h.withConnection(func(c *libvirt.Connect) error { return define(c, plain) })
	})
	return err
}

// Start defines and starts a domain that is not active here. What hamgr changed in the XML
// of a standby is changed back. Errors: ErrBusy; libvirt's own.
func (h *Host) Start(ctx context.Context, xml string) error {
	def, err := parse(xml)
	if err != nil {
		return err
	}
	if err := h.mayStart(ctx, def); err != nil {
		return err
	}
	if err := h.Define(ctx, xml); err != nil {
		return err
	}
	return h.on(ctx, def.Name, "start", func(d *libvirt.Domain) error { return d.Create() })
}

func define(c *libvirt.Connect, xml string) error {
	d, err := c.DomainDefineXML(xml)
	if err != nil {
		return fmt.Errorf("libvirt, defining a domain: %w", err)
	}
	return d.Free()
}
