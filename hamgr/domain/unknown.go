package domain

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrUnknownXML: a domain's XML has elements that libvirtxml does not know, and that a
// standby would therefore lack.
var ErrUnknownXML = errors.New("unknown elements; take them out, or use a hamgr built with a newer libvirtxml")

// unknownXML lists the elements and attributes of a domain's XML that are lost by reading
// and writing it, as path or path@attribute. Hardware lost like this would make the
// standby another machine, found out only at failover.
func unknownXML(text string) ([]string, error) {
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	again, err := d.Marshal()
	if err != nil {
		return nil, err
	}
	before, err := paths(text)
	if err != nil {
		return nil, err
	}
	after, err := paths(again)
	if err != nil {
		return nil, err
	}
	var lost []string
	for path, n := range before {
		if after[path] < n {
			lost = append(lost, path)
		}
	}
	slices.Sort(lost)
	return outermost(lost), nil
}

// outermost leaves out, of a sorted list, what is inside of an element that is in it.
func outermost(lost []string) (out []string) {
	for _, path := range lost {
		if n := len(out); n > 0 && (strings.HasPrefix(path, out[n-1]+"/") || strings.HasPrefix(path, out[n-1]+"@")) {
			continue
		}
		out = append(out, path)
	}
	return out
}

// paths counts the elements and attributes of an XML text. Metadata is other people's
// and carried over as it is.
func paths(text string) (map[string]int, error) {
	dec := xml.NewDecoder(strings.NewReader(text))
	count := map[string]int{}
	var at []string
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return count, nil
		}
		if err != nil {
			return nil, fmt.Errorf("XML of the domain: %w", err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if t.Name.Local == "metadata" && len(at) == 1 {
				if err := dec.Skip(); err != nil {
					return nil, err
				}
				continue
			}
			at = append(at, t.Name.Local)
			path := strings.Join(at, "/")
			count[path]++
			for _, a := range t.Attr {
				if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
					count[path+"@"+a.Name.Local]++
				}
			}
		case xml.EndElement:
			at = at[:len(at)-1]
		}
	}
}
