package rule

import (
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// clockUnit is what a condition on the person's clock counts.
type clockUnit uint8

const (
	clockHourOfWeek clockUnit = iota + 1 // 0..167 from Monday 00:00
	clockHourOfDay                       // 0..23
	clockDayOfWeek                       // 1 Monday .. 7 Sunday
)

const (
	weekHours = 7 * 24
	hourMs    = dayMs / 24
)

// clockWord returns the unit that a context key stands for when no placement
// declares it: these are told by the clock, in the person's zone.
func clockWord(key string) clockUnit {
	switch key {
	case "hour_of_week":
		return clockHourOfWeek
	case "hour_of_day":
		return clockHourOfDay
	case "day_of_week":
		return clockDayOfWeek
	}
	return 0
}

func clockWords() []string { return []string{"hour_of_week", "hour_of_day", "day_of_week"} }

// of returns the number of an hour of the week.
func (u clockUnit) of(hour int) int64 {
	switch u {
	case clockHourOfDay:
		return int64(hour % 24)
	case clockDayOfWeek:
		return int64(hour/24 + 1)
	}
	return int64(hour)
}

// clock reads comparisons of the person's clock.
func (p *parser) clock(at place, name string, unit clockUnit) *node {
	return p.comparisons(at, "context", leaf{
		subject: subjectClock, name: name, typ: definition.TypeInt, clock: unit,
	}, nil)
}

// compileClock turns a comparison into the hours of the week for which it holds.
func (t *test) compileClock(l *leaf) {
	var inner test
	inner.typ = definition.TypeInt
	inner.compileValue(l)
	t.kind, t.typ = testHour, 0
	for h := range weekHours {
		if l.op == opIsSet || inner.static(storage.Value{
			Kind: storage.KindInt, Num: uint64(l.clock.of(h)),
		}) {
			t.hours[h/64] |= 1 << (h % 64)
		}
	}
}

// hour judges the hour of the week on the person's clock, and lowers flip to the
// next hour for which the answer is another, or to the zone's turn before it.
func (e *evaluation) hour(t *test) bool {
	const epoch = 3 * 24 // hours from Monday to 1 January 1970, a Thursday
	local := FloorDiv(int64(e.clock.now)+e.clock.offset, hourMs)
	in := func(hour int64) bool {
		h := (hour + epoch) % weekHours
		if h < 0 {
			h += weekHours
		}
		return t.hours[h/64]>>(h%64)&1 == 1
	}
	now := in(local)
	for next := local + 1; next < local+weekHours; next++ {
		if in(next) != now {
			at := storage.UnixMsec(next*hourMs - e.clock.offset)
			e.flip = min(e.flip, at, e.clock.turn)
			break
		}
	}
	return now
}

// naiveClock reads the clock on the wall.
func (l *leaf) naiveClock(w *Who) bool {
	zone := w.Zone
	if zone == nil {
		zone = time.UTC
	}
	at := time.UnixMilli(int64(w.Now)).In(zone)
	day := (int64(at.Weekday()) + 6) % 7
	n := map[clockUnit]int64{
		clockHourOfWeek: day*24 + int64(at.Hour()), clockHourOfDay: int64(at.Hour()),
		clockDayOfWeek: day + 1,
	}[l.clock]
	return l.op == opIsSet ||
		l.naiveOrder(func(o operand) int { return order(n < o.num, n > o.num) })
}
