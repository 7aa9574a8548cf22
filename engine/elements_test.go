package engine

import (
	"errors"
	"strings"
	"testing"
)

const elementDefinitions = `
kind: event
id: order
properties:
  items[].category: {type: string, indexed: true}
  items[].price: {type: float, indexed: true}
  items[].n: {type: int, indexed: true}
---
kind: offer
message_class: marketing
id: socks
eligibility: {event: order, where: [{property: "items[].category", is: shoes}, {property: "items[].n", gte: 2}]}
treatments: [{id: w, channel: web, content: {type: json, body: {title: x}}}]
---
kind: offer
message_class: marketing
id: club
eligibility: {event: order, sum: {gte: 100}, of: "items[].price"}
treatments: [{id: w, channel: web, content: {type: json, body: {title: x}}}]
---
kind: placement
sticky: none
id: hero
channel: web
policy: p
---
kind: decision_policy
id: p
candidates: {offers: all}
ranking: {by: order, offers: [club, socks]}
---
kind: test
id: from_a_document
user: {id: u1, events: [{event: order, occurred_at: "2026-01-01T00:00:00Z", properties: {items: [{category: shoes, price: 100.5, n: 2}]}}]}
at: "2026-01-02T00:00:00Z"
decide: {placement: hero}
expect: {offer: club}
`

// A rule asks of the elements of a list what an event told of them, also after a
// restart; a wrong member is named.
func TestElements(t *testing.T) {
	b := newBed(t, elementDefinitions)
	event := func(user, id, items string) LineResult {
		doc := EventDoc{
			UserID: []byte(user), EventID: []byte(id), Event: []byte("order"),
			Properties: []NamedValue{{[]byte("items"), RawValue{Kind: RawOther, Text: []byte(items)}}},
		}
		return b.apply(func(x *Batch) LineResult { return x.Event(&doc) })
	}
	f := func(user, items, want string) {
		t.Helper()
		if r := event(user, "e"+user, items); r.Err != nil {
			t.Fatal(r.Err)
		}
		b.want(b.decideReq(user, "hero"), want)
	}
	f("u1", `[{"category":"hat","n":3},{"category":"shoes","n":2,"price":null}]`, "socks")
	f("u2", `[{"category":"shoes","n":1},{"category":"hat"}]`, "none: ineligible")
	f("u3", `[{"price":60},{"price":4.05e1,"category":"shoes"}]`, "club")
	f("u4", `[{"a":{"category":"shoes"}},{}]`, "none: ineligible")
	b.reopen()
	b.want(b.decideReq("u1", "hero"), "socks")
	b.want(b.decideReq("u3", "hero"), "club")
	g := func(items, want string) {
		t.Helper()
		r := event("u5", "e5", items)
		var p *Problem
		if !errors.As(r.Err, &p) || p.Code+" "+p.Field != want {
			t.Errorf("%s: %v, want %s", items, r.Err, want)
		}
	}
	g(`[{"price":1},{"price":"2"}]`, "wrong_type properties.items[1].price")
	g(`[{"n":1.5}]`, "wrong_type properties.items[0].n")
	g(`[{"category":3}]`, "wrong_type properties.items[0].category")
	g(`{"category":"shoes"}`, "wrong_type properties.items")
	g(`["shoes"]`, "wrong_type properties.items")
	g(`[`+strings.Repeat(`{},`, 300)+`{}]`, "wrong_type properties.items")
}
