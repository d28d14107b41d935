package plug

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
)

// LetGo opens the plug that an earlier process left for a tap, holding or not, and
// returns when what it held is out, in order.
func LetGo(h hook.Kernel, tap string) error {
	b, err := find(h, boxName(tap))
	if b == nil {
		return err
	}
	if there, err := b.plugged(); err != nil || !there {
		return err
	}
	return b.drain()
}

// Remove deletes that plug. Call it when nothing redirects to it any more.
func Remove(h hook.Kernel, tap string) error {
	b, err := find(h, boxName(tap))
	if b == nil {
		return err
	}
	return b.remove()
}

// Sweep deletes the plugs that are there for taps which are not.
func Sweep(h hook.Kernel) error {
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("links: %w", err)
	}
	wanted := map[string]bool{}
	for _, l := range links {
		wanted[boxName(l.Attrs().Name)] = true
	}
	var errs []error
	for _, l := range links {
		if name := l.Attrs().Name; l.Type() == "ifb" && strings.HasPrefix(name, prefix) && !wanted[name] {
			errs = append(errs, (&box{h: h, name: name, index: l.Attrs().Index}).remove())
		}
	}
	return errors.Join(errs...)
}
