package definition

import (
	"slices"
	"strconv"
	"strings"
)

// reservedKinds are names kept for what comes.
func reservedKinds() []string {
	return []string{
		"metric", "survey", "ticket_policy", "coupon", "programme", "journey", "campaign",
		"item", "relation", "alert", "report",
	}
}

// document decodes one document into the set. A document with faults takes its
// place in the set as far as it could be read, so that others may name it.
func (r *reading) document(d document) {
	n := d.tree
	o := &object{field: field{r: r, node: n}}
	if n.bad || n.Kind != NodeMap {
		if !n.bad {
			o.fault("a document is a map with kind and id, not %s", n.describe())
		}
		return
	}
	kind := o.kind()
	if kind == "" {
		return
	}
	o.doc = kind
	meta := o.meta(kind)
	meta.packed = d.packed
	r.register(o, meta)
	r.decode(o, meta)
	o.close()
}

func (o *object) kind() string {
	f, ok := o.need("kind")
	if !ok {
		return ""
	}
	kind := f.text()
	switch {
	case kind == "" || slices.Contains(Supported(), kind):
		return kind
	case kind == "invariant":
		f.fault("kind invariant is not supported yet")
	case slices.Contains(reservedKinds(), kind):
		f.fault("kind %s is reserved and is not supported yet", kind)
	default:
		f.faultNear(kind, Supported(), strconv.Quote(Shorten(kind))+" is not a kind")
	}
	return ""
}

func (o *object) meta(kind string) Meta {
	m := Meta{Kind: kind, Pos: o.node.Pos, Raw: o.node}
	if f, ok := o.need("id"); ok {
		switch kind {
		case "attribute", "tag", "event":
			m.ID = f.dataName()
		default:
			m.ID = f.id()
		}
	}
	if kind == "tag" {
		m.ID = o.tagName(m.ID)
	}
	if m.ID != "" {
		o.doc = kind + "/" + m.ID
	}
	if f, ok := o.get("name"); ok {
		m.Name = f.human()
	}
	if f, ok := o.get("description"); ok {
		m.Description = f.human()
	}
	if f, ok := o.get("owner"); ok {
		m.Owner = f.text()
	}
	if f, ok := o.get("labels"); ok {
		m.Labels = f.labels()
	}
	return m
}

// human reads a text, or one text per language.
func (f field) human() Text {
	if f.node.Kind != NodeMap {
		return Text{Any: f.text()}
	}
	t := Text{By: make(map[string]string)}
	for _, e := range f.entries() {
		if language := e.key.locale(); language != "" {
			t.By[language] = e.value.text()
		}
	}
	return t
}

func (f field) labels() map[string]string {
	labels := make(map[string]string)
	for _, e := range f.entries() {
		if name := e.key.dataName(); name != "" {
			labels[name] = e.value.text()
		}
	}
	return labels
}

// register notes that the document exists, and refuses a second of its name.
func (r *reading) register(o *object, m Meta) {
	if m.ID == "" {
		return
	}
	if r.known == nil {
		r.known = make(map[docKey]Pos)
	}
	key := docKey{m.Kind, m.ID}
	if m.Kind == "workspace" {
		key.id = "" // one for the set, whatever its name
	}
	id := field{r, o.node.Get("id"), o.doc, "id"}
	if at, twice := r.known[key]; twice {
		if m.Kind == "workspace" {
			id.fault("a set has one workspace; the first stands at %s", at)
			return
		}
		id.fault("%s %q is defined twice; the first stands at %s", m.Kind, m.ID, at)
		return
	}
	r.known[key] = m.Pos
}

func (r *reading) decode(o *object, m Meta) {
	s := r.set
	switch m.Kind {
	case "workspace":
		s.Workspace = o.workspace(m)
	case "attribute":
		s.Attributes = append(s.Attributes, o.attribute(m))
	case "tag":
		s.Tags = append(s.Tags, o.tag(m))
	case "tier":
		s.Tiers = append(s.Tiers, o.tier(m))
	case "event":
		s.Events = append(s.Events, o.event(m))
	case "segment":
		s.Segments = append(s.Segments, o.segment(m))
	case "calendar":
		s.Calendars = append(s.Calendars, o.calendar(m))
	case "quiet_hours":
		s.Quiet = append(s.Quiet, o.quietRule(m))
	case "cap":
		s.Caps = append(s.Caps, o.cap(m))
	case "offer":
		s.Offers = append(s.Offers, o.offer(m))
	case "placement":
		s.Placements = append(s.Placements, o.placement(m))
	case "decision_policy":
		s.Policies = append(s.Policies, o.policy(m))
	case "layer":
		s.Layers = append(s.Layers, &Layer{m})
	case "experiment":
		s.Experiments = append(s.Experiments, o.experiment(m))
	case "holdout":
		s.Holdouts = append(s.Holdouts, o.holdout(m))
	case "test":
		s.Tests = append(s.Tests, o.test(m))
	}
}

func channelNames() []string {
	return []string{"web", "in_app", "push", "email", "sms", "call", "wechat", "wecom"}
}

// String gives the name of the channel as documents write it.
func (c Channel) String() string {
	if c < ChannelCount {
		return channelNames()[c]
	}
	return "channel(" + strconv.Itoa(int(c)) + ")"
}

// ChannelByName finds a channel by the name documents write.
func ChannelByName(name string) (Channel, bool) {
	i := slices.Index(channelNames(), name)
	return Channel(max(i, 0)), i >= 0
}

// Page tells whether the channel is a page the person is on: web or in_app.
// Every other channel reaches out.
func (c Channel) Page() bool { return c == ChannelWeb || c == ChannelInApp }

// channel reads the name of a channel; ok is false with a fault.
func (f field) channel() (c Channel, ok bool) {
	if f.node.Kind == NodeString && f.node.Text == "staff" {
		f.fault("channel staff is reserved and is not supported yet")
		return 0, false
	}
	i := f.word(channelNames()...)
	return Channel(max(i, 0)), i >= 0
}

func (f field) channels() []Channel {
	var out []Channel
	f.unique(func(item field) string {
		c, ok := item.channel()
		if !ok {
			return ""
		}
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
		return c.String()
	})
	return out
}

func classNames() []string { return []string{"marketing", "transactional", "mandatory"} }

// String gives the name of the class as documents write it.
func (c MessageClass) String() string {
	if c <= Mandatory {
		return classNames()[c]
	}
	return "message_class(" + strconv.Itoa(int(c)) + ")"
}

func (f field) classes() []MessageClass {
	var out []MessageClass
	f.unique(func(item field) string {
		i := item.word(classNames()...)
		if i < 0 {
			return ""
		}
		if c := MessageClass(i); !slices.Contains(out, c) {
			out = append(out, c)
		}
		return classNames()[i]
	})
	return out
}

// selector reads `all` or {ids, groups, labels, not}. idKind is the kind that
// its ids name.
func (f field) selector(idKind string) Selector {
	if f.node.Kind == NodeString && f.node.Text == "all" {
		return Selector{All: true}
	}
	if f.node.Kind != NodeMap {
		if !f.node.bad {
			f.fault("all, or a map of ids, groups, labels, not is expected, not %s",
				f.node.describe())
		}
		return Selector{}
	}
	o, _ := f.object()
	var s Selector
	if ids, ok := o.get("ids"); ok {
		s.IDs = ids.unique(func(item field) string {
			id := item.id()
			item.refers(idKind, id)
			return id
		})
	}
	if groups, ok := o.get("groups"); ok {
		s.Groups = groups.unique(field.group)
	}
	if labels, ok := o.get("labels"); ok {
		s.Labels = labels.labels()
	}
	if not, ok := o.get("not"); ok {
		inner := not.selector(idKind)
		s.Not = &inner
	}
	o.close()
	if len(f.node.Keys) == 0 {
		f.fault("an empty selector: write all, or ids, groups, labels, not")
	}
	return s
}

// tree keeps a condition tree as it stands.
func (o *object) tree(name string) *Node {
	f, ok := o.get(name)
	if !ok || !f.expect(NodeMap, "a condition tree (a map)") {
		return nil
	}
	return f.node
}

func unitNames() []string { return []string{"hour", "day", "week", "month", "quarter", "year"} }

func weekdayNames() []string {
	return []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
}

// window reads `lifetime`, {rolling} or {calendar, every, zone, week_start}.
func (f field) window(zone string) Window {
	w := Window{Every: 1, Zone: zone, WeekStart: 1}
	if f.node.Kind == NodeString {
		if f.node.Text != "lifetime" {
			f.faultNear(f.node.Text, []string{"lifetime"}, strconv.Quote(Shorten(f.node.Text))+
				" is not a window: lifetime, {rolling: 7d} or {calendar: day}")
		}
		return w
	}
	o, ok := f.object()
	if !ok {
		return w
	}
	if f, ok := o.get("between"); ok {
		w.From, w.Until = f.between()
	}
	rolling, isRolling := o.get("rolling")
	if isRolling {
		w.Rolling = rolling.duration()
	}
	calendar, isCalendar := o.get("calendar")
	if isCalendar {
		w.Unit = Unit(calendar.word(unitNames()...) + 1)
	}
	between := o.node.Get("between") != nil
	if isRolling && (isCalendar || between) || isCalendar && between ||
		!isRolling && !isCalendar && !between {
		f.fault("a window has one of rolling, calendar and between")
	}
	o.calendarParts(&w, isCalendar)
	o.close()
	return w
}

func (o *object) calendarParts(w *Window, isCalendar bool) {
	const mostEvery = 366
	for _, name := range []string{"every", "zone", "week_start"} {
		f, ok := o.get(name)
		switch {
		case !ok:
		case !isCalendar:
			f.fault("%s belongs to a calendar window", name)
		case name == "every":
			w.Every = int(f.integer(1, mostEvery))
		case name == "zone":
			if zones := []string{"user", "workspace", "UTC"}; f.word(zones...) >= 0 {
				w.Zone = f.node.Text
			}
		case name == "week_start":
			if i := f.word(weekdayNames()...); i >= 0 {
				w.WeekStart = i
			}
		}
	}
}

// typeNames are the attribute types in the order of AttrType, from TypeBool.
func typeNames() []string {
	return []string{"bool", "int", "float", "string", "date", "time", "list", "semver"}
}

func (f field) attrType() AttrType { return AttrType(f.word(typeNames()...) + 1) }

// String gives the name of the type as documents write it; "" for none.
func (t AttrType) String() string {
	if t < TypeBool || t > TypeSemver {
		return ""
	}
	return typeNames()[t-1]
}

// values reads a closed list of values.
func (f field) values() []string {
	values := f.unique(field.dataValue)
	if f.node.Kind == NodeList && len(f.node.List) == 0 {
		f.fault("an empty list of values: leave the key out")
	}
	return values
}

func (f field) dataValue() string {
	text := f.text()
	if text != "" && strings.TrimSpace(text) == "" {
		f.fault("a value of spaces only")
		return ""
	}
	return text
}
