// Package lease says until when a host may let a guest's output go by itself, where no
// held buffer keeps it from doing so (mode checkpoint, and a guest that is started anew
// elsewhere when it is lost): a promise that nobody takes the guest over before. It is
// pure: no clock, no network, no goroutine.
//
// # Rules
//
// L is the lease's length, W > L the time a leader must wait; both are the same
// everywhere. Heartbeats are numbered and go both ways all the time.
//
//	R1  A host notes when it sends heartbeat n, before it sends it: S(n).
//	R2  A manager's heartbeat to the host echoes the newest n that it has heard, and then
//	    its Raft term, read after the echo. The leader of that term adds a grant with the
//	    index of the newest change of any guest's owner, or of who the managers are, that it
//	    knows of. It grants once it has applied all that was decided before its term.
//	R3  The host's lease ends at min(A, M) + L, where A is S(n) of the newest echo in a
//	    grant of term t, and M is the newest time that, for more than half of the
//	    managers, S(n) of the newest echo of term t is not older than. A host that is a
//	    manager counts itself, at all times, while it is in term t itself. t is the newest
//	    term a grant was heard of; the host must know all changes up to the grant's index,
//	    or it has no lease. The managers are those of the very state by which the host
//	    takes the guest for its own.
//	R4  A leader lets a guest be taken over from a host only if it has led, in its term
//	    and with the managers as they are, for W, and has heard no heartbeat of the host
//	    for W. It grants the host nothing from before it proposes that until it knows what
//	    became of the proposal.
//	R5  The managers change by one at a time, by majority of those that there are after
//	    it. A leader proposes a change once those before are decided, and something in its
//	    own term is. A manager that has lost its disk has forgotten its term: it says none
//	    from when it is back until it knows, from a log that is newer than that, that it
//	    is a manager.
//
// # Why no two hold the output at once
//
// Let leader X of term u propose the takeover at time p; the new owner is told later.
// Suppose that the old owner holds a lease at a time q after p, by a grant of term t.
//
// t > u: X leads no more, and whoever leads term t has applied what X got committed
// before he grants (the no-op entry of his term), so the grant's index tells the old
// owner about the takeover: no lease. If X's proposal was not committed, there is no
// takeover.
//
// t = u: the grant is X's. If X gave it after it knew what became of its proposal, the
// index tells the old owner: no lease. Else it is older than p (R4) and echoes a
// heartbeat that X had heard, by R4 more than W before p. The host sent it still before, so A + L < p - W + L < p:
// the lease has ended before p.
//
// t < u: X was elected, before p - W (R4), by a majority each of whom was in term u when
// it voted. One of them is also in the majority of M (R3), with an echo of term t. It
// read its term after the echo (R2), so it had heard that heartbeat before it voted, and
// the host had sent it before that: M < p - W, and M + L < p. The same holds if that
// manager is the host itself, which in term u no longer counts itself.
//
// # While the managers change
//
// Only the last case counts managers, and it needs a manager who is in both majorities: of
// H, the managers as the host knows them, and of C, those with which X has led since before
// p - W. A majority of C was in term u by then: it has elected X, or has taken C from it. H
// is not newer than the takeover, or the host knew that it has lost the guest (R3). So H is
// the change that X has under way at p, or C, or was before C.
//
// Of sets that differ by one manager any two majorities have one in common. That settles H
// next to C on either side. Let H be older, and N the managers that came after H: N was
// decided, and the change of N proposed, before p - W, by the leader of a term v. That
// leader had something decided in v by a majority of N (R5).
//
// v > t: one of them is in the majority of M, too. It was in v before p - W, and its echoes
// of term t are older: M < p - W, as above.
//
// v <= t: whoever grants in term t has proposed the change of N itself, before p - W, or has
// applied N before it granted anything (R2). So each grant that it has made since p - W
// tells of N, which the host does not know (R3). The newest grant is older, then: A < p - W.
//
// What a manager claims that was removed, or is to be one and does not know it yet, is its
// true term. That is all that this asks of it; who counts is the host's to know. A vote of
// one that has lost its disk counts no more: before Raft lets it take part, the others have
// decided to do without it (package cluster, join).
//
// Delays, losses, doubled and reordered messages, and standstills of any process do not
// appear in this. What does: that time passes equally fast on both hosts, within W/L
// (5/4 by default), and that the host's own end of lease is kept by something that does
// not stand still: the kernel, see bufferqdisc.Gate. A host that is itself a virtual
// machine, and is frozen and thawed from outside, breaks this.
package lease
