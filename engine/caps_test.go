package engine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// capWorld is one offer `a` on one web placement `spot`, under the caps given.
const capWorld = `
kind: workspace
id: default
timezone: Asia/Shanghai
---
kind: attribute
id: allowed
type: int
---
kind: event
id: complaint
---
kind: event
id: order
---
kind: offer
id: a
group: g
message_class: marketing
treatments: [{id: t, channel: web, content: {type: text, body: a}}]
---
kind: placement
sticky: none
id: spot
channel: web
policy: p
---
kind: decision_policy
id: p
candidates: {offers: {groups: [g]}}
---
kind: cap
id: c
`

// show decides for a person and reports the impression; it returns the answer.
func (b *bed) show(req *DecideRequest) string {
	b.t.Helper()
	got := b.ask(req)
	if len(b.out.Items) > 0 {
		token := bytes.Clone(b.out.Items[0].Token)
		if r := b.outcome(token, "impression", "i"); r.Err != nil || r.Flags&FlagLate != 0 {
			b.t.Fatalf("%+v", r)
		}
		b.out.Items = b.out.Items[:0]
	}
	return got
}

func (b *bed) shows(req *DecideRequest, want string) {
	b.t.Helper()
	if got := b.show(req); got != want {
		b.t.Fatalf("got %q, want %q; capped %v", got, want, b.out.Capped)
	}
}

func (b *bed) event(user, name, id string, props ...NamedValue) {
	b.t.Helper()
	doc := EventDoc{
		EventID: []byte(id), UserID: []byte(user), Event: []byte(name), Properties: props,
		Raw: []byte("{}"),
	}
	if r := b.apply(func(x *Batch) LineResult { return x.Event(&doc) }); r.Err != nil {
		b.t.Fatal(r.Err)
	}
}

// Caps of an identity and of a device count inside one person, apart from the
// person's other identities and devices. A request that names none is refused.
func TestCapsByIdentityAndDevice(t *testing.T) {
	f := func(scope, typ string, without string) {
		t.Helper()
		b := newBed(t, capWorld+"scope: "+scope+
			"\nper: offer\ncount_on: impression\nwindow: {rolling: 1d}\nlimit: 1\n")
		one, two := IdentityRef{[]byte(typ), []byte("x1")}, IdentityRef{[]byte(typ), []byte("x2")}
		b.user(UserDoc{UserID: []byte("ann"), Identities: []IdentityRef{one, two}})
		ask := func(id IdentityRef) *DecideRequest {
			req := b.decideReq("ann", "spot")
			req.Identities = []IdentityRef{id}
			return req
		}
		b.shows(ask(one), "a")
		b.shows(ask(one), "none: capped_user")
		b.shows(ask(two), "a")
		b.reopen()
		b.shows(ask(two), "none: capped_user")
		b.shows(b.decideReq("ann", "spot"), without)
	}
	f("identity", "email", "a") // the user_id is an identity of its own
	f("device", "device", "none: user_not_found")
}

// The reaction of an item counts for the device that the decision was made for,
// whether it comes with a token or with the decision's id.
func TestReactionCountsForItsDevice(t *testing.T) {
	b := newBed(t, capWorld+
		"scope: device\nper: all\ncount_on: [click, order]\nwindow: {rolling: 1d}\nlimit: 1\n")
	ask := func(device string) *DecideRequest {
		req := b.decideReq("ann", "spot")
		req.Identities = []IdentityRef{{[]byte("device"), []byte(device)}}
		return req
	}
	b.want(ask("d1"), "a")
	if r := b.outcome(bytes.Clone(b.out.Items[0].Token), "click", "1"); r.Err != nil {
		t.Fatal(r.Err)
	}
	b.want(ask("d1"), "none: capped_contact")
	b.want(ask("d2"), "a")
	doc := OutcomeDoc{
		DecisionID: fmt.Appendf(nil, "%x", b.out.ID[:]), Outcome: []byte("order"), EventID: []byte("2"),
	}
	if r := b.apply(func(x *Batch) LineResult { return x.Outcome(&doc) }); r.Err != nil {
		t.Fatal(r.Err)
	}
	b.want(ask("d2"), "none: capped_contact")
	b.want(ask("d3"), "a")
}

// An event of the person counts for caps of all offers, and for one offer when it
// names it; once, however often it is sent.
func TestEventsAreCounted(t *testing.T) {
	b := newBed(t, capWorld+
		"scope: person\nper: all\ncount_on: [complaint, order]\nwindow: {rolling: 1d}\nlimit: 2\n")
	b.want(b.decideReq("ann", "spot"), "a")
	b.event("ann", "complaint", "e1")
	b.event("ann", "complaint", "e1")
	b.want(b.decideReq("ann", "spot"), "a")
	b.event("ann", "order", "e2")
	b.want(b.decideReq("ann", "spot"), "none: capped_contact")
	b.want(b.decideReq("bob", "spot"), "a")
	b.m.pass(24*time.Hour + time.Second)
	b.want(b.decideReq("ann", "spot"), "a")

	b = newBed(t, capWorld+
		"scope: person\nper: offer\ncount_on: order\nwindow: lifetime\nlimit: 1\n")
	b.event("ann", "order", "e1")
	b.want(b.decideReq("ann", "spot"), "a") // of no offer
	b.event("ann", "order", "e2", NamedValue{[]byte("offer_id"), text("nothing")})
	b.want(b.decideReq("ann", "spot"), "a")
	b.event("ann", "order", "e3", NamedValue{[]byte("offer_id"), text("a")})
	b.want(b.decideReq("ann", "spot"), "none: capped_user")
}

// From the second rejection on, each one closes the offer for a day.
func TestSuppression(t *testing.T) {
	b := newBed(t, capWorld+"scope: person\nper: offer\ncount_on: impression\n"+
		"window: {rolling: 1h}\nlimit: 100\nsuppress: {after: 2, of: [dismiss, complaint], for: 1d}\n")
	dismiss := func(id string) {
		t.Helper()
		b.want(b.decideReq("ann", "spot"), "a")
		if r := b.outcome(bytes.Clone(b.out.Items[0].Token), "dismiss", id); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	dismiss("1")
	b.m.pass(40 * 24 * time.Hour)
	dismiss("2")
	until := b.e.Now()/1000 + 86400
	b.want(b.decideReq("ann", "spot"), "none: suppressed")
	if c := b.out.Capped; len(c) != 1 || c[0].CapID != "c" || int64(c[0].Until) != int64(until) {
		t.Fatalf("%+v, want until %d", c, until)
	}
	b.m.pass(24*time.Hour - time.Second)
	b.want(b.decideReq("ann", "spot"), "none: suppressed")
	b.m.pass(time.Second)
	dismiss("3")
	b.want(b.decideReq("ann", "spot"), "none: suppressed")
	b.reopen()
	b.m.pass(25 * time.Hour)
	b.event("ann", "complaint", "4", NamedValue{[]byte("offer_id"), text("a")})
	b.want(b.decideReq("ann", "spot"), "none: suppressed")
}

// The limit of an attribute: its default, its maximum, and a change at once.
func TestLimitOfAnAttribute(t *testing.T) {
	b := newBed(t, capWorld+"scope: person\nper: offer\ncount_on: decision\n"+
		"window: {rolling: 1d}\nlimit: {attribute: allowed, default: 1, max: 3}\n")
	set := func(n string) {
		b.user(UserDoc{UserID: []byte("ann"), Attributes: []NamedValue{
			{[]byte("allowed"), RawValue{Kind: RawNumber, Text: []byte(n)}},
		}})
	}
	req := b.decideReq("ann", "spot")
	b.want(req, "a")
	b.want(req, "none: capped_user")
	set("2")
	b.want(req, "a")
	b.want(req, "none: capped_user")
	set("99")
	b.want(req, "a")
	b.want(req, "none: capped_user")
	set("0")
	b.m.pass(25 * time.Hour)
	b.want(req, "none: capped_user")
	set("-5")
	b.want(req, "none: capped_user")
}

// A limit above 64 is exact in a calendar window, to the use and to the second.
func TestGreatLimit(t *testing.T) {
	b := newBed(t, capWorld+"scope: person\nper: offer\ncount_on: decision\n"+
		"window: {calendar: day, zone: UTC}\nlimit: 150\n")
	const day = 86_400_000
	next := (b.e.Now()/day + 1) * day
	b.m.pass(time.Duration(next-b.e.Now()) * time.Millisecond)
	req := b.decideReq("ann", "spot")
	for range 150 {
		b.want(req, "a")
		b.m.pass(7 * time.Minute)
	}
	b.want(req, "none: capped_user")
	if until := int64(b.out.Capped[0].Until); until != int64(next+day)/1000 {
		t.Fatalf("until %d, want %d", until, (next+day)/1000)
	}
	b.reopen()
	b.want(req, "none: capped_user")
	b.m.pass(time.Duration(next+day-b.e.Now()-1) * time.Millisecond)
	b.want(req, "none: capped_user")
	b.m.pass(time.Millisecond)
	b.want(req, "a")
}

// A window of two times binds until it ends.
func TestBetween(t *testing.T) {
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	const start = 1_790_000_000_000
	b := newBed(t, capWorld+"scope: person\nper: offer\ncount_on: decision\nwindow: {between: [\""+
		at(start+3600_000)+"\", \""+at(start+7200_000)+"\"]}\nlimit: 1\n")
	req := b.decideReq("ann", "spot")
	b.want(req, "a")
	b.want(req, "a")
	b.m.pass(time.Hour)
	b.want(req, "a")
	b.want(req, "none: capped_user")
	b.m.pass(time.Hour - time.Second)
	b.want(req, "none: capped_user")
	b.m.pass(time.Second)
	b.want(req, "a")
	b.want(req, "a")
}

// A total's window of two times counts from when it begins: decisions and reactions
// of before take nothing of it.
func TestBetweenOfATotal(t *testing.T) {
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	const start = 1_790_000_000_000
	window := "window: {between: [\"" + at(start+3600_000) + "\", \"" + at(start+7200_000) + "\"]}\n"
	b := newBed(t, capWorld+"scope: total\nper: offer\ncount_on: decision\n"+window+"limit: 1\n")
	req := b.decideReq("ann", "spot")
	b.want(req, "a")
	b.want(req, "a")
	b.m.pass(time.Hour)
	b.want(req, "a")
	b.want(req, "none: capped_total")
	b.m.pass(time.Hour)
	b.want(req, "a")

	b = newBed(t, capWorld+"scope: total\nper: offer\ncount_on: accept\n"+window+"limit: 1\n")
	accept := func(id, want string) {
		t.Helper()
		b.want(b.decideReq("ann", "spot"), want)
		if len(b.out.Items) > 0 {
			if r := b.outcome(bytes.Clone(b.out.Items[0].Token), "accept", id); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	accept("1", "a")
	accept("2", "a")
	b.m.pass(time.Hour)
	accept("3", "a")
	accept("4", "none: capped_total")
}

// A contact of a total with a window of two times counts when its time lies in it. One
// that is held before the begin and may happen until then holds a unit; when it turns out
// to have happened before, the unit is given back, over a start and in money too; one that
// cannot happen in the window holds none.
func TestBetweenOfATotalHeldOverTheBegin(t *testing.T) {
	const start = 1_790_000_000_000
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	window := "window: {between: [\"" + at(start+3600_000) + "\", \"" + at(start+7200_000) + "\"]}\n"
	f := func(what, shape string, before bool) {
		t.Helper()
		b := newBed(t, strings.Replace(capWorld, "group: g\n", "group: g\ncost: {amount: \"2.50\", currency: CNY}\n", 1)+
			"scope: total\nper: offer\ncount_on: impression\n"+window+shape)
		held := func(want int64) {
			t.Helper()
			if got := b.e.Totals(); len(got) > 0 && got[0].Spent+got[0].Held != want ||
				len(got) == 0 && want > 0 {
				t.Fatalf("%s: %+v, want %d", what, got, want)
			}
		}
		unit := int64(1)
		if strings.Contains(shape, "amount") {
			unit = 250
		}
		b.want(b.decideReq("joe", "spot"), "a") // it ends long before the begin
		held(0)
		b.m.pass(55 * time.Minute)
		b.want(b.decideReq("ann", "spot"), "a")
		token := bytes.Clone(b.out.Items[0].Token)
		held(unit)
		b.want(b.decideReq("bob", "spot"), "none: capped_total")
		if !before {
			b.m.pass(6 * time.Minute)
		}
		b.reopen()
		if r := b.outcome(token, "impression", "1"); r.Err != nil || r.Flags != 0 {
			t.Fatalf("%s: %+v", what, r)
		}
		if r := b.outcome(token, "impression", "2"); r.Err != nil || r.Flags != FlagRepeat {
			t.Fatalf("%s: %+v", what, r)
		}
		want := "none: capped_total"
		if before {
			unit, want = 0, "a"
		}
		held(unit)
		b.reopen()
		held(unit)
		b.m.pass(6 * time.Minute)
		b.want(b.decideReq("bob", "spot"), want)
		if err := b.e.CheckStore(); err != nil {
			t.Fatal(err)
		}
	}
	f("before", "limit: 1\n", true)
	f("behind", "limit: 1\n", false)
	f("before, in money", "limit: {amount: \"4.00\", currency: CNY}\nspends: cost\n", true)
	f("behind, in money", "limit: {amount: \"4.00\", currency: CNY}\nspends: cost\n", false)
	f("before, with a gap", "limit: 1\nmin_gap: 2m\n", true)
}

// A scoped token has room for two variants less, and is as long as any.
func TestScopedToken(t *testing.T) {
	s, err := newSealer([16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	var w tokenScratch
	in := token{Offer: 7, Identity: 1, Device: 1 << 31}
	for in.NVariants < in.maxVariants() {
		in.Variants[in.NVariants] = 9
		in.NVariants++
	}
	text := s.Append(nil, &in, &w)
	var out token
	if err := s.Open(text, &out, &w); err != nil || out != in || len(text) > 160 {
		t.Fatalf("%v %d\n%+v\n%+v", err, len(text), in, out)
	}
	if strings.Contains(string(text), "=") || in.NVariants != 8 {
		t.Fatalf("%s", text)
	}
}

// A rolling total: never more uses in a window than the limit, and room again when
// the oldest has left, at most a 24th of the window late; the same after a start.
func TestRollingTotal(t *testing.T) {
	b := newBed(t, capWorld+"scope: total\nper: offer\ncount_on: decision\n"+
		"window: {rolling: 1h}\nlimit: 3\n")
	var granted []int64
	for i := range 400 {
		req := b.decideReq(fmt.Sprint("u", i), "spot")
		now := int64(b.e.Now())
		switch got := b.ask(req); got {
		case "a":
			granted = append(granted, now)
			if n := len(granted); n > 3 && now-granted[n-4] < 3600_000 {
				t.Fatalf("four uses in %d ms", now-granted[n-4])
			}
		case "none: capped_total":
			until := int64(b.out.Capped[0].Until)
			oldest := (granted[len(granted)-3] + 999) / 1000
			if until < oldest+3600 || until > oldest+3600+150 {
				t.Fatalf("full until %d, its third latest use was at %d", until, oldest)
			}
		default:
			t.Fatal(got)
		}
		if i == 200 {
			b.reopen()
		}
		b.m.pass(173 * time.Second)
	}
	if len(granted) < 400*173/3750*3-3 {
		t.Fatalf("only %d uses", len(granted))
	}
	if err := b.e.CheckStore(); err != nil {
		t.Fatal(err)
	}
}

// A total's minimum gap holds between any two people.
func TestGapOfATotal(t *testing.T) {
	b := newBed(t, capWorld+"scope: total\nper: offer\ncount_on: decision\n"+
		"window: lifetime\nlimit: 100\nmin_gap: 10m\n")
	b.want(b.decideReq("ann", "spot"), "a")
	b.want(b.decideReq("bob", "spot"), "none: min_gap")
	until := int64(b.out.Capped[0].Until)
	b.reopen()
	b.m.pass(time.Duration(until*1000-int64(b.e.Now())-1) * time.Millisecond)
	b.want(b.decideReq("bob", "spot"), "none: min_gap")
	b.m.pass(time.Millisecond)
	b.want(b.decideReq("bob", "spot"), "a")
	if until > 1_790_000_000+600+25 || until < 1_790_000_000+600 {
		t.Fatalf("until %d", until)
	}
}

// A use of a total that is held over midnight may happen on either day, and counts
// on both until it has.
func TestHeldTotalOverMidnight(t *testing.T) {
	b := newBed(t, capWorld+"scope: total\nper: offer\ncount_on: impression\n"+
		"window: {calendar: day, zone: UTC}\nlimit: 1\n")
	const day = 86_400_000
	next := (b.e.Now()/day + 1) * day
	b.m.pass(time.Duration(next-b.e.Now()-60_000) * time.Millisecond)
	b.want(b.decideReq("ann", "spot"), "a")
	b.want(b.decideReq("bob", "spot"), "none: capped_total")
	b.m.pass(2 * time.Minute)
	b.want(b.decideReq("bob", "spot"), "none: capped_total")
	if until := int64(b.out.Capped[0].Until); until != int64(next+day)/1000 {
		t.Fatalf("until %d, want %d", until, (next+day)/1000)
	}
}

// A confirm moves a held use of a total to the day it happened on: the next day is
// not full of it, also after a start; and no day has more uses than the limit.
func TestConfirmDatesATotal(t *testing.T) {
	b := newBed(t, capWorld+"scope: total\nper: offer\ncount_on: impression\n"+
		"window: {calendar: day, zone: UTC}\nlimit: 2\n")
	const day = 86_400_000
	next := (b.e.Now()/day + 1) * day
	ask := func(user, want string) (token []byte) {
		t.Helper()
		b.m.pass(30 * time.Second)
		b.want(b.decideReq(user, "spot"), want)
		if len(b.out.Items) > 0 {
			token = bytes.Clone(b.out.Items[0].Token)
		}
		return token
	}
	see := func(token []byte, id string) {
		t.Helper()
		if r := b.outcome(token, "impression", id); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	b.m.pass(time.Duration(next-b.e.Now()-300_000) * time.Millisecond)
	ann, bob := ask("ann", "a"), ask("bob", "a")
	ask("eve", "none: capped_total")
	see(ann, "1")
	ask("eve", "none: capped_total") // the present day has two all the same
	b.m.pass(5 * time.Minute)
	eve := ask("eve", "a")           // one of the day before has happened there
	ask("joe", "none: capped_total") // the other may still come
	b.reopen()
	ask("joe", "none: capped_total")
	see(bob, "2") // on the later day
	ask("joe", "none: capped_total")
	see(eve, "3")
	ask("joe", "none: capped_total")
	b.reopen()
	ask("joe", "none: capped_total")
	if got := b.e.Totals(); len(got) != 1 || got[0].Spent != 2 || got[0].Held != 0 {
		t.Fatalf("%+v", got)
	}
	b.m.pass(24 * time.Hour)
	ask("joe", "a")
	if err := b.e.CheckStore(); err != nil {
		t.Fatal(err)
	}
}

// A minimum gap of a total runs from when the contact happened, once that is known.
func TestConfirmDatesAGap(t *testing.T) {
	b := newBed(t, capWorld+"scope: total\nper: offer\ncount_on: impression\n"+
		"window: lifetime\nlimit: 9\nmin_gap: 2m\napplies_to: {channels: [web]}\n")
	b.want(b.decideReq("ann", "spot"), "a")
	token := bytes.Clone(b.out.Items[0].Token)
	b.m.pass(3 * time.Minute)
	b.want(b.decideReq("bob", "spot"), "none: min_gap") // it may happen for 10 minutes
	if r := b.outcome(token, "impression", "1"); r.Err != nil {
		t.Fatal(r.Err)
	}
	b.m.pass(time.Minute)
	b.want(b.decideReq("bob", "spot"), "none: min_gap")
	b.m.pass(time.Minute + 11*time.Second) // a cell is 10 seconds
	b.want(b.decideReq("bob", "spot"), "a")
}

// A total whose window changes begins anew: cells of the old window are no cells of
// the new one, in either direction; a start changes nothing.
func TestTotalWindowChanges(t *testing.T) {
	windows := []string{
		"{calendar: day}", "{calendar: week}", "{calendar: hour}", "{rolling: 1h}", "{rolling: 24h}",
		"lifetime", `{between: ["2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z"]}`,
		"{calendar: day, every: 2}",
	}
	for i, from := range windows {
		for k, to := range windows {
			if i == k {
				continue
			}
			text := func(window string) string {
				return capWorld + "scope: total\nper: offer\ncount_on: decision\nlimit: 1\nwindow: " +
					window + "\n"
			}
			b := newBed(t, text(from))
			ann := b.decideReq("ann", "spot")
			b.want(ann, "a")
			b.want(ann, "none: capped_total")
			b.publish(text(to))
			b.want(ann, "a")
			b.want(ann, "none: capped_total")
			if got := b.e.Totals(); len(got) != 1 || got[0].Spent != 1 {
				t.Fatalf("%s to %s: %+v", from, to, got)
			}
			b.reopen()
			b.want(ann, "none: capped_total")
			b.m.pass(15 * 24 * time.Hour)
			if to != "lifetime" && !strings.HasPrefix(to, "{between") {
				b.want(ann, "a") // its windows pass as they should
			}
		}
	}
}

// The same of a minimum gap.
func TestTotalGapChanges(t *testing.T) {
	text := func(gap string) string {
		return capWorld + "scope: total\nper: offer\ncount_on: decision\nlimit: 9\n" +
			"window: lifetime\nmin_gap: " + gap + "\n"
	}
	for _, gaps := range [][2]string{{"1h", "24h"}, {"24h", "1h"}} {
		b := newBed(t, text(gaps[0]))
		ann := b.decideReq("ann", "spot")
		b.want(ann, "a")
		b.publish(text(gaps[1]))
		b.want(ann, "a")
		b.want(ann, "none: min_gap")
		b.m.pass(26 * time.Hour)
		b.want(ann, "a")
	}
}

// A cap that counts from history knows what the person's tail held when it was
// published, and refuses while its window reaches behind the tail.
func TestCountsFromHistory(t *testing.T) {
	const free = "scope: person\nper: offer\ncount_on: send\nwindow: {rolling: 1d}\nlimit: 1\n"
	const strict = "scope: person\nper: offer\ncount_on: [impression]\nwindow: {rolling: 1d}\n" +
		"limit: 3\ncounts_from: history\n"
	b := newBed(t, capWorld+free)
	ann, bob, eve := b.decideReq("ann", "spot"), b.decideReq("bob", "spot"), b.decideReq("eve", "spot")
	b.user(UserDoc{UserID: []byte("ann")})
	b.user(UserDoc{UserID: []byte("eve")})
	see := func(user string, id int) {
		t.Helper()
		b.want(b.decideReq(user, "spot"), "a")
		token := bytes.Clone(b.out.Items[0].Token)
		if r := b.outcome(token, "impression", fmt.Sprint(user, id)); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	see("ann", 1)
	b.m.pass(time.Hour)
	see("ann", 2)
	for i := range 70 {
		see("eve", i)
	}
	eveLost := int64(b.e.Now())
	b.publish(capWorld + strict)
	b.m.pass(time.Hour)
	b.event("ann", "order", "x") // the tail changes: it is counted before that
	b.want(bob, "a")
	b.shows(ann, "a")
	b.want(ann, "none: capped_user")
	b.reopen()
	b.want(ann, "none: capped_user")
	b.want(eve, "none: capped_user")
	if until := int64(b.out.Capped[0].Until); until < eveLost/1000+86400 {
		t.Fatalf("until %d, what is not known ends at %d", until, eveLost/1000+86400)
	}
	b.m.pass(22*time.Hour + time.Second)
	b.shows(ann, "a") // the first has left the day
	b.want(ann, "none: capped_user")
	b.m.pass(2 * time.Hour)
	b.shows(eve, "a")
}

// smallDisk is a file system whose free space is set.
type smallDisk struct {
	vfs.FS
	free atomic.Uint64
}

func (d *smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free := d.free.Load()
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 41, UsedBytes: 1<<41 - free}, nil
}

// While nothing can be written, a person whose history was not counted yet gets no
// offer that has caps, and an answer.
func TestCountsFromHistoryDiskFull(t *testing.T) {
	b := &bed{t: t, dir: "store", m: &machine{wall: 1_790_000_000_000, mono: 1}}
	disk := &smallDisk{FS: vfs.NewMem()}
	disk.free.Store(1 << 40)
	b.fs = disk
	b.open()
	t.Cleanup(func() { _ = b.e.Close() })
	b.publish(capWorld + "scope: person\nper: offer\ncount_on: impression\n" +
		"window: {rolling: 1d}\nlimit: 3\ncounts_from: history\n")
	b.user(UserDoc{UserID: []byte("ann")})
	full := func(full bool, free uint64) {
		t.Helper()
		disk.free.Store(free)
		for end := time.Now().Add(10 * time.Second); b.e.store.DiskFull() != full; {
			if time.Now().After(end) {
				t.Fatalf("disk full is not %v", full)
			}
			time.Sleep(time.Millisecond)
		}
	}
	ann := b.decideReq("ann", "spot")
	full(true, 1<<20)
	b.want(ann, "none: deadline")
	if !slices.Equal(b.out.Degraded, []string{"not_recorded"}) {
		t.Fatalf("degraded %v", b.out.Degraded)
	}
	full(false, 1<<40)
	b.want(ann, "a")
	if len(b.out.Degraded) > 0 {
		t.Fatalf("degraded %v", b.out.Degraded)
	}
}

// An event that is refused counts nothing, however often it is sent, and leaves
// nobody behind.
func TestEventRefusedWhole(t *testing.T) {
	world := strings.Replace(capWorld, "id: order\n",
		"id: order\nproperties: {note: {type: string, indexed: true}}\n", 1)
	b := newBed(t, world+"scope: person\nper: offer\ncount_on: order\n"+
		"window: lifetime\nlimit: 2\n")
	long := text(strings.Repeat("x", 9<<10))
	b.user(UserDoc{UserID: []byte("ann")})
	for i := range 3 {
		for _, user := range []string{"ann", "eve"} {
			doc := EventDoc{
				EventID: []byte("x"), UserID: []byte(user), Event: []byte("order"),
				Properties: []NamedValue{{[]byte("offer_id"), text("a")}, {[]byte("note"), long}},
				Raw:        []byte("{}"),
			}
			if r := b.apply(func(x *Batch) LineResult { return x.Event(&doc) }); r.Err == nil {
				t.Fatalf("%s, %d: it was taken", user, i)
			}
		}
	}
	if _, err := b.e.ContactState([]byte("eve"), nil); err == nil {
		t.Error("a refused event left a person")
	}
	v, err := b.e.ContactState([]byte("ann"), []byte("a"))
	if err != nil || v.Caps[0].Used != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	b.event("ann", "order", "y", NamedValue{[]byte("offer_id"), text("a")})
	if v, _ := b.e.ContactState([]byte("ann"), []byte("a")); v.Caps[0].Used != 1 {
		t.Fatalf("%+v", v)
	}
}

// What contact-state says is what the next decision does.
func TestContactState(t *testing.T) {
	b := newBed(t, capWorld+"scope: person\nper: offer\ncount_on: impression\n"+
		"window: {rolling: 1h}\nlimit: 2\nsuppress: {after: 1, of: dismiss, for: 2h}\n"+
		"---\nkind: cap\nid: stock\nscope: total\nper: all\ncount_on: decision\n"+
		"window: {rolling: 1d}\nlimit: 3\n")
	state := func() map[string]CounterView {
		t.Helper()
		v, err := b.e.ContactState([]byte("ann"), []byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]CounterView{}
		for _, c := range v.Caps {
			out[c.CapID] = c
		}
		return out
	}
	if _, err := b.e.ContactState([]byte("ann"), nil); err == nil {
		t.Fatal("an unknown user has a state")
	}
	b.user(UserDoc{UserID: []byte("ann")})
	if c := state()["c"]; c.Used != 0 || c.Reason != "" || c.Limit != 2 || c.Dimension != "a" {
		t.Fatalf("%+v", c)
	}
	b.shows(b.decideReq("ann", "spot"), "a")
	used := b.e.Now()
	b.m.pass(time.Minute)
	b.want(b.decideReq("ann", "spot"), "a")
	token := bytes.Clone(b.out.Items[0].Token)
	c := state()["c"]
	if c.Used != 2 || len(c.Uses) != 1 || len(c.Reserved) != 1 || c.Reason != "capped_user" ||
		int64(c.Uses[0].At) != int64(used/1000) || int64(c.Until) != int64(used)/1000+3600 ||
		c.Reserved[0].OfferID != "a" || c.Reserved[0].ID.Number == 0 {
		t.Fatalf("%+v, first used at %d", c, used/1000)
	}
	if s := state()["stock"]; s.Used != 2 || s.Limit != 3 || s.Reason != "" {
		t.Fatalf("%+v", s)
	}
	if r := b.outcome(token, "dismiss", "d"); r.Err != nil {
		t.Fatal(r.Err)
	}
	c = state()["c"]
	if c.Reason != "suppressed" || len(c.Rejections) != 1 ||
		int64(c.Until) != int64(b.e.Now())/1000+7200 {
		t.Fatalf("%+v", c)
	}
	b.m.pass(3 * time.Hour)
	b.shows(b.decideReq("ann", "spot"), "a")
	if s := state()["stock"]; s.Reason != "capped_total" || s.Until == 0 {
		t.Fatalf("%+v", s)
	}
	all, err := b.e.ContactState([]byte("ann"), nil)
	if err != nil || len(all.Caps) != 2 || all.Caps[0].CapID != "c" || all.Caps[0].Used != 1 ||
		all.Caps[1].CapID != "stock" || all.Caps[1].Used != 3 || all.Caps[1].Until == 0 {
		t.Fatalf("%+v %v", all, err)
	}
}
