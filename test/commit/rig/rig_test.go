package rig

import (
	"os"
	"strings"
	"testing"

	"github.com/hamgr/hamgr/test/lab"
)

func TestMain(m *testing.M) {
	lab.Init()
	os.Exit(m.Run())
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func up(t *testing.T, o Options) *Rig {
	t.Helper()
	o.Out, o.Progress = t.TempDir(), testLog{t}
	r, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range r.Nodes() {
				log, _ := os.ReadFile(r.Out + "/logs/" + h + "/hamgr.log")
				t.Logf("%s:\n%s", h, log[max(0, len(log)-4000):])
			}
		}
		r.Down()
	})
	return r
}
