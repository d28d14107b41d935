package qmp_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
	"github.com/hamgr/hamgr/qmp"
	"github.com/hamgr/hamgr/qmp/qmptest"
)

func TestExecute(t *testing.T) {
	for _, tc := range []struct {
		name, reply string
		runErr      error
		want        string // in the error; "" for none
	}{
		{name: "value", reply: `{"return":{"status":"running"},"id":"libvirt-9"}`},
		{name: "refusal", reply: `{"error":{"class":"GenericError","desc":"no such thing"}}`, want: "QEMU refused query-status: no such thing"},
		{name: "not JSON", reply: `oops`, want: `"oops"`},
		{name: "neither", reply: `{}`, want: "neither a return nor an error"},
		{name: "other type", reply: `{"return":[1]}`, want: "[1]"},
		{name: "connection", runErr: errors.New("domain is gone"), want: "qmp query-status: domain is gone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := qmp.New(qmp.NewPassthrough(func(line string, files []*os.File) (string, error) {
				if line != `{"execute":"query-status"}` || files != nil {
					t.Errorf("sent %q with %v", line, files)
				}
				return tc.reply, tc.runErr
			}))
			var out struct{ Status string }
			err := c.Execute(t.Context(), "query-status", nil, &out)
			if tc.want == "" {
				if err != nil || out.Status != "running" {
					t.Fatalf("%+v, %v", out, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want %q in it", err, tc.want)
			}
			if tc.runErr != nil && !errors.Is(err, tc.runErr) {
				t.Errorf("%v does not wrap %v", err, tc.runErr)
			}
		})
	}
}

func TestCommandErrorClass(t *testing.T) {
	c := qmp.New(qmptest.NewMonitor(func(string, json.RawMessage, []*os.File) (any, error) {
		return nil, &qmptest.Error{Class: "CommandNotFound", Desc: "unknown"}
	}))
	err := c.Execute(t.Context(), "x", nil, nil)
	if ce, ok := errors.AsType[*qmp.CommandError](err); !ok || ce.Class != "CommandNotFound" || ce.Command != "x" {
		t.Fatalf("%#v", err)
	}
}

func TestPassthroughPassesFile(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := qmp.New(qmp.NewPassthrough(func(line string, files []*os.File) (string, error) {
		if line != `{"execute":"getfd","arguments":{"fdname":"n"}}` || len(files) != 1 || files[0] != f {
			t.Errorf("sent %q with %v", line, files)
		}
		return `{"return":{}}`, nil
	}))
	if err := c.PassFile(t.Context(), "n", f); err != nil {
		t.Fatal(err)
	}
}

// plain is a monitor without any of the extras.
type plain struct{ goqemu.Monitor }

func TestPassFileNeedsAMonitorThatCan(t *testing.T) {
	err := qmp.New(plain{}).PassFile(t.Context(), "n", os.Stdin)
	if err == nil || !strings.Contains(err.Error(), "cannot pass files") {
		t.Fatal(err)
	}
}

func TestPassthroughHasNoEvents(t *testing.T) {
	_, err := qmp.NewPassthrough(nil).Events(t.Context())
	if !errors.Is(err, goqemu.ErrEventsNotSupported) {
		t.Fatal(err)
	}
}

func TestExecuteEndsWithItsContext(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	c := qmp.New(qmptest.NewMonitor(func(string, json.RawMessage, []*os.File) (any, error) {
		<-release
		return nil, nil
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := c.Execute(ctx, "query-status", nil, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "query-status") {
		t.Fatal(err)
	}
}

func TestExecuteNotSentAfterTheEnd(t *testing.T) {
	c := qmp.New(qmptest.NewMonitor(func(string, json.RawMessage, []*os.File) (any, error) {
		t.Error("the command was sent")
		return nil, nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Execute(ctx, "cont", nil, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
