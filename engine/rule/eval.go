package rule

import (
	"encoding/binary"
	"math"
	"slices"

	"tact/engine/definition"
	"tact/engine/experiment"
	"tact/storage"
)

// seconds rounds an instant down to what a row can hold.
func seconds(at storage.UnixMsec) storage.UnixSec {
	s := FloorDiv(int64(at), 1000)
	return storage.UnixSec(max(0, min(s, math.MaxUint32)))
}

// evaluation is one look at a person.
type evaluation struct {
	who    *Who
	clock  clock // its zone is nil until something needs the calendar
	flip   storage.UnixMsec
	atoms  []Atom  // of the page
	recent *recent // the tail, when it was read for several atoms
	byDay  bool    // a window was answered by calendar day
	// verdicts gets what conditions whose outcomes are kept came to; nil: nobody keeps.
	verdicts *[]Verdict
}

func (e *evaluation) set(bits *[PageWords]uint64, i uint16, holds bool) {
	if holds {
		bits[i/64] |= 1 << (i % 64)
		return
	}
	bits[i/64] &^= 1 << (i % 64)
}

// judge says whether a test on a person holds now, and lowers flip to when that
// changes.
func (e *evaluation) judge(t *test) bool {
	profile := &e.who.Profile
	switch t.kind {
	case testTag, testTagValues:
		return e.tag(t)
	case testSegment:
		return profile.Segment(t.id)
	case testPercent:
		if len(e.who.ID) == 0 {
			return false
		}
		bucket := int64(experiment.Bucket(t.seed, e.who.ID))
		return t.lo <= bucket && bucket < t.hi
	case testConsent, testWithdrawn:
		granted, known, _ := profile.Consent(t.id, t.channel)
		return known && granted == (t.kind == testConsent)
	case testBlacklisted:
		return profile.Blacklisted(t.channel)
	case testReachable:
		return profile.HasAddress(t.channel)
	case testDerived:
		return e.derived(t.tree)
	case testEvent:
		return e.event(t)
	case testHour:
		return e.hour(t)
	case testFixed:
		return e.moving(t.inner, t.fixed)
	}
	value, ok := profile.Attr(t.id)
	if !ok {
		return false
	}
	if t.dynamic() {
		return e.moving(t, value)
	}
	return t.static(value)
}

// tag looks for a tag under its name, then under those it had before.
func (e *evaluation) tag(t *test) bool {
	profile := &e.who.Profile
	value, ok, expires := profile.Tag(t.id)
	held := ok && e.held(t, value, expires)
	for i := 0; i < len(t.former) && !held; i++ {
		value, ok, expires = profile.Tag(t.former[i])
		held = ok && e.held(t, value, expires)
	}
	return held && t.tagged(value)
}

// held says whether the person holds a tag it has now, and lowers flip to its
// end.
func (e *evaluation) held(t *test, value storage.Name, expires storage.UnixSec) bool {
	if t.enum && value == 0 {
		return false
	}
	if expires != 0 {
		end := storage.UnixMsec(expires) * 1000
		if e.clock.now >= end {
			return false
		}
		e.flip = min(e.flip, end)
	}
	return true
}

// tagged judges the value of a tag that is held.
func (t *test) tagged(value storage.Name) bool {
	if t.kind == testTag {
		return true
	}
	_, found := slices.BinarySearch(t.ints, int64(value))
	return found
}

// timed says that the answer can change with time alone, or with an event.
func (t *test) timed() bool {
	switch t.kind {
	case testTag, testTagValues, testEvent, testHour, testFixed:
		return true
	case testDerived:
		return t.tree.timed
	}
	return t.dynamic() && !t.zonal()
}

// behavioural says that the test needs what the person did.
func (t *test) behavioural() bool {
	return t.kind == testEvent || t.kind == testDerived && t.tree.events
}

// local says that the test needs the person's calendar.
func (t *test) local() bool {
	switch t.kind {
	case testDerived:
		return t.tree.calendar
	case testHour, testFixed:
		return true
	case testEvent:
		return t.inner != nil && t.inner.dynamic() || t.behaviour.local()
	}
	return t.dynamic()
}

// dynamic says that the test needs the clock or the zone.
func (t *test) dynamic() bool { return t.kind >= testLocal && t.kind <= testYearly }

// zonal says that the test needs the zone and not the clock.
func (t *test) zonal() bool { return t.kind == testLocal || t.kind == testLocals }

// number reads a bool, int, date or time. Dates and times outside the years 1
// to 9999 are no values.
func (t *test) number(v storage.Value) (n int64, ok bool) {
	if v.Kind != storage.ValueKind(t.typ) {
		return 0, false
	}
	n = int64(v.Num)
	switch t.typ {
	case definition.TypeBool:
		return n, n == 0 || n == 1
	case definition.TypeInt:
		return n, true
	case definition.TypeDate:
		return n, dayMin <= n && n <= dayMax
	case definition.TypeTime:
		return n, dayMin*dayMs <= n && n < (dayMax+1)*dayMs
	}
	return 0, false
}

// float reads a float; a whole number is one too, what is not a number is none.
func (t *test) float(v storage.Value) (f float64, ok bool) {
	switch v.Kind {
	case storage.KindFloat:
		f = math.Float64frombits(v.Num)
		return f, f == f
	case storage.KindInt:
		return float64(int64(v.Num)), true
	}
	return 0, false
}

// static judges a value by itself.
func (t *test) static(v storage.Value) bool {
	switch t.kind {
	case testKnown:
		return t.known(v)
	case testInt:
		n, ok := t.number(v)
		return ok && t.lo <= n && n <= t.hi
	case testInts:
		n, ok := t.number(v)
		if !ok {
			return false
		}
		_, found := slices.BinarySearch(t.ints, n)
		return found
	case testFloat:
		f, ok := t.float(v)
		return ok && t.flo <= f && f <= t.fhi
	case testFloats:
		f, ok := t.float(v)
		if !ok {
			return false
		}
		_, found := slices.BinarySearch(t.floats, f)
		return found
	case testVersion, testVersions:
		return t.version(v)
	case testElement:
		return v.Kind == storage.KindList && t.element(v.Bytes)
	}
	return v.Kind == storage.KindString && t.string(v.Bytes)
}

// known says whether v is a value of the declared type.
func (t *test) known(v storage.Value) bool {
	switch t.typ {
	case definition.TypeFloat:
		_, ok := t.float(v)
		return ok
	case definition.TypeString:
		return v.Kind == storage.KindString
	case definition.TypeList:
		return v.Kind == storage.KindList
	case definition.TypeSemver:
		_, ok := parseVersion(v.Bytes)
		return ok && v.Kind == storage.KindSemver
	}
	_, ok := t.number(v)
	return ok
}

func (t *test) string(text []byte) bool {
	switch t.kind {
	case testText:
		if t.fold {
			return foldCompare(text, t.text) == 0
		}
		return string(text) == t.text
	case testTexts:
		return t.oneOf(text)
	case testPrefix:
		if t.fold {
			_, whole := foldPrefix(text, t.text)
			return whole
		}
		return len(text) >= len(t.text) && string(text[:len(t.text)]) == t.text
	case testSuffix:
		if t.fold {
			return foldSuffix(text, t.text)
		}
		return len(text) >= len(t.text) && string(text[len(text)-len(t.text):]) == t.text
	case testSubstring:
		if t.fold {
			return foldContains(text, t.text)
		}
		return contains(text, t.text)
	case testPattern:
		return len(text) <= MaxMatched && t.pattern.Match(text)
	}
	return false
}

// contains is bytes.Contains with a string, which would be copied.
func contains(text []byte, part string) bool {
	for len(text) >= len(part) {
		if string(text[:len(part)]) == part {
			return true
		}
		text = text[1:]
	}
	return false
}

func (t *test) oneOf(text []byte) bool {
	if t.fold {
		_, found := slices.BinarySearchFunc(t.folded, text, func(folded string, text []byte) int {
			return -foldCompare(text, folded)
		})
		return found
	}
	_, found := t.texts[string(text)]
	return found
}

// element walks a packed list: (uvarint length, bytes) per element. Broken
// bytes end it.
func (t *test) element(packed []byte) bool {
	for len(packed) > 0 {
		size, n := binary.Uvarint(packed)
		if n <= 0 || size > uint64(len(packed)-n) {
			return false
		}
		if t.oneOf(packed[n : n+int(size)]) {
			return true
		}
		packed = packed[n+int(size):]
	}
	return false
}

func (t *test) version(v storage.Value) bool {
	got, ok := parseVersion(v.Bytes)
	if !ok || v.Kind != storage.KindSemver {
		return false
	}
	if t.kind == testVersions {
		_, found := slices.BinarySearchFunc(t.versions, got, version.compare)
		return found
	}
	if t.bounded[0] {
		c := got.compare(t.versions[0])
		if c < 0 || c == 0 && t.openLo {
			return false
		}
	}
	if t.bounded[1] {
		c := got.compare(t.versions[1])
		return c < 0 || c == 0 && !t.openHi
	}
	return true
}

// moving judges a date or time against the clock and the zone.
func (e *evaluation) moving(t *test, v storage.Value) bool {
	n, ok := t.number(v)
	if !ok {
		return false
	}
	switch t.kind {
	case testLast, testNext:
		return e.within(t, n)
	}
	day := n
	if t.typ == definition.TypeTime {
		day = e.clock.local(n)
	}
	switch t.kind {
	case testLocal:
		return t.lo <= day && day <= t.hi
	case testLocals:
		_, found := slices.BinarySearch(t.ints, day)
		return found
	case testDays: // today in [day-hi, day-lo]
		e.clock.flips(&e.flip, day-t.hi)
		e.clock.flips(&e.flip, day-t.lo+1)
		return day-t.hi <= e.clock.today && e.clock.today <= day-t.lo
	case testMonths:
		start, end := addMonths(day, t.lo), addMonths(day, t.hi)
		e.clock.flips(&e.flip, start)
		e.clock.flips(&e.flip, end)
		return start <= e.clock.today && e.clock.today < end
	case testYearly:
		return e.clock.anniversary(day, t.lo, t.hi, &e.flip)
	}
	return false
}

// within judges a time against a span before or after now: it holds while now
// is in [from, until).
func (e *evaluation) within(t *test, at int64) bool {
	from, until := storage.UnixMsec(at), storage.UnixMsec(at+t.hi)
	if t.kind == testNext {
		from, until = storage.UnixMsec(at-t.hi+1), storage.UnixMsec(at+1)
	}
	switch now := e.clock.now; {
	case now < from:
		e.flip = min(e.flip, from)
	case now < until:
		e.flip = min(e.flip, until)
		return true
	}
	return false
}
