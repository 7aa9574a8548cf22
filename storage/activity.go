package storage

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Limits of the activity of one person.
const (
	// ActivityDays is how long the days of an event are kept at least. They are
	// longer where few of them have events: at most activityCells are kept.
	ActivityDays  = 400
	activityCells = 440
	// ActivityKeys is the number of different events, or outcomes of different
	// offers, that are kept of one person.
	ActivityKeys = 512
	// ActivityProps is the number of numeric properties kept of one event.
	ActivityProps = 16
	// activityMax bounds the bytes of the part; where more is needed the oldest
	// days of the event that grew are left out first.
	activityMax = 128 << 10

	activityTime  = 1 << 50 // bound of a time, in ms either side of 1970
	activityDay   = activityTime/dayMsec + 2
	activityCount = 1 << 53
)

// Activity is a view of what a person ever did, summed up: for each event, and
// for each outcome of an offer, its lifetime and its days. A day is the
// calendar day of the zone that the effects were counted in. It is valid until
// the group is unlocked or the next Append of this person. The zero Activity is
// of a person without events.
//
// While all events lie in the tail nothing is kept: whoever asks is shown what they come
// to, which is summed up in memory of the group's then (activity_whole.go). Else it is:
//
//	from i64 | keys u16                              little-endian
//	keys × size uvarint, entry                       rising event, item, outcome
//	entry = event uvarint | item uvarint | flags u8 | first varint | last-first uvarint |
//	        count uvarint | floor uvarint? | properties u8 | id uvarint each | sums each |
//	        days uvarint | days × (day varint, then the gap from the day in front uvarint |
//	                               count uvarint | sums of each property)     newest first
//	        or: day less the day in UTC of last varint
//	flags = 1 outcome · 2 no floor, it is 0 · 4 there is one day, and its count and sums are
//	        those of the life; the last two from row format 3 on
//	floor = days after the first day that can be, so that 0 = every day
//	sums  = n uvarint | n = 1: number · n > 1: sum, least and greatest number
//	number = a whole number below 2^52: zig-zag × 2, uvarint · a whole number of
//	         hundredths below 2^50: (zig-zag of them + 1) × 2 + 1, uvarint, from row
//	         format 2 on · else 1, float64 8 bytes
type Activity struct {
	b    []byte
	tail Tail           // whose events are not summed up, where sums is not nil
	sums *wholeActivity // sums them up when somebody asks
	made uint64         // differs from view to view of one sums
}

const (
	activityHeader = 10

	activityOutcome = 1 // flags of an entry
	activityEvery   = 2
	activityOneDay  = 4
	activityFlags   = activityOutcome | activityEvery | activityOneDay
	activityAhead   = 2 // days, which shiftMax is less than
)

// From returns the time from which on the activity is complete: every event
// with Occurred ≥ From is in it. 0 = every event there ever was.
func (a Activity) From() UnixMsec {
	if len(a.b) == 0 {
		return 0
	}
	return UnixMsec(le64(a.b))
}

// Empty says that the person never did anything.
func (a Activity) Empty() bool { return len(a.b) == 0 && a.sums == nil }

// Cursor begins a walk over the entries, in rising order of event and item. It is valid
// as long as the activity, and until another cursor is made in the group.
// Cost: what the tail has is summed up, some 0.2 µs an event that counts, unless the
// cursor before was of the same.
func (a Activity) Cursor() ActivityCursor { return a.CursorOf(0) }

// CursorOf begins a walk over the entries of one event, whatever their item; 0 = all.
func (a Activity) CursorOf(event Name) ActivityCursor {
	b := a.b
	if a.sums != nil {
		b = a.sums.of(&a, event)
	}
	if len(b) == 0 {
		return ActivityCursor{}
	}
	return ActivityCursor{b: b[activityHeader:], only: event}
}

// An ActivityCursor walks over the entries of an Activity. Cost: linear in the
// bytes in front of what is looked at; no allocation.
type ActivityCursor struct {
	ActivityEntry
	b    []byte
	only Name // not 0: entries of this event
}

// ActivityEntry is one event, or one outcome of one offer, of a person.
type ActivityEntry struct {
	Event   Name // DictEvent
	Item    Name // the offer of an outcome; 0 = none
	Outcome bool
	First   UnixMsec // of the whole life
	Last    UnixMsec
	Count   uint64
	Floor   int32 // days from it on are complete

	ids    []byte // property ids
	totals []byte // of the whole life
	days   []byte
	nProps int
	nDays  int
	day    int32 // the only one, of which nothing lies in days
	oneDay bool
}

// Next goes to the next entry; false at the end.
func (c *ActivityCursor) Next() bool {
	for len(c.b) > 0 {
		size, n := binary.Uvarint(c.b)
		if n <= 0 || size > uint64(len(c.b)-n) {
			c.b = nil
			return false
		}
		body := c.b[n : n+int(size)]
		c.b = c.b[n+int(size):]
		if c.only != 0 {
			switch event, _ := binary.Uvarint(body); {
			case event < uint64(c.only):
				continue
			case event > uint64(c.only):
				c.b = nil
				return false
			}
		}
		var ok bool
		c.ActivityEntry, ok = parseActivityEntry(body)
		return ok
	}
	return false
}

// parseActivityEntry reads the head of an entry and finds where its parts are.
func parseActivityEntry(b []byte) (e ActivityEntry, ok bool) {
	r := reader{b: b}
	e.Event, e.Item = r.name(), r.name()
	flags := r.byte()
	e.Outcome = flags&activityOutcome != 0
	first := r.varint()
	length := r.uvarint()
	e.First, e.Last = UnixMsec(first), UnixMsec(first+int64(min(length, 2*activityTime)))
	e.Count = r.uvarint()
	floor := int64(-activityDay)
	if flags&activityEvery == 0 {
		floor += int64(min(r.uvarint(), 3*activityDay))
	}
	e.Floor = int32(floor)
	e.nProps = int(r.byte())
	from := r.b
	for range e.nProps {
		r.name()
	}
	e.ids = from[:len(from)-len(r.b)]
	from = r.b
	for range e.nProps {
		r.sums()
	}
	e.totals = from[:len(from)-len(r.b)]
	var days uint64
	if e.oneDay = flags&activityOneDay != 0; e.oneDay {
		ahead := r.varint()
		r.bad = r.bad || ahead < -activityAhead || ahead > activityAhead
		e.nDays, e.day = 1, clipDay(e.Last, 0)+int32(ahead)
	} else {
		days = r.uvarint()
		e.nDays = int(min(days, math.MaxInt32))
	}
	e.days = r.b
	ok = !r.bad && flags&^activityFlags == 0 && e.nProps <= ActivityProps && e.Count > 0 &&
		e.Count <= activityCount && first >= -activityTime && e.Last <= activityTime &&
		floor <= activityDay && days <= uint64(len(r.b))
	return e, ok
}

// Sums is what the events of a day or of a life said of one numeric property:
// how many carried it, their sum, least and greatest value. A bool is 0 or 1.
// The sum is added up in the order of law 1 of
// activity_whole.go, which a sum of floats may show in its last bits.
type Sums struct {
	N             uint64
	Sum, Min, Max float64
}

func (s *Sums) add(v float64) {
	if s.N == 0 {
		*s = Sums{1, v, v, v}
		return
	}
	s.N = min(s.N+1, activityCount)
	s.Sum += v
	s.Min, s.Max = min(s.Min, v), max(s.Max, v)
}

// Join adds the events of another span to s.
func (s *Sums) Join(o Sums) {
	switch {
	case o.N == 0:
	case s.N == 0:
		*s = o
	default:
		s.N, s.Sum = min(s.N+o.N, activityCount), s.Sum+o.Sum
		s.Min, s.Max = min(s.Min, o.Min), max(s.Max, o.Max)
	}
}

// Sums returns the lifetime sums of a property; ok is false when they are not
// kept, because the event has more than ActivityProps.
func (e *ActivityEntry) Sums(property Name) (s Sums, ok bool) {
	at := e.prop(property)
	if at < 0 {
		return s, e.nProps < ActivityProps
	}
	r := reader{b: e.totals}
	for range at + 1 {
		s = r.sums()
	}
	return s, true
}

// prop returns the position of a property; -1: no event carried it.
func (e *ActivityEntry) prop(property Name) int {
	r := reader{b: e.ids}
	for i := range e.nProps {
		if r.name() == property {
			return i
		}
	}
	return -1
}

// Days begins a walk over the days of the entry, newest first, with the sums of
// one property; 0 = none.
func (e *ActivityEntry) Days(property Name) DayCursor {
	c := DayCursor{b: e.days, left: e.nDays, props: e.nProps, prop: -1}
	if e.oneDay {
		c.b, c.oneDay, c.Day, c.Count = e.totals, true, e.day, e.Count
	}
	if property != 0 {
		c.prop = e.prop(property)
	}
	return c
}

// A DayCursor walks over days. Only days on which something happened are there.
type DayCursor struct {
	Day   int32 // days since 1970-01-01
	Count uint64
	Sums  Sums

	b           []byte
	left        int
	props, prop int
	started     bool
	oneDay      bool // Day and Count are set
}

// Next goes to the next day; false at the end.
func (c *DayCursor) Next() bool {
	if c.left == 0 {
		return false
	}
	c.left--
	r := reader{b: c.b}
	switch {
	case c.oneDay:
	case c.started:
		c.Day -= int32(r.uvarint())
	default:
		c.Day = int32(r.varint())
	}
	c.started = true
	if !c.oneDay {
		c.Count = r.uvarint()
	}
	c.Sums = Sums{}
	for i := range c.props {
		s := r.sums()
		if i == c.prop {
			c.Sums = s
		}
	}
	c.b = r.b
	return !r.bad
}

// sums takes what appendSums wrote.
func (r *reader) sums() (s Sums) {
	s.N = r.uvarint()
	switch s.N {
	case 0:
	case 1:
		v := r.number()
		s.Sum, s.Min, s.Max = v, v, v
	default:
		s.Sum, s.Min, s.Max = r.number(), r.number(), r.number()
	}
	return s
}

func appendSums(dst []byte, s Sums) []byte {
	dst = binary.AppendUvarint(dst, s.N)
	switch s.N {
	case 0:
		return dst
	case 1:
		return appendNumber(dst, s.Sum)
	}
	return appendNumber(appendNumber(appendNumber(dst, s.Sum), s.Min), s.Max)
}

// number takes what appendNumber wrote.
func (r *reader) number() float64 {
	u := r.uvarint()
	if u == 1 {
		v := math.Float64frombits(r.u64())
		r.bad = r.bad || math.IsNaN(v)
		return v
	}
	if u&1 == 1 {
		n, ok := unzig(u>>1-1), u>>1-1 < 1<<51
		r.bad = r.bad || !ok
		return float64(n) / 100
	}
	return float64(unzig(u >> 1))
}

// hundredths returns v in hundredths when it is a whole number of them below 2^50 and
// the nearest float64 of it, as amounts of money are that were written with two decimals.
func hundredths(v float64) (n int64, ok bool) {
	const most = 1 << 50
	r := math.Round(v * 100)
	if !(r > -most && r < most) || r/100 != v || r == 0 {
		return 0, false
	}
	return int64(r), true
}

func appendNumber(dst []byte, v float64) []byte {
	const whole = 1 << 52
	if v == math.Trunc(v) && v > -whole && v < whole {
		return binary.AppendUvarint(dst, zig(int64(v))<<1)
	}
	if n, ok := hundredths(v); ok {
		return binary.AppendUvarint(dst, (zig(n)+1)<<1|1)
	}
	return binary.LittleEndian.AppendUint64(append(dst, 1), math.Float64bits(v))
}

// zig brings the sign of a number to its lowest bit; unzig takes it back.
func zig(n int64) uint64 { return uint64(n)<<1 ^ uint64(n>>63) }

// varint takes a zig-zag number.
func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// checkActivity reports whether b is an activity part, so that a walk over it
// never reads outside it.
func checkActivity(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if len(b) < activityHeader || len(b) > activityMax ||
		UnixMsec(le64(b)) < -activityTime || UnixMsec(le64(b)) > activityTime+1 {
		return fmt.Errorf("activity: header: %w", ErrCorrupt)
	}
	c := Activity{b: b}.Cursor()
	var last activityKey
	for i := range le16(b[8:]) {
		if !c.Next() {
			return fmt.Errorf("activity: entry %d: %w", i, ErrCorrupt)
		}
		key := c.key()
		if i > 0 && !last.less(key) {
			return fmt.Errorf("activity: order of entry %d: %w", i, ErrCorrupt)
		}
		last = key
		if err := c.ActivityEntry.check(); err != nil {
			return fmt.Errorf("activity: entry %d: %w", i, err)
		}
	}
	if len(c.b) != 0 || le16(b[8:]) > ActivityKeys {
		return fmt.Errorf("activity: %d bytes behind the last entry: %w", len(c.b), ErrCorrupt)
	}
	return nil
}

func (e *ActivityEntry) check() error {
	r := reader{b: e.totals}
	for range e.nProps {
		if s := r.sums(); s.N > e.Count {
			return fmt.Errorf("sums: %w", ErrCorrupt)
		}
	}
	r = reader{b: e.days}
	if e.oneDay {
		if len(e.days) != 0 || e.day < e.Floor || e.day > activityDay {
			return fmt.Errorf("the day: %w", ErrCorrupt)
		}
		return nil
	}
	var day int64
	for i := range e.nDays {
		if i == 0 {
			day = r.varint()
		} else if gap := r.uvarint(); gap == 0 || gap > 2*activityDay {
			return fmt.Errorf("order of days: %w", ErrCorrupt)
		} else {
			day -= int64(gap)
		}
		count := r.uvarint()
		if count == 0 || count > e.Count || day < int64(e.Floor) || day > activityDay {
			return fmt.Errorf("day: %w", ErrCorrupt)
		}
		for range e.nProps {
			if s := r.sums(); s.N > count {
				return fmt.Errorf("sums of a day: %w", ErrCorrupt)
			}
		}
	}
	if r.bad || len(r.b) != 0 {
		return fmt.Errorf("length: %w", ErrCorrupt)
	}
	return nil
}

// activityKey is what an entry is about, in the order of the entries.
type activityKey struct {
	event, item Name
	outcome     bool
}

func (e *ActivityEntry) key() activityKey { return activityKey{e.Event, e.Item, e.Outcome} }

func (k activityKey) less(o activityKey) bool {
	switch {
	case k.event != o.event:
		return k.event < o.event
	case k.item != o.item:
		return k.item < o.item
	}
	return !k.outcome && o.outcome
}
