package decide

import (
	"cmp"
	"slices"

	"tact/engine/rule"
)

// mostHurdles makes the hurdles of a candidate fill one cache line.
const mostHurdles = 3

// hurdles are terms that a candidate must pass, of its rules, its consent and the
// blacklist: those that fewest people are thought to pass. Each has the depth that a
// candidate which fails it can reach at most; the least comes first. One of no term
// lets everybody pass.
type hurdles struct {
	mask, want [mostHurdles]uint64
	word       [mostHurdles]uint16
	depth      [mostHurdles]uint8
}

// hurdle is one of them.
type hurdle struct {
	term   rule.Term
	depth  int
	likely float64 // share of people thought to pass
}

// hurdles chooses those of candidate i.
func (b *slabBuilder) hurdles(i int) hurdles {
	o, d := &b.c.plan.Offers[b.s.candidates[i].offer], &b.s.details[i]
	var all []hurdle
	add := func(terms []rule.Term, depth int) {
		for _, t := range terms {
			h := hurdle{term: t, depth: depth, likely: 1}
			for open := t.Mask; open != 0; open &= open - 1 {
				bit := open & -open
				h.likely *= b.c.builder.Likely(rule.Term{Word: t.Word, Mask: bit, Want: t.Want & bit})
			}
			all = append(all, h)
		}
	}
	for k := range o.rules {
		reason, stage := Ineligible, Stage(k+1)
		if o.hasKnown[k] {
			reason = ValueUnknown
		}
		switch alternatives := o.rules[k].Conjunctions(); len(alternatives) {
		case 0:
			all = append(all, hurdle{term: never(), depth: depth(reason, stage)})
		case 1:
			add(alternatives[0], depth(reason, stage))
		}
	}
	add(spanOf(b.s.terms, d.consent), depth(ConsentMissing, StageNone))
	add(spanOf(b.s.terms, d.black), depth(Blacklisted, StageNone))
	slices.SortStableFunc(all, func(a, z hurdle) int { return cmp.Compare(a.likely, z.likely) })
	all = all[:min(len(all), mostHurdles)]
	slices.SortStableFunc(all, func(a, z hurdle) int { return cmp.Compare(a.depth, z.depth) })
	var h hurdles
	for k := range all {
		t := &all[k].term
		h.word[k], h.mask[k], h.want[k] = t.Word, t.Mask, t.Want
		h.depth[k] = uint8(all[k].depth)
	}
	return h
}

// within is how deep a candidate can get by its hurdles: an upper bound of reach.
// Cost: one cache line, and three comparisons of words.
func (r *run) within(h *hurdles) int {
	for k := range h.word {
		if r.row[h.word[k]]&h.mask[k] != h.want[k] {
			return int(h.depth[k])
		}
	}
	return depth(Failed, StageNone)
}
