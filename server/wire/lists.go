package wire

import (
	"encoding/hex"
	"strings"

	"tact/engine"
)

// maxListValue is the longest value of a list: an address's bound.
const maxListValue = 512

// ListEntry reads one line of POST /v1/lists/{id}/entries: {"kind", "value"} or
// {"kind", "sha256"}, with "remove": true to take it out.
func (d *Decoder) ListEntry(src []byte, e *engine.ListEntry) *Fault {
	r := &d.r
	r.reset(src)
	*e = engine.ListEntry{}
	var o object
	var value, digest []byte
	kind := false
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "kind":
			e.Kind, kind = engine.ListKindByName(r.filled())
			if !kind {
				r.fail(CodeInvalidValue, "must be one of "+strings.Join(engine.ListKindNames(), ", "))
			}
		case "value":
			value = r.filled()
		case "sha256":
			digest = r.filled()
		case "remove":
			e.Remove = r.boolean()
		default:
			r.unknown()
		}
	}
	switch {
	case !kind:
		r.missing("kind")
	case (value == nil) == (digest == nil):
		r.failIn("value", CodeInvalidValue, "a line has one of value and sha256")
	}
	if f := r.finish(); f != nil {
		return f
	}
	if value != nil {
		return ListValue(value, e)
	}
	return ListHex(digest, e)
}

// ListValue takes a plain value of e.Kind.
func ListValue(value []byte, e *engine.ListEntry) *Fault {
	if len(value) == 0 || len(value) > maxListValue {
		return &Fault{Code: CodeInvalidValue, Field: "value", Detail: "must have 1 to 512 bytes"}
	}
	e.Digest = engine.ListDigest(e.Kind, value)
	return nil
}

// ListHex takes a SHA-256 digest in hexadecimal.
func ListHex(text []byte, e *engine.ListEntry) *Fault {
	if len(text) == 2*len(e.Digest) {
		if _, err := hex.Decode(e.Digest[:], text); err == nil {
			return nil
		}
	}
	return &Fault{
		Code: CodeInvalidValue, Field: "sha256", Detail: "must be 64 hexadecimal digits",
	}
}

// AppendListEdited appends the reply of POST /v1/lists/{id}/entries.
func AppendListEdited(dst []byte, lines int, e engine.ListEdited) []byte {
	w := append(writer(dst), '{')
	w.int("lines", int64(lines))
	w.int("added", int64(e.Added))
	w.int("removed", int64(e.Removed))
	w.close('}')
	return w
}

// AppendLists appends the reply of GET /v1/lists.
func AppendLists(dst []byte, lists []engine.ListView) []byte {
	w := append(writer(dst), '{')
	w.name("lists")
	w.open('[')
	for _, l := range lists {
		w.open('{')
		w.text("list_id", l.ID)
		w.int("entries", int64(l.Entries))
		w.int("resident_bytes", l.Bytes)
		w.close('}')
	}
	w.close(']')
	w.close('}')
	return w
}

// userLists writes the lists that hold the person.
func (w *writer) userLists(listed []engine.ListedView) {
	if len(listed) == 0 {
		return
	}
	w.name("listed")
	w.open('[')
	for _, l := range listed {
		w.open('{')
		w.text("list_id", l.List)
		w.text("kind", l.Kind)
		w.texts("channels", l.Channels)
		w.close('}')
	}
	w.close(']')
}
