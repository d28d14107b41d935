package server

import (
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"runtime"

	"golang.org/x/sys/unix"
)

// pageSize is that of the architecture the guest runs on.
const pageSize = 4096

var crcTable = crc64.MakeTable(crc64.ECMA)

// region is memory whose every page holds what its seed, place and version say, so that
// a page of another time, or of nowhere, is found by working out what it should hold. It
// is mapped outside Go's heap, which would reserve as much again for its collector.
type region struct {
	seed     uint64
	data     []byte
	versions []uint32 // of each page: how often it was rewritten
}

// newRegion maps and fills mb MiB.
func newRegion(mb int, seed uint64) (*region, error) {
	if mb == 0 {
		return &region{seed: seed}, nil
	}
	data, err := unix.Mmap(-1, 0, mb<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map %d MiB: %w", mb, err)
	}
	r := &region{seed: seed, data: data, versions: make([]uint32, len(data)/pageSize)}
	for i := range r.versions {
		r.expect(r.page(i), i)
	}
	return r, nil
}

func (r *region) free() error {
	if r.data == nil {
		return nil
	}
	data := r.data
	r.data, r.versions = nil, nil
	return unix.Munmap(data)
}

func (r *region) mb() int           { return len(r.data) >> 20 }
func (r *region) page(i int) []byte { return r.data[i*pageSize:][:pageSize] }

// rewrite gives a page its next version.
func (r *region) rewrite(i int) {
	r.versions[i]++
	r.expect(r.page(i), i)
}

// expect writes what page i should hold into buf: xorshift64*, incompressible.
func (r *region) expect(buf []byte, i int) {
	x := (r.seed^uint64(i)<<32^uint64(r.versions[i]))*0x9e3779b97f4a7c15 | 1
	for o := 0; o < pageSize; o += 8 {
		x ^= x >> 12
		x ^= x << 25
		x ^= x >> 27
		binary.LittleEndian.PutUint64(buf[o:], x*0x2545f4914f6cdd1d)
	}
}

// checksum continues a CRC-64 over the region, and fails at the first page that does not
// hold what it should. It gives way to others on the guest's one CPU now and then.
func (r *region) checksum(sum uint64) (uint64, error) {
	want := make([]byte, pageSize)
	for i, v := range r.versions {
		r.expect(want, i)
		if page := r.page(i); string(want) != string(page) {
			return 0, fmt.Errorf("page %d of %d does not hold its version %d", i, len(r.versions), v)
		}
		sum = crc64.Update(sum, crcTable, want)
		if i%64 == 63 {
			runtime.Gosched()
		}
	}
	return sum, nil
}
