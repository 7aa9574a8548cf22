package rule

import "tact/storage"

// sums answers by days or by the whole life what the tail does not reach.
func (e *evaluation) sums(b *behaviour, s span) (storage.Value, state) {
	if b.fold.kind == foldNone || b.each || e.who.Activity.Empty() {
		return storage.Value{}, stateUnknown
	}
	switch b.agg {
	case aggFirst, aggLast, aggUnseen:
		if b.fold.kind != foldAll || b.of != 0 {
			return storage.Value{}, stateUnknown
		}
		return e.edges(b, s)
	case aggCount:
	default:
		if b.fold.kind != foldAll {
			return storage.Value{}, stateUnknown
		}
	}
	var t tally
	known := true
	if s.lo == sinceEver {
		known = e.life(b, s, &t)
	} else {
		known = e.days(b, s, &t)
	}
	if !known {
		return storage.Value{}, stateUnknown
	}
	return t.value(b)
}

// prop is the property whose sums a behaviour needs; 0 = none.
func (b *behaviour) prop() storage.Name {
	if b.fold.kind != foldAll {
		return b.fold.prop
	}
	return b.of
}

// life adds up whole lives, up to now. What came after now is taken away again,
// to the millisecond where the tail shows it all, else by calendar day.
func (e *evaluation) life(b *behaviour, s span, t *tally) bool {
	if e.who.Activity.From() != 0 {
		return false
	}
	last := sinceEver
	for c := b.steps[0].entries(&e.who.Activity); c.Next(); {
		if !b.steps[0].sums(&c.ActivityEntry) {
			continue
		}
		sums, ok := storage.Sums{}, true
		if p := b.prop(); p != 0 {
			sums, ok = c.Sums(p)
		}
		if !ok {
			return false
		}
		t.n += b.fold.counted(c.Count, sums)
		t.sums.Join(sums)
		last = max(last, c.Last)
	}
	switch {
	case last <= s.hi:
		return true
	case e.shows(s.hi):
		after := e.after(b, s, nil)
		return t.less(b, &after)
	}
	return e.lessDays(b, s, t)
}

// lessDays takes the calendar days after the one that holds the end away.
func (e *evaluation) lessDays(b *behaviour, s span, t *tally) bool {
	end := newClock(s.hi, e.who.Home)
	end.flips(&e.flip, end.today+1)
	e.flip = min(e.flip, e.who.Tail.Floor()-1)
	var after tally
	for c := b.steps[0].entries(&e.who.Activity); c.Next(); {
		if !b.steps[0].sums(&c.ActivityEntry) || c.Last <= s.hi {
			continue
		}
		if int64(c.Floor) > end.today+1 {
			return false
		}
		for d := c.Days(b.prop()); d.Next() && int64(d.Day) > end.today; {
			after.n += b.fold.counted(d.Count, d.Sums)
			after.sums.Join(d.Sums)
		}
	}
	known := t.less(b, &after)
	e.byDay = e.byDay || known
	return known
}

// shows says that the tail has every event after a time.
func (e *evaluation) shows(after storage.UnixMsec) bool {
	return e.who.Tail.Floor() <= after+1
}

// after adds up the events of the tail after the end of a window; of a day alone
// when there is one.
func (e *evaluation) after(b *behaviour, s span, on *clockDay) (t tally) {
	w := e.walk(&b.steps[0])
	for c := w.next(); c != nil && c.Occurred > s.hi; c = w.next() {
		if !e.picks(&b.steps[0], c) {
			continue
		}
		if c.Occurred <= s.until {
			e.flip = min(e.flip, c.Occurred)
		}
		if on == nil || on.clock.local(int64(c.Occurred)) == on.day {
			t.add(b, c)
		}
	}
	return t
}

// clockDay is a local date of a clock's zone.
type clockDay struct {
	clock *clock
	day   int64
}

// less takes events away again; false when the least or the greatest value may
// have been one of theirs.
func (t *tally) less(b *behaviour, o *tally) bool {
	t.n -= min(t.n, o.n)
	switch {
	case o.sums.N == 0:
		return true
	case o.sums.N >= t.sums.N:
		t.sums = storage.Sums{}
		return true
	case b.agg == aggMin && o.sums.Min <= t.sums.Min, b.agg == aggMax && o.sums.Max >= t.sums.Max:
		return false
	}
	t.sums.N, t.sums.Sum = t.sums.N-o.sums.N, t.sums.Sum-o.sums.Sum
	return true
}

// edges answers last, unseen and, of a whole life, first by the times of whole
// lives, to the millisecond.
func (e *evaluation) edges(b *behaviour, s span) (storage.Value, state) {
	from := e.who.Activity.From()
	t := tally{first: never, last: sinceEver}
	for c := b.steps[0].entries(&e.who.Activity); c.Next(); {
		if b.steps[0].sums(&c.ActivityEntry) {
			t.n += c.Count
			t.first, t.last = min(t.first, c.First), max(t.last, c.Last)
		}
	}
	covered := from == 0 || from <= s.lo
	if !covered && s.width > 0 {
		e.flip = min(e.flip, from+s.width-1)
	}
	if b.agg == aggFirst {
		if t.first > s.hi {
			e.flip = min(e.flip, t.first)
		}
		if s.lo != sinceEver || !covered || t.first > s.hi {
			return storage.Value{}, stateUnknown
		}
		return t.value(b)
	}
	switch {
	case t.last > s.hi: // the one before it is not known
		if t.last <= s.until {
			e.flip = min(e.flip, t.last)
		}
		return storage.Value{}, stateUnknown
	case t.last >= s.lo && (from == 0 || t.last >= from):
		if s.width > 0 {
			e.flip = min(e.flip, t.last+s.width)
		}
		return t.value(b)
	case t.last < s.lo && covered:
		return storage.Value{}, stateMissing
	}
	return storage.Value{}, stateUnknown
}

// days adds up the calendar days, in the workspace's zone, from the one that
// holds the window's begin to the one that holds its end. The first counts whole;
// of the last counts what came up to the end where the tail shows what came after
// it, else it counts whole too.
func (e *evaluation) days(b *behaviour, s span, t *tally) bool {
	lo := newClock(s.lo, e.who.Home)
	// flip is in the time of lo: width - 1 before now.
	flip := never
	r := dayRange{lo: &lo, end: lo.local(int64(s.hi)), flip: &flip}
	known := true
	if from := e.who.Activity.From(); from != 0 && lo.local(int64(from)-1) >= lo.today {
		known = false
	}
	for c := b.steps[0].entries(&e.who.Activity); known && c.Next(); {
		if b.steps[0].sums(&c.ActivityEntry) {
			known = int64(c.Floor) <= lo.today
			if p := b.prop(); p != 0 && known {
				_, known = c.Sums(p)
			}
			e.entryDays(b, &c.ActivityEntry, &r, t)
		}
	}
	if !known {
		lo.flips(&flip, lo.today+1)
	}
	if s.width > 0 && flip != never {
		e.flip = min(e.flip, flip+s.width-1)
	}
	known = known && e.lastDay(b, s, &r, t)
	e.byDay = e.byDay || known
	return known
}

// lastDay takes away what came after the end on the day that holds it, where the
// tail shows it.
func (e *evaluation) lastDay(b *behaviour, s span, r *dayRange, t *tally) bool {
	var after tally
	switch {
	case e.shows(s.hi):
		after = e.after(b, s, &clockDay{r.lo, r.end})
	case r.later && s.hi < s.until:
		end := newClock(s.hi, e.who.Home)
		end.flips(&e.flip, r.end+1)
		e.flip = min(e.flip, e.who.Tail.Floor()-1)
	}
	if r.onEnd > after.n {
		t.day(r.end - r.lo.today)
	}
	return t.less(b, &after)
}

// day notes that something came on a day, counted from the window's begin on.
func (t *tally) day(at int64) {
	if t.days != nil && at < distinctDays {
		t.days[at/64] |= 1 << (at % 64)
		return
	}
	t.far = true
}

// dayRange is the days that count, and when the first of them leaves.
type dayRange struct {
	lo    *clock
	end   int64 // last day
	flip  *storage.UnixMsec
	onEnd uint64 // events on the last day
	later bool   // something came on the last day or after it
}

func (e *evaluation) entryDays(b *behaviour, entry *storage.ActivityEntry, r *dayRange, t *tally) {
	for d := entry.Days(b.prop()); d.Next(); {
		day := int64(d.Day)
		r.later = r.later || day >= r.end
		switch {
		case day < r.lo.today:
			return
		case day <= r.end:
			n := b.fold.counted(d.Count, d.Sums)
			t.n += n
			t.sums.Join(d.Sums)
			if day == r.end {
				r.onEnd += n
			} else {
				t.day(day - r.lo.today)
			}
			r.lo.flips(r.flip, day+1)
		}
	}
}
