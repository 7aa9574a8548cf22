package rule

import (
	"math"
	"slices"
	"strconv"
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// naiveFact is one event, or a day of them summed up.
type naiveFact struct {
	at    storage.UnixMsec
	day   int64 // in the workspace's zone
	count int
	minus bool // it is in another fact and does not count
	props map[storage.Name]storage.Value
	sums  map[storage.Name]storage.Sums // of a day
}

// naiveReach is how far what is kept of a person answers a window.
type naiveReach uint8

const (
	reachNone  naiveReach = iota // not at all
	reachExact                   // to the millisecond
	reachDays                    // by calendar day
)

// naiveEvent judges a condition on events from lists.
func (l *leaf) naiveEvent(w *Who) bool {
	b := l.behaviour
	if b.agg == aggSequence {
		found := naiveSequence(b, w)
		return found || l.op == opIsSet && w.Tail.Floor() == 0
	}
	lo, hi, until := b.window.naive(w)
	facts, reach := naiveFacts(b, w, [3]storage.UnixMsec{lo, hi, until})
	tooMany := b.agg == aggDistinct && b.each && naiveDistinct(b, facts) > MaxElements
	if reach == reachNone || tooMany {
		return l.naiveProof(len(facts), facts)
	}
	return l.naiveFacts(facts, w)
}

// naiveByDay says whether a condition on events is answered by calendar day.
func (l *leaf) naiveByDay(w *Who) bool {
	if l.behaviour.agg == aggSequence {
		return false
	}
	lo, hi, until := l.behaviour.window.naive(w)
	_, reach := naiveFacts(l.behaviour, w, [3]storage.UnixMsec{lo, hi, until})
	return reach == reachDays
}

// naiveProof says whether the events of the tail alone are proof of a count.
func (l *leaf) naiveProof(n int, facts []naiveFact) bool {
	agg := l.behaviour.agg
	counted := agg == aggCount || agg == aggDays || agg == aggDistinct
	if !counted || l.op == opIsSet || l.typ != definition.TypeInt {
		return false
	}
	if agg != aggCount {
		n = naiveDistinct(l.behaviour, facts)
	}
	if l.behaviour.each {
		n = min(n, MaxElements)
	}
	switch l.op {
	case opGte:
		return int64(n) >= l.values[0].num
	case opGt:
		return int64(n) > l.values[0].num
	}
	return false
}

// naive returns a window's first and last millisecond now, and the last one that
// is still to come.
func (w *window) naive(who *Who) (lo, hi, until storage.UnixMsec) {
	lo, hi, until = sinceEver, who.Now, never
	switch w.kind {
	case windowRolling:
		lo = who.Now - storage.UnixMsec(w.width) + 1
	case windowCalendar:
		zone := map[string]*time.Location{
			"user": who.Zone, "workspace": who.Home, "UTC": time.UTC,
		}[w.calendar.Zone]
		if zone == nil {
			zone = time.UTC
		}
		start, _ := CalendarWindow(&w.calendar, FloorDiv(int64(who.Now), 1000), zone)
		lo = storage.UnixMsec(start * 1000)
	case windowBetween:
		lo, until = storage.UnixMsec(w.from), storage.UnixMsec(w.to-1)
		hi = min(hi, until)
	}
	return lo, hi, until
}

// naiveFacts lists what counts: the events of the tail when it reaches back far
// enough, else what is known of days or of the whole life.
func naiveFacts(b *behaviour, w *Who, span [3]storage.UnixMsec) ([]naiveFact, naiveReach) {
	lo, hi := span[0], span[1]
	facts := naiveTail(b, w, lo, hi)
	floor := w.Tail.Floor()
	newest := b.agg == aggLast || b.agg == aggUnseen
	if floor == 0 || floor <= lo || newest && len(facts) > 0 && facts[0].at >= floor-1 {
		return facts, reachExact
	}
	plain := len(b.steps[0].where) == 0
	switch {
	case w.Activity.Empty(), b.each:
		return facts, reachNone
	case b.agg == aggFirst || newest:
		if !plain || b.of != 0 {
			return facts, reachNone
		}
		return naiveEdges(b, w, span)
	case b.agg == aggDistinct, b.agg == aggDays && (!plain || lo == sinceEver),
		!plain && (b.agg != aggCount || !b.steps[0].oneBool()):
		return facts, reachNone
	}
	kept := naiveDays
	if lo == sinceEver {
		kept = naiveLife
	}
	sums, reach := kept(b, w, lo, hi)
	for _, f := range sums {
		if b.agg == aggDays && f.day >= dayIn(w.Home, lo)+distinctDays {
			reach = reachNone
		}
	}
	if reach == reachNone || b.naiveTied(sums) {
		return facts, reachNone
	}
	return sums, reach
}

// naiveTail lists the events of the tail from lo to hi, newest first.
func naiveTail(b *behaviour, w *Who, lo, hi storage.UnixMsec) (facts []naiveFact) {
	w.Tail.Each(func(e storage.TailEvent) bool {
		if e.Occurred >= lo && e.Occurred <= hi && b.steps[0].naive(&e, w) {
			facts = append(facts, naiveTailFact(&e, w))
		}
		return true
	})
	return facts
}

// naiveTied says whether the least or the greatest value may be one of those that
// do not count.
func (b *behaviour) naiveTied(facts []naiveFact) bool {
	if b.agg != aggMin && b.agg != aggMax {
		return false
	}
	with, without := b.naiveSums(facts)
	if without.N == 0 || without.N >= with.N {
		return false
	}
	if b.agg == aggMin {
		return without.Min <= with.Min
	}
	return without.Max >= with.Max
}

// naiveSums adds up the property of the facts, and of those that do not count.
func (b *behaviour) naiveSums(facts []naiveFact) (with, without storage.Sums) {
	for _, f := range facts {
		to := &with
		if f.minus {
			to = &without
		}
		if f.sums != nil {
			to.Join(f.sums[b.prop()])
			continue
		}
		for _, v := range b.naiveNumbers(f.props[b.of]) {
			to.Join(storage.Sums{N: 1, Sum: v, Min: v, Max: v})
		}
	}
	return with, without
}

// oneBool says that `where` asks one thing of one bool property.
func (m *match) oneBool() bool {
	return len(m.where) == 1 && m.where[0].leaf.typ == definition.TypeBool
}

func naiveTailFact(e *storage.TailEvent, w *Who) naiveFact {
	f := naiveFact{at: e.Occurred, count: 1, props: map[storage.Name]storage.Value{}}
	f.day = dayIn(w.Home, e.Occurred)
	e.EachProp(func(id storage.Name, v storage.Value) bool {
		if _, twice := f.props[id]; !twice {
			f.props[id] = v
		}
		return true
	})
	return f
}

func dayIn(zone *time.Location, at storage.UnixMsec) int64 {
	if zone == nil {
		zone = time.UTC
	}
	return midnight(time.UnixMilli(int64(at)).In(zone)).Unix() / 86400
}

func (m *match) naive(e *storage.TailEvent, w *Who) bool {
	if e.Outcome != m.outcome || !m.any && e.Event != m.event ||
		m.offers != nil && !slices.Contains(m.offers, e.Item) {
		return false
	}
	for i := range m.where {
		f := &m.where[i]
		l, holds := f.leaf, false
		if v, ok := e.Prop(l.id); ok {
			holds = propertyPerson(&l, v, w)
		}
		if holds == f.negative {
			return false
		}
	}
	return true
}

// propertyPerson judges a comparison of a property as that of an attribute.
func propertyPerson(l *leaf, v storage.Value, w *Who) bool {
	if l.each {
		return v.Kind == storage.KindList && slices.ContainsFunc(elements(v.Bytes),
			func(text string) bool { return l.naiveElement(text) })
	}
	got, ok := l.naiveTyped(v)
	if !ok || l.op == opIsSet {
		return ok
	}
	return l.naiveCompare(got, w)
}

// naiveElement judges one element of a list by what it says.
func (l *leaf) naiveElement(text string) bool {
	got, ok := naiveElementValue(text, l.typ)
	if !ok || l.op == opIsSet {
		return ok
	}
	return l.naiveCompare(got, &Who{})
}

// naiveElementValue reads an element as a value of a type.
func naiveElementValue(text string, typ definition.AttrType) (any, bool) {
	switch typ {
	case definition.TypeBool:
		return text == "true", text == "true" || text == "false"
	case definition.TypeInt:
		n, err := strconv.ParseInt(text, 10, 64)
		return n, err == nil
	case definition.TypeFloat:
		f, err := strconv.ParseFloat(text, 64)
		return f, err == nil && !math.IsNaN(f)
	}
	return text, true
}

func naiveEdges(b *behaviour, w *Who, span [3]storage.UnixMsec) ([]naiveFact, naiveReach) {
	first, last, n := never, sinceEver, 0
	for c := w.Activity.Cursor(); c.Next(); {
		if b.steps[0].sums(&c.ActivityEntry) {
			first, last, n = min(first, c.First), max(last, c.Last), n+1
		}
	}
	from, lo, hi := w.Activity.From(), span[0], span[1]
	covered := from == 0 || from <= lo
	if b.agg == aggFirst {
		if covered && lo == sinceEver && first <= hi && n > 0 {
			return []naiveFact{{at: first, count: 1}}, reachExact
		}
		return nil, reachNone
	}
	switch {
	case n > 0 && last > hi:
		return nil, reachNone
	case n > 0 && last >= lo && (from == 0 || last >= from):
		return []naiveFact{{at: last, count: 1}}, reachExact
	case covered && (n == 0 || last < lo):
		return nil, reachExact
	}
	return nil, reachNone
}

// naiveLife is the whole life up to hi: all of it, without what came later: the
// events that the tail shows, or the days after the one that holds hi.
func naiveLife(b *behaviour, w *Who, _, hi storage.UnixMsec) ([]naiveFact, naiveReach) {
	var facts []naiveFact
	if w.Activity.From() != 0 {
		return nil, reachNone
	}
	reach := reachExact
	prop, tailShows := b.prop(), w.Tail.Floor() <= hi+1
	last := sinceEver
	for c := w.Activity.Cursor(); c.Next(); {
		if !b.steps[0].sums(&c.ActivityEntry) {
			continue
		}
		sums, ok := c.Sums(prop)
		if !ok && prop != 0 {
			return nil, reachNone
		}
		facts = append(facts, naiveFact{
			count: int(c.Count), sums: map[storage.Name]storage.Sums{prop: sums},
		})
		last = max(last, c.Last)
		if c.Last <= hi || tailShows {
			continue
		}
		reach = reachDays
		if int64(c.Floor) > dayIn(w.Home, hi)+1 {
			return nil, reachNone
		}
		for d := c.Days(prop); d.Next(); {
			if int64(d.Day) > dayIn(w.Home, hi) {
				facts = append(facts, naiveFact{
					count: int(d.Count), minus: true, sums: map[storage.Name]storage.Sums{prop: d.Sums},
				})
			}
		}
	}
	if last > hi && tailShows {
		facts = append(facts, naiveAfter(b, w, hi)...)
	}
	return facts, reach
}

// naiveAfter are the events of the tail after hi: they do not count.
func naiveAfter(b *behaviour, w *Who, hi storage.UnixMsec) []naiveFact {
	facts := naiveTail(b, w, hi+1, never)
	for i := range facts {
		facts[i].minus = true
	}
	return facts
}

// naiveDays are the days from the one that holds lo to the one that holds hi,
// without what the tail shows of that day after hi.
func naiveDays(b *behaviour, w *Who, lo, hi storage.UnixMsec) ([]naiveFact, naiveReach) {
	var facts []naiveFact
	begin, end := dayIn(w.Home, lo), dayIn(w.Home, hi)
	from := w.Activity.From()
	known := from == 0 || dayIn(w.Home, from-1) < begin
	for c := w.Activity.Cursor(); c.Next(); {
		if !b.steps[0].sums(&c.ActivityEntry) {
			continue
		}
		known = known && int64(c.Floor) <= begin
		for d := c.Days(b.prop()); d.Next(); {
			if day := int64(d.Day); day >= begin && day <= end {
				facts = append(facts, naiveFact{
					day: day, count: int(d.Count), sums: map[storage.Name]storage.Sums{b.prop(): d.Sums},
				})
			}
		}
	}
	if !known {
		return nil, reachNone
	}
	if w.Tail.Floor() <= hi+1 {
		for _, f := range naiveAfter(b, w, hi) {
			if f.day == end {
				facts = append(facts, f)
			}
		}
	}
	return facts, reachDays
}

// naiveFacts compares what the facts come to.
func (l *leaf) naiveFacts(facts []naiveFact, w *Who) bool {
	b := l.behaviour
	n := 0
	for _, f := range facts {
		sign := 1
		if f.minus {
			sign = -1
		}
		if f.sums == nil {
			n += sign * f.count
			continue
		}
		n += sign * b.naiveCount(f)
	}
	sums, without := b.naiveSums(facts)
	if sums.N, sums.Sum = sums.N-without.N, sums.Sum-without.Sum; sums.N == 0 {
		sums = storage.Sums{}
	}
	var got any
	switch b.agg {
	case aggUnseen:
		return (n == 0) || l.op == opIsSet
	case aggCount:
		got = int64(n)
	case aggDays, aggDistinct:
		got = int64(naiveDistinct(b, facts))
	case aggSum:
		got = sums.Sum
	case aggFirst, aggLast:
		v, ok := l.naiveEdge(facts)
		if !ok {
			return false
		}
		got = v
	default:
		if sums.N == 0 {
			return false
		}
		got = map[aggregate]float64{
			aggMin: sums.Min, aggMax: sums.Max, aggAvg: sums.Sum / float64(sums.N),
		}[b.agg]
	}
	if l.op == opIsSet {
		return true
	}
	if list, ok := got.([]string); ok && b.each {
		return slices.ContainsFunc(list, l.naiveElement)
	}
	return l.naiveCompare(got, w)
}

// naiveNumbers are the numbers that one event adds.
func (b *behaviour) naiveNumbers(v storage.Value) (all []float64) {
	if b.each {
		for _, text := range elements(v.Bytes) {
			f, err := strconv.ParseFloat(text, 64)
			if err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) && v.Kind == storage.KindList {
				all = append(all, f)
			}
		}
		return all
	}
	if f, ok := asNumber(v); ok {
		all = append(all, f)
	}
	return all
}

// naiveCount is how many events of a day pass a question about a bool.
func (b *behaviour) naiveCount(f naiveFact) int {
	if len(b.steps[0].where) == 0 {
		return f.count
	}
	s, w := f.sums[b.prop()], &b.steps[0].where[0]
	yes, no := int(s.Sum), int(s.N)-int(s.Sum)
	hit := yes + no
	if w.leaf.op == opIs {
		hit = no
		if w.leaf.values[0].num == 1 {
			hit = yes
		}
	}
	if w.negative {
		return f.count - hit
	}
	return hit
}

func naiveDistinct(b *behaviour, facts []naiveFact) int {
	days, values := map[int64]int{}, map[any]bool{}
	for _, f := range facts {
		if days[f.day] += f.count; f.minus {
			days[f.day] -= 2 * f.count
		}
		v, ok := f.props[b.of]
		switch {
		case ok && b.each:
			for _, text := range elements(v.Bytes) {
				if got, ok := naiveElementValue(text, b.ofType); ok {
					values[got] = true
				}
			}
		case ok:
			values[[2]any{v.Num, string(v.Bytes)}] = true
		}
	}
	if b.agg == aggDays {
		n := 0
		for _, count := range days {
			if count > 0 {
				n++
			}
		}
		return n
	}
	return len(values)
}

// naiveEdge returns the time, or the property, of the first or last event. Of
// several in one millisecond the last to come is the last.
func (l *leaf) naiveEdge(facts []naiveFact) (any, bool) {
	b := l.behaviour
	if len(facts) == 0 {
		return nil, false
	}
	f := facts[len(facts)-1] // newest first
	if b.agg == aggLast {
		f = facts[0]
	}
	if b.of == 0 {
		return time.UnixMilli(int64(f.at)).UTC(), true
	}
	v, ok := f.props[b.of]
	if !ok {
		return nil, false
	}
	if !b.each {
		return l.naiveTyped(v)
	}
	known := leaf{typ: l.typ, op: opIsSet}
	return elements(v.Bytes), slices.ContainsFunc(elements(v.Bytes), known.naiveElement)
}

// naiveSequence tries every way to take the steps.
func naiveSequence(b *behaviour, w *Who) bool {
	var events []storage.TailEvent // oldest first
	w.Tail.Each(func(e storage.TailEvent) bool {
		if e.Occurred <= w.Now {
			events = append(events, e)
		}
		return true
	})
	slices.Reverse(events)
	var from func(step, next, first int) bool
	from = func(step, next, first int) bool {
		for i := next; i < len(events); i++ {
			if step > 0 && events[i].Occurred-events[first].Occurred >
				storage.UnixMsec(b.window.width) {
				return false
			}
			if b.steps[step].naive(&events[i], w) {
				if step == len(b.steps)-1 {
					return true
				}
				if step == 0 {
					first = i
				}
				if (step == 0 || b.without == nil || !b.without.naive(&events[i], w)) &&
					from(step+1, i+1, first) {
					return true
				}
			}
			if step > 0 && b.without != nil && b.without.naive(&events[i], w) {
				return false
			}
		}
		return false
	}
	return from(0, 0, 0)
}
