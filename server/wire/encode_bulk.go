package wire

import (
	"bytes"
	"strconv"

	"tact/engine"
	"tact/engine/definition"
)

// BulkHead is the first line of a bulk reply: when and by which definitions it
// was judged, how many people it is about, and how far each group had come: all
// groups, in rising order. Cursor, when it is there, begins again with the first of them.
type BulkHead struct {
	At       int64 // unix ms
	Revision uint32
	Users    uint64
	Reason   string // why an offer is for nobody
	Cursor   []byte
	Groups   []engine.GroupPeople
	Ordinals string // what the ordinals of a bitmap mean
}

// ByDay is of how many people a window was answered by calendar day.
func (h *BulkHead) ByDay() uint64 {
	people := engine.People{Groups: h.Groups}
	return people.ByDay()
}

// AppendBulkHead appends the members of h as one JSON object.
func AppendBulkHead(dst []byte, h *BulkHead) []byte {
	w := append(writer(dst), '{')
	w.time("at", h.At)
	w.int("config_version", int64(h.Revision))
	w.int("users", int64(h.Users))
	if n := h.ByDay(); n > 0 {
		w.int("by_day", int64(n))
	}
	w.text("reason", h.Reason)
	w.bytes("cursor", h.Cursor)
	w.text("ordinals", h.Ordinals)
	if len(h.Groups) > 0 {
		w.name("positions")
		w.open('[')
		for i := range h.Groups {
			w.comma()
			w = strconv.AppendUint(w, h.Groups[i].Position, 10)
		}
		w.close(']')
	}
	w.close('}')
	return w
}

// AppendCursorLine appends a line that says where a reply that breaks off behind
// it can be taken up; nothing without a cursor.
func AppendCursorLine(dst, cursor []byte) []byte {
	if len(cursor) == 0 {
		return dst
	}
	w := append(writer(dst), '{')
	w.bytes("cursor", cursor)
	return append(w, '}', '\n')
}

// BulkEnd is the last line of a bulk reply. Cursor is there when a limit ended
// it before everybody was given.
type BulkEnd struct {
	Users, Unknown, Failed int
	Cursor                 []byte
}

// AppendBulkEnd appends the last line.
func AppendBulkEnd(dst []byte, e *BulkEnd) []byte {
	w := append(writer(dst), '{')
	w.bool("done", true)
	w.int("users", int64(e.Users))
	if e.Unknown > 0 {
		w.int("unknown", int64(e.Unknown))
	}
	if e.Failed > 0 {
		w.int("failed", int64(e.Failed))
	}
	w.bytes("cursor", e.Cursor)
	return append(w, '}', '\n')
}

// AppendID appends a person as one line: the user id as a string, or an object
// with the identity of somebody who has none. id is canonical.
func AppendID(dst, id []byte) []byte {
	if len(id) > 0 && id[0] != 0 {
		return append(appendString(dst, id), '\n')
	}
	w := append(writer(dst), '{')
	w.person(id)
	return append(w, '}', '\n')
}

// person writes user_id, or identity of a person who has no user id. id is
// canonical: a user id, or 0, the type, 0, and the value of an identity.
func (w *writer) person(id []byte) {
	if len(id) == 0 || id[0] != 0 {
		w.bytes("user_id", id)
		return
	}
	kind, value, _ := bytes.Cut(id[1:], []byte{0})
	w.name("identity")
	w.open('{')
	w.bytes("type", kind)
	w.bytes("value", value)
	w.close('}')
}

// AppendPerson appends a person with chosen columns as one line: attributes that
// are set, tags that are held.
func AppendPerson(dst, id []byte, columns []engine.ExportColumn, cells []engine.Cell) []byte {
	w := append(writer(dst), '{')
	w.person(id)
	w.name("attributes")
	w.open('{')
	i := 0
	for ; i < len(columns) && !columns[i].Tag; i++ {
		if c := &cells[i]; c.Set {
			v := &c.Value
			w.value(columns[i].Name, typed{definition.AttrType(v.Kind), v.Num, v.Bytes})
		}
	}
	w.close('}')
	w.name("tags")
	w.open('[')
	for ; i < len(columns); i++ {
		c := &cells[i]
		switch {
		case !c.Set:
		case columns[i].Type != definition.TypeBool:
			w.open('{')
			w.text("tag", columns[i].Name)
			w.bytes("is", c.Value.Bytes)
			w.close('}')
		case c.Value.Num != 0:
			w.comma()
			w = appendString(w, columns[i].Name)
		}
	}
	w.close(']')
	return append(w, '}', '\n')
}

// AppendEligible appends what one user may be given, as a line; with explain
// what may not be given, too, and why.
func AppendEligible(dst, id []byte, verdicts []engine.OfferVerdict, explain bool) []byte {
	w := append(writer(dst), '{')
	w.person(id)
	w.name("offers")
	w.open('[')
	for i := range verdicts {
		if verdicts[i].Reason == "" {
			w.comma()
			w = appendString(w, verdicts[i].OfferID)
		}
	}
	w.close(']')
	w.byDay(verdicts)
	if explain {
		w.name("refused")
		w.open('[')
		for i := range verdicts {
			if v := &verdicts[i]; v.Reason != "" {
				w.open('{')
				w.text("offer_id", v.OfferID)
				w.text("placement_id", v.PlacementID)
				w.text("reason", v.Reason)
				w.text("detail", v.Detail)
				if v.Until != 0 {
					w.time("until", int64(v.Until)*1000)
				}
				w.close('}')
			}
		}
		w.close(']')
	}
	return append(w, '}', '\n')
}

// byDay names the offers of which a window was answered by calendar day.
func (w *writer) byDay(verdicts []engine.OfferVerdict) {
	first := true
	for i := range verdicts {
		if !verdicts[i].ByDay {
			continue
		}
		if first {
			w.name("by_day")
			w.open('[')
			first = false
		}
		w.comma()
		*w = appendString(*w, verdicts[i].OfferID)
	}
	if !first {
		w.close(']')
	}
}

// AppendBulkError appends the line of one person of whom nothing can be said; a
// nil id makes it the line that ends the whole reply.
func AppendBulkError(dst, id []byte, err LineError) []byte {
	w := append(writer(dst), '{')
	if id != nil {
		w.person(id)
	}
	w.lineError(err)
	return append(w, '}', '\n')
}

// AppendBatchDecision appends one decision of a batch as a line: as
// AppendDecision, with the identity of a person who has no user id.
func AppendBatchDecision(dst, id []byte, d *engine.Decision) []byte {
	w := writer(AppendDecision(dst, d))
	if len(d.UserID) == 0 {
		w = w[:len(w)-1]
		w.person(id)
		w.close('}')
	}
	if d.Replayed {
		w = w[:len(w)-1]
		w.bool("replayed", true)
		w.close('}')
	}
	return append(w, '\n')
}

// AppendOrdinal appends one line of the map of ordinals.
func AppendOrdinal(dst []byte, ordinal uint64, id []byte) []byte {
	w := append(writer(dst), `{"ordinal":`...)
	w = strconv.AppendUint(w, ordinal, 10)
	w.person(id)
	return append(w, '}', '\n')
}
