package decide

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"tact/engine/definition"
)

// facts is a person and a request as the model sees them: plain Go values.
type facts struct {
	id        string
	attrs     map[string]float64
	tags      map[string]bool
	consents  map[string]bool // "purpose channel" → granted
	blacklist map[definition.Channel]bool
	listed    map[definition.Channel]bool // on a suppression list
	addresses map[definition.Channel]bool
	zone      string
	page      string // context; "" = not given
	identity  uint32 // named by the request; 0 = none
	device    uint32

	slot *definition.Placement // that is being filled
}

// atom is a rule the generator made: the document and, beside it, its meaning.
type atom struct {
	node  *definition.Node
	holds func(f *facts) bool
}

func text(s string) *definition.Node {
	return &definition.Node{Kind: definition.NodeString, Text: s}
}

func number(n int64) *definition.Node {
	return &definition.Node{Kind: definition.NodeInt, Int: n, Text: fmt.Sprint(n)}
}

func list(items ...*definition.Node) *definition.Node {
	return &definition.Node{Kind: definition.NodeList, List: items}
}

// mapping takes key, value, key, value …
func mapping(pairs ...any) *definition.Node {
	n := &definition.Node{Kind: definition.NodeMap}
	for i := 0; i < len(pairs); i += 2 {
		n.Keys = append(n.Keys, definition.Key{
			Name: pairs[i].(string), Value: pairs[i+1].(*definition.Node),
		})
	}
	return n
}

// randomRule makes a condition tree over two attributes, two tags, a context key and
// the slot.
func randomRule(r *rand.Rand, depth int) atom {
	if depth > 0 && r.IntN(2) == 0 {
		a, b := randomRule(r, depth-1), randomRule(r, depth-1)
		switch r.IntN(3) {
		case 0:
			return atom{mapping("all", list(a.node, b.node)), func(f *facts) bool {
				return a.holds(f) && b.holds(f)
			}}
		case 1:
			return atom{mapping("any", list(a.node, b.node)), func(f *facts) bool {
				return a.holds(f) || b.holds(f)
			}}
		}
		return atom{mapping("not", a.node), func(f *facts) bool { return !a.holds(f) }}
	}
	switch r.IntN(5) {
	case 4:
		return slotRule(r)
	case 0:
		limit := int64(r.IntN(3))
		return atom{mapping("attribute", text("age"), "gte", number(limit)), func(f *facts) bool {
			x, ok := f.attrs["age"]
			return ok && x >= float64(limit)
		}}
	case 1, 2:
		tag := []string{"t1", "t2"}[r.IntN(2)]
		return atom{mapping("tag", text(tag)), func(f *facts) bool { return f.tags[tag] }}
	}
	page := []string{"home", "cart"}[r.IntN(2)]
	return atom{mapping("context", text("page"), "is", text(page)), func(f *facts) bool {
		return f.page == page
	}}
}

// slotRule makes a condition on the placement or the channel.
func slotRule(r *rand.Rand) atom {
	if r.IntN(3) == 0 {
		ch := one(r, definition.ChannelWeb, definition.ChannelSMS)
		return atom{
			mapping("context", text("channel"), "is_not", text(ch.String())),
			func(f *facts) bool { return f.slot.Channel != ch },
		}
	}
	a, b := fmt.Sprintf("p%d", r.IntN(3)), fmt.Sprintf("p%d", r.IntN(3))
	return atom{
		mapping("context", text("placement"), "in", list(text(a), text(b))),
		func(f *facts) bool { return f.slot.ID == a || f.slot.ID == b },
	}
}

// catalogue is a random set of definitions with the meaning of its rules.
type catalogue struct {
	set   *definition.Set
	rules map[string][3]*atom // by offer
	wants map[string]*atom    // targeting by experiment
}

func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func meta(kind, id string) definition.Meta { return definition.Meta{Kind: kind, ID: id} }

func randomCatalogue(r *rand.Rand) *catalogue {
	c := &catalogue{
		set: &definition.Set{}, rules: map[string][3]*atom{}, wants: map[string]*atom{},
	}
	c.workspace(r)
	age := &definition.Attribute{Meta: meta("attribute", "age"), Type: definition.TypeInt}
	like := &definition.Attribute{Meta: meta("attribute", "like"), Type: definition.TypeFloat}
	c.set.Attributes = []*definition.Attribute{age, like}
	for _, id := range []string{"t1", "t2"} {
		c.set.Tags = append(c.set.Tags, &definition.Tag{Meta: meta("tag", id)})
	}
	channels := []definition.Channel{
		definition.ChannelWeb, definition.ChannelSMS, definition.ChannelWeb,
	}
	for i, ch := range channels {
		c.set.Placements = append(c.set.Placements, &definition.Placement{
			Meta: meta("placement", fmt.Sprintf("p%d", i)), Channel: ch,
			Policy: fmt.Sprintf("pol%d", r.IntN(2)), Count: 1 + r.IntN(2), Sticky: r.IntN(2) == 0,
			Context: []definition.Property{{Name: "page", Type: definition.TypeString}},
		})
	}
	for i := range 3 + r.IntN(4) {
		c.offer(r, fmt.Sprintf("o%d", i))
	}
	for i := range r.IntN(4) {
		c.cap(r, fmt.Sprintf("c%d", i))
	}
	for i := range 2 {
		c.policy(r, fmt.Sprintf("pol%d", i))
	}
	if r.IntN(2) == 0 {
		c.experiments(r)
	}
	for i := range r.IntN(2) {
		from := r.IntN(8000)
		h := &definition.Holdout{
			Meta: meta("holdout", fmt.Sprintf("h%d", i)), Covers: c.selector(r),
			Range:   definition.Range{From: from, Until: from + 2000},
			Classes: one(r, []definition.MessageClass{0}, []definition.MessageClass{1, 0}),
		}
		c.set.Holdouts = append(c.set.Holdouts, h)
	}
	return c
}

func (c *catalogue) workspace(r *rand.Rand) {
	w := definition.Workspace{Meta: meta("workspace", "default")}
	w.Timezone = one(r, "UTC", "Asia/Shanghai", "America/New_York")
	w.Zones = one(r, []string{w.Timezone}, []string{"Asia/Kolkata", "America/New_York"})
	w.ProtectZone = r.IntN(2) == 0
	w.ConsentRequired = one(r, nil, []definition.Channel{definition.ChannelSMS})
	if r.IntN(2) == 0 {
		from := r.IntN(24) * 60
		w.QuietHours = &definition.QuietHours{
			Channels: []definition.Channel{definition.ChannelSMS, definition.ChannelWeb}[:1+r.IntN(2)],
			Classes: one(r, []definition.MessageClass{definition.Marketing},
				[]definition.MessageClass{definition.Marketing, definition.Transactional}),
			Windows: []definition.MinuteSpan{{From: from, Until: (from + 390) % 1440}},
		}
	}
	c.set.Workspace = w
	c.quiet(r)
}

// quiet makes a calendar and up to three documents of quiet hours.
func (c *catalogue) quiet(r *rand.Rand) {
	first := int32(startMs / 86_400_000)
	cal := &definition.Calendar{Meta: meta("calendar", "cal")}
	for i := range 12 {
		from := first + int32(i*5) + r.Int32N(5)
		cal.Days = append(cal.Days, definition.CalendarDay{
			ID: one(r, "", "a", "b"), From: from, Until: from + 1 + r.Int32N(4),
		})
	}
	c.set.Calendars = []*definition.Calendar{cal}
	c.set.Segments = []*definition.Segment{{
		Meta: meta("segment", "tagged"), Rule: mapping("tag", text("t1")),
	}, {
		Meta: meta("segment", "here"), Rule: mapping("context", text("placement"), "is", text("p0")),
	}}
	for i := range r.IntN(4) {
		q := &definition.QuietRule{
			Meta: meta("quiet_hours", fmt.Sprintf("q%d", i)), Offers: c.selector(r),
			Classes: one(r, []definition.MessageClass{definition.Marketing},
				[]definition.MessageClass{definition.Transactional},
				[]definition.MessageClass{definition.Marketing, definition.Transactional}),
			Segment: one(r, "", "", "tagged", "here"), Hold: r.IntN(2) == 0,
		}
		for range r.IntN(3) {
			from := r.IntN(24) * 60
			q.Windows = append(q.Windows, definition.MinuteSpan{
				From: from, Until: (from + 390) % 1440, Days: one(r, 0, 0, uint8(r.IntN(128))),
			})
		}
		if len(q.Windows) == 0 || r.IntN(2) == 0 {
			q.On = one(r, []string{"cal"}, []string{"cal/a"}, []string{"cal/a", "cal/b"})
		}
		if r.IntN(3) == 0 {
			q.Except = one(r, []string{"cal/b"}, []string{"cal/a"})
		}
		if r.IntN(3) == 0 {
			q.Channels = []definition.Channel{one(r, definition.ChannelWeb, definition.ChannelSMS)}
		}
		if r.IntN(3) == 0 {
			q.Placements = []string{"p0", "p1"}
		}
		c.set.Quiet = append(c.set.Quiet, q)
	}
}

func (c *catalogue) selector(r *rand.Rand) definition.Selector {
	switch r.IntN(5) {
	case 0:
		return definition.Selector{IDs: []string{"o0", "o2", "o3"}}
	case 1:
		return definition.Selector{Groups: []string{"g"}}
	case 2:
		return definition.Selector{Not: &definition.Selector{IDs: []string{"o1"}}}
	case 3:
		return definition.Selector{
			IDs: []string{"o0"}, Groups: []string{"g/h"}, Labels: map[string]string{"k": "v"},
			Not: &definition.Selector{IDs: []string{"o4"}},
		}
	}
	return definition.Selector{All: true}
}

func (c *catalogue) offer(r *rand.Rand, id string) {
	o := &definition.Offer{
		Meta: meta("offer", id), Group: one(r, "", "g", "g/h", "other"),
		Class: one(r, definition.Marketing, definition.Marketing, definition.Transactional,
			definition.Mandatory),
		Purpose: one(r, "marketing", "news"), Value: one(r, 1.0, 1, 2, 0.3), Lever: one(r, 1.0, 1, 0.7),
		Propensity: definition.Operand{Const: 1}, Context: definition.Operand{Const: 1},
		Campaign: one(r, "", "q4"), HoldoutCovers: r.IntN(2) == 0,
	}
	switch r.IntN(4) {
	case 0:
		o.Propensity = definition.Operand{Attribute: "like"}
	case 1:
		o.Propensity = definition.Operand{Const: one(r, 0.1, 0.5)}
	case 2:
		o.Context = definition.Operand{Attribute: "age"}
	}
	if r.IntN(4) == 0 {
		o.Labels = map[string]string{"k": one(r, "v", "w")}
	}
	if r.IntN(6) == 0 {
		o.StartMs = startMs + r.Int64N(spanMs)
	}
	if r.IntN(6) == 0 {
		o.EndMs = startMs + r.Int64N(spanMs)
	}
	var rules [3]*atom
	for i, into := range []**definition.Node{&o.Eligibility, &o.Applicability, &o.Suitability} {
		if r.IntN(3) == 0 {
			a := randomRule(r, 2)
			rules[i], *into = &a, a.node
		}
	}
	c.rules[id] = rules
	for i := range 1 + r.IntN(3) {
		t := &definition.Treatment{
			ID: fmt.Sprintf("t%d", i), Channel: one(r, definition.ChannelWeb, definition.ChannelSMS),
		}
		if t.Channel == definition.ChannelWeb && r.IntN(2) == 0 {
			t.Placements = []string{one(r, "p0", "p2")}
		}
		o.Treatments = append(o.Treatments, t)
	}
	if r.IntN(4) == 0 {
		o.Caps = []string{"c0"}
	}
	c.set.Offers = append(c.set.Offers, o)
}

func (c *catalogue) cap(r *rand.Rand, id string) {
	d := &definition.Cap{
		Meta: meta("cap", id), Scope: one(r, definition.ScopePerson, definition.ScopePerson,
			definition.ScopePerson, definition.ScopeTotal, definition.ScopeIdentity,
			definition.ScopeDevice),
		Per: definition.CapPer(r.IntN(6)), Offers: c.selector(r), ConfirmGrace: 300,
		CountOn: one(r, definition.CountImpression, definition.CountImpression|definition.CountSend,
			definition.CountDecision, definition.CountDecision, definition.CountClick,
			definition.CountSend),
		Window: definition.Window{Every: 1, Zone: one(r, "user", "workspace", "UTC"), WeekStart: 1},
		Limit:  one(r, 0, 1, 1, 2, 3),
		Hold:   one(r, int64(0), 0, 120, 7200),
	}
	switch r.IntN(3) {
	case 0:
		d.Window.Unit = definition.Unit(1 + r.IntN(6))
		d.Window.Every, d.Window.WeekStart = 1+r.IntN(3), r.IntN(7)
	case 1:
		d.Window.Rolling = one(r, int64(3600), 86400, 7*86400)
	}
	if d.Scope == definition.ScopeTotal {
		d.Window.Rolling = 0
	} else if r.IntN(3) == 0 {
		d.MinGap = one(r, int64(600), 7200)
	}
	if r.IntN(6) == 0 {
		from := startMs/1000 + r.Int64N(4*86400) - 86400
		d.Window = definition.Window{From: from, Until: from + 1 + r.Int64N(3*86400), Zone: "user"}
	}
	if d.Scope != definition.ScopeTotal && r.IntN(4) == 0 {
		d.LimitFrom, d.LimitMax = one(r, "age", "like"), 2
		d.Limit = min(d.Limit, 2)
	}
	if d.Scope != definition.ScopeTotal && r.IntN(4) == 0 {
		d.Suppress = &definition.Suppression{
			After: 1 + r.IntN(2), Of: definition.CountClick, For: one(r, int64(3600), 3*86400),
		}
	}
	if r.IntN(4) == 0 {
		d.Channels = []definition.Channel{one(r, definition.ChannelWeb, definition.ChannelSMS)}
	}
	if r.IntN(4) == 0 {
		d.Placements = []string{"p0", "p1"}
	}
	if r.IntN(4) == 0 {
		d.Classes = []definition.MessageClass{definition.Marketing, definition.Mandatory}
	}
	if r.IntN(3) == 0 {
		d.Exempt = []definition.MessageClass{definition.Mandatory}
	}
	c.set.Caps = append(c.set.Caps, d)
	if id == "c0" {
		return
	}
}

func (c *catalogue) policy(r *rand.Rand, id string) {
	p := &definition.Policy{
		Meta: meta("decision_policy", id), Candidates: c.selector(r),
		Propensity: one(r, 0.0, 1, 2, 0.5), Context: one(r, 1.0, 0), Value: one(r, 1.0, 2, 1.5),
		Lever: one(r, 1.0, 0),
	}
	if r.IntN(3) == 0 {
		p.By = definition.RankOrder
		p.Order = []string{"o2", "o0"}
	}
	if r.IntN(2) == 0 {
		p.Fallback = one(r, "o0", "o1", "o2")
		p.Universal = r.IntN(2) == 0
	}
	c.set.Policies = append(c.set.Policies, p)
}

func (c *catalogue) experiments(r *rand.Rand) {
	for i := range 1 + r.IntN(2) {
		e := &definition.Experiment{
			Meta: meta("experiment", fmt.Sprintf("e%d", i)), Unit: "user",
			Range: definition.Range{Until: 10000}, Coverage: one(r, 10000, 7000),
		}
		if r.IntN(2) == 0 {
			a := randomRule(r, 1)
			e.Targeting, c.wants[e.ID] = a.node, &a
		}
		for k := range 3 {
			v := definition.Variant{ID: fmt.Sprintf("v%d", k), Weight: 1}
			if k > 0 {
				v.Offers = map[string]definition.OfferChange{}
				for range 1 + r.IntN(2) {
					o := c.set.Offers[r.IntN(len(c.set.Offers))]
					lever := one(r, 0.0, 3, 0.5)
					v.Offers[o.ID] = one(r, definition.OfferChange{Exclude: true},
						definition.OfferChange{Lever: &lever},
						definition.OfferChange{Treatment: o.Treatments[len(o.Treatments)-1].ID})
				}
			}
			if k == 2 && r.IntN(2) == 0 {
				v.Placements = map[string]definition.PlacementChange{"p0": {Policy: "pol1"}}
			}
			e.Variants = append(e.Variants, v)
		}
		c.set.Experiments = append(c.set.Experiments, e)
	}
}

// fix drops references to caps that were not generated, and moves their dates to
// where now is.
func (c *catalogue) fix(now int64) {
	for _, d := range c.set.Caps {
		if d.Window.Until != 0 {
			d.Window.From += (now - startMs) / 1000
			d.Window.Until += (now - startMs) / 1000
		}
	}
	for _, o := range c.set.Offers {
		o.Caps = slices.DeleteFunc(o.Caps, func(id string) bool {
			return !slices.ContainsFunc(c.set.Caps, func(d *definition.Cap) bool { return d.ID == id })
		})
	}
}

const (
	startMs = int64(1_772_409_600_000) // 2 March 2026
	spanMs  = int64(60 * 86_400_000)
)

func randomFacts(r *rand.Rand, id string) *facts {
	f := &facts{
		id: id, attrs: map[string]float64{}, tags: map[string]bool{}, consents: map[string]bool{},
		blacklist: map[definition.Channel]bool{}, addresses: map[definition.Channel]bool{},
		zone: one(r, "", "Asia/Shanghai", "America/New_York", "Europe/Berlin"),
	}
	f.identity, f.device = one(r, uint32(0), 7, 7, 8), one(r, uint32(0), 7, 9)
	if r.IntN(3) > 0 {
		f.attrs["age"] = float64(r.IntN(4))
	}
	if r.IntN(3) > 0 {
		f.attrs["like"] = one(r, 0.0, 0.25, 0.9, 1, 1.5)
	}
	for _, tag := range []string{"t1", "t2"} {
		f.tags[tag] = r.IntN(2) == 0
	}
	for _, purpose := range []string{"marketing", "news", "personalisation"} {
		for _, ch := range []definition.Channel{definition.ChannelWeb, definition.ChannelSMS} {
			if n := r.IntN(5); n < 2 || ch == definition.ChannelSMS && n < 4 {
				f.consents[fmt.Sprint(purpose, " ", uint8(ch))] = n > 0
			}
		}
	}
	f.blacklist[definition.ChannelSMS] = r.IntN(6) == 0
	f.blacklist[definition.ChannelWeb] = r.IntN(12) == 0
	f.addresses[definition.ChannelSMS] = r.IntN(4) > 0
	f.listed = map[definition.Channel]bool{
		definition.ChannelSMS: r.IntN(8) == 0, definition.ChannelWeb: r.IntN(16) == 0,
	}
	return f
}
