package qmp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// eventBacklog is how many events a subscriber may leave unread before it is cut off.
const eventBacklog = 256

// subscription is one caller of Events. Its channel is closed under the Socket's lock.
type subscription struct{ out chan goqemu.Event }

// read hands every line to whom it is for, until the connection ends.
func (s *Socket) read(in *bufio.Reader) {
	defer close(s.done)
	for {
		line, err := readLine(in)
		if err == nil {
			err = s.dispatch(line)
		}
		if err != nil {
			s.end(err) // before the close, so that it is the reason others see
			s.conn.Close()
			return
		}
	}
}

func (s *Socket) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = ErrClosed
	if !errors.Is(err, net.ErrClosed) {
		s.err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	for sub := range s.events {
		s.dropLocked(sub)
	}
}

func (s *Socket) dispatch(line []byte) error {
	var head struct {
		ID    json.RawMessage `json:"id"`
		Event *string         `json:"event"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return fmt.Errorf("line %.80q from QEMU: %w", line, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if head.Event != nil {
		return s.publishLocked(line)
	}
	var id uint64
	if json.Unmarshal(head.ID, &id) != nil {
		return nil // not a reply to one of ours
	}
	if answer, ok := s.waiting[id]; ok {
		delete(s.waiting, id)
		answer <- line
	}
	return nil
}

func (s *Socket) publishLocked(line []byte) error {
	var e goqemu.Event
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("event %.80q: %w", line, err)
	}
	for sub := range s.events {
		select {
		case sub.out <- e:
		default:
			s.dropLocked(sub)
		}
	}
	return nil
}

func (s *Socket) dropLocked(sub *subscription) {
	if _, ok := s.events[sub]; ok {
		delete(s.events, sub)
		close(sub.out)
	}
}

// Events delivers QEMU's events from now on. The channel is closed when ctx or the
// connection ends, and also on a reader that leaves 256 of them unread: it then has to
// ask QEMU for its state, since events may be missing.
func (s *Socket) Events(ctx context.Context) (<-chan goqemu.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	sub := &subscription{out: make(chan goqemu.Event, eventBacklog)}
	s.events[sub] = struct{}{}
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dropLocked(sub)
	})
	return sub.out, nil
}

// readLine returns the next line in memory of its own.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSpace(line), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if errors.Is(err, io.EOF) && len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		case len(line) > maxLine:
			return nil, fmt.Errorf("a line of more than %d bytes from QEMU", maxLine)
		}
	}
}
