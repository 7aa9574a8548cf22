package storage

// BuildProfile packs a profile that belongs to no store: what a person would
// have after one patch at a time. It serves the tests of definitions. It errors with
// ErrTooLarge as the patch of a stored person would.
func BuildProfile(p *Patch, at UnixMsec) (Profile, error) {
	var d profileDraft
	d.load(Profile{})
	if err := d.patch(p, at); err != nil {
		return Profile{}, err
	}
	return Profile{d.append(nil)}, nil
}

// BuildHistory packs the tail and the activity of a person that belongs to no
// store, after events and outcomes in the order given. An effect without a time
// comes at now. Effects of other kinds change nothing. It errors as Append would.
func BuildHistory(effects []Effect, now UnixMsec) (Tail, Activity, error) {
	s := newState(0, stateOptions{})
	r := &Row{Person: 1}
	for i := range effects {
		e := effects[i]
		e.Ord = 0
		if e.Time == 0 {
			e.Time = now
		}
		var err error
		switch e.Kind {
		case EffectEvent:
			err = s.applyEvent(1, r, &e)
		case EffectOutcome:
			err = s.applyOutcome(1, r, &e)
		}
		if err != nil {
			return Tail{}, Activity{}, err
		}
	}
	tail := Tail{s.slab.get(r.tail)}
	return tail, s.whole.view(s.slab.get(r.activity), tail), nil
}
