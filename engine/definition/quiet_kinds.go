package definition

import (
	"slices"
	"strings"
	"time"
)

// calendar reads named days, such as the public holidays of a country.
func (o *object) calendar(m Meta) *Calendar {
	const most = 10_000
	c := &Calendar{Meta: m}
	if f, ok := o.get("source"); ok {
		c.Source = f.text()
	}
	f, ok := o.need("days")
	if !ok {
		return c
	}
	if f.node.Kind == NodeList && len(f.node.List) == 0 {
		f.fault("a calendar has at least one day")
	}
	for _, item := range f.items(most) {
		if d, ok := item.calendarDay(); ok {
			c.Days = append(c.Days, d)
		}
	}
	return c
}

// calendarDay reads {date} or {from, until}, with an id and a name.
func (f field) calendarDay() (d CalendarDay, ok bool) {
	o, ok := f.object()
	if !ok {
		return d, false
	}
	d.Pos = f.node.Pos
	if id, ok := o.get("id"); ok {
		d.ID = id.id()
	}
	if name, ok := o.get("name"); ok {
		d.Name = name.human()
	}
	one, isOne := o.get("date")
	from, isFrom := o.get("from")
	until, isUntil := o.get("until")
	switch {
	case isOne && !isFrom && !isUntil:
		d.From, ok = one.date()
		d.Until = d.From + 1
	case !isOne && isFrom && isUntil:
		var ends bool
		d.From, ok = from.date()
		d.Until, ends = until.date()
		ok = ok && ends
		switch {
		case ok && d.Until <= d.From:
			until.fault("the end is not after the start: until is the first day that is over")
			ok = false
		case ok && d.Until-d.From > 366:
			until.fault("the days span more than 366 days")
			ok = false
		}
	default:
		f.fault("a day has one date, or from and until")
		ok = false
	}
	o.close()
	return d, ok
}

// date reads 2026-11-22 and gives days since 1970-01-01. Years 1971 to 2199.
func (f field) date() (day int32, ok bool) {
	text := f.text()
	if text == "" {
		return 0, false
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		f.fault("%q is not a date, such as 2026-11-22", Shorten(text))
		return 0, false
	}
	if y := t.Year(); y < 1971 || y > 2199 {
		f.fault("%q is not in the years 1971 to 2199", Shorten(text))
		return 0, false
	}
	return int32(t.Unix() / (24 * 3600)), true
}

// quietRule reads a document of kind quiet_hours.
func (o *object) quietRule(m Meta) *QuietRule {
	q := &QuietRule{
		Meta: m, Offers: Selector{All: true}, Classes: []MessageClass{Marketing}, Hold: true,
	}
	if f, ok := o.get("applies_to"); ok {
		q.targets(f)
	}
	if f, ok := o.get("segment"); ok {
		q.Segment = f.id()
		f.refers("segment", q.Segment)
	}
	windows, isWindows := o.get("windows")
	if isWindows {
		q.Windows = windows.minuteSpans()
	}
	if f, ok := o.get("on"); ok {
		q.On = f.calendarDays()
	}
	if f, ok := o.get("except"); ok {
		q.Except = f.calendarDays()
	}
	if !isWindows && o.node.Get("on") == nil {
		o.fault("quiet hours have windows of the day, or days of a calendar (on), or both")
	}
	if f, ok := o.get("when_hit"); ok {
		q.Hold = f.word("hold", "drop") != 1
	}
	if isWindows {
		windows.someMinuteOpenOf(q)
	}
	return q
}

// targets reads applies_to: the same selectors as those of a cap.
func (q *QuietRule) targets(f field) {
	var c Cap
	c.Offers = Selector{All: true}
	f.capTargets(&c)
	q.Offers, q.Channels, q.Placements = c.Offers, c.Channels, c.Placements
	if len(c.Classes) == 0 {
		return
	}
	q.Classes = c.Classes
	if slices.Contains(q.Classes, Mandatory) {
		f.fault("quiet hours never bind mandatory messages")
	}
}

// calendarDays reads a list of calendars, or of calendar/day for the days of
// one id.
func (f field) calendarDays() []string {
	days := f.unique(func(item field) string {
		text := item.text()
		if text == "" {
			return ""
		}
		calendar, day, named := strings.Cut(text, "/")
		if !isID(calendar) || named && !isID(day) {
			item.fault("%q is not a calendar, nor calendar/day", Shorten(text))
			return ""
		}
		item.refers("calendar", calendar)
		if named {
			item.dayOf(calendar, day)
		}
		return text
	})
	if f.node.Kind == NodeList && len(f.node.List) == 0 {
		f.fault("an empty list: leave the key out")
	}
	return days
}

// dayOf checks that the calendar has days of the id.
func (f field) dayOf(calendar, day string) {
	f.afterAll(func(r *reading) {
		for _, c := range r.set.Calendars {
			if c.ID != calendar {
				continue
			}
			var among []string
			for _, d := range c.Days {
				among = append(among, d.ID)
			}
			if !slices.Contains(among, day) {
				f.faultNear(day, among, "calendar "+calendar+" has no days with id "+day)
			}
			return
		}
	})
}

// weekdays reads a list of days of the week: a bit each, Sunday the first.
func (f field) weekdays() (days uint8) {
	f.unique(func(item field) string {
		i := item.word(weekdayNames()...)
		if i < 0 {
			return ""
		}
		days |= 1 << i
		return item.node.Text
	})
	if f.node.Kind == NodeList && len(f.node.List) == 0 {
		f.fault("an empty list: leave the key out")
	}
	return days
}

// someMinuteOpenOf checks, for quiet hours of every day and everybody, that
// some minute of the day is open beside those of the other documents that bind
// the same channel and class.
func (f field) someMinuteOpenOf(q *QuietRule) {
	f.afterAll(func(r *reading) {
		w := &r.set.Workspace
		for ch := range ChannelCount {
			for _, class := range []MessageClass{Marketing, Transactional} {
				if !q.always(ch, class) {
					continue
				}
				spans := slices.Clone(q.Windows)
				for _, other := range r.set.Quiet {
					if other != q && other.always(ch, class) {
						spans = append(spans, other.Windows...)
					}
				}
				if own := w.QuietHours; own != nil && slices.Contains(own.Channels, ch) &&
					(class == Marketing || slices.Contains(own.Classes, class)) {
					spans = append(spans, own.Windows...)
				}
				if month, closed := closedMonth(w, spans); closed {
					f.fault("no minute of the day (in %s) is outside the quiet hours of %s on %s in "+
						"every zone: a whole day needs a calendar (on) or days", month, class, ch)
					return
				}
			}
		}
	})
}

// always tells whether the document binds everything of a class on a channel,
// on every day.
func (q *QuietRule) always(ch Channel, class MessageClass) bool {
	if q.Segment != "" || len(q.On)+len(q.Except)+len(q.Placements) > 0 || !q.Offers.All ||
		q.Offers.Not != nil || len(q.Windows) == 0 {
		return false
	}
	for _, w := range q.Windows {
		if w.Days != 0 {
			return false
		}
	}
	return (len(q.Channels) == 0 || slices.Contains(q.Channels, ch)) &&
		slices.Contains(q.Classes, class)
}

// closedMonth finds a month in which no minute of the day is open to a person
// without a time zone. See someMinuteOpen.
func closedMonth(w *Workspace, quiet []MinuteSpan) (time.Month, bool) {
	zones := w.Zones
	if !w.ProtectZone {
		zones = []string{w.Timezone}
	}
	for _, month := range []time.Month{time.January, time.July} {
		if !anyMinuteOpen(time.Date(2026, month, 15, 0, 0, 0, 0, time.UTC), zones, quiet) {
			return month, true
		}
	}
	return 0, false
}
