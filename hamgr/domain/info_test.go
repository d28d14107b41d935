package domain

import (
	"slices"
	"testing"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
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

// TestNICs: what libvirt does to a tap besides is known from the domain's XML.
func TestNICs(t *testing.T) {
	var d libvirtxml.Domain
	err := d.Unmarshal(`<domain type='kvm'><name>g1</name><devices>
		<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><target dev='vnet0'/></interface>
		<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='ovs0'/>
			<virtualport type='openvswitch'><parameters interfaceid='fa634761-98f6-40c2-bc7a-8ceeb54e746e'/></virtualport><target dev='vnet1'/></interface>
		<interface type='bridge'><mac address='52:54:00:00:00:03'/><source bridge='br0'/><target dev='vnet2'/><filterref filter='clean-traffic'/></interface>
	</devices></domain>`)
	if err != nil {
		t.Fatal(err)
	}
	want := []NIC{
		{Tap: "vnet0", MAC: "52:54:00:00:00:01", Bridge: "br0"},
		{Tap: "vnet1", MAC: "52:54:00:00:00:02", Bridge: "ovs0", OpenVSwitch: true},
		{Tap: "vnet2", MAC: "52:54:00:00:00:03", Bridge: "br0", Filtered: true},
	}
	if got := nicsOf(&d); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
