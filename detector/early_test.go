package detector

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenersAreClosedEarly: what a node opens after its heartbeats' socket, and that is all
// that takes long to close, has a lower descriptor: the kernel closes it later.
func TestListenersAreClosedEarly(t *testing.T) {
	conn, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var listener uintptr
	raw.Control(func(fd uintptr) { listener = fd })
	for range 100 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if f.Fd() > listener {
			t.Fatalf("the listener has descriptor %d, and something later %d", listener, f.Fd())
		}
	}
}

// TestFewDescriptors: a process that may not open so many listens all the same.
func TestFewDescriptors(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = 64
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	conn, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
