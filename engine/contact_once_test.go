package engine

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// An item that several kinds of contact are counted of is counted once in each cap,
// however late the others come and whatever has become of other reservations: after the
// person's memory of resolved ones is full, after a restart, after the life of the
// reservation, and after the keys of outcomes are forgotten as long as a counter that
// keeps times has the use.
func TestContactKindsCountOnce(t *testing.T) {
	const both, sent, came = "[send, delivered]", "send", "delivered"
	used := func(b *bed, id string) (n int) {
		t.Helper()
		v, err := b.e.ContactState([]byte("ann"), []byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range v.Caps {
			if c.CapID == id {
				n += int(c.Used)
			}
		}
		return n
	}
	// others resolves so many further reservations of the person.
	others := func(b *bed, n int) {
		for range n {
			b.want(b.decideReq("ann", "other"), "b")
			if r := b.outcome(bytes.Clone(b.out.Items[0].Token), "send", "x"); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	cap := func(id, on string) string {
		return "---\nkind: cap\nid: " + id + "\nscope: person\nper: offer\ncount_on: " + on +
			"\nwindow: {rolling: 60d}\nlimit: 40\n"
	}
	total := "---\nkind: cap\nid: t\nscope: total\nper: offer\ncount_on: " + both +
		"\nwindow: lifetime\nlimit: 1000\n"
	world := onceWorld + cap("c", both) + cap("s", sent) + cap("d", came) + total
	f := func(what string, first, second string, between func(*bed), c, s, d int) {
		t.Helper()
		b := newBed(t, world)
		b.reachable("ann")
		b.want(b.decideReq("ann", "spot"), "a")
		token := bytes.Clone(b.out.Items[0].Token)
		for i, on := range []string{first, second, first, second} {
			if i == 1 {
				between(b)
			}
			if r := b.outcome(token, on, fmt.Sprint(i)); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		if got := [...]int{used(b, "c"), used(b, "s"), used(b, "d"), used(b, "t")}; got != [...]int{
			c, s, d, c,
		} {
			t.Errorf("%s: %s, then %s: %v used, want %v", what, first, second, got, []int{c, s, d, c})
		}
		if err := b.e.CheckStore(); err != nil {
			t.Error(err)
		}
	}
	for _, on := range [][2]string{{"send", "delivered"}, {"delivered", "send"}, {"send", "send"}} {
		d := 1 // what has not come is held for its life
		f("at once", on[0], on[1], func(*bed) {}, 1, 1, d)
		f("17 others", on[0], on[1], func(b *bed) { others(b, 17) }, 1, 1, d)
		f("restart", on[0], on[1], func(b *bed) { others(b, 17); b.reopen() }, 1, 1, d)
		if on[0] == on[1] {
			d = 0
		}
		f("late", on[0], on[1], func(b *bed) { b.m.pass(30 * time.Hour) }, 1, 1, d)
		f("late and full", on[0], on[1], func(b *bed) {
			b.m.pass(30 * time.Hour)
			others(b, 17)
		}, 1, 1, d)
	}
	month := func(b *bed) {
		for range 30 {
			b.m.pass(24 * time.Hour)
			b.e.tick()
		}
		others(b, 17)
		b.reopen()
	}
	f("a month", "send", "send", month, 1, 1, 0)
	// The mark of the send says that the cap of both has it.
	f("a month", "send", "delivered", month, 1, 1, 1)
}

func (b *bed) reachable(user string) {
	b.t.Helper()
	b.user(UserDoc{
		UserID: []byte(user), Addresses: []AddressDoc{{[]byte("sms"), [][]byte{[]byte("+8613800000000")}}},
	})
}

const onceWorld = `
kind: workspace
id: default
timezone: UTC
consent_required: []
---
kind: offer
id: a
group: g
message_class: transactional
treatments: [{id: t, channel: sms, content: {type: text, body: a}}]
---
kind: offer
id: b
group: h
message_class: transactional
treatments: [{id: u, channel: sms, content: {type: text, body: b}}]
---
kind: placement
id: spot
channel: sms
sticky: none
policy: p
---
kind: placement
id: other
channel: sms
sticky: none
policy: q
---
kind: decision_policy
id: p
candidates: {offers: {groups: [g]}}
---
kind: decision_policy
id: q
candidates: {offers: {groups: [h]}}
`

// A reservation of which one contact was confirmed and the other given back says so,
// and the other still counts when it comes.
func TestHalfConfirmedIsLate(t *testing.T) {
	b := newBed(t, onceWorld+"---\n{kind: cap, id: s, scope: person, per: offer, count_on: send, "+
		"window: {rolling: 60d}, limit: 5}\n---\n{kind: cap, id: d, scope: person, per: offer, "+
		"count_on: delivered, window: {rolling: 60d}, limit: 5}\n")
	b.reachable("ann")
	b.want(b.decideReq("ann", "spot"), "a")
	token := bytes.Clone(b.out.Items[0].Token)
	if r := b.outcome(token, "send", "1"); r.Err != nil || r.Flags != 0 {
		t.Fatalf("%+v", r)
	}
	b.m.pass(30 * time.Hour)
	b.want(b.decideReq("ann", "other"), "b") // what has run out is dropped
	if r := b.outcome(token, "delivered", "2"); r.Err != nil || r.Flags != FlagLate {
		t.Fatalf("%+v, want it late", r)
	}
	v, err := b.e.ContactState([]byte("ann"), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range v.Caps {
		if c.Used != 1 {
			t.Errorf("%s: %d used, want 1", c.CapID, c.Used)
		}
	}
}

// A contact of an item that held nothing counts in the caps that count it when it
// happens: of a window that has begun since, and of a cap published since; once, over a
// start, and not in the caps it is exempt from. A fallback counts nothing.
func TestContactThatHeldNothing(t *testing.T) {
	const start = 1_790_000_000_000
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	known := true
	f := func(what, cap, later string, flags LineFlags, next string) {
		t.Helper()
		b := newBed(t, capWorld+cap)
		if known {
			b.user(UserDoc{UserID: []byte("ann")})
		}
		b.want(b.decideReq("ann", "spot"), "a")
		it := &b.out.Items[0]
		if it.Reserved {
			t.Fatalf("%s: something is held", what)
		}
		token := bytes.Clone(it.Token)
		b.m.pass(time.Hour)
		if later != "" {
			b.publish(capWorld + later)
		}
		say := func(id string, want LineFlags) {
			t.Helper()
			if r := b.outcome(token, "impression", id); r.Err != nil || r.Flags != want {
				t.Fatalf("%s: %+v, want %d", what, r, want)
			}
		}
		if say("1", flags); flags != 0 {
			b.reopen()
			say("2", FlagRepeat)
		}
		b.want(b.decideReq("ann", "spot"), next)
	}
	const person = "scope: person\nper: offer\ncount_on: impression\nlimit: 1\n"
	const total = "scope: total\nper: offer\ncount_on: impression\nlimit: 1\n"
	between := "window: {between: [\"" + at(start+1800_000) + "\", \"" + at(start+7200_000) + "\"]}\n"
	const clicks = "scope: person\nper: offer\ncount_on: click\nwindow: lifetime\nlimit: 1\n"
	f("a total that has begun", total+between, "", FlagLate, "none: capped_total")
	f("published since", clicks, person+"window: lifetime\n", FlagLate, "none: capped_user")
	f("of another kind", clicks, "", 0, "a")
	f("exempt", clicks, person+"window: lifetime\nexempt: [marketing]\n", 0, "a")
	known = false
	f("of a stranger", total+between, "", FlagLate, "none: capped_total")
}
