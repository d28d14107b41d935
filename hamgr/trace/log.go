package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// limit of a file: with the one before, a trace never takes more than twice that.
const limit = 32 << 20

// Log writes events. A nil Log does nothing, at the cost of a comparison.
type Log struct {
	path, node string
	log        *slog.Logger
	limit      int64

	mu   sync.Mutex // guards the rest
	file *os.File   // nil after a failure: a trace never stops what it traces
	size int64
}

// Open appends to the file at path; with an empty path it returns nil. Complaints about
// writing go to log.
func Open(path, node string, log *slog.Logger) (*Log, error) {
	if path == "" {
		return nil, nil
	}
	l := &Log{path: path, node: node, log: log, limit: limit}
	if err := l.openLocked(); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	return l, nil
}

func (l *Log) openLocked() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil {
		l.file, l.size = f, st.Size()
		err = l.endLineLocked()
	}
	if err != nil {
		f.Close()
	}
	return err
}

// endLineLocked removes what a killed process left of its last line.
func (l *Log) endLineLocked() error {
	last := make([]byte, 1)
	for ; l.size > 0; l.size-- {
		if _, err := l.file.ReadAt(last, l.size-1); err != nil {
			return err
		}
		if last[0] == '\n' {
			break
		}
	}
	return l.file.Truncate(l.size)
}

// Write adds an event. It sets Node, and Time when the caller has not.
func (l *Log) Write(e Event) {
	if l == nil {
		return
	}
	e.Node = l.node
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	line, err := json.Marshal(e)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	if err == nil && l.size > l.limit {
		err = l.turnLocked()
	}
	if err == nil {
		_, err = l.file.Write(append(line, '\n'))
		l.size += int64(len(line)) + 1
	}
	if err != nil {
		l.log.Error("the trace ends here", "file", l.path, "err", err)
		l.closeLocked()
	}
}

func (l *Log) turnLocked() error {
	return errors.Join(l.closeLocked(), os.Rename(l.path, l.path+".1"), l.openLocked())
}

func (l *Log) closeLocked() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// Close ends the trace.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closeLocked()
}
