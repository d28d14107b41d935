package bufferqdisc

import (
	"testing"

	"github.com/hamgr/hamgr/bufferqdisc/plug"
	hosts "github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/lab/labtest"
)

// TestOnKernelWithPlug runs all tests on a kernel that has sch_plug: few machines that
// tests run on have it.
func TestOnKernelWithPlug(t *testing.T) { labtest.Run(t, hosts.UML) }

// needPlug skips a test where the kernel cannot plug, unless it has to.
func needPlug(t *testing.T) {
	t.Helper()
	err := plug.Probe()
	switch {
	case err != nil && labtest.On(hosts.UML):
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
}
