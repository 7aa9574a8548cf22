package decide

import "math/bits"

// assigned returns the person's variant in an experiment, or variantNone.
func (r *run) assigned(e int32) int16 {
	v := &r.out.work.variants[e]
	if *v == variantOpen {
		*v = r.assign(e)
	}
	return *v
}

func (r *run) assign(e int32) int16 {
	x := &r.p.Experiments[e]
	for _, a := range r.over.Assign {
		if a.Experiment == e && a.Variant >= 0 && int(a.Variant) < len(x.Variants) {
			return int16(a.Variant)
		}
	}
	if r.over.NoExperiments {
		return variantNone
	}
	if !x.always && !x.targeting.Holds(r.row) {
		return variantNone
	}
	unit, ok := r.variantUnit(x)
	if !ok {
		return variantNone
	}
	if v, in := x.Draw.Assign(unit); in {
		return int16(v)
	}
	return variantNone
}

// policy returns the placement's policy after experiments: of several that
// change it the first by id counts. -1: none.
func (r *run) policy(placement int32) int32 {
	p := &r.p.Placements[placement]
	for _, e := range p.experiments {
		if v := r.assigned(e); v >= 0 {
			if policy := r.p.Experiments[e].Variants[v].placement(placement); policy >= 0 {
				return policy
			}
		}
	}
	return p.Policy
}

// report adds the assignments that touch a slot to the result, once each.
func (r *run) report(s *slab, ask *SlotRequest) {
	if ask.Policy == -1 {
		r.reportAll(r.p.Placements[s.placement].experiments)
	}
	r.reportAll(s.experiments)
}

func (r *run) reportAll(experiments []int32) {
	for _, e := range experiments {
		v := r.assigned(e)
		if v < 0 || r.out.work.reported.has(e) {
			continue
		}
		r.out.work.reported.add(e)
		r.out.Assignments = append(r.out.Assignments, Assignment{
			Experiment: e, Variant: int32(v), Name: r.p.Experiments[e].Variants[v].Name,
		})
	}
}

// change gathers what the person's variants change of an offer on a placement:
// any of them excludes it; of several treatments that fit, or levers, that of
// the first experiment by id counts. by is the experiment that excludes, or -1.
func (r *run) change(offer, placement int32) (change offerChange, by int32) {
	change.treatment, by = -1, -1
	for _, e := range r.p.Offers[offer].experiments {
		v := r.assigned(e)
		if v < 0 {
			continue
		}
		c := r.p.Experiments[e].Variants[v].offer(offer)
		if c == nil {
			continue
		}
		if c.exclude && by < 0 {
			change.exclude, by = true, e // a universal fallback still asks for its treatment
		}
		if c.hasLever && !change.hasLever {
			change.lever, change.hasLever = c.lever, true
		}
		if c.treatment >= 0 && change.treatment < 0 && r.p.fits(c.treatment, placement) {
			change.treatment = c.treatment
		}
	}
	return change, by
}

// heldBy returns the first holdout of a set that holds the person now, or -1.
// Somebody without an id is in none: there is nothing to draw by.
func (r *run) heldBy(set uint64) int32 {
	if r.over.NoExperiments || !r.who.HasID || len(r.who.ID) == 0 {
		return -1
	}
	for open := set &^ r.heldSet; open != 0; open &= open - 1 {
		i := bits.TrailingZeros64(open)
		h := r.p.Holdouts[i].Draw
		r.heldSet |= 1 << i
		if h.Live(int64(r.at.Ms)) && h.Holds(r.who.ID) {
			r.held |= 1 << i
		}
	}
	if set&r.held == 0 {
		return -1
	}
	return int32(bits.TrailingZeros64(set & r.held))
}
