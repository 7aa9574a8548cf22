package engine

import (
	"fmt"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// Gates are the gates of a bulk question beside the catalogue and the rules,
// which always bind.
type Gates uint8

// Gates, as package decide has them.
const (
	GateExperiments = Gates(decide.GateExperiments) // holdouts and experiments
	GateContact     = Gates(decide.GateContact)     // consent, blacklist, quiet hours, address
	GateCaps        = Gates(decide.GateCaps)
	GatesAll        = Gates(decide.GatesAll)
)

// EligibilityQuery asks which offers people may be given. Slices are borrowed
// until Eligibility returns.
type EligibilityQuery struct {
	Offers    [][]byte // nil = every offer of the revision in force
	Placement []byte   // empty = wherever a policy selects the offer
	Channel   []byte   // empty = any
	Gates     Gates
	Context   []NamedValue // of the request that is supposed; absent keys are missing
}

// Eligibility judges offers for one person after another, all by one revision
// and at one time. One goroutine at a time.
type Eligibility struct {
	At       storage.UnixMsec
	Revision uint32

	e        *Engine
	work     decideWork
	question decide.Question
	single   decide.Question
	full     decide.Overlay
	verdicts []decide.Verdict
	totals   []storage.HeldKey
	req      DecideRequest
}

// OfferVerdict says of one offer whether the person may be given it. Reason is
// empty when it may; else Detail names the cap, experiment, holdout or rule list
// that refused, and Until when a cap will allow it again (0: not by a cap).
type OfferVerdict struct {
	OfferID     string
	PlacementID string // where it may be given, or got furthest; empty = nowhere
	Reason      string
	Detail      string
	Until       storage.UnixSec
	ByDay       bool // a window of its rules was answered by calendar day
}

// Eligibility readies a question. Errors are *Problem.
func (e *Engine) Eligibility(q *EligibilityQuery) (*Eligibility, error) {
	x := &Eligibility{e: e, At: e.clock.Now()}
	w := &x.work
	w.snap, w.now = e.snap.Load(), x.At
	x.Revision = w.snap.Revision
	x.question = decide.Question{Placement: -1, Gates: decide.Gates(q.Gates)}
	if err := x.narrow(q); err != nil {
		return nil, err
	}
	if q.Offers == nil {
		for i := range w.snap.Plan.Offers {
			x.question.Offers = append(x.question.Offers, int32(i))
		}
	}
	for i, id := range q.Offers {
		offer, ok := w.snap.Plan.OfferByID(id)
		if !ok {
			return nil, w.unknown("offer", fmt.Sprintf("offers[%d]", i), id)
		}
		x.question.Offers = append(x.question.Offers, offer)
	}
	if err := w.prepareContext(&DecideRequest{Context: q.Context}); err != nil {
		return nil, err
	}
	x.question.Words, x.question.Context = w.words, w.context
	x.req = DecideRequest{Mode: ModePreview} // the bits at x.At, kept nowhere
	w.pages = w.snap.Plan.QuestionPages(&x.question)
	x.single = x.question
	x.single.Overlay = &x.full
	return x, nil
}

// narrow resolves the placement and the channel.
func (x *Eligibility) narrow(q *EligibilityQuery) error {
	w := &x.work
	if len(q.Placement) > 0 {
		placement, ok := w.snap.Plan.PlacementByID(q.Placement)
		if !ok {
			return w.unknown("placement", "placement_id", q.Placement)
		}
		x.question.Placement = placement
	}
	if len(q.Channel) > 0 {
		for ch := range definition.ChannelCount {
			if ch.String() == string(q.Channel) {
				x.question.Channels = decide.ChannelBit(ch)
				return nil
			}
		}
		return invalid("unknown_channel", "channel", fmt.Sprintf("there is no channel %q", q.Channel))
	}
	return nil
}

// User judges the offers for one user: known is false, and nothing is said, for
// an id that nobody has. The verdicts come in the order of the offers asked for
// (by id when all were). A fault of the id is a *Problem.
//
// The person's group is locked for as long as it takes, a few µs for each
// thousand offers beside the judgement of the person's conditions.
func (x *Eligibility) User(id []byte, dst []OfferVerdict) (
	_ []OfferVerdict, known bool, err error,
) {
	if err := checkUserID(id, "users"); err != nil {
		return dst, false, err
	}
	e, w := x.e, &x.work
	w.id = append(w.id[:0], id...)
	g := e.store.GroupOf(e.store.SlotOf(workspaceID, id))
	g.Lock()
	ord, ok := g.Find(workspaceID, e.store.IndexHash(workspaceID, id), id)
	if ok {
		err = x.judgeLocked(g, ord)
		w.noteByDay()
	}
	g.Unlock()
	if !ok || err != nil {
		return dst, false, err
	}
	return x.show(dst), true, nil
}

// judgeLocked judges the offers for the person at ord, whose id is in the work.
func (x *Eligibility) judgeLocked(g *storage.Group, ord storage.Ord) error {
	w := &x.work
	w.group, w.ord, w.known = g, ord, true
	if err := x.e.readPerson(&x.req, w); err != nil {
		return err
	}
	at := decide.Moment{Ms: x.At, Instant: x.e.instant(g, x.At)}
	plan := w.snap.Plan
	x.verdicts = plan.Judge(&x.question, &w.person, at, x.verdicts[:0], &w.result)
	if x.question.Gates&decide.GateCaps == 0 {
		return nil
	}
	for i := range x.verdicts {
		v := &x.verdicts[i]
		x.full.ResetTotals()
		// Of several placements the next may be sold out too: each turn finds the
		// totals of one.
		for range plan.Placements {
			if v.Reason != decide.ReasonNone || !x.soldOut(v) {
				break
			}
			x.single.Offers = x.question.Offers[i : i+1]
			var one [1]decide.Verdict
			*v = plan.Judge(&x.single, &w.person, at, one[:0], &w.result)[0]
		}
	}
	return nil
}

// soldOut looks at the totals of an offer that may be given otherwise, and keeps
// the full ones for its next judgement.
func (x *Eligibility) soldOut(v *decide.Verdict) bool {
	before := len(x.full.FullTotals)
	snap, totals := x.work.snap, x.e.store.Totals()
	x.totals = snap.Plan.AppendTotalKeys(x.totals[:0], v, x.At)
	for i := range x.totals {
		k := &x.totals[i]
		limit, since := snap.offerRule(k, x.At)
		if totals.UsedSince(k.Key, since) > limit-k.Units() {
			x.full.AddFull(k.Key, k.Cost, snap.freeAt(totals, k, x.At))
			snap.paced(&x.full, k, totals, x.At)
		}
	}
	return len(x.full.FullTotals) > before
}

// show turns the verdicts into names.
func (x *Eligibility) show(dst []OfferVerdict) []OfferVerdict {
	plan := x.work.snap.Plan
	for i := range x.verdicts {
		v := &x.verdicts[i]
		out := OfferVerdict{
			OfferID: plan.Offers[v.Offer].ID, Reason: v.Reason.String(), Until: v.Until,
			ByDay: plan.Asks(v.Offer, x.work.byDay),
		}
		if v.Placement >= 0 {
			out.PlacementID = plan.Placements[v.Placement].ID
		}
		switch {
		case v.Cap >= 0:
			out.Detail = "cap " + plan.Caps[v.Cap].ID
		case v.Experiment >= 0:
			out.Detail = "experiment " + plan.Experiments[v.Experiment].ID
		case v.Holdout >= 0:
			out.Detail = "holdout " + plan.Holdouts[v.Holdout].ID
		case v.Stage != decide.StageNone:
			out.Detail = v.Stage.String()
		}
		dst = append(dst, out)
	}
	return dst
}
