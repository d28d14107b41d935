package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

// State is what /state answers.
type State struct {
	chain.State
	Uptime float64     `json:"uptime_s"` // since the ledger started, by its own clock
	Memory MemoryState `json:"memory"`
}

// routes are, with any method, for curl's sake:
//
//	/append?client=&number=&text=   one entry (client "http", the next number)
//	/state                          where the chain is, what memory is held
//	/dirty?pages_per_s=&mb=         rewrite pages at a rate; 0 stops
//	/alloc?mb=                      hold memory; 0 frees
//	/refuse?on=                     1: close the TCP port, 0: open it again
//	/panic                          have the guest's kernel panic
//	/checksum                       verify every page held; 500 if one is wrong
//
// Answers are JSON; an error is a line of text and a status.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/append", s.handle(s.append))
	mux.HandleFunc("/state", s.handle(func(url.Values) (any, error) {
		return State{State: s.ledger.State(), Uptime: time.Since(s.began).Seconds(), Memory: s.memory.state()}, nil
	}))
	mux.HandleFunc("/dirty", s.handle(s.dirty))
	mux.HandleFunc("/alloc", s.handle(s.alloc))
	mux.HandleFunc("/refuse", s.handle(func(q url.Values) (any, error) {
		on, err := count(q, "on", 1)
		if err != nil {
			return nil, err
		}
		return s.changed(s.refuse(on != 0))
	}))
	mux.HandleFunc("/panic", s.handle(func(url.Values) (any, error) {
		return nil, os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	}))
	mux.HandleFunc("/checksum", func(w http.ResponseWriter, _ *http.Request) {
		state, err := s.memory.verify()
		answer(w, state, err, http.StatusInternalServerError)
	})
	return mux
}

func (s *Server) handle(f func(url.Values) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, err := f(r.URL.Query())
		answer(w, result, err, http.StatusBadRequest)
	}
}

func answer(w http.ResponseWriter, result any, err error, status int) {
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(result)
}

func (s *Server) append(q url.Values) (any, error) {
	number, err := count(q, "number", 0)
	if err != nil {
		return nil, err
	}
	client := q.Get("client")
	if client == "" {
		client = "http"
	}
	return s.ledger.Append(chain.Request{Client: client, Number: uint64(number), Payload: q.Get("text")})
}

func (s *Server) dirty(q url.Values) (any, error) {
	rate, err := count(q, "pages_per_s", 0)
	if err != nil {
		return nil, err
	}
	mb, err := count(q, "mb", -1)
	if err != nil {
		return nil, err
	}
	return s.changed(s.memory.dirty(rate, mb))
}

func (s *Server) alloc(q url.Values) (any, error) {
	if !q.Has("mb") {
		return nil, fmt.Errorf("want /alloc?mb=N")
	}
	mb, err := count(q, "mb", 0)
	if err != nil {
		return nil, err
	}
	return s.changed(s.memory.alloc(mb))
}

func (s *Server) changed(err error) (any, error) { return s.memory.state(), err }

// count is a query's number, 0 or more, or what it is when it is not given.
func count(q url.Values, name string, absent int) (int, error) {
	if !q.Has(name) {
		return absent, nil
	}
	n, err := strconv.ParseUint(q.Get(name), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%s=%q: want a number, 0 or more", name, q.Get(name))
	}
	return int(n), nil
}
