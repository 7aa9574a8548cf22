package decide

import (
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// zones returns the zones in which the person is judged: the person's own;
// without one the workspace's zones under `protect`, else its only zone.
func (r *run) zones() []*time.Location {
	w := &r.p.Workspace
	switch {
	case r.who.Zone != nil:
		r.zone[0] = r.who.Zone
		return r.zone[:]
	case w.Protect && len(w.Zones) > 0:
		return w.Zones
	}
	r.zone[0] = w.Zone
	return r.zone[:]
}

// since returns the instant after which a use lies in the cap's window now,
// once per Pick. In several zones the earliest counts: the longest window
// refuses wherever one of them does.
func (r *run) since(cap int32) storage.UnixSec {
	w := &r.out.work
	if w.sinceSet.has(cap) {
		return w.since[cap]
	}
	c, now := &r.p.Caps[cap], r.at.Instant.Now
	var since storage.UnixSec
	switch {
	case c.Window.Rolling > 0:
		since = before(now, c.Window.Rolling)
	case c.Window.Unit != definition.UnitNone:
		since = now
		for _, zone := range r.capZones(c) {
			start, _ := calendarWindow(&c.Window, int64(now), zone)
			since = min(since, before(clampSec(start), 1))
		}
	}
	w.since[cap] = since
	w.sinceSet.add(cap)
	return since
}

// windowEnd returns the end of the calendar window of a cap that holds at: in
// several zones the latest. Never for lifetime.
func (r *run) windowEnd(c *Cap, at storage.UnixSec) storage.UnixSec {
	var end storage.UnixSec
	for _, zone := range r.capZones(c) {
		_, until := calendarWindow(&c.Window, int64(at), zone)
		end = max(end, clampSec(until))
	}
	return end
}

// capZones returns the zones a cap's calendar is read in.
func (r *run) capZones(c *Cap) []*time.Location {
	if c.Window.Zone == "user" && c.Scope == definition.ScopePerson {
		return r.zones()
	}
	r.zone[0] = r.p.calendarZone(c)
	return r.zone[:]
}

// calendarZone is the one zone of a cap that does not follow the person: UTC,
// or the workspace's. A total has no person to follow.
func (p *Plan) calendarZone(c *Cap) *time.Location {
	if c.Window.Zone == "UTC" {
		return time.UTC
	}
	return p.Workspace.Zone
}

// totalWindow is the number of the calendar window of a total at a time: units
// since 1970 in the cap's zone, divided by `every`.
func (p *Plan) totalWindow(c *Cap, at storage.UnixMsec) uint32 {
	if c.Window.Unit == definition.UnitNone {
		return 0
	}
	sec := floorDiv(int64(at), 1000)
	local := wall(sec, p.calendarZone(c))
	return uint32(floorDiv(unitIndex(&c.Window, local), max(int64(c.Window.Every), 1)))
}

// calendarWindow returns the calendar window [start, end) that holds an
// instant, in unix seconds. Windows of `every: N` units are counted from 1970:
// from the epoch's hour, day, month, quarter or year, and from the week of
// 1 January 1970 that begins on the week start. All are judged on the wall
// clock of the zone, so days at a change of daylight saving have 23 or 25 hours.
func calendarWindow(w *definition.Window, at int64, zone *time.Location) (start, end int64) {
	every := max(int64(w.Every), 1)
	index := floorDiv(unitIndex(w, wall(at, zone)), every) * every
	return instant(unitStart(w, index), zone), instant(unitStart(w, index+every), zone)
}

// wall is what the clock on the wall shows, as if it were UTC, in seconds.
func wall(at int64, zone *time.Location) int64 {
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
	case wall(first, zone) == w && wall(second, zone) == w:
		return min(first, second)
	case wall(first, zone) == w:
		return first
	case wall(second, zone) == w:
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
	days := floorDiv(wall, daySeconds)
	switch w.Unit {
	case definition.UnitHour:
		return floorDiv(wall, hourSeconds)
	case definition.UnitDay:
		return days
	case definition.UnitWeek:
		return floorDiv(days-weekShift(w), 7)
	}
	t := time.Unix(wall, 0).UTC()
	months := int64(t.Year()-1970)*12 + int64(t.Month()-time.January)
	return floorDiv(months, monthsOf(w.Unit))
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
	year, month := floorDiv(months, 12), months-floorDiv(months, 12)*12
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

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func clampSec(at int64) storage.UnixSec {
	return storage.UnixSec(min(max(at, 0), int64(Never)))
}

// quietNow judges quiet hours once per Pick: QuietHoursNow, TimezoneUnknown
// when a person without a zone is refused by one of the zones that may be
// theirs, or ReasonNone.
func (r *run) quietNow() Reason {
	if r.quietSet {
		return r.quiet
	}
	r.quietSet, r.quiet = true, ReasonNone
	refused := QuietHoursNow
	if r.who.Zone == nil && r.p.Workspace.Protect {
		refused = TimezoneUnknown
	}
	sec := floorDiv(int64(r.at.Ms), 1000)
	for _, zone := range r.zones() {
		minute := int(floorDiv(wall(sec, zone), 60) % (24 * 60))
		for _, span := range r.p.Workspace.Quiet.Windows {
			if inSpan(span, minute) {
				r.quiet = refused
			}
		}
	}
	return r.quiet
}

// inSpan tells whether a minute of the day lies in [From, Until), which may
// cross midnight. An empty span holds nothing.
func inSpan(s definition.MinuteSpan, minute int) bool {
	if s.From <= s.Until {
		return minute >= s.From && minute < s.Until
	}
	return minute >= s.From || minute < s.Until
}
