package commit

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Save writes frames as pcapng, an interface for each place: "<host>" on the network,
// "<host>/<device>" inside.
func Save(w io.Writer, frames []Frame) error {
	var out *pcapgo.NgWriter
	index := map[string]int{}
	for _, f := range frames {
		place := f.Host
		if f.Device != "" {
			place += "/" + f.Device
		}
		i, known := index[place]
		if !known {
			var err error
			if out, i, err = addPlace(w, out, place); err != nil {
				return err
			}
			index[place] = i
		}
		ci := gopacket.CaptureInfo{Timestamp: f.Time, CaptureLength: len(f.Data), Length: len(f.Data), InterfaceIndex: i}
		if err := out.WritePacket(ci, f.Data); err != nil {
			return err
		}
	}
	if out == nil {
		return errors.New("commit: no frames to save")
	}
	return out.Flush()
}

func addPlace(w io.Writer, out *pcapgo.NgWriter, place string) (*pcapgo.NgWriter, int, error) {
	intf := pcapgo.DefaultNgInterface
	intf.Name, intf.LinkType = place, layers.LinkTypeEthernet
	if out == nil {
		out, err := pcapgo.NewNgWriterInterface(w, intf, pcapgo.DefaultNgWriterOptions)
		return out, 0, err
	}
	i, err := out.AddInterface(intf)
	return out, i, err
}

// Load reads what Save has written. A last frame that was cut short is left out.
func Load(r io.Reader) ([]Frame, error) {
	in, err := pcapgo.NewNgReader(r, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		return nil, fmt.Errorf("commit: capture: %w", err)
	}
	var frames []Frame
	for {
		data, ci, err := in.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return frames, nil
		}
		if err != nil {
			return nil, fmt.Errorf("commit: capture, frame %d: %w", len(frames)+1, err)
		}
		intf, err := in.Interface(ci.InterfaceIndex)
		if err != nil {
			return nil, fmt.Errorf("commit: capture, frame %d: %w", len(frames)+1, err)
		}
		host, device, _ := strings.Cut(intf.Name, "/")
		frames = append(frames, Frame{Time: ci.Timestamp, Host: host, Device: device, Data: data})
	}
}
