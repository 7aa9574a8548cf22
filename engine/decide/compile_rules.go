package decide

import (
	"tact/engine/definition"
	"tact/engine/rule"
)

// offerDrafts are the rules of an offer before they have bits.
type offerDrafts struct {
	rules, known [3]*rule.Draft // nil: none
}

// rules parses every rule and gives its atoms bits: first the contact gates and
// the targeting of experiments, which every placement reads, then those of one
// placement together, so that a decision reads few pages.
func (c *compiler) rules() {
	offers := make([]offerDrafts, len(c.plan.Offers))
	for i := range c.plan.Offers {
		o := &c.plan.Offers[i]
		names := *c.plan.Names
		names.Offer = o.Def.Attributes
		for k, n := range [...]*definition.Node{
			o.Def.Eligibility, o.Def.Applicability, o.Def.Suitability,
		} {
			field := Stage(k + 1).String()
			tree := c.parse(&o.Def.Meta, n, &names, field)
			if tree == nil {
				continue
			}
			offers[i].rules[k] = c.draft(&o.Def.Meta, tree, field)
			if known := tree.Known(); !known.Empty() {
				offers[i].known[k] = c.draft(&o.Def.Meta, known, field)
			}
		}
	}
	c.targeting()
	if len(c.faults) > 0 {
		return
	}
	c.gateBits()
	c.builder.Groups(c.readTogether(offers))
	for i := range c.plan.Offers {
		o := &c.plan.Offers[i]
		for k := range o.rules {
			if d := offers[i].rules[k]; d != nil {
				o.rules[k], _ = c.builder.Finish(d)
			}
			if d := offers[i].known[k]; d != nil {
				o.known[k], _ = c.builder.Finish(d)
				o.hasKnown[k] = true
			}
		}
	}
}

// targeting compiles whom experiments are for.
func (c *compiler) targeting() {
	for i := range c.plan.Experiments {
		x := &c.plan.Experiments[i]
		tree := c.parse(&x.Def.Meta, x.Def.Targeting, c.plan.Names, "targeting")
		if tree == nil {
			continue
		}
		x.targeting = c.cond(&x.Def.Meta, tree, "targeting")
		x.always = x.targeting.Always()
	}
}

// draft brings a rule into normal form; nil after a fault.
func (c *compiler) draft(m *definition.Meta, tree *rule.Tree, field string) *rule.Draft {
	d, err := rule.NewDraft(tree)
	if err != nil {
		c.fault(m, field, "%v", err)
	}
	return d
}

// cond compiles a condition that every placement reads.
func (c *compiler) cond(m *definition.Meta, tree *rule.Tree, field string) rule.Cond {
	var cond rule.Cond
	if d := c.draft(m, tree, field); d != nil {
		cond, _ = c.builder.Finish(d) // the compile ends with the builder's error
	}
	return cond
}

// gateBits gives the contact gates their bits, before the rules take them.
func (c *compiler) gateBits() {
	for i := range c.plan.Treatments {
		t := &c.plan.Treatments[i]
		b := slabBuilder{c: c, s: &slab{channel: t.Channel}}
		b.gates(&c.plan.Offers[t.Offer])
	}
}

// readTogether lists, for each placement, the rules of the offers that its
// policies may put there.
func (c *compiler) readTogether(offers []offerDrafts) [][]*rule.Draft {
	p := c.plan
	groups := make([][]*rule.Draft, len(p.Placements))
	for i := range p.Placements {
		seen := newBitset(len(p.Offers))
		for _, policy := range p.policiesOf(int32(i)) {
			for _, o := range p.Policies[policy].Candidates {
				if seen.has(o) || !p.hasTreatment(o, int32(i)) {
					continue
				}
				seen.add(o)
				for k := range offers[o].rules {
					for _, d := range [...]*rule.Draft{offers[o].rules[k], offers[o].known[k]} {
						if d != nil {
							groups[i] = append(groups[i], d)
						}
					}
				}
			}
		}
	}
	return groups
}

// policiesOf returns the policies that may fill a placement unless a request
// names another: its own, and those of experiments.
func (p *Plan) policiesOf(placement int32) []int32 {
	var all []int32
	if policy := p.Placements[placement].Policy; policy >= 0 {
		all = append(all, policy)
	}
	for _, e := range p.Placements[placement].experiments {
		for v := range p.Experiments[e].Variants {
			if at := p.Experiments[e].Variants[v].placement(placement); at >= 0 {
				all = append(all, at)
			}
		}
	}
	return all
}

// hasTreatment tells whether an offer can be shown in a placement.
func (p *Plan) hasTreatment(offer, placement int32) bool {
	o := &p.Offers[offer]
	for t := o.FirstTreatment; t < o.FirstTreatment+o.TreatmentCount; t++ {
		if p.fits(t, placement) {
			return true
		}
	}
	return false
}

// indexPages notes which pages of a person's bits each slab and each placement
// reads.
func (p *Plan) indexPages() {
	for i := range p.slabs {
		p.slabs[i].pages = p.pagesOfSlab(&p.slabs[i])
	}
	for i := range p.Placements {
		pl := &p.Placements[i]
		for _, e := range pl.experiments {
			pl.pages |= p.Experiments[e].targeting.Pages()
		}
		for _, policy := range p.policiesOf(int32(i)) {
			if at := p.slabOf[i*len(p.Policies)+int(policy)]; at >= 0 {
				pl.pages |= p.slabs[at].pages
			}
		}
	}
}

// pagesOfSlab gathers the pages that filling or explaining a slot by it reads.
func (p *Plan) pagesOfSlab(s *slab) uint32 {
	var pages uint32
	for i := range s.terms {
		pages |= s.terms[i].Pages()
	}
	for i := range s.candidates {
		cand := &s.candidates[i]
		pages |= rule.Term{Word: cand.word, Mask: cand.mask}.Pages()
		o := &p.Offers[cand.offer]
		for k := range o.rules {
			pages |= o.rules[k].Pages() | o.known[k].Pages()
		}
	}
	experiments := s.experiments
	if s.fallback.offer >= 0 {
		experiments = append(experiments[:len(experiments):len(experiments)],
			p.Offers[s.fallback.offer].experiments...)
	}
	for _, e := range experiments {
		pages |= p.Experiments[e].targeting.Pages()
	}
	for i := range p.Quiet {
		pages |= p.Quiet[i].segment.Pages() | p.Quiet[i].known.Pages()
	}
	return pages
}

// Pages returns the pages of a person's bits that Pick reads for some slots, a
// bit each: of the others Person.Bits may hold anything.
func (p *Plan) Pages(slots []SlotRequest) uint32 {
	pages := uint32(1)
	for i := range slots {
		ask := &slots[i]
		switch {
		case ask.Placement < 0 || int(ask.Placement) >= len(p.Placements) ||
			int(ask.Policy) >= len(p.Policies):
		case ask.Policy < 0:
			pages |= p.Placements[ask.Placement].pages
		default:
			if at := p.slabOf[int(ask.Placement)*len(p.Policies)+int(ask.Policy)]; at >= 0 {
				pages |= p.slabs[at].pages
			}
		}
	}
	return pages
}

// QuestionPages returns the pages of a person's bits that Judge reads for a
// question: of the others Person.Bits may hold anything. Cost: O(offers × places).
func (p *Plan) QuestionPages(q *Question) uint32 {
	pages := uint32(1)
	for _, o := range q.Offers {
		if o < 0 || int(o) >= len(p.Offers) {
			continue
		}
		for _, at := range p.places[p.placesFrom[o]:p.placesFrom[o+1]] {
			s := &p.slabs[at.slab]
			pages |= s.pages | p.Placements[s.placement].pages
		}
	}
	if q.Placement >= 0 {
		pages |= p.Placements[q.Placement].pages
	}
	return pages
}
