package decide

import (
	"slices"
	"time"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// Fact is something that happened to one item, or an event of the person, for
// the caps that count it.
type Fact struct {
	Offer     int32 // -1 = of an event that names none
	Placement int32 // -1 = not in this plan, or named by nobody
	Channel   definition.Channel
	CountOn   definition.CountOn // what happened: one or several bits
	// Custom is the event of CountCustom (DictEvent); 0 stands for every event.
	Custom storage.Name
	At     storage.UnixMsec // when, for calendar windows
	// Late: no open reservation holds the uses that a decision would have held
	// for it, so they are counted now too.
	Late bool
	// Value is what the outcome reported, in the workspace's currency, for budgets
	// that spend it; those spend the offer's cost when it reported none.
	Value    float64
	HasValue bool
	// Zone is the person's; nil = unknown.
	Zone *time.Location
	// IdentityKey and DeviceKey as in Person: 0 counts for no identity or device.
	IdentityKey, DeviceKey uint32
}

// AppendReactionKeys appends the counters that a reaction (click, accept,
// convert, reject, dismiss, a declared event) uses at once, and those that it
// closes as a rejection. Keys that a decision held (a total cap with `hold`) come
// only with Late: else the confirm of the reservation moves them. Exempt classes
// count nothing. Cost: O(caps), no allocation when dst has room.
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

// AppendUnheldTotals appends the counters of the totals that bind an item of which a
// decision takes nothing: of reactions without `hold`, and of contacts that cannot
// happen on the channel. A full one refuses the decision all the same. Cost: O(caps),
// no allocation when dst has room.
func (p *Plan) AppendUnheldTotals(dst []storage.HeldKey, f Fact) []storage.HeldKey {
	for i := range p.Caps {
		c := &p.Caps[i]
		if c.Scope != definition.ScopeTotal || c.kind == capDecision || c.held(f.Channel) ||
			!p.applies(c, f.Offer, f.Channel, f.Placement) {
			continue
		}
		f.CountOn = c.CountOn
		for k := range p.dimensions(c, f.Offer) {
			if dim, ok := p.dimension(c, f.Offer, f.Channel, f.Placement, k); ok {
				dst = p.appendFact(dst, c, &f, dim)
			}
		}
	}
	return dst
}

// AppendEventKeys appends the counters that an event of the person uses which is
// no outcome of an item. One that names an offer counts as a reaction to it. One
// that names none counts for the caps `per: all`, and for those per channel and
// placement when it names a placement, whatever offers they apply to. Cost:
// O(caps), no allocation when dst has room.
func (p *Plan) AppendEventKeys(dst []storage.HeldKey, f Fact) []storage.HeldKey {
	f.Late = true
	if f.Offer >= 0 {
		return p.appendFacts(dst, &f, capReaction)
	}
	for i := range p.Caps {
		c := &p.Caps[i]
		dim := uint32(0)
		switch {
		case c.Per == definition.PerAll:
		case c.Per == definition.PerChannel && f.Placement >= 0:
			dim = uint32(f.Channel) + 1
		case c.Per == definition.PerPlacement && f.Placement >= 0:
			dim = uint32(p.Placements[f.Placement].Name)
		default:
			continue
		}
		if f.Placement >= 0 && (c.channels&(1<<f.Channel) == 0 ||
			c.placements != nil && !c.placements.has(f.Placement)) {
			continue
		}
		dst = p.appendFact(dst, c, &f, dim)
	}
	return dst
}

// CountsEvent tells whether some cap counts a declared event, or is closed by it.
func (p *Plan) CountsEvent(event storage.Name) bool {
	for i := range p.Caps {
		if c := &p.Caps[i]; slices.Contains(c.events, event) ||
			slices.Contains(c.suppress.events, event) {
			return true
		}
	}
	return false
}

func (p *Plan) appendFacts(dst []storage.HeldKey, f *Fact, kind capKind) []storage.HeldKey {
	if f.Offer < 0 || int(f.Offer) >= len(p.Offers) {
		return dst
	}
	for i := range p.Caps {
		c := &p.Caps[i]
		if c.kind != kind && (kind != capReaction || c.suppress.name == 0) ||
			!p.applies(c, f.Offer, f.Channel, f.Placement) {
			continue
		}
		n := p.dimensions(c, f.Offer)
		for k := range n {
			dim, ok := p.dimension(c, f.Offer, f.Channel, f.Placement, k)
			if ok {
				dst = p.appendFact(dst, c, f, dim)
			}
		}
	}
	return dst
}

// appendFact appends what a fact uses of one cap: its counter, and that of its
// rejections.
func (p *Plan) appendFact(dst []storage.HeldKey, c *Cap, f *Fact, dim uint32) []storage.HeldKey {
	switch {
	case c.Scope == definition.ScopeIdentity && f.IdentityKey == 0,
		c.Scope == definition.ScopeDevice && f.DeviceKey == 0:
		return dst
	case c.Scope == definition.ScopeIdentity:
		dim = mixDim(f.IdentityKey, dim)
	case c.Scope == definition.ScopeDevice:
		dim = mixDim(f.DeviceKey, dim)
	}
	at := clampSec(rule.FloorDiv(int64(f.At), 1000))
	if f.counts(c.CountOn, c.events) && (f.Late || !c.held(f.Channel)) &&
		!c.over(at) && !c.early(at) {
		var one [1]*time.Location
		k := p.heldKey(c, dim, f.At, p.zonesOf(c, f.Zone, &one))
		if c.money {
			k.Cost = p.spent(c, f)
		}
		if !c.money || k.Cost != 0 {
			dst = append(dst, k)
		}
		if c.gapName != 0 {
			dst = append(dst, p.gapKey(c, dim, f.At))
		}
	}
	if s := &c.suppress; s.name != 0 && f.counts(s.on, s.events) {
		dst = append(dst, storage.HeldKey{
			Key: storage.CounterKey{Cap: s.name, Dim: dim}, CountOn: uint16(s.on),
			Limit: uint8(s.after),
		})
	}
	return dst
}

// spent is what a fact costs a budget in money.
func (p *Plan) spent(c *Cap, f *Fact) uint64 {
	switch {
	case c.Def.SpendsValue && f.HasValue:
		return uint64(definition.MinorUnits(f.Value, c.Def.Currency))
	case f.Offer < 0:
		return 0
	}
	return p.Offers[f.Offer].cost(c)
}

// SpendsValue tells whether a budget in money takes what an outcome of the offer
// reports as its value.
func (p *Plan) SpendsValue(f Fact) bool {
	for i := range p.Caps {
		if c := &p.Caps[i]; c.money && c.Def.SpendsValue && c.offers.has(f.Offer) &&
			f.counts(c.CountOn, nil) {
			return true
		}
	}
	return false
}

// counts tells whether a set of outcomes and events holds what happened.
func (f *Fact) counts(on definition.CountOn, events []storage.Name) bool {
	both := on & f.CountOn
	if both&^definition.CountCustom != 0 {
		return true
	}
	return both != 0 && (f.Custom == 0 || slices.Contains(events, f.Custom))
}

// CountsEvent tells whether the cap counts a declared event.
func (c *Cap) CountsEvent(event storage.Name) bool { return slices.Contains(c.events, event) }

// HistoryMark is the counter that says since when a person's counters of a cap
// `counts_from: history` are complete: one use, a second after that moment.
func (c *Cap) HistoryMark() storage.CounterKey { return storage.CounterKey{Cap: c.history} }

// History returns the caps that count from history, as indices of Caps.
func (p *Plan) History() []int32 { return p.history }

// Owns tells whether a counter is one of the cap's: of its uses, or of the
// rejections that close it.
func (c *Cap) Owns(k storage.CounterKey) bool {
	return k.Cap == c.Counter || c.suppress.name != 0 && k.Cap == c.suppress.name
}
