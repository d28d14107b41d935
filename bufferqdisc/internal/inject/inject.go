// Package inject breaks one call after another, for tests of what becomes of a guest's
// network when any of them fails.
package inject

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Err is what a broken call says.
var Err = fmt.Errorf("injected: %w", unix.ENOBUFS)

// Fault is one of all calls that go through it, and perhaps those after it.
type Fault struct {
	At     int    // the call that fails, counted from 1
	On     bool   // and all after it
	DoesIt bool   // it fails after it did its work: the answer was lost
	Failed string // what the first broken call was; empty: none was
	calls  int
}

// Ways are those in which a call can fail.
var Ways = map[string]Fault{"once": {}, "answer lost": {DoesIt: true}, "from then on": {On: true}}

// Call makes a call, or breaks it. The error is the call's, or Err.
func Call[T any](f *Fault, what string, call func() (T, error)) (v T, err error) {
	if f.calls++; f.calls != f.At && !(f.On && f.calls > f.At) {
		return call()
	}
	if f.Failed == "" {
		f.Failed = what
	}
	if f.DoesIt {
		call()
	}
	return v, Err
}

// Do is Call for one that returns nothing else.
func (f *Fault) Do(what string, call func() error) error {
	_, err := Call(f, what, func() (struct{}, error) { return struct{}{}, call() })
	return err
}
