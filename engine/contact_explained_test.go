package engine

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"tact/storage"
)

// unexplained finds a counter whose figures are not told by what stands beside them:
// the uses in the window are those confirmed, held and perhaps lost, and it refuses
// when they reach the limit and only then. named: every use of a limit up to 64 came
// from a decision, and says which.
func unexplained(v *ContactView, named bool) error {
	for i := range v.Caps {
		c := &v.Caps[i]
		if c.Scope == "total" {
			if c.Spent+c.Held != c.Used || c.Burnt > c.Spent {
				return fmt.Errorf("%s: %d used, %d spent, %d held, %d burnt", c.CapID, c.Used,
					c.Spent, c.Held, c.Burnt)
			}
			continue
		}
		sum := int64(0)
		for _, u := range c.Uses {
			if u.InWindow {
				sum += int64(u.Count)
			}
			if named && c.Limit <= 64 && c.CapID != "great" && len(u.Decisions) != int(u.Count) {
				return fmt.Errorf("%s: a use of %s has no decision: %+v", v.UserID, c.CapID, u)
			}
		}
		for _, h := range c.Reserved {
			if h.InWindow {
				sum++
			}
		}
		for _, l := range c.Lost {
			if l.InWindow {
				sum++
			}
		}
		full := c.Reason == "capped_user" || c.Reason == "capped_contact"
		switch {
		case sum != c.Used:
			return fmt.Errorf("%s: %d used, %d told: %+v", v.UserID, c.Used, sum, *c)
		case full != (c.Used >= c.Limit || c.KnownSince != 0) && c.Reason != "suppressed":
			return fmt.Errorf("%s: %d of %d used, and %q: %+v", v.UserID, c.Used, c.Limit, c.Reason, *c)
		}
	}
	return nil
}

// Every use that a limit up to 64 still counts names its decision, however many of
// other caps came after it, over starts, and when its offer is not published any
// more.
func TestEveryKeptUseNamesItsDecision(t *testing.T) {
	world := strings.Replace(capWorld, "kind: placement", `kind: offer
id: b
group: g
message_class: marketing
value: 3
treatments: [{id: t, channel: web, placements: [side], content: {type: text, body: b}}]
---
kind: placement
sticky: none
id: side
channel: web
policy: p
---
kind: placement`, 1) + "scope: person\nper: all\ncount_on: impression\nwindow: lifetime\n" +
		"limit: 64\napplies_to: {placements: [spot]}\n---\n" +
		"{kind: cap, id: sides, scope: person, per: offer, count_on: impression,\n" +
		" window: {rolling: 1d}, limit: 60}\n---\n" +
		"{kind: cap, id: many, scope: person, per: all, count_on: impression,\n" +
		" window: {rolling: 1d}, limit: 200}\n"
	b := newBed(t, world)
	b.user(UserDoc{UserID: []byte("ann")})
	made := map[int64]storage.DecisionID{} // by second
	see := func(placement, offer string) {
		t.Helper()
		b.m.pass(30 * time.Minute)
		b.want(b.decideReq("ann", placement), offer)
		made[int64(b.e.Now()/1000)] = b.out.ID
		token := bytes.Clone(b.out.Items[0].Token)
		if r := b.outcome(token, "impression", fmt.Sprint(len(made))); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	check := func(want map[string]int) {
		t.Helper()
		v, err := b.e.ContactState([]byte("ann"), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, c := range v.Caps {
			for _, u := range c.Uses {
				for _, id := range u.Decisions {
					if c.CapID != "many" && made[int64(u.At)] != id {
						t.Fatalf("%s: the use at %d says it came from %x", c.CapID, u.At, id)
					}
				}
				got[c.CapID+" "+c.Dimension] += len(u.Decisions)
			}
		}
		counts := got["many "] // of a limit above 64 the newest 32 at least
		delete(got, "many ")
		if err := unexplained(v, false); err != nil || !maps.Equal(got, want) || counts < 32 {
			t.Fatalf("%v; named %v and %d, want %v", err, got, counts, want)
		}
	}
	for range 40 {
		see("spot", "a")
	}
	for range 100 {
		see("side", "b")
	}
	want := map[string]int{"c ": 40, "sides a": 40, "sides b": 60}
	check(want)
	b.reopen()
	check(want)
	b.publish(strings.Replace(world, "id: a\n", "id: other\n", 1))
	check(want)
}
