package decide

import (
	"math/bits"

	"tact/storage"
)

// found returns the positions of the slab's candidates that its index does not
// rule out: computed once for a slot.
func (r *run) found(s *slab) bitset {
	w := &r.out.work
	if r.indexed != s {
		n := len(s.index.always)
		if cap(w.found) < n {
			w.found = make(bitset, n)
		}
		w.found = w.found[:n]
		s.index.find(r.row, w.found)
		r.indexed = s
	}
	return w.found
}

// next returns the first member at or above i, or -1.
func (b bitset) next(i int) int {
	word := i >> 6
	if word >= len(b) {
		return -1
	}
	for open := b[word] &^ (1<<(uint(i)&63) - 1); ; open = b[word] {
		if open != 0 {
			return word<<6 + bits.TrailingZeros64(open)
		}
		if word++; word == len(b) {
			return -1
		}
	}
}

// deepest is the reason of the candidate that got furthest so far, and until
// when it holds: the earliest of those with that reason that say.
type deepest struct {
	depth  int // -1: none yet
	reason Reason
	until  storage.UnixSec
}

func (d *deepest) note(v *verdict) {
	at := depth(v.reason, v.stage)
	if v.reason == ReasonNone || at < d.depth {
		return
	}
	if at > d.depth {
		*d = deepest{depth: at, reason: v.reason, until: Never}
	}
	if v.until != 0 {
		d.until = min(d.until, v.until)
	}
}

// passes tells whether a candidate that gets no further than at changes nothing
// any more. Verdicts below depthTimed have no until.
func (d *deepest) passes(at int) bool { return at < d.depth || at == d.depth && at < depthTimed }

// depthTimed is the least depth of a verdict that may say until when it holds:
// that of quiet hours.
const depthTimed = 32

// furthest finds what reasons says of an indexed slab that gave nothing, without
// judging the candidates that cannot change it: those that the index has found are
// judged unless a rule list refuses them no deeper than one before, which a look at
// their hurdles mostly tells; of those it
// has ruled out, one of every class tells for all.
func (r *run) furthest(s *slab, slot int32, start mark, d *deepest) {
	if r.req.Slots[slot].Allow != nil {
		r.furthestAllowed(s, slot, start, d)
		return
	}
	found := r.found(s)
	for i := found.next(0); i >= 0; i = found.next(i + 1) {
		if !d.passes(r.within(&s.index.hurdles[i])) && !d.passes(r.reach(s, i)) {
			v := r.lost(s, i, slot, start, false)
			d.note(&v)
		}
	}
	most := depth(Failed, StageNone)
	if r.heldBy(s.index.held) >= 0 {
		most = depth(HeldOut, StageNone)
	}
	for k := range s.index.classes {
		c := &s.index.classes[k]
		bound := min(r.bound(c), most)
		for w := range c.members {
			for open := c.members[w] &^ found[w]; open != 0 && !d.passes(bound); open &= open - 1 {
				v := r.ruledOut(s, c, w<<6+bits.TrailingZeros64(open), slot, start)
				d.note(&v)
			}
		}
	}
}

// furthestAllowed is furthest where a request allows some offers alone: these are
// judged; of the others the first that is not out of date tells.
func (r *run) furthestAllowed(s *slab, slot int32, start mark, d *deepest) {
	for _, o := range r.req.Slots[slot].Allow {
		if !r.valid(o) {
			continue
		}
		for _, at := range r.p.places[r.p.placesFrom[o]:r.p.placesFrom[o+1]] {
			if &r.p.slabs[at.slab] == s {
				v := r.lost(s, int(at.index), slot, start, false)
				d.note(&v)
			}
		}
	}
	for i := range s.candidates {
		if d.passes(depth(BlockedByRequest, StageNone)) {
			break
		}
		v := r.lost(s, i, slot, start, false)
		d.note(&v)
	}
}

// reach is how deep a candidate can get by its rules, its consent and the
// blacklist: an upper bound.
func (r *run) reach(s *slab, i int) int {
	if reason, stage := r.ruleOut(s.candidates[i].offer); reason != ReasonNone {
		return depth(reason, stage)
	}
	d := &s.details[i]
	switch {
	case !r.allHold(s, d.consent):
		return depth(ConsentMissing, StageNone)
	case !r.allHold(s, d.black):
		return depth(Blacklisted, StageNone)
	}
	return depth(Failed, StageNone)
}

// bound is how deep a candidate of a class that the index has ruled out can get;
// of an exact class, how deep one gets that no earlier gate refuses.
func (r *run) bound(c *refusalClass) int {
	if c.stage == StageNone {
		return depth(ConsentMissing, StageNone)
	}
	if c.known != nil && (!c.exact || !c.known.Holds(r.row)) {
		return depth(ValueUnknown, c.stage)
	}
	return depth(Ineligible, c.stage)
}

// ruledOut judges a candidate that the index has ruled out.
func (r *run) ruledOut(s *slab, c *refusalClass, i int, slot int32, start mark) verdict {
	if !c.exact {
		return r.lost(s, i, slot, start, false)
	}
	if v := r.judgeEarly(s, i, slot); v.reason != ReasonNone {
		return v
	}
	v := refused(ConsentMissing)
	if c.stage != StageNone {
		v = refused([...]Reason{Ineligible, NotApplicable, NotSuitable}[c.stage-1])
		v.stage = c.stage
		if c.known != nil && !c.known.Holds(r.row) {
			v.reason = ValueUnknown
		}
	}
	return v
}

// judgeEarly judges what comes before the rules: the catalogue, what the request
// blocks, holdouts and experiments.
func (r *run) judgeEarly(s *slab, i int, slot int32) verdict {
	offer := s.candidates[i].offer
	if early := r.catalogue(offer); early != ReasonNone {
		return refused(early)
	}
	if r.blocked(slot, offer) {
		return refused(BlockedByRequest)
	}
	return r.judgeDraws(s, i)
}

// judgeDraws judges holdouts and what experiments exclude.
func (r *run) judgeDraws(s *slab, i int) verdict {
	if h := r.heldBy(s.details[i].holds); h >= 0 {
		v := refused(HeldOut)
		v.holdout = h
		return v
	}
	if change, by := r.change(s.candidates[i].offer, s.placement); change.exclude {
		v := refused(ExperimentExcluded)
		v.experiment = by
		return v
	}
	return refused(ReasonNone)
}
