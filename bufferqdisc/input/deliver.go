package input

import (
	"context"
	"errors"
	"slices"
	"time"
)

// maxRounds bounds how often new arrivals are fetched before live traffic may flow: a guest
// that is slower than its network would never see the end.
const maxRounds = 64

// deliver empties the lane into the tap, then opens it for live traffic, which waits in
// the collector until then.
//
// In the end the collector is empty, the hold goes, and what came in between follows. A
// packet that a CPU had on its way to the collector then may come after a live one.
func (l *lane) deliver(ctx context.Context, running <-chan struct{}) (s KeeperStats, err error) {
	if l.hold == nil || l.hold.send < 0 {
		return l.giveUp()
	}
	errs := []error{l.awaitUp(ctx), l.stopListening()}
	select {
	case <-running:
	case <-ctx.Done():
	}
	errs = append(errs, l.pass(ctx, &s), l.hold.release(), l.pass(ctx, &s))
	return s, errors.Join(errs...)
}

// awaitUp returns when the tap takes packets, or ctx has ended.
func (l *lane) awaitUp(ctx context.Context) error {
	for {
		up, err := l.hold.tap.IsUp()
		if up || err != nil {
			return err
		}
		if !pause(ctx) {
			return context.Cause(ctx)
		}
	}
}

// stopListening changes from the ears to the tap. What comes in between the bridge being
// told and the ears' end is heard at both, and given to the guest twice.
func (l *lane) stopListening() error {
	if len(l.ears) == 0 {
		return nil
	}
	err := l.hold.arrive()
	for _, e := range l.ears {
		err = errors.Join(err, drain(e.raw, l.readHeard), e.file.Close())
	}
	l.ears = nil
	return err
}

// pass delivers until nothing waits any more.
func (l *lane) pass(ctx context.Context, s *KeeperStats) error {
	for range maxRounds {
		copies, heard, err := l.take()
		if len(copies)+len(heard) == 0 || err != nil {
			return err
		}
		if err := l.give(ctx, s, copies, heard); err != nil {
			return err
		}
	}
	return nil
}

// late gives the guest what comes when live traffic flows already, until ctx ends, and then
// what has come by then and fits: copies of what was sent to where it was.
func (l *lane) late(ctx context.Context) (s KeeperStats, err error) {
	if l.hold == nil || l.hold.send < 0 {
		return l.giveUp()
	}
	for err == nil && pause(ctx) {
		err = l.giveLate(ctx, &s)
	}
	if e := l.giveLate(ctx, &s); err == nil {
		err = e
	}
	return s, err
}

// giveLate leaves out what is sent to many: the guest gets that live.
func (l *lane) giveLate(ctx context.Context, s *KeeperStats) error {
	copies, heard, err := l.take()
	all := len(copies)
	copies = slices.DeleteFunc(copies, func(p packet) bool { return toMany(p.data[vnetSize:]) })
	s.LeftOut += uint64(all - len(copies))
	return errors.Join(err, l.give(ctx, s, copies, heard))
}

// giveUp is for a guest that cannot be given anything.
func (l *lane) giveUp() (KeeperStats, error) {
	copies, heard, err := l.take()
	return KeeperStats{Undelivered: uint64(len(copies) + len(heard))}, err
}

// give counts what the guest got, and after an error what it did not.
func (l *lane) give(ctx context.Context, s *KeeperStats, copies, heard []packet) error {
	n, err := l.hold.putAll(ctx, copies)
	s.Replayed += uint64(n)
	s.Undelivered += uint64(len(copies) - n)
	if err == nil {
		n, err = l.hold.putAll(ctx, heard)
	} else {
		n = 0
	}
	s.Heard += uint64(n)
	s.Undelivered += uint64(len(heard) - n)
	return err
}

// toMany says that a frame is for a group or for all (IEEE 802).
func toMany(frame []byte) bool { return frame[0]&1 != 0 }

// putAll waits for a guest that is slow and returns how many it got.
func (d *hold) putAll(ctx context.Context, all []packet) (int, error) {
	for i, p := range all {
		for {
			done, err := d.put(p.data)
			if err != nil {
				return i, err
			}
			if done {
				break
			}
			if !pause(ctx) {
				return i, context.Cause(ctx)
			}
		}
	}
	return len(all), nil
}

func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(retryEvery):
		return true
	}
}
