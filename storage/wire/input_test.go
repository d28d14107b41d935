package wire

import (
	"net"
	"reflect"
	"testing"
)

// TestInputOverTheWire: what is said of the input handler arrives, also at and from an end
// that says less.
func TestInputOverTheWire(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s, r := NewSender(a), NewReceiver(b)
	want := Accepted{InputPorts: [][]uint16{{1, 2}, {65535}}}
	answer := make(chan error, 1)
	go func() {
		h, err := r.Hello()
		if err == nil && h.InputNICs != 2 {
			t.Errorf("HELLO: %+v", h)
		}
		if err == nil {
			err = r.Accept(want)
		}
		answer <- err
	}()
	got, err := s.Hello(t.Context(), Hello{InputNICs: 2})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("ACCEPT: %+v, %v", got, err)
	}
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	go func() { answer <- s.Forget(t.Context(), []uint64{7, 1 << 40}) }()
	if f, err := r.Next(); err != nil || !reflect.DeepEqual(f.Taken, []uint64{7, 1 << 40}) {
		t.Fatalf("FORGET: %+v, %v", f, err)
	}
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	for _, c := range []Committed{{Epoch: 3, Kept: 4, Dropped: 5, Missing: 6}, {}} {
		go func() { answer <- r.Commit(c) }()
		if got, err := s.WaitCommit(t.Context()); err != nil || got != c {
			t.Fatalf("COMMIT: %+v, %v; want %+v", got, err, c)
		}
		<-answer
	}
}

func TestOlderEnds(t *testing.T) {
	if a, err := accepted(nil); err != nil || a.InputPorts != nil {
		t.Errorf("an empty ACCEPT: %+v, %v", a, err)
	}
	if c := committed(Committed{Epoch: 9, Kept: 1}.payload()[:8]); c != (Committed{Epoch: 9}) {
		t.Errorf("a short COMMIT: %+v", c)
	}
	if _, err := accepted([]byte("{")); err == nil {
		t.Error("a broken ACCEPT was accepted")
	}
}
