package engine

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// remaining is what is left of the request's time, at least a nanosecond: 0
// would mean the store's own deadline.
func (e *Engine) remaining(w *decideWork) time.Duration {
	passed := time.Duration(e.clock.Now()-w.start) * time.Millisecond
	return max(w.timeout-passed, 1)
}

// reply turns the result of the last try into out.
func (e *Engine) reply(req *DecideRequest, out *Decision) {
	w := &out.work
	plan := w.snap.Plan
	out.UserID = shownID(w.id)
	if req.Mode != ModeLive {
		out.Durability = durabilityNone
	}
	for _, a := range w.result.Assignments {
		x := &plan.Experiments[a.Experiment]
		out.Assignments = append(out.Assignments, AssignmentReply{x.ID, x.Variants[a.Variant].ID})
	}
	for _, c := range w.result.Capped {
		out.Capped = append(out.Capped, CappedReply{
			plan.Caps[c.Cap].ID, plan.Offers[c.Offer].ID, ends(c.Until),
		})
	}
	for i := range w.result.Slots {
		s := &w.result.Slots[i]
		out.Slots = append(out.Slots, SlotReply{})
		r := &out.Slots[i]
		r.Key, r.First, r.Count = req.Placements[i].Key, int(s.First), int(s.Count)
		r.Fallback, r.Reason, r.Until = s.Kind == decide.SlotFallback, s.Reason.String(), s.Until
	}
	for i := range w.result.Items {
		if i == cap(out.Items) {
			out.Items = append(out.Items, ItemReply{})
		}
		out.Items = out.Items[:i+1]
		e.itemReply(w, i, out.HasID, &out.Items[i])
	}
	// buf no longer moves: the slices may point into it.
	for i := range out.Items {
		out.Items[i].Content = w.buf[w.spans[i].contentLo:w.spans[i].contentHi]
		out.Items[i].Token = w.buf[w.spans[i].tokenLo:w.spans[i].tokenHi]
	}
	if req.Explain != ExplainNone {
		e.explain(req, out)
	}
}

// ends is when a refusal ends as replies say it: 0 = never.
func ends(until storage.UnixSec) storage.UnixSec {
	if until == decide.Never {
		return 0
	}
	return until
}

// itemReply describes item i, but for what lies in the reply's buffer.
func (e *Engine) itemReply(w *decideWork, i int, live bool, r *ItemReply) {
	it := &w.result.Items[i]
	plan := w.snap.Plan
	r.OfferID, r.TreatmentID = plan.Offers[it.Offer].ID, plan.Treatments[it.Treatment].ID
	r.Rank, r.Score = it.Rank, it.Score
	r.Propensity, r.Probability = it.Propensity, it.Probability
	r.Channel = definition.Channel(it.Channel).String()
	r.ContentType = w.snap.messages[it.Treatment].contentType
	r.Reserved, r.Reservation, r.ExpiresAt = false, storage.ReservationID{}, 0
	if live && w.held[i].Number != 0 {
		r.Reserved, r.Reservation = true, w.held[i]
		r.ExpiresAt = storage.UnixMsec(toSecUp(w.now)+storage.UnixSec(it.Hold)) * 1000
	}
}

// tokens appends the tracking token of every item to w.buf.
func (e *Engine) tokens(w *decideWork, out *Decision) {
	if !out.HasID {
		return
	}
	ref := storage.PersonRef{Ord: storage.NoOrd}
	if w.group != nil {
		ref.Group = w.group.GroupID()
	}
	if w.known {
		ref.Ord, ref.Person = w.ord, w.refPerson
	}
	for i := range w.result.Items {
		item := w.recordItem(i)
		t := token{
			Decision: out.ID, Person: ref, Offer: item.Offer, Treatment: item.Treatment,
			Placement: w.snap.Plan.Placements[w.slots[w.result.Items[i].Slot].Placement].Name,
			Channel:   item.Channel, Class: item.Class, Life: item.Life, Reservation: item.Reservation,
			Fallback: w.result.Items[i].Fallback,
			Identity: w.person.IdentityKey, Device: w.person.DeviceKey,
		}
		for _, a := range w.result.Assignments {
			if t.NVariants == t.maxVariants() {
				out.Degraded = append(out.Degraded, "assignments_cut")
				break
			}
			t.Variants[t.NVariants] = a.Name
			t.NVariants++
		}
		lo := len(w.buf)
		w.buf = e.sealer.Append(w.buf, &t, &w.token)
		w.spans[i].tokenLo, w.spans[i].tokenHi = lo, len(w.buf)
	}
}

// explain fills the trace: the winners, or every candidate with counts per reason.
func (e *Engine) explain(req *DecideRequest, out *Decision) {
	w := &out.work
	plan := w.snap.Plan
	for _, line := range w.result.Trace {
		if req.Explain == ExplainWinners && line.Rank == 0 {
			continue
		}
		t := TraceReply{
			Key: req.Placements[line.Slot].Key, OfferID: plan.Offers[line.Offer].ID,
			Reason: line.Reason.String(), Until: ends(line.Until),
			ByDay: plan.Asks(line.Offer, w.byDay),
		}
		switch {
		case line.Cap >= 0:
			t.Detail = "cap " + plan.Caps[line.Cap].ID
		case line.Quiet >= 0:
			t.Detail = "quiet_hours " + cmp.Or(plan.Quiet[line.Quiet].ID, "of the workspace")
		case line.Experiment >= 0:
			t.Detail = "experiment " + plan.Experiments[line.Experiment].ID
		case line.Holdout >= 0:
			t.Detail = "holdout " + plan.Holdouts[line.Holdout].ID
		case line.Stage != decide.StageNone:
			t.Detail = line.Stage.String()
		case line.Fallback:
			t.Detail = "fallback"
		}
		out.Trace = append(out.Trace, t)
	}
	if req.Explain == ExplainAll {
		for i := range out.Slots {
			out.Slots[i].Reasons = countReasons(w.result.Trace, int32(i))
		}
	}
}

// countReasons counts the refused candidates of one slot per reason.
func countReasons(trace []decide.TraceLine, slot int32) []ReasonCount {
	var n [decide.ReasonCount]int
	for _, line := range trace {
		if line.Slot == slot && line.Reason != decide.ReasonNone && !line.Fallback {
			n[line.Reason]++
		}
	}
	var out []ReasonCount
	for reason, count := range n {
		if count > 0 {
			out = append(out, ReasonCount{decide.Reason(reason).String(), count})
		}
	}
	return out
}

// replay answers a request_id again with the decision it was answered with
// before: from the record, rendered anew. Its reservations are the same.
func (e *Engine) replay(req *DecideRequest, id storage.DecisionID, out *Decision) error {
	w := &out.work
	rec, ord, err := e.store.ReadDecision(id)
	if err != nil {
		return storeProblem(fmt.Errorf("replay of a decision: %w", err))
	}
	if err := w.record.decode(rec.Record); err != nil {
		return err
	}
	if w.record.Revision != w.snap.Revision {
		if w.snap, err = e.snapshotAt(w.record.Revision); err != nil {
			return err
		}
	}
	w.now = decidedAt(&id)
	w.ticket = storage.Ticket{}
	w.person.IdentityKey, w.person.DeviceKey = w.record.Identity, w.record.Device
	if err := w.resultOf(&w.record); err != nil {
		return err
	}
	w.group.Lock()
	w.ord, w.known = ord, true
	w.person.Profile = w.group.Profile(ord)
	row := w.group.Row(ord)
	if row == nil || !w.stillHeld(ord) {
		w.group.Unlock()
		return errReleased
	}
	w.refPerson = row.Person
	w.who.Zone = w.snap.Plan.Workspace.Zone
	if zone := e.zone(row.Zone); zone != nil {
		w.who.Zone = zone
	}
	e.collect(w)
	w.group.Unlock()
	if e.render(w); len(w.over.Excluded) > 0 {
		return &Problem{
			Class: ProblemBusy, Code: "render_error", Detail: "the decision's message does not render now",
		}
	}
	out.ID, out.HasID, out.Replayed = id, true, true
	e.tallies[w.group.GroupID()].replayed.Add(1)
	out.DecidedAt, out.Revision = w.now, w.record.Revision
	out.Durability = durabilityStrict
	e.tokens(w, out)
	e.reply(req, out)
	return nil
}

// errReleased: the decision to replay was not given; its uses were released.
var errReleased = errors.New("the decision was released")

// stillHeld tells whether no reservation of a replayed decision was released
// before it was answered. The group is locked.
func (w *decideWork) stillHeld(ord storage.Ord) bool {
	for _, id := range w.held {
		if id.Number == 0 {
			continue
		}
		_, state := w.group.Contact(ord).Reservation(id)
		if state == storage.ReservationReleased {
			return false
		}
	}
	return true
}

// resultOf rebuilds the picks of a record under its own revision.
func (w *decideWork) resultOf(r *record) error {
	plan := w.snap.Plan
	res := &w.result
	res.Reset()
	w.slots, w.held = w.slots[:0], w.held[:0]
	next := int32(0)
	for _, s := range r.Slots {
		placement, ok := plan.PlacementByName(s.Placement)
		if !ok {
			return errRecord
		}
		w.slots = append(w.slots, decide.SlotRequest{Placement: placement, Policy: -1})
		res.Slots = append(res.Slots, decide.SlotResult{
			Kind: decide.SlotKind(s.Kind), First: next, Count: int32(s.Count),
			Reason: decide.Reason(s.Reason), Policy: -1,
		})
		for _, it := range r.Items[next : next+int32(s.Count)] {
			offer, ok1 := plan.OfferByName(it.Offer)
			treatment, ok2 := plan.TreatmentByName(it.Treatment)
			if !ok1 || !ok2 {
				return errRecord
			}
			res.Items = append(res.Items, decide.Item{
				Slot: int32(len(res.Slots) - 1), Offer: offer, Treatment: treatment, Rank: it.Rank,
				Score: it.Score, Propensity: it.Propensity, Probability: it.Probability,
				Channel: it.Channel, Fallback: decide.SlotKind(s.Kind) == decide.SlotFallback,
				Hold: it.Life,
			})
			w.held = append(w.held, it.Reservation)
		}
		next += int32(s.Count)
	}
	for _, name := range r.Variants {
		if x, v, ok := variantByName(plan, name); ok {
			res.Assignments = append(res.Assignments, decide.Assignment{
				Experiment: x, Variant: v, Name: name,
			})
		}
	}
	for _, c := range r.Capped {
		capIndex, ok1 := plan.CapByName(c.Cap)
		offer, ok2 := plan.OfferByName(c.Offer)
		if ok1 && ok2 {
			res.Capped = append(res.Capped, decide.Capped{Cap: capIndex, Offer: offer, Until: c.Until})
		}
	}
	return nil
}

// variantByName finds a variant by its dictionary id.
func variantByName(plan *decide.Plan, name storage.Name) (experiment, variant int32, ok bool) {
	for x := range plan.Experiments {
		for v := range plan.Experiments[x].Variants {
			if plan.Experiments[x].Variants[v].Name == name {
				return int32(x), int32(v), true
			}
		}
	}
	return 0, 0, false
}
