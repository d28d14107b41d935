package input

import (
	"errors"
	"fmt"
)

const (
	vxlanHeader = 8
	vxlanVNI    = 0x08
	minFrame    = 14 // an Ethernet header
	maxFrame    = 65535
	numberBits  = 24
	maxNumber   = 1<<numberBits - 1
)

// errDatagram: it is not of WIRE.md.
var errDatagram = errors.New("not a datagram of the tunnel")

// parse returns a datagram's number, of which it has the low 24 bits, and its frame, which
// is a part of it.
func parse(datagram []byte) (number uint32, frame []byte, err error) {
	if len(datagram) < vxlanHeader+minFrame || len(datagram) > vxlanHeader+maxFrame {
		return 0, nil, fmt.Errorf("%w: %d octets", errDatagram, len(datagram))
	}
	if datagram[0]&vxlanVNI == 0 {
		return 0, nil, fmt.Errorf("%w: flags %#x", errDatagram, datagram[0])
	}
	number = uint32(datagram[4])<<16 | uint32(datagram[5])<<8 | uint32(datagram[6])
	return number, datagram[vxlanHeader:], nil
}

// unwrap is the whole of a number, the one nearest to the newest seen. False: there is
// none, numbers begin at 1.
func unwrap(newest uint64, number uint32) (uint64, bool) {
	ahead := int32(number-uint32(newest)) << (32 - numberBits) >> (32 - numberBits)
	whole := int64(newest) + int64(ahead)
	return uint64(whole), whole > 0
}
