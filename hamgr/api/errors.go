package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/hamgr/hamgr/hamgr/core"
)

// Error is a failure as the API reports it.
type Error struct {
	Code    string `json:"code"`             // one of the Code constants, or the name of a refusal of core
	Message string `json:"message"`          // what failed, on what, and why
	Advice  string `json:"advice,omitempty"` // what to do about it
}

// Error is the message alone; the advice goes on a line of its own.
func (e *Error) Error() string { return e.Message }

// The codes of Error.
const (
	CodeFailed      = "failed"
	CodeRefused     = "refused"         // the domain or the backup cannot do it
	CodeBadRequest  = "bad-request"     // the request contradicts itself
	CodeNotFound    = "not-found"       // no such domain, node or protection
	CodeConflict    = "conflict"        // not in the state that it is in
	CodeUnreachable = "unreachable"     // nobody took the request: it had no effect
	CodeUnknown     = "outcome-unknown" // it was taken, the answer did not come
	CodeNotLeader   = "not-leader"      // a forwarded request reached a node that does not lead
)

// codes are the HTTP status and the exit code of each.
var codes = map[string]struct{ HTTP, Exit int }{
	CodeFailed:      {http.StatusInternalServerError, 1},
	CodeRefused:     {http.StatusUnprocessableEntity, 1},
	CodeBadRequest:  {http.StatusBadRequest, 2},
	CodeNotFound:    {http.StatusNotFound, 3},
	CodeConflict:    {http.StatusConflict, 4},
	CodeUnreachable: {http.StatusServiceUnavailable, 5},
	CodeUnknown:     {http.StatusGatewayTimeout, 5},
	CodeNotLeader:   {http.StatusServiceUnavailable, 5},
	codeLeads:       {http.StatusConflict, 4},

	"bad-command":       {http.StatusBadRequest, 2},
	"unknown-domain":    {http.StatusNotFound, 3},
	"unknown-node":      {http.StatusNotFound, 3},
	"stale-generation":  {http.StatusConflict, 4},
	"wrong-phase":       {http.StatusConflict, 4},
	"unfenced":          {http.StatusConflict, 4},
	"replica-lost":      {http.StatusConflict, 4},
	"name-taken":        {http.StatusConflict, 4},
	"already-protected": {http.StatusConflict, 4},
}

// refusals carry the sentinels of core over HTTP.
var refusals = map[string]error{
	"stale-generation": core.ErrStaleGeneration, "wrong-phase": core.ErrWrongPhase,
	"unknown-domain": core.ErrUnknownDomain, "unknown-node": core.ErrUnknownNode,
	"name-taken": core.ErrNodeNameTaken, "already-protected": core.ErrAlreadyProtected, "bad-command": core.ErrBadCommand,
	"unfenced": core.ErrUnfenced, "replica-lost": core.ErrReplicaLost,
}

// ExitCode is the CLI's exit code for the error: 1 failed or refused, 2 usage, 3 not
// found, 4 conflict, 5 unreachable.
func (e *Error) ExitCode() int {
	if c, ok := codes[e.Code]; ok {
		return c.Exit
	}
	return 1
}

// Unwrap gives back the sentinel of core that a refusal was, for errors.Is.
func (e *Error) Unwrap() error { return refusals[e.Code] }

// Failure makes an Error.
func Failure(code, advice, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Advice: advice}
}

// asError gives any error its code.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) && codes[e.Code].HTTP != 0 {
		return e
	}
	for code, sentinel := range refusals {
		if errors.Is(err, sentinel) {
			return Failure(code, "", "%v", err)
		}
	}
	if errors.Is(err, ErrNoDomain) {
		return Failure(CodeNotFound, "", "%v", err)
	}
	return Failure(CodeFailed, "", "%v", err)
}
