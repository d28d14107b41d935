package wire

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Page is one page record. Data is nil for a fill.
type Page struct {
	Block  int
	Offset uint64
	Data   []byte
	Value  byte // of every byte, when Data is nil
}

// ParsePages walks the records of a PAGES payload.
func ParsePages(p []byte, yield func(Page) error) error {
	for len(p) > 0 {
		if len(p) < recordSize {
			return fmt.Errorf("%w: half a page record", ErrCorrupt)
		}
		g := Page{Block: int(binary.BigEndian.Uint16(p)), Offset: binary.BigEndian.Uint64(p[8:]), Value: p[3]}
		kind := p[2]
		p = p[recordSize:]
		if kind == 0 {
			if len(p) < PageSize {
				return fmt.Errorf("%w: half a page", ErrCorrupt)
			}
			g.Data, p = p[:PageSize:PageSize], p[PageSize:]
		} else if kind != 1 {
			return fmt.Errorf("%w: page kind %d", ErrCorrupt, kind)
		}
		if g.Offset%PageSize != 0 {
			return fmt.Errorf("%w: page offset %#x", ErrCorrupt, g.Offset)
		}
		if err := yield(g); err != nil {
			return err
		}
	}
	return nil
}

// slabSize is a PAGES frame's at most: small, since a frame of a checkpoint is on its way
// to the backup while the next one fills.
const slabSize = 64 << 10

// Pages collects page records in slabs that are laid out as PAGES frames.
type Pages struct {
	slabs [][]byte          // each begins with room for a frame header
	used  int               // slabs[:used] hold records
	gone  int               // slabs[:gone] were given away
	full  func(slab []byte) // may be nil; is given each slab that has no more room
	count int
	zero  int
}

// Count is the number of records; Zero that of the all-zero pages among them.
func (p *Pages) Count() int { return p.count }

// Zero is the number of records of zero-filled pages.
func (p *Pages) Zero() int { return p.zero }

// Bytes is the size on the wire.
func (p *Pages) Bytes() (n int) {
	for _, s := range p.slabs[:p.used] {
		n += len(s)
	}
	return n
}

// Reset forgets the records and keeps memory for about as many again.
func (p *Pages) Reset() {
	if p.used < len(p.slabs)/4 && len(p.slabs) > 128 {
		p.slabs = p.slabs[: len(p.slabs)/2 : len(p.slabs)/2]
	}
	p.used, p.gone, p.count, p.zero = 0, 0, 0, 0
}

// Add appends a page; data is copied.
func (p *Pages) Add(block int, offset uint64, data []byte) {
	s := p.slab(recordSize + PageSize)
	*s = append(appendRecord(*s, block, 0, 0, offset), data...)
	p.count++
}

// AddFill appends a page whose bytes all have one value.
func (p *Pages) AddFill(block int, offset uint64, value byte) {
	s := p.slab(recordSize)
	*s = appendRecord(*s, block, 1, value, offset)
	p.count++
	if value == 0 {
		p.zero++
	}
}

func appendRecord(s []byte, block int, kind, value byte, offset uint64) []byte {
	s = binary.BigEndian.AppendUint16(s, uint16(block))
	s = append(s, kind, value, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint64(s, offset)
}

// slab returns the slab with room for n more bytes.
func (p *Pages) slab(n int) *[]byte {
	if p.used > 0 {
		if s := &p.slabs[p.used-1]; len(*s)+n <= cap(*s) {
			return s
		}
		if p.full != nil {
			p.full(p.slabs[p.used-1])
			p.gone = p.used
		}
	}
	if p.used == len(p.slabs) {
		p.slabs = append(p.slabs, make([]byte, 0, slabSize))
	}
	p.slabs[p.used] = p.slabs[p.used][:headerSize]
	p.used++
	return &p.slabs[p.used-1]
}

// rest seals the slabs that were not given away, and returns them: PAGES frames.
func (p *Pages) rest() [][]byte {
	frames := slices.Clone(p.slabs[p.gone:p.used]) // net.Buffers forgets what it has written
	for _, f := range frames {
		putHeader(f, TypePages)
	}
	return frames
}

// Checkpoint is one epoch's pages and device state, built while the guest stands still.
type Checkpoint struct {
	Pages
	epoch uint64
	state []byte
}

// NewCheckpoint makes an empty one; Reset readies it for an epoch.
func NewCheckpoint() *Checkpoint { return &Checkpoint{} }

// Reset begins a new epoch, reusing the memory of the last.
func (c *Checkpoint) Reset(epoch uint64) {
	c.Pages.Reset()
	c.epoch, c.state = epoch, nil
}

// Bytes is the size on the wire, the frames around the pages and the device state included.
func (c *Checkpoint) Bytes() int {
	const begin, end = headerSize + 8, headerSize + 16
	return begin + c.Pages.Bytes() + headerSize + len(c.state) + end
}

// SetDeviceState adds the device state, which is not copied.
func (c *Checkpoint) SetDeviceState(s []byte) { c.state = s }
