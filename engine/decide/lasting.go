package decide

import (
	"slices"

	"tact/engine/rule"
	"tact/storage"
)

// indexDates gathers the moments at which something of the catalogue begins or ends:
// offers and holdouts.
func (p *Plan) indexDates() {
	add := func(ms int64) {
		if ms != 0 {
			p.dates = append(p.dates, ms)
		}
	}
	for i := range p.Offers {
		add(p.Offers[i].StartMs)
		add(p.Offers[i].EndMs)
	}
	for i := range p.Holdouts {
		add(p.Holdouts[i].Draw.StartMs)
		add(p.Holdouts[i].Draw.EndMs)
	}
	slices.Sort(p.dates)
	p.dates = slices.Compact(p.dates)
}

// Lasts says how long time alone leaves the picks of out as they are: Pick gives the
// same at every moment from at on and before the one returned, to the same request,
// person and overlay, as long as Moment.Instant knows of the same incidents and has the
// same Floor. 0: nothing is said. out is what Pick made of them at that moment.
//
// Nothing is said of a request with Explain, of a slot whose reason says until when it
// holds, of picks that hold or use a counter, and where a cap refused anybody or an open
// reservation was given again: those move with every second. Where caps were asked and
// let all pass they let them pass later too, since without a new use no window ever
// fills up.
// What quiet hours said holds until the minute ends.
//
// Cost: a binary search over the dates of the catalogue.
func (p *Plan) Lasts(req *Request, who *Person, at *Moment, out *Result) storage.UnixMsec {
	if out.work.moving || req.Explain || len(out.Keys) > 0 || len(out.Capped) > 0 {
		return 0
	}
	for i := range out.Slots {
		if out.Slots[i].Until != 0 {
			return 0
		}
	}
	until := storage.UnixMsec(Never) * 1000
	if i, found := slices.BinarySearch(p.dates, int64(at.Ms)); found && i+1 < len(p.dates) {
		until = min(until, storage.UnixMsec(p.dates[i+1]))
	} else if !found && i < len(p.dates) {
		until = min(until, storage.UnixMsec(p.dates[i]))
	}
	if out.work.clocked {
		r := run{p: p, who: who}
		until = min(until, r.minuteEnds(rule.FloorDiv(int64(at.Ms), 1000)))
	}
	return until
}

// minuteEnds is when the minute ends on the first of the clocks that quiet hours are
// judged by; 0 where one of them is set in it.
func (r *run) minuteEnds(sec int64) storage.UnixMsec {
	end := (rule.FloorDiv(sec, 60) + 1) * 60
	for _, zone := range r.zones() {
		wall := rule.Wall(sec, zone)
		end = min(end, sec+(rule.FloorDiv(wall, 60)+1)*60-wall)
	}
	for _, zone := range r.zones() {
		if rule.Wall(end-1, zone)-rule.Wall(sec, zone) != end-1-sec {
			return 0
		}
	}
	return storage.UnixMsec(end) * 1000
}
