package domain

import (
	"slices"
	"testing"

	"libvirt.org/go/libvirtxml"
)

// TestQuiet: QEMU does not have a restored guest announce itself where that is dear, and
// the user's own words for QEMU are there again afterwards, whatever they were.
func TestQuiet(t *testing.T) {
	arg := func(words ...string) (c *libvirtxml.DomainQEMUCommandline) {
		c = &libvirtxml.DomainQEMUCommandline{}
		for _, w := range words {
			c.Args = append(c.Args, libvirtxml.DomainQEMUCommandlineArg{Value: w})
		}
		return c
	}
	ours := []string{noAnnouncements[0].Value, noAnnouncements[1].Value}
	env := &libvirtxml.DomainQEMUCommandline{Envs: []libvirtxml.DomainQEMUCommandlineEnv{{Name: "A", Value: "b"}}}
	for name, c := range map[string]*libvirtxml.DomainQEMUCommandline{
		"nothing": nil, "other words": arg("-d", "guest_errors"), "a variable": env, "the same words": arg(ours...),
	} {
		for _, kind := range []string{"qemu", "kvm"} {
			user := libvirtxml.Domain{Type: kind, Name: "g1", UUID: "fa634761-98f6-40c2-bc7a-8ceeb54e746e", QEMUCommandline: c}
			xml, err := user.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			before := words(t, xml)
			for range 2 { // a guest that was restored is restored again
				if _, xml, err = standbyXML(xml, "token"); err != nil {
					t.Fatal(err)
				}
			}
			want := before
			if kind == "qemu" {
				want = slices.Concat(before, ours)
				if name == "a variable" {
					want = slices.Concat(ours, before)
				}
			}
			if got := words(t, xml); !slices.Equal(got, want) {
				t.Errorf("%s, %s: a standby's are %q, want %q", kind, name, got, want)
			}
			if xml, err = plainXML(xml); err != nil {
				t.Fatal(err)
			}
			if got := words(t, xml); !slices.Equal(got, before) {
				t.Errorf("%s, %s: afterwards they are %q, want %q", kind, name, got, before)
			}
		}
	}
}

// words are what a definition has for QEMU's command line and environment.
func words(t *testing.T, xml string) (all []string) {
	t.Helper()
	d, err := parse(xml)
	if err != nil {
		t.Fatal(err)
	}
	if d.QEMUCommandline == nil {
		return nil
	}
	for _, a := range d.QEMUCommandline.Args {
		all = append(all, a.Value)
	}
	for _, e := range d.QEMUCommandline.Envs {
		all = append(all, e.Name+"="+e.Value)
	}
	return all
}
