package domain

import (
	"testing"

	"libvirt.org/go/libvirt"
)

// TestEndOf: only what somebody asked for ends a protection.
func TestEndOf(t *testing.T) {
	for _, c := range []struct {
		state  libvirt.DomainState
		reason libvirt.DomainShutoffReason
		want   End
	}{
		{libvirt.DOMAIN_RUNNING, 0, EndNone},
		{libvirt.DOMAIN_SHUTOFF, libvirt.DOMAIN_SHUTOFF_SHUTDOWN, EndByRequest},
		{libvirt.DOMAIN_SHUTOFF, libvirt.DOMAIN_SHUTOFF_DESTROYED, EndByRequest},
		{libvirt.DOMAIN_SHUTOFF, libvirt.DOMAIN_SHUTOFF_CRASHED, EndCrash},
		{libvirt.DOMAIN_SHUTOFF, libvirt.DOMAIN_SHUTOFF_FAILED, EndCrash},
		{libvirt.DOMAIN_SHUTOFF, libvirt.DOMAIN_SHUTOFF_UNKNOWN, EndCrash},
		{libvirt.DOMAIN_SHUTOFF, libvirt.DOMAIN_SHUTOFF_DAEMON, EndCrash}, // a hung one, as libvirtd was restarted
		{libvirt.DOMAIN_CRASHED, 0, EndCrash},
	} {
		if got := endOf(c.state, int(c.reason)); got != c.want {
			t.Errorf("state %d, reason %d: %d", c.state, c.reason, got)
		}
	}
}
