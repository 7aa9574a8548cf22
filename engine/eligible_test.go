package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/engine/rule"
	"tact/storage"
)

// judge asks which offers one user may be given, as "offer" or "offer:reason".
func (b *bed) judge(user string, q EligibilityQuery) string {
	b.t.Helper()
	x, err := b.e.Eligibility(&q)
	if err != nil {
		return err.Error()
	}
	verdicts, known, err := x.User([]byte(user), nil)
	switch {
	case err != nil:
		return err.Error()
	case !known:
		return "unknown"
	}
	var parts []string
	for _, v := range verdicts {
		if v.Reason == "" {
			parts = append(parts, v.OfferID)
		} else {
			parts = append(parts, v.OfferID+":"+v.Reason)
		}
	}
	return strings.Join(parts, " ")
}

func TestEligibility(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(20)
	f := func(user string, q EligibilityQuery, want string) {
		t.Helper()
		if got := b.judge(user, q); got != want {
			t.Errorf("%s: %s, want %s", user, got, want)
		}
	}
	offers := func(ids ...string) (out [][]byte) {
		for _, id := range ids {
			out = append(out, []byte(id))
		}
		return out
	}
	f("u2", EligibilityQuery{}, "coupon nudge points:ineligible story:inactive")
	f("u19", EligibilityQuery{}, "coupon nudge points story:inactive")
	f("u3", EligibilityQuery{Offers: offers("points", "coupon")},
		"points:ineligible coupon:not_suitable")
	f("u6", EligibilityQuery{Offers: offers("points")}, "points")
	f("u2", EligibilityQuery{Gates: GatesAll},
		"coupon nudge:consent_missing points:ineligible story:inactive")
	f("u2", EligibilityQuery{Placement: []byte("hero")},
		"coupon nudge:placement_mismatch points:ineligible story:placement_mismatch")
	f("u2", EligibilityQuery{Channel: []byte("sms"), Offers: offers("coupon", "nudge")},
		"coupon:channel_mismatch nudge")
	f("nobody", EligibilityQuery{}, "unknown")
	f("a\x01b", EligibilityQuery{}, "bad_id (users): control characters are not allowed")
	for name, q := range map[string]EligibilityQuery{
		"offers[1]":    {Offers: offers("coupon", "cupon")},
		"placement_id": {Placement: []byte("none")},
		"channel":      {Channel: []byte("pigeon")},
		"context.page": {Context: []NamedValue{{[]byte("page"), RawValue{Kind: RawBool}}}},
	} {
		_, err := b.e.Eligibility(&q)
		var p *Problem
		if !errors.As(err, &p) || p.Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEligibilityAgreesWithDecide: with all gates, what is eligible at a
// placement is what a dry run gives when nothing else is allowed, while caps are
// used up and stock is sold.
func TestEligibilityAgreesWithDecide(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(20)
	capped := 0
	for round := range 4 {
		for i := range 20 {
			user := fmt.Sprintf("u%d", i)
			for _, offer := range []string{"coupon", "points"} {
				req := b.decideReq(user, "hero")
				req.Mode = ModeDryRun
				req.Placements[0].Allow = [][]byte{[]byte(offer)}
				want := b.ask(req) == offer
				got := b.judge(user, EligibilityQuery{
					Offers: [][]byte{[]byte(offer)}, Placement: []byte("hero"), Gates: GatesAll,
				})
				if (got == offer) != want {
					t.Fatalf("round %d %s %s: judged %s, decided %s", round, user, offer, got, b.ask(req))
				}
				if strings.Contains(got, "capped") {
					capped++
				}
			}
			if i%4 == round {
				b.ask(b.decideReq(user, "hero")) // uses the cap of the best
				if len(b.out.Items) > 0 && len(b.out.Items[0].Token) > 0 && i < 8 {
					b.outcome(slices.Clone(b.out.Items[0].Token), "accept", "") // takes the stock
				}
			}
		}
	}
	if capped == 0 {
		t.Error("no cap refused: the case is too narrow")
	}
}

// A total per placement that is full in all of several placements refuses the
// offer wherever it is asked for, and one that is left gives it.
func TestTotalsOfSeveralPlacements(t *testing.T) {
	b := newBed(t, `
kind: workspace
id: default
timezone: UTC
---
kind: cap
id: once
scope: total
per: placement
count_on: decision
window: lifetime
limit: 1
---
kind: offer
id: a
message_class: marketing
treatments: [{id: t, channel: web, content: {type: text, body: a}}]
---
kind: decision_policy
id: pol
ranking: {by: product}
---
kind: placement
sticky: none
id: p1
channel: web
policy: pol
---
kind: placement
sticky: none
id: p2
channel: web
policy: pol
---
kind: placement
sticky: none
id: p3
channel: web
policy: pol
`)
	b.user(UserDoc{UserID: []byte("u")})
	for i, want := range []string{"a", "a", "a", "a:capped_total"} {
		if got := b.judge("u", EligibilityQuery{Gates: GatesAll}); got != want {
			t.Errorf("with %d placements sold out: %s, want %s", i, got, want)
		}
		if i < 3 {
			b.want(b.decideReq("u", fmt.Sprintf("p%d", i+1)), "a")
		}
	}
}

func (b *bed) audience(q AudienceQuery) *Audience {
	b.t.Helper()
	a, err := b.e.Audience(context.Background(), &q)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// TestAudienceAgreesWithEligibility: the people of an offer are those for whom,
// asked one by one, the offer is eligible by the same gates.
func TestAudienceAgreesWithEligibility(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(600)
	for i := range 50 {
		b.ask(b.decideReq(fmt.Sprintf("u%d", i), "hero"))
	}
	for gates := Gates(0); gates <= GatesAll; gates++ {
		for _, offer := range []string{"coupon", "points", "nudge", "story"} {
			a := b.audience(AudienceQuery{Offer: []byte(offer), Gates: gates})
			a.Done()
			in := map[string]bool{}
			for _, id := range b.idsOf(a.People) {
				in[id] = true
			}
			if uint64(len(in)) != a.Count() || (a.Reason != "") != (offer == "story" && gates&GateExperiments == 0) {
				t.Errorf("%s: %d ids, count %d, reason %q", offer, len(in), a.Count(), a.Reason)
			}
			for i := range 600 {
				user := fmt.Sprintf("u%d", i)
				got := b.judge(user, EligibilityQuery{Offers: [][]byte{[]byte(offer)}, Gates: gates})
				if (got == offer) != in[user] {
					t.Fatalf("gates %d %s of %s: one by one %s, among the people %v", gates, offer,
						user, got, in[user])
				}
			}
		}
	}
	both := b.audience(AudienceQuery{Offer: []byte("points"), Segment: "vip"})
	if got := b.idsOf(both.People); len(got) != 2 {
		t.Errorf("an offer inside a segment: %v", got)
	}
}

// An empty rule is everybody, wherever a whole rule may stand.
func TestEmptyRulesAreEverybody(t *testing.T) {
	b := newBed(t, testDefinitions+`---
kind: offer
id: open
group: growth
message_class: marketing
eligibility: {}
applicability: {}
treatments: [{id: t, channel: web, placements: [hero], content: {type: json, body: {}}}]
`)
	b.fill(40)
	everybody := b.audience(AudienceQuery{Rule: ruleNode(t, `{}`)}).Count()
	if everybody < 40 {
		t.Fatalf("%d people", everybody)
	}
	f := func(want uint64, q AudienceQuery) {
		t.Helper()
		a := b.audience(q)
		a.Done()
		if a.Count() != want {
			t.Errorf("%+v: %d people, want %d", q, a.Count(), want)
		}
	}
	age := `{"attribute":"age","gte":10}`
	some := b.audience(AudienceQuery{Rule: ruleNode(t, age)}).Count()
	f(everybody, AudienceQuery{Offer: []byte("open")})
	f(everybody, AudienceQuery{Offer: []byte("open"), Rule: ruleNode(t, `{}`)})
	f(some, AudienceQuery{Offer: []byte("open"), Rule: ruleNode(t, age)})
	f(2, AudienceQuery{Offer: []byte("open"), Segment: "vip"})
}

// The more a rule weighs the fewer people are judged under one lock.
func TestHeavyRulesHaveShortBlocks(t *testing.T) {
	f := func(want int, text string) {
		t.Helper()
		tree, faults := rule.Parse(ruleNode(t, text), nil, "rule")
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		if got := (&census{holds: tree.Population(nil)}).block(); got != want {
			t.Errorf("%.40s: blocks of %d people, want %d", text, got, want)
		}
	}
	many := func(n int, part string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = fmt.Sprintf(part, i)
		}
		return `{"any":[` + strings.Join(parts, ",") + `]}`
	}
	percent := `{"percent":["0%%","50%%"],"salt":"s%d"}`
	f(censusBlock, many(1, percent))
	f(censusBlock, many(censusWeight, percent))
	f(censusBlock/2, many(2*censusWeight, percent))
	f(1, many(9000, percent))
}

func TestAudienceFaults(t *testing.T) {
	b := newBed(t, testDefinitions)
	f := func(field string, q AudienceQuery) {
		t.Helper()
		_, err := b.e.Audience(context.Background(), &q)
		var p *Problem
		if !errors.As(err, &p) || !strings.HasPrefix(p.Field, field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	rule := ruleNode(t, `{"segment":"vip"}`)
	f("rule", AudienceQuery{})
	f("segment", AudienceQuery{Rule: rule, Segment: "vip"})
	f("segment", AudienceQuery{Segment: "vips"})
	f("segment", AudienceQuery{Segment: "vips", Offer: []byte("coupon")})
	f("rule", AudienceQuery{Rule: ruleNode(t, `{"tag":"nope"}`)})
	f("rule", AudienceQuery{Rule: ruleNode(t, `{"tag":"nope"}`), Offer: []byte("coupon")})
	f("offer", AudienceQuery{Segment: "vip", Gates: GatesAll})
	f("offer", AudienceQuery{Segment: "vip", Placement: []byte("hero")})
	f("offer", AudienceQuery{Segment: "vip", Channel: []byte("web")})
	f("offer", AudienceQuery{Offer: []byte("none")})
	f("placement_id", AudienceQuery{Offer: []byte("coupon"), Placement: []byte("none")})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.e.Audience(ended, &AudienceQuery{Rule: rule}); !errors.Is(err, context.Canceled) {
		t.Errorf("a query that nobody waits for: %v", err)
	}
}

// A cursor goes on exactly behind the last person, whatever was changed since,
// for 15 minutes after its last use, and for this store and start only.
func TestCursor(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(100)
	a := b.audience(AudienceQuery{Rule: ruleNode(t, `{"attribute":"age","gte":10}`)})
	want := b.idsOf(a.People)
	b.user(UserDoc{UserID: []byte("u50"), Attributes: []NamedValue{
		{[]byte("age"), RawValue{Kind: RawNumber, Text: []byte("1")}},
	}})
	var got []string
	cursor := a.AppendCursor(nil, PeoplePos{})
	for len(got) < len(want) {
		b.m.pass(14 * time.Minute) // each use counts
		view, from, err := b.e.AudienceAt(cursor)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		_ = b.e.EachPerson(view.People, from, func(pos PeoplePos, id []byte) bool {
			got, n = append(got, string(id)), n+1
			cursor = view.AppendCursor(nil, pos.Next())
			return n < 7
		})
	}
	if !slices.Equal(got, want) {
		t.Fatalf("by cursor %v, at once %v", got, want)
	}
	f := func(cursor []byte, class ProblemClass) {
		t.Helper()
		_, _, err := b.e.AudienceAt(cursor)
		var p *Problem
		if !errors.As(err, &p) || p.Class != class || p.Field != "cursor" {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
	for i := range cursor {
		bad := slices.Clone(cursor)
		bad[i] ^= 2
		f(bad, ProblemInvalid)
	}
	f(nil, ProblemInvalid)
	f(append(slices.Clone(cursor), 'A'), ProblemInvalid)
	other := newBed(t, testDefinitions)
	f(other.audience(AudienceQuery{Segment: "vip"}).AppendCursor(nil, PeoplePos{}), ProblemInvalid)
	b.m.pass(ViewLife)
	f(cursor, ProblemGone)
	cursor = b.audience(AudienceQuery{Segment: "vip"}).AppendCursor(nil, PeoplePos{})
	b.reopen()
	f(cursor, ProblemGone)
}

// Answers that nobody reads on do not stand in the way of 200 more.
func TestManySmallViews(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(300)
	for range 200 {
		b.audience(AudienceQuery{Rule: ruleNode(t, "{}")})
	}
}

// As many views are kept as may be; those read to their end make room, then those
// that were read on and are idle.
func TestViewsAreBounded(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.e.opts.MaxViews = 16
	vip := AudienceQuery{Segment: "vip"}
	var kept []*Audience
	for range b.e.opts.MaxViews {
		kept = append(kept, b.audience(vip))
	}
	b.fill(5)
	more := b.audience(AudienceQuery{Rule: ruleNode(t, "{}")})
	err := more.Kept()
	var p *Problem
	if !errors.As(err, &p) || p.Class != ProblemTooMany {
		t.Fatalf("one more: %v", err)
	}
	if len(b.idsOf(more.People)) != 5 || more.AppendCursor(nil, PeoplePos{}) != nil {
		t.Errorf("one more is not whole, or has a cursor: %v", more.People)
	}
	more.Done()
	if p.RetryAfter != int64(ViewLife.Seconds()) {
		t.Errorf("the next one ends in %d s", p.RetryAfter)
	}
	kept[3].Done()
	b.audience(vip)
	if _, _, err := b.e.AudienceAt(kept[3].AppendCursor(nil, PeoplePos{})); err == nil {
		t.Error("a view that made room is still there")
	}
	if _, _, err := b.e.AudienceAt(kept[4].AppendCursor(nil, PeoplePos{})); err != nil {
		t.Errorf("a view in use is gone: %v", err)
	}
	b.m.pass(viewIdle - time.Second)
	err = b.audience(vip).Kept()
	left := int64((ViewLife - viewIdle).Seconds()) + 1
	if !errors.As(err, &p) || p.RetryAfter != left {
		t.Errorf("one was read on a moment ago: %v, %d s", err, p.RetryAfter)
	}
	b.m.pass(time.Second)
	b.audience(vip)
	if n := b.e.views.mu.byID[kept[4].id]; n != nil || len(b.e.views.mu.byID) != 16 {
		t.Error("the idle view did not make room")
	}
	b.m.pass(ViewLife)
	b.e.tick()
	if n := len(b.e.views.mu.byID); n != 0 || b.e.views.mu.bytes != 0 {
		t.Errorf("%d views of %d bytes after their time", n, b.e.views.mu.bytes)
	}
	b.e.opts.ViewBytes = 10
	if err := b.audience(vip).Kept(); !errors.As(err, &p) || p.Class != ProblemTooMany {
		t.Errorf("more bytes than may be kept: %v", err)
	}
}

// Any bytes as a cursor: refused, never a panic.
func FuzzCursor(f *testing.F) {
	e, err := Open("store", Options{Storage: storage.Options{Groups: 4, FS: vfs.NewMem()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = e.Close() })
	a := &Audience{People: &People{Groups: []GroupPeople{{Ords: roaring.New()}}}, e: e}
	e.keep(a)
	if err := a.Kept(); err != nil {
		f.Fatal(err)
	}
	f.Add(a.AppendCursor(nil, PeoplePos{}))
	f.Add([]byte("AAAA"))
	f.Fuzz(func(t *testing.T, cursor []byte) {
		if view, _, err := e.AudienceAt(cursor); err == nil && view != a {
			t.Error("a cursor of nothing")
		}
	})
}
