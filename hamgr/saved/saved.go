// Package saved is the file that the cluster's agreed state is kept in outside of the
// cluster: one JSON document,
//
//	hamgr_state  1, the version of the format
//	sha256       of content without white space, in hex
//	content      cluster, index, time, state (core.State)
//
// State has everything, definitions with their secrets too. A version is for readers that
// would understand a file wrong, or too little of it.
package saved

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// Version of the format that is written. Older ones are read.
const Version = 1

// MaxSize is more than any state is: a thousand guests with their definitions take 10 MB.
const MaxSize = 16 << 20

// The reasons for which Decode refuses a file.
var (
	ErrFormat   = errors.New("not a saved state")
	ErrVersion  = errors.New("of a newer version")
	ErrChecksum = errors.New("not as it was saved")
)

// State is what is in a file.
type State struct {
	Cluster string     `json:"cluster"` // the name it has in the configuration
	Index   uint64     `json:"index"`   // of the newest decision in it
	Time    time.Time  `json:"time"`
	State   core.State `json:"state"`
}

type document struct {
	Version int             `json:"hamgr_state"`
	SHA256  string          `json:"sha256"`
	Content json.RawMessage `json:"content"`
}

// Encode makes the file.
func Encode(s State) ([]byte, error) {
	content, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("saved state: %w", err)
	}
	sum := sha256.Sum256(content)
	data, err := json.MarshalIndent(document{Version, hex.EncodeToString(sum[:]), content}, "", " ")
	return append(data, '\n'), err
}

// Decode reads a whole file.
func Decode(data []byte) (State, error) {
	var d document
	if len(data) > MaxSize {
		return State{}, fmt.Errorf("%w: %d octets are more than %d", ErrFormat, len(data), MaxSize)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return State{}, fmt.Errorf("%w, or cut short: %w", ErrFormat, err)
	}
	switch {
	case d.Version <= 0 || len(d.Content) == 0:
		return State{}, fmt.Errorf("%w: it has no version or no content", ErrFormat)
	case d.Version > Version:
		return State{}, fmt.Errorf("%w: %d, this hamgr reads up to %d", ErrVersion, d.Version, Version)
	}
	var content bytes.Buffer
	if err := json.Compact(&content, d.Content); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if sum := sha256.Sum256(content.Bytes()); hex.EncodeToString(sum[:]) != d.SHA256 {
		return State{}, fmt.Errorf("%w: its checksum is another", ErrChecksum)
	}
	var s State
	if err := json.Unmarshal(d.Content, &s); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return s, s.check()
}

// check is of what others rely on.
func (s State) check() error {
	if s.Cluster == "" || s.Index == 0 || s.Index != s.State.Index {
		return fmt.Errorf("%w: cluster %q, index %d, of the state %d", ErrFormat, s.Cluster, s.Index, s.State.Index)
	}
	for name, p := range s.State.Protections {
		switch {
		case name == "" || name != p.Domain || p.UUID == "" || p.Primary == "" || p.Generation == 0:
			return fmt.Errorf("%w: %q is protection %q, UUID %q, primary %q, generation %d", ErrFormat, name, p.Domain, p.UUID, p.Primary, p.Generation)
		case p.Generation > core.MaxGeneration:
			return fmt.Errorf("%w: %q has generation %d", ErrFormat, name, p.Generation)
		case p.OnLoss == core.OnLossRestart && s.State.Definitions[name] == "":
			return fmt.Errorf("%w: %q lacks its definition", ErrFormat, name)
		}
	}
	if s.State.Retired > core.MaxGeneration {
		return fmt.Errorf("%w: retired generation %d", ErrFormat, s.State.Retired)
	}
	return nil
}
