package domain

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"path/filepath"

	"libvirt.org/go/libvirt"
)

// CleanStale ends the standbys that an earlier agent of this host left behind: domains
// with hamgr's mark that still wait. One that runs was let run, and is settled instead.
// A user's domain has no mark and is left alone.
func CleanStale(ctx context.Context, h *Host, runDir string) error {
	left, err := h.marked(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range left {
		if l.waits {
			errs = append(errs, h.destroyStandby(ctx, l.name, l.mark.Token))
		} else {
			errs = append(errs, h.settle(ctx, l.name, l.mark.Token))
		}
	}
	fifos, err := filepath.Glob(filepath.Join(runDir, "*"+imageSuffix))
	errs = append(errs, err)
	for _, path := range fifos {
		errs = append(errs, removeFIFO(path))
	}
	return errors.Join(errs...)
}

// Running are the names of the domains whose QEMU has a guest, paused or not; a standby
// that waits is none.
func (h *Host) Running(ctx context.Context) ([]string, error) {
	return bounded(ctx, "list the domains", func() (out []string, err error) {
		err = h.withConnection(func(c *libvirt.Connect) error {
			all, err := c.ListAllDomains(libvirt.CONNECT_LIST_DOMAINS_ACTIVE)
			if err != nil {
				return fmt.Errorf("libvirt: %w", err)
			}
			for i := range all {
				name, nameErr := all[i].GetName()
				state, reason, stateErr := all[i].GetState()
				if nameErr == nil && stateErr == nil && !waiting(state, reason) {
					out = append(out, name)
				}
				all[i].Free() // an error means that it has ended meanwhile
			}
			return nil
		})
		return out, err
	})
}

// stale is a domain that says of itself that it is a standby.
type stale struct {
	name  string
	mark  *mark
	waits bool
}

func (h *Host) marked(ctx context.Context) ([]stale, error) {
	return bounded(ctx, "list the domains", func() (out []stale, err error) {
		err = h.withConnection(func(c *libvirt.Connect) error {
			all, err := c.ListAllDomains(libvirt.CONNECT_LIST_DOMAINS_ACTIVE)
			if err != nil {
				return fmt.Errorf("libvirt: %w", err)
			}
			for i := range all {
				if s, err := staleOf(&all[i]); err == nil && s.mark != nil && s.mark.State == markWaiting {
					out = append(out, s)
				}
				all[i].Free() // an error means that it has ended meanwhile
			}
			return nil
		})
		return out, err
	})
}

func staleOf(d *libvirt.Domain) (s stale, err error) {
	if s.name, err = d.GetName(); err != nil {
		return s, err
	}
	if s.mark, err = liveMark(d); err != nil {
		return s, err
	}
	state, reason, err := d.GetState()
	s.waits = waiting(state, reason)
	return s, err
}

// liveMark is the mark of a domain as it is now; nil: it has none.
func liveMark(d *libvirt.Domain) (*mark, error) {
	text, err := d.GetXMLDesc(0)
	if err != nil {
		return nil, err
	}
	def, err := parse(text)
	if err != nil {
		return nil, err
	}
	return markOf(def)
}

// destroyStandby ends a domain if it is the standby with that token and was not settled.
func (h *Host) destroyStandby(ctx context.Context, name, token string) error {
	err := h.on(ctx, name, "end the standby", func(d *libvirt.Domain) error {
		m, err := liveMark(d)
		if err != nil || m == nil || m.Token != token || m.State != markWaiting {
			return err
		}
		if active, err := d.IsActive(); err != nil || !active {
			return err
		}
		return d.Destroy()
	})
	if errors.Is(err, ErrNoDomain) || hasCode(err, libvirt.ERR_OPERATION_INVALID) || hasCode(err, libvirt.ERR_NO_DOMAIN) {
		return nil // it ended by itself
	}
	return err
}

// settle makes a restored standby an ordinary domain. One that the user has defined here
// keeps that definition.
func (h *Host) settle(ctx context.Context, name, token string) error {
	_, err := bounded(ctx, "settle "+name, func() (struct{}, error) {
		return struct{}{}, h.with(name, func(c *libvirt.Connect, d *libvirt.Domain) error {
			m, err := liveMark(d)
			if err != nil {
				return err
			}
			if m == nil || m.Token != token {
				return errors.New("its metadata have lost hamgr's mark")
			}
			m.State = markActive
			text, err := xml.Marshal(m)
			if err != nil {
				return err
			}
			err = d.SetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, string(text), "hamgr", markSpace, libvirt.DOMAIN_AFFECT_LIVE)
			return errors.Join(err, makePersistent(c, d))
		})
	})
	return err
}

func makePersistent(c *libvirt.Connect, d *libvirt.Domain) error {
	if yes, err := d.IsPersistent(); err != nil || yes {
		return err
	}
	text, err := d.GetXMLDesc(libvirt.DOMAIN_XML_SECURE | libvirt.DOMAIN_XML_MIGRATABLE)
	if err != nil {
		return err
	}
	if text, err = plainXML(text); err != nil {
		return err
	}
	return define(c, text)
}
