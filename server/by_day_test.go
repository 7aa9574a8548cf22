package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tact/engine/definition"
)

const byDayDocuments = `kind: workspace
id: default
timezone: UTC
---
kind: event
id: order
properties: {amount: {type: float, indexed: true}}
---
kind: segment
id: busy
rule: {event: order, count: {gte: 2}, within: 80d}
---
kind: segment
id: kept
members: static
---
kind: segment
id: ever
rule: {event: order}
---
kind: offer
id: thanks
message_class: marketing
eligibility: {segment: busy}
treatments: [{id: web, channel: web, placements: [home], content: {type: text, body: thanks}}]
---
kind: offer
id: hello
message_class: marketing
eligibility: {segment: ever}
treatments: [{id: web, channel: web, placements: [home], content: {type: text, body: hello}}]
---
kind: decision_policy
id: home
candidates: {offers: all}
ranking: {by: order, offers: [thanks, hello]}
---
kind: placement
id: home
channel: web
policy: home
`

// A window that reaches behind the tail of events is answered by calendar day, and
// every answer that rests on it says so; the others do not.
func TestByDayIsSaid(t *testing.T) {
	r := start(t, Options{})
	r.do(ask{
		method: "PUT", path: "/v1/definitions", kind: "application/json",
		body: bundleOf(t, []definition.File{{Name: "all.yaml", Content: []byte(byDayDocuments)}}),
	})
	var events strings.Builder
	order := func(user string, days int) {
		at := time.Now().Add(-time.Duration(days)*24*time.Hour - time.Minute).UTC().Format(time.RFC3339)
		fmt.Fprintf(&events, `{"event_id":"%s-%d","user_id":"%s","event":"order","occurred_at":"%s",`+
			`"properties":{"amount":1}}`+"\n", user, days, user, at)
	}
	for days := 75; days > 0; days-- { // 64 of them are in the tail
		order("often", days)
	}
	order("rarely", 79)
	order("rarely", 3)
	status, reply, _ := r.do(ask{
		method: "POST", path: "/v1/events", kind: "application/x-ndjson", body: events.String(),
	})
	if status != 200 || strings.Contains(reply, "rejected") {
		t.Fatalf("%d %s", status, reply)
	}
	f := func(path, body string, wanted ...string) {
		t.Helper()
		status, reply := r.post(path, body)
		for _, part := range wanted {
			absent := strings.HasPrefix(part, "!")
			if status != 200 || strings.Contains(reply, strings.TrimPrefix(part, "!")) == absent {
				t.Errorf("%s: %d %s; want %s", body, status, reply, part)
			}
		}
	}
	const counts, overlaps = "/v1/segments:count", "/v1/segments:overlap"
	f(counts, `{"segment":"busy"}`, `"users":2,"by_day":1`)
	f(counts, `{"segment":"ever"}`, `"users":2`, `!by_day`)
	f(counts, `{"rule":{"event":"order","count":{"gte":2},"within":"30d"}}`, `"users":1`, `!by_day`)
	f(overlaps, `{"segments":["busy","ever"]}`, `"by_day":[1,0]`)
	f(overlaps, `{"segments":["ever"]}`, `!by_day`)
	f(queryPath, `{"segment":"busy","format":"count"}`, `"users":2,"by_day":1`)
	f(queryPath, `{"segment":"busy","format":"ids"}`, `"users":2,"by_day":1`)
	f(queryPath, `{"segment":"ever","format":"ids"}`, `!by_day`)
	f(queryPath, `{"offer":"thanks","gates":["caps"],"format":"count"}`, `"users":2,"by_day":1`)
	f(queryPath, `{"users":["often","rarely"]}`,
		`{"user_id":"often","offers":["hello","thanks"],"by_day":["thanks"]}`,
		`{"user_id":"rarely","offers":["hello","thanks"]}`)
	f("/v1/decide", `{"user":{"user_id":"often"},"placements":[{"key":"k","placement_id":"home"}],`+
		`"mode":"dry_run","explain":"all"}`, `"offer_id":"thanks","won":true,"by_day":true`,
		`!"offer_id":"hello","reason":"lost_arbitration","by_day"`)
	f("/v1/decide", `{"user":{"user_id":"rarely"},"placements":[{"key":"k","placement_id":"home"}],`+
		`"mode":"dry_run","explain":"all"}`, `"won":true`, `!by_day`)
	fill := func(body, want string) {
		t.Helper()
		status, reply, _ := r.do(ask{
			method: "POST", path: "/v1/segments/kept/members:fill", kind: "application/json",
			template: "/v1/segments/{id}/members:fill", body: body,
		})
		if status != 200 || !strings.Contains(reply, want) {
			t.Errorf("%s: %d %s; want %s", body, status, reply, want)
		}
	}
	fill(`{"segment":"busy"}`, `"users":2,"by_day":1,`)
	fill(`{"union":["busy","ever"]}`, `"users":2,"by_day":1,`)
	fill(`{"segment":"ever"}`, `"users":2,"lines"`)
	_, _, header := r.do(ask{
		method: "POST", path: queryPath, kind: "application/json",
		body: `{"segment":"busy","format":"roaring"}`,
	})
	if header.Get("Tact-By-Day") != "1" || header.Get("Tact-Users") != "2" {
		t.Errorf("%v", header)
	}
}
