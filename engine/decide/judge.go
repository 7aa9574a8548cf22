package decide

import (
	"slices"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// Gates are the gates that Judge applies beside the catalogue and the rules,
// which always bind.
type Gates uint8

// Gates. GateExperiments: holdouts, and what experiments exclude or change.
// GateContact: consent, blacklist, quiet hours, suppression, and an address on
// channels that need one. GateCaps: every cap and its minimum gap.
const (
	GateExperiments Gates = 1 << iota
	GateContact
	GateCaps

	GatesAll = GateExperiments | GateContact | GateCaps
)

// Question asks which of some offers one person may be given. Slices are
// borrowed until Judge returns.
type Question struct {
	Offers    []int32
	Placement int32  // -1 = any placement whose policy selects the offer
	Channels  uint16 // bit per channel; 0 = any
	Gates     Gates
	Words     []uint64            // request bits: Program.EvalRequest
	Context   []rule.ContextValue // for experiments whose unit is a context key
	Overlay   *Overlay            // full totals, offers stopped, forced variants; nil = none
}

// Verdict is the answer for one offer. Reason is ReasonNone when a decision
// could give it; else the first gate that refuses, at the placement where the
// offer got furthest. Placement is where that is, -1 when it is nowhere. Cap,
// Experiment and Holdout are -1 when they did not refuse.
type Verdict struct {
	Offer, Placement         int32
	Reason                   Reason
	Stage                    Stage
	Cap, Experiment, Holdout int32
	Until                    storage.UnixSec

	slab, index int32 // of the candidate judged, -1 = none
}

// place is one slab in which an offer is a candidate.
type place struct{ slab, index int32 }

// indexPlaces notes where every offer is a candidate: 8 bytes a candidate.
func (p *Plan) indexPlaces() {
	p.placesFrom = make([]uint32, len(p.Offers)+1)
	for i := range p.slabs {
		for j := range p.slabs[i].candidates {
			p.placesFrom[p.slabs[i].candidates[j].offer+1]++
		}
	}
	for o := range p.Offers {
		p.placesFrom[o+1] += p.placesFrom[o]
	}
	next := slices.Clone(p.placesFrom)
	p.places = make([]place, p.placesFrom[len(p.Offers)])
	for i := range p.slabs {
		for j := range p.slabs[i].candidates {
			o := p.slabs[i].candidates[j].offer
			p.places[next[o]] = place{int32(i), int32(j)}
			next[o]++
		}
	}
}

// Judge says of every offer of the question whether a decision could give it to
// the person now, by the gates asked for: the verdicts are appended to dst in
// the order of Offers. With GatesAll an offer is eligible at a placement exactly
// when Pick, asked for that placement with this offer as the only one allowed,
// gives it. An offer that no policy of the placements in question selects is
// placement_mismatch where a placement was named, channel_mismatch where
// channels were, else inactive.
//
// It is as pure as Pick, and judges by the same gates. Totals that are full come
// in the overlay: see AppendTotalKeys. Every verdict is error when who.Bits or
// Words are too short. It reads the pages of QuestionPages.
//
// Cost: for each offer and placement a few comparisons of words, and a look at
// its caps when they are asked for; no allocation once dst and out have grown.
func (p *Plan) Judge(
	q *Question, who *Person, at Moment, dst []Verdict, out *Result,
) []Verdict {
	out.Reset()
	w := &out.work
	w.judged = Overlay{NoExperiments: q.Gates&GateExperiments == 0}
	if over := q.Overlay; over != nil {
		w.judged.FullTotals, w.judged.Scarce = over.FullTotals, over.Scarce
		w.judged.FullUntil, w.judged.FullCost = over.FullUntil, over.FullCost
		w.judged.Paced = over.Paced
		w.judged.Stopped, w.judged.Assign = over.Stopped, over.Assign
		w.judged.NoExperiments = w.judged.NoExperiments || over.NoExperiments
	}
	w.asked = Request{Words: q.Words, Context: q.Context}
	r := run{p: p, req: &w.asked, who: who, at: &at, over: &w.judged, out: out}
	ready := r.prepare(uint32(1<<p.Program.Pages() - 1))
	for _, o := range q.Offers {
		switch {
		case !ready || !r.valid(o):
			dst = append(dst, newVerdict(o, Failed))
		default:
			dst = append(dst, r.question(q, o))
		}
	}
	return dst
}

// Asks says whether a rule of an offer looks at a bit that is set in row, a row
// as rule.MakeRow makes it of bits of a person.
func (p *Plan) Asks(offer int32, row []uint64) bool {
	o := &p.Offers[offer]
	for k := range o.rules {
		if o.rules[k].Asks(row) || o.known[k].Asks(row) {
			return true
		}
	}
	return false
}

func newVerdict(offer int32, reason Reason) Verdict {
	return Verdict{
		Offer: offer, Placement: -1, Reason: reason, Cap: -1, Experiment: -1, Holdout: -1,
		slab: -1, index: -1,
	}
}

// question judges one offer wherever the question allows.
func (r *run) question(q *Question, offer int32) Verdict {
	if early := r.catalogue(offer); early != ReasonNone {
		return newVerdict(offer, early)
	}
	best, deepest := newVerdict(offer, ReasonNone), -1
	from, to := r.p.placesFrom[offer], r.p.placesFrom[offer+1]
	for _, at := range r.p.places[from:to] {
		s := &r.p.slabs[at.slab]
		if !q.asks(s) {
			continue
		}
		if r.enter(s.placement); r.policy(s.placement) != s.policy {
			continue
		}
		v := r.judgeOffer(s, int(at.index), q.Gates, nil)
		if v.reason != ReasonNone && q.Gates&GateCaps != 0 && r.keeps(s, int(at.index), q.Gates) {
			v = refused(ReasonNone)
		}
		if v.reason == ReasonNone && q.Gates&GateContact != 0 &&
			!r.allHold(s, s.details[at.index].reach) {
			v.reason = NoTreatment
		}
		d := depth(v.reason, v.stage)
		if v.reason != ReasonNone && d <= deepest {
			continue
		}
		best = Verdict{
			Offer: offer, Placement: s.placement, Reason: v.reason, Stage: v.stage, Cap: v.cap,
			Experiment: v.experiment, Holdout: v.holdout, Until: v.until,
			slab: at.slab, index: at.index,
		}
		if v.reason == ReasonNone {
			return best
		}
		deepest = d
	}
	if deepest < 0 {
		best.Reason = r.nowhere(q, offer)
	}
	return best
}

// EachPlace calls f for the placements at which a question would look at an offer,
// one after the other; with the gate of experiments also for those to which only
// an experiment leads. A placement may come twice.
func (p *Plan) EachPlace(q *Question, offer int32, f func(placement int32)) {
	for _, at := range p.places[p.placesFrom[offer]:p.placesFrom[offer+1]] {
		s := &p.slabs[at.slab]
		if q.asks(s) && (q.Gates&GateExperiments != 0 ||
			p.Placements[s.placement].Policy == s.policy) {
			f(s.placement)
		}
	}
}

// asks tells whether a slab is in question.
func (q *Question) asks(s *slab) bool {
	return (q.Placement < 0 || q.Placement == s.placement) &&
		(q.Channels == 0 || q.Channels&(1<<s.channel) != 0)
}

// nowhere is the reason of an offer that no slab in question has.
func (r *run) nowhere(q *Question, offer int32) Reason {
	switch {
	case q.Placement >= 0:
		if q.Channels != 0 && q.Channels&(1<<r.p.Placements[q.Placement].Channel) == 0 {
			return ChannelMismatch
		}
		if s := r.slab(&SlotRequest{Placement: q.Placement, Policy: -1}); s != nil {
			for _, m := range s.rest {
				if m.offer == offer {
					return m.reason
				}
			}
		}
		return PlacementMismatch
	case q.Channels != 0:
		return ChannelMismatch
	}
	return Inactive
}

// AppendTotalKeys appends the totals that would refuse the verdict's offer if
// they were full: those a decision takes a unit of, and those that a reaction or a
// contact elsewhere will. The caller puts the full ones into Overlay.FullTotals and asks
// again. Cost: O(caps of the offer), no allocation when dst has room.
func (p *Plan) AppendTotalKeys(
	dst []storage.HeldKey, v *Verdict, now storage.UnixMsec,
) []storage.HeldKey {
	if v.slab < 0 {
		return dst
	}
	s := &p.slabs[v.slab]
	for _, u := range spanOf(s.uses, s.details[v.index].uses) {
		if u.total {
			if u.gap {
				dst = append(dst, p.gapKey(&p.Caps[u.cap], u.key.Dim, now))
				continue
			}
			k := p.heldKey(&p.Caps[u.cap], u.key.Dim, now, nil)
			k.Cost = p.costs[u.cost]
			dst = append(dst, k)
		}
	}
	return dst
}

// judgeOffer walks the gates between the catalogue and the caps in their order,
// with the uses that picks of the same request take, and returns the first that
// refuses. Pick's reasons and Judge both come from here.
func (r *run) judgeOffer(s *slab, i int, gates Gates, in []inUse) verdict {
	c, d := &s.candidates[i], &s.details[i]
	if gates&GateExperiments != 0 {
		if v := r.judgeDraws(s, i); v.reason != ReasonNone {
			return v
		}
	}
	if v := r.judgeRules(c.offer); v.reason != ReasonNone {
		return v
	}
	if gates&GateContact != 0 {
		if v := r.judgeContact(s, d.consent, d.black, d.quiet); v.reason != ReasonNone {
			return v
		}
	}
	uses := spanOf(s.uses, d.uses)
	if gates&GateContact != 0 && c.flags&flagCaps != 0 {
		if f := r.suppressing(uses, in); f.cap >= 0 {
			v := refused(f.reason)
			v.cap, v.until = f.cap, f.until
			r.out.work.moving = true
			return v
		}
	}
	if gates&GateCaps == 0 {
		return refused(ReasonNone)
	}
	if r.needsPerson(uses) {
		return refused(UserNotFound)
	}
	if f := r.refusing(uses, in); f.cap >= 0 {
		v := refused(f.reason)
		v.cap, v.until = f.cap, f.until
		r.out.work.moving = true
		return v
	}
	return refused(ReasonNone)
}

// ChannelBit is the bit of a channel in Question.Channels.
func ChannelBit(ch definition.Channel) uint16 { return 1 << ch }
