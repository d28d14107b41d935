package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// record is one line of the file.
type record struct {
	Received time.Time       `json:"received"`
	Event    json.RawMessage `json:"event"`
}

// inspector keeps what it is told, up to a bound, and writes all of it.
type inspector struct {
	out io.Writer

	mu   sync.Mutex // guards out and list
	list []record
}

const kept = 10000

func (i *inspector) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("PUT /events", i.take(list))
	m.HandleFunc("POST /events", i.take(southbound))
	m.HandleFunc("GET /events", i.show)
	return m
}

// list is what the sample inspector takes, by PUT: a bare list. Anything else is its 500.
func list(body []byte) (events []json.RawMessage, err error) {
	err = json.Unmarshal(body, &events)
	return events, err
}

// southbound is the specification's body, by POST: {"event": {}} or {"events": []}.
func southbound(body []byte) ([]json.RawMessage, error) {
	var b struct {
		Event  json.RawMessage
		Events []json.RawMessage
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, err
	}
	if b.Event != nil {
		b.Events = append(b.Events, b.Event)
	}
	if b.Events == nil {
		return nil, errors.New("neither event nor events in it")
	}
	return b.Events, nil
}

func (i *inspector) take(parse func([]byte) ([]json.RawMessage, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err == nil {
			var events []json.RawMessage
			if events, err = parse(body); err == nil {
				err = i.keep(now, events)
			}
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, "OK")
	}
}

func (i *inspector) keep(now time.Time, events []json.RawMessage) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, e := range events {
		r := record{now, e}
		if err := json.NewEncoder(i.out).Encode(r); err != nil {
			return err
		}
		i.list = append(i.list, r)
	}
	i.list = i.list[max(0, len(i.list)-kept):]
	return nil
}

func (i *inspector) show(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(append([]record{}, i.list...))
}
