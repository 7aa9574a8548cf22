package engine

import (
	"bytes"
	"testing"
	"time"

	"tact/storage"
)

const unheldHead = capWorld + "scope: person\nper: offer\ncount_on: impression\n" +
	"window: {rolling: 30d}\nlimit: 9\n"

// A contact counts in the caps that hold nothing of it too, while the reservation of
// others lives and after all of it is confirmed: it happened. Each cap counts the item
// once, whichever kinds come, also over a start, and says which decision it was.
func TestContactThatACapDoesNotHold(t *testing.T) {
	say := func(kind string, flags LineFlags) func(*bed, []byte, string) {
		return func(b *bed, token []byte, id string) {
			b.t.Helper()
			if r := b.outcome(token, kind, id); r.Err != nil || r.Flags != flags {
				b.t.Fatalf("%s %s: %+v, want %d", kind, id, r, flags)
			}
		}
	}
	publish := func(more string) func(*bed, []byte, string) {
		return func(b *bed, _ []byte, _ string) { b.publish(unheldHead + more) }
	}
	wait := func(d time.Duration) func(*bed, []byte, string) {
		return func(b *bed, _ []byte, _ string) { b.m.pass(d); b.e.tick() }
	}
	f := func(what, more string, c, d int64, steps ...func(*bed, []byte, string)) {
		t.Helper()
		b := newBed(t, unheldHead+more)
		b.user(UserDoc{UserID: []byte("ann")})
		b.want(b.decideReq("ann", "spot"), "a")
		token, id := bytes.Clone(b.out.Items[0].Token), b.out.ID
		for i, step := range steps {
			if step(b, token, string(rune('a'+i))); i == len(steps)-2 {
				b.reopen()
			}
		}
		if got := [...]int64{b.used("ann", "a", "c"), b.used("ann", "a", "d")}; got != [...]int64{c, d} {
			t.Errorf("%s: %v used, want %d and %d", what, got, c, d)
		}
		v, err := b.e.ContactState([]byte("ann"), []byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range v.Caps {
			for _, u := range x.Uses {
				if len(u.Decisions) != 1 || u.Decisions[0] != storage.DecisionID(id) {
					t.Errorf("%s: %s: a use of %v, want one of %v", what, x.CapID, u.Decisions, id)
				}
			}
		}
	}
	cap := func(scope, on string) string {
		return "---\nkind: cap\nid: d\nscope: " + scope + "\nper: offer\ncount_on: " + on +
			"\nwindow: {rolling: 30d}\nlimit: 3\n"
	}
	sends, shows, both := cap("person", "send"), cap("person", "impression"),
		cap("person", "[impression, send]")
	// What is held beside it stays held.
	f("what does not happen on a page", sends, 1, 1, say("send", FlagLate), say("send", FlagRepeat))
	f("then what does", sends, 1, 1, say("send", FlagLate), say("impression", 0),
		say("impression", FlagRepeat))
	f("after all was confirmed", sends, 1, 1, say("impression", 0), say("send", FlagLate),
		say("send", FlagRepeat), say("impression", FlagRepeat))
	f("published since", "", 1, 1, publish(shows), say("impression", 0), say("impression", FlagRepeat))
	f("published after it was shown", "", 1, 0, say("impression", 0), publish(shows),
		say("impression", FlagRepeat))
	f("by the other kind", both, 1, 1, say("impression", 0), say("send", 0), say("send", 0))
	f("the other kind first", both, 1, 1, say("send", 0), say("impression", 0),
		say("impression", FlagRepeat))
	f("published since, of both", "", 1, 1, publish(both), say("send", FlagLate),
		say("impression", 0), say("send", FlagRepeat))
	f("of everybody", cap("total", "send"), 1, 1, say("send", FlagLate), say("impression", 0),
		say("send", FlagRepeat))
	f("in the grace", "", 1, 1, publish(shows), wait(12*time.Minute), say("impression", 0),
		say("impression", FlagRepeat))
	f("nobody counts it", "", 1, 0, say("send", 0), say("delivered", 0))
}

// A purchase is counted in a total that was published while the decision holds a unit of
// another one, and a full one refuses it: then nothing of the other is used.
func TestAcceptThatATotalDoesNotHold(t *testing.T) {
	stock := func(id, limit string) string {
		return "---\nkind: cap\nid: " + id + "\nscope: total\nper: offer\ncount_on: accept\n" +
			"window: lifetime\nhold: 15m\nlimit: " + limit + "\n"
	}
	head := unheldHead + stock("s", "5")
	b := newBed(t, head)
	tokens := [2][]byte{}
	for i, user := range []string{"ann", "bob"} {
		b.user(UserDoc{UserID: []byte(user)})
		b.want(b.decideReq(user, "spot"), "a")
		tokens[i] = bytes.Clone(b.out.Items[0].Token)
	}
	b.publish(head + stock("t", "1"))
	if r := b.outcome(tokens[0], "accept", "1"); r.Err != nil {
		t.Fatal(r.Err)
	}
	r := b.outcome(tokens[1], "accept", "2")
	if p, ok := r.Err.(*Problem); !ok || p.Code != "capped_total" {
		t.Fatalf("%v, want capped_total", r.Err)
	}
	b.reopen()
	if s, d := b.used("ann", "a", "s"), b.used("ann", "a", "t"); s != 2 || d != 1 {
		t.Errorf("%d and %d used, want one sold and one held, and one sold", s, d)
	}
	if r := b.outcome(tokens[0], "refund", "3"); r.Err != nil || r.Flags != 0 {
		t.Fatalf("%+v", r)
	}
	if s, d := b.used("ann", "a", "s"), b.used("ann", "a", "t"); s != 1 || d != 0 {
		t.Errorf("%d and %d used after the refund, want one held", s, d)
	}
	if r := b.outcome(tokens[1], "accept", "4"); r.Err != nil {
		t.Fatal(r.Err)
	}
	if err := b.e.CheckStore(); err != nil {
		t.Error(err)
	}
}
