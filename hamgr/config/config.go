// Package config is what one node is told: a YAML file, and the flags of hamgr serve.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"gopkg.in/yaml.v3"
)

// DefaultPath is where serve looks for its file.
const DefaultPath = "/etc/hamgr/hamgr.yaml"

// Config is what one node is told.
type Config struct {
	Node         string            `yaml:"node"`
	Addr         string            `yaml:"addr"`     // management address, without port
	Managers     map[string]string `yaml:"managers"` // name to management address; the same on every node
	DataDir      string            `yaml:"data_dir"`
	Socket       string            `yaml:"socket"`
	LibvirtURI   string            `yaml:"libvirt_uri"`
	MemoryDir    string            `yaml:"memory_dir"` // libvirt's memory_backing_dir
	InspectorURL string            `yaml:"inspector"`
}

// Default is a Config in which only the node's own facts are missing.
func Default() Config {
	host, _ := os.Hostname()
	return Config{Node: host, DataDir: "/var/lib/hamgr", Socket: "/run/hamgr/hamgr.sock", LibvirtURI: "qemu:///system", MemoryDir: "/dev/shm/hamgr"}
}

// Load reads a file over the defaults; one that is missing at DefaultPath changes nothing.
func Load(path string) (Config, error) {
	c := Default()
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && path == DefaultPath {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Validate names the first thing that is wrong, and what to do.
func (c Config) Validate() error {
	switch {
	case c.Node == "" || strings.ContainsAny(c.Node, "/ \t"):
		return fmt.Errorf("node name %q: give --node a name without spaces", c.Node)
	case net.ParseIP(c.Addr) == nil:
		return fmt.Errorf("management address %q is not an IP address: give --addr this node's", c.Addr)
	case len(c.Managers) == 0:
		return errors.New("no managers: give --managers name=address,... the same on every node")
	case len(c.Managers)%2 == 0:
		return fmt.Errorf("%d managers: use 1, 3 or 5, an even number survives no more failures", len(c.Managers))
	}
	if a, ok := c.Managers[c.Node]; ok && a != c.Addr {
		return fmt.Errorf("manager %s is at %s in --managers but this node's --addr is %s", c.Node, a, c.Addr)
	}
	return nil
}

// NodeID is made once per installation and kept in dir.
func NodeID(dir string) (string, error) {
	path := filepath.Join(dir, "node-id")
	data, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(data)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	id := uuid.NewString()
	return id, os.WriteFile(path, []byte(id+"\n"), 0o600)
}
