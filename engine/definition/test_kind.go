package definition

import (
	"slices"
	"strconv"
)

func reasonCodes() []string {
	return []string{
		"inactive", "not_started", "expired", "channel_mismatch", "placement_mismatch",
		"blocked_by_request", "ineligible", "not_applicable", "not_suitable", "value_unknown",
		"consent_missing", "blacklisted", "quiet_hours", "timezone_unknown", "capped_user",
		"capped_contact", "capped_total", "min_gap", "suppressed", "holdout",
		"experiment_excluded", "lost_arbitration", "duplicate_in_request", "no_treatment",
		"render_error", "deadline", "user_not_found", "error",
	}
}

func (o *object) test(m Meta) *Test {
	t := &Test{Meta: m}
	if f, ok := o.need("at"); ok {
		t.AtMs = f.moment()
	}
	if f, ok := o.need("user"); ok {
		t.User = f.testUser()
	}
	if f, ok := o.need("decide"); ok {
		if d, ok := f.object(); ok {
			if p, ok := d.need("placement"); ok {
				t.Placement = p.id()
				p.refers("placement", t.Placement)
			}
			if c, ok := d.get("context"); ok && c.expect(NodeMap, "a map") {
				t.Context = c.node
			}
			d.close()
		}
	}
	if f, ok := o.get("assign"); ok {
		t.Assign = make(map[string]string)
		for _, e := range f.entries() {
			experiment, variant := e.key.id(), e.value.id()
			e.key.refers("experiment", experiment)
			e.value.variantOf(experiment, variant)
			if experiment != "" {
				t.Assign[experiment] = variant
			}
		}
	}
	if f, ok := o.need("expect"); ok {
		if e, ok := f.object(); ok {
			t.Expect = e.expectation()
			e.close()
		}
	}
	return t
}

// testUser checks the outer shape of a user; its values are the engine's to read.
func (f field) testUser() *Node {
	const longestID = 128
	o, ok := f.object()
	if !ok {
		return nil
	}
	if id, ok := o.need("id"); ok {
		if text := id.text(); len(text) > longestID {
			id.fault("a user id has at most %d bytes", longestID)
		}
	}
	for _, name := range []string{"attributes", "addresses"} {
		if v, ok := o.get(name); ok {
			v.expect(NodeMap, "a map")
		}
	}
	for _, name := range []string{"tags", "events", "identities", "consents", "blacklist"} {
		if v, ok := o.get(name); ok {
			v.expect(NodeList, "a list")
		}
	}
	if v, ok := o.get("tiers"); ok {
		v.testTiers()
	}
	if v, ok := o.get("segments"); ok {
		v.testSegments()
	}
	if v, ok := o.get("timezone"); ok {
		v.zone()
	}
	if v, ok := o.get("locale"); ok {
		v.locale()
	}
	o.close()
	return f.node
}

// testTiers reads {model: level}.
func (f field) testTiers() {
	for _, e := range f.entries() {
		model, level := e.key.id(), e.value.text()
		e.key.refers("tier", model)
		e.value.afterAll(func(r *reading) {
			for _, t := range r.set.Tiers {
				if t.ID == model && level != "" && !slices.Contains(t.Levels, level) {
					e.value.faultNear(level, t.Levels,
						"tier "+model+" has no level "+strconv.Quote(level))
				}
			}
		})
	}
}

// testSegments reads the static segments that a person is in: what dynamic ones
// hold their rules say.
func (f field) testSegments() {
	for _, item := range f.items(MaxKeys) {
		id := item.id()
		item.refers("segment", id)
		item.afterAll(func(r *reading) {
			for _, s := range r.set.Segments {
				if s.ID == id && !s.Static {
					item.fault("segment %s has a rule, which says who is in it", id)
				}
			}
		})
	}
}

func (o *object) expectation() TestExpect {
	var e TestExpect
	answers := 0
	if f, ok := o.get("offer"); ok {
		answers++
		e.Offer = f.id()
		f.refers("offer", e.Offer)
	}
	if f, ok := o.get("fallback"); ok {
		answers++
		e.Fallback = f.id()
		f.refers("offer", e.Fallback)
	}
	if f, ok := o.get("no_decision"); ok {
		answers++
		if f.word(reasonCodes()...) >= 0 {
			e.NoDecision = f.node.Text
		}
	}
	treatment, named := o.get("treatment")
	if named {
		e.Treatment = treatment.id()
		if shown := e.Offer + e.Fallback; answers == 1 && shown != "" {
			treatment.treatmentOf(shown, e.Treatment)
		}
	}
	content, held := o.get("content")
	if held {
		e.Content = content.node
		if content.node.Kind != NodeMap && content.node.Kind != NodeString && !content.node.bad {
			content.fault("a map (part of a json body) or text is expected, not %s",
				content.node.describe())
		}
	}
	if answers != 1 {
		o.fault("exactly one of offer, fallback, no_decision is expected")
	} else if o.node.Get("no_decision") != nil && (named || held) {
		o.fault("no_decision has neither treatment nor content")
	}
	return e
}
