package main

import (
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxNICs is how many interfaces the guest looks for.
const maxNICs = 4

// addresses are those of eth0, eth1 and so on.
type addresses [maxNICs][]*netlink.Addr

// parseCommandLine reads the kernel's command line. ledger.ip= and ledger.ip6= take an
// address with its prefix length for eth0; more, after commas, for eth1 and on; an empty
// one leaves an interface out. Everything else is the kernel's.
func parseCommandLine(line string) (plan addresses, err error) {
	for _, field := range strings.Fields(line) {
		key, value, _ := strings.Cut(field, "=")
		if key != "ledger.ip" && key != "ledger.ip6" {
			continue
		}
		list := strings.Split(value, ",")
		if len(list) > maxNICs {
			return plan, fmt.Errorf("%s: at most %d interfaces", field, maxNICs)
		}
		for i, text := range list {
			if text == "" {
				continue
			}
			a, err := parseAddress(text, key == "ledger.ip6")
			if err != nil {
				return plan, fmt.Errorf("%s: %w", field, err)
			}
			plan[i] = append(plan[i], a)
		}
	}
	return plan, nil
}

func parseAddress(text string, six bool) (*netlink.Addr, error) {
	if !strings.Contains(text, "/") {
		return nil, fmt.Errorf("%q has no prefix length", text)
	}
	a, err := netlink.ParseAddr(text)
	if err != nil {
		return nil, err
	}
	if isSix := a.IP.To4() == nil; isSix != six {
		return nil, fmt.Errorf("%q is of the other IP version", text)
	}
	if six {
		a.Flags = unix.IFA_F_NODAD
	}
	return a, nil
}
