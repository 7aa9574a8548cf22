package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"tact/storage"
)

// keptWorld has what an answer may depend on: attributes, tags that end, events in a
// window, a static segment, dates, quiet hours, lists, consents, an experiment, a
// holdout, caps that hold, that react and that run out, stock, a sticky placement,
// several pages of conditions' worth of placements, and messages of several sources.
const keptWorld = `
kind: workspace
id: default
timezone: Asia/Shanghai
zones: [Asia/Shanghai, Europe/Madrid]
quiet_hours: {channels: [sms], classes: [marketing], windows: [{from: "21:30", until: "03:00"}, {from: "12:10", until: "14:00"}], when_hit: hold}
---
{kind: attribute, id: n, type: int}
---
{kind: attribute, id: like, type: float}
---
{kind: attribute, id: born, type: date}
---
{kind: attribute, id: name, type: string}
---
{kind: tag, id: hot, ttl: 2h}
---
{kind: event, id: order}
---
{kind: segment, id: vip, members: static}
---
{kind: cap, id: clicks, scope: person, per: offer, count_on: click, window: {rolling: 3h}, limit: 2,
 min_gap: 10m, suppress: {after: 1, of: dismiss, for: 5h}, applies_to: {offers: {groups: [g]}}}
---
{kind: cap, id: daily, scope: person, per: offer, count_on: impression, window: {calendar: day}, limit: 2,
 applies_to: {offers: {groups: [held]}}}
---
{kind: cap, id: stock, scope: total, per: offer, count_on: accept, window: {calendar: day}, limit: 1,
 applies_to: {offers: {ids: [few]}}}
---
{kind: offer, id: few, group: g, message_class: marketing, value: %d,
 eligibility: {attribute: n, gte: 2},
 treatments: [{id: t, channel: web, content: {type: json, body: {title: "{{ user.name | default: 'you' }} of {{ user.n }}"}}}]}
---
{kind: offer, id: liked, group: g, message_class: marketing, value: 6, propensity: {attribute: like},
 start: "%s", end: "%s",
 treatments: [{id: t, channel: web, content: {type: text, body: "{{ user.locale }} {{ user.id }} {{ user.born }}"}}]}
---
{kind: offer, id: recent, group: g, message_class: marketing, value: 5,
 eligibility: {event: order, count: {gte: 1}, within: 90m},
 treatments: [{id: t, channel: web, content: {type: text, body: recent}}]}
---
{kind: offer, id: hot, group: g, message_class: marketing, value: 4, eligibility: {tag: hot},
 treatments: [{id: t, channel: web, content: {type: text, body: hot}},
 {id: u, channel: web, content: {type: text, body: hotter}}]}
---
{kind: offer, id: birthday, group: g, message_class: marketing, value: 3,
 eligibility: {any: [{attribute: born, anniversary: {before: 0d, after: 0d}}, {segment: vip}]},
 treatments: [{id: t, channel: web, content: {type: text, body: birthday}}]}
---
{kind: offer, id: shown, group: held, message_class: marketing, value: 2,
 suitability: {context: page, is: cart},
 treatments: [{id: t, channel: web, content: {type: text, body: "shown on {{ user.id }}"}}]}
---
{kind: offer, id: text, group: sms, message_class: marketing,
 treatments: [{id: t, channel: sms, content: {type: text, body: text}}]}
---
{kind: offer, id: rest, group: rest, message_class: transactional,
 treatments: [{id: t, channel: web, content: {type: text, body: rest}}, {id: s, channel: sms, content: {type: text, body: rest}}]}
---
{kind: placement, id: one, channel: web, policy: g, sticky: none,
 context: {page: string, departs: time}}
---
{kind: placement, id: two, channel: web, policy: all, count: 2}
---
{kind: placement, id: out, channel: sms, policy: sms, sticky: none}
---
{kind: decision_policy, id: g, candidates: {offers: {groups: [g]}}, ranking: {by: product}, fallback: {offer: rest}}
---
{kind: decision_policy, id: all, candidates: {offers: {groups: [g, held]}}, ranking: {by: product}}
---
{kind: decision_policy, id: sms, candidates: {offers: {groups: [sms]}}, ranking: {by: product}, fallback: {offer: rest}}
---
{kind: layer, id: l}
---
{kind: experiment, id: x, layer: l, range: [0%%, 60%%], coverage: 100%%, targeting: {attribute: n, lt: 8},
 variants: [{id: a, weight: 1}, {id: b, weight: 1, set: {offers: {hot: {treatment: u}, liked: {lever: 3}, few: false}}}]}
---
{kind: holdout, id: h, range: [0%%, 20%%], start: "%s", end: "%s", covers: {offers: {groups: [g]}}}
---
{kind: cap, id: ident, scope: identity, per: offer, count_on: click, window: {rolling: 2h},
 limit: 1, applies_to: {offers: {ids: [hot, seq]}}}
---
{kind: cap, id: dev, scope: device, per: all, count_on: impression, window: {calendar: day},
 limit: 3, applies_to: {offers: {ids: [clocky]}}}
---
{kind: cap, id: btw, scope: person, per: offer, count_on: click, window: {between: ["BTWA",
 "BTWB"]}, limit: 1, min_gap: 20m, applies_to: {offers: {ids: [recent, dep]}}}
---
{kind: cap, id: btwt, scope: total, per: offer, count_on: accept, window: {between: ["BTWA",
 "BTWB"]}, limit: 1, applies_to: {offers: {ids: [dep]}}}
---
{kind: cap, id: paced, scope: total, per: offer, count_on: accept, window: {calendar: day},
 limit: 4, pacing: even, applies_to: {offers: {ids: [paid]}}}
---
{kind: cap, id: pgap, scope: total, per: offer, count_on: click, window: {rolling: 6h},
 limit: 5, min_gap: 30m, applies_to: {offers: {ids: [seq]}}}
---
{kind: offer, id: paid, group: g, message_class: marketing, value: 7,
 eligibility: {event: order, count: {gte: 1}, window: {calendar: day, zone: user}},
 treatments: [{id: t, channel: web, content: {type: text, body: paid}}]}
---
{kind: offer, id: clocky, group: g, message_class: marketing, value: 6.5,
 applicability: {all: [{context: hour_of_day, gte: 9}, {context: hour_of_day, lt: 15},
 {attribute: n, gte: 4}]},
 treatments: [{id: t, channel: web, content: {type: text, body: clocky}}]}
---
{kind: offer, id: dep, group: g, message_class: marketing, value: 8,
 suitability: {context: departs, within_next: 3h},
 treatments: [{id: t, channel: web, content: {type: text, body: dep}}]}
---
{kind: offer, id: seq, group: g, message_class: marketing, value: 7.5,
 eligibility: {sequence: [{event: order}, {event: order}], within: 2h},
 treatments: [{id: t, channel: web, content: {type: text, body: seq}}]}
---
{kind: offer, id: unseen, group: g, message_class: marketing, value: 3.5,
 eligibility: {not_seen_for: 4h}, suitability: {outcome: click, last: {within_last: 3h}},
 treatments: [{id: t, channel: web, content: {type: text, body: unseen}}]}
---
{kind: offer, id: hours, group: g, message_class: marketing, value: 5.5,
 eligibility: {all: [{not: {event: order, count: {gte: 1}, window: {calendar: hour,
 zone: user}}}, {context: day_of_week, gte: 3}]},
 treatments: [{id: t, channel: web, content: {type: text, body: hours}}]}
`

// keptPair is two engines that see the same, of which only one keeps answers.
type keptPair struct {
	t            *testing.T
	r            *rand.Rand
	keeps, never *bed
	tokens       [2][][]byte
	events       int
	given        int              // answers given again before the last start
	nothing      int              // of these and later ones, those without an item
	last         [4]DecideRequest // asked for before
}

func newKeptPair(t *testing.T, seed uint64) *keptPair {
	p := &keptPair{
		t: t, r: rand.New(rand.NewPCG(seed, 9)), keeps: newBed(t, ""), never: newBed(t, ""),
	}
	p.publish()
	for i := range 5 {
		p.each(func(b *bed) { b.user(UserDoc{UserID: fmt.Appendf(nil, "p%d", i)}) })
		p.reachable(fmt.Sprintf("p%d", i))
	}
	return p
}

func (p *keptPair) each(f func(*bed)) { f(p.keeps); f(p.never) }

// reachable lets a person be written to.
func (p *keptPair) reachable(id string) {
	p.each(func(b *bed) {
		b.user(UserDoc{
			UserID: []byte(id), Addresses: []AddressDoc{{[]byte("sms"), [][]byte{[]byte("+8613800000000")}}},
			Consents: []ConsentDoc{{
				Purpose: []byte("marketing"), Channel: []byte("sms"), Source: []byte("app"), Granted: true,
			}},
			Attributes: []NamedValue{{[]byte("n"), RawValue{Kind: RawNumber, Text: []byte("3")}}},
		})
	})
}

// publish publishes the world with another value, and dates near the clock.
func (p *keptPair) publish() {
	at := func() string {
		ms := p.keeps.m.wall + p.r.Int64N(8*3600_000)
		return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
	}
	start, held := at(), at()
	world := fmt.Sprintf(keptWorld, 3+p.r.IntN(9), start, "2090-01-01T00:00:00Z", held,
		"2090-01-01T00:00:00Z")
	if p.r.IntN(2) == 0 {
		world = fmt.Sprintf(keptWorld, 3+p.r.IntN(9), "2001-01-01T00:00:00Z", start,
			"2001-01-01T00:00:00Z", held)
	}
	from := p.keeps.m.wall + p.r.Int64N(4*hourMs)
	world = strings.NewReplacer("BTWA", isoTime(from), "BTWB", isoTime(from+2*hourMs)).Replace(world)
	p.each(func(b *bed) { b.publish(world) })
}

func (p *keptPair) person() string { return fmt.Sprintf("p%d", p.r.IntN(6)) }

func oneOf[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// patch changes something of a person.
func (p *keptPair) patch(id string) {
	r := p.r
	number := func(x string) RawValue { return RawValue{Kind: RawNumber, Text: []byte(x)} }
	doc := UserDoc{UserID: []byte(id)}
	switch r.IntN(9) {
	case 0, 1:
		doc.Attributes = []NamedValue{{[]byte("n"), number(strconv.Itoa(r.IntN(12)))}}
	case 2:
		doc.Attributes = []NamedValue{{[]byte("like"), number(oneOf(r, "0.1", "0.4", "0.9", "1"))}}
	case 3:
		day := time.UnixMilli(p.keeps.m.wall + int64(r.IntN(3)-1)*86_400_000).UTC()
		doc.Attributes = []NamedValue{
			{[]byte("born"), text(day.AddDate(-30, 0, 0).Format("2006-01-02"))},
			{[]byte("name"), text(oneOf(r, "小雨", "Ann \"A\"", ""))},
		}
	case 4:
		if doc.Tags = []TagDoc{{Name: []byte("hot")}}; r.IntN(3) == 0 {
			doc.Tags, doc.TagsRemove = nil, [][]byte{[]byte("hot")}
		}
	case 5:
		doc.HasTimezone = true
		doc.Timezone = []byte(oneOf(r, "", "Europe/Madrid", "Asia/Kathmandu", "America/New_York"))
	case 6:
		doc.HasLocale, doc.Locale = true, []byte(oneOf(r, "zh-CN", "en"))
	case 7:
		doc.Consents = []ConsentDoc{{
			Purpose: []byte("marketing"), Channel: []byte(oneOf(r, "sms", "web")), Source: []byte("app"),
			Granted: r.IntN(3) > 0,
		}}
	default:
		if doc.HasBlacklist = true; r.IntN(2) == 0 {
			doc.Blacklist = [][]byte{[]byte(oneOf(r, "web", "sms"))}
		}
	}
	p.each(func(b *bed) { b.user(doc) })
}

// change changes anything.
func (p *keptPair) change() {
	r, id := p.r, p.person()
	switch r.IntN(12) {
	case 0, 1, 2:
		p.patch(id)
	case 3, 4, 5:
		d := time.Duration(oneOf(r, 1, 999, 20_000, 60_000, 600_000, 5_400_000, 20_000_000)+
			r.IntN(1000)) * time.Millisecond
		p.each(func(b *bed) { b.m.pass(d) })
	case 6:
		p.events++
		p.each(func(b *bed) { b.event(id, "order", fmt.Sprint("e", p.events)) })
	case 7, 8:
		p.outcome()
	case 9:
		p.lists(id)
	case 10:
		switch r.IntN(4) {
		case 0:
			p.publish()
		case 1:
			p.each(func(b *bed) { _, _ = b.erase(EraseDoc{UserID: []byte(id)}) }) // p5 may not be there
		default:
			p.reachable(id) // who is not there is made
			mode := oneOf(r, FillAdd, FillRemove)
			p.each(func(b *bed) { b.fillOf("vip", mode, id) })
		}
	case 11:
		if r.IntN(4) == 0 {
			p.given += p.keeps.given()
			p.each(func(b *bed) { b.reopen() })
		}
	}
}

// outcome reports an outcome of an earlier decision.
func (p *keptPair) outcome() {
	if len(p.tokens[0]) == 0 {
		return
	}
	p.events++
	i := p.r.IntN(len(p.tokens[0]))
	name := oneOf(p.r, "impression", "click", "accept", "dismiss")
	a := p.keeps.outcome(p.tokens[0][i], name, fmt.Sprint("o", p.events))
	b := p.never.outcome(p.tokens[1][i], name, fmt.Sprint("o", p.events))
	if (a.Err == nil) != (b.Err == nil) || a.Status != b.Status {
		p.t.Fatalf("outcome %s: %+v and %+v", name, a, b)
	}
}

// lists puts a person on a list, or takes everybody off.
func (p *keptPair) lists(id string) {
	entries := []ListEntry{{Kind: ListUser, Digest: ListDigest(ListUser, []byte(id))}}
	if p.r.IntN(2) == 0 {
		entries[0].Remove = true
	}
	p.each(func(b *bed) {
		if _, err := b.e.EditList([]byte("gone"), entries); err != nil {
			p.t.Fatal(err)
		}
	})
}

// request draws what is asked, mostly in ways whose answer may be kept.
func (p *keptPair) request() DecideRequest {
	r := p.r
	req := *p.keeps.decideReq(p.person(), oneOf(r, "one", "one", "two", "out", "out"))
	req.Mode = oneOf(r, ModeDryRun, ModeDryRun, ModeLive)
	req.Placements[0].Count = oneOf(r, 0, 0, 0, 1, 2)
	if r.IntN(4) == 0 {
		req.Placements[0].PolicyID = []byte(oneOf(r, "g", "all"))
	}
	if r.IntN(2) == 0 {
		req.Context = []NamedValue{{[]byte("page"), text(oneOf(r, "cart", "home"))}}
	}
	if r.IntN(3) == 0 && string(req.Placements[0].PlacementID) == "one" {
		departs := isoTime(p.keeps.m.wall + r.Int64N(8*hourMs))
		req.Context = append(req.Context, NamedValue{[]byte("departs"), text(departs)})
	}
	if r.IntN(3) == 0 {
		device := IdentityRef{[]byte("device"), []byte(oneOf(r, "d1", "d2"))}
		req.Identities = append(req.Identities, device)
	}
	switch r.IntN(12) {
	case 0:
		req.Placements[0].Block = [][]byte{[]byte("few")}
	case 1:
		req.Placements[0].Allow = [][]byte{[]byte("hot"), []byte("liked")}
	case 2:
		req.Placements = append(req.Placements, PlacementAsk{
			Key: []byte("j"), PlacementID: []byte("one"),
		})
	case 3:
		req.Explain = ExplainWinners
	}
	return req
}

// ask asks both the same, some times over, and compares the answers.
func (p *keptPair) ask() {
	at := p.r.IntN(len(p.last))
	req := p.last[at]
	if len(req.UserID) == 0 || p.r.IntN(4) == 0 {
		req = p.request()
		p.last[at] = req
	}
	for i := range 1 + p.r.IntN(4) {
		if req.Mode == ModeLive && p.r.IntN(2) == 0 {
			p.events++
			req.RequestID = fmt.Appendf(nil, "r%d", p.events)
		}
		p.never.forget()
		before := p.keeps.given()
		got := story(&p.keeps.out, p.keeps.e.Decide(&req, &p.keeps.out))
		want := story(&p.never.out, p.never.e.Decide(&req, &p.never.out))
		if got != want {
			p.t.Fatalf("%+v, time %d for %s at %d:\n%s\nwithout answers that are kept:\n%s",
				req, i, req.UserID, p.keeps.m.wall, got, want)
		}
		if p.keeps.given() > before && len(p.keeps.out.Items) == 0 {
			p.nothing++
		}
		if req.Mode == ModeLive {
			for k := range p.keeps.out.Items {
				p.tokens[0] = append(p.tokens[0], bytes.Clone(p.keeps.out.Items[k].Token))
				p.tokens[1] = append(p.tokens[1], bytes.Clone(p.never.out.Items[k].Token))
			}
		}
		if p.r.IntN(5) == 0 {
			d := time.Duration(p.r.IntN(3)) * 30 * time.Second
			p.each(func(b *bed) { b.m.pass(d) })
		}
	}
}

// forget gives all answers up that are kept.
func (b *bed) forget() {
	for i := range b.e.kept {
		g := b.e.store.Group(storage.GroupID(i))
		g.Lock()
		b.e.kept[i].table = nil
		g.Unlock()
	}
}

// given is how many answers were given again.
func (b *bed) given() (n int) {
	for i := range b.e.kept {
		n += int(b.e.kept[i].given)
	}
	return n
}

// TestKeptAnswersAreAnswers: whatever changes in between, an engine that keeps answers
// gives what one gives that judges everybody anew each time.
func TestKeptAnswersAreAnswers(t *testing.T) {
	given, nothing, asked := 0, 0, 0
	f := func(seed uint64) {
		p := newKeptPair(t, seed)
		defer p.each(func(b *bed) { _ = b.e.Close(); b.e = nil })
		defer func() {
			if t.Failed() {
				t.Logf("TACT_SEED=%d", seed)
			}
		}()
		for range 400 {
			for range p.r.IntN(3) {
				p.change()
			}
			p.ask()
			asked++
		}
		given, nothing = given+p.given+p.keeps.given(), nothing+p.nothing
	}
	if s := os.Getenv("TACT_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		f(seed)
		return
	}
	for seed := range uint64(trackEffort(200, 2)) {
		f(seed)
	}
	if given < asked/10 || nothing < asked/100 {
		t.Errorf("%d answers were given again in %d rounds, %d of nothing: the cases are too narrow",
			given, asked, nothing)
	}
	t.Logf("%d answers given again in %d rounds, %d of nothing", given, asked, nothing)
}

// TestKeptAnswerAllocatesNothing, and what is kept of a group is as large as is said.
func TestKeptAnswerAllocatesNothing(t *testing.T) {
	b := newBed(t, `
kind: workspace
id: default
timezone: UTC
---
{kind: offer, id: a, group: g, message_class: marketing,
 treatments: [{id: t, channel: web, content: {type: text, body: "for {{ user.id }}"}}]}
---
{kind: placement, id: spot, channel: web, policy: p}
---
{kind: decision_policy, id: p, candidates: {offers: {groups: [g]}}, ranking: {by: product}}
`)
	b.user(UserDoc{UserID: []byte("ann")})
	req := b.decideReq("ann", "spot")
	req.Mode = ModeDryRun
	for range 3 {
		b.want(req, "a")
	}
	before := b.given()
	if before == 0 {
		t.Fatal("no answer was given again")
	}
	n := testing.AllocsPerRun(100, func() {
		if err := b.e.Decide(req, &b.out); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 || b.given() != before+101 || string(b.out.Items[0].Content) != "for ann" {
		t.Errorf("%v allocations, %d of 101 given again", n, b.given()-before)
	}
	if size := unsafe.Sizeof(keptTable{}); size > 400<<10 {
		t.Errorf("the answers of a group take %d bytes", size)
	}
	if size := unsafe.Sizeof(keptSet{}); size != 64 {
		t.Errorf("a set takes %d bytes", size)
	}
}

// A kept answer ends when a list comes to block the person.
func TestKeptAnswerEndsWithAList(t *testing.T) {
	b := newKeptPair(t, 1).keeps
	req := b.decideReq("p1", "out")
	req.Mode = ModeDryRun
	for range 4 {
		b.want(req, "fallback: rest")
	}
	if b.given() == 0 {
		t.Fatal("no answer was given again")
	}
	entry := ListEntry{Kind: ListUser, Digest: ListDigest(ListUser, []byte("p1"))}
	if _, err := b.e.EditList([]byte("gone"), []ListEntry{entry}); err != nil {
		t.Fatal(err)
	}
	b.want(req, "none: blacklisted")
}

// What becomes of kept answers is counted: one judged anew, one that is kept, those given
// again, and one that is given up because its person has changed.
func TestKeptAnswersAreCounted(t *testing.T) {
	b := newKeptPair(t, 1).keeps
	req := b.decideReq("p1", "out")
	req.Mode = ModeDryRun
	f := func(what string, want keptCounts) {
		t.Helper()
		b.ask(req)
		if got := b.e.keptAnswers(); got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	f("seen", keptCounts{judged: 1})
	f("kept", keptCounts{judged: 2})
	f("given", keptCounts{judged: 2, given: 1})
	b.user(UserDoc{UserID: []byte("p1"), Locale: []byte("en"), HasLocale: true})
	f("changed", keptCounts{judged: 3, given: 1, dropped: 1})
	f("given anew", keptCounts{judged: 3, given: 2, dropped: 1})
	req.Explain = ExplainAll
	f("not a plain request", keptCounts{judged: 3, given: 2, dropped: 1})
}

func isoTime(ms int64) string {
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}
