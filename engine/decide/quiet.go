package decide

import (
	"math"
	"math/bits"
	"sort"
	"time"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// Quiet is one set of quiet hours: the workspace's own, or a document of kind
// quiet_hours. Selectors are sets over the plan's indices.
type Quiet struct {
	ID   string // "" is the workspace's own
	Hold bool   // when_hit: hold; else drop

	offers     bitset
	placements bitset // nil = all
	channels   uint16 // bit per channel
	classes    uint8  // bit per message class

	everybody bool
	segment   rule.Cond // the people it binds, unless everybody
	known     rule.Cond // what a safety rule of the segment wants known
	hasKnown  bool

	windows []definition.MinuteSpan // never empty
	on      daySet
	hasOn   bool // only on the days of on
	except  daySet
}

// MaxQuiet is the largest number of sets of quiet hours of a plan: one bit each
// in a candidate.
const MaxQuiet = 64

const (
	dayMinutes = 24 * 60
	daySeconds = 24 * 3600
	// farDays is how long quiet hours may last without a break before they are
	// said to last for ever: ten years.
	farDays = 3660
	// quietSteps bounds the windows that are walked over to the next open moment.
	// Of what never ends a decision walks over all of them.
	quietSteps = 1024
	// quietWalls is how many zones keep their span of the wall meanwhile.
	quietWalls = 4
)

// daySet is a set of local days, counted from 1970-01-01: disjoint ranges
// [from, until) in rising order.
type daySet []dayRange

type dayRange struct{ from, until int32 }

// has tells whether a day is in the set. Cost: a binary search.
func (s daySet) has(day int64) bool {
	i := sort.Search(len(s), func(i int) bool { return int64(s[i].until) > day })
	return i < len(s) && int64(s[i].from) <= day
}

// inForce tells whether a window that begins on a local day counts.
func (q *Quiet) inForce(day int64) bool {
	return (!q.hasOn || q.on.has(day)) && !q.except.has(day)
}

// covers tells whether a window holds a moment of the wall clock (seconds since
// 1970 as if it were UTC), and gives the wall time at which it ends.
func (q *Quiet) covers(s *definition.MinuteSpan, wall int64) (end int64, ok bool) {
	day := rule.FloorDiv(wall, daySeconds)
	minute := int(rule.FloorDiv(wall, 60) - day*dayMinutes)
	begins := func(day int64) bool {
		const thursday = 4 // 1 January 1970
		weekday := (day%7 + 7 + thursday) % 7
		return (s.Days == 0 || s.Days&(1<<weekday) != 0) && q.inForce(day)
	}
	switch {
	case s.From <= s.Until:
		if minute < s.From || minute >= s.Until || !begins(day) {
			return 0, false
		}
		last := day
		if s.From == 0 && s.Until == dayMinutes { // whole days run on
			for last-day < farDays && begins(last+1) {
				last++
			}
		}
		return last*daySeconds + int64(s.Until)*60, true
	case minute >= s.From && begins(day):
		return (day+1)*daySeconds + int64(s.Until)*60, true
	case minute < s.Until && begins(day-1):
		return day*daySeconds + int64(s.Until)*60, true
	}
	return 0, false
}

// A wallSpan is a stretch of time in which the clock of a zone is not set.
type wallSpan struct {
	offset int64 // what the wall is ahead of UTC, in seconds
	until  int64 // where the clock is set next; math.MaxInt64 when it is not
}

func wallAt(at int64, zone *time.Location) wallSpan {
	t := time.Unix(at, 0).In(zone)
	_, offset := t.Zone()
	_, change := t.ZoneBounds()
	if change.IsZero() {
		return wallSpan{int64(offset), math.MaxInt64}
	}
	return wallSpan{int64(offset), change.Unix()}
}

// end returns 0 when a moment is not quiet in a zone, on whose wall it lies; else a
// later moment, up to which it is quiet without a break. A clock that is set forward
// or back inside a window is followed: quiet is what the wall shows.
func (q *Quiet) end(at int64, zone *time.Location, wall wallSpan) int64 {
	latest := int64(0)
	for i := range q.windows {
		if until := windowEnd(q, &q.windows[i], at, zone, wall); until > latest {
			latest = until
		}
	}
	return latest
}

func windowEnd(
	q *Quiet, s *definition.MinuteSpan, at int64, zone *time.Location, wall wallSpan,
) int64 {
	for first := true; ; first = false {
		end, ok := q.covers(s, at+wall.offset)
		switch {
		case !ok && first:
			return 0
		case !ok:
			return at
		}
		end -= wall.offset
		if end <= wall.until {
			return end
		}
		at = wall.until
		wall = wallAt(at, zone)
	}
}

// quietNow tells whether a moment is quiet in a zone.
func (q *Quiet) quietNow(at int64, zone *time.Location) bool {
	local := rule.Wall(at, zone)
	for i := range q.windows {
		if _, ok := q.covers(&q.windows[i], local); ok {
			return true
		}
	}
	return false
}

// bindsPerson tells whether the person is one of those the quiet hours are for.
// A segment whose rule wants its values known (safety) also binds the people of
// whom they are not: the doubt is for the person.
func (r *run) bindsPerson(q *Quiet) bool {
	return q.everybody || q.segment.Holds(r.row) ||
		q.hasKnown && !q.known.Holds(r.row)
}

// quiet judges the quiet hours of a candidate, each set once per Pick:
// QuietHoursNow, TimezoneUnknown when a person without a zone is refused by one
// of the zones that may be theirs, or ReasonNone.
func (r *run) quiet(mask uint64) Reason {
	for open := mask &^ r.quietSet; open != 0; open &= open - 1 {
		i := bits.TrailingZeros64(open)
		r.quietSet |= 1 << i
		r.out.work.clocked = true
		q := &r.p.Quiet[i]
		if !r.bindsPerson(q) {
			continue
		}
		r.quietBinds |= 1 << i
		sec := rule.FloorDiv(int64(r.at.Ms), 1000)
		for _, zone := range r.zones() {
			if q.quietNow(sec, zone) {
				r.quietNow |= 1 << i
				break
			}
		}
	}
	switch {
	case mask&r.quietNow == 0:
		return ReasonNone
	case r.who.Zone == nil && r.p.Workspace.Protect:
		return TimezoneUnknown
	}
	return QuietHoursNow
}

// quietBy names the quiet hours that refuse a candidate, the first of them: a
// message that one of them drops is dropped.
func (r *run) quietBy(mask uint64) (by int32, hold bool) {
	by, hold = -1, true
	for now := mask & r.quietNow; now != 0; now &= now - 1 {
		i := bits.TrailingZeros64(now)
		if q := &r.p.Quiet[i]; by < 0 || hold && !q.Hold {
			by, hold = int32(i), q.Hold
		}
	}
	return by, hold
}

// quietUntil returns the first moment at or after now at which none of the
// quiet hours of a candidate binds the person, in any zone that may be theirs;
// Never when there is none in sight. quiet must have judged the mask.
func (r *run) quietUntil(mask uint64) storage.UnixSec {
	mask &= r.quietBinds
	if mask != 0 && mask == r.quietMask {
		return r.quietOpen
	}
	r.quietMask, r.quietOpen = mask, Never
	at := rule.FloorDiv(int64(r.at.Ms), 1000)
	var walls [quietWalls]wallSpan
	for step := range quietSteps {
		next := int64(0)
		for i, zone := range r.zones() {
			wall := &walls[min(i, quietWalls-1)]
			if step == 0 || i >= quietWalls-1 || at >= wall.until {
				*wall = wallAt(at, zone)
			}
			for left := mask; left != 0; left &= left - 1 {
				q := &r.p.Quiet[bits.TrailingZeros64(left)]
				next = max(next, q.end(at, zone, *wall))
			}
		}
		if next == 0 {
			r.quietOpen = clampSec(at)
			break
		}
		if at = next; at >= int64(Never) {
			break
		}
	}
	return r.quietOpen
}
