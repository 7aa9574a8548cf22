package wire

import (
	"strconv"

	"tact/engine"
)

// AppendDecision appends the reply of POST /v1/decide: one JSON object.
// decision_id is 32 hexadecimal digits, absent in a dry run; times are RFC 3339
// in UTC with milliseconds; content is JSON for type json and a string
// otherwise. assignments, capped, degraded and trace are absent when empty.
//
// Cost: no allocation when dst has room.
func AppendDecision(dst []byte, d *engine.Decision) []byte {
	w := append(writer(dst), '{')
	if d.HasID {
		w.name("decision_id")
		w = append(w, '"')
		w = appendHex(w, d.ID[:])
		w = append(w, '"')
	}
	w.bytes("user_id", d.UserID)
	w.time("decided_at", int64(d.DecidedAt))
	w.int("config_version", int64(d.Revision))
	w.name("placements")
	w.open('{')
	for i := range d.Slots {
		w.slot(d, &d.Slots[i])
	}
	w.close('}')
	if len(d.Assignments) > 0 {
		w.assignments(d.Assignments)
	}
	if len(d.Capped) > 0 {
		w.capped(d.Capped)
	}
	if len(d.Degraded) > 0 {
		w.texts("degraded", d.Degraded)
	}
	if len(d.Trace) > 0 {
		w.trace(d.Trace)
	}
	w.close('}')
	return w
}

// slot writes the answer of one placement under the caller's key.
func (w *writer) slot(d *engine.Decision, s *engine.SlotReply) {
	w.comma()
	*w = appendString(*w, s.Key)
	*w = append(*w, ':')
	w.open('{')
	switch {
	case s.Count == 0:
		w.name("no_decision")
		w.open('{')
		w.name("reason")
		*w = appendString(*w, s.Reason)
		if s.Until != 0 {
			w.time("until", int64(s.Until)*1000)
		}
		w.reasons(s.Reasons)
		w.close('}')
	case s.Fallback:
		w.name("fallback")
		w.item(&d.Items[s.First], s.Reasons)
	default:
		w.name("items")
		w.open('[')
		for i := range d.Items[s.First : s.First+s.Count] {
			w.item(&d.Items[s.First+i], nil)
		}
		w.close(']')
	}
	w.close('}')
}

func (w *writer) item(item *engine.ItemReply, reasons []engine.ReasonCount) {
	w.open('{')
	w.text("offer_id", item.OfferID)
	w.text("treatment_id", item.TreatmentID)
	w.int("rank", int64(item.Rank))
	w.float("score", item.Score)
	w.float("propensity", item.Propensity)
	w.float("probability", item.Probability)
	w.text("channel", item.Channel)
	w.name("content")
	switch {
	case item.ContentType != "json":
		*w = appendString(*w, item.Content)
	case len(item.Content) == 0:
		*w = append(*w, "null"...)
	default:
		*w = append(*w, item.Content...)
	}
	w.claim(item)
	w.reasons(reasons)
	w.close('}')
}

// claim writes what an item's contact is reported with: its token, and the use it holds.
func (w *writer) claim(item *engine.ItemReply) {
	w.bytes("tracking_token", item.Token)
	if item.Reserved {
		w.name("reservation")
		w.open('{')
		w.name("id")
		*w = append(*w, '"')
		*w = appendHexNumber(*w, uint64(item.Reservation.Epoch), 8)
		*w = appendHexNumber(*w, item.Reservation.Number, 16)
		*w = append(*w, '"')
		w.time("expires_at", int64(item.ExpiresAt))
		w.close('}')
	}
}

// reasons writes how many candidates fell for each reason.
func (w *writer) reasons(counts []engine.ReasonCount) {
	if len(counts) == 0 {
		return
	}
	w.name("reasons")
	w.open('{')
	for i := range counts {
		w.comma()
		*w = appendString(*w, counts[i].Reason)
		*w = append(*w, ':')
		*w = strconv.AppendInt(*w, int64(counts[i].N), 10)
	}
	w.close('}')
}

func (w *writer) assignments(list []engine.AssignmentReply) {
	w.name("assignments")
	w.open('[')
	for i := range list {
		w.open('{')
		w.text("experiment_id", list[i].ExperimentID)
		w.text("variant_id", list[i].VariantID)
		w.close('}')
	}
	w.close(']')
}

func (w *writer) capped(list []engine.CappedReply) {
	w.name("capped")
	w.open('[')
	for i := range list {
		w.open('{')
		w.text("cap_id", list[i].CapID)
		w.text("offer_id", list[i].OfferID)
		if list[i].Until != 0 {
			w.time("until", int64(list[i].Until)*1000)
		}
		w.close('}')
	}
	w.close(']')
}

// trace writes one object for each candidate; a winner has won: true and no reason.
func (w *writer) trace(list []engine.TraceReply) {
	w.name("trace")
	w.open('[')
	for i := range list {
		t := &list[i]
		w.open('{')
		w.name("key")
		*w = appendString(*w, t.Key)
		w.text("offer_id", t.OfferID)
		if t.Reason == "" {
			w.bool("won", true)
		}
		w.text("reason", t.Reason)
		w.text("detail", t.Detail)
		if t.Until != 0 {
			w.time("until", int64(t.Until)*1000)
		}
		if t.ByDay {
			w.bool("by_day", true)
		}
		w.close('}')
	}
	w.close(']')
}
