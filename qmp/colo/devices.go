package colo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"
)

const (
	maxDeviceState = 64 << 20
	maxDesc        = 16 << 20
)

// descStarts are how a description of the devices' state begins.
var descStarts = [][]byte{[]byte(`{"configuration"`), []byte(`{"page_size"`)}

// descPeek is how far to look for one of these: EOF byte, type, length, text.
const descPeek = 1 + 1 + 4 + len(`{"page_size"`) + len(`{"configuration"`)

// devices skips the devices' state at the end of the first copy: a checkpoint brings its
// own, and with a length. Here it has none, so it is skipped up to the description behind
// it, or else by skipDevices. Device state that looked like the beginning of a description
// would end the session with ErrProtocol, never pass for memory.
func (r *reader) devices() {
	if !r.ended {
		r.early()
		return
	}
	if r.silent {
		return
	}
	for start := r.off; r.err == nil; r.off++ {
		if r.off-start > maxDeviceState {
			r.wrong("more than %d bytes of device state, expected a description behind it", maxDeviceState)
			return
		}
		if b := r.peek(descPeek, "device state and its description"); r.err != nil {
			return
		} else if isDesc(b) {
			r.take(2, "a description")
			r.description()
			return
		}
		r.in.Discard(1)
	}
}

// quiet is how long the stream says nothing before QEMU is asked whether that was all.
const quiet = 2 * time.Millisecond

// skipDevices is for device state without a description behind it. Once QEMU is in its
// session it sends nothing until it is answered: what has come by then was the state.
func (s *Session) skipDevices(ctx context.Context) error {
	defer s.conn.SetReadDeadline(time.Time{})
	for start, last, over := s.in.off, byte(secFooter), false; ; {
		if s.in.off-start > maxDeviceState {
			s.in.wrong("more than %d bytes of device state", maxDeviceState)
			return s.in.err
		}
		if err := s.conn.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			return err
		}
		_, err := s.in.in.Peek(1)
		if n := s.in.in.Buffered(); n > 0 {
			b, _ := s.in.in.Peek(n)
			last = b[n-1]
			s.in.in.Discard(n)
			s.in.off += uint64(n)
			continue
		}
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			s.in.short(err, 1, "device state")
			if now, err := queryStatus(ctx, s.client); err == nil && now.migration == "completed" {
				return now.notInSession()
			}
			return s.in.err
		case over && last != secEOF:
			s.in.wrong("device state that ends with %#x, expected a zero byte", last)
			return s.in.err
		case over:
			return nil
		}
		if over, err = s.inSession(ctx); err != nil {
			return err
		}
	}
}

// early names the device whose state comes before the end of ram.
func (r *reader) early() {
	r.take(5, "a section")
	name := r.name("a section's name")
	r.wrong("device %q comes before the end of ram; a guest with it cannot be protected", name)
}

func isDesc(b []byte) bool {
	if b[0] != secEOF || b[1] != secVMDesc {
		return false
	}
	for _, s := range descStarts {
		if bytes.HasPrefix(b[6:], s) {
			return true
		}
	}
	return false
}

func (r *reader) description() {
	n := r.u32("a description's length")
	if n > maxDesc {
		r.wrong("description of %d bytes, at most %d are accepted", n, maxDesc)
		return
	}
	text := make([]byte, n)
	r.fill(text, "a description")
	if r.err == nil && !json.Valid(text) {
		r.wrong("description of %d bytes is not JSON", n)
	}
}

// expect reads one COLO message.
func (r *reader) expect(want uint32) error {
	if got := r.u32("a COLO message"); r.err == nil && got != want {
		r.wrong("COLO message %d, expected %d", got, want)
	}
	return r.err
}

// checkpoint reads the ram sections of one checkpoint, up to the EOF byte.
func (r *reader) checkpoint(sink Sink) error {
	r.sink, r.budget = sink, 0
	for _, b := range r.blocks {
		r.budget += 2 * (b.Size / PageSize)
	}
	for r.err == nil {
		switch kind := r.u8("a section of a checkpoint"); {
		case r.err != nil || kind == secEOF:
			return r.err
		case kind == secCommand || kind == secPart || kind == secEnd:
			r.runSection(kind)
		default:
			r.wrong("section of type %#x in a checkpoint, expected ram or a command", kind)
		}
	}
	return r.err
}

// deviceState reads a checkpoint's device state into buf, or into a larger one.
func (r *reader) deviceState(buf []byte) ([]byte, error) {
	r.expect(msgVMStateSize)
	n := r.u64("the device state's length")
	if r.err == nil && n > maxDeviceState {
		r.wrong("device state of %d bytes, at most %d are accepted", n, maxDeviceState)
	}
	if r.err != nil {
		return buf, r.err
	}
	if uint64(cap(buf)) < n {
		buf = make([]byte, n, n+n/4)
	}
	buf = buf[:n]
	r.fill(buf, "device state")
	if r.err == nil && !bytes.HasSuffix(buf, []byte{secEOF}) {
		r.wrong("%d bytes of device state, expected a zero byte at their end", n)
	}
	return buf, r.err
}
