package commit

import (
	"bytes"
	"os"
)

// Tail reads on in a file of lines that grows. A file that was renamed is read to its end
// before the one that took its name.
type Tail struct {
	Path string
	file *os.File
	off  int64 // of what has not been read
}

// More returns the whole lines that came since the last call. A line without an end may
// yet be taken back: its writer may have been killed.
func (t *Tail) More() []byte {
	if t.file == nil {
		t.file, _ = os.Open(t.Path) // it may come yet
		t.off = 0
	}
	if t.file == nil {
		return nil
	}
	data := t.lines()
	if len(data) > 0 || t.current() {
		return data
	}
	data = t.lines() // what came before it was renamed
	t.Close()
	return data
}

func (t *Tail) lines() []byte {
	st, err := t.file.Stat()
	if err != nil || st.Size() <= t.off {
		return nil
	}
	data := make([]byte, st.Size()-t.off)
	n, _ := t.file.ReadAt(data, t.off)
	data = data[:bytes.LastIndexByte(data[:n], '\n')+1]
	t.off += int64(len(data))
	return data
}

// current says that the file still has its name.
func (t *Tail) current() bool {
	now, err := os.Stat(t.Path)
	if err != nil {
		return true // its successor has yet to come
	}
	then, err := t.file.Stat()
	return err != nil || os.SameFile(now, then)
}

// Close may be called again.
func (t *Tail) Close() {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
}
