package domain

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	imageSuffix = ".restore"
	// imageBlock: libvirt's helper for images (src/util/iohelper.c), which some versions
	// put between the file and QEMU, passes on whole MiB until the file ends. A header of
	// that size goes through.
	imageBlock  = 1 << 20
	headerBytes = 92
	// pipeBytes holds a stream without the main RAM (about 600 KiB): it is written at one
	// go, and QEMU reads it without waiting in between for this side to get a processor.
	pipeBytes = 1 << 20
)

// image is a FIFO that looks to libvirt like a saved domain: the header is written for
// each open of the file, since each open of a file begins at its start. The data behind
// the last header comes by Write, once handOver has been called.
type image struct {
	path string
	head []byte

	mu   sync.Mutex // guards fifo, which changes once
	fifo *os.File

	begun bool // some of the stream was written; of the goroutine that writes

	watch  *os.File      // inotify: the opens of path by others
	served chan struct{} // closed when serve has ended
	failed error         // of serve, valid then
}

// newImage makes the FIFO in dir and serves headers until handOver or close.
func newImage(dir, name, xml string) (*image, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	m := &image{path: filepath.Join(dir, name+imageSuffix), head: saveHeader(xml), served: make(chan struct{})}
	if err := removeFIFO(m.path); err != nil {
		return nil, err
	}
	if err := unix.Mkfifo(m.path, 0o600); err != nil {
		return nil, fmt.Errorf("FIFO %s: %w", m.path, err)
	}
	// Both ends, so that it stays open between libvirt's openings and no open blocks.
	f, err := os.OpenFile(m.path, os.O_RDWR, 0)
	if err == nil {
		m.fifo = f
		m.watch, err = watchOpens(m.path)
	}
	if err != nil {
		close(m.served)
		return nil, errors.Join(err, m.close())
	}
	go m.serve()
	return m, nil
}

// removeFIFO removes what an earlier agent left, and nothing that is not a FIFO.
func removeFIFO(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != os.ModeNamedPipe:
		return fmt.Errorf("%s is in the way and not hamgr's; remove it", path)
	}
	return os.Remove(path)
}

func watchOpens(path string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("inotify on %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

// serve writes one header for each open.
func (m *image) serve() {
	defer close(m.served)
	buf := make([]byte, 4096)
	for {
		n, err := m.watch.Read(buf)
		if err != nil {
			return // handOver or close
		}
		for range opens(buf[:n]) {
			if _, err := m.end().Write(m.head); err != nil {
				m.failed = err
				return
			}
		}
	}
}

// opens counts the IN_OPEN events of an inotify read (inotify(7)).
func opens(b []byte) (n int) {
	for len(b) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(b[unsafe.Offsetof(unix.InotifyEvent{}.Mask):])
		if mask&unix.IN_OPEN != 0 {
			n++
		}
		b = b[unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[unsafe.Offsetof(unix.InotifyEvent{}.Len):])):]
	}
	return n
}

func (m *image) end() *os.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fifo
}

// handOver ends the headers: QEMU has the FIFO open now. The reading end here is given
// up, so that a QEMU that dies breaks the pipe.
func (m *image) handOver() error {
	m.watch.Close()
	<-m.served
	if m.failed != nil {
		return m.failed
	}
	w, err := os.OpenFile(m.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := grow(w); err != nil {
		return errors.Join(err, w.Close())
	}
	m.mu.Lock()
	old := m.fifo
	m.fifo = w
	m.mu.Unlock()
	return old.Close()
}

// grow makes a pipe larger. A system that does not allow it (pipe(7),
// /proc/sys/fs/pipe-user-pages-soft) makes a restore slower, and no less right.
func grow(pipe *os.File) error {
	c, err := pipe.SyscallConn()
	if err != nil {
		return err
	}
	return c.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes) })
}

// Write passes a part of the migration stream on.
func (m *image) Write(b []byte) (int, error) {
	m.begun = m.begun || len(b) > 0
	return m.end().Write(b)
}

// writeAll runs write and ends the stream; when ctx ends first, the stream is cut.
func (m *image) writeAll(ctx context.Context, write func(io.Writer) error) error {
	stop := context.AfterFunc(ctx, func() { m.end().Close() })
	err := write(m)
	if !m.begun {
		// QEMU waits for input and not for the end of it (migration/fd.c in its sources,
		// G_IO_IN): it would not notice a stream that ends before its first byte.
		m.end().Write([]byte{0})
	}
	if !stop() && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return errors.Join(err, m.close())
}

// close ends the stream and removes the FIFO. It may be called again.
func (m *image) close() error {
	if m.watch != nil {
		m.watch.Close()
	}
	var err error
	if f := m.end(); f != nil {
		if err = f.Close(); errors.Is(err, os.ErrClosed) {
			err = nil
		}
	}
	<-m.served
	if e := os.Remove(m.path); e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// saveHeader is libvirt's header of a save image (virQEMUSaveHeader in
// src/qemu/qemu_saveimage.h), version 2, and the XML. What follows the XML's NUL up to
// the length in the header is not read as XML; libvirt pads there too.
func saveHeader(xml string) []byte {
	total := (headerBytes + len(xml) + 1 + imageBlock - 1) / imageBlock * imageBlock
	b := append(make([]byte, 0, total), "LibvirtQemudSave"...)
	le := binary.LittleEndian
	for _, v := range []uint32{2, uint32(total - headerBytes), 1, 0, 0} { // version, length, was running, raw, no cookie
		b = le.AppendUint32(b, v)
	}
	b = append(b[:headerBytes], xml...)
	return b[:total]
}
