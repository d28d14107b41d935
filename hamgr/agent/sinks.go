package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/qmp/colo"
	"github.com/hamgr/hamgr/storage/wire"
)

// checkpointSink collects an epoch's pages in memory while the guest stands still.
type checkpointSink struct{ c *wire.Checkpoint }

func (s checkpointSink) Layout([]byte, []colo.Block) error { return nil }

func (s checkpointSink) Page(block int, offset uint64, data []byte) error {
	s.c.Add(block, offset, data)
	return nil
}

func (s checkpointSink) Fill(block int, offset uint64, value byte) error {
	s.c.AddFill(block, offset, value)
	return nil
}

// flushAt bounds what the first copy keeps in memory before it is sent: 1 MiB.
const flushAt = 256

// The last part of the first copy should be more than QEMU can have written of it and the
// sink not read. That is what a socket holds (colo, sendBuffer): 4 MiB of pages, but zero
// pages take 9 octets each, and of these QEMU may be further ahead. So it is larger where
// it does not take long.
const (
	lastPart     = 8 << 20
	lastPartMost = 32 << 20
)

// lastPartOf is for a first copy that is bound to so many bytes a second, 0: to none. It
// takes a tenth of a second at most, unless it is the least.
func lastPartOf(bandwidth uint64) uint64 {
	if bandwidth == 0 {
		return lastPartMost
	}
	return min(lastPartMost, max(lastPart, bandwidth/10))
}

// flushTimeout bounds how long the backup takes for what is sent at once when the guest may
// stand still. Before that it may take longer: it reserves all of the memory first.
const flushTimeout = 5 * time.Second

var errSlowBackup = fmt.Errorf("the backup took more than %v for a part of the first copy; is it in reach, and the network fast enough?", flushTimeout)

// precopySink sends the first copy while it is read.
type precopySink struct {
	ctx     context.Context // of the copy
	sender  *wire.Sender
	pages   wire.Pages
	stats   *stats
	total   uint64
	done    uint64
	last    uint64
	flushed func() // called now and then
	ending  func() // called once, when no more than last is to come
}

// Layout announces the memory before its first page.
func (s *precopySink) Layout(configuration []byte, blocks []colo.Block) error {
	l := wire.Layout{Configuration: configuration}
	for _, b := range blocks {
		l.Blocks = append(l.Blocks, wire.Block{Name: b.Name, Size: b.Size})
		s.total += b.Size
	}
	return s.sender.Layout(l)
}

func (s *precopySink) Page(block int, offset uint64, data []byte) error {
	s.pages.Add(block, offset, data)
	return s.progress()
}

func (s *precopySink) Fill(block int, offset uint64, value byte) error {
	s.pages.AddFill(block, offset, value)
	return s.progress()
}

func (s *precopySink) progress() error {
	s.done += colo.PageSize
	if s.ending != nil && s.mayEnd() {
		s.ending()
		s.ending = nil
	}
	if s.pages.Count() < flushAt {
		return nil
	}
	s.stats.sync(s.done, s.total)
	s.flushed()
	return s.flush()
}

// mayEnd: all memory has been sent once, or nearly.
func (s *precopySink) mayEnd() bool { return s.done+s.last >= s.total }

func (s *precopySink) flush() error {
	ctx := s.ctx
	if s.mayEnd() {
		bounded, cancel := context.WithTimeoutCause(ctx, flushTimeout, errSlowBackup)
		defer cancel()
		ctx = bounded
	}
	return s.sender.Flush(ctx, &s.pages)
}

func (s *precopySink) finish() error {
	s.stats.sync(s.total, s.total)
	return s.flush()
}
