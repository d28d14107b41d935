package wire

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"
)

// Hello introduces a primary and the guest it wants to protect.
type Hello struct {
	Domain      string `json:"domain"`
	UUID        string `json:"uuid"`
	Primary     string `json:"primary"`
	Generation  uint64 `json:"generation"`
	RaftIndex   uint64 `json:"raft_index"` // the state that says so
	DomainXML   string `json:"domain_xml"`
	QEMUVersion string `json:"qemu_version"`
	MemoryBytes uint64 `json:"memory_bytes"`
	InputNICs   int    `json:"input_nics,omitempty"` // whose input is to be copied to the backup
}

// Block is one RAM block.
type Block struct {
	Name string `json:"name"`
	Size uint64 `json:"size"` // bytes
}

// Layout describes the guest's memory.
type Layout struct {
	Configuration []byte  `json:"configuration"`
	Blocks        []Block `json:"blocks"`
}

// The codes of a refusal.
const (
	CodeStale    = "stale-generation"
	CodeNotMine  = "not-backup"
	CodeNoMemory = "no-memory"
	CodeVersion  = "version"
	CodeStandby  = "standby-failed"
)

// RefusedError is a backup's no.
type RefusedError struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused (%s): %s", e.Code, e.Text) }

// Sender is the primary's end.
type Sender struct {
	conn net.Conn
	buf  []byte
	sent uint64
	way  *shipment // of the checkpoint under way; nil: none is
}

// NewSender wraps a fresh connection.
func NewSender(conn net.Conn) *Sender { return &Sender{conn: conn} }

// Close ends the connection, any call under way and what Begin started.
func (s *Sender) Close() error {
	err := s.conn.Close()
	if s.way != nil {
		s.way.finish()
		s.way.wait()
		s.way = nil
	}
	return err
}

// Sent is the number of bytes written so far.
func (s *Sender) Sent() uint64 { return s.sent }

// during runs f and breaks it off when ctx ends.
func (s *Sender) during(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { s.conn.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Hello asks the backup to take the guest and waits for its answer: nil or *RefusedError.
func (s *Sender) Hello(ctx context.Context, h Hello) (a Accepted, err error) {
	err = s.during(ctx, func() error {
		p, err := json.Marshal(h)
		if err != nil {
			return err
		}
		pre := binary.BigEndian.AppendUint16([]byte(magic), version)
		if err := s.write(appendFrame(append(pre, 0, 0), TypeHello, p)); err != nil {
			return err
		}
		t, p, err := readFrame(s.conn, &s.buf)
		switch {
		case err != nil:
			return err
		case t == TypeAccept:
			a, err = accepted(p)
			return err
		case t == TypeRefuse:
			return refusal(p)
		}
		return fmt.Errorf("%w: frame type %d in answer to HELLO", ErrCorrupt, t)
	})
	return a, err
}

func refusal(p []byte) error {
	r := &RefusedError{}
	if err := json.Unmarshal(p, r); err != nil {
		return fmt.Errorf("%w: REFUSE: %v", ErrCorrupt, err)
	}
	return r
}

func (s *Sender) write(b []byte) error {
	n, err := s.conn.Write(b)
	s.sent += uint64(n)
	return err
}

// Layout describes the memory; it goes before the first page.
func (s *Sender) Layout(l Layout) error {
	p, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return s.write(appendFrame(nil, TypeLayout, p))
}

// Flush sends the pages collected in p and empties it: the first copy.
func (s *Sender) Flush(ctx context.Context, p *Pages) error {
	defer p.Reset()
	return s.during(ctx, func() error {
		bufs := net.Buffers(p.rest())
		n, err := bufs.WriteTo(s.conn)
		s.sent += uint64(n)
		return err
	})
}

// Begin announces a checkpoint and sends its pages while they are added to it, until Ship
// sends the rest. It does not wait for the network.
func (s *Sender) Begin(c *Checkpoint) {
	s.way = newShipment(s.conn, appendFrame(nil, TypeBegin, binary.BigEndian.AppendUint64(nil, c.epoch)))
	c.full = s.way.put
}

// Ship sends what is left of a checkpoint, or, without Begin, all of it.
func (s *Sender) Ship(ctx context.Context, c *Checkpoint) error {
	if s.way == nil {
		s.Begin(c)
	}
	c.full = nil
	var dev [headerSize]byte
	binary.BigEndian.PutUint16(dev[:], uint16(TypeDeviceState))
	binary.BigEndian.PutUint16(dev[2:], mustUnderstand)
	binary.BigEndian.PutUint32(dev[4:], uint32(len(c.state)))
	binary.BigEndian.PutUint32(dev[8:], crc32.Checksum(c.state, castagnoli))
	end := binary.BigEndian.AppendUint64(nil, c.epoch)
	end = binary.BigEndian.AppendUint64(end, uint64(c.count))
	s.way.finish(append(c.rest(), dev[:], c.state, appendFrame(nil, TypeEnd, end))...)
	return s.during(ctx, func() error {
		n, err := s.way.wait()
		s.way = nil
		s.sent += uint64(n)
		return err
	})
}

// WaitCommit waits for the backup's word that an epoch is committed.
func (s *Sender) WaitCommit(ctx context.Context) (c Committed, err error) {
	err = s.during(ctx, func() error {
		t, p, err := readFrame(s.conn, &s.buf)
		switch {
		case err == io.EOF:
			return fmt.Errorf("the backup closed the connection")
		case err != nil:
			return err
		case t == TypeRefuse:
			return refusal(p)
		case t != TypeCommit || len(p) < 8:
			return fmt.Errorf("%w: frame type %d instead of COMMIT", ErrCorrupt, t)
		}
		c = committed(p)
		return nil
	})
	return c, err
}
