package rule

import (
	"time"

	"tact/engine/definition"
)

// CalendarWindow returns the calendar window [start, end) that holds an
// instant, in unix seconds. Windows of `every: N` units are counted from 1970:
// from the epoch's hour, day, month, quarter or year, and from the week of
// 1 January 1970 that begins on the week start. All are judged on the wall
// clock of the zone, so days at a change of daylight saving have 23 or 25 hours.
func CalendarWindow(w *definition.Window, at int64, zone *time.Location) (start, end int64) {
	every := max(int64(w.Every), 1)
	index := FloorDiv(unitIndex(w, Wall(at, zone)), every) * every
	return instant(unitStart(w, index), zone), instant(unitStart(w, index+every), zone)
}

// CalendarIndex is the number of the calendar window that holds an instant:
// units since 1970 in the zone, divided by `every`.
func CalendarIndex(w *definition.Window, at int64, zone *time.Location) int64 {
	return FloorDiv(unitIndex(w, Wall(at, zone)), max(int64(w.Every), 1))
}

// Wall is what the clock on the wall shows, as if it were UTC, in seconds.
func Wall(at int64, zone *time.Location) int64 {
	_, offset := time.Unix(at, 0).In(zone).Zone()
	return at + int64(offset)
}

// instant is the earliest instant at which the wall shows w. When the clock
// jumps over w it is the instant of the jump.
func instant(w int64, zone *time.Location) int64 {
	t := time.Unix(w, 0).UTC()
	y, mo, d := t.Date()
	h, mi, s := t.Clock()
	guess := time.Date(y, mo, d, h, mi, s, 0, zone).Unix()
	// The offsets in force half a day either way: the wall's w is at one of them.
	const half = 12 * 3600
	_, early := time.Unix(guess-half, 0).In(zone).Zone()
	_, late := time.Unix(guess+half, 0).In(zone).Zone()
	first, second := w-int64(early), w-int64(late)
	switch {
	case Wall(first, zone) == w && Wall(second, zone) == w:
		return min(first, second)
	case Wall(first, zone) == w:
		return first
	case Wall(second, zone) == w:
		return second
	}
	_, jump := time.Unix(guess, 0).In(zone).ZoneBounds()
	if start, _ := time.Unix(guess, 0).In(zone).ZoneBounds(); start.Unix() > guess-half &&
		!start.IsZero() {
		jump = start
	}
	if jump.IsZero() {
		return guess
	}
	return jump.Unix()
}

const (
	hourSeconds = 3600
	daySeconds  = 86400
)

// unitIndex counts whole units from 1970 to a wall time.
func unitIndex(w *definition.Window, wall int64) int64 {
	days := FloorDiv(wall, daySeconds)
	switch w.Unit {
	case definition.UnitHour:
		return FloorDiv(wall, hourSeconds)
	case definition.UnitDay:
		return days
	case definition.UnitWeek:
		return FloorDiv(days-weekShift(w), 7)
	}
	t := time.Unix(wall, 0).UTC()
	months := int64(t.Year()-1970)*12 + int64(t.Month()-time.January)
	return FloorDiv(months, monthsOf(w.Unit))
}

// unitStart is the wall time at which the unit of an index begins.
func unitStart(w *definition.Window, index int64) int64 {
	switch w.Unit {
	case definition.UnitHour:
		return index * hourSeconds
	case definition.UnitDay:
		return index * daySeconds
	case definition.UnitWeek:
		return (index*7 + weekShift(w)) * daySeconds
	}
	months := index * monthsOf(w.Unit)
	year, month := FloorDiv(months, 12), months-FloorDiv(months, 12)*12
	return time.Date(1970+int(year), time.January+time.Month(month), 1, 0, 0, 0, 0,
		time.UTC).Unix()
}

// weekShift is the day, counted from 1 January 1970 (a Thursday), on which week
// 0 begins: −6 … 0, so that it holds that Thursday.
func weekShift(w *definition.Window) int64 {
	const thursday = 4
	return -((thursday - int64(w.WeekStart) + 7) % 7)
}

func monthsOf(u definition.Unit) int64 {
	switch u {
	case definition.UnitQuarter:
		return 3
	case definition.UnitYear:
		return 12
	}
	return 1
}
