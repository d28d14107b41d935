package colo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/hamgr/hamgr/qmp"
)

// COLO's messages (qapi/migration.json, COLOMessage).
const (
	msgReady = iota
	msgRequest
	msgReply
	msgVMStateSend
	msgVMStateSize
	msgVMStateReceived
	msgVMStateLoaded
)

const maxDeviceState = 64 << 20

// Session is one QEMU in COLO, its checkpoints coming here. Not safe for concurrent use,
// except that cancelling the context of a call ends it (and the session).
type Session struct {
	client *qmp.Client
	conn   net.Conn
	in     *reader
	state  []byte
}

// Configuration is the stream's configuration section, needed to restore.
func (s *Session) Configuration() []byte { return s.in.config }

// BlockList is the guest's RAM blocks in QEMU's order.
func (s *Session) BlockList() []Block { return s.in.blocks }

// guard runs a blocking exchange and closes the stream when ctx ends meanwhile.
func (s *Session) guard(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	err := f()
	if !stop() && ctx.Err() != nil {
		return fmt.Errorf("colo: %w", context.Cause(ctx))
	}
	return err
}

func (s *Session) send(msgs ...uint32) error {
	var b []byte
	for _, m := range msgs {
		b = binary.BigEndian.AppendUint32(b, m)
	}
	if _, err := s.conn.Write(b); err != nil {
		return fmt.Errorf("colo: %w", err)
	}
	return nil
}

// shut ends the return path's ordinary part (migration/migration.c, MIG_RP_MSG_SHUT).
func (s *Session) shut() error {
	_, err := s.conn.Write([]byte{0, 1, 0, 4, 0, 0, 0, 0})
	return err
}

func (s *Session) expect(want uint32) error {
	if got := s.in.u32(); s.in.err == nil && got != want {
		s.in.protocol("COLO message %d instead of %d", got, want)
	}
	return s.in.err
}

// Ready lets the guest run after Arm.
func (s *Session) Ready() error { return s.send(msgReady) }

// WaitRequest waits until QEMU asks for a checkpoint. The guest runs until Capture answers.
func (s *Session) WaitRequest(ctx context.Context) error {
	return s.guard(ctx, func() error { return s.expect(msgRequest) })
}

// Capture takes one checkpoint. stopped is called once the guest stands still, with all
// its output and disk writes done, before its pages are read. The device state is valid
// until the next Capture. The guest stays stopped until Resume.
func (s *Session) Capture(ctx context.Context, stopped func() error, sink Sink) ([]byte, error) {
	err := s.guard(ctx, func() error {
		if err := s.send(msgReply); err != nil {
			return err
		}
		if err := s.expect(msgVMStateSend); err != nil {
			return err
		}
		if err := stopped(); err != nil {
			return err
		}
		s.in.sink = sink
		if err := s.in.checkpointRAM(); err != nil {
			return err
		}
		return s.deviceState()
	})
	return s.state, err
}

func (s *Session) deviceState() error {
	if err := s.expect(msgVMStateSize); err != nil {
		return err
	}
	n := s.in.u64()
	if n > maxDeviceState {
		s.in.protocol("device state of %d bytes", n)
	}
	if s.in.err != nil {
		return s.in.err
	}
	if uint64(cap(s.state)) < n {
		s.state = make([]byte, n, n+n/4)
	}
	s.state = s.state[:n]
	if _, err := io.ReadFull(s.in.in, s.state); err != nil {
		s.in.fail(err)
	} else if !bytes.HasSuffix(s.state, []byte{secEOF}) {
		s.in.protocol("device state without an end")
	}
	return s.in.err
}

// checkpointRAM reads the ram sections of one checkpoint, up to their EOF byte.
func (r *reader) checkpointRAM() error {
	for r.err == nil {
		switch kind := r.u8(); kind {
		case secCommand:
			r.command()
		case secPart, secEnd:
			r.ramSection(r.u32())
		case secStart:
			r.fullSection(kind)
		case secEOF:
			return r.err
		default:
			r.protocol("section type %#x in a checkpoint", kind)
		}
	}
	return r.err
}

// Resume lets the guest run: the checkpoint is in our hands.
func (s *Session) Resume() error { return s.send(msgVMStateReceived, msgVMStateLoaded) }

// Disarm ends the session, whatever its state; the guest runs on, and can be armed again.
func (s *Session) Disarm(ctx context.Context) error {
	s.conn.Close()
	err := Recover(ctx, s.client)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("colo: QEMU did not leave its session in time; the guest may stand still: %w", err)
	}
	return err
}
