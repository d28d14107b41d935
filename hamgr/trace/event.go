// Package trace is an agent's log of the moments that decide whether a packet may leave:
// when an epoch ended, when a checkpoint was committed, when the output was held, opened
// and cut, and what the cluster wanted. It is for those who check hamgr from outside
// (test/commit), and for looking into a single epoch; it is off unless asked for.
//
// A line is one event in JSON. A file grows to a limit, is then renamed to <file>.1 in
// place of the one before, and begun anew. What was written stays when the process is
// killed; the last line may then be cut short.
package trace

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Kind names what happened.
type Kind string

// The kinds. Those of a primary and of a backup carry the generation they served.
const (
	Order     Kind = "order"     // this node learned what the cluster wants of a protection; Phase Gone: that it ended
	Hold      Kind = "hold"      // primary: output is held from here on; the guest stands still
	Boundary  Kind = "boundary"  // primary: an epoch ended; the guest stands still
	Acked     Kind = "acked"     // primary: the backup's commit has arrived
	Released  Kind = "released"  // primary: the epoch's output was let go
	Opened    Kind = "opened"    // primary: all output was let go and is held no more
	Cut       Kind = "cut"       // primary: what was held is dropped, nothing passes any more
	Committed Kind = "committed" // backup: the checkpoint is applied; the primary is told next
	Restored  Kind = "restored"  // backup: the guest runs here, from that epoch's checkpoint
)

// Gone is the Phase of an Order for a protection that is no more.
const Gone = "gone"

// Event is one moment on one node.
type Event struct {
	Time       time.Time `json:"time"` // the node's clock, nanoseconds; where it matters, while the guest stands still
	Node       string    `json:"node"`
	Kind       Kind      `json:"event"`
	Domain     string    `json:"domain"`
	Generation uint64    `json:"generation"`
	Epoch      uint64    `json:"epoch,omitempty"` // from 1 in each generation

	// Of a Boundary only: when QEMU was told to stop the guest, which it had at Time.
	Asked time.Time `json:"asked,omitzero"`
	// Of a Boundary only: not all of the input from before had been taken by the guest, and
	// QEMU may have thrown away a packet of each NIC.
	Queued bool `json:"queued,omitempty"`

	// Of an Order only.
	Index   uint64 `json:"index,omitempty"` // of the cluster's log: orders of all nodes in one row
	Phase   string `json:"phase,omitempty"`
	Mode    string `json:"mode,omitempty"`
	Wanted  string `json:"wanted_mode,omitempty"` // asked for, not in force yet
	Primary string `json:"primary,omitempty"`
	Backup  string `json:"backup,omitempty"`
}

// maxLine is far above what an event takes.
const maxLine = 64 << 10

// Read returns the events of one file in the order they were written. A last line that
// was cut short is left out; any other that is no event is an error with its number.
func Read(r io.Reader) ([]Event, error) {
	var out []Event
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	var bad error
	for n := 1; in.Scan(); n++ {
		if bad != nil {
			return nil, bad
		}
		var e Event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			bad = fmt.Errorf("trace: line %d: %w", n, err)
			continue
		}
		out = append(out, e)
	}
	return out, in.Err()
}
