package control

import "github.com/hamgr/hamgr/test/lab"

// Request asks for one verb.
type Request struct {
	Verb    string   `json:"verb"` // status, down, or one of the verbs of a host
	Host    string   `json:"host,omitempty"`
	Network string   `json:"network,omitempty"` // cut, heal: one of lab.Networks, or All
	Args    []string `json:"args,omitempty"`    // exec: the command
}

// All is every network.
const All = "all"

// Answer is what came of it: Error, or what the verb gives.
type Answer struct {
	Error  *Error      `json:"error,omitempty"`
	Status *Status     `json:"status,omitempty"` // status
	Host   *HostStatus `json:"host,omitempty"`   // a verb of a host: how it is now
	Args   []string    `json:"args,omitempty"`   // exec: see Command
}

// Status of a lab.
type Status struct {
	Pid   int          `json:"pid"` // of the process that owns it
	State string       `json:"state"`
	Dir   string       `json:"logs"` // where its hosts' logs are
	Hosts []HostStatus `json:"hosts"`
}

// What the State of a lab can be.
const (
	ComingUp  = "coming up"
	Up        = "up"
	GoingDown = "going down"
)

// HostStatus is one host.
type HostStatus struct {
	Name     string            `json:"host"`
	State    lab.State         `json:"state"`
	Pid      int               `json:"pid,omitempty"` // of its init, unless it is off
	IP       string            `json:"ip"`            // on the management network
	Networks map[string]string `json:"networks"`      // by name: "up" or "cut"; none if it is off
}

// Error is a failure for people: Exit is the exit status of a command that it ends.
type Error struct {
	Exit    int    `json:"exit"`
	Message string `json:"message"`
	Advice  string `json:"advice,omitempty"`
}

// Exit statuses of Error.
const (
	ExitFailed   = 1
	ExitUsage    = 2
	ExitNotFound = 3 // no such host
	ExitConflict = 4 // not in the state that it is in
	ExitNoLab    = 5
)

// Error is the message alone.
func (e *Error) Error() string { return e.Message }
