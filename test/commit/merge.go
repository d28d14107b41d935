package commit

// Merge adds another report of the same run: its counts and values; silence is the longest.
func (r *Report) Merge(o Report) {
	for k, n := range o.Count {
		if r.Count == nil {
			r.Count = map[Kind]int{}
		}
		r.Count[k] += n
	}
	for k, n := range o.Protocols {
		if r.Protocols == nil {
			r.Protocols = map[string]int{}
		}
		r.Protocols[k] += n
	}
	room := max(0, maxViolations-len(r.Violations))
	r.Violations = append(r.Violations, o.Violations[:min(room, len(o.Violations))]...)
	for _, f := range []struct {
		to   *int
		more int
	}{
		{&r.Emitted, o.Emitted}, {&r.Seen, o.Seen}, {&r.Held, o.Held}, {&r.Announcements, o.Announcements}, {&r.Restores, o.Restores},
		{&r.RolledBackFrames, o.RolledBackFrames}, {&r.Rollbacks, o.Rollbacks},
		{&r.Ledger.Replies, o.Ledger.Replies}, {&r.Ledger.Linked, o.Ledger.Linked}, {&r.Ledger.Holes, o.Ledger.Holes},
		{&r.UDP.Sent, o.UDP.Sent}, {&r.UDP.Answered, o.UDP.Answered}, {&r.UDP.Nobody, o.UDP.Nobody},
		{&r.UDP.Withheld, o.UDP.Withheld}, {&r.UDP.Starting, o.UDP.Starting}, {&r.UDP.AtStop, o.UDP.AtStop}, {&r.UDP.Gaps, o.UDP.Gaps},
	} {
		*f.to += f.more
	}
	r.Silence = max(r.Silence, o.Silence)
	r.holds, r.bursts = append(r.holds, o.holds...), append(r.bursts, o.bursts...)
	r.commits, r.spread, r.after = append(r.commits, o.commits...), append(r.spread, o.spread...), append(r.after, o.after...)
	r.sum()
}
