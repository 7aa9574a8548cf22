package engine

import (
	"testing"

	"tact/engine/definition"
)

const contextClockDefinitions = `
kind: workspace
id: default
timezone: UTC
---
kind: offer
message_class: marketing
id: lounge
eligibility: {context: departs, is: "2026-09-22"}
treatments:
  - {id: web, channel: web, placements: [hero], content: {type: text, body: lounge}}
---
kind: placement
id: hero
channel: web
policy: p
context: {departs: time}
---
kind: decision_policy
id: p
candidates: {offers: all}
---
kind: test
id: late_flight
at: "2026-09-21T12:00:00Z"
user: {id: u1, timezone: Asia/Shanghai}
decide: {placement: hero, context: {departs: "2026-09-21T17:00:00Z"}}
expect: {offer: lounge}
`

// A date to which a time of the request is compared is a date on the clock of the
// person, in a decision, in a question about offers and in one about people.
func TestContextOnThePersonsClock(t *testing.T) {
	b := newBed(t, contextClockDefinitions)
	for _, u := range [][2]string{{"shanghai", "Asia/Shanghai"}, {"lisbon", "Europe/Lisbon"}} {
		b.user(UserDoc{UserID: []byte(u[0]), Timezone: []byte(u[1]), HasTimezone: true})
	}
	f := func(departs string, shanghai, lisbon bool) {
		t.Helper()
		context := []NamedValue{{[]byte("departs"), RawValue{Kind: RawString, Text: []byte(departs)}}}
		x, err := b.e.Eligibility(&EligibilityQuery{Context: context})
		if err != nil {
			t.Fatal(err)
		}
		rule, err := definition.NodeFromJSON([]byte(`{"context":"departs","is":"2026-09-22"}`), "rule")
		if err != nil {
			t.Fatal(err)
		}
		p := b.people(PeopleQuery{Rule: rule, Context: context})
		found := map[string]bool{}
		for _, id := range b.idsOf(p) {
			found[id] = true
		}
		for user, want := range map[string]bool{"shanghai": shanghai, "lisbon": lisbon} {
			req := b.decideReq(user, "hero")
			req.Context = context
			wanted := "none: ineligible"
			if want {
				wanted = "lounge"
			}
			b.want(req, wanted)
			verdicts, _, err := x.User([]byte(user), nil)
			if err != nil || (verdicts[0].Reason == "") != want {
				t.Errorf("%s at %s: %+v, %v", user, departs, verdicts, err)
			}
			if found[user] != want {
				t.Errorf("%s at %s: people %v", user, departs, found)
			}
		}
	}
	f("2026-09-21T17:00:00Z", true, false)
	f("2026-09-22T12:00:00Z", true, true)
	f("2026-09-22T20:00:00Z", false, true)
}
