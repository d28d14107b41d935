package control

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hamgr/hamgr/test/lab"
)

// verbs are those of a host. All but exec answer with how it is then.
var verbs = map[string]func(h *lab.Host, r Request) error{
	"poweroff": func(h *lab.Host, _ Request) error { _, err := h.PowerOff(); return err },
	"start":    func(h *lab.Host, _ Request) error { return h.Start() },
	"pause":    func(h *lab.Host, _ Request) error { return h.Pause() },
	"resume":   func(h *lab.Host, _ Request) error { return h.Resume() },
	"cut":      func(h *lab.Host, r Request) error { return each(r.Network, h.Cut) },
	"heal":     func(h *lab.Host, r Request) error { return each(r.Network, h.Heal) },
}

func each(network string, do func(string) error) error {
	if network == All {
		var errs []error
		for _, n := range lab.Networks {
			errs = append(errs, do(n))
		}
		return errors.Join(errs...)
	}
	if !slices.Contains(lab.Networks, network) {
		return &Error{ExitUsage, fmt.Sprintf("there is no network %q", network), "there are " + strings.Join(append(slices.Clone(lab.Networks), All), ", ")}
	}
	return do(network)
}

func (s *Server) do(r Request) (Answer, error) {
	switch r.Verb {
	case "down":
		s.cancel()
		<-s.gone
		return Answer{}, nil
	case "status":
		return Answer{Status: s.status()}, nil
	case "exec":
		return s.exec(r)
	case "ready":
		return s.ready(r)
	}
	verb := verbs[r.Verb]
	if verb == nil {
		return Answer{}, &Error{ExitUsage, fmt.Sprintf("the lab cannot %q", r.Verb), "is it of the same version?"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.host(r.Host)
	if err != nil {
		return Answer{}, err
	}
	if err := verb(h, r); err != nil {
		return Answer{}, err
	}
	st := hostStatus(h)
	return Answer{Host: &st}, nil
}

// exec gives out the command; it is for the caller to run, with its own input and output.
func (s *Server) exec(r Request) (Answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.host(r.Host)
	if err != nil {
		return Answer{}, err
	}
	cmd := h.Command(s.ctx, r.Args...)
	return Answer{Args: cmd.Args}, cmd.Err
}

// ready waits until a host that was started is of use.
func (s *Server) ready(r Request) (Answer, error) {
	s.mu.Lock()
	h, err := s.host(r.Host)
	s.mu.Unlock()
	if err == nil {
		err = h.Ready(s.ctx)
	}
	return Answer{}, err
}

// host needs mu.
func (s *Server) host(name string) (*lab.Host, error) {
	if state := s.state(); state != Up {
		return nil, &Error{ExitConflict, "the lab is " + state, "lab status shows when it is up"}
	}
	if h := s.lab.Host(name); h != nil {
		return h, nil
	}
	var names []string
	for _, h := range s.lab.Hosts() {
		names = append(names, h.Name)
	}
	return nil, &Error{ExitNotFound, fmt.Sprintf("there is no host %q", name), "there are " + strings.Join(names, ", ")}
}

// state needs mu.
func (s *Server) state() string {
	switch {
	case s.ctx.Err() != nil:
		return GoingDown
	case s.lab == nil:
		return ComingUp
	}
	return Up
}

func (s *Server) status() *Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &Status{Pid: os.Getpid(), State: s.state(), Dir: s.log}
	if st.State == Up {
		for _, h := range s.lab.Hosts() {
			st.Hosts = append(st.Hosts, hostStatus(h))
		}
	}
	return st
}

func hostStatus(h *lab.Host) HostStatus {
	st := HostStatus{Name: h.Name, State: h.State(), IP: h.IP, Networks: map[string]string{}}
	if st.State == lab.StateOff {
		return st
	}
	st.Pid = h.Pid()
	for _, n := range lab.Networks {
		switch up, err := h.Connected(n); {
		case err != nil: // went off just now
		case up:
			st.Networks[n] = "up"
		default:
			st.Networks[n] = "cut"
		}
	}
	return st
}

// asError is any error for people.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var state *lab.StateError
	if errors.As(err, &state) {
		return &Error{ExitConflict, state.Error(), map[lab.State]string{
			lab.StateOff:    fmt.Sprintf("lab start %s boots it", state.Host),
			lab.StatePaused: fmt.Sprintf("lab resume %s lets it go on", state.Host),
		}[state.State]}
	}
	return &Error{ExitFailed, err.Error(), ""}
}
