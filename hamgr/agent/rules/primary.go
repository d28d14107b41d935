package rules

import "github.com/hamgr/hamgr/hamgr/core"

// Guest is what is known of a guest on this host.
type Guest int

// What is known of a guest. Nothing is concluded from Unknown.
const (
	Unknown Guest = iota
	Running
	Crashed  // its QEMU ended by itself, or is not there at all
	Panicked // its own kernel gave up
	Ended    // somebody asked for its end
)

func (g Guest) over() bool { return g == Crashed || g == Panicked || g == Ended }

// Duty is what the running side of a protection does next. After it, nothing is done until
// the order changes.
type Duty int

// The duties. Release, Fence and Stop are the last of a job.
const (
	Stop    Duty = iota // leave everything as it is
	Release             // the protection is over: the guest gets its network back
	Fence               // another node owns the guest: cut the output, end this copy
	Tell                // say what became of the guest and of its session, see AfterSession
	Session             // send checkpoints until something fails
	Open                // run alone, output open
	Finish              // say whether the restored guest runs, see AfterRestore
	Start               // start the lost guest anew, unless it runs here after all, see MayKeep
)

// Primary says what is to be done about order o on a node with a job for it. adopting: this
// process has not had the guest in its hands yet, an earlier one may have.
func Primary(node string, o core.Protection, adopting bool, g Guest) Duty {
	if o.Primary != node {
		return Fence
	}
	switch o.Phase {
	case core.Syncing, core.Protected:
		if adopting || g.over() {
			return Tell
		}
		return Session
	case core.Solo:
		if g.over() {
			return Tell
		}
		return Open
	case core.Recovering:
		if o.Cold {
			return Start
		}
		return Finish
	case core.Lost:
		switch {
		case g == Running && o.Unrun:
			return Fence
		case g == Running: // it was only out of sight
			return Finish
		}
	}
	return Stop
}

// MayKeep says that a copy which runs here, when the lost guest is to be started here, is the
// guest. Else it is one of a former time, from before another node had it, and has to be
// ended. started is the generation under which this process has started it last.
func MayKeep(o core.Protection, started uint64) bool { return !o.Unrun || started == o.Generation }

// Gone says what is to be done about a guest whose protection is over. e is what the
// cluster remembers of that, known whether it does. mine is the generation that this node
// had the guest under, as its primary. Only a guest that the last owner has may emit: this
// node may have missed a failover before the end.
func Gone(node string, mine uint64, e core.Ended, known bool) Duty {
	switch {
	case !known || e.Generation < mine:
		return Stop
	case e.Primary == node:
		return Release
	}
	return Fence
}

// AfterSession is what the cluster is told when no checkpoints flow, or can flow. The
// output stays as it is until the answer. Telling may take many tries: what is known of
// the guest has to be asked anew before each, and a guest that lives may have to be left
// to a new order.
func AfterSession(o core.Protection, g Guest, cause string) core.Command {
	c := core.Command{Domain: o.Domain, Generation: o.Generation, Cause: cause}
	switch {
	case g == Ended:
		c.Kind, c.Cause = core.Unprotect, "the guest was shut down"
	case g == Panicked: // and would again: its replica is of a moment before
		c.Kind, c.Cause = core.MarkLost, "the kernel of "+o.Domain+" panicked on "+o.Primary
		c.Silenced, c.Stopped = true, true
	case g == Crashed:
		c.Kind, c.Cause, c.Stopped = core.MarkLost, "QEMU of "+o.Domain+" died on "+o.Primary, true
		if o.Phase == core.Protected {
			c.Kind, c.Silenced, c.Stopped = core.FailOver, true, false // it cannot emit any more
		}
	default:
		c.Kind, c.Backup = core.GoSolo, o.Backup
	}
	return c
}

// AfterRestore is what the cluster is told of a guest that this node was to restore, or
// that was given up and runs here after all.
func AfterRestore(o core.Protection, g Guest) core.Command {
	c := core.Command{Kind: core.Restored, Domain: o.Domain, Generation: o.Generation}
	if g != Running {
		c.Kind, c.Stopped, c.Cause = core.MarkLost, true, "the replica on "+o.Primary+" was lost before it could be restored"
	}
	return c
}
