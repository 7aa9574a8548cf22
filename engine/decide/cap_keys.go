package decide

import "tact/storage"

// keys appends the counters of a winner: those to hold, then those used at the
// grant, and notes them for the slots that follow.
func (r *run) keys(s *slab, index int, it *Item) {
	it.Hold, it.Grace = holdOther, graceDefault
	if pageChannel(s.channel) {
		it.Hold = holdPage
	}
	uses := spanOf(s.uses, s.details[index].uses)
	out := r.out
	it.FirstKey = int32(len(out.Keys))
	if r.keeping {
		it.Hold, it.Grace = r.left(r.own), r.own.Grace()
	} else {
		r.life(uses, it)
	}
	for i := range uses {
		u, last := &uses[i], after(r.at.Instant.Now, int64(it.Hold))
		if u.holds || u.kind == capDecision {
			out.work.moving = true
		}
		// It may happen in the second behind the last: the grant is rounded up to one.
		if u.holds && !r.keeping && !r.p.Caps[u.cap].early(after(last, 1)) {
			out.Keys = append(out.Keys, r.keyHeld(u, int64(it.Hold)))
			r.use(u, last)
		}
	}
	it.FirstDecisionKey = int32(len(out.Keys))
	it.KeyCount = it.FirstDecisionKey - it.FirstKey
	for i := range uses {
		if u := &uses[i]; u.kind == capDecision && !r.p.Caps[u.cap].early(r.at.Instant.Now) {
			out.Keys = append(out.Keys, r.keyHeld(u, 0))
			r.use(u, r.at.Instant.Now)
		}
	}
	it.DecisionKeyCount = int32(len(out.Keys)) - it.FirstDecisionKey
}

// keyHeld is the key of a use that may happen for hold seconds from now on: one of
// a total is counted in the window of the last of them.
func (r *run) keyHeld(u *capUse, hold int64) storage.HeldKey {
	c := &r.p.Caps[u.cap]
	if u.total {
		at := storage.UnixMsec(after(r.at.Instant.Now, hold)) * 1000
		if hold == 0 {
			at = r.at.Ms
		}
		if u.gap {
			return r.p.gapKey(c, u.key.Dim, at)
		}
		k := r.p.heldKey(c, u.key.Dim, at, nil)
		k.Cost = r.p.costs[u.cost]
		return k
	}
	if c.coarse != storage.CoarseCalendar { // no zone is looked at
		return r.p.heldKey(c, r.keyOf(u).Dim, r.at.Ms, nil)
	}
	return r.p.heldKey(c, r.keyOf(u).Dim, r.at.Ms, r.capZones(c))
}

func (r *run) use(u *capUse, at storage.UnixSec) {
	r.out.work.uses = append(r.out.work.uses, inUse{r.keyOf(u), at, units(r.p.costs[u.cost])})
}

// life sets the life of the item's one reservation: the shortest `hold` and the
// longest confirm grace of the caps it holds.
func (r *run) life(uses []capUse, it *Item) {
	hold, grace := int64(0), int64(0)
	for i := range uses {
		if u := &uses[i]; u.holds {
			c := r.p.Caps[u.cap].Def
			h := c.Hold
			if h <= 0 {
				h = int64(it.Hold)
			}
			if hold == 0 || h < hold {
				hold = h
			}
			grace = max(grace, c.ConfirmGrace)
		}
	}
	if hold != 0 {
		it.Hold, it.Grace = uint32(min(hold, 1<<31)), uint32(min(grace, 1<<31))
	}
}
