package rule

import (
	"math"
	"math/bits"
	"time"

	"tact/storage"
)

// span is a window at one instant: events with lo ≤ Occurred ≤ hi count.
type span struct {
	lo, hi storage.UnixMsec
	until  storage.UnixMsec // events after hi and up to it will count in time
	width  storage.UnixMsec // of a rolling window: an event leaves so much later; 0 = none
	end    storage.UnixMsec // when another window of the calendar begins
}

// distinctDays is the longest window, in days, whose distinct days are counted
// beyond the tail.
const distinctDays = 4096

// sinceEver is earlier than every time an event can have.
const sinceEver = -never

// span returns the window of a behaviour now.
func (e *evaluation) span(w *window) span {
	now := e.clock.now
	s := span{lo: sinceEver, hi: now, until: never, end: never}
	switch w.kind {
	case windowRolling:
		s.width = storage.UnixMsec(w.width)
		s.lo = now - s.width + 1
	case windowCalendar:
		zone := e.who.Zone
		switch w.calendar.Zone {
		case "UTC":
			zone = time.UTC
		case "workspace":
			zone = e.who.Home
		}
		if zone == nil {
			zone = time.UTC
		}
		start, end := CalendarWindow(&w.calendar, FloorDiv(int64(now), 1000), zone)
		s.lo, s.end = storage.UnixMsec(start*1000), storage.UnixMsec(end*1000)
	case windowBetween:
		s.lo, s.until = storage.UnixMsec(w.from), storage.UnixMsec(w.to-1)
		s.hi = min(now, s.until)
	}
	return s
}

// state says what came out of a behaviour.
type state uint8

const (
	stateUnknown state = iota // neither the tail nor the sums reach back far enough
	stateMissing              // known: there is no such event
	stateValue
)

// tally is what the events of a window come to.
type tally struct {
	n           uint64
	sums        storage.Sums // of the property
	first, last storage.UnixMsec
	firstValue  storage.Value // of the property
	lastValue   storage.Value
	valued      [2]bool                    // firstValue, lastValue are there
	days        *[distinctDays / 64]uint64 // days from the window's begin on; nil: not asked for
	far         bool                       // there are days that days has no room for
}

// event judges a test on events and lowers flip to when that may change.
func (e *evaluation) event(t *test) bool {
	b := t.behaviour
	var v storage.Value
	var s state
	var least int64 = -1
	switch b.agg {
	case aggSequence:
		found, known := e.sequence(b)
		return found || t.want == wantKnown && known
	case aggUnseen:
		_, s = e.gather(b, &least)
		return s == stateMissing || t.want == wantKnown && s == stateValue
	case aggDays, aggDistinct:
		v, s = e.distinct(b, &least)
	default:
		v, s = e.gather(b, &least)
	}
	if t.want == wantKnown {
		return s == stateValue
	}
	if s == stateUnknown {
		lo, ok := t.atLeast()
		return ok && least >= lo // what the tail alone proves holds
	}
	if s == stateMissing {
		return false
	}
	switch {
	case b.each && (b.agg == aggFirst || b.agg == aggLast):
		return t.inner.anyElement(v)
	case t.inner.dynamic():
		return e.moving(t.inner, v)
	}
	return t.inner.static(v)
}

// gather computes everything but distinct values and sequences. least receives
// how many events the tail alone shows.
func (e *evaluation) gather(b *behaviour, least *int64) (storage.Value, state) {
	s := e.span(&b.window)
	e.flip = min(e.flip, s.end)
	var t tally
	floor := e.who.Tail.Floor()
	if e.recent != nil && b.agg == aggCount && (floor == 0 || floor <= s.lo) {
		return storage.Value{Kind: storage.KindInt, Num: e.count(&b.steps[0], s)}, stateValue
	}
	newest := b.agg == aggLast || b.agg == aggUnseen
	if newest || floor == 0 || floor <= s.lo {
		e.scan(b, s, &t)
		// Without a gap behind the newest. Of several events in the millisecond before
		// floor those that came last are in the tail.
		if floor == 0 || floor <= s.lo || t.n > 0 && t.last >= floor-1 {
			return t.value(b)
		}
	}
	if s.width > 0 { // time brings the window into the tail
		e.flip = min(e.flip, floor+s.width-1)
	}
	v, state := e.sums(b, s)
	if state == stateUnknown && !newest {
		e.scan(b, s, &t)
		*least = int64(t.n)
	}
	return v, state
}

// count counts the events of the shared reading that lie in the window, as scan
// does, without what counting has no need of: most conditions on events count.
func (e *evaluation) count(m *match, s span) (n uint64) {
	w := e.walkRecent(m)
	for ev := w.next(); ev != nil && ev.Occurred >= s.lo; ev = w.next() {
		switch {
		case ev.Occurred > s.until || !e.picks(m, ev):
			continue
		case ev.Occurred > s.hi:
			e.flip = min(e.flip, ev.Occurred)
			continue
		case s.width > 0:
			e.flip = min(e.flip, ev.Occurred+s.width)
		}
		n++
	}
	return n
}

// scan adds up the events of the tail that lie in the window, newest first.
func (e *evaluation) scan(b *behaviour, s span, t *tally) {
	m := &b.steps[0]
	w := e.walk(m)
	for c := w.next(); c != nil && c.Occurred >= s.lo; c = w.next() {
		if c.Occurred > s.until || !e.picks(m, c) {
			continue
		}
		if c.Occurred > s.hi {
			e.flip = min(e.flip, c.Occurred)
			continue
		}
		if s.width > 0 {
			e.flip = min(e.flip, c.Occurred+s.width)
		}
		t.add(b, c)
		if b.agg == aggLast || b.agg == aggUnseen {
			return
		}
	}
}

// add counts an event that lies before those counted so far.
func (t *tally) add(b *behaviour, e *storage.TailEvent) {
	if t.n++; t.n == 1 {
		t.last = e.Occurred
	}
	t.first = e.Occurred
	if b.of == 0 {
		return
	}
	v, ok := e.Prop(b.of)
	if t.n == 1 {
		t.lastValue, t.valued[1] = v, ok
	}
	t.firstValue, t.valued[0] = v, ok
	if ok && b.each {
		addElements(&t.sums, v)
		return
	}
	if f, number := asNumber(v); ok && number {
		t.sums.Join(storage.Sums{N: 1, Sum: f, Min: f, Max: f})
	}
}

// asNumber reads a bool, int or float that is finite.
func asNumber(v storage.Value) (float64, bool) {
	switch v.Kind {
	case storage.KindBool:
		return float64(v.Num & 1), true
	case storage.KindInt:
		return float64(int64(v.Num)), true
	case storage.KindFloat:
		f := math.Float64frombits(v.Num)
		return f, !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	return 0, false
}

// value is what the behaviour asks of the events counted.
func (t *tally) value(b *behaviour) (storage.Value, state) {
	switch b.agg {
	case aggCount:
		return storage.Value{Kind: storage.KindInt, Num: t.n}, stateValue
	case aggSum:
		return floatOf(t.sums.Sum), stateValue
	case aggUnseen:
		if t.n == 0 {
			return storage.Value{}, stateMissing
		}
		return storage.Value{}, stateValue
	case aggFirst, aggLast:
		return t.edge(b)
	}
	if t.sums.N == 0 {
		return storage.Value{}, stateMissing
	}
	switch b.agg {
	case aggMin:
		return floatOf(t.sums.Min), stateValue
	case aggMax:
		return floatOf(t.sums.Max), stateValue
	}
	return floatOf(t.sums.Sum / float64(t.sums.N)), stateValue
}

func (t *tally) edge(b *behaviour) (storage.Value, state) {
	at, v, i := t.first, t.firstValue, 0
	if b.agg == aggLast {
		at, v, i = t.last, t.lastValue, 1
	}
	switch {
	case t.n == 0:
		return storage.Value{}, stateMissing
	case b.of == 0:
		return storage.Value{Kind: storage.KindTime, Num: uint64(at)}, stateValue
	case !t.valued[i], b.each && !b.anyKnown(v):
		return storage.Value{}, stateMissing
	}
	return v, stateValue
}

func floatOf(f float64) storage.Value {
	return storage.Value{Kind: storage.KindFloat, Num: math.Float64bits(f)}
}

// distinct counts different days, in the workspace's zone, or different values
// of a property.
func (e *evaluation) distinct(b *behaviour, least *int64) (storage.Value, state) {
	s := e.span(&b.window)
	e.flip = min(e.flip, s.end)
	n, whole := 0, true
	switch {
	case b.agg == aggDays:
		n = e.distinctDays(b, s)
	case b.each:
		n, whole = e.distinctElements(b, s)
	default:
		n = e.distinctValues(b, s)
	}
	*least = int64(n)
	count := storage.Value{Kind: storage.KindInt, Num: uint64(n)}
	floor := e.who.Tail.Floor()
	if whole && (floor == 0 || floor <= s.lo) {
		return count, stateValue
	}
	if s.width > 0 && floor != 0 {
		e.flip = min(e.flip, floor+s.width-1)
	}
	if b.agg != aggDays || b.fold.kind != foldAll || s.lo == sinceEver || e.who.Activity.Empty() {
		return storage.Value{}, stateUnknown
	}
	var days [distinctDays / 64]uint64
	t := tally{days: &days}
	if !e.days(b, s, &t) || t.far {
		return storage.Value{}, stateUnknown
	}
	count.Num = 0
	for _, word := range days {
		count.Num += uint64(bits.OnesCount64(word))
	}
	return count, stateValue
}

func (e *evaluation) distinctDays(b *behaviour, s span) int {
	var days [storage.TailMax]int64
	n := 0
	home := clock{zone: e.who.Home}
	if home.zone == nil {
		home.zone = time.UTC
	}
	w := e.walk(&b.steps[0])
next:
	for c := w.next(); c != nil && c.Occurred >= s.lo; c = w.next() {
		if !e.counts(b, &s, c) {
			continue
		}
		day := home.local(int64(c.Occurred))
		for _, d := range days[:n] {
			if d == day {
				continue next
			}
		}
		days[n] = day
		n++
	}
	return n
}

func (e *evaluation) distinctValues(b *behaviour, s span) int {
	var values [storage.TailMax]storage.Value
	n := 0
	w := e.walk(&b.steps[0])
next:
	for c := w.next(); c != nil && c.Occurred >= s.lo; c = w.next() {
		if !e.counts(b, &s, c) {
			continue
		}
		v, ok := c.Prop(b.of)
		if !ok {
			continue
		}
		for i := range values[:n] {
			o := &values[i]
			if o.Kind == v.Kind && o.Num == v.Num && string(o.Bytes) == string(v.Bytes) {
				continue next
			}
		}
		values[n] = v
		n++
	}
	return n
}

// counts says whether an event of the tail, not before the window, counts now.
func (e *evaluation) counts(b *behaviour, s *span, c *storage.TailEvent) bool {
	if c.Occurred > s.until || !e.picks(&b.steps[0], c) {
		return false
	}
	if c.Occurred > s.hi {
		e.flip = min(e.flip, c.Occurred)
		return false
	}
	if s.width > 0 {
		e.flip = min(e.flip, c.Occurred+s.width)
	}
	return true
}

// sequence looks for the steps, one after the other, no more than the width
// apart from first to last and with no event of `without` between the two. It
// walks from the newest event back and keeps, for every step, the nearest end
// that the steps from there on can have. Events of one millisecond have the
// order in which they came. known is false when older events are not in the
// tail.
func (e *evaluation) sequence(b *behaviour) (found, known bool) {
	var ends [MaxSteps]storage.UnixMsec
	last := len(b.steps) - 1
	for i := range ends {
		ends[i] = never
	}
	w := e.walk(nil)
	for c := w.next(); c != nil; c = w.next() {
		if c.Occurred > e.clock.now {
			e.flip = min(e.flip, c.Occurred)
			continue
		}
		if ends[1] != never && ends[1]-c.Occurred <= storage.UnixMsec(b.window.width) &&
			e.picks(&b.steps[0], c) {
			return true, true
		}
		broken := b.without != nil && e.picks(b.without, c)
		for k := 1; k < last && !broken; k++ {
			if ends[k+1] != never && e.picks(&b.steps[k], c) {
				ends[k] = ends[k+1]
			}
		}
		if broken {
			for k := range ends {
				ends[k] = never
			}
		}
		if e.picks(&b.steps[last], c) {
			ends[last] = c.Occurred
		}
	}
	return false, e.who.Tail.Floor() == 0
}
