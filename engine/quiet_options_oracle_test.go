package engine

import (
	"slices"
	"time"
)

// The oracle of TestQuietOptions: what docs/policy.md says of quiet hours and
// calendars, read minute by minute from the wall. It shares no code with the engine.

// quietSet is the workspace's own quiet hours, whose id is "", or a document.
type quietSet struct {
	id         string
	groups     []string // of offers; nil = all
	channels   []string
	placements []string
	classes    []string // nil = marketing
	segment    string
	windows    []quietWindow // nil = whole days
	on, except []string
	drop       bool
}

// quietWindow is [from, until) in minutes of the day; days nil = all.
type quietWindow struct {
	from, until int
	days        []time.Weekday
}

// quietDays are the days [from, until) of a calendar under an id, counted from 1970.
type quietDays struct {
	calendar, id string
	from, until  int64
}

// quietPerson is who is asked for: the zone "" is not known.
type quietPerson struct {
	id, zone string
	age      int
	stored   bool
}

type quietOffer struct{ id, group, class string }

// quietOffers in order of their rank.
func quietOffers() []quietOffer {
	return []quietOffer{
		{"a", "g/h", "marketing"},
		{"b", "g", "marketing"},
		{"t", "g/h", "transactional"},
		{"m", "g/h", "mandatory"},
	}
}

type quietOracle struct {
	zone    string
	zones   []string
	protect bool
	sets    []*quietSet
	days    []quietDays
	places  map[string]*time.Location
}

// quietSight is how far the oracle looks for an open minute.
const quietSight = 16 * 86400

func (o *quietOracle) place(name string) *time.Location {
	zone := o.places[name]
	if zone == nil {
		var err error
		if zone, err = time.LoadLocation(name); err != nil {
			panic(err)
		}
		o.places[name] = zone
	}
	return zone
}

// clocks are the zones that may be a person's.
func (o *quietOracle) clocks(p *quietPerson) []string {
	switch {
	case p.stored && p.zone != "":
		return []string{p.zone}
	case o.protect:
		return o.zones
	}
	return []string{o.zone}
}

// binds tells whether a set is for an offer at a placement and a person.
func (s *quietSet) binds(of quietOffer, channel, placement string, p *quietPerson) bool {
	in := func(list []string, x string) bool { return list == nil || slices.Contains(list, x) }
	class := of.class == "marketing"
	if s.classes != nil {
		class = slices.Contains(s.classes, of.class) || s.id == "" && class
	}
	group := s.groups == nil || slices.ContainsFunc(s.groups, func(g string) bool {
		return of.group == g || len(of.group) > len(g) && of.group[:len(g)+1] == g+"/"
	})
	return class && of.class != "mandatory" && group && in(s.channels, channel) &&
		in(s.placements, placement) && (s.segment == "" || p.stored && p.age >= 60)
}

// named tells whether calendars, or ids of them, name a day.
func (o *quietOracle) named(list []string, day int64) bool {
	for _, d := range o.days {
		if d.from <= day && day < d.until &&
			(slices.Contains(list, d.calendar) || slices.Contains(list, d.calendar+"/"+d.id)) {
			return true
		}
	}
	return false
}

// inForce reads one wall.
func (o *quietOracle) inForce(s *quietSet, at int64, zone string) bool {
	wall := time.Unix(at, 0).In(o.place(zone))
	minute := wall.Hour()*60 + wall.Minute()
	midnight := time.Date(wall.Year(), wall.Month(), wall.Day(), 0, 0, 0, 0, time.UTC)
	begins := func(w *quietWindow, ago int) bool {
		date := midnight.AddDate(0, 0, -ago)
		day := date.Unix() / 86400
		return (w.days == nil || slices.Contains(w.days, date.Weekday())) &&
			(s.on == nil || o.named(s.on, day)) && !o.named(s.except, day)
	}
	windows := s.windows
	if windows == nil {
		windows = []quietWindow{{until: 1440}}
	}
	return slices.ContainsFunc(windows, func(w quietWindow) bool {
		if w.from < w.until {
			return w.from <= minute && minute < w.until && begins(&w, 0)
		}
		return minute >= w.from && begins(&w, 0) || minute < w.until && begins(&w, 1)
	})
}

// refuses tells whether one of some sets is in force in a zone that may be the
// person's, and whether one of those drops.
func (o *quietOracle) refuses(sets []*quietSet, at int64, p *quietPerson) (quiet, drop bool) {
	for _, s := range sets {
		for _, zone := range o.clocks(p) {
			if o.inForce(s, at, zone) {
				quiet, drop = true, drop || s.drop
				break
			}
		}
	}
	return quiet, drop
}

// judge tells whether an offer is refused at a moment, and until when it is held;
// 0 = it is dropped, or no open minute is in sight.
func (o *quietOracle) judge(
	of quietOffer, channel, placement string, p *quietPerson, at int64,
) (refused bool, until int64) {
	var sets []*quietSet
	for _, s := range o.sets {
		if s.binds(of, channel, placement, p) {
			sets = append(sets, s)
		}
	}
	refused, drop := o.refuses(sets, at, p)
	if !refused || drop {
		return refused, 0
	}
	end := at + quietSight
	for until = at - at%60 + 60; until < end; until += 60 {
		if quiet, _ := o.refuses(sets, until, p); !quiet {
			return true, until
		}
	}
	return true, 0
}
