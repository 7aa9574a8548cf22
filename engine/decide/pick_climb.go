package decide

import "math/bits"

// maxLanes bounds the lanes of a slab: with more of them it is cheaper to look at
// the candidates one after the other.
const maxLanes = 8

// lane is candidates of one slab whose scores the same number of a person bounds:
// those with flagScored by the same attribute, or all without it. Inside a lane the
// bounds fall, whatever the person's number is.
type lane struct {
	operand operand // the attribute; not dynamic: the bounds hold as they are
	members bitset
}

// lanes parts the candidates of a slab, which are in their order, into lanes; none
// when there would be too many.
func (b *slabBuilder) lanes() {
	s := b.s
	s.lanes = nil
	var lanes []lane
	for i := range s.candidates {
		var by operand
		if c := &s.candidates[i]; c.flags&flagScored != 0 {
			by = b.c.plan.Offers[c.offer].propensity
		}
		k := 0
		for k < len(lanes) && lanes[k].operand != by {
			k++
		}
		if k == maxLanes {
			return
		}
		if k == len(lanes) {
			lanes = append(lanes, lane{operand: by, members: newBitset(len(s.candidates))})
		}
		lanes[k].members.add(int32(i))
	}
	s.lanes = lanes
}

// head is the next candidate of a lane.
type head struct {
	bound  float64 // no score of it, or of one behind it, is above; noBound: there is none
	factor float64 // of the lane
	at     int
}

// noBound is below the score that a winner begins with.
const noBound = -2

// seek moves the head to the lane's first candidate from one on that found names;
// found nil names all.
func (h *head) seek(s *slab, l *lane, found bitset, from int) {
	mask := ^uint64(0) << (uint(from) & 63)
	for word := from >> 6; word < len(l.members); word++ {
		open := l.members[word] & mask
		if found != nil {
			open &= found[word]
		}
		if open != 0 {
			h.at = word<<6 + bits.TrailingZeros64(open)
			h.bound = s.candidates[h.at].bound * h.factor
			return
		}
		mask = ^uint64(0)
	}
	h.bound = noBound
}

// factor is what the bounds of a lane are to be multiplied with for this person,
// with a margin for how products round: see outbid.
func (r *run) factor(l *lane) float64 {
	if !l.operand.dynamic {
		return 1
	}
	switch p := r.attribute(&l.operand); {
	case p >= leastFactor && p <= 1:
		return p * (1 + 1e-12)
	case p > 0 && p < leastFactor:
		return 1
	}
	return 0 // what is not a propensity counts as 0, and so does its product
}

// climb finds the best candidate that may be picked now by looking at candidates
// in falling order of what their scores are bounded by for this person, over all
// lanes. false: more caps have refused than the result notes, and which of them it
// notes follows from the order of a scan.
//
// Cost: candidates whose bound is above the winner's score, and for each of them a
// look at every lane.
func (r *run) climb(s *slab, slot int32, before mark, win *winner) bool {
	var room [maxLanes]head
	heads := room[:len(s.lanes)]
	for k := range heads {
		heads[k].factor = r.factor(&s.lanes[k])
		heads[k].seek(s, &s.lanes[k], nil, 0)
	}
	var found bitset
	for looked := 0; ; looked++ {
		if looked == s.plain && s.index != nil {
			found = r.found(s)
			for k := range heads {
				if heads[k].bound != noBound {
					heads[k].seek(s, &s.lanes[k], found, heads[k].at)
				}
			}
		}
		top := 0
		for k := 1; k < len(heads); k++ {
			if heads[k].bound > heads[top].bound {
				top = k
			}
		}
		h := &heads[top]
		if h.bound < win.score {
			return true
		}
		i := h.at
		h.seek(s, &s.lanes[top], found, i+1)
		c := &s.candidates[i]
		if r.row[c.word]&c.mask == c.want && !r.challenge(s, slot, i, before, win) &&
			len(r.out.Capped) >= MaxCapped {
			return false
		}
	}
}
