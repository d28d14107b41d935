package domain

import (
	"fmt"
	"hash/fnv"
	"io"
	"slices"

	"libvirt.org/go/libvirtxml"
)

// tapPrefix begins the names of the taps of standbys.
const tapPrefix = "hs"

// standbyXML makes a primary's XML wait for a restore: RAM in a file that is mapped
// privately, taps of names no other domain uses, and a mark. MAC addresses, name and UUID
// stay. What the user wrote where it is changed goes into the mark.
func standbyXML(xml, token string) (*libvirtxml.Domain, string, error) {
	d, err := parse(xml)
	if err != nil {
		return nil, "", err
	}
	if lost, err := unknownXML(xml); err != nil {
		return nil, "", err
	} else if len(lost) > 0 {
		return nil, "", fmt.Errorf("XML of %s: %v: %w", d.Name, lost, ErrUnknownXML)
	}
	old, err := markOf(d)
	if err != nil {
		return nil, "", err
	}
	m := &mark{Token: token, State: markWaiting, Original: originalOf(d)}
	if old != nil { // it was a standby before: what it says now are hamgr's words
		m.Original = old.Original
		unquiet(d)
	}
	if err := setMark(d, m); err != nil {
		return nil, "", err
	}
	d.ID = nil
	// Neither huge nor locked pages: mlock would give QEMU copies of its own.
	d.MemoryBacking = &libvirtxml.DomainMemoryBacking{
		MemorySource:     &libvirtxml.DomainMemorySource{Type: "file"},
		MemoryAccess:     &libvirtxml.DomainMemoryAccess{Mode: "private"},
		MemoryAllocation: &libvirtxml.DomainMemoryAllocation{Mode: "ondemand"},
	}
	for i := range interfaces(d) {
		d.Devices.Interfaces[i].Target = &libvirtxml.DomainInterfaceTarget{Dev: tapName(d.UUID, i)}
	}
	quiet(d)
	out, err := d.Marshal()
	return d, out, err
}

// noAnnouncements are QEMU's words for what quiet does.
var noAnnouncements = []libvirtxml.DomainQEMUCommandlineArg{{Value: "-global"}, {Value: "migration.announce-rounds=0"}}

// quiet keeps QEMU from having an emulated guest announce itself as it is restored, five
// times in half a second: AnnounceAll says the same, and the guest's answers to its clients
// come sooner without. With KVM that takes the guest no time worth a changed command line.
func quiet(d *libvirtxml.Domain) {
	if d.Type != "qemu" {
		return
	}
	c := libvirtxml.DomainQEMUCommandline{}
	if d.QEMUCommandline != nil {
		c = *d.QEMUCommandline
	}
	c.Args = slices.Concat(c.Args, noAnnouncements)
	d.QEMUCommandline = &c
}

// unquiet undoes quiet.
func unquiet(d *libvirtxml.Domain) {
	c := d.QEMUCommandline
	if d.Type != "qemu" || c == nil || len(c.Args) < len(noAnnouncements) {
		return
	}
	own, ours := c.Args[:len(c.Args)-len(noAnnouncements)], c.Args[len(c.Args)-len(noAnnouncements):]
	if !slices.Equal(ours, noAnnouncements) {
		return
	}
	if c.Args = own; len(own)+len(c.Envs) == 0 {
		d.QEMUCommandline = nil
	}
}

// plainXML undoes standbyXML: the user's own words, without a mark. XML that was never a
// standby's is returned as it is.
func plainXML(xml string) (string, error) {
	d, err := parse(xml)
	if err != nil {
		return "", err
	}
	m, err := markOf(d)
	if err != nil || m == nil {
		return xml, err
	}
	if err := setMark(d, nil); err != nil {
		return "", err
	}
	d.MemoryBacking = m.Original.Backing
	unquiet(d)
	for i := range interfaces(d) {
		d.Devices.Interfaces[i].Target = nil // libvirt chooses a name
	}
	for _, t := range m.Original.Taps {
		if t.Index < len(interfaces(d)) {
			d.Devices.Interfaces[t.Index].Target = &libvirtxml.DomainInterfaceTarget{Dev: t.Dev}
		}
	}
	return d.Marshal()
}

func parse(xml string) (*libvirtxml.Domain, error) {
	d := &libvirtxml.Domain{}
	if err := d.Unmarshal(xml); err != nil {
		return nil, fmt.Errorf("XML of the domain: %w", err)
	}
	return d, nil
}

// originalOf is what standbyXML will overwrite. Names that libvirt made up are not in the
// XML that it gives for another host.
func originalOf(d *libvirtxml.Domain) original {
	o := original{Backing: d.MemoryBacking}
	for i, n := range interfaces(d) {
		if n.Target != nil && n.Target.Dev != "" {
			o.Taps = append(o.Taps, originalTap{i, n.Target.Dev})
		}
	}
	return o
}

func interfaces(d *libvirtxml.Domain) []libvirtxml.DomainInterface {
	if d.Devices == nil {
		return nil
	}
	return d.Devices.Interfaces
}

// tapName is at most 15 characters long, as names of links must be.
func tapName(uuid string, i int) string {
	h := fnv.New32a()
	io.WriteString(h, uuid)
	return fmt.Sprintf("%s%08x%d", tapPrefix, h.Sum32(), i)
}
