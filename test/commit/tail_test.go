package commit

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	tail := Tail{Path: path}
	defer tail.Close()
	want := func(lines string) {
		t.Helper()
		if got := string(tail.More()); got != lines {
			t.Fatalf("%q, want %q", got, lines)
		}
	}
	write := func(to, text string) {
		t.Helper()
		f, err := os.OpenFile(to, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want("")
	write(path, "one\ntw")
	want("one\n")
	want("")
	if err := os.Truncate(path, 4); err != nil { // its writer was killed, and another goes on
		t.Fatal(err)
	}
	write(path, "three\n")
	want("three\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(path+".1", "four\n")
	write(path, "five\n")
	want("four\n")
	want("")
	want("five\n")
}
