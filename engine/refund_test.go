package engine

import (
	"bytes"
	"testing"
	"time"

	"tact/storage"
)

// A refund gives the unit of a purchase back to the window that it was counted in:
// once, after a restart too, from a reservation and from a use.
func TestRefund(t *testing.T) {
	f := func(hold string, rollover bool) {
		t.Helper()
		b := newBed(t, capWorld+"scope: total\nper: all\ncount_on: accept\n"+
			"window: {calendar: day}\nlimit: 2\n"+hold)
		snap := b.e.snap.Load()
		c := snap.Plan.Caps[0].Counter
		used := func(day uint32, want int64) {
			t.Helper()
			if got := b.e.store.Totals().Used(storage.CounterKey{Cap: c}, day); got != want {
				t.Fatalf("hold %q, rollover %v: %d used, want %d", hold, rollover, got, want)
			}
		}
		day, _ := snap.Plan.TotalWindow(c, b.e.Now())
		decide := func(user string) []byte {
			t.Helper()
			b.want(b.decideReq(user, "spot"), "a")
			return bytes.Clone(b.out.Items[0].Token)
		}
		say := func(token []byte, what, id string, flags LineFlags) {
			t.Helper()
			if r := b.outcome(token, what, id); r.Err != nil || r.Flags != flags {
				t.Fatalf("%s %s: %+v", what, id, r)
			}
		}
		first, second := decide("u1"), decide("u2")
		say(first, "refund", "0", map[bool]LineFlags{true: FlagRepeat}[hold == ""]) // of what it holds
		say(first, "accept", "1", 0)
		say(second, "accept", "1", 0)
		used(day, 2)
		b.reopen()
		if rollover {
			b.m.pass(24 * time.Hour)
			b.e.tick()
		}
		say(first, "refund", "2", 0)
		used(day, 1)
		used(day+1, 0)
		if r := b.outcome(first, "refund", "2"); r.Status != LineDuplicate {
			t.Fatalf("%+v", r)
		}
		say(first, "refund", "3", FlagRepeat)
		b.reopen()
		say(first, "refund", "4", FlagRepeat)
		used(day, 1)
		say(decide("u3"), "refund", "1", map[bool]LineFlags{true: FlagRepeat}[hold == ""])
		used(day, 1)
		if err := b.e.CheckStore(); err != nil {
			t.Fatal(err)
		}
	}
	f("", false)
	f("", true)
	f("hold: 15m\n", false)
	f("hold: 15m\n", true)
}

// A refund of a value gives back no more than the value, and no more than was
// spent.
func TestRefundOfValue(t *testing.T) {
	b := newBed(t, moneyWorld)
	spent := func(want int64) {
		t.Helper()
		for _, v := range b.e.Totals() {
			if v.CapID == "sold" && v.Spent != want {
				t.Fatalf("%+v, want %d", v, want)
			}
		}
	}
	sell := func(user string, value float64) []byte {
		t.Helper()
		b.want(b.decideReq(user, "spot"), "dear")
		token := bytes.Clone(b.out.Items[0].Token)
		if r := b.value(token, "accept", "a", value); r.Err != nil {
			t.Fatal(r.Err)
		}
		return token
	}
	first, second := sell("u1", 8), sell("u2", 1.5)
	spent(950)
	if r := b.value(first, "refund", "r", 3.259); r.Err != nil || r.Flags != 0 {
		t.Fatalf("%+v", r)
	}
	spent(625)
	if r := b.value(second, "refund", "r", 1000); r.Err != nil || r.Flags != 0 {
		t.Fatalf("%+v", r)
	}
	spent(475)
}
