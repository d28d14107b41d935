package domain

import (
	"context"
	"slices"
	"sync"

	"libvirt.org/go/libvirt"
)

// Kind is what happened to a domain.
type Kind string

// The kinds. The first group are ends: the guest does not run any more.
const (
	Crashed    Kind = "crashed"               // QEMU died or failed
	ShutDown   Kind = "shutdown-by-guest"     // the guest switched itself off, asked or not
	Destroyed  Kind = "destroyed-by-operator" // virsh destroy, or another client of libvirt
	MovedAway  Kind = "migrated"              // an ordinary migration to another host
	SavedAway  Kind = "saved"                 // virsh save or managedsave
	RevertedTo Kind = "reverted"              // a snapshot replaced it

	Started     Kind = "started"
	Paused      Kind = "paused"
	Resumed     Kind = "resumed"
	Panicked    Kind = "panicked"    // the guest's kernel said so; QEMU may live on
	Watchdog    Kind = "watchdog"    // the guest's watchdog fired; what QEMU did is in the detail
	Reconnected Kind = "reconnected" // no domain's: events may have been missed before
)

// Event is something that happened to a domain.
type Event struct {
	Domain string // its name; empty for Reconnected
	Kind   Kind
	Detail string // for the operator's eyes
	End    End    // EndNone unless the guest's run is over
}

// End is how a guest's run ended.
type End int

// The ways a run ends. EndNone: it has not.
const (
	EndNone End = iota
	EndByRequest
	EndCrash
	EndPanic // of the guest's kernel; libvirt's state afterwards says EndCrash, only the event tells them apart
)

var ends = []Kind{Crashed, ShutDown, Destroyed, MovedAway, SavedAway, RevertedTo}

var stopped = map[int]Kind{
	int(libvirt.DOMAIN_EVENT_STOPPED_SHUTDOWN):      ShutDown,
	int(libvirt.DOMAIN_EVENT_STOPPED_DESTROYED):     Destroyed,
	int(libvirt.DOMAIN_EVENT_STOPPED_CRASHED):       Crashed,
	int(libvirt.DOMAIN_EVENT_STOPPED_FAILED):        Crashed,
	int(libvirt.DOMAIN_EVENT_STOPPED_MIGRATED):      MovedAway,
	int(libvirt.DOMAIN_EVENT_STOPPED_SAVED):         SavedAway,
	int(libvirt.DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT): RevertedTo,
	int(libvirt.DOMAIN_EVENT_STOPPED_RECREATED):     RevertedTo,
}

// translate names libvirt's lifecycle event; ok is false for one nobody asks for.
func translate(event libvirt.DomainEventType, detail int) (e Event, ok bool) {
	switch event {
	case libvirt.DOMAIN_EVENT_STOPPED:
		if e.Kind, ok = stopped[detail]; !ok {
			e.Kind = Crashed // an end of a sort that this libvirt does not know
		}
		e.End = EndByRequest
		if e.Kind == Crashed {
			e.End = EndCrash
		}
		if detail == int(libvirt.DOMAIN_EVENT_STOPPED_FAILED) {
			e.Detail = "QEMU ended by itself"
		}
		return e, true
	case libvirt.DOMAIN_EVENT_CRASHED:
		return Event{Kind: Panicked, End: EndPanic, Detail: "the guest's kernel panicked"}, true
	case libvirt.DOMAIN_EVENT_STARTED:
		return Event{Kind: Started}, true
	case libvirt.DOMAIN_EVENT_SUSPENDED:
		return Event{Kind: Paused}, true
	case libvirt.DOMAIN_EVENT_RESUMED:
		return Event{Kind: Resumed}, true
	}
	return Event{}, false
}

// lifecycle is called on libvirt's event loop, which must not wait.
func (h *Host) lifecycle(_ *libvirt.Connect, d *libvirt.Domain, raw *libvirt.DomainEventLifecycle) {
	e, ok := translate(raw.Event, raw.Detail)
	if !ok {
		return
	}
	name, err := d.GetName()
	if err != nil {
		return
	}
	e.Domain = name
	h.subs.tell(e)
}

var watchdogActions = map[libvirt.DomainEventWatchdogAction]string{
	libvirt.DOMAIN_EVENT_WATCHDOG_NONE: "nothing", libvirt.DOMAIN_EVENT_WATCHDOG_PAUSE: "paused it",
	libvirt.DOMAIN_EVENT_WATCHDOG_RESET: "reset it", libvirt.DOMAIN_EVENT_WATCHDOG_POWEROFF: "switched it off",
	libvirt.DOMAIN_EVENT_WATCHDOG_SHUTDOWN: "shut it down", libvirt.DOMAIN_EVENT_WATCHDOG_DEBUG: "nothing",
	libvirt.DOMAIN_EVENT_WATCHDOG_INJECTNMI: "sent it an NMI",
}

// watchdog is called as lifecycle is.
func (h *Host) watchdog(_ *libvirt.Connect, d *libvirt.Domain, raw *libvirt.DomainEventWatchdog) {
	if name, err := d.GetName(); err == nil {
		h.subs.tell(Event{Domain: name, Kind: Watchdog, Detail: "the guest's watchdog fired; QEMU did: " + watchdogActions[raw.Action]})
	}
}

// Events are what happens to domains from now on, until ctx ends: of the kinds given, or
// the ends and troubles of guests when none is given. The channel holds 64; a reader that is slower
// loses events, as does a host that libvirtd is restarted on, so look again now and then.
func (h *Host) Events(ctx context.Context, kinds ...Kind) <-chan Event {
	if len(kinds) == 0 {
		kinds = append(slices.Clone(ends), Panicked, Watchdog)
	}
	return h.subs.add(ctx, kinds)
}

type subscriber struct {
	kinds []Kind
	ch    chan Event
}

type subscribers struct {
	mu   sync.Mutex // guards list
	list []*subscriber
}

func (s *subscribers) add(ctx context.Context, kinds []Kind) <-chan Event {
	sub := &subscriber{kinds: slices.Clone(kinds), ch: make(chan Event, 64)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, sub)
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.list = slices.DeleteFunc(s.list, func(o *subscriber) bool { return o == sub })
	})
	return sub.ch
}

func (s *subscribers) tell(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.list {
		if !slices.Contains(sub.kinds, e.Kind) {
			continue
		}
		select {
		case sub.ch <- e:
		default:
		}
	}
}
