package rule

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"tact/engine/definition"
	"tact/storage"
)

// mostRanges bounds the values of a list of numbers that are looked up one by
// one; of a longer list the index tells the least and the greatest only.
const mostRanges = 16

// farthestZone is farther than any clock is from UTC, in milliseconds.
const farthestZone = 16 * 60 * 60 * 1000

// answer is what the sets of a view say of one condition. Of a number the bounds
// follow from who is asked about; index is set then.
type answer struct {
	bounds
	index *storage.IndexView
	given bool
}

// partOf makes the plan of a tree and notes which sets it reads.
func (p *Population) partOf(d *derived) *setPart {
	out := &setPart{kind: d.kind}
	for _, sub := range d.subs {
		out.subs = append(out.subs, p.partOf(sub))
	}
	if d.kind != nodeLeaf {
		return out
	}
	t := &d.test
	out.test, out.leaf = t, p.leaves
	p.leaves++
	switch t.kind {
	case testTag, testTagValues:
		for _, name := range t.tagNames() {
			p.ask.Tags = append(p.ask.Tags, name)
			if t.enum || t.kind == testTagValues {
				p.index(out, storage.IndexKey{Kind: storage.IndexTag, ID: name}, t.matchesTag)
			}
		}
	case testSegment:
		p.ask.Segments = append(p.ask.Segments, t.id)
	case testPercent, testConsent, testWithdrawn, testBlacklisted, testReachable, testDerived,
		testHour, testFixed:
		p.asksPeople = true
	case testEvent:
		p.onEvents++
		p.keep(out, d)
		if emptyHolds(t) {
			break
		}
		for i := range t.behaviour.steps {
			p.index(out, t.behaviour.steps[i].index(), nil)
		}
	default:
		key := storage.IndexKey{
			Kind: storage.IndexAttr, ID: t.id, Type: storage.ValueKind(t.typ),
		}
		p.index(out, key, t.matchesValue)
	}
	return out
}

// keep asks for what is known of a condition on events.
func (p *Population) keep(out *setPart, d *derived) {
	key := storage.VerdictAsk{Key: d.test.key(false)}
	at := slices.Index(p.ask.Verdicts, key)
	if at < 0 {
		at = len(p.ask.Verdicts)
		p.ask.Verdicts = append(p.ask.Verdicts, key)
	}
	out.verdict, d.verdict = at+1, at+1
}

func (p *Population) index(out *setPart, key storage.IndexKey, match func(string) bool) {
	out.indexes = append(out.indexes, len(p.ask.Indexes))
	p.ask.Indexes = append(p.ask.Indexes, storage.IndexAsk{Key: key, Match: match})
}

// index names the index of who ever had an event that m is about.
func (m *match) index() storage.IndexKey {
	key := storage.IndexKey{Kind: storage.IndexEvent, ID: m.event}
	if m.outcome {
		key.Kind = storage.IndexOutcome
	}
	if m.any {
		key.ID = 0
	}
	return key
}

// emptyHolds says whether a test on events holds for a person without any.
func emptyHolds(t *test) bool {
	e := evaluation{who: &Who{}, flip: never, clock: newClock(0, nil)}
	return e.event(t)
}

func (t *test) matchesTag(value string) bool {
	if t.kind == testTag || len(value) != 4 {
		return false // who holds the tag at all is another set
	}
	_, found := slices.BinarySearch(t.ints, int64(binary.BigEndian.Uint32([]byte(value))))
	return found
}

func (t *test) matchesValue(value string) bool {
	v := storage.Value{Kind: storage.ValueKind(t.typ), Bytes: []byte(value)}
	if t.typ == definition.TypeBool {
		if len(value) != 1 {
			return false
		}
		v = storage.Value{Kind: v.Kind, Num: uint64(value[0])}
	}
	return t.static(v)
}

// answer returns what the view says of a leaf, and remembers it.
func (r *setRun) answer(p *setPart) answer {
	a := &r.answers[p.leaf]
	if !a.given {
		*a = r.ask(p)
		a.given = true
	}
	return *a
}

func (r *setRun) ask(p *setPart) answer {
	t := p.test
	switch t.kind {
	case testTag, testTagValues:
		return answer{bounds: r.tag(p)}
	case testSegment:
		set := r.view.Segment(t.id)
		return answer{bounds: bounds{set, set}}
	case testEvent:
		return answer{bounds: r.event(p)}
	}
	var x *storage.IndexView
	if len(p.indexes) > 0 {
		x = r.view.Index(p.indexes[0])
	}
	switch {
	case x == nil:
		return answer{bounds: r.unknown()}
	case x.Key.Type == storage.KindInt || x.Key.Type == storage.KindFloat ||
		x.Key.Type == storage.KindDate || x.Key.Type == storage.KindTime:
		return answer{index: x}
	}
	if t.kind == testKnown && t.typ != definition.TypeBool && t.typ != definition.TypeSemver {
		return answer{bounds: bounds{x.Has, x.Has}}
	}
	return answer{bounds: valueBounds(x, t.matchesValue)}
}

// unknown is the answer of sets that tell nothing.
func (r *setRun) unknown() bounds { return bounds{roaring.New(), r.view.Everyone} }

// valueBounds joins the sets of the values that match; who has a value without a
// set has perhaps one of them.
func valueBounds(x *storage.IndexView, match func(string) bool) bounds {
	var sets []*roaring.Bitmap
	for i, set := range x.Sets {
		if set != nil && match(x.Values[i]) {
			sets = append(sets, set)
		}
	}
	var sure *roaring.Bitmap
	if len(sets) == 1 {
		sure = sets[0]
	} else {
		sure = roaring.FastOr(sets...)
	}
	if x.Odd.IsEmpty() {
		return bounds{sure, sure}
	}
	return bounds{sure, roaring.Or(sure, x.Odd)}
}

// tag answers for tags: of the names a tag has and had, a person is judged by the
// first that is held.
func (r *setRun) tag(p *setPart) bounds {
	names := p.test.tagNames()
	b := r.tagNamed(p, 0, names[0])
	if len(names) == 1 {
		return b.passed
	}
	sure, perhaps, before := roaring.New(), roaring.New(), roaring.New()
	known := true // who holds one of the names before
	for i, name := range names {
		if i > 0 {
			b = r.tagNamed(p, i, name)
		}
		if known {
			sure.Or(roaring.AndNot(b.passed.sure, before))
		}
		perhaps.Or(roaring.AndNot(b.passed.perhaps, before))
		if known = known && b.known; known {
			before.Or(b.holders)
		}
	}
	if sure.Equals(perhaps) {
		return bounds{sure, sure}
	}
	return bounds{sure, perhaps}
}

// named is what the sets say of one name of a tag.
type named struct {
	holders *roaring.Bitmap // who holds it, whatever the value
	passed  bounds          // and has a value that is asked for
	known   bool            // holders are who holds it
}

func (r *setRun) tagNamed(p *setPart, i int, name storage.Name) named {
	tag := r.view.Tag(name)
	out := named{holders: tag.Held, passed: bounds{tag.Held, tag.Held}, known: true}
	if len(p.indexes) > 0 {
		x := r.view.Index(p.indexes[i])
		if x == nil {
			out.known, out.passed.sure = false, roaring.New()
			return out
		}
		out.holders, out.passed = x.Has, bounds{x.Has, x.Has}
		if p.test.kind == testTagValues {
			out.passed = valueBounds(x, p.test.matchesTag)
		}
	}
	if tag.Ended.IsEmpty() {
		return out
	}
	exact := out.passed.exact()
	out.holders = roaring.AndNot(out.holders, tag.Ended)
	out.passed.sure = roaring.AndNot(out.passed.sure, tag.Ended)
	if exact {
		out.passed.perhaps = out.passed.sure
	}
	return out
}

// tagNames are the names under which a tag may be held, the one it has first.
func (t *test) tagNames() []storage.Name { return append([]storage.Name{t.id}, t.former...) }

// event answers for events: whoever was judged before and has not changed since is
// known; of the others nobody who never had them passes a test that does not hold
// without any. What is not known of a person makes no comparison true either.
func (r *setRun) event(p *setPart) bounds {
	b := r.unknown()
	for _, i := range p.indexes {
		if x := r.view.Index(i); x != nil {
			b.perhaps = roaring.And(b.perhaps, x.Has)
		}
	}
	known := r.view.Verdict(p.verdict - 1)
	if known == nil {
		return b
	}
	b.perhaps = roaring.AndNot(b.perhaps, known.Known)
	if b.sure = known.Held; b.perhaps.IsEmpty() {
		return bounds{b.sure, b.sure}
	}
	b.perhaps.Or(known.Held)
	return b
}

// numbers answers for numbers, dates and times, of who is asked about: of one person
// in 64 or more over a bit for everybody, else set by set.
func (r *setRun) numbers(t *test, x *storage.IndexView, of *roaring.Bitmap) bounds {
	ranges, exact := t.ranges(r.now)
	if of.GetCardinality() >= r.wordsFrom {
		return r.numbersByWords(x, of, ranges, exact)
	}
	sure, perhaps := roaring.New(), roaring.New()
	for _, n := range ranges {
		s, p := x.Between(of, n.outer.lo, n.outer.hi)
		if n.inner != n.outer {
			s, _ = x.Between(p, n.inner.lo, n.inner.hi)
		}
		if exact {
			sure.Or(s)
		}
		perhaps.Or(p)
	}
	if sure.GetCardinality() == perhaps.GetCardinality() {
		return bounds{sure, sure}
	}
	return bounds{sure, perhaps}
}

func (r *setRun) numbersByWords(
	x *storage.IndexView, of *roaring.Bitmap, ranges []rankRange, exact bool,
) bounds {
	r.words.Reset(r.view.Words())
	from, sure, perhaps := r.words.Take(), r.words.Take(), r.words.Take()
	outer, inner := r.words.Take(), r.words.Take()
	x.NumbersOf(r.words, of, from)
	clear(sure)
	clear(perhaps)
	for _, n := range ranges {
		copy(outer, from)
		x.BetweenWords(r.words, outer, inner, n.outer.lo, n.outer.hi)
		perhaps.Or(outer)
		if n.inner != n.outer {
			x.BetweenWords(r.words, outer, inner, n.inner.lo, n.inner.hi)
		}
		if exact {
			sure.Or(inner)
		}
	}
	out := bounds{sure: sure.Bitmap()}
	if out.perhaps = out.sure; !slices.Equal(sure, perhaps) {
		out.perhaps = perhaps.Bitmap()
	}
	for _, w := range [...]storage.Words{from, sure, perhaps, outer, inner} {
		r.words.Give(w)
	}
	return out
}

// rank is a range of ranks, both ends belonging to it; none when lo > hi.
type rank struct{ lo, hi int64 }

// rankRange says which values pass a test: all of inner, nobody outside of
// outer.
type rankRange struct{ inner, outer rank }

func sharp(lo, hi int64) rankRange { return rankRange{rank{lo, hi}, rank{lo, hi}} }

// ranges returns the values that pass at now, whatever the zone of the person.
// exact false: also a value of an inner range passes only perhaps.
func (t *test) ranges(now storage.UnixMsec) (all []rankRange, exact bool) {
	valid := t.validRange()
	exact = true
	switch t.kind {
	case testKnown:
		all = []rankRange{sharp(math.MinInt64, math.MaxInt64)}
	case testInt:
		all = []rankRange{sharp(t.lo, t.hi)}
	case testFloat:
		all = []rankRange{sharp(openRank(t.flo), openRank(t.fhi))}
	case testInts:
		all, exact = listRanges(t.ints, func(n int64) int64 { return n })
	case testFloats:
		all, exact = listRanges(t.floats, storage.FloatRank)
	case testLast:
		all = []rankRange{sharp(int64(now)-t.hi+1, int64(now))}
	case testNext:
		all = []rankRange{sharp(int64(now), int64(now)+t.hi-1)}
	case testLocal:
		all = []rankRange{localRange(rank{t.lo, t.hi}, rank{t.lo, t.hi})}
	case testLocals:
		all, exact = []rankRange{localRange(rank{1, 0}, rank{t.ints[0], t.ints[len(t.ints)-1]})}, false
	case testDays, testMonths:
		inner, outer := t.days(FloorDiv(int64(now), dayMs))
		all = []rankRange{{inner, outer}}
		if t.typ == definition.TypeTime {
			all[0] = localRange(inner, outer)
		}
	default:
		all, exact = []rankRange{sharp(math.MinInt64, math.MaxInt64)}, false
	}
	for i := range all {
		all[i].inner, all[i].outer = all[i].inner.within(valid), all[i].outer.within(valid)
	}
	return all, exact
}

// openRank is the rank of a bound; an infinite one is open.
func openRank(f float64) int64 {
	switch {
	case math.IsInf(f, -1):
		return math.MinInt64
	case math.IsInf(f, 1):
		return math.MaxInt64
	}
	return storage.FloatRank(f)
}

// validRange is the range of what is a value of the type.
func (t *test) validRange() rank {
	switch t.typ {
	case definition.TypeDate:
		return rank{dayMin, dayMax}
	case definition.TypeTime:
		return rank{dayMin * dayMs, (dayMax+1)*dayMs - 1}
	}
	return rank{math.MinInt64, math.MaxInt64}
}

func (r rank) within(valid rank) rank { return rank{max(r.lo, valid.lo), min(r.hi, valid.hi)} }

// listRanges returns one range a value, or one for a long list.
func listRanges[T any](values []T, rankOf func(T) int64) (all []rankRange, exact bool) {
	if len(values) > mostRanges {
		return []rankRange{sharp(rankOf(values[0]), rankOf(values[len(values)-1]))}, false
	}
	for _, v := range values {
		n := rankOf(v)
		all = append(all, sharp(n, n))
	}
	return all, true
}

// localRange turns ranges of local dates into times: a day begins up to
// farthestZone before or after that of UTC.
func localRange(inner, outer rank) rankRange {
	return rankRange{
		inner: rank{startOf(inner.lo, farthestZone), endOf(inner.hi, -farthestZone)},
		outer: rank{startOf(outer.lo, -farthestZone), endOf(outer.hi, farthestZone)},
	}
}

// startOf is when a day begins, so much later; an end that is open stays open.
func startOf(day, later int64) int64 {
	if day < dayMin {
		return math.MinInt64
	}
	return min(day, dayMax+2)*dayMs + later
}

// endOf is the last millisecond of a day, so much later.
func endOf(day, later int64) int64 {
	if day > dayMax {
		return math.MaxInt64
	}
	return (max(day, dayMin-2)+1)*dayMs - 1 + later
}

// days returns the dates for which testDays and testMonths hold, wherever on
// earth it is asked: the date there is that of UTC, or one day off.
func (t *test) days(utc int64) (inner, outer rank) {
	early, late := utc-1, utc+1
	if t.kind == testDays { // today + lo ≤ day ≤ today + hi
		return rank{late + t.lo, early + t.hi}, rank{early + t.lo, late + t.hi}
	}
	// t.lo whole months are over, t.hi are not.
	return rank{lastOver(late, t.hi) + 1, lastOver(early, t.lo)},
		rank{lastOver(early, t.hi) + 1, lastOver(late, t.lo)}
}

// lastOver returns the latest date of which so many months are over today.
func lastOver(today, months int64) int64 {
	day := addMonths(today, -months) + 4
	for addMonths(day, months) > today {
		day--
	}
	return day
}
