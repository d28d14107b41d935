package input

import (
	"testing"

	hosts "github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/lab/labtest"
)

// TestOnADistributionsKernel runs all tests on a kernel as hosts have it, in modules, with
// bridges that know VLANs.
func TestOnADistributionsKernel(t *testing.T) { labtest.Run(t, hosts.UML) }
