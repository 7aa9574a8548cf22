package decide

import (
	"fmt"
	"slices"
	"time"

	"tact/engine/definition"
)

func (r *modelRun) consent(p *definition.Placement, o *definition.Offer) bool {
	granted, known := r.f.consents[fmt.Sprint(o.Purpose, " ", uint8(p.Channel))]
	personal, stated := r.f.consents[fmt.Sprint("personalisation ", uint8(p.Channel))]
	switch {
	case o.Class == definition.Mandatory:
		return true
	case o.Class == definition.Transactional:
		return !known || granted
	case slices.Contains(r.set.Workspace.ConsentRequired, p.Channel):
		return known && granted
	}
	return (!known || granted) && (!stated || personal)
}

func (r *modelRun) zoneNames() []string {
	w := &r.set.Workspace
	switch {
	case r.f.zone != "":
		return []string{r.f.zone}
	case w.ProtectZone:
		return w.Zones
	}
	return []string{w.Timezone}
}

// quiet judges the workspace's quiet hours and the documents.
func (r *modelRun) quiet(p *definition.Placement, o *definition.Offer) string {
	return r.quietAt(p, o, r.req.now)
}

func (r *modelRun) quietAt(p *definition.Placement, o *definition.Offer, now int64) string {
	w := &r.set.Workspace
	var bind []*definition.QuietRule
	if q := w.QuietHours; q != nil {
		bind = append(bind, &definition.QuietRule{
			Offers: definition.Selector{All: true}, Channels: q.Channels, Windows: q.Windows,
			Classes: append(slices.Clone(q.Classes), definition.Marketing),
		})
	}
	for _, q := range append(bind, r.set.Quiet...) {
		binds := modelSelects(q.Offers, o) && slices.Contains(q.Classes, o.Class) &&
			(len(q.Channels) == 0 || slices.Contains(q.Channels, p.Channel)) &&
			(len(q.Placements) == 0 || slices.Contains(q.Placements, p.ID)) &&
			o.Class != definition.Mandatory && r.inSegment(q.Segment, p)
		if !binds {
			continue
		}
		for _, name := range r.zoneNames() {
			zone, _ := time.LoadLocation(name)
			if r.wallQuiet(q, time.UnixMilli(now).In(zone)) {
				if r.f.zone == "" && w.ProtectZone {
					return "timezone_unknown"
				}
				return "quiet_hours"
			}
		}
	}
	return ""
}

// inSegment judges the segments of quiet hours.
func (r *modelRun) inSegment(id string, p *definition.Placement) bool {
	return id == "" || id == "tagged" && r.f.tags["t1"] || id == "here" && p.ID == "p0"
}

// wallQuiet reads the clock and the calendar on the wall.
func (r *modelRun) wallQuiet(q *definition.QuietRule, t time.Time) bool {
	clock := t.Format("15:04")
	today := time.Date(t.Year(), t.Month(), t.Day(), 12, 0, 0, 0, time.UTC)
	yesterday := today.AddDate(0, 0, -1)
	windows := q.Windows
	if len(windows) == 0 {
		windows = []definition.MinuteSpan{{Until: 1440}}
	}
	for _, s := range windows {
		from := fmt.Sprintf("%02d:%02d", s.From/60, s.From%60)
		until := fmt.Sprintf("%02d:%02d", s.Until/60, s.Until%60)
		begins := func(day time.Time) bool {
			return (s.Days == 0 || s.Days>>day.Weekday()&1 == 1) &&
				(len(q.On) == 0 || r.named(q.On, day)) && !r.named(q.Except, day)
		}
		switch {
		case from < until && from <= clock && clock < until && begins(today),
			from > until && clock >= from && begins(today),
			from > until && clock < until && begins(yesterday):
			return true
		}
	}
	return false
}

// named tells whether calendars name a day.
func (r *modelRun) named(calendars []string, day time.Time) bool {
	for _, name := range calendars {
		for _, c := range r.set.Calendars {
			for _, d := range c.Days {
				n := int32(day.Unix() / 86400)
				if (name == c.ID || name == c.ID+"/"+d.ID) && d.From <= n && n < d.Until {
					return true
				}
			}
		}
	}
	return false
}
