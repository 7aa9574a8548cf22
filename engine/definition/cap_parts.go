package definition

import "slices"

// Bounds of what a cap counts.
const (
	mostPerson      = 1_000_000 // uses of one counter of a person
	mostTotal       = 1_000_000_000_000
	mostSuppress    = 64             // rejections
	mostHistory     = 90 * 24 * 3600 // seconds that the event tail reaches back
	mostCountEvents = 16
)

// countOn reads one outcome or a list of them. A name that is no outcome is an
// event, which must be declared.
func (f field) countOn() (CountOn, []string) {
	items := []field{f}
	if f.node.Kind == NodeList {
		items = f.items(len(countNames()) + mostCountEvents)
		if len(f.node.List) == 0 {
			f.fault("an empty list of outcomes")
		}
	}
	var on CountOn
	var events []string
	for _, item := range items {
		text := item.text()
		i := slices.Index(countNames(), text)
		switch {
		case text == "":
		case i < 0 && slices.Contains(events, text), i >= 0 && on&(1<<i) != 0:
			item.fault("%q stands twice", text)
		case i < 0:
			if name := item.dataName(); name != "" {
				item.refers("event", name)
				events = append(events, name)
				on |= CountCustom
			}
		default:
			on |= 1 << i
		}
	}
	if len(events) > mostCountEvents {
		f.fault("at most %d events", mostCountEvents)
	}
	groups := 0
	for _, group := range []CountOn{CountContacts, CountDecision, CountReactions} {
		if on&group != 0 {
			groups++
		}
	}
	if groups > 1 {
		f.fault("contacts (impression, send, delivered), decision and reactions " +
			"do not mix in one cap")
	}
	return on, events
}

// capLimit reads a number, {attribute: NAME, default: N, max: M}, or the {amount,
// currency} of a budget in money.
func (f field) capLimit(c *Cap) {
	most := int64(mostPerson)
	if c.Scope == ScopeTotal {
		most = mostTotal
	}
	if f.node.Kind != NodeMap {
		c.Limit = int(f.integer(0, most))
		return
	}
	if f.node.Get("amount") != nil || f.node.Get("currency") != nil {
		f.budget(c)
		return
	}
	if c.Scope == ScopeTotal {
		f.fault("a total has one limit for everybody, not one of an attribute of a person")
		return
	}
	o, _ := f.object()
	if a, ok := o.need("attribute"); ok {
		c.LimitFrom = a.dataName()
		a.refers("attribute", c.LimitFrom)
		a.numeric(c.LimitFrom)
	}
	if d, ok := o.need("default"); ok {
		c.Limit = int(d.integer(0, most))
	}
	if d, ok := o.need("max"); ok {
		c.LimitMax = int(d.integer(0, most))
		if c.LimitMax < c.Limit {
			d.fault("the maximum is below the default")
		}
	}
	o.close()
}

// suppression reads {after: N, of: OUTCOMES, for: DURATION}.
func (f field) suppression() *Suppression {
	o, ok := f.object()
	if !ok {
		return nil
	}
	s := &Suppression{After: 1}
	if v, ok := o.need("after"); ok {
		s.After = int(v.integer(1, mostSuppress))
	}
	if v, ok := o.need("of"); ok {
		s.Of, s.Events = v.countOn()
		if s.Of&^CountReactions != 0 {
			v.fault("a rejection is a reaction: click, accept, convert, reject, dismiss or an event")
		}
	}
	if v, ok := o.need("for"); ok {
		s.For = v.duration()
	}
	o.close()
	return s
}

// history refuses what the events of a person cannot tell exactly.
func (f field) history(c *Cap) {
	switch {
	case c.Scope != ScopePerson:
		f.fault("counts_from: history needs scope person: events are kept by person, and do not " +
			"say through which identity or device they came")
	case c.CountOn&CountDecision != 0:
		f.fault("counts_from: history cannot count decisions: they are no events of a person")
	case c.Window.Until == 0 && c.Window.Unit == UnitNone && c.Window.Rolling == 0,
		c.Window.Rolling > mostHistory, c.Window.longest() > mostHistory:
		f.fault("counts_from: history reaches back 90 days at most, and this window further")
	}
}

// longest is the longest a calendar window lasts, in seconds; 0 for others.
func (w *Window) longest() int64 {
	const hour, day = 3600, 25 * 3600 // a day of a change of clocks
	units := [...]int64{
		UnitNone: 0, UnitHour: 2 * hour, UnitDay: day, UnitWeek: 6*24*hour + day,
		UnitMonth: 31*24*hour + hour, UnitQuarter: 92*24*hour + hour, UnitYear: 366*24*hour + hour,
	}
	return units[w.Unit] * int64(w.Every)
}

// between reads [from, until), two times.
func (f field) between() (from, until int64) {
	items := f.items(2)
	if len(items) != 2 {
		if f.node.Kind == NodeList {
			f.fault("two times are expected: [from, until)")
		}
		return 0, 0
	}
	from, until = items[0].moment()/1000, (items[1].moment()+999)/1000
	if until != 0 && until <= from {
		f.fault("the window ends before it begins")
	}
	return from, until
}

// String gives the scope as documents write it.
func (s CapScope) String() string {
	return [...]string{"person", "identity", "device", "total"}[s&3]
}

// String gives the dimension as documents write it.
func (p CapPer) String() string {
	names := [...]string{"all", "offer", "offer_group", "campaign", "channel", "placement"}
	if int(p) >= len(names) {
		return ""
	}
	return names[p]
}
