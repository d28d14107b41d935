package colo

import (
	"context"
	"encoding/binary"
	"fmt"
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

// Session is one QEMU in COLO, its checkpoints coming here. It is not safe for concurrent
// use, except that the end of a call's context ends the call and the session. After any
// error only Disarm is of use.
type Session struct {
	client *qmp.Client
	conn   net.Conn
	in     *reader
	state  []byte // reused for every checkpoint
}

// Configuration is the stream's configuration section without its type byte, as
// WriteRestore wants it.
func (s *Session) Configuration() []byte { return s.in.config }

// BlockList is the guest's RAM blocks in QEMU's order.
func (s *Session) BlockList() []Block { return s.in.blocks }

// guard runs a blocking exchange and closes the stream when ctx ends meanwhile.
func (s *Session) guard(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	err := f()
	switch {
	case stop() || ctx.Err() == nil:
		return err
	case err != nil:
		return fmt.Errorf("colo: given up: %w (%v)", context.Cause(ctx), err)
	default:
		return fmt.Errorf("colo: given up: %w", context.Cause(ctx))
	}
}

func (s *Session) send(msgs ...uint32) error {
	var b []byte
	for _, m := range msgs {
		b = binary.BigEndian.AppendUint32(b, m)
	}
	return s.write(b)
}

func (s *Session) write(b []byte) error {
	if _, err := s.conn.Write(b); err != nil {
		return fmt.Errorf("%w, before it was answered: %w", ErrTruncated, err)
	}
	return nil
}

// shut ends the return path's ordinary part (migration/migration.c, MIG_RP_MSG_SHUT):
// message 1, 4 bytes long, 0 for no error.
func (s *Session) shut() error { return s.write([]byte{0, 1, 0, 4, 0, 0, 0, 0}) }

// Ready lets the guest run after Arm.
func (s *Session) Ready() error { return s.send(msgReady) }

// WaitRequest waits until QEMU asks for a checkpoint. The guest runs until Capture
// answers: the time between the two is the caller's.
func (s *Session) WaitRequest(ctx context.Context) error {
	return s.guard(ctx, func() error { return s.in.expect(msgRequest) })
}

// Capture takes one checkpoint. stopped (may be nil) is called once the guest stands
// still, with all its output and disk writes done, before its pages are read. The device
// state is valid until the next Capture. The guest stays stopped until Resume.
//
// Errors: ErrTruncated, ErrProtocol, those of stopped and sink, ctx's cause. The guest
// may stand still after one: Disarm.
func (s *Session) Capture(ctx context.Context, stopped func() error, sink Sink) ([]byte, error) {
	err := s.guard(ctx, func() error {
		if err := s.send(msgReply); err != nil {
			return err
		}
		if err := s.in.expect(msgVMStateSend); err != nil {
			return err
		}
		if stopped != nil {
			if err := stopped(); err != nil {
				return err
			}
		}
		if err := s.in.checkpoint(sink); err != nil {
			return err
		}
		var err error
		s.state, err = s.in.deviceState(s.state)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.state, nil
}

// Resume lets the guest run: the checkpoint is in the caller's memory.
func (s *Session) Resume() error { return s.send(msgVMStateReceived, msgVMStateLoaded) }

// Disarm ends the session, whatever its state; the guest runs on, and can be armed again.
// When ctx ends first, the guest may stand still: call Recover.
func (s *Session) Disarm(ctx context.Context) error {
	s.conn.Close()
	return Recover(ctx, s.client)
}
