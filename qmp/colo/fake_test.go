package colo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hamgr/hamgr/qmp"
	"github.com/hamgr/hamgr/qmp/qmptest"
)

// fakeQEMU answers the commands of a session as QEMU does and plays the stream of a
// golden one; change may spoil a turn.
type fakeQEMU struct {
	golden *golden
	change func(turn int, data []byte) []byte // may be nil
	refuse map[string]error                   // by command
	asked  func(command string)               // before it is answered; may be nil
	kvm    bool
	busy   bool // the guest of a tiny session writes for as long as it runs
	slow   bool // and what it wrote takes for ever

	work      sync.WaitGroup
	mu        sync.Mutex // guards all below
	file      *os.File   // from getfd
	caps      map[string]bool
	migration string
	run       string
	quieted   bool
	commands  []string
	downtime  int    // the parameter downtime-limit, ms
	bandwidth uint64 // the parameter max-bandwidth
	passes    int    // of the first copy
	problem   error  // the agent's answers were not the golden ones
}

func newFake(t *testing.T, g *golden) (*fakeQEMU, *qmp.Client) {
	q := &fakeQEMU{golden: g, run: "running", migration: "none", refuse: map[string]error{},
		caps: map[string]bool{"xbzrle": true, "events": true, "multifd": false, "x-colo": false, "return-path": false}}
	t.Cleanup(func() {
		q.work.Wait()
		if q.file != nil {
			q.file.Close()
		}
	})
	return q, qmp.New(qmptest.NewMonitor(q.command))
}

func (q *fakeQEMU) command(name string, args json.RawMessage, files []*os.File) (any, error) {
	if q.asked != nil {
		q.asked(name)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.commands = append(q.commands, name)
	if err := q.refuse[name]; err != nil {
		return nil, err
	}
	switch name {
	case "query-version":
		return map[string]any{"qemu": map[string]int{"major": q.golden.Version.Major, "minor": q.golden.Version.Minor, "micro": q.golden.Version.Micro}}, nil
	case "query-kvm":
		return map[string]bool{"enabled": q.kvm, "present": true}, nil
	case "query-status":
		return map[string]string{"status": q.run}, nil
	case "query-migrate":
		return q.progress(), nil
	case "query-migrate-capabilities":
		return q.capabilities(), nil
	case "migrate-set-capabilities":
		return nil, q.setCapabilities(args)
	case "migrate-set-parameters":
		return nil, q.setParameters(args)
	case "getfd":
		return nil, q.getfd(files)
	case "migrate":
		return nil, q.migrate(args)
	case "migrate_cancel":
		q.migration = "cancelled"
		return nil, nil
	case "x-colo-lost-heartbeat":
		if q.migration != "colo" {
			return nil, errors.New("not in COLO")
		}
		q.migration, q.run = "completed", "running"
		return nil, nil
	case "cont":
		q.run = "running"
		return nil, nil
	case "stop":
		if q.run == "running" {
			q.run = "paused"
		}
		return nil, nil
	case "query-migrate-parameters":
		return map[string]uint64{"max-bandwidth": q.bandwidth}, nil
	case "qom-set":
		if q.golden.silent {
			return nil, q.setProperty(args)
		}
	}
	return nil, &qmptest.Error{Class: "CommandNotFound", Desc: name}
}

func (q *fakeQEMU) progress() any {
	if q.migration != "active" {
		return map[string]string{"status": q.migration}
	}
	return map[string]any{"status": q.migration, "ram": map[string]int{"dirty-sync-count": q.passes}}
}

func (q *fakeQEMU) capabilities() (list []capability) {
	for name, on := range q.caps {
		list = append(list, capability{name, on})
	}
	return list
}

func (q *fakeQEMU) setCapabilities(args json.RawMessage) error {
	var in struct{ Capabilities []capability }
	if err := json.Unmarshal(args, &in); err != nil {
		return err
	}
	now := map[string]bool{}
	for k, v := range q.caps {
		now[k] = v
	}
	for _, c := range in.Capabilities {
		if _, ok := now[c.Name]; !ok {
			return fmt.Errorf("Parameter 'capability' does not accept value '%s'", c.Name)
		}
		now[c.Name] = c.State
	}
	if now["x-colo"] && now["return-path"] != (q.golden.Version.Major >= 11) {
		return errors.New("x-colo and return-path do not fit")
	}
	q.caps = now
	return nil
}

func (q *fakeQEMU) setParameters(args json.RawMessage) error {
	in := struct {
		Downtime  int    `json:"downtime-limit"`
		Bandwidth uint64 `json:"max-bandwidth"`
	}{q.downtime, q.bandwidth}
	err := json.Unmarshal(args, &in)
	q.downtime, q.bandwidth = in.Downtime, in.Bandwidth
	return err
}

func (q *fakeQEMU) setProperty(args json.RawMessage) error {
	var in struct {
		Path, Property string
		Value          bool
	}
	err := json.Unmarshal(args, &in)
	if q.quieted = in.Value; in.Path != "/machine" || in.Property != "suppress-vmdesc" {
		return errors.New("no such property")
	}
	return err
}

func (q *fakeQEMU) getfd(files []*os.File) error {
	if len(files) != 1 {
		return fmt.Errorf("%d files", len(files))
	}
	// Through a net.Conn, since that duplicates the file.
	c, err := net.FileConn(files[0])
	if err != nil {
		return err
	}
	defer c.Close()
	q.file, err = c.(*net.UnixConn).File()
	return err
}

func (q *fakeQEMU) migrate(args json.RawMessage) error {
	if string(args) != `{"uri":"fd:hamgr-colo"}` || q.file == nil {
		return fmt.Errorf("migrate %s", args)
	}
	conn, err := net.FileConn(q.file)
	if err != nil {
		return err
	}
	q.file.Close()
	q.file = nil
	q.migration = "active"
	q.work.Go(func() {
		defer conn.Close()
		err := q.talk(conn)
		q.mu.Lock()
		defer q.mu.Unlock()
		q.problem = err
		if q.migration == "active" { // QEMU stays in COLO until it is told
			q.migration = "failed"
		}
	})
	return nil
}

// talk plays QEMU's turns and compares the agent's.
func (q *fakeQEMU) talk(conn net.Conn) error {
	inCOLO := 0 // the turn after which QEMU is in its session
	if q.golden.Version.returnPath() {
		inCOLO = 1 // the agent's SHUT
	}
	for i, t := range q.golden.Turns {
		if err := q.oneTurn(conn, i, t); err != nil {
			return fmt.Errorf("turn %d: %w", i, err)
		}
		if i == inCOLO {
			q.set("colo", "finish-migrate")
		}
	}
	_, err := io.Copy(io.Discard, conn) // until the agent closes
	return err
}

func (q *fakeQEMU) oneTurn(conn net.Conn, i int, t turn) error {
	if t.agent {
		got := make([]byte, len(t.data))
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		if !bytes.Equal(got, t.data) {
			return fmt.Errorf("the agent said %x, not %x", got, t.data)
		}
		return nil
	}
	data := t.data
	if i == 0 && q.busy {
		n := len(begin().b)
		if err := q.sendPasses(conn, data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	whole := len(data)
	if q.change != nil {
		data = q.change(i, data)
	}
	if _, err := conn.Write(data); err != nil {
		return err
	}
	if len(data) < whole {
		return io.EOF // QEMU died there
	}
	return nil
}

// sendPasses sends a page again and again while the guest runs.
func (q *fakeQEMU) sendPasses(conn net.Conn, begin []byte) error {
	_, err := conn.Write(begin)
	pass := new(build).section(2).u64(8).name("pc.ram").raw(pageOf(1)).eos(2).b
	for err == nil && (q.slow || q.runs()) {
		q.pass(1)
		_, err = conn.Write(pass)
	}
	return err
}

func (q *fakeQEMU) runs() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.run == "running"
}

func (q *fakeQEMU) pass(more int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.passes += more
}

// endCopy stops the guest for the end of the first copy, as QEMU does by itself.
func (q *fakeQEMU) endCopy() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.migration == "active" {
		q.run = "finish-migrate"
	}
}

func (q *fakeQEMU) set(migration, run string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.migration, q.run = migration, run
}

// wantOut checks that QEMU is as an operator would want it after the end of a session.
func (q *fakeQEMU) wantOut(t *testing.T) {
	t.Helper()
	q.work.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.quieted || q.caps["x-colo"] || q.caps["return-path"] || q.migration == "colo" || q.migration == "active" || q.run != "running" {
		t.Errorf("QEMU is left in %q, %q, with %v", q.migration, q.run, q.caps)
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
