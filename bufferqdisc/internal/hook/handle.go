package hook

import (
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const socketTimeout = 2 * time.Second

// Handle is netlink in the network namespace of the caller's thread, whichever thread
// uses it later. Close it with Delete.
func Handle() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	if err := h.SetSocketTimeout(socketTimeout); err != nil {
		h.Delete()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return h, nil
}

// DeviceName is unique for a tap on this host and fits into IFNAMSIZ. The prefix has at
// most 7 octets.
func DeviceName(prefix, tap string) string {
	f := fnv.New32a()
	f.Write([]byte(tap))
	return fmt.Sprintf("%s%08x", prefix, f.Sum32())
}

// IsGone tells that the error says no more than that the device does not exist.
func IsGone(err error) bool { return errors.Is(err, unix.ENODEV) }

func ignoreGone(err error) error {
	if IsGone(err) {
		return nil
	}
	return err
}
