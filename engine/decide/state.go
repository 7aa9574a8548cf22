package decide

import (
	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// CounterState is how one counter of a cap stands for one person.
type CounterState struct {
	Limit  int           // for this person; of a total for everybody
	Usage  storage.Usage // uses in the window that holds now; not of a total
	Reason Reason        // ReasonNone: one more use would be granted
	Until  storage.UnixSec
}

// Counter names one counter of a cap of the plan. Dim is the dimension that the store
// keeps, so that of an identity or device is mixed with it already.
type Counter struct {
	Cap int32
	Dim uint32
}

// CounterState judges one counter of a cap as Pick would, alone. A total is judged
// by over.FullTotals. out gives memory.
func (p *Plan) CounterState(
	k Counter, who *Person, at Moment, over *Overlay, out *Result,
) CounterState {
	cap, dim := k.Cap, k.Dim
	c := &p.Caps[cap]
	out.Reset()
	w := &out.work
	w.sinceSet = resize(w.sinceSet, len(p.Caps))
	if len(w.since) < len(p.Caps) {
		w.since = make([]storage.UnixSec, len(p.Caps))
	}
	if over == nil {
		over = &w.none
	}
	r := run{p: p, who: who, at: &at, over: over, out: out}
	uses := []capUse{{
		key: storage.CounterKey{Cap: c.Counter, Dim: dim}, cap: cap, kind: c.kind,
		total: c.Scope == definition.ScopeTotal, closes: c.suppress.name != 0,
	}}
	if c.gapName != 0 {
		gap := uses[0]
		gap.key.Cap, gap.gap = c.gapName, true
		uses = append(uses, gap)
	}
	s := CounterState{Limit: r.limit(c)}
	if !uses[0].total && !r.emptyContact() {
		s.Usage = who.Contact.Count(uses[0].key, r.since(cap), c.Instant(at.Instant))
	}
	v := r.suppressing(uses, nil)
	if v.cap < 0 {
		v = r.refusing(uses, nil)
	}
	if v.cap >= 0 {
		s.Reason, s.Until = v.reason, v.until
	}
	return s
}

// Since is the moment after which a use lies in the window of a cap now.
func (p *Plan) Since(cap int32, who *Person, at Moment, out *Result) storage.UnixSec {
	out.work.sinceSet = resize(out.work.sinceSet, len(p.Caps))
	if len(out.work.since) < len(p.Caps) {
		out.work.since = make([]storage.UnixSec, len(p.Caps))
	}
	r := run{p: p, who: who, at: &at, out: out}
	return r.since(cap)
}

// Instant is the moment at which a cap's counters are read. Only on those that count
// contacts may the use of a reservation count that was lost.
func (c *Cap) Instant(t storage.Instant) storage.Instant {
	if c.CountOn&definition.CountContacts == 0 {
		return t.Certain()
	}
	return t
}

// KnownSince is the moment up to which a cap `counts_from: history` does not know
// the person's uses; 0 = it knows all.
func (p *Plan) KnownSince(c *Cap, who *Person, at Moment) storage.UnixSec {
	r := run{p: p, who: who, at: &at}
	return r.complete(c)
}

// Protected tells whether every counter of a cap is full for a person because the
// store was put back as it was earlier and what was used since is not known, and until
// when for that: see Plan.Blind. Never: as long as the cap is. A total is so for everybody.
func (p *Plan) Protected(
	cap int32, who *Person, at Moment, out *Result,
) (until storage.UnixSec, ok bool) {
	c := &p.Caps[cap]
	if c.Scope == definition.ScopeTotal {
		return p.TotalBlind(c.Counter, at.Ms)
	}
	blind := at.Instant.Blind(c.lifeMax)
	if c.over(at.Instant.Now) || blind <= p.Since(cap, who, at, out) {
		return 0, false
	}
	r := run{p: p, who: who, at: &at, out: out}
	switch {
	case c.Window.Until > 0:
		return clampSec(c.Window.Until), true
	case c.Window.Rolling > 0:
		return after(blind, c.Window.Rolling), true
	case c.Window.Unit == definition.UnitNone:
		return Never, true
	}
	return max(r.windowEnd(c, blind), r.windowEnd(c, at.Instant.Now)), true
}

// CapDims appends the dimensions of the counters that a cap keeps for an offer on
// the placement, before an identity or device is mixed in. None when it does not
// bind.
func (p *Plan) CapDims(dst []uint32, cap, offer, placement int32) []uint32 {
	c, ch := &p.Caps[cap], p.Placements[placement].Channel
	if !p.applies(c, offer, ch, placement) {
		return dst
	}
	for k := range p.dimensions(c, offer) {
		if dim, ok := p.dimension(c, offer, ch, placement, k); ok {
			dst = append(dst, dim)
		}
	}
	return dst
}

// SuppressName is the name of the counter of a cap's rejections; 0 = none.
func (c *Cap) SuppressName() storage.Name { return c.suppress.name }

// GapName is the name of the counter of a total's minimum gap; 0 = none.
func (c *Cap) GapName() storage.Name { return c.gapName }

// QuietState is how one set of quiet hours stands for one person.
type QuietState struct {
	Binds  bool            // the person is one of those it is for
	Reason Reason          // QuietHoursNow, TimezoneUnknown, or ReasonNone: it is open
	Until  storage.UnixSec // when it opens of itself; Never when that is not in sight
}

// QuietState judges one set of Plan.Quiet for a person as Pick would, alone; of one
// whose segment asks for the placement, at the first placement where it binds. who.Bits
// hold every page, and words are those of the request that is supposed. out gives
// memory.
func (p *Plan) QuietState(
	set int, who *Person, words []uint64, at Moment, out *Result,
) QuietState {
	out.Reset()
	w := &out.work
	w.asked = Request{Words: words}
	w.row = rule.MakeRow(w.row, who.Bits, uint32(1<<p.Program.Pages()-1), words)
	r := run{p: p, req: &w.asked, who: who, at: &at, out: out, row: w.row}
	q := &p.Quiet[set]
	for i := 0; p.slotQuiet&(1<<set) != 0 && i < len(p.Placements); i++ {
		if q.On(int32(i)) && q.channels&(1<<p.Placements[i].Channel) != 0 {
			r.enter(int32(i))
			if r.bindsPerson(q) {
				break
			}
		}
	}
	s := QuietState{Reason: r.quiet(1 << set)}
	s.Binds = r.quietBinds != 0
	if s.Reason != ReasonNone {
		s.Until = r.quietUntil(1 << set)
	}
	return s
}

// Of tells whether the set is for an offer, of its class, anywhere.
func (q *Quiet) Of(o int32, class definition.MessageClass) bool {
	return q.offers.has(o) && q.classes&(1<<class) != 0
}

// Channels are those on which the set holds, bit per channel.
func (q *Quiet) Channels() uint16 { return q.channels }

// Classes are the message classes that the set binds, bit per class.
func (q *Quiet) Classes() uint8 { return q.classes }

// Everywhere tells whether the set names no placements.
func (q *Quiet) Everywhere() bool { return q.placements == nil }

// On tells whether the set holds at a placement.
func (q *Quiet) On(placement int32) bool {
	return q.placements == nil || q.placements.has(placement)
}
