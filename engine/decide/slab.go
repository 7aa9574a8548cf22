package decide

import (
	"cmp"
	"math"
	"slices"

	"tact/engine/definition"
	"tact/engine/experiment"
	"tact/engine/rule"
	"tact/storage"
)

// slab is everything Pick reads to fill one placement by one policy: flat
// arrays, candidates in the order of their static upper bound (greatest first,
// then by offer), so that the scan may stop at the first bound below the best.
type slab struct {
	placement, policy int32
	channel           definition.Channel
	candidates        []candidate
	details           []detail // of the candidate of the same index
	terms             []rule.Term
	choices           []span // of alternatives: one of them must hold
	alternatives      []span // of terms
	uses              []capUse
	experiments       []int32 // that touch a candidate, rising
	holds             uint64  // holdouts that cover a candidate or the fallback
	rest              []misfit
	fallback          fallback
	universal         bool
	index             *index // nil: every candidate is looked at
	plain             int    // candidates looked at before it is asked
	pages             uint32 // of a person's bits that it reads
	lanes             []lane // of the candidates; none: they are scanned in their order
}

// candidate is what the scan reads of every candidate: one cache line.
type candidate struct {
	bound      float64 // no score of this candidate is above it
	score      float64 // its score, unless flagDynamic or a variant changes the lever
	mask, want uint64  // the first term of its conditions
	word       uint16
	flags      flags
	offer      int32
	treatment  int32
	terms      span  // further terms: all must hold
	choices    span  // conditions with several alternatives: of each one must hold
	scored     int32 // with flagScored: what its propensity is read from, see operand
}

// flags say which checks a candidate needs beyond its first term.
type flags uint16

const (
	flagTerms   flags = 1 << iota // further terms or choices
	flagDates                     // a start or an end
	flagHolds                     // some holdout covers it
	flagTouched                   // some experiment touches it
	flagQuiet                     // quiet hours bind it
	flagDynamic                   // propensity or context is an attribute
	flagCaps                      // some cap applies
	flagScored                    // bound × the person's propensity bounds its score, see outbid

	flagsAccept = flagTerms | flagDates | flagHolds | flagTouched | flagQuiet
)

// detail is what the scan reads only of some candidates, and the slow pass of all.
type detail struct {
	factors factors
	uses    span
	holds   uint64
	quiet   uint64 // quiet hours that bind it, bit per Plan.Quiet
	tie     uint64 // seed of the tie hash
	consent span   // terms of the contact gates, for reasons
	black   span
	reach   span
}

// span is a range of a slab's flat array.
type span struct{ first, count uint32 }

// misfit is an offer of the policy that has no treatment for the placement.
type misfit struct {
	offer  int32
	reason Reason
}

// fallback is the policy's fallback as this placement would show it.
type fallback struct {
	offer, treatment int32 // offer -1: none; treatment -1: reason says why
	reason           Reason
	quiet            uint64 // quiet hours that bind it, bit per Plan.Quiet
	holds            uint64
	consent          span
	black            span
	reach            span
}

func spanOf[T any](s []T, r span) []T { return s[r.first : r.first+r.count] }

// slabBuilder fills one slab.
type slabBuilder struct {
	c *compiler
	s *slab
}

// buildSlab compiles one (placement, policy) pair.
func (c *compiler) buildSlab(placement, policy int32) slab {
	s := slab{placement: placement, policy: policy, channel: c.plan.Placements[placement].Channel}
	b := slabBuilder{c: c, s: &s}
	pol := &c.plan.Policies[policy]
	touched := map[int32]bool{}
	for _, offer := range pol.Candidates {
		treatment, reason := b.treatment(offer)
		if treatment < 0 {
			s.rest = append(s.rest, misfit{offer, reason})
			continue
		}
		b.candidate(offer, treatment)
		for _, e := range c.plan.Offers[offer].experiments {
			touched[e] = true
		}
	}
	b.order(pol)
	b.index()
	b.lanes()
	for e := range touched {
		s.experiments = append(s.experiments, e)
	}
	slices.Sort(s.experiments)
	s.universal = pol.Def.Universal && pageChannel(s.channel)
	b.fallback(pol.Fallback)
	return s
}

// treatment finds the first listed treatment that fits, or why there is none.
func (b *slabBuilder) treatment(offer int32) (int32, Reason) {
	o := &b.c.plan.Offers[offer]
	reason := ChannelMismatch
	for t := o.FirstTreatment; t < o.FirstTreatment+o.TreatmentCount; t++ {
		if b.c.plan.fits(t, b.s.placement) {
			return t, ReasonNone
		}
		if b.c.plan.Treatments[t].Channel == b.s.channel {
			reason = PlacementMismatch
		}
	}
	return -1, reason
}

func (b *slabBuilder) candidate(offer, treatment int32) {
	c, s := b.c, b.s
	o := &c.plan.Offers[offer]
	cand := candidate{offer: offer, treatment: treatment}
	d := detail{holds: o.holds}
	d.consent, d.black, d.reach = b.gates(o)
	all := slices.Concat(spanOf(s.terms, d.consent), spanOf(s.terms, d.black),
		spanOf(s.terms, d.reach))
	firstChoice := len(s.choices)
	for i := range o.rules {
		all = append(all, b.rule(&o.rules[i])...)
	}
	cand.choices = span{uint32(firstChoice), uint32(len(s.choices) - firstChoice)}
	if all = mergeTerms(all); len(all) > 0 {
		cand.word, cand.mask, cand.want = all[0].Word, all[0].Mask, all[0].Want
		cand.terms = b.terms(all[1:])
	}
	if cand.terms.count > 0 || cand.choices.count > 0 {
		cand.flags |= flagTerms
	}
	if o.StartMs != 0 || o.EndMs != 0 {
		cand.flags |= flagDates
	}
	if o.holds != 0 {
		cand.flags |= flagHolds
		s.holds |= o.holds
	}
	if len(o.experiments) > 0 {
		cand.flags |= flagTouched
	}
	if d.quiet = c.quietOf(offer, s); d.quiet != 0 {
		cand.flags |= flagQuiet
	}
	d.uses = b.capUses(offer)
	if d.uses.count > 0 {
		cand.flags |= flagCaps
	}
	d.tie = experiment.Seed("tact/v1/tie/" + c.plan.Policies[s.policy].ID + "/" +
		c.plan.Placements[s.placement].ID + "/" + o.ID)
	b.score(o, &cand, &d)
	s.candidates = append(s.candidates, cand)
	s.details = append(s.details, d)
}

// rule returns the terms of a condition with at most one conjunction; one with
// several becomes a choice.
func (b *slabBuilder) rule(cond *rule.Cond) []rule.Term {
	alternatives := cond.Conjunctions()
	switch {
	case cond.Always():
		return nil
	case len(alternatives) == 0:
		return []rule.Term{never()}
	case len(alternatives) == 1:
		return alternatives[0]
	}
	ch := span{uint32(len(b.s.alternatives)), uint32(len(alternatives))}
	for _, terms := range alternatives {
		b.s.alternatives = append(b.s.alternatives, b.terms(terms))
	}
	b.s.choices = append(b.s.choices, ch)
	return nil
}

func (b *slabBuilder) terms(terms []rule.Term) span {
	r := span{uint32(len(b.s.terms)), uint32(len(terms))}
	b.s.terms = append(b.s.terms, terms...)
	return r
}

// never is a term that holds for nobody: it wants a bit outside its mask.
func never() rule.Term { return rule.Term{Want: 1} }

// mergeTerms joins terms of the same word. Two terms that want different
// values of one bit, or a term that never holds, make the whole never hold.
func mergeTerms(terms []rule.Term) []rule.Term {
	var merged []rule.Term
	for _, t := range terms {
		if t.Want&^t.Mask != 0 {
			return []rule.Term{never()}
		}
		i := slices.IndexFunc(merged, func(m rule.Term) bool { return m.Word == t.Word })
		if i < 0 {
			merged = append(merged, t)
			continue
		}
		m := &merged[i]
		if both := m.Mask & t.Mask; m.Want&both != t.Want&both {
			return []rule.Term{never()}
		}
		m.Mask |= t.Mask
		m.Want |= t.Want
	}
	return merged
}

// score fills in what ranking by product needs; order() overwrites it for
// ranking by order.
func (b *slabBuilder) score(o *Offer, cand *candidate, d *detail) {
	pol := b.c.plan.Policies[b.s.policy].Def
	d.factors = newFactors(o, pol)
	cand.score = d.factors.product(d.factors.propensity, d.factors.context, d.factors.lever)
	cand.bound = cand.score
	if pol.By == definition.RankOrder {
		return
	}
	if o.propensity.dynamic || o.context.dynamic {
		cand.flags |= flagDynamic
	}
	p, ctx, lever := d.factors.propensity, d.factors.context, d.factors.lever
	if o.propensity.dynamic {
		p = 1 // of an attribute in [0, 1] with an exponent of 0 or more
	}
	if o.context.dynamic && pol.Context != 0 {
		ctx = math.MaxFloat64
	}
	for _, e := range o.experiments {
		for _, v := range b.c.plan.Experiments[e].Variants {
			if ch := v.offer(b.offerIndex(o)); ch != nil && ch.hasLever {
				lever = max(lever, power(ch.lever, pol.Lever))
			}
		}
	}
	cand.bound = max(cand.score, d.factors.product(p, ctx, lever))
	if o.propensity.dynamic && !o.context.dynamic && pol.Propensity == 1 &&
		ordinary(ctx) && ordinary(d.factors.value) && ordinary(d.factors.lever) && ordinary(lever) {
		cand.flags |= flagScored
		cand.scored = o.propensity.scored
	}
}

func (b *slabBuilder) offerIndex(o *Offer) int32 { return b.c.plan.offerIDs[o.ID] }

// order sorts the candidates: by bound for products, by the policy's list, then
// by id, for fixed orders, whose score is 1/position.
func (b *slabBuilder) order(pol *Policy) {
	s := b.s
	place := map[int32]int{}
	if pol.Def.By == definition.RankOrder {
		for i, id := range pol.Def.Order {
			if at, ok := b.c.plan.offerIDs[id]; ok {
				if _, twice := place[at]; !twice {
					place[at] = i
				}
			}
		}
	}
	index := make([]int, len(s.candidates))
	for i := range index {
		index[i] = i
	}
	slices.SortFunc(index, func(x, y int) int {
		a, z := &s.candidates[x], &s.candidates[y]
		if pol.Def.By == definition.RankOrder {
			i, listedA := place[a.offer]
			j, listedZ := place[z.offer]
			switch {
			case listedA && listedZ:
				return cmp.Compare(i, j)
			case listedA:
				return -1
			case listedZ:
				return 1
			}
			return cmp.Compare(a.offer, z.offer)
		}
		return cmp.Or(cmp.Compare(z.bound, a.bound), cmp.Compare(a.offer, z.offer))
	})
	candidates, details := make([]candidate, len(index)), make([]detail, len(index))
	for to, from := range index {
		candidates[to], details[to] = s.candidates[from], s.details[from]
		if pol.Def.By == definition.RankOrder {
			candidates[to].score = 1 / float64(to+1)
			candidates[to].bound = candidates[to].score
			candidates[to].flags &^= flagDynamic
		}
	}
	s.candidates, s.details = candidates, details
}

// gates compiles the contact gates of an offer on the slab's channel: consent,
// blacklist, address.
//
// On a channel of consent_required marketing needs a consent granted for (the
// offer's purpose, channel). Elsewhere (page channels, as a rule) marketing is
// refused only when its purpose, or the purpose "personalisation", was
// explicitly withdrawn for that channel. Transactional messages are refused
// only by an explicit withdrawal of their purpose, mandatory ones never.
func (b *slabBuilder) gates(o *Offer) (consent, black, reach span) {
	c, ch := b.c, b.s.channel
	var terms []rule.Term
	switch {
	case o.Class == definition.Mandatory:
	case o.Class == definition.Transactional:
		terms = append(terms, want(c.builder.Withdrawn(o.Purpose, uint8(ch)), false))
	case c.plan.Workspace.ConsentRequired&(1<<ch) != 0:
		terms = append(terms, want(c.builder.Consent(o.Purpose, uint8(ch)), true))
	default:
		terms = append(terms, want(c.builder.Withdrawn(o.Purpose, uint8(ch)), false))
		if o.Purpose != c.personalisation {
			terms = append(terms, want(c.builder.Withdrawn(c.personalisation, uint8(ch)), false))
		}
	}
	consent = b.terms(terms)
	if o.Class != definition.Mandatory {
		black = b.terms([]rule.Term{want(c.builder.Blacklisted(uint8(ch)), false)})
	}
	if !pageChannel(ch) {
		reach = b.terms([]rule.Term{want(c.builder.Reachable(uint8(ch)), true)})
	}
	return consent, black, reach
}

// want is the term that asks one bit to be set, or not to be.
func want(l rule.Lit, set bool) rule.Term {
	t := rule.Term{Word: l.Word, Mask: 1 << l.Bit}
	if set {
		t.Want = t.Mask
	}
	return t
}

func (b *slabBuilder) fallback(offer int32) {
	f := fallback{offer: offer, treatment: -1}
	if offer >= 0 {
		o := &b.c.plan.Offers[offer]
		f.treatment, f.reason = b.treatment(offer)
		f.consent, f.black, f.reach = b.gates(o)
		f.holds = o.holds
		b.s.holds |= o.holds
		f.quiet = b.c.quietOf(offer, b.s)
	}
	b.s.fallback = f
}

// pageChannel tells whether a channel shows on a page the person has open, so
// that it needs no address.
func pageChannel(ch definition.Channel) bool {
	return ch == definition.ChannelWeb || ch == definition.ChannelInApp
}

// offer finds what the variant changes of an offer, or nil.
func (v *Variant) offer(offer int32) *offerChange {
	i, ok := slices.BinarySearchFunc(v.offers, offer, func(c offerChange, o int32) int {
		return cmp.Compare(c.offer, o)
	})
	if !ok {
		return nil
	}
	return &v.offers[i]
}

// placement finds the policy the variant gives a placement, or -1.
func (v *Variant) placement(placement int32) int32 {
	for _, c := range v.placements {
		if c.placement == placement {
			return c.policy
		}
	}
	return -1
}

// capUse is one counter that a cap keeps for a candidate.
type capUse struct {
	key   storage.CounterKey
	cap   int32
	kind  capKind
	scope definition.CapScope
	total bool
	gap   bool // the counter of a total's min_gap
	holds bool // a winner holds a use of it
	// closes: the cap's suppression binds the offer's class.
	closes bool
	cost   uint16 // of a budget in money: what a use costs, into Plan.costs; 0 = one use
}
