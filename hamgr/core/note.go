package core

// note keeps what people are told of a protection; nothing else depends on it. What is
// known already is no event.
func note(s *State, c Command) (Event, bool, error) {
	p, err := current(*s, c)
	if err != nil {
		return Event{}, false, err
	}
	kept := &p.Together
	if c.Kind == ProbeFailed || c.Kind == ProbePassed {
		kept = &p.ProbeFailed
	}
	text := c.Cause
	if c.Kind == Apart || c.Kind == ProbePassed {
		text = ""
	}
	if *kept == text {
		return Event{}, false, nil
	}
	*kept = text
	s.Protections = with(s.Protections, p.Domain, p)
	return Event{Domain: p.Domain, Node: p.Primary, Target: p.Backup, Generation: p.Generation}, true, nil
}
