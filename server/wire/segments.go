package wire

import (
	"strconv"

	"tact/engine"
)

// SegmentQuery is the body of POST /v1/segments:count and of
// POST /v1/segments/{id}/members:fill.
type SegmentQuery struct {
	Source  engine.SegmentSource
	Members *engine.OrdinalList // of a fill: a bitmap instead of a source
	Mode    engine.FillMode     // of a fill; default replace
	Context []engine.NamedValue // of a count
}

// one reads a member that says which one group of people is meant; false: it is
// another.
func (q *SegmentQuery) one(r *reader, key string) bool {
	switch key {
	case "rule":
		q.Source.Rule = r.rule()
	case "segment":
		q.Source.Segment = string(r.filled())
	case "at":
		setMsec(&q.Source.At, r.time())
	default:
		return false
	}
	return true
}

// Count reads {"rule" or "segment", "at"?, "context"?}. The context borrows
// from src.
func (d *Decoder) Count(src []byte, q *SegmentQuery) *Fault {
	r := &d.r
	r.reset(src)
	*q = SegmentQuery{}
	var o object
	r.object(&o)
	for r.member(&o) {
		switch key := string(o.key); {
		case q.one(r, key):
		case key == "context":
			q.Context = r.named(nil)
		default:
			r.unknown()
		}
	}
	if q.Source.Rule == nil && q.Source.Segment == "" {
		r.missing("rule")
	}
	return r.finish()
}

// Fill reads {"rule" | "segment" | "union" | "intersection" | "difference" |
// "members", "mode"?, "at"?}.
func (d *Decoder) Fill(src []byte, q *SegmentQuery) *Fault {
	r := &d.r
	r.reset(src)
	*q = SegmentQuery{Mode: engine.FillReplace}
	var o object
	r.object(&o)
	for r.member(&o) {
		key := string(o.key)
		if q.one(r, key) {
			continue
		}
		switch key {
		case "union":
			q.Source.Union = r.names64()
		case "intersection":
			q.Source.Intersection = r.names64()
		case "difference":
			q.Source.Difference = r.names64()
		case "members":
			q.Members = r.ordinals()
		case "mode":
			q.Mode = engine.FillReplace + engine.FillMode(r.oneOf("replace", "add", "remove"))
		default:
			r.unknown()
		}
	}
	return r.finish()
}

// OverlapQuery is the body of POST /v1/segments:overlap.
type OverlapQuery struct {
	Segments []string
	Query    engine.PeopleQuery // Now: when they are judged; 0 = server time
}

// Overlap reads {"segments": [ID, …], "at"?}.
func (d *Decoder) Overlap(src []byte, q *OverlapQuery) *Fault {
	r := &d.r
	r.reset(src)
	*q = OverlapQuery{}
	var o object
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "segments":
			q.Segments = r.names64()
		case "at":
			setMsec(&q.Query.Now, r.time())
		default:
			r.unknown()
		}
	}
	if q.Segments == nil {
		r.missing("segments")
	}
	return r.finish()
}

// Member reads one line of a list of ids: {"user_id": "…"} or "…". The id
// borrows from src and from d.
func (d *Decoder) Member(src []byte) ([]byte, *Fault) {
	r := &d.r
	r.reset(src)
	var id []byte
	if r.peek() == '"' {
		id = r.filled()
		return id, r.finish()
	}
	var o object
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "user_id":
			id = r.filled()
		default:
			r.unknown()
		}
	}
	if id == nil {
		r.missing("user_id")
	}
	return id, r.finish()
}

// names64 reads a list of ids; more than 64 of them are a fault.
func (r *reader) names64() []string {
	out := []string{}
	r.list()
	for r.element() {
		if len(out) == 64 {
			r.fail(CodeInvalidValue, "more than 64 ids")
			return nil
		}
		out = append(out, string(r.filled()))
	}
	return out
}

// SegmentCount is how many people a rule or a segment holds for.
type SegmentCount struct {
	At       int64
	Revision uint32
	Users    uint64
	ByDay    uint64 // people of whom a window was answered by calendar day
}

// AppendCount appends the reply of POST /v1/segments:count.
func AppendCount(dst []byte, c *SegmentCount) []byte {
	w := append(writer(dst), '{')
	w.time("at", c.At)
	w.int("config_version", int64(c.Revision))
	w.int("users", int64(c.Users))
	if c.ByDay > 0 {
		w.int("by_day", int64(c.ByDay))
	}
	w.close('}')
	return w
}

// AppendSegments appends the reply of GET /v1/segments.
func AppendSegments(dst []byte, list []engine.SegmentView, more bool) []byte {
	w := append(writer(dst), '{')
	w.name("segments")
	w.open('[')
	for i := range list {
		w.segment(&list[i])
	}
	w.close(']')
	w.bool("more", more)
	w.close('}')
	return w
}

// AppendSegment appends the reply of GET /v1/segments/{id}.
func AppendSegment(dst []byte, v *engine.SegmentView) []byte {
	w := writer(dst)
	w.segment(v)
	return w
}

func (w *writer) segment(v *engine.SegmentView) {
	w.open('{')
	w.text("segment_id", v.ID)
	kind := "dynamic"
	if v.Static {
		kind = "static"
	}
	w.text("kind", kind)
	w.bool("track", v.Tracked)
	if v.Counted {
		w.int("users", int64(v.Count))
	}
	if v.Tracked {
		w.name("tracking")
		w.open('{')
		w.bool("whole", v.Judged >= v.People)
		w.int("judged", int64(v.Judged))
		w.int("of", int64(v.People))
		w.close('}')
	}
	w.close('}')
}

// AppendOverlap appends the reply of POST /v1/segments:overlap.
func AppendOverlap(dst []byte, o *engine.Overlap) []byte {
	w := append(writer(dst), '{')
	w.time("at", int64(o.At))
	w.int("config_version", int64(o.Revision))
	w.texts("segments", o.Segments)
	w.name("users")
	w.open('[')
	for _, row := range o.Counts {
		w.comma()
		w.open('[')
		for _, n := range row {
			w.comma()
			w = strconv.AppendUint(w, n, 10)
		}
		w.close(']')
	}
	w.close(']')
	if o.ByDay != nil {
		w.name("by_day")
		w.open('[')
		for _, n := range o.ByDay {
			w.comma()
			w = strconv.AppendUint(w, n, 10)
		}
		w.close(']')
	}
	w.close('}')
	return w
}

// AppendGrowth appends the reply of GET /v1/segments/{id}/growth.
func AppendGrowth(dst []byte, segment, per string, points []engine.GrowthPoint) []byte {
	w := append(writer(dst), '{')
	w.text("segment_id", segment)
	w.text("per", per)
	w.name("points")
	w.open('[')
	for _, p := range points {
		w.open('{')
		w.time("at", int64(p.At))
		w.int("users", int64(p.Count))
		w.close('}')
	}
	w.close(']')
	w.close('}')
	return w
}

// MembersEnd is what became of a list of members.
type MembersEnd struct {
	Lines, Unknown, Rejected int // of an upload
	Result                   engine.FillResult
	ByDay                    uint64     // of a fill: people of whom a window was answered by day
	Err                      *LineError // nothing was changed, or it is in doubt
}

// AppendMembersEnd appends the last line of an upload, and the reply of a fill.
func AppendMembersEnd(dst []byte, e *MembersEnd) []byte {
	w := append(writer(dst), '{')
	if e.Err != nil {
		w.text("status", "rejected")
		w.lineError(*e.Err)
	} else {
		w.text("status", "applied")
		w.int("added", int64(e.Result.Added))
		w.int("removed", int64(e.Result.Removed))
		w.int("users", int64(e.Result.Members))
		if e.ByDay > 0 {
			w.int("by_day", int64(e.ByDay))
		}
	}
	w.int("lines", int64(e.Lines))
	w.int("unknown", int64(e.Unknown))
	w.int("rejected", int64(e.Rejected))
	w.close('}')
	return w
}

// AppendChanges appends a line for each change and one with the cursor behind
// them.
func AppendChanges(dst []byte, c *engine.Changes) []byte {
	w := writer(dst)
	for i := range c.List {
		x := &c.List[i]
		w = append(w, '{')
		w.text("id", x.ID)
		w.text("segment_id", x.Segment)
		w.person([]byte(x.UserID))
		change := "left"
		if x.Entered {
			change = "entered"
		}
		w.text("change", change)
		w.text("cause", x.Cause)
		w.time("at", int64(x.At))
		w = append(w, '}', '\n')
	}
	w = append(w, '{')
	w.text("cursor", c.Cursor)
	w.bool("more", c.More)
	return append(w, '}', '\n')
}
