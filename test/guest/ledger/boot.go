package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// boot does what an init must before there is a network.
func boot() error {
	for _, fs := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := os.MkdirAll(fs.at, 0o755); err != nil {
			return err
		}
		// EBUSY: the kernel itself has mounted it (CONFIG_DEVTMPFS_MOUNT).
		if err := unix.Mount(fs.kind, fs.at, fs.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", fs.at, err)
		}
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	plan, err := parseCommandLine(string(cmdline))
	if err != nil {
		return err
	}
	return configure(plan)
}

// loadModules loads what the image lists, in its order: dependencies first.
func loadModules(dir string) error {
	list, err := os.ReadFile(dir + "/list")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel with all built in
	}
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(list)) {
		data, err := os.ReadFile(dir + "/" + name)
		if err != nil {
			return err
		}
		if err := unix.InitModule(data, ""); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return nil
}

// configure gives every interface its addresses. One without a link is an error if it
// was to have an address, and else is not there.
func configure(plan addresses) error {
	// Before any link is up: an address is usable at once, and nothing is asked of routers.
	for _, key := range []string{"accept_dad", "dad_transmits", "accept_ra", "router_solicitations"} {
		for _, which := range []string{"all", "default"} {
			os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/"+key, []byte("0"), 0) // no IPv6: no file
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("interface lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("interface lo: %w", err)
	}
	for i := range max(len(plan), maxNICs) {
		name := fmt.Sprintf("eth%d", i)
		if err := configureLink(name, plan[i]); err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
	}
	return nil
}

func configureLink(name string, list []*netlink.Addr) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) && len(list) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w (has the guest that NIC, and was virtio_net loaded?)", err)
	}
	conf := "/proc/sys/net/ipv6/conf/" + name + "/"
	for _, key := range []string{"accept_dad", "dad_transmits", "accept_ra", "router_solicitations"} {
		os.WriteFile(conf+key, []byte("0"), 0)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	for _, a := range list {
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("address %s: %w", a.IPNet, err)
		}
	}
	return nil
}
