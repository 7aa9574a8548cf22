package wire

import (
	"bytes"
	"encoding/hex"

	"tact/engine"
)

// AppendExport appends everything that is held of a person up to the events, which
// AppendExportEvent, AppendExportDecision and AppendExportEnd append:
//
//	{…, "events": [event, …], "decisions": [decision, …]}
func AppendExport(dst []byte, x *engine.PersonExport) []byte {
	w := append(writer(dst), '{')
	w.time("at", int64(x.At))
	w.name("user")
	w = AppendUser(w, x.User)
	w.heldOf(x)
	w.texts("tracked_segments", x.Tracked)
	objects(&w, "event_sums", x.Sums, func(s *engine.SumView) {
		w.text("event", s.Event)
		if s.Outcome {
			w.text("offer_id", s.OfferID)
		}
		w.time("first", int64(s.First))
		w.time("last", int64(s.Last))
		w.int("count", int64(s.Count))
	})
	objects(&w, "reservations", x.Reservations, func(h *engine.HeldView) {
		w.chosen(&engine.LoggedItem{
			OfferID: h.OfferID, TreatmentID: h.TreatmentID, PlacementID: h.PlacementID,
			Channel: h.Channel,
		})
		w.time("granted_at", 1000*int64(h.GrantedAt))
		w.time("expires_at", 1000*int64(h.ExpiresAt))
	})
	objects(&w, "cap_counters", x.Counters, func(c *engine.CapUsesView) {
		w.text("cap_id", c.CapID)
		w.int("dimension", int64(c.Dimension))
		w.name("uses")
		w.open('[')
		for _, at := range c.Uses {
			w.comma()
			w = appendTime(w, 1000*int64(at))
		}
		w.close(']')
	})
	objects(&w, "request_ids", x.Requests, func(r *engine.RequestView) {
		w.text("decision_id", hex.EncodeToString(r.Decision[:]))
		w.time("until", 1000*int64(r.Until))
	})
	w.name("events")
	w.open('[')
	return w
}

func (w *writer) heldOf(x *engine.PersonExport) {
	w.name("held")
	w.open('{')
	for i, name := range engine.ErasedKinds() {
		w.int(name, int64(x.Held[i]))
	}
	w.close('}')
}

func (w *writer) chosen(it *engine.LoggedItem) {
	w.text("offer_id", it.OfferID)
	w.text("treatment_id", it.TreatmentID)
	w.text("placement_id", it.PlacementID)
	w.text("channel", it.Channel)
}

// AppendExportEvent appends an event of the log.
func AppendExportEvent(dst []byte, v *engine.LoggedEvent) []byte {
	w := writer(dst)
	w.comma()
	return bytes.TrimSuffix(AppendLoggedEvent(w, v), []byte{'\n'})
}

// AppendExportDecisions ends the events and begins the decisions.
func AppendExportDecisions(dst []byte) []byte {
	w := append(writer(dst), ']')
	w.name("decisions")
	w.open('[')
	return w
}

// AppendExportDecision appends a decision of the log.
func AppendExportDecision(dst []byte, d *engine.LoggedDecision) []byte {
	w := writer(dst)
	w.open('{')
	w.text("decision_id", hex.EncodeToString(d.ID[:]))
	w.time("decided_at", int64(d.At))
	w.int("config_version", int64(d.Revision))
	objects(&w, "items", d.Items, w.chosen)
	w.texts("values", d.Values)
	w.close('}')
	return w
}

// AppendExportEnd ends an export.
func AppendExportEnd(dst []byte) []byte { return append(dst, ']', '}') }
