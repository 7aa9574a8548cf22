package decide

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"tact/engine/definition"
	"tact/engine/experiment"
	"tact/engine/rule"
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

func (c *compiler) experiments() {
	p := c.plan
	for _, d := range sorted(c.set.Experiments, metaOfExperiment) {
		x := Experiment{ID: d.ID, Name: c.intern(&d.Meta, storage.DictExperiment, d.ID), Def: d}
		index := int32(len(p.Experiments))
		p.experimentIDs[d.ID] = index
		draw, faults := experiment.Compile(d, experiment.Identity{
			ID: uint32(x.Name), Salt: d.ID, LayerSalt: d.Layer,
		})
		c.faults = append(c.faults, faults...)
		x.Draw = draw
		c.unit(d, &x)
		touched := map[int32]bool{}
		places := map[int32]bool{}
		for i := range d.Variants {
			v := c.variant(d, i)
			for _, ch := range v.offers {
				touched[ch.offer] = true
			}
			for _, ch := range v.placements {
				places[ch.placement] = true
			}
			x.Variants = append(x.Variants, v)
		}
		for o := range touched {
			p.Offers[o].experiments = append(p.Offers[o].experiments, index)
		}
		for at := range places {
			p.Placements[at].experiments = append(p.Placements[at].experiments, index)
		}
		p.Experiments = append(p.Experiments, x)
	}
}

func (c *compiler) unit(d *definition.Experiment, x *Experiment) {
	switch d.Unit {
	case "", "user":
	case "identity":
		x.unit = unitIdentity
	case "device":
		x.unit = unitDevice
	default:
		key, ok := c.plan.Names.Context[d.Unit]
		if !ok {
			c.fault(&d.Meta, "unit", "%q is none of user, identity, device and declared context keys",
				d.Unit)
		}
		x.unit, x.unitKey = unitContext, key.ID
	}
}

// variant compiles the i-th variant: its changes in rising order.
func (c *compiler) variant(d *definition.Experiment, i int) Variant {
	v := &d.Variants[i]
	out := Variant{
		ID: v.ID, Name: c.intern(&d.Meta, storage.DictVariant, d.ID+"/"+v.ID),
	}
	field := fmt.Sprintf("variants[%d].set", i)
	for _, id := range slices.Sorted(maps.Keys(v.Offers)) {
		change := v.Offers[id]
		at, ok := c.plan.offerIDs[id]
		if !ok {
			c.fault(&d.Meta, field+".offers."+id, "there is no offer %q", id)
			continue
		}
		ch := offerChange{offer: at, treatment: -1, exclude: change.Exclude}
		if change.Lever != nil {
			ch.lever, ch.hasLever = *change.Lever, true
			c.nonNegative(&d.Meta, field+".offers."+id+".lever", ch.lever)
		}
		if change.Treatment != "" {
			o := &c.plan.Offers[at]
			k := slices.IndexFunc(o.Def.Treatments, func(t *definition.Treatment) bool {
				return t.ID == change.Treatment
			})
			if k < 0 {
				c.fault(&d.Meta, field+".offers."+id+".treatment", "offer %s has no treatment %q", id,
					change.Treatment)
				continue
			}
			ch.treatment = o.FirstTreatment + int32(k)
		}
		out.offers = append(out.offers, ch)
	}
	slices.SortFunc(out.offers, func(a, b offerChange) int { return cmp.Compare(a.offer, b.offer) })
	for _, id := range slices.Sorted(maps.Keys(v.Placements)) {
		at, ok := c.plan.placementIDs[id]
		if !ok {
			c.fault(&d.Meta, field+".placements."+id, "there is no placement %q", id)
			continue
		}
		policy := c.policy(&d.Meta, field+".placements."+id+".policy", v.Placements[id].Policy)
		out.placements = append(out.placements, policyChange{at, policy})
	}
	return out
}

// holdouts compiles the holdouts and marks what they cover: marketing offers
// when `classes` names marketing, transactional offers that say
// `holdout: true`, mandatory ones never.
func (c *compiler) holdouts() {
	docs := sorted(c.set.Holdouts, metaOfHoldout)
	if len(docs) > MaxHoldouts {
		c.fault(&docs[MaxHoldouts].Meta, "", "more than %d holdouts", MaxHoldouts)
		docs = docs[:MaxHoldouts]
	}
	for i, d := range docs {
		h := Holdout{ID: d.ID, Name: c.intern(&d.Meta, storage.DictHoldout, d.ID), Def: d}
		draw, faults := experiment.CompileHoldout(d, experiment.Identity{
			ID: uint32(h.Name), Salt: d.ID,
		})
		c.faults = append(c.faults, faults...)
		h.Draw = draw
		c.plan.Holdouts = append(c.plan.Holdouts, h)
		for k := range c.plan.Offers {
			o := &c.plan.Offers[k]
			covers := o.Class == definition.Transactional && o.Def.HoldoutCovers ||
				o.Class == definition.Marketing && slices.Contains(d.Classes, definition.Marketing)
			if covers && selects(&d.Covers, o.Def) {
				o.holds |= 1 << i
			}
		}
	}
}

// parse reads one rule; nil after a fault.
func (c *compiler) parse(
	m *definition.Meta, n *definition.Node, names *rule.Names, field string,
) *rule.Tree {
	tree, faults := rule.Parse(n, names, field)
	for _, f := range faults {
		if f.Doc == "" && m.Kind != "" {
			f.Doc = m.Kind + "/" + m.ID
		}
		if f.Pos.Line == 0 {
			f.Pos = m.Pos
		}
		c.faults = append(c.faults, f)
	}
	return tree
}

// buildSlabs compiles every (placement, policy) pair: any policy may be asked
// for by a request.
func (c *compiler) buildSlabs() {
	p := c.plan
	p.slabOf = make([]int32, len(p.Placements)*len(p.Policies))
	total := 0
	for i := range p.Placements {
		for k := range p.Policies {
			if total > MaxCandidates {
				c.fault(&p.Placements[i].Def.Meta, "", "placements × policies × candidates come to "+
					"more than %d", MaxCandidates)
				return
			}
			p.slabOf[i*len(p.Policies)+k] = int32(len(p.slabs))
			s := c.buildSlab(int32(i), int32(k))
			total += len(s.candidates)
			p.slabs = append(p.slabs, s)
		}
	}
}
