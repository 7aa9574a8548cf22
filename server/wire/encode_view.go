package wire

import (
	"encoding/binary"
	"math"
	"strconv"

	"tact/engine"
	"tact/engine/definition"
)

// AppendUser appends a person read back: the members of a user line, with
// visitor, segments, the expiry of tags, and the recent events.
func AppendUser(dst []byte, u *engine.UserView) []byte {
	w := append(writer(dst), '{')
	if u.UserID != "" {
		w.text("user_id", u.UserID)
	}
	w.bool("visitor", u.Visitor)
	w.name("identities")
	w.open('[')
	for _, id := range u.Identities {
		w.open('{')
		w.text("type", id.Type)
		w.text("value", id.Value)
		w.close('}')
	}
	w.close(']')
	w.name("attributes")
	w.open('{')
	for i := range u.Attributes {
		v := &u.Attributes[i].Value
		w.value(u.Attributes[i].Name, typed{definition.AttrType(v.Kind), v.Num, v.Bytes})
	}
	w.close('}')
	w.userTags(u)
	w.userTiers(u)
	w.texts("segments", u.Segments)
	w.userConsents(u.Consents)
	w.texts("blacklist", u.Blacklist)
	w.userLists(u.Listed)
	w.name("addresses")
	w.open('{')
	for _, a := range u.Addresses {
		w.texts(a.Channel, a.Values)
	}
	w.close('}')
	w.text("timezone", u.Timezone)
	w.text("locale", u.Locale)
	w.userEvents(u)
	w.tagHistory(u)
	w.close('}')
	return w
}

func (w *writer) userConsents(consents []engine.ConsentView) {
	objects(w, "consents", consents, func(c *engine.ConsentView) {
		w.text("purpose", c.Purpose)
		w.text("channel", c.Channel)
		w.bool("granted", c.Granted)
		w.time("at", int64(c.At))
		w.text("source", c.Source)
		w.text("text_version", c.Text)
	})
}

func (w *writer) userEvents(u *engine.UserView) {
	objects(w, "events", u.Events, func(e *engine.EventView) {
		w.text("event", e.Event)
		w.time("occurred_at", int64(e.Occurred))
		if e.Clamped {
			w.bool("clock_clamped", true)
		}
		w.text("offer_id", e.Offer)
		if len(e.Props) > 0 {
			w.name("properties")
			w.open('{')
			for j := range e.Props {
				v := &e.Props[j].Value
				w.value(e.Props[j].Name, typed{definition.AttrType(v.Kind), v.Num, v.Bytes})
			}
			w.close('}')
		}
	})
}

// typed is one stored value: number holds a bool, whole number, date or time
// as two's complement, or the bits of a float64; bytes a text, or the elements
// of a list, each with its length as uvarint in front.
type typed struct {
	kind   definition.AttrType
	number uint64
	bytes  []byte
}

// value writes a member with a stored value, in the shape in which it came.
func (w *writer) value(name string, v typed) {
	w.comma()
	*w = append(appendString(*w, name), ':')
	switch v.kind {
	case definition.TypeBool:
		*w = strconv.AppendBool(*w, v.number != 0)
	case definition.TypeInt:
		*w = strconv.AppendInt(*w, int64(v.number), 10)
	case definition.TypeFloat:
		*w = appendFloat(*w, math.Float64frombits(v.number))
	case definition.TypeString, definition.TypeSemver:
		*w = appendString(*w, v.bytes)
	case definition.TypeDate:
		*w = append(appendDate(append(*w, '"'), int64(v.number)), '"')
	case definition.TypeTime:
		*w = appendTime(*w, int64(v.number))
	case definition.TypeList:
		w.elements(v.bytes)
	default:
		*w = append(*w, "null"...)
	}
}

// elements writes the list of strings packed in b; what follows bytes that are
// not such a list is left out.
func (w *writer) elements(b []byte) {
	w.open('[')
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			break
		}
		w.comma()
		*w = appendString(*w, b[size:size+int(n)])
		b = b[size+int(n):]
	}
	w.close(']')
}

// AppendStats appends {"rows": […]}, in the order given.
func AppendStats(dst []byte, rows []engine.StatsRow) []byte {
	w := append(writer(dst), '{')
	w.name("rows")
	w.open('[')
	for i := range rows {
		row := &rows[i]
		w.open('{')
		w.text("offer_id", row.OfferID)
		w.text("treatment_id", row.TreatmentID)
		w.text("variant", row.Variant)
		w.text("what", row.What)
		w.name("n")
		w = strconv.AppendUint(w, row.N, 10)
		w.float("value", row.Value)
		w.close('}')
	}
	w.close(']')
	w.close('}')
	return w
}

func (w *writer) revision(v *engine.RevisionView) {
	*w = append(*w, '{')
	w.int("revision", int64(v.Number))
	w.time("at", int64(v.At))
	w.text("author", v.Author)
	w.text("note", v.Note)
	w.text("digest", v.Digest)
	if v.Of != 0 {
		w.int("restores", int64(v.Of))
	}
	w.close('}')
}

// AppendRevisions appends {"revisions": […]}, in the order given.
func AppendRevisions(dst []byte, list []engine.RevisionView) []byte {
	w := append(writer(dst), '{')
	w.name("revisions")
	w.open('[')
	for i := range list {
		w.comma()
		w.revision(&list[i])
	}
	w.close(']')
	w.close('}')
	return w
}

// AppendFiles appends the files of a revision: {"revision": n, "files": […]},
// whose files are those of a [Bundle].
func AppendFiles(dst []byte, revision uint32, files []definition.File) []byte {
	w := append(writer(dst), '{')
	w.int("revision", int64(revision))
	w.name("files")
	w.open('[')
	for i := range files {
		w.open('{')
		w.text("name", files[i].Name)
		w.name("content")
		w = appendString(w, files[i].Content)
		w.close('}')
	}
	w.close(']')
	w.close('}')
	return w
}

// AppendCheck appends the reply of a check: ok, faults and tests.
func AppendCheck(dst []byte, faults []definition.Fault, tests []engine.TestOutcome) []byte {
	ok := len(faults) == 0
	for i := range tests {
		ok = ok && tests[i].Passed
	}
	w := append(writer(dst), '{')
	w.bool("ok", ok)
	w.name("faults")
	w.faults(faults)
	w.name("tests")
	w.tests(tests)
	w.close('}')
	return w
}

// AppendReady appends the reply of a server that is ready, with what its operator
// should know.
func AppendReady(dst []byte, notes []string) []byte {
	w := append(writer(dst), `{"ready":true`...)
	if len(notes) > 0 {
		w.texts("notes", notes)
	}
	w.close('}')
	return w
}

// AppendPublished appends the reply of a publish: the revision and its tests.
func AppendPublished(dst []byte, v *engine.RevisionView, tests []engine.TestOutcome) []byte {
	w := append(writer(dst), '{')
	w.name("revision")
	w.revision(v)
	w.migrations(v.Migrations)
	w.name("tests")
	w.tests(tests)
	w.close('}')
	return w
}

func (w *writer) faults(faults []definition.Fault) {
	w.open('[')
	for i := range faults {
		f := &faults[i]
		w.open('{')
		w.place(f.Pos)
		w.text("document", f.Doc)
		w.text("field", f.Field)
		w.text("detail", f.Message)
		w.text("suggest", f.Suggest)
		w.close('}')
	}
	w.close(']')
}

func (w *writer) place(p definition.Pos) {
	w.text("file", p.File)
	if p.Line > 0 {
		w.int("line", int64(p.Line))
		w.int("column", int64(p.Column))
	}
}

func (w *writer) tests(tests []engine.TestOutcome) {
	w.open('[')
	for i := range tests {
		t := &tests[i]
		w.open('{')
		w.text("id", t.ID)
		w.place(t.Pos)
		w.bool("passed", t.Passed)
		if !t.Passed {
			w.text("expected", t.Expected)
			w.text("got", t.Got)
			w.texts("trace", t.Trace)
		}
		w.close('}')
	}
	w.close(']')
}

// lastEnd writes how the life of the store before this one ended.
func (w *writer) lastEnd(c *engine.EndView) {
	w.name("last_end")
	w.open('{')
	w.bool("clean", c.Clean)
	w.int("epoch", int64(c.Epoch))
	if c.Until > 0 {
		w.time("until", int64(c.Until))
	}
	w.close('}')
}

// AppendNodes appends {"nodes": […]}.
func AppendNodes(dst []byte, nodes []engine.NodeView) []byte {
	w := append(writer(dst), '{')
	w.name("nodes")
	w.open('[')
	for i := range nodes {
		n := &nodes[i]
		w.comma()
		w = append(w, '{')
		w.text("id", n.ID)
		w.int("epoch", int64(n.Epoch))
		w.time("server_time", int64(n.ServerTime))
		w.lastEnd(&n.LastEnd)
		w.name("groups")
		w.open('[')
		for j := range n.Groups {
			g := &n.Groups[j]
			w.comma()
			w = append(w, '{')
			w.int("group", int64(g.ID))
			w.int("first_slot", int64(g.FirstSlot))
			w.int("last_slot", int64(g.LastSlot))
			w.int("users", int64(g.Users))
			w.int("position", int64(g.Frame))
			w.int("durable", int64(g.Durable))
			w.close('}')
		}
		w.close(']')
		w.close('}')
	}
	w.close(']')
	w.close('}')
	return w
}
