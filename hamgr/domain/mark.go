package domain

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// markSpace is the name space of hamgr's element in a domain's metadata.
const markSpace = "urn:hamgr:standby:1"

// mark is hamgr's element in the metadata of a domain that is or was a standby.
type mark struct {
	XMLName  xml.Name `xml:"urn:hamgr:standby:1 standby"`
	Token    string   `xml:"token,attr"` // one standby's, of this host
	State    string   `xml:"state,attr"` // waiting or active
	Original original `xml:"original"`
}

const (
	markWaiting = "waiting"
	markActive  = "active"
)

// original is what the user's XML said where hamgr changed it.
type original struct {
	Backing *libvirtxml.DomainMemoryBacking `xml:"memoryBacking"`
	Taps    []originalTap                   `xml:"interface"`
}

// originalTap is the name the user gave an interface's tap, by the interface's place.
type originalTap struct {
	Index int    `xml:"index,attr"`
	Dev   string `xml:"dev,attr"`
}

// metadata is the content of <metadata> cut into hamgr's mark and the rest, which is
// other people's and stays as it is, byte for byte.
func cutMark(metadata string) (m *mark, rest string, err error) {
	dec := xml.NewDecoder(strings.NewReader(metadata))
	var out strings.Builder
	for {
		from := dec.InputOffset()
		tok, err := dec.Token()
		if err == io.EOF {
			return m, out.String(), nil
		}
		if err != nil {
			return nil, "", fmt.Errorf("metadata of the domain: %w", err)
		}
		start, ok := tok.(xml.StartElement)
		switch {
		case ok && start.Name.Space == markSpace:
			m = &mark{}
			err = dec.DecodeElement(m, &start)
		case ok:
			err = dec.Skip()
			fallthrough
		default:
			out.WriteString(metadata[from:dec.InputOffset()])
		}
		if err != nil {
			return nil, "", fmt.Errorf("metadata of the domain: %w", err)
		}
	}
}

// markOf is the mark in a domain's metadata; nil: it has none.
func markOf(d *libvirtxml.Domain) (*mark, error) {
	if d.Metadata == nil {
		return nil, nil
	}
	m, _, err := cutMark(d.Metadata.XML)
	return m, err
}

// setMark replaces the mark of a domain; nil removes it.
func setMark(d *libvirtxml.Domain, m *mark) error {
	var rest string
	if d.Metadata != nil {
		var err error
		if _, rest, err = cutMark(d.Metadata.XML); err != nil {
			return err
		}
	}
	if m != nil {
		text, err := xml.Marshal(m)
		if err != nil {
			return err
		}
		rest += string(text)
	}
	d.Metadata = nil
	if strings.TrimSpace(rest) != "" {
		d.Metadata = &libvirtxml.DomainMetadata{XML: rest}
	}
	return nil
}
