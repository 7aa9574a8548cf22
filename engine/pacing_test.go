package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tact/storage"
)

// Pacing holds back what decisions offer and says until when; an accept of what
// was offered before is refused at the limit only, also after a restart.
func TestPacedStock(t *testing.T) {
	yaml := strings.Replace(testDefinitions, "window: lifetime\nlimit: 2",
		"window: {calendar: day}\nlimit: 240\npacing: even", 1)
	b := newBed(t, yaml)
	plan := func() (cap int32, allowed int64) {
		p := b.e.snap.Load().Plan
		for i := range p.Caps {
			if p.Caps[i].ID == "stock" {
				cap = int32(i)
			}
		}
		return cap, p.PacedLimit(cap, b.e.Now())
	}
	var tokens [][]byte
	for i := range 241 {
		b.want(b.decideReq(fmt.Sprintf("s%d", i), "hero"), "coupon")
		tokens = append(tokens, slices.Clone(b.out.Items[0].Token))
	}
	next := 0
	accept := func() LineResult {
		next++
		return b.outcome(tokens[next-1], "accept", fmt.Sprint("e", next))
	}
	_, allowed := plan()
	for range allowed {
		if r := accept(); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if allowed >= 240 {
		t.Fatalf("the plan allows %d at the start of the test", allowed)
	}
	paced := func() {
		t.Helper()
		b.want(b.decideReq("late", "hero"), "fallback: story")
		i, _ := plan()
		now := b.e.Now()
		until := b.e.snap.Load().Plan.PacedUntil(i, int64(next), now)
		found := slices.ContainsFunc(b.out.Capped, func(c CappedReply) bool {
			return c.CapID == "stock" && c.Until == until && until > storage.UnixSec(now/1000)
		})
		if !found {
			t.Fatalf("capped %+v, want stock until %d", b.out.Capped, until)
		}
	}
	paced()
	if r := accept(); r.Err != nil { // of an earlier offer
		t.Fatal(r.Err)
	}
	paced()
	b.reopen()
	paced()
	i, _ := plan()
	until := b.e.snap.Load().Plan.PacedUntil(i, int64(next), b.e.Now())
	b.m.pass(time.Duration(int64(until)*1000-int64(b.e.Now())) * time.Millisecond)
	b.want(b.decideReq("late", "hero"), "coupon")
	for next < 240 {
		if r := accept(); r.Err != nil {
			t.Fatalf("accept %d: %v", next, r.Err)
		}
	}
	if r := accept(); r.Status != LineRejected {
		t.Fatalf("an accept beyond the limit: %+v", r)
	}
}
