package rule

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"tact/engine/definition"
	"tact/storage"
)

// Bounds of what one condition on events may say.
const (
	MaxSteps   = 8 // of a sequence
	MaxFilters = 8 // properties that `where` names
)

// Event is a declared event.
type Event struct {
	ID         storage.Name // DictEvent
	Properties map[string]Property
}

// Property is a declared property of an event. Only an indexed one is kept of
// the events that a person did, and so may stand in a rule.
type Property struct {
	ID      storage.Name // DictProperty
	Type    definition.AttrType
	Indexed bool
	Each    bool // of the elements of a list, such as items[].price; then Type is theirs
}

// OfferName is an offer that the selector of an outcome may pick.
type OfferName struct {
	ID    string
	Name  storage.Name // DictOffer
	Group string       // "" or a path

	Labels map[string]string
}

// aggregate is what a condition asks of the events in its window.
type aggregate uint8

const (
	aggCount    aggregate = iota
	aggDays               // distinct days
	aggDistinct           // distinct values of a property
	aggSum
	aggMin
	aggMax
	aggAvg
	aggFirst // time, or a property, of the first event
	aggLast
	aggUnseen   // no event in the window
	aggSequence // the steps one after the other
)

// windowKind is the kind of a window.
type windowKind uint8

const (
	windowLife windowKind = iota
	windowRolling
	windowCalendar
	windowBetween
)

// window says which events count.
type window struct {
	kind     windowKind
	text     string // as written
	width    int64  // ms: of a rolling window, and of a sequence from first to last
	calendar definition.Window
	from, to int64 // ms: [from, to) of between
}

// filter is a comparison of one property of an event.
type filter struct {
	leaf     leaf
	test     test
	negative bool
}

// match says which events a condition is about.
type match struct {
	name    string // as written; "*" = any event that is no outcome
	any     bool
	outcome bool
	event   storage.Name
	offers  []storage.Name // of an outcome: rising; nil = all
	chosen  string         // the selector as written
	where   []filter
}

// behaviour is the part of a condition that gathers events: a value comes out of
// it, which the rest of the leaf compares.
type behaviour struct {
	agg     aggregate
	steps   []match // one, or those of a sequence
	without *match  // of a sequence
	window  window
	of      storage.Name // property; 0 = none
	each    bool         // of is a property of the elements of a list
	ofType  definition.AttrType
	ofName  string
	fold    folding
}

// folding says how `where` can be answered by sums of days: exactly, when it asks
// whether one bool property is there, or what it is.
type folding struct {
	kind foldKind
	prop storage.Name
}

type foldKind uint8

const (
	foldNone  foldKind = iota // sums cannot tell
	foldAll                   // no where
	foldHas                   // the property is there
	foldTrue                  // it is there and true
	foldFalse                 // it is there and false
	foldNot                   // added to one of the three: all the others
)

// folded finds how sums of days answer the events that m picks.
func (m *match) folded() folding {
	switch {
	case len(m.where) == 0:
		return folding{kind: foldAll}
	case len(m.where) > 1 || m.where[0].leaf.typ != definition.TypeBool || m.where[0].leaf.each:
		return folding{}
	}
	w := &m.where[0]
	f := folding{kind: foldHas, prop: w.leaf.id}
	if w.test.kind == testInt {
		f.kind = foldFalse
		if w.test.lo == 1 {
			f.kind = foldTrue
		}
	}
	if w.negative {
		f.kind += foldNot
	}
	return f
}

// picks says whether a condition is about an event, and lowers flip to when that
// changes. It does not allocate.
func (e *evaluation) picks(m *match, event *storage.TailEvent) bool {
	if event.Outcome != m.outcome || !m.any && event.Event != m.event {
		return false
	}
	if m.offers != nil {
		if _, ok := slices.BinarySearch(m.offers, event.Item); !ok {
			return false
		}
	}
	for i := range m.where {
		w := &m.where[i]
		v, ok := event.Prop(w.leaf.id)
		if (ok && e.property(w, v)) == w.negative {
			return false
		}
	}
	return true
}

// property judges a comparison of a property that an event has; of a property of
// the elements of a list it holds when it holds for one of them.
func (e *evaluation) property(w *filter, v storage.Value) bool {
	switch {
	case w.leaf.each:
		return w.test.anyElement(v)
	case w.test.dynamic():
		return e.moving(&w.test, v)
	}
	return w.test.static(v)
}

// local says that the condition needs the person's calendar.
func (b *behaviour) local() bool {
	for i := range b.steps {
		if b.steps[i].local() {
			return true
		}
	}
	return b.without != nil && b.without.local()
}

func (m *match) local() bool {
	return slices.ContainsFunc(m.where, func(f filter) bool { return f.test.dynamic() })
}

// entries begins a walk over the entries of sums that may be about m.
func (m *match) entries(a *storage.Activity) storage.ActivityCursor {
	if m.any {
		return a.Cursor()
	}
	return a.CursorOf(m.event)
}

// sums says whether the condition is about an entry of sums, `where` apart.
func (m *match) sums(e *storage.ActivityEntry) bool {
	if e.Outcome != m.outcome || !m.any && e.Event != m.event {
		return false
	}
	if m.offers == nil {
		return true
	}
	_, ok := slices.BinarySearch(m.offers, e.Item)
	return ok
}

// counted returns how many of n events pass `where`, by the sums of the one
// property it names.
func (f folding) counted(n uint64, s storage.Sums) uint64 {
	var hit uint64
	kind := f.kind
	negative := kind > foldNot
	if negative {
		kind -= foldNot
	}
	switch kind {
	case foldAll:
		return n
	case foldHas:
		hit = s.N
	case foldTrue:
		hit = uint64(s.Sum)
	case foldFalse:
		hit = s.N - uint64(s.Sum)
	}
	if negative {
		return n - hit
	}
	return hit
}

// key is the canonical text of a behaviour.
func (b *behaviour) key() string {
	var s strings.Builder
	num := func(v int64) { s.WriteString(" " + strconv.FormatInt(v, 10)) }
	s.WriteString("event")
	num(int64(b.agg))
	num(int64(b.of))
	s.WriteString(strconv.FormatBool(b.each))
	num(int64(b.window.kind))
	num(b.window.width)
	c := &b.window.calendar
	num(int64(c.Unit))
	num(int64(c.Every))
	num(int64(c.WeekStart))
	s.WriteString(c.Zone)
	num(b.window.from)
	num(b.window.to)
	for i := range b.steps {
		b.steps[i].key(&s)
	}
	if b.without != nil {
		s.WriteString(" without")
		b.without.key(&s)
	}
	return s.String()
}

func (m *match) key(s *strings.Builder) {
	s.WriteString(" [" + strconv.FormatBool(m.any) + strconv.FormatBool(m.outcome))
	s.WriteString(strconv.Itoa(int(m.event)))
	if m.offers != nil {
		s.WriteString(" of")
		for _, o := range m.offers {
			s.WriteString(" " + strconv.Itoa(int(o)))
		}
	}
	for i := range m.where {
		w := &m.where[i]
		s.WriteString(" (" + strconv.FormatBool(w.negative) + strconv.FormatBool(w.leaf.each) +
			w.test.key(false) + ")")
	}
	s.WriteString("]")
}

// compileEvent makes the test of a condition on events.
func (t *test) compileEvent(l *leaf) {
	t.kind, t.behaviour, t.fold = testEvent, l.behaviour, false
	switch l.op {
	case opNone:
		t.want = wantTrue
	case opIsSet:
		t.want = wantKnown
	default:
		t.want = wantValue
		t.inner = &test{typ: l.typ, fold: l.fold}
		t.inner.compileValue(l)
	}
}

// want is what a test on events asks of the value that comes out.
type want uint8

const (
	wantValue want = iota // inner holds for it
	wantKnown             // it is known
	wantTrue              // of aggUnseen and aggSequence: it is so
)

// atLeast returns the least count for which the test holds, whatever larger
// number it is; false when the test is another.
func (t *test) atLeast() (int64, bool) {
	in := t.inner
	if in == nil || t.behaviour.agg != aggCount && t.behaviour.agg != aggDays &&
		t.behaviour.agg != aggDistinct {
		return 0, false
	}
	return in.lo, in.kind == testInt && in.hi == math.MaxInt64
}
