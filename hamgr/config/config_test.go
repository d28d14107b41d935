package config

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func good() Config {
	c := Default()
	c.Node, c.Addr = "h1", "10.77.0.1"
	c.Managers = map[string]string{"h1": "10.77.0.1", "h2": "10.77.0.2", "h3": "10.77.0.3"}
	return c
}

func write(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "hamgr.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	c, err := Load(write(t, `
node: h2
addr: 10.77.0.2
managers: {h1: 10.77.0.1, h2: 10.77.0.2, h3: 10.77.0.3}
epoch: 40ms
heartbeat:
  timeout: 500ms
ports:
  api: 8400
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := good()
	want.Node, want.Addr, want.Epoch, want.Heartbeat.Timeout, want.Ports.API = "h2", "10.77.0.2", 40*time.Millisecond, 500*time.Millisecond, 8400
	if !maps.Equal(c.Managers, want.Managers) || c.Epoch != want.Epoch || c.Heartbeat != want.Heartbeat || c.Ports != want.Ports {
		t.Fatalf("got  %+v\nwant %+v", c, want)
	}
	if got := c.CheckpointAddr("fd00::1"); got != "[fd00::1]:7403" {
		t.Fatal(got)
	}
}

func TestLoadErrors(t *testing.T) {
	if _, err := Load(write(t, "node: h1\nhartbeat: 3\n")); err == nil || !strings.Contains(err.Error(), "hartbeat") || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("an unknown key: %v", err)
	}
	if _, err := Load(write(t, "epoch: fast\n")); err == nil {
		t.Error("an epoch of fast")
	}
	if c, err := Load(write(t, "# nothing\n")); err != nil || c.Epoch != Default().Epoch {
		t.Errorf("an empty file: %v", err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestValidate(t *testing.T) {
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, breakIt := range map[string]func(*Config){
		"node: ":                           func(c *Config) { c.Node = "h 1" },
		"addr: empty":                      func(c *Config) { c.Addr = "" },
		"is not an IP address":             func(c *Config) { c.Addr = "host.example:1" },
		"nobody's address":                 func(c *Config) { c.Addr = "0.0.0.0" },
		"managers: none":                   func(c *Config) { c.Managers = nil },
		"make it 3 or 5":                   func(c *Config) { delete(c.Managers, "h3") },
		"same address":                     func(c *Config) { c.Managers["h3"] = "10.77.0.2" },
		"h1 is at 10.77.0.9":               func(c *Config) { c.Managers["h1"] = "10.77.0.9" },
		"but this node is h4":              func(c *Config) { c.Node = "h4" },
		"data_dir: ":                       func(c *Config) { c.DataDir = "var" },
		"socket: 1":                        func(c *Config) { c.Socket = "/" + strings.Repeat("x", 120) },
		"inspector_url: ":                  func(c *Config) { c.InspectorURL = "inspector:12345" },
		"libvirt_uri: ":                    func(c *Config) { c.LibvirtURI = "" },
		"epoch: 0s":                        func(c *Config) { c.Epoch = 0 },
		"heartbeat.timeout":                func(c *Config) { c.Heartbeat.Timeout = c.Heartbeat.Interval },
		"raft.heartbeat, the leader_lease": func(c *Config) { c.Raft.LeaderLease = time.Second },
		"ports.raft: 7400 is taken":        func(c *Config) { c.Ports.Raft = 7400 },
		"ports.api: 70000":                 func(c *Config) { c.Ports.API = 70000 },
		"trace: \"epochs\"":                func(c *Config) { c.Trace = "epochs" },
		"has to be written as fd00::1":     func(c *Config) { c.Addr = "fd00:0::1" },
	} {
		c := good()
		breakIt(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got: %v", want, err)
		}
	}
}

func TestParseManagers(t *testing.T) {
	got, err := ParseManagers("h1=10.0.0.1, h2=fd00::2")
	if err != nil || !maps.Equal(got, map[string]string{"h1": "10.0.0.1", "h2": "fd00::2"}) {
		t.Fatalf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "h1", "h1=", "=1", "h1=1,h1=2", "h1=1,"} {
		if _, err := ParseManagers(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestNodeID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], err = NodeID(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || len(id) != 36 {
			t.Fatalf("ids %v", ids)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Fatalf("left behind: %v", entries)
	}
	if err := os.WriteFile(filepath.Join(dir, "node-id"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NodeID(dir); err == nil || !strings.Contains(err.Error(), "junk") {
		t.Fatalf("junk: %v", err)
	}
}
