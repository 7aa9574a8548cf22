package decide

import (
	"time"

	"tact/engine/definition"
	"tact/engine/rule"
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
	case c.Window.Until > 0:
		since = before(clampSec(c.Window.From), 1)
	case c.Window.Rolling > 0:
		since = before(now, c.Window.Rolling)
	case c.Window.Unit != definition.UnitNone:
		since = now
		for _, zone := range r.capZones(c) {
			start, _ := rule.CalendarWindow(&c.Window, int64(now), zone)
			since = min(since, before(clampSec(start), 1))
		}
	}
	w.since[cap] = since
	w.sinceSet.add(cap)
	return since
}

// windowEnd returns the end of the window of a cap that holds at: in several
// zones the latest. Never for lifetime.
func (r *run) windowEnd(c *Cap, at storage.UnixSec) storage.UnixSec {
	return capWindowEnd(c, at, r.capZones(c))
}

func capWindowEnd(c *Cap, at storage.UnixSec, zones []*time.Location) storage.UnixSec {
	switch {
	case c.Window.Until > 0:
		return clampSec(c.Window.Until)
	case c.Window.Unit == definition.UnitNone:
		return Never
	}
	var end storage.UnixSec
	for _, zone := range zones {
		_, until := rule.CalendarWindow(&c.Window, int64(at), zone)
		end = max(end, clampSec(until))
	}
	return end
}

// firstEnd is the first moment after at at which a window of the cap ends in one of
// several zones. Up to it all uses since the last such moment lie in the same windows,
// so that one count of them, dated just before it, is exact in every zone.
func firstEnd(c *Cap, at storage.UnixSec, zones []*time.Location) storage.UnixSec {
	end := Never
	for i := range zones {
		end = min(end, capWindowEnd(c, at, zones[i:i+1]))
	}
	return end
}

// over tells whether a cap's window of two times has ended: it binds no more.
func (c *Cap) over(now storage.UnixSec) bool {
	return c.Window.Until > 0 && int64(now) >= c.Window.Until
}

// early tells whether a total's window of two times has not begun at a moment: what
// happens then is not counted. People's counters keep the times of uses instead. A
// moment of 0 is any.
func (c *Cap) early(at storage.UnixSec) bool {
	return c.Scope == definition.ScopeTotal && at != 0 && int64(at) < c.Window.From
}

// ends is a moment at which a cap lets go, or the end of its window of two times,
// whichever comes first.
func (c *Cap) ends(until storage.UnixSec) storage.UnixSec {
	if c.Window.Until > 0 {
		return min(until, clampSec(c.Window.Until))
	}
	return until
}

// capZones returns the zones a cap's calendar is read in.
func (r *run) capZones(c *Cap) []*time.Location {
	if c.Window.Zone == "user" && c.Scope != definition.ScopeTotal {
		return r.zones()
	}
	r.zone[0] = r.p.calendarZone(c)
	return r.zone[:]
}

// zonesOf returns the zones a cap's calendar is read in for a person of a zone,
// nil = unknown. one is their memory where there is one.
func (p *Plan) zonesOf(c *Cap, zone *time.Location, one *[1]*time.Location) []*time.Location {
	w := &p.Workspace
	switch {
	case c.Window.Zone != "user":
		one[0] = p.calendarZone(c)
	case zone != nil:
		one[0] = zone
	case w.Protect && len(w.Zones) > 0:
		return w.Zones
	default:
		one[0] = w.Zone
	}
	return one[:]
}

// calendarZone is the one zone of a cap that does not follow the person: UTC,
// or the workspace's. A total has no person to follow.
func (p *Plan) calendarZone(c *Cap) *time.Location {
	if c.Window.Zone == "UTC" {
		return time.UTC
	}
	return p.Workspace.Zone
}

func clampSec(at int64) storage.UnixSec {
	return storage.UnixSec(min(max(at, 0), int64(Never)))
}
