package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/hamgr/hamgr/hamgr/agent"
	"github.com/hamgr/hamgr/hamgr/core"
)

// Error is a failure as the API reports it.
type Error struct {
	Code    string `json:"code"` // not-found, conflict, refused, unreachable, bad-request, failed
	Message string `json:"message"`
	Advice  string `json:"advice,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// The codes of Error, with their HTTP status and the CLI's exit code.
var codes = map[string]struct{ HTTP, Exit int }{
	"failed": {http.StatusInternalServerError, 1}, "refused": {http.StatusUnprocessableEntity, 1},
	"bad-request": {http.StatusBadRequest, 2}, "not-found": {http.StatusNotFound, 3},
	"stale-generation": {http.StatusConflict, 4}, "wrong-phase": {http.StatusConflict, 4}, "name-taken": {http.StatusConflict, 4},
	"already-protected": {http.StatusConflict, 4}, "unknown-domain": {http.StatusNotFound, 3}, "unknown-node": {http.StatusNotFound, 3},
	"bad-command": {http.StatusBadRequest, 2}, "conflict": {http.StatusConflict, 4}, "unreachable": {http.StatusServiceUnavailable, 5},
}

// ExitCode is the CLI's exit code for the error.
func (e *Error) ExitCode() int {
	if c, ok := codes[e.Code]; ok {
		return c.Exit
	}
	return 1
}

func fail(code, advice, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Advice: advice}
}

// ProtectRequest asks for a protection.
type ProtectRequest struct {
	Domain  string    `json:"domain"`
	Backup  string    `json:"backup,omitempty"`
	EpochMS int       `json:"epoch_ms,omitempty"`
	Mode    core.Mode `json:"mode,omitempty"`
}

// NodeStatus is a node and what is known of its health.
type NodeStatus struct {
	core.Node
	State string `json:"state"` // alive, silent, process-down
}

// ProtectionStatus is a protection and its primary's measurements, when it answers.
type ProtectionStatus struct {
	core.Protection
	Stats *agent.Stats `json:"stats,omitempty"`
}

// Status is the cluster as one node sees it.
type Status struct {
	Node        string             `json:"node"`
	Leader      string             `json:"leader"`
	Index       uint64             `json:"index"`
	Nodes       []NodeStatus       `json:"nodes"`
	Protections []ProtectionStatus `json:"protections"`
}

// Agent is what the server needs of its own node's agent.
type Agent interface {
	Domain(ctx context.Context, name string) (agent.DomainInfo, error)
	BackupCheck(ctx context.Context, r agent.BackupRequest) error
	Stats() map[string]agent.Stats
	Check(ctx context.Context) []agent.CheckResult
}

// Cluster is what the server needs of the managers.
type Cluster interface {
	State() core.State
	Propose(ctx context.Context, c core.Command) error
	Leader() (name, addr string)
	IsLeader() bool
}
