package engine

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// An item of a decision is accepted once, whatever the event ids say: with a unit that
// the decision holds and with one that the accept takes, over a restart, for stock and
// for a person's own cap. Items of other decisions are their own; a conversion may come
// about several times; what was refunded may be bought once more.
func TestAcceptOfAnItemCountsOnce(t *testing.T) {
	f := func(what, shape string, limit int, outcome string, each bool) {
		t.Helper()
		b := newBed(t, capWorld+shape+fmt.Sprintf("limit: %d\n", limit))
		c := b.e.snap.Load().Plan.Caps[0]
		b.user(UserDoc{UserID: []byte("u1")})
		decide := func(user string) []byte {
			t.Helper()
			b.want(b.decideReq(user, "spot"), "a")
			return bytes.Clone(b.out.Items[0].Token)
		}
		n := 0
		say := func(token []byte, what, id string, flags LineFlags) {
			t.Helper()
			if r := b.outcome(token, what, id); r.Err != nil || r.Flags != flags {
				t.Fatalf("%s, %s %s: %+v", shape, what, id, r)
			}
		}
		used := func(want int) {
			t.Helper()
			v, err := b.e.ContactState([]byte("u1"), []byte("a"))
			if err != nil || len(v.Caps) != 1 {
				t.Fatalf("%+v, %v", v, err)
			}
			if got := int(v.Caps[0].Used); got != want {
				t.Fatalf("%s: %d used, want %d", what, got, want)
			}
		}
		first := decide("u1")
		for i, id := range []string{"1", "2", "2", "3", ""} {
			if i == 3 {
				b.reopen()
			}
			r := b.outcome(first, outcome, id)
			switch {
			case r.Err != nil:
				t.Fatalf("%s %s: %+v", what, id, r)
			case id == "2" && i == 2:
				if r.Status != LineDuplicate {
					t.Fatalf("%s %s: %+v", what, id, r)
				}
				continue
			case i == 0 || each:
				n++
			case r.Flags != FlagRepeat:
				t.Fatalf("%s %q: %+v is no repeat", what, id, r)
			}
			used(n)
		}
		if c.Scope.String() == "person" {
			return
		}
		second := decide("u2")
		say(second, outcome, "1", 0)
		used(n + 1)
		if each {
			return
		}
		say(second, "refund", "r", 0)
		used(n)
		say(second, outcome, "2", 0)
		used(n + 1)
		say(second, outcome, "3", FlagRepeat)
		say(second, "refund", "s", FlagRepeat)
		used(n + 1)
		b.m.pass(time.Hour)
		b.e.tick()
		used(n + 1)
		if err := b.e.CheckStore(); err != nil {
			t.Fatal(err)
		}
	}
	const stock = "scope: total\nper: all\nwindow: lifetime\n"
	f("stock", stock+"count_on: accept\n", 5, "accept", false)
	f("held stock", stock+"count_on: accept\nhold: 15m\n", 5, "accept", false)
	f("both", stock+"count_on: [accept, convert]\n", 5, "accept", false)
	f("sales", stock+"count_on: convert\n", 9, "convert", true)
	f("a person's", "scope: person\nper: all\nwindow: lifetime\ncount_on: accept\n", 5, "accept", false)
	f("clicks", "scope: person\nper: all\nwindow: lifetime\ncount_on: click\n", 9, "click", true)
}
