package rule

import (
	"time"

	"tact/storage"
)

const (
	dayMs  = 24 * 60 * 60 * 1000
	dayMin = -719162 // 0001-01-01, in days since 1970-01-01
	dayMax = 2932896 // 9999-12-31
	// never is later than every time a person's row can hold.
	never = storage.UnixMsec(1) << 62
)

// clock is one instant seen from one zone. Local time runs evenly, offset ahead
// of UTC, until turn.
type clock struct {
	now    storage.UnixMsec
	zone   *time.Location
	offset int64            // ms east of UTC at now
	turn   storage.UnixMsec // the zone's next change of offset, or never
	today  int64            // local date, in days since 1970-01-01
}

func newClock(now storage.UnixMsec, zone *time.Location) clock {
	if zone == nil {
		zone = time.UTC
	}
	at := time.UnixMilli(int64(now)).In(zone)
	_, offset := at.Zone()
	c := clock{now: now, zone: zone, offset: int64(offset) * 1000, turn: never}
	if _, end := at.ZoneBounds(); !end.IsZero() {
		c.turn = storage.UnixMsec(end.UnixMilli())
	}
	c.today = FloorDiv(int64(now)+c.offset, dayMs)
	return c
}

// local returns the local date of an instant.
func (c *clock) local(ms int64) int64 {
	_, offset := time.UnixMilli(ms).In(c.zone).Zone()
	return FloorDiv(ms+int64(offset)*1000, dayMs)
}

// flips lowers flip to the instant at which the local date becomes day, when
// that is still to come, and to the zone's next turn: a turn can move the local
// date both ways, and what comes after it is computed after it.
func (c *clock) flips(flip *storage.UnixMsec, day int64) {
	at := c.turn
	if day > c.today {
		at = min(at, storage.UnixMsec(day*dayMs-c.offset))
	}
	*flip = min(*flip, at)
}

// FloorDiv is a / b rounded down; b > 0.
func FloorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// civil returns the date of a day number in the proleptic Gregorian calendar.
//
// Source: H. Hinnant, chrono-Compatible Low-Level Date Algorithms (2013).
// Cost: O(1), no allocation.
func civil(day int64) (year, month, dom int64) {
	day += 719468
	era := FloorDiv(day, 146097)
	doe := day - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	dom = doy - (153*mp+2)/5 + 1
	month, year = mp+3, yoe+era*400
	if month > 12 {
		month, year = month-12, year+1
	}
	return year, month, dom
}

// dayOf is the inverse of civil; month may be any number, dom 1..31.
func dayOf(year, month, dom int64) int64 {
	years := FloorDiv(month-1, 12)
	year, month = year+years, month-12*years
	if month <= 2 {
		year, month = year-1, month+12
	}
	era := FloorDiv(year, 400)
	yoe := year - era*400
	doy := (153*(month-3)+2)/5 + dom - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 719468
}

// addMonths returns the same day n months later, or the last day of that month
// when it is shorter: 29 February counts on the 28th in other years.
func addMonths(day, n int64) int64 {
	year, month, dom := civil(day)
	first := dayOf(year, month+n, 1)
	length := dayOf(year, month+n+1, 1) - first
	return first + min(dom, length) - 1
}

// anniversary tells whether today lies in [a-before, a+after] for a yearly
// return a of day, one year after it or later, and lowers flip to when that
// changes.
func (c *clock) anniversary(day, before, after int64, flip *storage.UnixMsec) bool {
	year, _, _ := civil(day)
	thisYear, _, _ := civil(c.today)
	first := max(1, thisYear-year-1)
	holds := false
	for k := first; k < first+3; k++ {
		at := addMonths(day, 12*k)
		if at-before <= c.today && c.today <= at+after {
			holds = true
		}
		c.flips(flip, at-before)
		c.flips(flip, at+after+1)
	}
	return holds
}
