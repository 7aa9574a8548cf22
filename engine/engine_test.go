package engine

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/engine/definition"
	"tact/storage"
)

// testDefinitions is a small catalogue: a hero placement filled by two capped
// offers with a fallback, and an SMS placement that needs consent.
const testDefinitions = `
kind: workspace
id: default
timezone: Asia/Shanghai
zones: [Asia/Shanghai]
---
kind: attribute
id: first_name
type: string
class: personal
---
kind: attribute
id: age
type: int
---
kind: tag
id: complaint_open
---
kind: tag
id: city_tier
values: ["1", "2"]
---
kind: event
id: order_completed
properties: {amount: {type: float, indexed: true}}
---
kind: segment
id: vip
members: static
---
kind: cap
id: once_an_hour
applies_to: {offers: {groups: [growth]}}
scope: person
per: offer
count_on: [impression]
window: {rolling: 1h}
limit: 1
---
kind: cap
id: stock
applies_to: {offers: {ids: [coupon]}}
scope: total
per: offer
count_on: accept
window: lifetime
limit: 2
---
kind: offer
message_class: marketing
id: coupon
group: growth/activation
value: 10
propensity: 0.5
suitability: {not: {tag: complaint_open}}
treatments:
  - {id: web, channel: web, placements: [hero], content: {type: json, body: {title: "{{ user.first_name | default: '朋友' }},新客立减"}}}
---
kind: offer
message_class: marketing
id: points
group: growth
value: 2
propensity: 0.5
eligibility: {any: [{attribute: age, gte: 18}, {segment: vip}]}
treatments:
  - {id: web, channel: web, placements: [hero], content: {type: json, body: {title: "points for {{ context.page }}"}}}
---
kind: offer
message_class: marketing
id: story
group: brand
treatments:
  - {id: web, channel: web, placements: [hero], content: {type: json, body: {title: "story"}}}
---
kind: offer
message_class: marketing
id: nudge
group: reach
treatments:
  - {id: sms, channel: sms, content: {type: text, body: "{{ user.first_name | default: '您好' }} 来看看"}}
---
kind: placement
sticky: none
id: hero
channel: web
policy: home
context: {page: string}
---
kind: placement
sticky: none
id: text
channel: sms
policy: reach
---
kind: decision_policy
id: home
candidates: {offers: {groups: [growth]}}
ranking: {by: product}
fallback: {offer: story}
---
kind: decision_policy
id: reach
candidates: {offers: {groups: [reach]}}
ranking: {by: order, offers: [nudge]}
---
kind: test
id: stranger_gets_the_coupon
at: "2026-11-22T10:00:00+08:00"
user: {id: u1, attributes: {first_name: 小雨}}
decide: {placement: hero, context: {page: home}}
expect: {offer: coupon, content: {title: "小雨,新客立减"}}
`

func testFiles(yaml string) []definition.File {
	return []definition.File{{Name: "test.yaml", Content: []byte(yaml)}}
}

// bed is an engine under test with a clock that the test moves.
type bed struct {
	late sync.RWMutex // held: nothing that is written over becomes durable
	t    *testing.T
	dir  string
	fs   vfs.FS // in memory: no disk that stalls decides a test
	m    *machine
	e    *Engine
	out  Decision
}

func newBed(t *testing.T, yaml string) *bed {
	t.Helper()
	b := &bed{t: t, dir: "store", fs: vfs.NewMem(), m: &machine{wall: 1_790_000_000_000, mono: 1}}
	b.open()
	t.Cleanup(func() {
		if b.e != nil {
			_ = b.e.Close()
		}
	})
	if yaml != "" {
		b.publish(yaml)
	}
	return b
}

func (b *bed) open() {
	b.t.Helper()
	e, err := Open(b.dir, Options{
		Read: b.m.read, Storage: storage.Options{Groups: 4, FS: heldFS{b.fs, &b.late}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.e = e
}

func (b *bed) reopen() {
	b.t.Helper()
	if err := b.e.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

func (b *bed) publish(yaml string) RevisionView {
	b.t.Helper()
	view, faults, tests, err := b.e.Publish(testFiles(yaml), "test", "", 0)
	for _, f := range faults {
		b.t.Error(f)
	}
	for _, x := range tests {
		if !x.Passed {
			b.t.Errorf("%s: want %s, got %s\n%s", x.ID, x.Expected, x.Got, strings.Join(x.Trace, "\n"))
		}
	}
	if err != nil || len(faults) > 0 {
		b.t.Fatal(err)
	}
	return view
}

// apply runs one line in a batch of its own and waits until it is durable.
func (b *bed) apply(f func(*Batch) LineResult) LineResult {
	b.t.Helper()
	batch := b.e.Begin()
	r := f(batch)
	if err := batch.Commit(time.Minute); err != nil { // a machine may be busy
		b.t.Fatal(err)
	}
	return r
}

func (b *bed) user(doc UserDoc) {
	b.t.Helper()
	if r := b.apply(func(x *Batch) LineResult { return x.User(&doc) }); r.Err != nil {
		b.t.Fatal(r.Err)
	}
}

func (b *bed) decideReq(user, placement string) *DecideRequest {
	return &DecideRequest{
		UserID: []byte(user), Timeout: time.Second,
		Placements: []PlacementAsk{{Key: []byte("k"), PlacementID: []byte(placement)}},
	}
}

// ask decides and renders the answer as one line.
func (b *bed) ask(req *DecideRequest) string {
	b.t.Helper()
	if err := b.e.Decide(req, &b.out); err != nil {
		return err.Error()
	}
	var parts []string
	for _, s := range b.out.Slots {
		switch {
		case s.Count == 0:
			parts = append(parts, "none: "+s.Reason)
		case s.Fallback:
			parts = append(parts, "fallback: "+b.out.Items[s.First].OfferID)
		}
		for i := s.First; i < s.First+s.Count && !s.Fallback; i++ {
			parts = append(parts, b.out.Items[i].OfferID)
		}
	}
	return strings.Join(parts, ", ")
}

func (b *bed) want(req *DecideRequest, want string) {
	b.t.Helper()
	if got := b.ask(req); got != want {
		b.t.Fatalf("got %q, want %q; capped %v, degraded %v", got, want, b.out.Capped, b.out.Degraded)
	}
}

func (b *bed) outcome(token []byte, name, eventID string) LineResult {
	b.t.Helper()
	doc := OutcomeDoc{
		Token: bytes.Clone(token), Outcome: []byte(name), EventID: []byte(eventID), BodyHash: 1,
	}
	return b.apply(func(x *Batch) LineResult { return x.Outcome(&doc) })
}

func text(s string) RawValue { return RawValue{Kind: RawString, Text: []byte(s)} }

func TestDecideRendersAndCaps(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.user(UserDoc{
		UserID: []byte("u1"), BodyHash: 1,
		Attributes: []NamedValue{
			{[]byte("first_name"), text("小雨")},
			{[]byte("age"), RawValue{Kind: RawNumber, Text: []byte("30")}},
		},
	})
	req := b.decideReq("u1", "hero")
	req.Context = []NamedValue{{[]byte("page"), text("home")}}
	b.want(req, "coupon")
	it := b.out.Items[0]
	if got := string(it.Content); got != `{"title":"小雨,新客立减"}` {
		t.Fatalf("content %s", got)
	}
	if !it.Reserved || len(it.Token) == 0 || b.out.Durability != "strict" {
		t.Fatalf("%+v durability %s", it, b.out.Durability)
	}
	token := bytes.Clone(it.Token)
	b.want(req, "points") // the coupon's use is held
	if got := string(b.out.Items[0].Content); got != `{"title":"points for home"}` {
		t.Fatalf("content %s", got)
	}
	b.want(req, "fallback: story")
	if len(b.out.Capped) == 0 {
		t.Fatal("capped is empty")
	}
	if r := b.outcome(token, "impression", "o1"); r.Err != nil || r.Status != LineApplied {
		t.Fatalf("%+v", r)
	}
	if r := b.outcome(token, "impression", "o1"); r.Status != LineDuplicate {
		t.Fatalf("%+v", r)
	}
	if r := b.outcome(token, "impression", "o2"); r.Flags&FlagRepeat == 0 {
		t.Fatalf("%+v", r)
	}
	b.reopen()
	b.want(req, "fallback: story")
	b.m.pass(time.Hour - time.Minute)
	b.want(req, "points") // its reservation was never confirmed: given back
	b.m.pass(2 * time.Minute)
	b.want(req, "coupon")
	if err := b.e.CheckStore(); err != nil {
		t.Fatal(err)
	}
}

func TestStockIsGatedByTheAccept(t *testing.T) {
	b := newBed(t, testDefinitions)
	var tokens [][]byte
	for i := range 3 {
		req := b.decideReq(fmt.Sprintf("s%d", i), "hero")
		b.want(req, "coupon")
		tokens = append(tokens, bytes.Clone(b.out.Items[0].Token))
	}
	for i, tok := range tokens {
		r := b.outcome(tok, "accept", "")
		p, _ := r.Err.(*Problem)
		if (i < 2) != (r.Err == nil) || (i == 2 && (p == nil || p.Code != "capped_total")) {
			t.Fatalf("accept %d: %+v", i, r)
		}
	}
	b.reopen()
	b.want(b.decideReq("s9", "hero"), "fallback: story")
}

func TestRequestIDIsAnsweredOnce(t *testing.T) {
	b := newBed(t, testDefinitions)
	req := b.decideReq("r1", "hero")
	req.RequestID, req.BodyHash = []byte("q1"), 7
	b.want(req, "coupon")
	id, token := b.out.ID, bytes.Clone(b.out.Items[0].Token)
	again := func() {
		t.Helper()
		b.want(req, "coupon")
		if !b.out.Replayed || b.out.ID != id || !bytes.Equal(b.out.Items[0].Token, token) {
			t.Fatalf("replayed %v id %x want %x", b.out.Replayed, b.out.ID, id)
		}
	}
	again()
	b.reopen()
	again()
	req.BodyHash = 8
	if got := b.ask(req); !strings.HasPrefix(got, "id_reused") {
		t.Fatal(got)
	}
}

func TestIdentitiesLeadToOnePerson(t *testing.T) {
	b := newBed(t, testDefinitions)
	email := IdentityRef{[]byte("email"), []byte("Ann@Example.com ")}
	b.user(UserDoc{UserID: []byte("ann"), Identities: []IdentityRef{email}})
	b.user(UserDoc{
		Identities: []IdentityRef{{[]byte("email"), []byte("ann@example.com")}},
		Attributes: []NamedValue{{[]byte("first_name"), text("Ann")}},
	})
	v, err := b.e.User([]byte("ann"))
	if err != nil || len(v.Attributes) != 1 || v.Attributes[0].Name != "first_name" {
		t.Fatalf("%+v %v", v, err)
	}
	r := b.apply(func(x *Batch) LineResult {
		return x.User(&UserDoc{
			UserID: []byte("bob"), Identities: []IdentityRef{email},
			Attributes: []NamedValue{{[]byte("first_name"), text("Bob")}},
		})
	})
	p, _ := r.Err.(*Problem)
	if p == nil || p.Code != "identity_conflict" {
		t.Fatalf("%+v", r)
	}
	if _, err := b.e.User([]byte("bob")); err == nil {
		t.Fatal("a refused line made a person")
	}
	b.reopen()
	req := b.decideReq("", "hero")
	req.UserID, req.Identities = nil, []IdentityRef{email}
	b.want(req, "coupon")
	if string(b.out.UserID) != "ann" {
		t.Fatalf("user %s", b.out.UserID)
	}
}

func TestEventsAreIdempotentAndSeenAtOnce(t *testing.T) {
	b := newBed(t, testDefinitions)
	ev := EventDoc{
		EventID: []byte("e1"), UserID: []byte("u1"), Event: []byte("order_completed"), BodyHash: 3,
		Properties: []NamedValue{{[]byte("amount"), RawValue{Kind: RawNumber, Text: []byte("12.5")}}},
		Raw:        []byte(`{"amount":12.5}`), OccurredAt: b.e.Now() + 9e9,
	}
	r := b.apply(func(x *Batch) LineResult { return x.Event(&ev) })
	if r.Err != nil || r.Flags&FlagClockClamped == 0 {
		t.Fatalf("%+v", r)
	}
	b.reopen()
	if r := b.apply(func(x *Batch) LineResult { return x.Event(&ev) }); r.Status != LineDuplicate {
		t.Fatalf("%+v", r)
	}
	ev.BodyHash = 4
	if r := b.apply(func(x *Batch) LineResult { return x.Event(&ev) }); r.Status != LineRejected {
		t.Fatalf("%+v", r)
	}
	v, err := b.e.User([]byte("u1"))
	if err != nil || len(v.Events) != 1 || !v.Events[0].Clamped || len(v.Events[0].Props) != 1 {
		t.Fatalf("%+v %v", v, err)
	}
}

// Unknown people are decided; a cap makes them a visitor, who expires.
func TestUnknownUserIsDecidedAsVisitor(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.want(b.decideReq("stranger", "hero"), "coupon")
	v, err := b.e.User([]byte("stranger"))
	if err != nil || !v.Visitor {
		t.Fatalf("%+v %v", v, err)
	}
	anonymous := b.decideReq("", "hero")
	anonymous.UserID = nil
	b.want(anonymous, "fallback: story")
	b.m.pass(25 * time.Hour)
	b.e.tick()
	b.e.tick()
	if _, err := b.e.User([]byte("stranger")); err == nil {
		t.Fatal("the visitor is still there")
	}
	if n := b.e.visitors.Load(); n != 0 {
		t.Fatalf("%d visitors", n)
	}
}

func TestPublishIsAtomicAndGoesBack(t *testing.T) {
	b := newBed(t, testDefinitions)
	first := b.e.Revision()
	_, faults, _, err := b.e.Publish(testFiles(testDefinitions+"---\nkind: offr\nid: x\n"), "t", "", 0)
	if len(faults) == 0 || err != nil || b.e.Revision() != first {
		t.Fatalf("faults %v err %v revision %d", faults, err, b.e.Revision())
	}
	less := strings.Replace(testDefinitions, "value: 10", "value: 1", 1)
	less = less[:strings.Index(less, "---\nkind: test")]
	b.publish(less)
	req := b.decideReq("p1", "hero")
	req.Mode = ModeDryRun
	b.user(UserDoc{UserID: []byte("p1"), Attributes: []NamedValue{
		{[]byte("age"), RawValue{Kind: RawNumber, Text: []byte("20")}},
	}})
	b.want(req, "points")
	view, err := b.e.Rollback(first, "t", 0)
	if err != nil || view.Of != first {
		t.Fatalf("%+v %v", view, err)
	}
	b.want(req, "coupon")
	req.Mode, req.Revision = ModePreview, first+1
	b.want(req, "points")
	if _, err := b.e.Rollback(1, "t", 1); err == nil {
		t.Fatal("a stale If-Match was accepted")
	}
}

// A decision that uses a cap too, in a steady state, allocates nothing in
// Decide itself; the frames it fills are the committer's.
func TestDecideAllocatesNothing(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.user(UserDoc{UserID: []byte("u1"), Attributes: []NamedValue{
		{[]byte("age"), RawValue{Kind: RawNumber, Text: []byte("20")}},
	}})
	req := b.decideReq("u1", "hero")
	for range 4 {
		b.ask(req)
	}
	if n := testing.AllocsPerRun(200, func() {
		if err := b.e.Decide(req, &b.out); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations a decision", n)
	}
}
