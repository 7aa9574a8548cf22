package engine

import (
	"cmp"
	"slices"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// Bounds of the totals that ContactState lists for no offer.
const (
	maxTotalsShown  = 1000
	maxTotalsLooked = 1 << 20 // pairs of an offer and a placement, for all totals together
)

// listTotals notes the totals to show where no offer is named: those that are used,
// by cap and dimension, then those that some offer could use.
func (s *stateReader) listTotals() {
	plan := s.snap.Plan
	seen := make(map[decide.Counter]bool, len(s.totals))
	for k := range s.totals {
		if i, ok := plan.CapByCounter(k.Cap); ok {
			k := decide.Counter{Cap: i, Dim: k.Dim}
			seen[k] = true
			s.listed = append(s.listed, k)
		}
	}
	slices.SortFunc(s.listed, func(a, b decide.Counter) int {
		return cmp.Or(cmp.Compare(a.Cap, b.Cap), cmp.Compare(a.Dim, b.Dim))
	})
	if s.truncated = len(s.listed) > maxTotalsShown; s.truncated {
		s.listed = s.listed[:maxTotalsShown]
		return
	}
	looked := 0
	for i := range plan.Caps {
		if plan.Caps[i].Scope == definition.ScopeTotal && !s.listUnused(int32(i), seen, &looked) {
			s.truncated = true
			return
		}
	}
}

// listUnused notes the counters of a total that nobody has used; false when the bounds
// do not let it look at all.
func (s *stateReader) listUnused(
	cap int32, seen map[decide.Counter]bool, looked *int,
) (whole bool) {
	plan := s.snap.Plan
	for offer := range plan.Offers {
		for p := range plan.Placements {
			if *looked++; *looked > maxTotalsLooked {
				return false
			}
			s.dims = plan.CapDims(s.dims[:0], cap, int32(offer), int32(p))
			for _, dim := range s.dims {
				k := decide.Counter{Cap: cap, Dim: dim}
				if seen[k] {
					continue
				}
				if len(s.listed) == maxTotalsShown {
					return false
				}
				seen[k] = true
				s.listed = append(s.listed, k)
			}
			if len(s.dims) > 0 && plan.Caps[cap].Per == definition.PerAll {
				return true
			}
		}
	}
	return true
}

// protected are the caps that are full for the person because what was used is not known.
func (s *stateReader) protected() (out []ProtectedView) {
	for i := range s.snap.Plan.Caps {
		if until, ok := s.protectedUntil(int32(i)); ok {
			out = append(out, ProtectedView{s.snap.Plan.Caps[i].ID, until})
		}
	}
	slices.SortFunc(out, func(a, b ProtectedView) int { return cmp.Compare(a.CapID, b.CapID) })
	return out
}

// protectedUntil is Plan.Protected with 0 for Never.
func (s *stateReader) protectedUntil(cap int32) (until storage.UnixSec, ok bool) {
	until, ok = s.snap.Plan.Protected(cap, &s.person, s.at, &s.result)
	if until == decide.Never {
		until = 0
	}
	return until, ok
}

// standIns are the uses that may have been lost and count now.
func (s *stateReader) standIns() (out []LostView) {
	anyOf := storage.CounterKey{} // which no cap has, so that no outcome has come for it
	s.person.Contact.EachStandIn(anyOf, s.at.Instant, func(p storage.StandIn) bool {
		out = append(out, LostView{StartedAt: p.Start, ExpiresAt: p.Until, InWindow: true})
		return true
	})
	return out
}

// ProtectedCaps is how many caps in force are full for everybody because the store was
// put back as it was earlier, judged for somebody without a zone; of a store that was
// not it is 0.
func (e *Engine) ProtectedCaps() int {
	snap := e.snap.Load()
	if snap == nil || e.store.Blind() == 0 {
		return 0
	}
	g := e.store.Group(0)
	g.Lock()
	now := e.clock.Now()
	at := decide.Moment{Ms: now, Instant: e.instant(g, now)}
	g.Unlock()
	var result decide.Result
	n := 0
	for i := range snap.Plan.Caps {
		if _, ok := snap.Plan.Protected(int32(i), &decide.Person{}, at, &result); ok {
			n++
		}
	}
	return n
}
