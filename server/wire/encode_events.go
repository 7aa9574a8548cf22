package wire

import (
	"bytes"

	"tact/engine"
)

// AppendLoggedEvent appends an event of the event log as one line. An event has the
// members that POST /v1/events takes, and received_at.
func AppendLoggedEvent(dst []byte, v *engine.LoggedEvent) []byte {
	w := append(writer(dst), '{')
	w.bytes("event_id", v.EventID)
	if v.Person[0] != 0 {
		w.bytes("user_id", v.Person)
	} else {
		kind, value, _ := bytes.Cut(v.Person[1:], []byte{0})
		w.name("identities")
		w.open('[')
		w.open('{')
		w.bytes("type", kind)
		w.bytes("value", value)
		w.close('}')
		w.close(']')
	}
	w.text("event", v.Event)
	w.time("occurred_at", int64(v.Occurred))
	w.time("received_at", int64(v.Received))
	if v.Clamped {
		w.bool("clamped", true)
	}
	if len(v.Raw) > 0 {
		w.name("properties")
		w = append(w, v.Raw...)
	}
	if v.Outcome != "" {
		w.text("outcome", v.Outcome)
		w.text("offer_id", v.Offer)
		w.text("treatment_id", v.Treatment)
		w.text("placement_id", v.Placement)
		w.text("channel", v.Channel)
		if v.Value != 0 {
			w.float("value", v.Value)
		}
	}
	return append(w, '}', '\n')
}

// AppendStreamFault appends the line that ends a reply of lines which cannot go on.
func AppendStreamFault(dst []byte, code, detail string) []byte {
	w := append(append(writer(dst), '{'), `"error":{`...)
	w.text("code", code)
	w.text("detail", detail)
	return append(w, "}}\n"...)
}

// EventsEnd is the last line of a reading of the event log.
type EventsEnd struct {
	Events     int64
	Unreadable int64  // left out: their people are gone
	Limited    bool   // the limit ended it
	Cursor     []byte // where another reading goes on; empty: it cannot
}

// AppendEventsEnd appends the last line.
func AppendEventsEnd(dst []byte, e *EventsEnd) []byte {
	w := append(writer(dst), '{')
	w.bool("done", true)
	w.int("events", e.Events)
	if e.Unreadable > 0 {
		w.int("unreadable", e.Unreadable)
	}
	if e.Limited {
		w.bool("limited", true)
	}
	if len(e.Cursor) > 0 {
		w.bytes("cursor", e.Cursor)
	}
	return append(w, '}', '\n')
}
