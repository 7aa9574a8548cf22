package definition

import (
	"slices"
	"strings"
)

func defaultWorkspace() Workspace {
	return Workspace{
		Meta:            Meta{Kind: "workspace", ID: "default"},
		Timezone:        "UTC",
		Zones:           []string{"UTC"},
		ProtectZone:     true,
		Locale:          "en",
		ConsentRequired: reachingOut(),
		IdentityOrder:   []string{"user_id"},
	}
}

func reachingOut() []Channel {
	return []Channel{
		ChannelSMS, ChannelEmail, ChannelPush, ChannelCall, ChannelWechat, ChannelWecom,
	}
}

func (o *object) workspace(m Meta) Workspace {
	w := defaultWorkspace()
	w.Meta = m
	if f, ok := o.get("timezone"); ok {
		if zone := f.zone(); zone != "" {
			w.Timezone = zone
		}
	}
	w.Zones = []string{w.Timezone}
	zones, named := o.get("zones")
	if named {
		w.Zones = zones.unique(field.zone)
		if zones.node.Kind == NodeList && len(zones.node.List) == 0 {
			zones.fault("an empty list of zones: leave the key out")
		}
	}
	if f, ok := o.get("on_missing_timezone"); ok {
		w.ProtectZone = f.word("protect", "workspace") != 1
	}
	if f, ok := o.get("locale"); ok {
		w.Locale = f.locale()
	}
	if f, ok := o.get("currency"); ok {
		w.Currency = f.currency()
	}
	if f, ok := o.get("consent_required"); ok {
		w.ConsentRequired = f.channels()
	}
	if f, ok := o.get("undeclared"); ok {
		w.UndeclaredReject = f.word("keep", "reject") == 1
	}
	if f, ok := o.get("identity_order"); ok {
		w.IdentityOrder = f.unique(field.id)
	}
	if f, ok := o.get("quiet_hours"); ok {
		w.QuietHours = f.quietHours()
		at := f
		if named {
			at = zones
		}
		at.someMinuteOpen(&w)
	}
	return w
}

// currency reads an ISO 4217 code.
func (f field) currency() string {
	text := f.text()
	if text == "" || len(text) == 3 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		return text
	}
	f.fault("%q is not a currency, such as CNY", Shorten(text))
	return ""
}

func (f field) quietHours() *QuietHours {
	q := &QuietHours{Classes: []MessageClass{Marketing}, Hold: true}
	o, ok := f.object()
	if !ok {
		return q
	}
	if c, ok := o.need("channels"); ok {
		q.Channels = c.channels()
	}
	if c, ok := o.get("classes"); ok {
		q.Classes = c.classes()
		if slices.Contains(q.Classes, Mandatory) {
			c.fault("quiet hours never bind mandatory messages")
		}
	}
	if c, ok := o.need("windows"); ok {
		q.Windows = c.minuteSpans()
	}
	if c, ok := o.get("when_hit"); ok {
		q.Hold = c.word("hold", "drop") != 1
	}
	o.close()
	return q
}

func (f field) minuteSpans() []MinuteSpan {
	const most, lastMinute, endOfDay = 8, 24*60 - 1, 24 * 60
	items := f.items(most)
	if f.node.Kind == NodeList && len(f.node.List) == 0 {
		f.fault("an empty list of windows: leave quiet_hours out")
	}
	var out []MinuteSpan
	for _, item := range items {
		o, ok := item.object()
		if !ok {
			continue
		}
		span := MinuteSpan{From: -1, Until: -1}
		if from, ok := o.need("from"); ok {
			span.From = from.minute(lastMinute)
		}
		if until, ok := o.need("until"); ok {
			span.Until = until.minute(endOfDay)
		}
		if days, ok := o.get("days"); ok {
			span.Days = days.weekdays()
		}
		o.close()
		if span.From < 0 || span.Until < 0 {
			continue
		}
		if span.From == span.Until {
			item.fault("from and until are the same minute: a whole day is 00:00 to 24:00")
			continue
		}
		out = append(out, span)
	}
	return out
}

func (o *object) attribute(m Meta) *Attribute {
	a := &Attribute{Meta: m, Class: "internal", Conflict: "newest"}
	if f, ok := o.need("type"); ok {
		a.Type = f.attrType()
	}
	if f, ok := o.get("class"); ok {
		if f.word("public", "internal", "personal", "sensitive") >= 0 {
			a.Class = f.node.Text
		}
	}
	if f, ok := o.get("values"); ok {
		a.Values = f.values()
		if a.Type != TypeString && a.Type != 0 {
			f.fault("values belong to an attribute of type string, not %s", a.Type)
		}
	}
	if f, ok := o.get("conflict"); ok {
		f.conflict()
	}
	if f, ok := o.get("migrate"); ok && f.word("cast", "drop") >= 0 {
		a.Migrate = f.node.Text
	}
	return a
}

// conflict takes newest and refuses the other rules by name.
func (f field) conflict() {
	text := f.text()
	rules := []string{"newest", "oldest", "min", "max", "union"}
	switch {
	case text == "" || text == "newest":
	case slices.Contains(rules, text) || strings.HasPrefix(text, "source:"):
		f.fault("conflict: %s is not supported yet", Shorten(text))
	default:
		f.word(append(rules, "source:[…]")...)
	}
}

func (o *object) event(m Meta) *Event {
	const mostIndexed = 8
	e := &Event{Meta: m}
	f, ok := o.get("properties")
	if !ok {
		return e
	}
	indexed := 0
	for _, entry := range f.entries() {
		p := Property{Name: entry.key.dataName(), Pos: entry.key.node.Pos}
		body, ok := entry.value.object()
		if !ok || p.Name == "" {
			continue
		}
		if t, ok := body.need("type"); ok {
			p.Type = t.attrType()
		}
		if i, ok := body.get("indexed"); ok && i.boolean() {
			p.Indexed = true
			if indexed++; indexed == mostIndexed+1 {
				i.fault("at most %d properties of an event can be indexed", mostIndexed)
			}
		}
		if strings.Contains(p.Name, "[") || strings.Contains(p.Name, "]") {
			entry.key.elements(&p)
		}
		body.close()
		e.Properties = append(e.Properties, p)
	}
	return e
}

func (o *object) segment(m Meta) *Segment {
	s := &Segment{Meta: m}
	if f, ok := o.get("track"); ok {
		s.Track = f.boolean()
	}
	if f, ok := o.get("rule"); ok {
		if f.expect(NodeMap, "a condition such as {tag: NAME}") {
			s.Rule = f.node
		}
		if members, both := o.get("members"); both {
			members.fault("a segment has members or a rule, not both")
		}
		return s
	}
	if f, ok := o.need("members"); ok {
		s.Static = f.word("static") == 0
	}
	o.asked = append(o.asked, "rule")
	return s
}

// elements checks the name and the type of a property of the elements of a list.
func (f field) elements(p *Property) {
	list, member, ok := strings.Cut(p.Name, "[].")
	if !ok || list == "" || member == "" || strings.ContainsAny(list+member, "[]") {
		f.fault("a property of the elements of a list is named as items[].price")
		return
	}
	switch p.Type {
	case 0, TypeBool, TypeInt, TypeFloat, TypeString:
	default:
		f.fault("a property of the elements of a list is a bool, int, float or string")
	}
}
