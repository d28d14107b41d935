// Package bufferqdisc is the output buffer of NFV-REL 002, clause 6.3.3: what a guest
// sends is held until the checkpoint that contains its cause is committed.
//
// The buffer is also the fence (invariant I2): held packets leave by Release, Open or
// Teardown and by nothing else. An error, a crash of the process, a lost device all end
// with the guest's tap cut, never with it open.
package bufferqdisc
