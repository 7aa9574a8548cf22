package decide

import (
	"sort"
	"time"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// pace spreads the units of a total cap over its window.
type pace struct {
	by definition.Pacing
	// The window of a lifetime, in unix seconds: the dates of its offers.
	start, end int64
	hours      DayShares
	learns     bool // hours: learned
}

// Traffic is the weight of each hour of a day.
type Traffic [24]float64

// DayShares are the shares of a day's traffic before each hour of it; [24] = 1.
type DayShares [25]float64

// Shares adds the weights up. At least one is above 0.
func (t *Traffic) Shares() (s DayShares) {
	total := 0.0
	for h, w := range t {
		total += w
		s[h+1] = total
	}
	for h := range s {
		s[h] /= total
	}
	return s
}

// Learns tells whether the pacing of a cap takes the traffic of the last days, and
// on the clock of which zone.
func (p *Plan) Learns(cap int32) (zone *time.Location, ok bool) {
	c := &p.Caps[cap]
	return p.calendarZone(c), c.pace != nil && c.pace.learns
}

// newPace compiles the pacing of a cap; nil: as fast as possible.
func newPace(d *definition.Cap) *pace {
	if d.Pacing == definition.PacingASAP || d.Scope != definition.ScopeTotal || d.Limit <= 0 {
		return nil
	}
	p := &pace{by: d.Pacing, learns: d.Learns}
	var t Traffic
	for h := range t {
		t[h] = 1
	}
	if d.Traffic != nil {
		t = Traffic(d.Traffic)
	}
	p.hours = t.Shares()
	return p
}

// passed is the traffic, in days, from the first second of 1970 to a time of
// the wall clock.
func (shares *DayShares) passed(wall int64) float64 {
	day := rule.FloorDiv(wall, daySeconds)
	second := wall - day*daySeconds
	h := second / 3600
	part := float64(second%3600) / 3600
	return float64(day) + shares[h] + part*(shares[h+1]-shares[h])
}

// paceWindow is what the units are spread over: the calendar window that holds a
// time, or the dates of the offers.
func (p *Plan) paceWindow(c *Cap, sec int64, zone *time.Location) (start, end int64) {
	if c.Window.Unit == definition.UnitNone {
		return c.pace.start, c.pace.end
	}
	return rule.CalendarWindow(&c.Window, sec, zone)
}

// paceDates gives a lifetime its window: from the first start to the last end
// of the offers that the cap binds, which all have both.
func (c *compiler) paceDates(out *Cap) {
	if out.pace == nil || out.Window.Unit != definition.UnitNone {
		return
	}
	for i := range c.plan.Offers {
		o := &c.plan.Offers[i]
		switch {
		case !out.offers.has(int32(i)):
			continue
		case o.StartMs == 0 || o.EndMs == 0:
			c.fault(&out.Def.Meta, "pacing", "offer %s has no start or no end: pacing over a lifetime "+
				"spreads units over the dates of the offers", o.ID)
			return
		case out.pace.start == 0 || o.StartMs/1000 < out.pace.start:
			out.pace.start = o.StartMs / 1000
		}
		out.pace.end = max(out.pace.end, o.EndMs/1000)
	}
}

// Paced tells whether the pacing of a total cap limits what decisions offer.
func (p *Plan) Paced(cap int32) bool { return p.Caps[cap].pace != nil }

// PacedUnits returns how many units of a total cap the plan gives by a time: limit
// × share, where share is the share of the window's traffic that has passed (even),
// or 1 − (1 − share)² of it (front_loaded). Without pacing it is the limit. A
// decision may give a use while what was given before it is at most that, so the
// first use of a window is not held back, and what was given never lies further
// above the plan than one use.
//
// The traffic is that of the hours of the day that the cap declares, or that
// learned gives when it is not nil. Where a
// clock is set back, the hour that comes twice gives its units once.
func (p *Plan) PacedUnits(cap int32, at storage.UnixMsec, learned *DayShares) int64 {
	c := &p.Caps[cap]
	limit := int64(c.Limit)
	if c.pace == nil {
		return limit
	}
	sec := rule.FloorDiv(int64(at), 1000)
	zone := p.calendarZone(c)
	shares := &c.pace.hours
	if learned != nil {
		shares = learned
	}
	start, end := p.paceWindow(c, sec, zone)
	from := shares.passed(rule.Wall(start, zone))
	// The end's wall time is read a second before it: it may fall on a change.
	whole := shares.passed(rule.Wall(end-1, zone)+1) - from
	if whole <= 0 {
		return limit // a window without traffic: nothing to spread
	}
	share := min(max((shares.passed(rule.Wall(sec, zone))-from)/whole, 0), 1)
	if c.pace.by == definition.PacingFrontLoaded {
		share = 1 - (1-share)*(1-share)
	}
	return min(limit, int64(float64(limit)*share))
}

// PacedUntil returns the first second after a time at which decisions may give
// more units of a total cap than used; the end of the window when the cap gives
// no more in this one.
func (p *Plan) PacedUntil(
	cap int32, used int64, at storage.UnixMsec, learned *DayShares,
) storage.UnixSec {
	c := &p.Caps[cap]
	sec := rule.FloorDiv(int64(at), 1000)
	_, end := p.paceWindow(c, sec, p.calendarZone(c))
	n := sort.Search(int(max(end-sec, 0)), func(i int) bool {
		return i > 0 && p.PacedUnits(cap, storage.UnixMsec((sec+int64(i))*1000), learned) >= used
	})
	return clampSec(sec + int64(n))
}
