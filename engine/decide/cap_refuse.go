package decide

import (
	"tact/engine/definition"
	"tact/storage"
)

// capsAllow judges the caps of a candidate that would win, and notes the one
// that refuses it. next is where it stands, but for its tie. from is the length of
// out.Capped before the slot.
func (r *run) capsAllow(s *slab, slot int32, next rankOf, from int) bool {
	uses := spanOf(s.uses, s.details[next.index].uses)
	v := r.suppressing(uses, r.out.work.uses)
	if v.cap < 0 && r.needsPerson(uses) {
		r.out.work.moving = true
		return false
	}
	if v.cap < 0 {
		v = r.refusing(uses, r.out.work.uses)
	}
	if v.cap < 0 && !r.over.NoReserve {
		return true
	}
	r.out.work.moving = true
	if v.cap < 0 {
		return false
	}
	out, offer := r.out, s.candidates[next.index].offer
	if !r.req.Explain && len(out.Capped) >= MaxCapped {
		return false
	}
	for _, c := range out.Capped[from:] {
		if c.Cap == v.cap && c.Offer == offer {
			return false
		}
	}
	next.tie = r.tie(s, next.index)
	out.Capped = append(out.Capped, Capped{Slot: slot, Cap: v.cap, Offer: offer, Until: v.until})
	out.work.capped = append(out.work.capped, next)
	return false
}

// dropOutranked brings the caps noted while one winner was looked for, from position
// at on, into the order of the candidates, and removes those whose offer would not
// have ranked above the winner anyway.
func (r *run) dropOutranked(s *slab, at int, win *winner) {
	ranks := r.out.work.capped
	for i := range ranks {
		for k := i; k > 0 && ranks[k].index < ranks[k-1].index; k-- {
			ranks[k], ranks[k-1] = ranks[k-1], ranks[k]
			noted := r.out.Capped[at:]
			noted[k], noted[k-1] = noted[k-1], noted[k]
		}
	}
	if win.index < 0 || len(ranks) == 0 {
		return
	}
	tie := r.tie(s, win.index)
	offer := s.candidates[win.index].offer
	kept := r.out.Capped[:at]
	for i, c := range r.out.Capped[at:] {
		above := ranks[i].score > win.score || ranks[i].score == win.score &&
			(ranks[i].tie > tie || ranks[i].tie == tie && c.Offer < offer)
		if above {
			kept = append(kept, c)
		}
	}
	r.out.Capped = kept
}

// needsPerson tells whether nobody is there to count for: a person without an
// id gets no offer that would read or write a counter of a person, nor one that
// must hold a unit of a total, which a person's reservation carries. A cap of an
// identity or device refuses a request that names none.
func (r *run) needsPerson(uses []capUse) bool {
	nobody := !r.who.HasID || r.who.Full
	for i := range uses {
		u := &uses[i]
		switch {
		case nobody && (!u.total || u.holds || u.kind == capDecision),
			u.scope == definition.ScopeIdentity && r.who.IdentityKey == 0,
			u.scope == definition.ScopeDevice && r.who.DeviceKey == 0:
			return true
		}
	}
	return false
}

// refusal is a cap that refuses; cap -1: none does. until is when it would no longer,
// for any reason: its limit, its gap and its rejections, on all of its counters.
type refusal struct {
	cap    int32
	reason Reason
	until  storage.UnixSec
}

// suppressing finds the first cap whose counter is closed by rejections. in are the
// uses that picks of this request take.
func (r *run) suppressing(uses []capUse, in []inUse) refusal {
	for i := range uses {
		if uses[i].closes && r.closed(&uses[i]) != 0 {
			return refusal{uses[i].cap, Suppressed, r.passes(uses, i, false, in)}
		}
	}
	return refusal{cap: -1}
}

// closed returns when the rejections that close a counter end; 0 = none do.
func (r *run) closed(u *capUse) storage.UnixSec {
	c, now := &r.p.Caps[u.cap], r.at.Instant.Now
	blind := r.at.Instant.Blind(eventAhead)
	if !u.closes || r.emptyContact() && blind == 0 {
		return 0
	}
	var usage storage.Usage
	if !r.emptyContact() {
		key := r.keyOf(u)
		key.Cap = c.suppress.name
		usage = r.who.Contact.Count(key, 0, r.at.Instant.Certain())
	}
	if usage.N < c.suppress.after && blind == 0 || c.over(now) {
		return 0
	}
	until := after(blind, c.suppress.life)
	if usage.N >= c.suppress.after {
		until = max(until, after(usage.Latest, c.suppress.life))
	}
	if until > now {
		return c.ends(until)
	}
	return 0
}

// refusing finds the first cap that refuses, in the order of the gates: limits
// per person, limits across offers, totals; then gaps in the same order; inside each
// by cap id.
func (r *run) refusing(uses []capUse, in []inUse) refusal {
	for i := range uses {
		if u := &uses[i]; !u.gap && r.full(u, in) {
			return refusal{u.cap, r.p.Caps[u.cap].reason, r.passes(uses, i, true, in)}
		}
	}
	for i := range uses {
		if u := &uses[i]; r.gap(u, in) != 0 {
			return refusal{u.cap, MinGap, r.passes(uses, i, false, in)}
		}
	}
	return refusal{cap: -1}
}

// passes returns when the cap of a use would pass if nothing else happened. full: it
// is known that its counter has no room.
func (r *run) passes(uses []capUse, of int, full bool, in []inUse) storage.UnixSec {
	var at storage.UnixSec
	for i := range uses {
		u := &uses[i]
		if u.cap != uses[of].cap {
			continue
		}
		at = max(at, r.gap(u, in), r.closed(u))
		if !u.gap && (full && i == of || r.full(u, in)) {
			at = max(at, r.until(u, in))
		}
	}
	return at
}

// full tells whether a counter has no room for one more use.
func (r *run) full(u *capUse, in []inUse) bool {
	c := &r.p.Caps[u.cap]
	limit := r.limit(c)
	switch {
	case limit < 0, c.over(r.at.Instant.Now):
		return false
	case limit == 0:
		return true
	case u.total:
		return r.fullTotal(u, in) >= 0
	}
	key := r.keyOf(u)
	since := r.since(u.cap)
	n := count(in, key, since)
	if n >= limit || r.at.Instant.Blind(c.lifeMax) > since {
		return true
	}
	if r.emptyContact() {
		return false
	}
	if !r.keeping && r.usedUp.is(u, key) {
		return true
	}
	usage := r.usage(key, since, c)
	if !usage.Unknown && usage.N+n < limit && r.complete(c) <= since {
		return false
	}
	if !r.keeping && n == 0 {
		r.usedUp = usedUp{cap: u.cap + 1, key: key}
	}
	return true
}

// usedUp is a counter that is full without the uses of the request: where offers share
// one, as they do for a cap on all contacts, it refuses each of them, and is asked once.
// It holds for a run, which is of one person and one moment; more uses leave it full. It
// is not asked where a reservation is judged to be given again, which does not count.
type usedUp struct {
	cap int32 // 1 + the cap; 0: none is known
	key storage.CounterKey
	kth storage.UnixSec // of the limit-th latest use; 0: not looked for yet
}

func (f *usedUp) is(u *capUse, key storage.CounterKey) bool {
	return f.cap == u.cap+1 && f.key == key
}

// usage is what the store knows of a counter of the person, but for the reservation
// that is judged to be given again.
func (r *run) usage(key storage.CounterKey, since storage.UnixSec, c *Cap) storage.Usage {
	if r.keeping {
		return r.who.Contact.CountWithout(key, since, c.Instant(r.at.Instant), r.own.ID())
	}
	return r.who.Contact.Count(key, since, c.Instant(r.at.Instant))
}

// complete is the moment since which the counters of a cap know every use of the
// person; 0 = since ever. One `counts_from: history` knows them since its mark, and
// after a copy that is protected all know them since then.
func (r *run) complete(c *Cap) storage.UnixSec {
	blind := r.at.Instant.Blind(c.lifeMax)
	if c.history == 0 || r.emptyContact() {
		return blind
	}
	mark := storage.CounterKey{Cap: c.history}
	since := before(r.who.Contact.Count(mark, 0, r.at.Instant.Certain()).Latest, 1)
	return max(since, blind)
}

// fullTotal tells when a total without room has some again, as the conductor found
// it: 0 when that is not known, -1 when it has room.
func (r *run) fullTotal(u *capUse, in []inUse) int64 {
	if r.keeping && u.holds && r.own.Holds(u.key, true) {
		return -1 // it is its own unit
	}
	cost := r.p.costs[u.cost]
	for i, k := range r.over.FullTotals {
		if k == u.key && (i >= len(r.over.FullCost) || cost >= r.over.FullCost[i]) {
			if i < len(r.over.FullUntil) {
				return int64(r.over.FullUntil[i])
			}
			return 0
		}
	}
	for i := range r.over.Scarce {
		if s := &r.over.Scarce[i]; s.Key == u.key && taken(in, u.key)+units(cost) > s.Left {
			return 0
		}
	}
	return -1
}

// taken is what the picks of a request take of a total.
func taken(in []inUse, key storage.CounterKey) int64 {
	n := int64(0)
	for i := range in {
		if in[i].key == key {
			n += in[i].units
		}
	}
	return n
}

// units are what a use takes out of a total: its cost, or 1.
func units(cost uint64) int64 { return int64(max(cost, 1)) }

// count counts the uses of a counter after an instant.
func count(in []inUse, key storage.CounterKey, since storage.UnixSec) int {
	n := 0
	for i := range in {
		if in[i].key == key && in[i].at > since {
			n++
		}
	}
	return n
}

func (r *run) emptyContact() bool { return !r.who.Known || r.who.Contact.Empty() }

// gap returns when the cap's minimum gap since its latest use ends, or 0 when
// it has.
func (r *run) gap(u *capUse, in []inUse) storage.UnixSec {
	c, now := &r.p.Caps[u.cap], r.at.Instant.Now
	gap := c.MinGap
	switch {
	case u.gap:
		until := r.fullTotal(u, in)
		if until == 0 {
			until = int64(after(now, gap))
		}
		return c.ends(storage.UnixSec(max(until, 0)))
	case gap <= 0 || u.total || c.over(now):
		return 0
	}
	key := r.keyOf(u)
	var latest storage.UnixSec
	for i := range in {
		if in[i].key == key {
			latest = max(latest, in[i].at)
		}
	}
	if !r.emptyContact() {
		usage := r.usage(key, before(now, gap), c)
		latest = max(latest, usage.Latest)
		if usage.Unknown && latest == 0 {
			latest = now
		}
	}
	latest = max(latest, r.complete(c))
	if until := after(latest, gap); latest != 0 && until > now {
		return c.ends(until)
	}
	return 0
}

// before is at − seconds, at least 0; after is at + seconds, at most Never.
func before(at storage.UnixSec, seconds int64) storage.UnixSec {
	return storage.UnixSec(max(int64(at)-seconds, 0))
}

func after(at storage.UnixSec, seconds int64) storage.UnixSec {
	return storage.UnixSec(min(int64(at)+min(seconds, int64(Never)), int64(Never)))
}

// until is when a full counter has room again: when its limit-th latest use
// leaves the window.
func (r *run) until(u *capUse, in []inUse) storage.UnixSec {
	c, now := &r.p.Caps[u.cap], r.at.Instant.Now
	limit := r.limit(c)
	if u.total {
		for i := range r.over.Paced {
			if r.over.Paced[i].Key == u.key {
				return r.over.Paced[i].Until
			}
		}
	}
	switch {
	case c.Window.Until > 0:
		return clampSec(c.Window.Until)
	case limit == 0 || c.Window.Rolling == 0 && c.Window.Unit == definition.UnitNone:
		return Never
	case u.total:
		if until := r.fullTotal(u, in); until > 0 {
			return storage.UnixSec(until)
		}
		if c.Window.Rolling > 0 {
			return after(now, c.Window.Rolling) // what this very request has taken
		}
		return r.windowEnd(c, now)
	}
	key := r.keyOf(u)
	times := r.out.work.times[:0]
	for i := range in {
		if in[i].key == key {
			times = append(times, in[i].at)
		}
	}
	r.out.work.times = times
	at := storage.UnixSec(0)
	if kept := len(times) == 0 && r.usedUp.is(u, key); !kept || r.usedUp.kth == 0 {
		at = r.who.Contact.KthLatest(key, limit, c.Instant(r.at.Instant), times...)
		at = max(at, r.complete(c))
		if kept {
			r.usedUp.kth = at
		}
	} else {
		at = r.usedUp.kth
	}
	if c.Window.Rolling > 0 {
		return after(at, c.Window.Rolling)
	}
	if end := r.windowEnd(c, at); end > now {
		return end
	}
	return r.windowEnd(c, now)
}
