// Package bpfmem shares one value with BPF programs, in memory that they and this process
// have in common: no system call to read or write it. BPF_F_MMAPABLE, bpf(2), Linux 5.5.
package bpfmem

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Value is a T, of at most a page, that is the only entry of an array map. Its fields are to
// be atomic. The kernel keeps the map for as long as a program uses it.
type Value[T any] struct {
	values *ebpf.Map
	page   []byte
}

// New makes one, all zero. It needs CAP_BPF.
func New[T any]() (*Value[T], error) {
	var zero T
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(zero)), MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return nil, fmt.Errorf("BPF map: %w", err)
	}
	page, err := unix.Mmap(m.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("memory of a BPF map: %w", err), m.Close())
	}
	return &Value[T]{m, page}, nil
}

// FD is the map's, for the instructions of a program.
func (v *Value[T]) FD() int { return v.values.FD() }

// Get is the value, valid until Close.
func (v *Value[T]) Get() *T { return (*T)(unsafe.Pointer(unsafe.SliceData(v.page))) }

// Close may be called again, and on nil.
func (v *Value[T]) Close() error {
	if v == nil || v.page == nil {
		return nil
	}
	err := unix.Munmap(v.page)
	v.page = nil
	return errors.Join(err, v.values.Close())
}
