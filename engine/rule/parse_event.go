package rule

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"tact/engine/definition"
)

// aggregates are the words that say what is asked of events.
func aggregates() []string {
	return []string{"count", "sum", "min", "max", "avg", "first", "last", "distinct"}
}

// event reads an atom about events or outcomes. It returns nil with a fault.
func (p *parser) event(at, value place, subject string) *node {
	before := len(p.faults)
	allowed := append(aggregates(), subject, "within", "window")
	if subject == "event" {
		allowed = append(allowed, "of", "where")
	} else {
		allowed = append(allowed, "offers")
	}
	at.close(allowed)
	m, properties := p.match(at, value, subject)
	b := &behaviour{steps: []match{m}, window: p.window(at)}
	l := leaf{subject: subjectEvent, name: m.name, behaviour: b, typ: definition.TypeInt}
	word, comparison := p.aggregate(at, b, &l, properties)
	b.fold = b.steps[0].folded()
	if len(p.faults) > before {
		return nil
	}
	if word == "" { // it happened
		l.op, l.values = opGte, []operand{{text: "1", num: 1}}
		return leafNode(l)
	}
	if comparison.node.Kind != definition.NodeMap {
		comparison.fault("a comparison such as {gte: 2} is expected, not %s",
			describe(comparison.node))
		return nil
	}
	return p.comparisons(comparison, "is", l, nil)
}

// match reads which events an atom is about.
func (p *parser) match(at, value place, subject string) (match, map[string]Property) {
	var m match
	name, ok := value.text("the name of an " + subject)
	if !ok {
		return m, nil
	}
	m.name = name
	if subject == "outcome" {
		m.outcome = true
		if m.event, ok = p.names.Outcomes[name]; !ok {
			value.near(name, keys(p.names.Outcomes), "there is no outcome %q", brief(name))
		}
		if offers, ok := at.key("offers"); ok {
			p.offers(offers, &m)
		}
		return m, nil
	}
	declared, ok := p.names.Events[name]
	switch {
	case name == "*":
		m.any = true
	case !ok:
		value.near(name, keys(p.names.Events), "there is no event %q", brief(name))
		return m, nil
	}
	m.event = declared.ID
	if where, ok := at.key("where"); ok {
		p.where(where, &m, declared.Properties)
	}
	return m, declared.Properties
}

// where reads comparisons of properties, all of which must hold for an event.
func (p *parser) where(at place, m *match, declared map[string]Property) {
	if m.any {
		at.fault("where needs the name of one event")
		return
	}
	if at.node.Kind != definition.NodeList || len(at.node.List) == 0 {
		at.fault("a list such as [{property: NAME, is: …}] is expected, not %s",
			describeList(at.node))
		return
	}
	for _, item := range at.items() {
		if item.node.Kind != definition.NodeMap {
			item.fault("a comparison such as {property: NAME, is: …} is expected, not %s",
				describe(item.node))
			continue
		}
		name, ok := item.key("property")
		if !ok {
			item.fault("the property is missing, such as {property: NAME, is: …}")
			continue
		}
		property, ok := p.property(name, m.name, declared)
		if !ok {
			continue
		}
		l := leaf{
			subject: subjectProperty, name: name.node.Text, id: property.ID, typ: property.Type,
			each: property.Each,
		}
		if n := p.comparisons(item, "property", l, nil); n != nil {
			m.filter(n)
		}
	}
	if len(m.where) > MaxFilters {
		at.fault("where has at most %d comparisons", MaxFilters)
	}
}

// filter takes the comparisons of one property over: all of nothing but leaves
// and their negations.
func (m *match) filter(n *node) {
	switch n.kind {
	case nodeAll:
		for _, sub := range n.subs {
			m.filter(sub)
		}
		return
	case nodeNot:
		m.filter(n.subs[0])
		m.where[len(m.where)-1].negative = true
		return
	}
	f := filter{leaf: *n.leaf, test: compile(n.leaf).test}
	m.where = append(m.where, f)
}

// property finds an indexed property of an event.
func (p *parser) property(at place, event string, declared map[string]Property) (Property, bool) {
	name, ok := at.text("the name of a property")
	if !ok {
		return Property{}, false
	}
	property, ok := declared[name]
	switch {
	case !ok && strings.ContainsAny(name, "[]."):
		at.near(name, keys(declared), "the event %q has no property %q: what is asked of the "+
			"elements of a list is declared by that name", brief(event), brief(name))
	case !ok:
		at.near(name, keys(declared), "the event %q has no property %q", brief(event), brief(name))
	case !property.Indexed:
		at.fault("the property %q is not indexed: only indexed ones are kept for rules",
			brief(name))
		return property, false
	}
	return property, ok
}

// aggregate reads what is asked of the events and finds the type of what comes
// out: word is the key, comparison its value; an empty word asks for nothing but
// that it happened.
func (p *parser) aggregate(at place, b *behaviour, l *leaf, declared map[string]Property) (
	word string, comparison place,
) {
	var words []string
	for _, k := range at.node.Keys {
		if slices.Contains(aggregates(), k.Name) {
			words = append(words, k.Name)
		}
	}
	distinct, _ := at.key("distinct")
	byDay := distinct.node != nil && distinct.node.Kind == definition.NodeString
	if byDay {
		b.agg = aggDays
		if distinct.node.Text != "day" {
			distinct.fault("day, or a comparison such as {gte: 2} beside of, is expected, not %s",
				describe(distinct.node))
		}
		words = slices.DeleteFunc(words, func(w string) bool { return w == "distinct" })
	}
	of, named := at.key("of")
	if len(words) > 1 || byDay && len(words) == 1 && words[0] != "count" {
		at.fault("one of %s is expected, not %s", strings.Join(aggregates(), ", "),
			strings.Join(words, " and "))
		return "", at
	}
	if len(words) == 1 {
		word = words[0]
		comparison, _ = at.key(word)
	}
	if !byDay {
		b.agg = map[string]aggregate{
			"": aggCount, "count": aggCount, "sum": aggSum, "min": aggMin, "max": aggMax,
			"avg": aggAvg, "first": aggFirst, "last": aggLast, "distinct": aggDistinct,
		}[word]
	}
	if named {
		p.of(of, b, l, declared)
	}
	switch b.agg {
	case aggCount, aggDays:
		if named {
			of.fault("count counts events, whatever their properties")
		}
	case aggFirst, aggLast:
		if !named {
			l.typ = definition.TypeTime
		}
	default:
		if !named {
			comparison.fault("%s needs of: PROPERTY", word)
		}
	}
	return word, comparison
}

// of reads the property that is added up, compared or told apart.
func (p *parser) of(at place, b *behaviour, l *leaf, declared map[string]Property) {
	if b.steps[0].any || b.steps[0].event == 0 {
		if b.steps[0].any {
			at.fault("of needs the name of one event")
		}
		return
	}
	property, ok := p.property(at, b.steps[0].name, declared)
	if !ok {
		return
	}
	b.of, b.ofName, b.each = property.ID, at.node.Text, property.Each
	b.ofType = property.Type
	switch b.agg {
	case aggSum, aggMin, aggMax, aggAvg:
		l.typ = definition.TypeFloat
		if property.Type != definition.TypeInt && property.Type != definition.TypeFloat {
			at.fault("%q is %s: an int or a float is expected", brief(at.node.Text),
				typeName(property.Type))
		}
	case aggFirst, aggLast, aggDistinct:
		if b.agg != aggDistinct {
			l.typ = property.Type
		}
	}
}

// window reads within and window; without them it is the whole life.
func (p *parser) window(at place) window {
	within, ok := at.key("within")
	full, both := at.key("window")
	switch {
	case ok && both:
		full.fault("within and window do not stand together")
	case ok:
		return p.rolling(within)
	case both:
		return p.fullWindow(full)
	}
	return window{}
}

func (p *parser) rolling(at place) window {
	d, ok := at.duration()
	if !ok {
		return window{}
	}
	return window{kind: windowRolling, text: d.text, width: d.num * 1000}
}

func (p *parser) fullWindow(at place) (w window) {
	if at.node.Kind == definition.NodeString && at.node.Text == "lifetime" {
		return w
	}
	if at.node.Kind != definition.NodeMap {
		at.fault("lifetime, {rolling: 30d}, {calendar: day} or {between: [t1, t2]} is expected, "+
			"not %s", describe(at.node))
		return w
	}
	var known []string
	if rolling, ok := at.key("rolling"); ok {
		known, w = []string{"rolling"}, p.rolling(rolling)
	} else if between, ok := at.key("between"); ok {
		known, w = []string{"between"}, p.between(between)
	} else if unit, ok := at.key("calendar"); ok {
		known = []string{"calendar", "every", "zone", "week_start"}
		w = p.calendarWindow(at, unit)
	} else {
		at.fault("one of rolling, calendar, between is expected")
		return w
	}
	for _, k := range at.node.Keys {
		if !slices.Contains(known, k.Name) {
			unknown := place{p, &definition.Node{Pos: k.Pos}, definition.JoinPath(at.path, k.Name)}
			unknown.near(k.Name, known, "unknown key %q", brief(k.Name))
		}
	}
	return w
}

// between reads [t1, t2): from t1 on, before t2.
func (p *parser) between(at place) window {
	w := window{kind: windowBetween}
	if at.node.Kind != definition.NodeList || len(at.node.List) != 2 {
		at.fault("two times are expected: the first belongs to it, the second does not")
		return w
	}
	var ends [2]int64
	for i, item := range at.items() {
		var t time.Time
		if item.node.Kind != definition.NodeString || t.UnmarshalText([]byte(item.node.Text)) != nil ||
			t.UTC().Year() < 1 || t.UTC().Year() > 9999 {
			item.fault("a time such as 2026-11-22T10:00:00+08:00 is expected, not %s",
				describe(item.node))
			return w
		}
		ends[i] = t.UnixMilli()
	}
	if ends[0] >= ends[1] {
		at.fault("nothing is between the two times")
	}
	w.from, w.to = ends[0], ends[1]
	w.text = at.node.List[0].Text + "–" + at.node.List[1].Text
	return w
}

func (p *parser) calendarWindow(at, unit place) window {
	w := window{kind: windowCalendar, calendar: definition.Window{
		Every: 1, Zone: "workspace", WeekStart: 1,
	}}
	units := []string{"hour", "day", "week", "month", "quarter", "year"}
	i := unit.word(units)
	w.calendar.Unit = definition.UnitHour + definition.Unit(max(i, 0))
	w.text = units[max(i, 0)]
	if every, ok := at.key("every"); ok {
		const most = 366
		if n := every.node; n.Kind == definition.NodeInt && n.Int >= 1 && n.Int <= most {
			w.calendar.Every = int(n.Int)
			w.text = strconv.Itoa(int(n.Int)) + " " + w.text
		} else {
			every.fault("a whole number from 1 to %d is expected, not %s", most, describe(n))
		}
	}
	if zone, ok := at.key("zone"); ok {
		zones := []string{"user", "workspace", "UTC"}
		w.calendar.Zone = zones[max(zone.word(zones), 0)]
	}
	if start, ok := at.key("week_start"); ok {
		days := []string{
			"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday",
		}
		w.calendar.WeekStart = max(start.word(days), 0)
	}
	return w
}

// word reads one of a few words; -1 with a fault.
func (at place) word(words []string) int {
	i := -1
	if at.node.Kind == definition.NodeString {
		i = slices.Index(words, at.node.Text)
	}
	if i < 0 {
		at.near(at.node.Text, words, "one of %s is expected, not %s", strings.Join(words, ", "),
			describe(at.node))
	}
	return i
}

// unseen reads not_seen_for.
func (p *parser) unseen(at, value place) *node {
	at.close([]string{"not_seen_for"})
	w := p.rolling(value)
	if w.kind != windowRolling {
		return nil
	}
	return leafNode(leaf{subject: subjectEvent, name: "*", behaviour: &behaviour{
		agg: aggUnseen, steps: []match{{name: "*", any: true}}, window: w,
		fold: folding{kind: foldAll},
	}})
}

// sequence reads steps that follow each other.
func (p *parser) sequence(at, value place) *node {
	before := len(p.faults)
	at.close([]string{"sequence", "within", "without"})
	b := &behaviour{agg: aggSequence}
	if value.node.Kind != definition.NodeList {
		value.fault("a list of 2 to %d events is expected, not %s", MaxSteps, describe(value.node))
	} else if n := len(value.node.List); n < 2 || n > MaxSteps {
		value.fault("a list of 2 to %d events is expected, not %d", MaxSteps, n)
	} else {
		for _, item := range value.items() {
			b.steps = append(b.steps, p.step(item))
		}
	}
	if within, ok := at.key("within"); ok {
		b.window = p.rolling(within)
	} else {
		at.fault("a sequence needs within: the longest time from the first event to the last")
	}
	b.window.kind = windowLife
	if without, ok := at.key("without"); ok {
		m := p.step(without)
		b.without = &m
	}
	if len(p.faults) > before {
		return nil
	}
	names := make([]string, len(b.steps))
	for i := range b.steps {
		names[i] = b.steps[i].name
	}
	return leafNode(leaf{subject: subjectEvent, name: strings.Join(names, " → "), behaviour: b})
}

// step reads one event of a sequence: its name, and where or offers.
func (p *parser) step(at place) match {
	if at.node.Kind != definition.NodeMap {
		at.fault("an event such as {event: NAME} is expected, not %s", describe(at.node))
		return match{}
	}
	subject, allowed := "event", []string{"event", "where"}
	if at.node.Get("outcome") != nil {
		subject, allowed = "outcome", []string{"outcome", "offers"}
	}
	at.close(allowed)
	value, ok := at.key(subject)
	if !ok {
		at.fault("an event such as {event: NAME} is expected")
		return match{}
	}
	m, _ := p.match(at, value, subject)
	return m
}
