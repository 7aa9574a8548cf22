package main

import (
	"fmt"
	"time"
)

// shape is a cap and what it says in plain words: whether one more use may be
// granted, given the uses that its counter has had.
type shape struct {
	name   string
	cap    string // the document, without kind and id
	key    func(r *impression) string
	clicks bool // it counts clicks
	full   func(uses []int64, now int64) bool
}

func ofPerson(r *impression) string { return r.person }
func ofItem(r *impression) string   { return r.person + " " + r.item }
func ofPlace(r *impression) string  { return r.person + " " + r.position }
func ofAll(r *impression) string    { return "" }
func ofStock(r *impression) string  { return r.item }

// secUp and secDown round ms to seconds: a use up, the present down.
func secUp(ms int64) int64   { return (ms + 999) / 1000 }
func secDown(ms int64) int64 { return ms / 1000 }

// rolling counts the uses of (now − window, now], each until the last second of its
// cell has left.
func rolling(window, cell int64, limit int) func([]int64, int64) bool {
	return func(uses []int64, now int64) bool {
		n := 0
		for _, at := range uses {
			last := secUp(at)/cell*cell + cell - 1
			if last > secDown(now)-window {
				n++
			}
		}
		return n >= limit
	}
}

// calendar counts the uses of this day (or of other parts of the local date) in a
// zone.
func calendar(zone *time.Location, layout string, limit int) func([]int64, int64) bool {
	return func(uses []int64, now int64) bool {
		n, today := 0, time.UnixMilli(now).In(zone).Format(layout)
		for _, at := range uses {
			if time.UnixMilli(secUp(at)*1000).In(zone).Format(layout) == today {
				n++
			}
		}
		return n >= limit
	}
}

func lifetime(limit int) func([]int64, int64) bool {
	return func(uses []int64, _ int64) bool { return len(uses) >= limit }
}

// gap asks for some seconds since the latest use.
func gap(seconds int64) func([]int64, int64) bool {
	return func(uses []int64, now int64) bool {
		return len(uses) > 0 && secUp(uses[len(uses)-1])+seconds > secDown(now)
	}
}

func either(a, b func([]int64, int64) bool) func([]int64, int64) bool {
	return func(uses []int64, now int64) bool { return a(uses, now) || b(uses, now) }
}

// shapes are the caps that are replayed, each alone.
func shapes() []shape {
	const hour, day, week = 3600, 86400, 7 * 86400
	tokyo := time.FixedZone("JST", 9*hour)
	doc := func(scope, per, on, window string, limit int, more string) string {
		return fmt.Sprintf("scope: %s\nper: %s\ncount_on: %s\nwindow: %s\nlimit: %d\n%s",
			scope, per, on, window, limit, more)
	}
	return []shape{
		{
			"2 a person, item and hour", doc("person", "offer", "impression", "{rolling: 1h}", 2, ""),
			ofItem, false, rolling(hour, 1, 2),
		},
		{
			"1 a person, item and week", doc("person", "offer", "impression", "{rolling: 7d}", 1, ""),
			ofItem, false, rolling(week, 1, 1),
		},
		{
			"9 a person and local day",
			doc("person", "all", "impression", "{calendar: day, zone: user}", 9, ""),
			ofPerson, false, calendar(tokyo, "2006-01-02", 9),
		},
		{
			"3 a place and hour of UTC",
			doc("person", "placement", "impression", "{calendar: hour, zone: UTC}", 3, ""),
			ofPlace, false, calendar(time.UTC, "2006-01-02 15", 3),
		},
		{
			"10 a day, 20m apart",
			doc("person", "all", "[impression, send]", "{rolling: 1d}", 10, "min_gap: 20m\n"),
			ofPerson, false, either(rolling(day, 1, 10), gap(20*60)),
		},
		{
			"100 a person and 3 days", doc("person", "all", "impression", "{rolling: 3d}", 100, ""),
			ofPerson, false, rolling(3*day, 3*hour, 100),
		},
		{
			"80 decisions a day of Tokyo",
			doc("person", "all", "decision", "{calendar: day, zone: workspace}", 80, ""),
			ofPerson, false, calendar(tokyo, "2006-01-02", 80),
		},
		{
			"1 click a person and day", doc("person", "all", "click", "{rolling: 1d}", 1, ""),
			ofPerson, true, rolling(day, 1, 1),
		},
		{
			"stock: 150 an item", doc("total", "offer", "decision", "lifetime", 150, ""),
			ofStock, false, lifetime(150),
		},
		{
			"40 an hour for everybody", doc("total", "all", "decision", "{rolling: 1h}", 40, ""),
			ofAll, false, rolling(hour, 150, 40),
		},
	}
}
