package decide

import (
	"encoding/binary"
	"time"

	"github.com/zeebo/xxh3"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// work is the scratch of Pick, kept in the Result so that Pick allocates nothing.
type work struct {
	row      []uint64          // of rule.MakeRow
	skip     bitset            // offers not to be looked at for this slot
	taken    bitset            // offers picked before
	picked   []int32           // members of taken, and some that were
	found    bitset            // what an index found: see run.found
	since    []storage.UnixSec // per cap: start of its window, exclusive
	sinceSet bitset
	// By operand.scored: the attributes of the person that scores have asked for.
	scored    []float64
	scoredSet bitset
	places    storage.AttrPlaces
	variants  []int16 // per experiment: its variant, variantNone or variantOpen
	reported  bitset  // experiments already in Assignments
	uses      []inUse // uses of the picks of this request
	times     []storage.UnixSec
	capped    []rankOf
	kept      []storage.ReservationID // that items of this request are given again with
	unit      []byte                  // of a number in the context
	moving    bool                    // a cap refuses, or a counter or reservation is in the picks
	clocked   bool                    // quiet hours were judged
	none      Overlay                 // stays empty: what a nil overlay stands for
	judged    Overlay                 // of Judge
	asked     Request                 // of Judge
}

const (
	variantOpen int16 = -2 // not judged yet
	variantNone int16 = -1 // the person is not in
)

// inUse is a use that a pick of this very request takes.
type inUse struct {
	key   storage.CounterKey
	at    storage.UnixSec
	units int64 // of a total: see storage.HeldKey.Units
}

// rankOf is where a capped candidate stood.
type rankOf struct {
	score float64
	tie   uint64
	index int // of the candidate
}

// run is one Pick.
type run struct {
	p        *Plan
	req      *Request
	who      *Person
	at       *Moment
	over     *Overlay
	out      *Result
	row      []uint64
	entered  int32  // 1 + the placement whose bits are in row; 0: none
	filtered bool   // skip is in use for this slot
	indexed  *slab  // whose index filled found
	held     uint64 // holdouts the person is in
	heldSet  uint64 // holdouts that were judged
	zone     [1]*time.Location
	own      storage.Held // the reservation that is judged to be given again
	keeping  bool         // there is one

	// Quiet hours, a bit per Plan.Quiet: judged, binding the person, refusing now.
	quietSet, quietBinds, quietNow uint64
	// What quietUntil said last, and of which.
	quietMask uint64
	quietOpen storage.UnixSec

	usedUp usedUp // the counter that was found full last
}

// winner is the best candidate of a scan so far.
type winner struct {
	index      int
	score      float64
	propensity float64
}

// Pick fills every slot of the request, in the caller's order; later slots see
// the uses and offers of earlier ones. It is pure: equal arguments give an
// equal out. It applies nothing: the conductor holds and uses the keys.
//
// Slots with an index outside the plan, and every slot when who.Bits or Words is
// shorter than the program needs, get SlotNone with reason error.
//
// out.Capped names, for each slot, the caps that kept an offer from the slot:
// of the offers that would have ranked above its last item, or of all when it
// has none; at most MaxCapped without Explain.
//
// Cost: one comparison of words for each candidate whose bound for this person is above
// the best score, see climb; cap look-ups only for candidates that would win. Count
// items cost count looks. No allocation once out has grown.
func (p *Plan) Pick(req *Request, who *Person, at *Moment, over *Overlay, out *Result) {
	out.Reset()
	if over == nil {
		over = &out.work.none
	}
	r := run{p: p, req: req, who: who, at: at, over: over, out: out}
	if !r.prepare(p.Pages(req.Slots)) {
		for range req.Slots {
			out.Slots = append(out.Slots, SlotResult{Reason: Failed, Policy: -1})
		}
		return
	}
	for i := range req.Slots {
		r.slot(int32(i))
	}
}

// prepare sizes the scratch; false when the request cannot be judged. pages are
// those of the person's bits that will be read.
func (r *run) prepare(pages uint32) bool {
	p, w := r.p, &r.out.work
	if len(r.who.Bits) < p.Program.Pages()*rule.PageWords ||
		len(r.req.Words) < p.Program.RequestWords {
		return false
	}
	w.row = rule.MakeRow(w.row, r.who.Bits, pages, r.req.Words)
	r.row = w.row
	for _, o := range w.picked {
		w.taken.drop(o)
	}
	w.picked = w.picked[:0]
	w.skip = grow(w.skip, len(p.Offers))
	w.taken = grow(w.taken, len(p.Offers))
	w.sinceSet = resize(w.sinceSet, len(p.Caps))
	w.reported = resize(w.reported, len(p.Experiments))
	w.scoredSet = resize(w.scoredSet, p.scored)
	if cap(w.scored) < p.scored {
		w.scored = make([]float64, p.scored)
	}
	w.scored = w.scored[:p.scored]
	if cap(w.since) < len(p.Caps) {
		w.since = make([]storage.UnixSec, len(p.Caps))
	}
	w.since = w.since[:len(p.Caps)]
	w.variants = w.variants[:0]
	for range p.Experiments {
		w.variants = append(w.variants, variantOpen)
	}
	w.uses, w.capped, w.kept = w.uses[:0], w.capped[:0], w.kept[:0]
	w.moving, w.clocked = false, false
	return true
}

// grow returns a bitset for n members over the memory of b, which is empty to its
// capacity.
func grow(b bitset, n int) bitset {
	words := (n + 63) / 64
	if cap(b) < words {
		return make(bitset, words)
	}
	return b[:words]
}

// resize returns an empty bitset for n members over the memory of b.
func resize(b bitset, n int) bitset {
	words := (n + 63) / 64
	if cap(b) < words {
		return make(bitset, words)
	}
	b = b[:words]
	clear(b)
	return b
}

// slot fills one slot.
func (r *run) slot(i int32) {
	out, ask := r.out, &r.req.Slots[i]
	s := r.slab(ask)
	if s == nil {
		reason := Failed
		if ask.Placement >= 0 && int(ask.Placement) < len(r.p.Placements) && ask.Policy == -1 {
			reason = Inactive // a placement without a policy
		}
		out.Slots = append(out.Slots, SlotResult{
			First: int32(len(out.Items)), Reason: reason,
			Policy: -1,
		})
		return
	}
	r.report(s, ask)
	before := mark{items: len(out.Items), uses: len(out.work.uses), capped: len(out.Capped)}
	r.filter(i, ask)
	count := ask.Count
	if count <= 0 {
		count = r.p.Placements[ask.Placement].Count
	}
	count = min(max(count, 1), MaxCount)
	kept := r.keep(s, i, count)
	for rank := kept + 1; rank <= count && r.best(s, i, rank, before); rank++ {
	}
	if kept > 0 {
		r.order(s, before.items)
	}
	out.Slots = append(out.Slots, SlotResult{})
	res := &out.Slots[len(out.Slots)-1]
	res.First, res.Policy = int32(before.items), s.policy
	res.Count = int32(len(out.Items) - before.items)
	if res.Count > 0 && !r.req.Explain {
		res.Kind = SlotItems
	} else {
		r.conclude(s, i, before, count, res)
	}
	r.unfilter(s, before.items)
}

// conclude ends a slot that has no item yet, or whose candidates are explained: with
// the fallback, or a reason. wanted is how many items it was to have.
func (r *run) conclude(s *slab, slot int32, before mark, wanted int, res *SlotResult) {
	fallen := refused(ReasonNone) // the verdict on the fallback
	switch {
	case res.Count > 0:
		res.Kind = SlotItems
	case s.fallback.offer >= 0:
		if fallen = r.judgeFallback(s, slot); fallen.reason == ReasonNone {
			r.giveFallback(s, slot)
			res.Kind, res.Count = SlotFallback, 1
		}
	}
	if r.req.Explain || res.Kind == SlotNone {
		full := int(res.Count) == wanted && res.Kind == SlotItems
		reason, until := r.reasons(s, slot, before, full, fallen)
		if res.Kind == SlotNone {
			res.Reason, res.Until = reason, until
		}
	}
}

// mark is the length of the result's slices before a slot.
type mark struct{ items, uses, capped int }

// slab finds the slab of a slot: the policy asked for, else the placement's
// after experiments. nil: an index outside the plan, or no policy.
func (r *run) slab(ask *SlotRequest) *slab {
	p := r.p
	if ask.Placement < 0 || int(ask.Placement) >= len(p.Placements) ||
		ask.Policy < -1 || int(ask.Policy) >= len(p.Policies) {
		return nil
	}
	r.enter(ask.Placement)
	policy := ask.Policy
	if policy == -1 {
		policy = r.policy(ask.Placement)
	}
	if policy < 0 {
		return nil
	}
	at := p.slabOf[int(ask.Placement)*len(p.Policies)+int(policy)]
	if at < 0 {
		return nil
	}
	return &p.slabs[at]
}

// filter gathers the offers that this slot may not pick into skip.
func (r *run) filter(slot int32, ask *SlotRequest) {
	skip := r.out.work.skip
	r.filtered = ask.Allow != nil || len(ask.Block) > 0 || len(r.over.Excluded) > 0 ||
		len(r.over.Stopped) > 0
	if !r.filtered {
		return
	}
	if ask.Allow != nil {
		for i := range skip {
			skip[i] = ^uint64(0)
		}
		for _, o := range ask.Allow {
			if r.valid(o) {
				skip.drop(o)
			}
		}
	}
	for _, o := range ask.Block {
		if r.valid(o) {
			skip.add(o)
		}
	}
	for _, o := range r.over.Stopped {
		if r.valid(o) {
			skip.add(o)
		}
	}
	for _, e := range r.over.Excluded {
		if e.Slot == slot && r.valid(e.Offer) {
			skip.add(e.Offer)
		}
	}
}

func (r *run) valid(offer int32) bool { return offer >= 0 && int(offer) < len(r.p.Offers) }

// unfilter empties skip, and with DedupeNone forgets the picks of this slot.
func (r *run) unfilter(s *slab, firstItem int) {
	if r.filtered {
		clear(r.out.work.skip)
		r.filtered = false
	}
	if r.req.Dedupe == DedupeNone {
		for _, it := range r.out.Items[firstItem:] {
			r.out.work.taken.drop(it.Offer)
		}
	}
}

// best finds the best candidate that may be picked now and appends it.
func (r *run) best(s *slab, slot int32, rank int, before mark) bool {
	win := winner{index: -1, score: -1}
	cappedAt := len(r.out.Capped)
	r.out.work.capped = r.out.work.capped[:0]
	if s.index != nil && r.heldBy(s.index.held) >= 0 {
		return false
	}
	if s.lanes == nil || r.req.Explain || !r.climb(s, slot, before, &win) {
		r.out.Capped, r.out.work.capped = r.out.Capped[:cappedAt], r.out.work.capped[:0]
		win = winner{index: -1, score: -1}
		r.scan(s, slot, before, &win)
	}
	r.dropOutranked(s, cappedAt, &win)
	if win.index < 0 {
		return false
	}
	r.give(s, slot, rank, &win)
	return true
}

// scan looks at the candidates one after the other, until no bound is above the
// winner's score.
func (r *run) scan(s *slab, slot int32, before mark, win *winner) {
	row := r.row
	for i := 0; i < len(s.candidates); i++ {
		if i >= s.plain && s.index != nil {
			if i = r.found(s).next(i); i < 0 {
				return
			}
		}
		c := &s.candidates[i]
		if c.bound < win.score {
			return
		}
		if row[c.word]&c.mask != c.want {
			continue
		}
		if c.flags&flagScored != 0 && r.outbid(c, win.score) {
			continue
		}
		r.challenge(s, slot, i, before, win)
	}
}

// challenge judges a candidate whose first term holds, and puts it in the winner's
// place when it may be picked and is better. false: a cap refused it.
func (r *run) challenge(s *slab, slot int32, i int, before mark, win *winner) bool {
	c := &s.candidates[i]
	if r.filtered && r.out.work.skip.has(c.offer) || r.out.work.taken.has(c.offer) {
		return true
	}
	if r.who.Listed != 0 && s.details[i].black.count > 0 && r.listed(s) {
		return true
	}
	var change offerChange
	if c.flags&flagsAccept != 0 && !r.accepts(s, i, &change) {
		return true
	}
	score, propensity := c.score, s.details[i].factors.stated
	if c.flags&flagDynamic != 0 || change.hasLever {
		score, propensity = r.score(s, i, &change)
	}
	if score < win.score || score == win.score && !r.tieWins(s, i, win) {
		return true
	}
	if r.req.Dedupe == DedupeOfferGroup && r.groupTaken(c.offer, len(r.out.Items)) {
		return true
	}
	if c.flags&flagCaps != 0 && !r.capsAllow(s, slot, rankOf{score: score, index: i}, before.capped) {
		return false
	}
	win.index, win.score, win.propensity = i, score, propensity
	return true
}

// accepts makes the checks that flags ask for, and says what experiments change of
// the offer.
func (r *run) accepts(s *slab, i int, change *offerChange) bool {
	c := &s.candidates[i]
	if c.flags&flagTerms != 0 && !r.holds(s, c) {
		return false
	}
	if c.flags&flagDates != 0 && r.dates(c.offer) != ReasonNone {
		return false
	}
	if c.flags&flagHolds != 0 && r.heldBy(s.details[i].holds) >= 0 {
		return false
	}
	if c.flags&flagTouched != 0 {
		if *change, _ = r.change(c.offer, s.placement); change.exclude {
			return false
		}
	}
	return c.flags&flagQuiet == 0 || r.quiet(s.details[i].quiet) == ReasonNone
}

// holds judges the terms and choices behind the first term.
func (r *run) holds(s *slab, c *candidate) bool {
	if !r.allHold(s, c.terms) {
		return false
	}
	for i := range spanOf(s.choices, c.choices) {
		ch := s.choices[int(c.choices.first)+i]
		one := false
		for _, a := range spanOf(s.alternatives, ch) {
			if r.allHold(s, a) {
				one = true
				break
			}
		}
		if !one {
			return false
		}
	}
	return true
}

func (r *run) allHold(s *slab, terms span) bool {
	for i := terms.first; i < terms.first+terms.count; i++ {
		t := &s.terms[i]
		if r.row[t.Word]&t.Mask != t.Want {
			return false
		}
	}
	return true
}

// dates judges the offer's own dates.
func (r *run) dates(offer int32) Reason {
	o := &r.p.Offers[offer]
	switch ms := int64(r.at.Ms); {
	case o.StartMs != 0 && ms < o.StartMs:
		return NotStarted
	case o.EndMs != 0 && ms >= o.EndMs:
		return Expired
	}
	return ReasonNone
}

// score computes the score of a candidate that is not static.
func (r *run) score(s *slab, i int, change *offerChange) (score, propensity float64) {
	c, f := &s.candidates[i], &s.details[i].factors
	if r.p.Policies[s.policy].Def.By == definition.RankOrder {
		return c.score, r.stated(c.offer, f)
	}
	lever := f.lever
	if change.hasLever {
		lever = power(change.lever, f.exponents.lever)
	}
	return r.dynamic(&r.p.Offers[c.offer], f, lever)
}

// stated is the propensity an item reports when its score does not use it.
func (r *run) stated(offer int32, f *factors) float64 {
	_, propensity := r.dynamic(&r.p.Offers[offer], f, f.lever)
	return propensity
}

// tieWins breaks a tie of scores: the greater hash of (person; placement,
// offer, policy) wins, then the smaller offer id. The same person sees the same
// order until the candidates change.
func (r *run) tieWins(s *slab, next int, win *winner) bool {
	if win.index < 0 {
		return true
	}
	a, b := r.tie(s, next), r.tie(s, win.index)
	return a > b || a == b && s.candidates[next].offer < s.candidates[win.index].offer
}

func (r *run) tie(s *slab, index int) uint64 {
	return xxh3.HashSeed(r.who.ID, s.details[index].tie)
}

// take keeps an offer from being picked again in this request.
func (r *run) take(offer int32) {
	r.out.work.taken.add(offer)
	r.out.work.picked = append(r.out.work.picked, offer)
}

// groupTaken tells whether one of the first n items has the offer's group.
func (r *run) groupTaken(offer int32, n int) bool {
	group := r.p.Offers[offer].Group
	if group == 0 {
		return false
	}
	for _, it := range r.out.Items[:n] {
		if r.p.Offers[it.Offer].Group == group {
			return true
		}
	}
	return false
}

// give appends the winner with its keys; where a reservation is kept, with that.
func (r *run) give(s *slab, slot int32, rank int, win *winner) {
	c := &s.candidates[win.index]
	r.out.Items = append(r.out.Items, Item{})
	it := &r.out.Items[len(r.out.Items)-1]
	it.Slot, it.Offer, it.Treatment, it.Rank = slot, c.offer, c.treatment, rank
	it.Score, it.Propensity, it.Probability = win.score, win.propensity, 1
	it.Channel = uint8(s.channel)
	if r.keeping {
		it.Kept = r.own.ID()
	}
	if r.p.Policies[s.policy].Def.By == definition.RankOrder {
		it.Propensity = r.stated(c.offer, &s.details[win.index].factors)
	}
	if c.flags&flagTouched != 0 {
		if ch, _ := r.change(c.offer, s.placement); ch.treatment >= 0 {
			it.Treatment = ch.treatment
		}
	}
	r.keys(s, win.index, it)
	r.take(c.offer)
}

// variantUnit returns the bytes an experiment draws by; ok is false when the
// request has none.
func (r *run) variantUnit(e *Experiment) (unit []byte, ok bool) {
	switch e.unit {
	case unitUser:
		return r.who.ID, r.who.HasID && len(r.who.ID) > 0
	case unitIdentity:
		return r.who.Identity, len(r.who.Identity) > 0
	case unitDevice:
		return r.who.Device, len(r.who.Device) > 0
	}
	for i := range r.req.Context {
		if v := &r.req.Context[i]; v.Key == e.unitKey {
			return contextUnit(v, &r.out.work)
		}
	}
	return nil, false
}

// contextUnit is the unit a context value stands for.
func contextUnit(v *rule.ContextValue, w *work) ([]byte, bool) {
	switch v.Value.Kind {
	case storage.KindNone, storage.KindList:
		return nil, false
	case storage.KindString, storage.KindSemver:
		return v.Value.Bytes, len(v.Value.Bytes) > 0
	}
	w.unit = binary.BigEndian.AppendUint64(w.unit[:0], v.Value.Num)
	return w.unit, true
}
