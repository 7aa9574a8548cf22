package decide

import (
	"cmp"

	"tact/storage"
)

// keep gives the slot of a sticky placement what open reservations of it hold,
// oldest first, and returns how many items that made. An offer is given again with
// its reservation when every gate would let it pass if the reservation were not
// there, and the reservation holds a use of every counter that giving the offer
// anew would: then no counter has a use less than it should. Uses counted on the
// decision are taken anew.
//
// Cost: one pass over the person's open reservations, and the slow judgement of
// those that were made here.
func (r *run) keep(s *slab, slot int32, count int) int {
	if !r.p.Placements[s.placement].Sticky || r.emptyContact() || r.over.NoReserve {
		return 0
	}
	n := 0
	r.who.Contact.EachReservation(func(h storage.Held) bool {
		r.out.work.moving = true
		i := r.keepable(s, h)
		if i < 0 || !r.keptPasses(s, i, h, slot) {
			return true
		}
		win := winner{index: i}
		var change offerChange
		c := &s.candidates[i]
		if c.flags&flagTouched != 0 {
			change, _ = r.change(c.offer, s.placement)
		}
		win.score, win.propensity = c.score, s.details[i].factors.stated
		if c.flags&flagDynamic != 0 || change.hasLever {
			win.score, win.propensity = r.score(s, i, &change)
		}
		n++
		r.own, r.keeping = h, true
		r.give(s, slot, n, &win)
		r.keeping = false
		r.out.work.kept = append(r.out.work.kept, h.ID())
		return n < count
	})
	return n
}

// keepable returns the candidate of the slab that an open reservation is of, when
// the reservation was made at this placement, has time left, and no item of this
// request has it; else -1.
func (r *run) keepable(s *slab, h storage.Held) int {
	if h.Placement() != r.p.Placements[s.placement].Name || !h.Live(r.at.Instant) ||
		r.left(h) == 0 {
		return -1
	}
	for _, id := range r.out.work.kept {
		if id == h.ID() {
			return -1
		}
	}
	offer, ok := r.p.offerNames[h.Offer()]
	if !ok {
		return -1
	}
	for _, at := range r.p.places[r.p.placesFrom[offer]:r.p.placesFrom[offer+1]] {
		if &r.p.slabs[at.slab] == s {
			return int(at.index)
		}
	}
	return -1
}

// left is what is left of a reservation's life, in seconds; 0: nothing.
func (r *run) left(h storage.Held) uint32 {
	return uint32(max(int64(h.Expires())-secondUp(r.at.Ms), 0))
}

// keptPasses tells whether the slot may be given a candidate again with its
// reservation.
func (r *run) keptPasses(s *slab, i int, h storage.Held, slot int32) bool {
	c := &s.candidates[i]
	switch {
	case r.catalogue(c.offer) != ReasonNone,
		r.filtered && r.out.work.skip.has(c.offer) || r.out.work.taken.has(c.offer),
		r.req.Dedupe == DedupeOfferGroup && r.groupTaken(c.offer, len(r.out.Items)),
		!r.allHold(s, s.details[i].reach):
		return false
	}
	return r.passesWithout(s, i, h, GatesAll)
}

// keeps tells whether some open reservation of a sticky placement lets a candidate
// pass the gates.
func (r *run) keeps(s *slab, i int, gates Gates) bool {
	if !r.p.Placements[s.placement].Sticky || r.emptyContact() {
		return false
	}
	found := false
	r.who.Contact.EachReservation(func(h storage.Held) bool {
		found = r.keepable(s, h) == i && r.passesWithout(s, i, h, gates)
		return !found
	})
	return found
}

// passesWithout tells whether the gates let a candidate pass if its reservation
// were not there, and the reservation holds all that the candidate would.
func (r *run) passesWithout(s *slab, i int, h storage.Held, gates Gates) bool {
	uses := spanOf(s.uses, s.details[i].uses)
	for k := range uses {
		u := &uses[k]
		if key := r.keyOf(u); u.holds && !h.Holds(key, u.total) {
			return false
		}
	}
	r.own, r.keeping = h, true
	v := r.judgeOffer(s, i, gates, r.out.work.uses)
	r.keeping = false
	return v.reason == ReasonNone
}

// order brings the items of a slot from one on into the order of ranking, after
// some of them were kept.
func (r *run) order(s *slab, first int) {
	items := r.out.Items[first:]
	for i := 1; i < len(items); i++ {
		for k := i; k > 0 && r.before(s, &items[k], &items[k-1]); k-- {
			items[k], items[k-1] = items[k-1], items[k]
		}
	}
	for i := range items {
		items[i].Rank = i + 1
	}
}

// before tells whether an item stands before another: the greater score, then the
// greater hash, then the smaller offer.
func (r *run) before(s *slab, a, b *Item) bool {
	if a.Score != b.Score {
		return a.Score > b.Score
	}
	c := cmp.Compare(r.tieOf(s, a.Offer), r.tieOf(s, b.Offer))
	return c > 0 || c == 0 && a.Offer < b.Offer
}

// tieOf is the tie hash of an offer of the slab.
func (r *run) tieOf(s *slab, offer int32) uint64 {
	for _, at := range r.p.places[r.p.placesFrom[offer]:r.p.placesFrom[offer+1]] {
		if &r.p.slabs[at.slab] == s {
			return r.tie(s, int(at.index))
		}
	}
	return 0
}
