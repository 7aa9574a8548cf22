package definition

import "slices"

func (o *object) placement(m Meta) *Placement {
	const most = 20
	p := &Placement{Meta: m, Count: 1}
	if f, ok := o.need("channel"); ok {
		p.Channel, _ = f.channel()
	}
	if f, ok := o.need("policy"); ok {
		p.Policy = f.id()
		f.refers("decision_policy", p.Policy)
	}
	if f, ok := o.get("count"); ok {
		p.Count = int(f.integer(1, most))
	}
	p.Sticky = p.Channel.Page()
	if f, ok := o.get("sticky"); ok {
		hold := f.word("none", "hold") == 1
		if hold && !p.Channel.Page() {
			f.fault("sticky: hold is for page channels: a message that was sent is not sent again " +
				"without a use of its own")
		}
		p.Sticky = hold
	}
	if f, ok := o.get("context"); ok {
		for _, e := range f.entries() {
			key := Property{Name: e.key.dataName(), Pos: e.key.node.Pos}
			if key.Name == "placement" || key.Name == "channel" {
				e.key.fault("%s is told by the slot that is filled: no request gives it", key.Name)
			}
			key.Type = e.value.attrType()
			e.value.oneContextType(m.ID, key)
			p.Context = append(p.Context, key)
		}
	}
	return p
}

func (o *object) policy(m Meta) *Policy {
	p := &Policy{
		Meta: m, Candidates: Selector{All: true},
		Propensity: 1, Context: 1, Value: 1, Lever: 1,
	}
	if f, ok := o.get("candidates"); ok {
		if c, ok := f.object(); ok {
			if offers, ok := c.need("offers"); ok {
				p.Candidates = offers.selector("offer")
			}
			c.close()
		}
	}
	if f, ok := o.get("ranking"); ok {
		if r, ok := f.object(); ok {
			r.ranking(p)
			r.close()
		}
	}
	if f, ok := o.get("exploration"); ok {
		if v := f.percent(); v > 0 {
			f.fault("exploration other than 0%% is not supported yet")
		}
	}
	if f, ok := o.get("fallback"); ok {
		f.fallback(p)
	}
	return p
}

func (o *object) ranking(p *Policy) {
	by := -1
	if f, ok := o.need("by"); ok {
		by = f.word("product", "order", "formula")
		if by == 2 {
			f.fault("by: formula is not supported yet")
		}
	}
	parts := map[string]int{
		"propensity": 0, "context": 0, "value": 0, "lever": 0, "offers": 1, "formula": 2,
	}
	for _, name := range []string{
		"propensity", "context", "value", "lever", "offers", "formula",
	} {
		f, ok := o.get(name)
		if ok && by >= 0 && by != parts[name] {
			f.fault("%s does not belong to a ranking by %s", name,
				[]string{"product", "order", "formula"}[by])
		}
	}
	switch by {
	case 0:
		o.exponents(p)
	case 1:
		p.By = RankOrder
		if f, ok := o.need("offers"); ok {
			p.Order = f.unique(func(item field) string {
				id := item.id()
				item.refers("offer", id)
				return id
			})
		}
	}
}

func (o *object) exponents(p *Policy) {
	const most = 4
	for _, e := range []struct {
		name string
		into *float64
	}{
		{"propensity", &p.Propensity},
		{"context", &p.Context},
		{"value", &p.Value},
		{"lever", &p.Lever},
	} {
		f, ok := o.get(e.name)
		if !ok {
			continue
		}
		v := f.node.Float
		if f.node.Kind == NodeInt {
			v = float64(f.node.Int)
		}
		if f.node.Kind <= NodeFloat && (v < 0 || v > most) {
			f.fault("an exponent outside 0 to %d is not supported yet", most)
			continue
		}
		*e.into = f.float(0, most)
	}
}

func (f field) fallback(p *Policy) {
	o, ok := f.object()
	if !ok {
		return
	}
	if v, ok := o.need("offer"); ok {
		p.Fallback = v.id()
		v.refers("offer", p.Fallback)
	}
	if v, ok := o.get("universal"); ok {
		p.Universal = v.boolean()
		if p.Universal {
			v.onPagesOnly(p.ID)
		}
	}
	o.close()
}

func (o *object) experiment(m Meta) *Experiment {
	const whole = 10_000
	e := &Experiment{Meta: m, Unit: "user", Coverage: whole}
	if f, ok := o.need("layer"); ok {
		e.Layer = f.id()
		f.refers("layer", e.Layer)
	}
	if f, ok := o.need("range"); ok {
		e.Range = f.percentRange()
		if e.Layer != "" && e.Range.Until > 0 {
			f.disjoint(e)
		}
	}
	if f, ok := o.get("unit"); ok {
		if unit := f.text(); unit != "" && unit != "user" {
			f.fault("unit: %s is not supported yet", Shorten(unit))
		}
	}
	if f, ok := o.get("coverage"); ok {
		e.Coverage = max(f.percent(), 0)
	}
	e.Targeting = o.tree("targeting")
	if f, ok := o.need("variants"); ok {
		e.Variants = f.variants()
	}
	return e
}

func (f field) variants() []Variant {
	const most = 200
	items := f.items(most)
	if f.node.Kind == NodeList && len(f.node.List) == 0 {
		f.fault("an experiment has at least one variant")
	}
	var out []Variant
	total, read := 0.0, 0
	for _, item := range items {
		o, ok := item.object()
		if !ok {
			continue
		}
		v := o.variant()
		o.close()
		if slices.ContainsFunc(out, func(w Variant) bool { return w.ID == v.ID && v.ID != "" }) {
			id, _ := o.get("id")
			id.fault("variant %q stands twice", v.ID)
		}
		out, total, read = append(out, v), total+v.Weight, read+1
	}
	if read > 0 && read == len(items) && total <= 0 {
		f.fault("the weights add up to nothing")
	}
	return out
}

func (o *object) variant() Variant {
	const mostWeight = 1e9
	v := Variant{Pos: o.node.Pos}
	if f, ok := o.need("id"); ok {
		v.ID = f.id()
	}
	if f, ok := o.need("weight"); ok {
		v.Weight = f.float(0, mostWeight)
	}
	f, ok := o.get("set")
	if !ok {
		return v
	}
	set, ok := f.object()
	if !ok {
		return v
	}
	if offers, ok := set.get("offers"); ok {
		v.Offers = make(map[string]OfferChange)
		for _, e := range offers.entries() {
			if id := e.key.id(); id != "" {
				e.key.refers("offer", id)
				v.Offers[id] = e.value.offerChange(id)
			}
		}
	}
	if placements, ok := set.get("placements"); ok {
		v.Placements = make(map[string]PlacementChange)
		for _, e := range placements.entries() {
			if id := e.key.id(); id != "" {
				e.key.refers("placement", id)
				v.Placements[id] = e.value.placementChange()
			}
		}
	}
	set.close()
	return v
}

// offerChange reads false, or {treatment, lever}.
func (f field) offerChange(offer string) OfferChange {
	const mostLever = 1e12
	if f.node.Kind == NodeBool && !f.node.Bool {
		return OfferChange{Exclude: true}
	}
	var c OfferChange
	if !f.expect(NodeMap, "false (not offered) or a map of treatment and lever") {
		return c
	}
	o, _ := f.object()
	if t, ok := o.get("treatment"); ok {
		c.Treatment = t.id()
		t.treatmentOf(offer, c.Treatment)
	}
	if l, ok := o.get("lever"); ok {
		lever := l.float(0, mostLever)
		c.Lever = &lever
	}
	o.close()
	if len(f.node.Keys) == 0 {
		f.fault("an empty change: false, or a map of treatment and lever is expected")
	}
	return c
}

func (f field) placementChange() PlacementChange {
	var c PlacementChange
	o, ok := f.object()
	if !ok {
		return c
	}
	if p, ok := o.need("policy"); ok {
		c.Policy = p.id()
		p.refers("decision_policy", c.Policy)
	}
	o.close()
	return c
}

func (o *object) holdout(m Meta) *Holdout {
	h := &Holdout{Meta: m, Covers: Selector{All: true}, Classes: []MessageClass{Marketing}}
	if f, ok := o.need("range"); ok {
		h.Range = f.percentRange()
	}
	h.StartMs, h.EndMs = o.dates()
	if f, ok := o.get("covers"); ok {
		if c, ok := f.object(); ok {
			if offers, ok := c.need("offers"); ok {
				h.Covers = offers.selector("offer")
			}
			c.close()
		}
	}
	if f, ok := o.get("classes"); ok {
		h.Classes = f.classes()
		if slices.Contains(h.Classes, Mandatory) {
			f.fault("a holdout never binds mandatory messages")
		}
	}
	return h
}
