package image

import "strings"

// CommandLine is the guest kernel's command line: the addresses of eth0, eth1 and on for
// the ledger, and what makes the guest quick to start and quiet when idle under TCG.
func CommandLine(nics ...NIC) string {
	words := []string{
		"console=ttyS0", "quiet",
		"panic=-1",        // reboot at once: a dead guest shall not look like a slow one
		"mitigations=off", // nobody attacks it, and TCG pays for each
	}
	var four, six []string
	for _, n := range nics {
		four, six = append(four, n.IP), append(six, n.IP6)
	}
	for _, w := range []struct {
		key  string
		list []string
	}{{"ledger.ip=", four}, {"ledger.ip6=", six}} {
		if value := strings.TrimRight(strings.Join(w.list, ","), ","); value != "" {
			words = append(words, w.key+value)
		}
	}
	return strings.Join(words, " ")
}
