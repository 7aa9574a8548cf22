package decide

import (
	"fmt"
	"math/bits"
	"slices"

	"tact/engine/definition"
	"tact/storage"
)

func (c *compiler) caps() {
	for _, d := range sorted(c.set.Caps, metaOfCap) {
		out := Cap{
			ID: d.ID, Name: c.intern(&d.Meta, storage.DictCap, d.ID), Def: d, Scope: d.Scope,
			Per: d.Per, CountOn: d.CountOn, Window: d.Window, Limit: d.Limit, MinGap: d.MinGap,
			channels: channelBits(d.Channels), classes: classBits(d.Classes),
		}
		out.events = c.eventIDs(&d.Meta, d.Events)
		c.capLimit(d, &out)
		c.suppression(d, &out)
		if len(d.Exempt) > 0 {
			out.classes &^= classBits(d.Exempt)
		}
		if len(d.Placements) > 0 {
			out.placements = c.placementSet(&d.Meta, "applies_to.placements", d.Placements)
		}
		out.kind, out.reason, out.pace = kindOf(d), capReason(d), newPace(d)
		out.lifeMax = out.longestLife()
		c.totalCells(d, &out)
		out.Counter = c.intern(&d.Meta, storage.DictCap, counterName(&out))
		if d.CountsHistory {
			out.history = c.intern(&d.Meta, storage.DictCap, d.ID+"#history")
			c.plan.history = append(c.plan.history, int32(len(c.plan.Caps)))
		}
		out.offers = newBitset(len(c.plan.Offers))
		for i := range c.plan.Offers {
			o := c.plan.Offers[i].Def
			if selects(&d.Offers, o) || slices.Contains(o.Caps, d.ID) {
				out.offers.add(int32(i))
			}
		}
		c.budgets(&out)
		c.paceDates(&out)
		c.checkCap(d)
		c.plan.capNames[out.Name] = int32(len(c.plan.Caps))
		c.plan.counterNames[out.Counter] = int32(len(c.plan.Caps))
		if out.gapName != 0 {
			c.plan.gapNames[out.gapName] = int32(len(c.plan.Caps))
		}
		c.plan.Caps = append(c.plan.Caps, out)
	}
	for i := range c.plan.Offers {
		o := c.plan.Offers[i].Def
		for k, id := range o.Caps {
			known := slices.ContainsFunc(c.plan.Caps, func(x Cap) bool { return x.ID == id })
			if !known {
				c.fault(&o.Meta, fmt.Sprintf("caps[%d]", k), "there is no cap %q", id)
			}
		}
	}
}

// checkCap refuses what Pick and the store cannot count.
func (c *compiler) checkCap(d *definition.Cap) {
	if !onlyOneKind(d.CountOn) {
		c.fault(&d.Meta, "count_on", "contacts, decision and reactions do not mix in one cap")
	}
}

func (c *compiler) eventIDs(m *definition.Meta, events []string) []storage.Name {
	var out []storage.Name
	for _, e := range events {
		out = append(out, c.intern(m, storage.DictEvent, e))
	}
	return out
}

// capLimit compiles the limit: a number, or an attribute with a default and a
// maximum. A person's counter whose limit may be above RingMax is coarse.
func (c *compiler) capLimit(d *definition.Cap, out *Cap) {
	out.most = d.Limit
	if d.LimitFrom != "" {
		op := c.operand(&d.Meta, "limit", definition.Operand{Attribute: d.LimitFrom})
		out.limitFrom, out.most = op.attribute, max(d.Limit, d.LimitMax)
	}
	if d.Scope == definition.ScopeTotal || out.most <= storage.RingMax {
		return
	}
	out.coarse = storage.CoarseCalendar
	if d.Window.Rolling > 0 {
		out.coarse = storage.CoarseRolling
	}
}

// suppression compiles the counter of rejections: one beside the cap's own, under
// a name that no cap can have.
func (c *compiler) suppression(d *definition.Cap, out *Cap) {
	if d.Suppress == nil {
		return
	}
	out.suppress = suppression{
		name:   c.intern(&d.Meta, storage.DictCap, d.ID+"#suppress"),
		after:  d.Suppress.After,
		on:     d.Suppress.Of,
		events: c.eventIDs(&d.Meta, d.Suppress.Events),
		life:   d.Suppress.For,
	}
	out.suppress.classes = 1 << definition.Marketing
	if q := c.set.Workspace.QuietHours; q != nil {
		out.suppress.classes |= classBits(q.Classes) & (1 << definition.Transactional)
	}
}

func kindOf(d *definition.Cap) capKind {
	switch {
	case d.CountOn&definition.CountDecision != 0:
		return capDecision
	case d.CountOn&definition.CountReactions != 0:
		return capReaction
	}
	return capContact
}

// capReason is capped_total for totals, capped_contact for caps per all,
// channel or placement, capped_user for the rest.
func capReason(d *definition.Cap) Reason {
	switch {
	case d.Scope == definition.ScopeTotal:
		return CappedTotal
	case d.Per == definition.PerAll, d.Per == definition.PerChannel,
		d.Per == definition.PerPlacement:
		return CappedContact
	}
	return CappedUser
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
