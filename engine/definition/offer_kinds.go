package definition

import "strconv"

func (o *object) cap(m Meta) *Cap {
	const defaultGrace = 5 * 60
	c := &Cap{Meta: m, Offers: Selector{All: true}, ConfirmGrace: defaultGrace}
	o.capCounter(c)
	if f, ok := o.get("applies_to"); ok {
		f.capTargets(c)
	}
	countOn, counted := o.need("count_on")
	if counted {
		c.CountOn, c.Events = countOn.countOn()
	}
	o.capWindow(c)
	if f, ok := o.get("exempt"); ok {
		c.Exempt = f.classes()
	}
	if f, ok := o.get("hold"); ok {
		c.Hold = f.duration()
	}
	if f, ok := o.get("confirm_grace"); ok {
		c.ConfirmGrace = f.duration()
	}
	if f, ok := o.get("spends"); ok {
		f.spends(c)
	}
	if f, ok := o.get("pacing"); ok {
		f.pacing(c)
		if c.Pacing != PacingASAP && (c.Window.Rolling > 0 || c.Window.Until > 0) {
			f.fault("pacing spreads the units of a calendar window or of a lifetime with dates")
		}
	}
	if f, ok := o.get("counts_from"); ok && f.word("publish", "history") == 1 {
		c.CountsHistory = true
		f.history(c)
	}
	if f, ok := o.get("suppress"); ok {
		c.Suppress = f.suppression()
		if c.Scope == ScopeTotal {
			f.fault("suppress belongs to a cap of one person: a total has nobody who rejects")
		}
	}
	return c
}

func (o *object) capCounter(c *Cap) {
	if f, ok := o.need("scope"); ok {
		c.Scope = CapScope(max(f.word("person", "identity", "device", "total"), 0))
	}
	if f, ok := o.need("per"); ok {
		dimensions := []string{"all", "offer", "offer_group", "campaign", "channel", "placement"}
		c.Per = CapPer(max(f.word(dimensions...), 0))
	}
}

func (f field) capTargets(c *Cap) {
	o, ok := f.object()
	if !ok {
		return
	}
	if v, ok := o.get("offers"); ok {
		c.Offers = v.selector("offer")
	}
	if v, ok := o.get("channels"); ok {
		c.Channels = v.channels()
	}
	if v, ok := o.get("placements"); ok {
		c.Placements = v.unique(func(item field) string {
			id := item.id()
			item.refers("placement", id)
			return id
		})
	}
	if v, ok := o.get("message_classes"); ok {
		c.Classes = v.classes()
	}
	o.close()
	if len(f.node.Keys) == 0 {
		f.fault("an empty applies_to: leave the key out")
	}
	for _, name := range []string{"channels", "placements", "message_classes"} {
		if v, ok := o.get(name); ok && v.node.Kind == NodeList && len(v.node.List) == 0 {
			v.fault("an empty list: leave the key out")
		}
	}
}

// countNames are the outcomes in the order of the bits of CountOn.
func countNames() []string {
	return []string{
		"impression", "send", "delivered", "decision", "click", "accept", "convert", "reject",
		"dismiss",
	}
}

func (o *object) capWindow(c *Cap) {
	zone := "user"
	if c.Scope == ScopeTotal {
		zone = "workspace"
	}
	c.Window = Window{Every: 1, Zone: zone, WeekStart: 1}
	if f, ok := o.need("window"); ok {
		c.Window = f.window(zone)
		if c.Scope == ScopeTotal && c.Window.Unit != UnitNone && c.Window.Zone == "user" {
			f.fault("a total has one clock: zone workspace or UTC")
		}
	}
	if f, ok := o.need("limit"); ok {
		f.capLimit(c)
	}
	if f, ok := o.get("min_gap"); ok {
		c.MinGap = f.duration()
	}
}

func (o *object) offer(m Meta) *Offer {
	const most = 1e12 // keeps products of four operands far from infinity
	v := &Offer{
		Meta: m, Purpose: "marketing", Value: 1, Lever: 1,
		Propensity: Operand{Const: 1}, Context: Operand{Const: 1},
	}
	if f, ok := o.get("group"); ok {
		v.Group = f.group()
	}
	if f, ok := o.need("message_class"); ok {
		v.Class = MessageClass(max(f.word(classNames()...), 0))
	}
	if f, ok := o.get("purpose"); ok {
		v.Purpose = f.id()
	}
	if f, ok := o.get("value"); ok {
		v.Value = f.float(0, most)
	}
	if f, ok := o.get("cost"); ok {
		f.cost(v)
	}
	if f, ok := o.get("lever"); ok {
		v.Lever = f.float(0, most)
	}
	if f, ok := o.get("propensity"); ok {
		v.Propensity = f.operand(1)
	}
	if f, ok := o.get("context"); ok {
		v.Context = f.operand(most)
	}
	if f, ok := o.get("campaign"); ok {
		v.Campaign = f.id()
	}
	if f, ok := o.get("attributes"); ok {
		v.Attributes = f.scalars()
	}
	o.offerDates(v)
	v.Eligibility = o.tree("eligibility")
	v.Applicability = o.tree("applicability")
	v.Suitability = o.tree("suitability")
	if f, ok := o.get("caps"); ok {
		v.Caps = f.unique(func(item field) string {
			id := item.id()
			item.refers("cap", id)
			return id
		})
	}
	if f, ok := o.get("holdout"); ok {
		v.HoldoutCovers = f.boolean()
		if v.Class != Transactional {
			f.fault("holdout belongs to a transactional offer: marketing is always covered, " +
				"mandatory never")
		}
	}
	if f, ok := o.need("treatments"); ok {
		v.Treatments = f.treatments()
	}
	return v
}

func (o *object) offerDates(v *Offer) {
	v.StartMs, v.EndMs = o.dates()
}

// dates reads start and end, of which either may be absent (0).
func (o *object) dates() (start, end int64) {
	if f, ok := o.get("start"); ok {
		start = f.moment()
	}
	if f, ok := o.get("end"); ok {
		end = f.moment()
		if start != 0 && end != 0 && end <= start {
			f.fault("the end is not after the start")
		}
	}
	return start, end
}

// operand reads a number in [0, most], or {attribute: NAME}.
func (f field) operand(most float64) Operand {
	if f.node.Kind != NodeMap {
		return Operand{Const: f.float(0, most)}
	}
	o, _ := f.object()
	var p Operand
	if a, ok := o.need("attribute"); ok {
		p.Attribute = a.dataName()
		a.refers("attribute", p.Attribute)
		a.numeric(p.Attribute)
	}
	o.close()
	return p
}

// scalars keeps a map whose values are text, numbers or booleans.
func (f field) scalars() *Node {
	for _, e := range f.entries() {
		e.key.dataName()
		switch e.value.node.Kind {
		case NodeBool, NodeInt, NodeFloat, NodeString:
		default:
			if !e.value.node.bad {
				e.value.fault("text, a number, true or false is expected, not %s",
					e.value.node.describe())
			}
		}
	}
	if f.node.Kind != NodeMap {
		return nil
	}
	return f.node
}

func (f field) treatments() []*Treatment {
	const most = 64
	items := f.items(most)
	if f.node.Kind == NodeList && len(f.node.List) == 0 {
		f.fault("an offer has at least one treatment")
	}
	first := make(map[string]Pos)
	var out []*Treatment
	for _, item := range items {
		o, ok := item.object()
		if !ok {
			continue
		}
		t := o.treatment()
		if id, ok := o.get("id"); ok && t.ID != "" {
			if at, twice := first[t.ID]; twice {
				id.fault("treatment %q stands twice; the first is at %s", t.ID, at)
			} else {
				first[t.ID] = t.Pos
			}
		}
		out = append(out, t)
	}
	return out
}

func (o *object) treatment() *Treatment {
	t := &Treatment{Pos: o.node.Pos}
	if f, ok := o.need("id"); ok {
		t.ID = f.id()
	}
	known := false
	if f, ok := o.need("channel"); ok {
		t.Channel, known = f.channel()
	}
	if f, ok := o.get("placements"); ok {
		t.Placements = f.unique(func(item field) string {
			id := item.id()
			item.refers("placement", id)
			if known && id != "" {
				item.sameChannel(id, t.Channel)
			}
			return id
		})
		if f.node.Kind == NodeList && len(f.node.List) == 0 {
			f.fault("an empty list: leave the key out")
		}
	}
	if f, ok := o.get("locale"); ok {
		t.Locale = f.locale()
	}
	if f, ok := o.need("content"); ok {
		t.Content = f.content()
	}
	o.close()
	return t
}

func (f field) content() Content {
	c := Content{Pos: f.node.Pos}
	o, ok := f.object()
	if !ok {
		return c
	}
	if t, ok := o.need("type"); ok {
		c.Type = t.text()
		if c.Type != "" && c.Type != "json" && c.Type != "text" && c.Type != "html" {
			t.faultNear(c.Type, []string{"json", "text", "html"}, "content type "+
				strconv.Quote(Shorten(c.Type))+" is not supported yet: json, text, html are")
			c.Type = ""
		}
	}
	if b, ok := o.need("body"); ok {
		c.Body = b.node
		switch c.Type {
		case "json":
			b.expect(NodeMap, "a map (the body of json)")
		case "text", "html":
			b.text()
		}
	}
	o.close()
	return c
}
