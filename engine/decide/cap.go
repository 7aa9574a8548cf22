package decide

import (
	"math/bits"

	"tact/engine/definition"
	"tact/storage"
)

// Cap is a compiled cap. Selectors are sets over the plan's indices.
type Cap struct {
	ID      string
	Name    storage.Name // DictCap
	Def     *definition.Cap
	Scope   definition.CapScope // person or total
	Per     definition.CapPer
	CountOn definition.CountOn
	Window  definition.Window
	Limit   int   // uses in a window; 0 = never; -1 = only MinGap
	MinGap  int64 // seconds

	kind       capKind
	reason     Reason // capped_user, capped_contact or capped_total
	offers     bitset // selected, or naming the cap themselves
	placements bitset // nil = all
	channels   uint16 // bit per channel
	classes    uint8  // bit per message class, exempt ones taken out
	pace       *pace  // nil: as fast as possible
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

// Fact is something that happened to one item, for the caps that count it.
type Fact struct {
	Offer     int32
	Placement int32 // -1 = not in this plan
	Channel   definition.Channel
	CountOn   definition.CountOn // what happened: one or several bits
	At        storage.UnixMsec   // when, for the calendar windows of totals
	// Late: no open reservation holds the uses that a decision would have held
	// for it, so they are counted now too.
	Late bool
}

// AppendReactionKeys appends the counters that a reaction (click, accept,
// convert, reject, dismiss) uses at once. Keys that a decision held (a total
// cap with `hold`) come only with Late: else the confirm of the reservation
// moves them. Exempt classes count nothing. Cost: O(caps), no allocation when
// dst has room.
func (p *Plan) AppendReactionKeys(dst []storage.HeldKey, f Fact) []storage.HeldKey {
	return p.appendFacts(dst, &f, capReaction)
}

// AppendContactKeys appends the counters of a contact (impression, send,
// delivered) that no reservation holds: a late or imported fact. Cost: O(caps),
// no allocation when dst has room.
func (p *Plan) AppendContactKeys(dst []storage.HeldKey, f Fact) []storage.HeldKey {
	f.Late = true
	return p.appendFacts(dst, &f, capContact)
}

func (p *Plan) appendFacts(dst []storage.HeldKey, f *Fact, kind capKind) []storage.HeldKey {
	if f.Offer < 0 || int(f.Offer) >= len(p.Offers) {
		return dst
	}
	for i := range p.Caps {
		c := &p.Caps[i]
		if c.kind != kind || c.CountOn&f.CountOn == 0 || !f.Late && c.held(f.Channel) ||
			!p.applies(c, f.Offer, f.Channel, f.Placement) {
			continue
		}
		n := p.dimensions(c, f.Offer)
		for k := range n {
			dim, ok := p.dimension(c, f.Offer, f.Channel, f.Placement, k)
			if ok {
				dst = append(dst, p.heldKey(c, dim, f.At))
			}
		}
	}
	return dst
}

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

func (p *Plan) heldKey(c *Cap, dim uint32, at storage.UnixMsec) storage.HeldKey {
	k := storage.HeldKey{
		Key:     storage.CounterKey{Cap: c.Name, Dim: dim},
		CountOn: uint16(c.CountOn),
		Limit:   uint8(min(max(c.Limit, 1), 255)),
		Total:   c.Scope == definition.ScopeTotal,
	}
	if k.Total {
		k.Window = p.totalWindow(c, at)
	}
	return k
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

// TotalWindow returns the number of the calendar window a total cap counts in
// at a time: HeldKey.Window of its keys. 0 for lifetime.
func (p *Plan) TotalWindow(cap int32, at storage.UnixMsec) uint32 {
	return p.totalWindow(&p.Caps[cap], at)
}

// capsAllow judges the caps of a candidate that would win, and notes the one
// that refuses it. from is the length of out.Capped before the slot.
func (r *run) capsAllow(s *slab, slot int32, next *winner, from int) bool {
	uses := spanOf(s.uses, s.details[next.index].uses)
	if r.needsPerson(uses) {
		return false
	}
	v := r.refusing(uses, r.out.work.uses)
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
// must hold a unit of a total, which a person's reservation carries.
func (r *run) needsPerson(uses []capUse) bool {
	if r.who.HasID && !r.who.Full {
		return false
	}
	for i := range uses {
		if u := &uses[i]; !u.total || u.holds || u.kind == capDecision {
			return true
		}
	}
	return false
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
		if u := &uses[i]; r.full(u, in) {
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
	switch {
	case c.Limit < 0:
		return false
	case c.Limit == 0:
		return true
	case u.total:
		for _, k := range r.over.FullTotals {
			if k == u.key {
				return true
			}
		}
		for i := range r.over.Scarce {
			if s := &r.over.Scarce[i]; s.Key == u.key {
				return count(in, u.key) >= s.Left
			}
		}
		return false
	}
	n := count(in, u.key)
	if n >= c.Limit || r.emptyContact() {
		return n >= c.Limit
	}
	usage := r.who.Contact.Count(u.key, r.since(u.cap), r.instant(c))
	return usage.Unknown || usage.N+n >= c.Limit
}

// count counts the uses of a counter.
func count(in []inUse, key storage.CounterKey) int {
	n := 0
	for i := range in {
		if in[i].key == key {
			n++
		}
	}
	return n
}

func (r *run) emptyContact() bool { return !r.who.Known || r.who.Contact.Empty() }

// gap returns when the cap's minimum gap since its latest use ends, or 0 when
// it has.
func (r *run) gap(u *capUse, in []inUse) storage.UnixSec {
	gap := r.p.Caps[u.cap].MinGap
	if gap <= 0 || u.total {
		return 0
	}
	var latest storage.UnixSec
	for i := range in {
		if in[i].key == u.key {
			latest = max(latest, in[i].at)
		}
	}
	if !r.emptyContact() {
		now := r.at.Instant.Now
		usage := r.who.Contact.Count(u.key, before(now, gap), r.instant(&r.p.Caps[u.cap]))
		latest = max(latest, usage.Latest)
		if usage.Unknown && latest == 0 {
			latest = now
		}
	}
	if latest == 0 {
		return 0
	}
	return after(latest, gap)
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
	c := &r.p.Caps[u.cap]
	switch {
	case c.Limit == 0 || c.Window.Rolling == 0 && c.Window.Unit == definition.UnitNone:
		return Never
	case u.total:
		for i := range r.over.Paced {
			if r.over.Paced[i].Key == u.key {
				return r.over.Paced[i].Until
			}
		}
		return r.windowEnd(c, r.at.Instant.Now)
	}
	at := r.kthLatest(u, c.Limit, in)
	if c.Window.Rolling > 0 {
		return after(at, c.Window.Rolling)
	}
	if end := r.windowEnd(c, at); end > r.at.Instant.Now {
		return end
	}
	return r.windowEnd(c, r.at.Instant.Now)
}

// kthLatest returns the k-th latest use of a counter, those of this request
// counted in. Where the ring has forgotten it, the oldest use it knows stands
// for it.
func (r *run) kthLatest(u *capUse, k int, in []inUse) storage.UnixSec {
	stored := func(n int) storage.UnixSec {
		if r.emptyContact() {
			return 0
		}
		return r.who.Contact.KthLatest(u.key, n, r.instant(&r.p.Caps[u.cap]))
	}
	next, last := 1, storage.UnixSec(0)
	bound := Never
	for ; k > 0; k-- {
		var mine storage.UnixSec
		var times int
		for i := range in { // the latest of this request not yet passed
			if at := in[i].at; in[i].key == u.key && at < bound {
				switch {
				case at > mine:
					mine, times = at, 1
				case at == mine:
					times++
				}
			}
		}
		theirs := stored(next)
		switch {
		case mine == 0 && theirs == 0:
			if last == 0 {
				return r.at.Instant.Now
			}
			return last
		case mine >= theirs:
			last, bound = mine, mine
			k -= times - 1
		default:
			last = theirs
			next++
		}
	}
	return last
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
	r.life(uses, it)
	for i := range uses {
		if u := &uses[i]; u.holds {
			out.Keys = append(out.Keys, r.p.heldKey(&r.p.Caps[u.cap], u.key.Dim, r.at.Ms))
			r.use(u, after(r.at.Instant.Now, int64(it.Hold)))
		}
	}
	it.FirstDecisionKey = int32(len(out.Keys))
	it.KeyCount = it.FirstDecisionKey - it.FirstKey
	for i := range uses {
		if u := &uses[i]; u.kind == capDecision {
			out.Keys = append(out.Keys, r.p.heldKey(&r.p.Caps[u.cap], u.key.Dim, r.at.Ms))
			r.use(u, r.at.Instant.Now)
		}
	}
	it.DecisionKeyCount = int32(len(out.Keys)) - it.FirstDecisionKey
}

func (r *run) use(u *capUse, at storage.UnixSec) {
	r.out.work.uses = append(r.out.work.uses, inUse{u.key, at})
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
				s.uses = append(s.uses, capUse{
					key:   storage.CounterKey{Cap: c.Name, Dim: dim},
					cap:   int32(i),
					kind:  c.kind,
					total: c.Scope == definition.ScopeTotal,
					holds: c.held(s.channel),
				})
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
