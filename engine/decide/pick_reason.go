package decide

import (
	"slices"

	"tact/storage"
)

// verdict is why a candidate was refused, with what refused it.
type verdict struct {
	reason                   Reason
	stage                    Stage
	cap, experiment, holdout int32
	quiet                    int32
	until                    storage.UnixSec
}

func refused(r Reason) verdict {
	return verdict{reason: r, cap: -1, experiment: -1, holdout: -1, quiet: -1}
}

// reasons is the second pass over one slot: it judges the candidates gate by
// gate, writes the trace when asked, and returns the reason of the candidate that
// got furthest, and until when it holds: the earliest of those with that reason
// that say, 0 when none does. full says that the slot got all the items it wanted;
// fallen is the verdict on the fallback. Without a trace the candidates of an
// indexed slab that cannot change the answer are passed over.
func (r *run) reasons(
	s *slab, slot int32, start mark, full bool, fallen verdict,
) (Reason, storage.UnixSec) {
	d := deepest{depth: -1, reason: Inactive, until: Never}
	candidates := s.candidates
	if s.index != nil && !r.req.Explain {
		r.furthest(s, slot, start, &d)
		candidates = nil
	}
	for i := range candidates {
		line := TraceLine{Slot: slot, Offer: s.candidates[i].offer}
		v := refused(ReasonNone)
		if line.Rank = r.rankOf(line.Offer, start.items); line.Rank == 0 {
			v = r.lost(s, i, slot, start, full)
			d.note(&v)
		}
		if r.req.Explain {
			line.Score = r.traceScore(s, i)
			r.trace(line, &v)
		}
	}
	for _, m := range s.rest {
		if d.depth >= int(PlacementMismatch) && !r.req.Explain {
			break
		}
		v := refused(m.reason)
		if early := r.catalogue(m.offer); early != ReasonNone {
			v.reason = early
		}
		d.note(&v)
		r.trace(TraceLine{Slot: slot, Offer: m.offer}, &v)
	}
	if s.fallback.offer >= 0 && r.given(start.items) == 0 || r.fellBack(start.items) {
		line := TraceLine{Slot: slot, Offer: s.fallback.offer, Fallback: true}
		if fallen.reason == ReasonNone {
			line.Rank = 1
		}
		r.trace(line, &fallen)
		if d.depth < 0 {
			d.note(&fallen)
		}
	}
	if d.until == Never {
		d.until = 0
	}
	return d.reason, d.until
}

// given is the number of items of this slot so far; fellBack tells whether its
// one item is the fallback.
func (r *run) given(first int) int { return len(r.out.Items) - first }

func (r *run) fellBack(first int) bool {
	return r.given(first) == 1 && r.out.Items[first].Fallback
}

// trace adds one line to the result when the request asks for it.
func (r *run) trace(line TraceLine, v *verdict) {
	if !r.req.Explain {
		return
	}
	line.Reason, line.Stage, line.Until = v.reason, v.stage, v.until
	line.Cap, line.Experiment, line.Holdout = v.cap, v.experiment, v.holdout
	line.Quiet = v.quiet
	r.out.Trace = append(r.out.Trace, line)
}

// rankOf is the rank of an offer among the picks of this slot, or 0.
func (r *run) rankOf(offer int32, first int) int {
	for _, it := range r.out.Items[first:] {
		if it.Offer == offer && !it.Fallback {
			return it.Rank
		}
	}
	return 0
}

// lost says why a candidate that was not picked was not: what refused it before
// the slot's own picks; else, in a full slot, arbitration; else what the slot's
// own picks took from it.
func (r *run) lost(s *slab, i int, slot int32, start mark, full bool) verdict {
	v := r.judge(s, i, slot, start)
	if v.reason != ReasonNone {
		return v
	}
	if !full {
		now := mark{items: len(r.out.Items), uses: len(r.out.work.uses)}
		if v = r.judge(s, i, slot, now); v.reason != ReasonNone {
			return v
		}
	}
	return refused(LostArbitration)
}

// traceScore is the score a candidate has for this person.
func (r *run) traceScore(s *slab, i int) float64 {
	c := &s.candidates[i]
	change, _ := r.change(c.offer, s.placement)
	if c.flags&flagDynamic == 0 && !change.hasLever {
		return c.score
	}
	score, _ := r.score(s, i, &change)
	return score
}

// judge walks the gates in their order, with the items and uses of the request
// as they stood at a mark, and returns the first that refuses.
func (r *run) judge(s *slab, i int, slot int32, at mark) verdict {
	c, d := &s.candidates[i], &s.details[i]
	if early := r.catalogue(c.offer); early != ReasonNone {
		return refused(early)
	}
	if r.blocked(slot, c.offer) {
		return refused(BlockedByRequest)
	}
	if v := r.judgeOffer(s, i, GatesAll, r.out.work.uses[:at.uses]); v.reason != ReasonNone {
		return v
	}
	switch {
	case r.duplicate(c.offer, at.items):
		return refused(DuplicateInRequest)
	case !r.allHold(s, d.reach):
		return refused(NoTreatment)
	case r.over.NoReserve && d.uses.count > 0:
		return refused(Deadline)
	case r.excluded(slot, c.offer):
		return refused(RenderError)
	}
	return refused(ReasonNone)
}

// catalogue judges what needs no person: stopped by hand, and dates.
func (r *run) catalogue(offer int32) Reason {
	if slices.Contains(r.over.Stopped, offer) {
		return Inactive
	}
	return r.dates(offer)
}

func (r *run) blocked(slot, offer int32) bool {
	ask := &r.req.Slots[slot]
	return ask.Allow != nil && !slices.Contains(ask.Allow, offer) ||
		slices.Contains(ask.Block, offer)
}

func (r *run) excluded(slot, offer int32) bool {
	return slices.Contains(r.over.Excluded, Exclusion{Slot: slot, Offer: offer})
}

// judgeRules judges the three rule lists. A rule that asks for values to be
// known and lacks one gives value_unknown, whatever else it would have said.
func (r *run) judgeRules(offer int32) verdict {
	reason, stage := r.ruleOut(offer)
	v := refused(reason)
	v.stage = stage
	return v
}

// ruleOut finds the first rule list that refuses an offer, and how.
func (r *run) ruleOut(offer int32) (Reason, Stage) {
	o := &r.p.Offers[offer]
	for i := range o.rules {
		if o.rules[i].Holds(r.row) {
			continue
		}
		if o.hasKnown[i] && !o.known[i].Holds(r.row) {
			return ValueUnknown, Stage(i + 1)
		}
		return [...]Reason{Ineligible, NotApplicable, NotSuitable}[i], Stage(i + 1)
	}
	return ReasonNone, StageNone
}

// listed tells whether a suppression list blocks the channel for the person:
// what the blacklist binds, it binds.
func (r *run) listed(s *slab) bool { return r.who.Listed&(1<<s.channel) != 0 }

// judgeContact judges consent, blacklist and quiet hours.
func (r *run) judgeContact(s *slab, consent, black span, quiet uint64) verdict {
	switch {
	case !r.allHold(s, consent):
		return refused(ConsentMissing)
	case !r.allHold(s, black), black.count > 0 && r.listed(s):
		return refused(Blacklisted)
	}
	v := refused(r.quiet(quiet))
	if v.reason != ReasonNone {
		var hold bool
		if v.quiet, hold = r.quietBy(quiet); hold {
			v.until = r.quietUntil(quiet)
		}
	}
	return v
}

// duplicate tells whether one of the first n items keeps the offer from being
// picked again. Within one slot the scan itself never picks an offer twice.
func (r *run) duplicate(offer int32, n int) bool {
	switch r.req.Dedupe {
	case DedupeNone:
		return false
	case DedupeOfferGroup:
		if r.groupTaken(offer, n) {
			return true
		}
	}
	for _, it := range r.out.Items[:n] {
		if it.Offer == offer {
			return true
		}
	}
	return false
}

// judgeFallback judges the policy's fallback: catalogue, holdout and
// experiment exclusion, consent, blacklist, quiet hours, address; no rules and
// no caps. A universal one skips holdout, experiment exclusion and consent.
func (r *run) judgeFallback(s *slab, slot int32) verdict {
	f := &s.fallback
	if early := r.catalogue(f.offer); early != ReasonNone {
		return refused(early)
	}
	if f.treatment < 0 {
		return refused(f.reason)
	}
	if r.blocked(slot, f.offer) {
		return refused(BlockedByRequest)
	}
	consent := f.consent
	if s.universal {
		consent = span{}
	} else {
		if r.heldBy(f.holds) >= 0 {
			return refused(HeldOut)
		}
		if change, _ := r.change(f.offer, s.placement); change.exclude {
			return refused(ExperimentExcluded)
		}
	}
	if v := r.judgeContact(s, consent, f.black, f.quiet); v.reason != ReasonNone {
		return v
	}
	switch {
	case !r.allHold(s, f.reach):
		return refused(NoTreatment)
	case r.excluded(slot, f.offer):
		return refused(RenderError)
	}
	return refused(ReasonNone)
}

// giveFallback appends the fallback: it counts nothing.
func (r *run) giveFallback(s *slab, slot int32) {
	f := &s.fallback
	o := &r.p.Offers[f.offer]
	factors := newFactors(o, r.p.Policies[s.policy].Def)
	it := Item{
		Slot: slot, Offer: f.offer, Treatment: f.treatment, Rank: 1, Probability: 1,
		Propensity: r.stated(f.offer, &factors), Channel: uint8(s.channel), Fallback: true,
		Hold: holdOther, Grace: graceDefault,
		FirstKey: int32(len(r.out.Keys)), FirstDecisionKey: int32(len(r.out.Keys)),
	}
	if pageChannel(s.channel) {
		it.Hold = holdPage
	}
	if change, _ := r.change(f.offer, s.placement); change.treatment >= 0 {
		it.Treatment = change.treatment
	}
	r.take(f.offer)
	r.out.Items = append(r.out.Items, it)
}
