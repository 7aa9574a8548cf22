package decide

import (
	"math"
	"math/bits"
	"time"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// Cap is a compiled cap. Selectors are sets over the plan's indices.
type Cap struct {
	ID      string
	Name    storage.Name // DictCap
	Counter storage.Name // DictCap: what its counters are kept under; of a total see counterName
	Def     *definition.Cap
	Scope   definition.CapScope
	Per     definition.CapPer
	CountOn definition.CountOn
	Window  definition.Window
	Limit   int   // uses in a window; 0 = never; -1 = only MinGap; of limitFrom the default
	MinGap  int64 // seconds

	limitFrom storage.Name // DictAttribute: the attribute that gives the limit; 0 = none
	most      int          // the greatest limit that anybody can have
	coarse    storage.Coarse
	events    []storage.Name // DictEvent, of CountCustom
	suppress  suppression    // name 0 = none
	history   storage.Name   // DictCap, of the mark that history was counted; 0 = from publish
	cell      int64          // of a rolling total: seconds that are counted as one
	gapName   storage.Name   // DictCap, of a total's min_gap: the counter that keeps it
	gapCell   int64

	kind       capKind
	reason     Reason // capped_user, capped_contact or capped_total
	offers     bitset // selected, or naming the cap themselves
	placements bitset // nil = all
	channels   uint16 // bit per channel
	classes    uint8  // bit per message class, exempt ones taken out
	pace       *pace  // nil: as fast as possible
	money      bool   // a budget: its units are minor units of Def.Currency
}

// suppression closes a cap's counter for life seconds after every rejection from
// the after-th on. classes are those it binds: marketing, and transactional where
// quiet_hours.classes names it.
type suppression struct {
	name    storage.Name // DictCap, of the counter of rejections
	after   int
	on      definition.CountOn
	events  []storage.Name
	life    int64
	classes uint8
}

// capKind says when a use comes about.
type capKind uint8

const (
	capContact  capKind = iota // held at the decision, confirmed by the contact
	capDecision                // used at the grant
	capReaction                // used by the reaction; nothing is reserved unless Hold is set
)

const (
	holdPage     = 10 * 60      // seconds a reservation lives on page channels
	holdOther    = 24 * 60 * 60 // and on the others
	graceDefault = 5 * 60       // seconds after it in which a confirm is not late
)

// applies tells whether a cap binds an offer on a channel and placement. A
// placement of -1 is none: only caps for every placement bind.
func (p *Plan) applies(c *Cap, offer int32, ch definition.Channel, placement int32) bool {
	return c.offers.has(offer) &&
		c.channels&(1<<ch) != 0 &&
		c.classes&(1<<p.Offers[offer].Class) != 0 &&
		(c.placements == nil || placement >= 0 && c.placements.has(placement))
}

// dimensions returns how many counters the cap keeps for the offer: one, or one
// for each ancestor of its group.
func (p *Plan) dimensions(c *Cap, offer int32) int {
	if c.Per == definition.PerOfferGroup {
		return len(p.Offers[offer].Groups)
	}
	return 1
}

// dimension returns the k-th dimension of the cap's counters for an offer; ok
// is false when the offer has none (no campaign, no placement).
func (p *Plan) dimension(
	c *Cap, offer int32, ch definition.Channel, placement int32, k int,
) (dim uint32, ok bool) {
	o := &p.Offers[offer]
	switch c.Per {
	case definition.PerAll:
		return 0, true
	case definition.PerOffer:
		return uint32(o.Name), true
	case definition.PerOfferGroup:
		return uint32(o.Groups[k]), true
	case definition.PerCampaign:
		return uint32(o.Campaign), o.Campaign != 0
	case definition.PerChannel:
		return uint32(ch) + 1, true // 0 is the dimension of `per: all`
	case definition.PerPlacement:
		if placement < 0 {
			return 0, false
		}
		return uint32(p.Placements[placement].Name), true
	}
	return 0, false
}

func (p *Plan) heldKey(
	c *Cap, dim uint32, at storage.UnixMsec, zones []*time.Location,
) storage.HeldKey {
	k := storage.HeldKey{
		Key:     storage.CounterKey{Cap: c.Counter, Dim: dim},
		CountOn: uint16(c.CountOn),
		Limit:   uint8(min(max(c.most, 1), 255)),
		Total:   c.Scope == definition.ScopeTotal,
		Coarse:  c.coarse,
	}
	switch {
	case k.Total:
		k.Window = p.totalWindow(c, at)
		if c.cell > 0 {
			k.Coarse = storage.CoarseRolling
		}
	case c.coarse == storage.CoarseRolling:
		k.Window = uint32(min((c.Window.Rolling+coarseCells-1)/coarseCells, math.MaxUint32))
	case c.coarse == storage.CoarseCalendar:
		k.Window = uint32(capWindowEnd(c, clampSec(rule.FloorDiv(int64(at), 1000)), zones))
	}
	return k
}

// coarseCells is how many cells of a rolling window count the uses of a limit
// above storage.RingMax: a use counts up to W/24 longer than it should.
const coarseCells = 24

// mixDim is the counter of an identity or device inside the counters of a
// dimension: 32 bits of a hash of both. Two of one person that meet share their
// uses, which errs to less contact.
func mixDim(key, dim uint32) uint32 {
	x := (uint64(key)<<32 | uint64(dim)) * 0x9E3779B97F4A7C15
	x ^= x >> 29
	x *= 0xBF58476D1CE4E5B9
	return uint32(x >> 32)
}

// keyOf is the counter of a use for this person.
func (r *run) keyOf(u *capUse) storage.CounterKey {
	switch u.scope {
	case definition.ScopeIdentity:
		return storage.CounterKey{Cap: u.key.Cap, Dim: mixDim(r.who.IdentityKey, u.key.Dim)}
	case definition.ScopeDevice:
		return storage.CounterKey{Cap: u.key.Cap, Dim: mixDim(r.who.DeviceKey, u.key.Dim)}
	}
	return u.key
}

// limit is the limit of a cap for this person: a whole attribute in [0, max], else
// the default.
func (r *run) limit(c *Cap) int {
	if c.limitFrom == 0 {
		return c.Limit
	}
	v, ok := r.who.Profile.Attr(c.limitFrom)
	if !ok || !r.who.Known {
		return c.Limit
	}
	return limitOf(v, c.Limit, c.most)
}

func limitOf(v storage.Value, normal, most int) int {
	switch v.Kind {
	case storage.KindInt:
		return int(min(max(int64(v.Num), 0), int64(most)))
	case storage.KindFloat:
		if f := math.Float64frombits(v.Num); f == f {
			return int(min(max(f, 0), float64(most)))
		}
	}
	return normal
}

// held tells whether a decision on the channel holds a use of the cap: contacts
// that can happen there, and reactions with a `hold`.
func (c *Cap) held(ch definition.Channel) bool {
	switch c.kind {
	case capContact:
		return c.CountOn&contactsOf(ch) != 0
	case capReaction:
		return c.Scope == definition.ScopeTotal && c.Def.Hold > 0
	}
	return false
}

// contactsOf is the set of contacts that can happen on a channel.
func contactsOf(ch definition.Channel) definition.CountOn {
	if pageChannel(ch) {
		return definition.CountImpression
	}
	return definition.CountContacts
}

// capsAllow judges the caps of a candidate that would win, and notes the one
// that refuses it. from is the length of out.Capped before the slot.
func (r *run) capsAllow(s *slab, slot int32, next *winner, from int) bool {
	uses := spanOf(s.uses, s.details[next.index].uses)
	if r.needsPerson(uses) {
		return false
	}
	v := r.suppressing(uses)
	if v.cap < 0 {
		v = r.refusing(uses, r.out.work.uses)
	}
	if v.cap < 0 {
		return !r.over.NoReserve
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
	if !next.tied {
		next.tie, next.tied = r.tie(s, next.index), true
	}
	out.Capped = append(out.Capped, Capped{Slot: slot, Cap: v.cap, Offer: offer, Until: v.until})
	out.work.capped = append(out.work.capped, rankOf{next.score, next.tie})
	return false
}

// dropOutranked removes the caps noted by one scan, from position at on, whose
// offer would not have ranked above the winner anyway.
func (r *run) dropOutranked(s *slab, at int, win *winner) {
	ranks := r.out.work.capped
	if win.index < 0 || len(ranks) == 0 {
		return
	}
	if !win.tied {
		win.tie, win.tied = r.tie(s, win.index), true
	}
	offer := s.candidates[win.index].offer
	kept := r.out.Capped[:at]
	for i, c := range r.out.Capped[at:] {
		above := ranks[i].score > win.score || ranks[i].score == win.score &&
			(ranks[i].tie > win.tie || ranks[i].tie == win.tie && c.Offer < offer)
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

// suppressing finds the first cap whose counter is closed by rejections.
func (r *run) suppressing(uses []capUse) refusal {
	if r.emptyContact() {
		return refusal{cap: -1}
	}
	for i := range uses {
		u := &uses[i]
		if !u.closes {
			continue
		}
		c, key := &r.p.Caps[u.cap], r.keyOf(u)
		key.Cap = c.suppress.name
		usage := r.who.Contact.Count(key, 0, r.at.Instant.Certain())
		if usage.N < c.suppress.after || c.over(r.at.Instant.Now) {
			continue
		}
		if until := after(usage.Latest, c.suppress.life); until > r.at.Instant.Now {
			return refusal{u.cap, Suppressed, c.ends(until)}
		}
	}
	return refusal{cap: -1}
}

// refusal is a cap that refuses; cap -1: none does.
type refusal struct {
	cap    int32
	reason Reason
	until  storage.UnixSec
}

// refusing finds the first cap that refuses, in the order of the gates: limits
// per person, limits across offers, totals, then gaps; inside each by cap id.
// in are the uses that picks of this request take.
func (r *run) refusing(uses []capUse, in []inUse) refusal {
	for i := range uses {
		if u := &uses[i]; !u.gap && r.full(u, in) {
			return refusal{u.cap, r.p.Caps[u.cap].reason, r.until(u, in)}
		}
	}
	for i := range uses {
		u := &uses[i]
		if until := r.gap(u, in); until != 0 {
			return refusal{u.cap, MinGap, until}
		}
	}
	return refusal{cap: -1}
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
	n := count(in, key, r.since(u.cap))
	if n >= limit || r.emptyContact() {
		return n >= limit
	}
	since := r.since(u.cap)
	usage := r.usage(key, since, c)
	return usage.Unknown || usage.N+n >= limit || r.complete(c) > since
}

// usage is what the store knows of a counter of the person, but for the reservation
// that is judged to be given again.
func (r *run) usage(key storage.CounterKey, since storage.UnixSec, c *Cap) storage.Usage {
	if r.keeping {
		return r.who.Contact.CountWithout(key, since, r.instant(c), r.own.ID())
	}
	return r.who.Contact.Count(key, since, r.instant(c))
}

// complete is the moment since which the counters of a cap `counts_from: history`
// know every use of the person; 0 = since ever.
func (r *run) complete(c *Cap) storage.UnixSec {
	if c.history == 0 {
		return 0
	}
	mark := storage.CounterKey{Cap: c.history}
	return before(r.who.Contact.Count(mark, 0, r.at.Instant.Certain()).Latest, 1)
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
		latest = max(latest, r.complete(c))
	}
	if until := after(latest, gap); latest != 0 && until > now {
		return c.ends(until)
	}
	return 0
}

// instant is the moment at which a cap's counters are read. Only those that count
// contacts may stand in for a reservation that was lost.
func (r *run) instant(c *Cap) storage.Instant {
	if c.Def.CountOn&definition.CountContacts == 0 {
		return r.at.Instant.Certain()
	}
	return r.at.Instant
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
	at := r.who.Contact.KthLatest(key, limit, r.instant(c), times...)
	at = max(at, r.complete(c))
	if c.Window.Rolling > 0 {
		return after(at, c.Window.Rolling)
	}
	if end := r.windowEnd(c, at); end > now {
		return end
	}
	return r.windowEnd(c, now)
}

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
		if u := &uses[i]; u.holds && !r.keeping {
			out.Keys = append(out.Keys, r.keyHeld(u, int64(it.Hold)))
			r.use(u, after(r.at.Instant.Now, int64(it.Hold)))
		}
	}
	it.FirstDecisionKey = int32(len(out.Keys))
	it.KeyCount = it.FirstDecisionKey - it.FirstKey
	for i := range uses {
		if u := &uses[i]; u.kind == capDecision {
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

// capUses compiles the counters that the caps keep for an offer in the slab.
func (b *slabBuilder) capUses(offer int32) span {
	p, s := b.c.plan, b.s
	first := len(s.uses)
	for _, reason := range [...]Reason{CappedUser, CappedContact, CappedTotal} {
		for i := range p.Caps {
			c := &p.Caps[i]
			if c.reason != reason || !p.applies(c, offer, s.channel, s.placement) {
				continue
			}
			for k := range p.dimensions(c, offer) {
				dim, ok := p.dimension(c, offer, s.channel, s.placement, k)
				if !ok {
					continue
				}
				use := capUse{
					key:   storage.CounterKey{Cap: c.Counter, Dim: dim},
					cap:   int32(i),
					kind:  c.kind,
					scope: c.Scope,
					total: c.Scope == definition.ScopeTotal,
					holds: c.held(s.channel),
					closes: c.suppress.name != 0 &&
						c.suppress.classes&(1<<p.Offers[offer].Class) != 0,
				}
				if !c.money {
					s.uses = append(s.uses, use)
				} else if use.cost = b.c.costIndex(p.Offers[offer].cost(c)); use.cost != 0 {
					s.uses = append(s.uses, use)
				}
				if c.gapName != 0 {
					use.key.Cap, use.gap, use.cost = c.gapName, true, 0
					s.uses = append(s.uses, use)
				}
			}
		}
	}
	return span{uint32(first), uint32(len(s.uses) - first)}
}

// channelBits is the set of channels; none named means all.
func channelBits(channels []definition.Channel) uint16 {
	if len(channels) == 0 {
		return 1<<definition.ChannelCount - 1
	}
	var set uint16
	for _, ch := range channels {
		set |= 1 << ch
	}
	return set
}

// classBits is the set of message classes; none named means all.
func classBits(classes []definition.MessageClass) uint8 {
	const all = 1<<definition.Marketing | 1<<definition.Transactional | 1<<definition.Mandatory
	if len(classes) == 0 {
		return all
	}
	var set uint8
	for _, c := range classes {
		set |= 1 << c
	}
	return set
}

// onlyOneKind tells whether a set of count_on has bits of one kind alone.
func onlyOneKind(on definition.CountOn) bool {
	kinds := 0
	for _, kind := range [...]definition.CountOn{
		definition.CountContacts, definition.CountDecision, definition.CountReactions,
	} {
		if on&kind != 0 {
			kinds++
		}
	}
	return kinds == 1 && bits.OnesCount16(uint16(on)) > 0
}
