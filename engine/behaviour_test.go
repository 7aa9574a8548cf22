package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tact/engine/definition"
	"tact/storage"
)

func exampleFiles(t *testing.T) []definition.File {
	t.Helper()
	names, err := filepath.Glob("../docs/example/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("%v, %v", names, err)
	}
	var files []definition.File
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, definition.File{Name: filepath.Base(name), Content: content})
	}
	return files
}

// The documents of docs/example compile and their tests pass, those of the
// segment of loyal women among them.
func TestExampleRules(t *testing.T) {
	faults, tests := CheckFiles(exampleFiles(t))
	for _, f := range faults {
		t.Error(f)
	}
	for _, x := range tests {
		if !x.Passed {
			t.Errorf("%s: want %s, got %s\n%s", x.ID, x.Expected, x.Got, strings.Join(x.Trace, "\n"))
		}
	}
	if len(tests) < 6 {
		t.Errorf("only %d tests", len(tests))
	}
}

// The person of a test may have levels of tiers and stand in static segments.
func TestTestUsersHaveTiersAndSegments(t *testing.T) {
	const documents = `
{kind: tier, id: rfm, levels: [low, mid, high]}
---
{kind: segment, id: list, members: static}
---
kind: offer
id: gift
group: g
message_class: marketing
eligibility: {all: [{tier: rfm, gte: mid}, {segment: list}]}
treatments: [{id: t, channel: web, placements: [home], content: {type: text, body: a}}]
---
{kind: placement, id: home, channel: web, policy: p}
---
{kind: decision_policy, id: p, candidates: {offers: {groups: [g]}}, ranking: {by: product}}
---
kind: test
id: x
at: "2026-11-22T10:00:00+08:00"
user: %s
decide: {placement: home}
expect: {%s}
`
	f := func(user, expect string) {
		t.Helper()
		faults, tests := CheckFiles(testFiles(fmt.Sprintf(documents, user, expect)))
		if len(faults) > 0 || len(tests) != 1 || !tests[0].Passed {
			t.Errorf("%s: %v, %+v", user, faults, tests)
		}
	}
	f("{id: u, tiers: {rfm: high}, segments: [list]}", "offer: gift")
	f("{id: u, tiers: {rfm: mid}, segments: [list]}", "offer: gift")
	f("{id: u, tiers: {rfm: low}, segments: [list]}", "no_decision: ineligible")
	f("{id: u, segments: [list]}", "no_decision: ineligible")
	f("{id: u, tiers: {rfm: high}}", "no_decision: ineligible")
}

const behaviourDefinitions = `
kind: workspace
id: default
timezone: Asia/Shanghai
---
kind: event
id: order
properties: {amount: {type: float, indexed: true}}
---
kind: segment
id: buyers
rule: {event: order, count: {gte: 2}, within: 1d}
---
kind: segment
id: fresh
rule: {all: [{segment: buyers}, {not: {event: order, sum: {gte: 100}, of: amount}}]}
---
kind: offer
message_class: marketing
id: thanks
group: g
eligibility: {segment: fresh}
suitability: {outcome: click, offers: {ids: [thanks]}, count: {is: 0}}
treatments:
  - {id: web, channel: web, placements: [hero], content: {type: text, body: thanks}}
---
kind: offer
message_class: marketing
id: today
group: g
value: 0.5
eligibility: {event: order, window: {calendar: day, zone: user}}
treatments:
  - {id: web, channel: web, placements: [hero], content: {type: text, body: today}}
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
`

// order sends an order of the person at a time.
func (b *bed) order(user, id, amount string, at storage.UnixMsec) LineResult {
	b.t.Helper()
	doc := EventDoc{
		UserID: []byte(user), EventID: []byte(id), Event: []byte("order"), OccurredAt: at, BodyHash: 1,
		Properties: []NamedValue{{[]byte("amount"), RawValue{Kind: RawNumber, Text: []byte(amount)}}},
	}
	return b.apply(func(x *Batch) LineResult { return x.Event(&doc) })
}

// An event answered with 2xx is seen by the very next decision; one that comes
// late counts at its own time, one that comes twice counts once; membership
// leaves on time, without an event; all of it survives a start.
func TestEventsAreSeenByTheNextDecision(t *testing.T) {
	b := newBed(t, behaviourDefinitions)
	now := func() storage.UnixMsec { return storage.UnixMsec(b.e.clock.Now()) }
	const hour, minute = 3600_000, 60_000
	req := b.decideReq("u1", "hero")
	b.want(req, "none: ineligible")
	start := now()
	if r := b.order("u1", "e1", "30", start-2*minute); r.Err != nil {
		t.Fatal(r.Err)
	}
	b.want(req, "today")
	if r := b.order("u1", "e1", "30", start-2*minute); r.Status != LineDuplicate {
		t.Fatalf("%+v", r)
	}
	b.want(req, "today")
	b.order("u1", "late", "30", start-23*hour)
	b.want(req, "thanks")
	b.reopen()
	b.want(req, "thanks")
	click := b.out.Items[0].Token
	b.m.pass(time.Hour + time.Minute) // the late one is a day old
	b.want(req, "today")
	b.order("u1", "e2", "39.5", 0)
	b.want(req, "thanks")
	if r := b.outcome(click, "click", "c1"); r.Err != nil {
		t.Fatal(r.Err)
	}
	b.want(req, "today") // an outcome is an event too
	req = b.decideReq("u2", "hero")
	b.order("u2", "a", "10", 0)
	b.order("u2", "b", "10", 0)
	b.want(req, "thanks")
	b.order("u2", "c", "80", 0)
	b.want(req, "today") // the sum of a life
	if err := b.e.CheckStore(); err != nil {
		t.Fatal(err)
	}
}

// A person who moves is judged by the calendar of the new zone at once.
func TestZoneChangeMovesTheDay(t *testing.T) {
	b := newBed(t, behaviourDefinitions)
	zone := func(name string) {
		b.user(UserDoc{
			UserID: []byte("u1"), BodyHash: 1, HasTimezone: true, Timezone: []byte(name),
		})
	}
	zone("Asia/Shanghai")
	req := b.decideReq("u1", "hero")
	// 1_790_000_000 is 22:13:20 in Shanghai, 10:13:20 in New York.
	b.order("u1", "e1", "1", storage.UnixMsec(b.e.clock.Now()))
	b.want(req, "today")
	b.m.pass(2 * time.Hour)
	b.want(req, "none: ineligible") // 00:13 in Shanghai
	zone("America/New_York")
	b.want(req, "today")
	zone("Asia/Shanghai")
	b.want(req, "none: ineligible")
}

// Segments that come back to themselves, and what they say wrong, are faults of
// the segment, at the place; nothing else is changed.
func TestSegmentFaults(t *testing.T) {
	f := func(yaml string, want ...string) {
		t.Helper()
		faults, _ := CheckFiles(testFiles(yaml))
		var got []string
		for _, x := range faults {
			got = append(got, x.String())
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	segment := func(id, rule string) string {
		return fmt.Sprintf("kind: segment\nid: %s\nrule: %s\n---\n", id, rule)
	}
	f(segment("a", "{segment: a}"),
		"test.yaml:3:17: segment/a: rule.segment: the segments name each other: a → a")
	f(segment("a", "{all: [{not: {segment: b}}]}")+segment("b", "{any: [{segment: c}]}")+
		segment("c", "{segment: a}"),
		"test.yaml:11:17: segment/c: rule.segment: the segments name each other: a → b → c → a")
	f(segment("a", "{event: ordr}")+segment("b", "{segment: a}"),
		`test.yaml:3:15: segment/a: rule.event: there is no event "ordr"`)
	var chain strings.Builder
	for i := range 40 {
		chain.WriteString(segment(fmt.Sprintf("s%d", i), fmt.Sprintf("{segment: s%d}", i+1)))
	}
	chain.WriteString(segment("s40", "{all: []}"))
	f(chain.String(), "test.yaml:127:17: segment/s31: rule.segment: segments name segments more "+
		"than 32 deep")
	b := newBed(t, behaviourDefinitions)
	b.user(UserDoc{UserID: []byte("u1"), BodyHash: 1})
	r := b.apply(func(x *Batch) LineResult {
		return x.SegmentMembers([]byte("fresh"), [][]byte{[]byte("u1")}, nil)
	})
	if p, ok := r.Err.(*Problem); !ok || p.Code != "dynamic_segment" {
		t.Fatalf("%+v", r)
	}
}
