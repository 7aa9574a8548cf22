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
