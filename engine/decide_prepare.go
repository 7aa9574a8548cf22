package engine

import (
	"fmt"

	"tact/engine/decide"
	"tact/engine/rule"
)

// prepare resolves the names of a request against the snapshot: placements,
// policies, offers, context. It reads no person.
func (e *Engine) prepare(req *DecideRequest, w *decideWork, out *Decision) error {
	w.waits = req.Waits
	if req.Mode == ModePreview && req.Revision == 0 {
		return invalid("missing_field", "revision", "a preview names a revision")
	}
	if req.Inline != nil {
		return invalid("not_supported", "inline_profile", "inline_profile is not supported yet")
	}
	if (req.Now != 0 || len(req.Assign) > 0) && req.Mode == ModeLive {
		return invalid("dry_run_only", "now", "now and force.assign are for dry runs and previews")
	}
	if len(req.Placements) == 0 {
		return invalid("missing_field", "placements", "want at least one placement")
	}
	if len(req.Placements) > maxRecordSlots {
		return invalid("limit", "placements", "at most 64 placements a request")
	}
	for i := range req.Placements {
		if err := w.prepareSlot(&req.Placements[i], i); err != nil {
			return err
		}
	}
	if err := w.prepareContext(req); err != nil {
		return err
	}
	if err := w.prepareForce(req); err != nil {
		return err
	}
	ask := &w.request
	ask.Slots, ask.Dedupe, ask.Words = w.slots, decide.Dedupe(req.Dedupe), w.words
	ask.Context, ask.Explain = w.context, req.Explain != ExplainNone
	out.DecidedAt = w.now
	if w.timeout = min(req.Timeout, maxTimeout); w.timeout <= 0 {
		w.timeout = defaultTimeout
	}
	return nil
}

func (w *decideWork) prepareSlot(ask *PlacementAsk, i int) error {
	plan := w.snap.Plan
	placement, ok := w.placement(ask.PlacementID)
	if !ok {
		return w.unknown("placement", fmt.Sprintf("placements[%d].placement_id", i), ask.PlacementID)
	}
	w.slots = append(w.slots, decide.SlotRequest{})
	slot := &w.slots[len(w.slots)-1]
	slot.Placement, slot.Policy, slot.Count = placement, -1, ask.Count
	if ask.Count < 0 || ask.Count > decide.MaxCount {
		return invalid("out_of_range", fmt.Sprintf("placements[%d].count", i), "want 1 to 20")
	}
	if len(ask.PolicyID) > 0 {
		if slot.Policy, ok = plan.PolicyByID(ask.PolicyID); !ok {
			return w.unknown("policy", fmt.Sprintf("placements[%d].policy_id", i), ask.PolicyID)
		}
	}
	var err error
	if ask.Allow != nil {
		if slot.Allow, err = w.offerList(ask.Allow, i, "allow"); err != nil {
			return err
		}
		if slot.Allow == nil { // an empty list of no memory: still a list
			slot.Allow = []int32{}
		}
	}
	slot.Block, err = w.offerList(ask.Block, i, "block")
	return err
}

// placement finds a placement by its id, first among those that were asked for last.
func (w *decideWork) placement(id []byte) (int32, bool) {
	plan := w.snap.Plan
	if len(id) == 0 {
		return plan.PlacementByID(id)
	}
	if w.askedOf != plan {
		w.askedOf, w.asked = plan, [16]int32{}
	}
	last := &w.asked[id[len(id)-1]%uint8(len(w.asked))]
	if *last != 0 && plan.Placements[*last-1].ID == string(id) {
		return *last - 1, true
	}
	at, ok := plan.PlacementByID(id)
	if ok {
		*last = at + 1
	}
	return at, ok
}

func (w *decideWork) offerList(ids [][]byte, slot int, member string) ([]int32, error) {
	from := len(w.offers)
	for j, id := range ids {
		offer, ok := w.snap.Plan.OfferByID(id)
		if !ok {
			field := fmt.Sprintf("placements[%d].%s[%d]", slot, member, j)
			return nil, w.unknown("offer", field, id)
		}
		w.offers = append(w.offers, offer)
	}
	return w.offers[from:len(w.offers):len(w.offers)], nil
}

// unknown builds the problem of a name that is not published, with the nearest
// one that is.
func (w *decideWork) unknown(what, field string, id []byte) error {
	var among []string
	plan := w.snap.Plan
	switch what {
	case "placement":
		for i := range plan.Placements {
			among = append(among, plan.Placements[i].ID)
		}
	case "policy":
		for i := range plan.Policies {
			among = append(among, plan.Policies[i].ID)
		}
	case "offer":
		for i := range plan.Offers {
			among = append(among, plan.Offers[i].ID)
		}
	}
	return invalid("unknown_"+what, field,
		fmt.Sprintf("no %s %q is published%s", what, id, suggestion(string(id), among)))
}

// prepareContext types the request's context and evaluates the request's bits.
func (w *decideWork) prepareContext(req *DecideRequest) error {
	for i := range req.Context {
		c := &req.Context[i]
		schema, ok := w.snap.context[string(c.Name)]
		if !ok {
			detail := "no placement declares this context key"
			if rule.SlotKey(string(c.Name)) != 0 {
				detail = "the slot that is filled tells it"
			}
			return invalid("unknown_field", "context."+string(c.Name), detail)
		}
		if c.Value.Kind == RawNull {
			continue
		}
		v, problem := w.values.typed(&c.Value, schema.typ, nil)
		if problem != nil {
			problem.Field = "context." + string(c.Name)
			return problem
		}
		w.context = append(w.context, rule.ContextValue{Key: schema.id, Value: v})
	}
	program := w.snap.Plan.Program
	if cap(w.words) < program.RequestWords {
		w.words = make([]uint64, program.RequestWords)
	}
	w.words = w.words[:program.RequestWords]
	program.EvalRequest(w.context, w.words)
	return nil
}

func (w *decideWork) prepareForce(req *DecideRequest) error {
	for i := range req.Assign {
		a := &req.Assign[i]
		field := "force.assign." + string(a.Name)
		experiment, ok := w.snap.Plan.ExperimentByID(a.Name)
		if !ok {
			return invalid("unknown_experiment", field, "no such experiment is published")
		}
		variant, ok := w.snap.Plan.VariantByID(experiment, a.Value.Text)
		if !ok {
			return invalid("unknown_variant", field, "no such variant")
		}
		w.over.Assign = append(w.over.Assign, decide.Assign{Experiment: experiment, Variant: variant})
	}
	return nil
}
