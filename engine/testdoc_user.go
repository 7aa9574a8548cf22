package engine

import (
	"fmt"
	"time"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// rawOf is the RawValue of a document's value.
func rawOf(n *definition.Node) RawValue {
	switch n.Kind {
	case definition.NodeNull:
		return RawValue{}
	case definition.NodeBool:
		return RawValue{Kind: RawBool, Bool: n.Bool}
	case definition.NodeInt, definition.NodeFloat:
		return RawValue{Kind: RawNumber, Text: []byte(n.Text)}
	case definition.NodeString:
		return RawValue{Kind: RawString, Text: []byte(n.Text)}
	case definition.NodeList:
		v := RawValue{Kind: RawList}
		for _, item := range n.List {
			if item.Kind != definition.NodeString {
				return RawValue{Kind: RawOther, Text: n.AppendJSON(nil)}
			}
			v.List = append(v.List, []byte(item.Text))
		}
		return v
	}
	return RawValue{Kind: RawOther, Text: n.AppendJSON(nil)}
}

// docReader reads the user of a test; the first fault stays.
type docReader struct{ err error }

func (r *docReader) fault(n *definition.Node, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: user: %s", n.Pos, fmt.Sprintf(format, args...))
	}
}

func (r *docReader) text(n *definition.Node) []byte {
	if n == nil {
		return nil
	}
	if n.Kind != definition.NodeString {
		r.fault(n, "want a string")
		return nil
	}
	return []byte(n.Text)
}

func (r *docReader) texts(n *definition.Node) [][]byte {
	if n.Kind != definition.NodeList {
		r.fault(n, "want a list of strings")
		return nil
	}
	out := make([][]byte, 0, len(n.List))
	for _, item := range n.List {
		out = append(out, r.text(item))
	}
	return out
}

// userDocOf reads the `user` of a test: the shape of POST /v1/users plus id.
func userDocOf(n *definition.Node) (*UserDoc, error) {
	doc := &UserDoc{}
	if n == nil {
		return doc, nil
	}
	r := &docReader{}
	for _, k := range n.Keys {
		r.member(doc, k)
	}
	return doc, r.err
}

func (r *docReader) member(doc *UserDoc, k definition.Key) {
	switch k.Name {
	case "id", "user_id":
		doc.UserID = r.text(k.Value)
	case "attributes":
		for _, a := range k.Value.Keys {
			doc.Attributes = append(doc.Attributes, NamedValue{[]byte(a.Name), rawOf(a.Value)})
		}
	case "tags":
		for _, t := range k.Value.List {
			if t.Kind == definition.NodeString {
				doc.Tags = append(doc.Tags, TagDoc{Name: []byte(t.Text)})
				continue
			}
			doc.Tags = append(doc.Tags, TagDoc{
				Name: r.text(t.Get("tag")), Is: r.text(t.Get("is")), TTL: r.text(t.Get("ttl")),
			})
		}
	case "tiers":
		for _, t := range k.Value.Keys {
			doc.Tiers = append(doc.Tiers, TierDoc{[]byte(t.Name), r.text(t.Value)})
		}
	case "segments": // read by testRun.person
	case "consents":
		for _, c := range k.Value.List {
			doc.Consents = append(doc.Consents, r.consent(c))
		}
	case "blacklist":
		doc.HasBlacklist, doc.Blacklist = true, r.texts(k.Value)
	case "addresses":
		for _, a := range k.Value.Keys {
			address := AddressDoc{Channel: []byte(a.Name)}
			if a.Value.Kind == definition.NodeList {
				address.Values = r.texts(a.Value)
			} else {
				address.Values = [][]byte{r.text(a.Value)}
			}
			doc.Addresses = append(doc.Addresses, address)
		}
	case "timezone":
		doc.HasTimezone, doc.Timezone = true, r.text(k.Value)
	case "locale":
		doc.HasLocale, doc.Locale = true, r.text(k.Value)
	case "identities", "events": // events are read by testRun.history
	default:
		r.fault(k.Value, "unknown field %q", k.Name)
	}
}

func (r *docReader) consent(n *definition.Node) ConsentDoc {
	c := ConsentDoc{
		Purpose: r.text(n.Get("purpose")), Channel: r.text(n.Get("channel")),
		Source: r.text(n.Get("source")), Text: r.text(n.Get("text_version")),
	}
	if g := n.Get("granted"); g != nil {
		c.Granted = g.Bool
	}
	if at := r.text(n.Get("at")); len(at) > 0 {
		t, err := time.Parse(time.RFC3339Nano, string(at))
		if err != nil {
			r.fault(n, "bad time %q", at)
		}
		c.At = storage.UnixMsec(t.UnixMilli())
	}
	return c
}

// history packs what the test's user did: `events` of the user, in the order
// given, which is the order in which they came. Each is an event, with the shape
// of POST /v1/events, or {outcome: NAME, offer: ID, occurred_at: TIME}.
func (t *testRun) history(names *nameSource) (storage.Tail, storage.Activity, error) {
	list := t.def.User.Get("events")
	if list == nil || len(list.List) == 0 {
		return storage.Tail{}, storage.Activity{}, nil
	}
	effects := make([]storage.Effect, 0, len(list.List))
	for _, n := range list.List {
		r := &docReader{}
		e, err := t.fact(n, r, names)
		if err == nil {
			err = r.err
		}
		if err != nil {
			return storage.Tail{}, storage.Activity{}, fmt.Errorf("%s: %w", n.Pos, err)
		}
		effects = append(effects, e)
	}
	return storage.BuildHistory(effects, t.work.now)
}

// fact reads one event or outcome.
func (t *testRun) fact(n *definition.Node, r *docReader, names *nameSource) (
	e storage.Effect, err error,
) {
	if n.Kind != definition.NodeMap {
		return e, fmt.Errorf("events: want a map such as {event: NAME, occurred_at: TIME}")
	}
	doc := &EventDoc{}
	var outcome, offer []byte
	for _, k := range n.Keys {
		switch k.Name {
		case "event":
			doc.Event = r.text(k.Value)
		case "outcome":
			outcome = r.text(k.Value)
		case "offer":
			offer = r.text(k.Value)
		case "occurred_at":
			at, err := time.Parse(time.RFC3339Nano, string(r.text(k.Value)))
			if err != nil {
				r.fault(k.Value, "bad time %q", k.Value.Text)
			}
			doc.OccurredAt = storage.UnixMsec(at.UnixMilli())
		case "properties":
			for _, p := range k.Value.Keys {
				doc.Properties = append(doc.Properties, NamedValue{[]byte(p.Name), rawOf(p.Value)})
			}
		case "event_id":
		default:
			r.fault(k.Value, "unknown field %q of an event", k.Name)
		}
	}
	at, clamped := clampEventTime(doc.OccurredAt, t.work.now)
	shift := t.snap.shift(at)
	if len(outcome) > 0 {
		return t.outcomeFact(outcome, offer, storage.OutcomeEffect{Occurred: at, Shift: shift})
	}
	if err := checkName(doc.Event, "event"); err != nil {
		return e, err
	}
	res := resolver{names: names, snap: t.snap}
	event, indexed, err := res.resolveEvent(doc)
	if err != nil {
		return e, err
	}
	e.Kind = storage.EffectEvent
	e.Event = storage.EventEffect{
		Event: event, Occurred: at, Clamped: clamped, Indexed: indexed, Shift: shift,
	}
	return e, nil
}

func (t *testRun) outcomeFact(outcome, offer []byte, o storage.OutcomeEffect) (
	e storage.Effect, err error,
) {
	e.Kind = storage.EffectOutcome
	if len(offer) > 0 {
		at, ok := t.snap.Plan.OfferByID(offer)
		if !ok {
			return e, fmt.Errorf("there is no offer %q", offer)
		}
		o.Offer = t.snap.Plan.Offers[at].Name
	}
	o.Event, err = t.snap.mint(storage.DictEvent, decide.OutcomeEvent+string(outcome))
	e.Outcome = o
	return e, err
}
