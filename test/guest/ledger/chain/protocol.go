package chain

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Limits of a request. A longer one is refused, so that nobody can fill the guest's
// memory by accident.
const (
	MaxLine   = 8 << 10 // bytes of a request, without its newline
	MaxClient = 64      // bytes of a client's name
)

// ErrBadRequest is wrapped by errors about a request that is not of the protocol.
var ErrBadRequest = errors.New("not a request")

// Request asks for one entry.
type Request struct {
	Client  string // who asks; without spaces
	Number  uint64 // the client's own count from 1, without gaps
	Payload string // anything without a newline
}

// Line is the request as it is sent and hashed, without its newline.
func (r Request) Line() string {
	return r.Client + " " + strconv.FormatUint(r.Number, 10) + " " + r.Payload
}

// ParseRequest reads a request's line. Only the form that Line writes is accepted: the
// client hashes what it sent, the ledger what it understood, and both must be the same.
func ParseRequest(line string) (Request, error) {
	if len(line) > MaxLine {
		return Request{}, fmt.Errorf("%w: %d bytes, at most %d", ErrBadRequest, len(line), MaxLine)
	}
	parts := strings.SplitN(line, " ", 3)
	if len(parts) < 3 {
		return Request{}, fmt.Errorf("%w: want <client> <number> <payload>, got %.80q", ErrBadRequest, line)
	}
	number, err := strconv.ParseUint(parts[1], 10, 64)
	r := Request{Client: parts[0], Number: number, Payload: parts[2]}
	if err != nil || number == 0 || r.Line() != line {
		return Request{}, fmt.Errorf("%w: number %.80q of client %.80q", ErrBadRequest, parts[1], parts[0])
	}
	return r, r.check()
}

func (r Request) check() error {
	switch {
	case r.Client == "!":
		return fmt.Errorf("%w: a reply that starts with ! is not for a client of that name", ErrBadRequest)
	case r.Client == "" || len(r.Client) > MaxClient || strings.ContainsAny(r.Client, " \r\n"):
		return fmt.Errorf("%w: a client's name has 1 to %d bytes and no spaces, got %.80q", ErrBadRequest, MaxClient, r.Client)
	case strings.ContainsAny(r.Payload, "\r\n"):
		return fmt.Errorf("%w: a payload is one line", ErrBadRequest)
	case len(r.Line()) > MaxLine:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrBadRequest, len(r.Line()), MaxLine)
	}
	return nil
}

// Reply answers one request: with its entry, or with the number the ledger expects of
// that client instead.
type Reply struct {
	Client   string `json:"client"`
	Number   uint64 `json:"number"`
	Sequence uint64 `json:"sequence"`           // place of the entry, from 1
	Hash     Hash   `json:"hash"`               // of the chain up to that entry
	Expected uint64 `json:"expected,omitempty"` // not 0: refused, no entry was made
}

// Line is the reply as it is sent, without its newline.
func (r Reply) Line() string {
	if r.Expected != 0 {
		return fmt.Sprintf("%s %d refused %d", r.Client, r.Number, r.Expected)
	}
	return fmt.Sprintf("%s %d %d %s", r.Client, r.Number, r.Sequence, r.Hash)
}

// ParseReply reads a reply's line. A line that starts with "!" is the ledger's word that
// the request was bad; the error then wraps ErrBadRequest.
func ParseReply(line string) (Reply, error) {
	if text, bad := strings.CutPrefix(line, "! "); bad {
		return Reply{}, fmt.Errorf("the ledger says: %w: %s", ErrBadRequest, text)
	}
	f := strings.Split(line, " ")
	if len(f) != 4 {
		return Reply{}, fmt.Errorf("not a reply: %.80q", line)
	}
	r := Reply{Client: f[0]}
	var err, err2 error
	r.Number, err = strconv.ParseUint(f[1], 10, 64)
	if f[2] == "refused" {
		r.Expected, err2 = strconv.ParseUint(f[3], 10, 64)
	} else if r.Sequence, err2 = strconv.ParseUint(f[2], 10, 64); err2 == nil {
		err2 = r.Hash.UnmarshalText([]byte(f[3]))
	}
	if err := errors.Join(err, err2); err != nil {
		return Reply{}, fmt.Errorf("not a reply: %.80q: %w", line, err)
	}
	return r, nil
}

// MarshalText writes the hash in hex.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads a hash in hex.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return fmt.Errorf("a hash has %d hex digits, got %d", hex.EncodedLen(len(h)), len(text))
	}
	_, err := hex.Decode(h[:], text)
	return err
}
