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
		return cap, p.PacedUnits(cap, b.e.Now(), nil) + 1
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
		until := b.e.snap.Load().Plan.PacedUntil(i, int64(next), now, nil)
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
	until := b.e.snap.Load().Plan.PacedUntil(i, int64(next), b.e.Now(), nil)
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

// While holds reach over midnight, pacing says when the plan gives the next unit by
// the same count that it refused by.
func TestPacedOverMidnight(t *testing.T) {
	hours := strings.Repeat("0, ", 23) + "1" // all of the day's traffic is in its last hour
	b := newBed(t, capWorld+"scope: total\nper: offer\ncount_on: impression\n"+
		"applies_to: {channels: [web]}\nwindow: {calendar: day, zone: UTC}\nlimit: 20\nhold: 10m\n"+
		"pacing: {by: even, hours: ["+hours+"]}\n")
	const day = 86_400_000
	next := (b.e.Now()/day + 1) * day
	until := func(before time.Duration) {
		b.m.pass(time.Duration(next-b.e.Now())*time.Millisecond - before)
	}
	fill := func(round string) (n int) {
		for n = 0; b.ask(b.decideReq(fmt.Sprint(round, n), "spot")) == "a"; n++ {
			token := slices.Clone(b.out.Items[0].Token)
			if round == "day" {
				if r := b.outcome(token, "impression", fmt.Sprint("e", n)); r.Err != nil {
					t.Fatal(r.Err)
				}
			}
		}
		return n
	}
	until(30 * time.Minute)
	if n := fill("day"); n != 11 { // half of 20, and the next one
		t.Fatalf("%d", n)
	}
	until(6 * time.Minute) // nine tenths: holds end on the next day
	if n := fill("night"); n != 8 {
		t.Fatalf("%d", n)
	}
	want := int64(next)/1000 - 180 // 19 of 20
	if got := int64(b.out.Capped[0].Until); got != want {
		t.Fatalf("until %d, want %d", got, want)
	}
}

// A refusal gives back the unit that the decision held for it, once and at once;
// an accept behind it takes a unit again while there is one.
func TestRefusalGivesTheUnitBack(t *testing.T) {
	b := newBed(t, testDefinitions+strings.Replace(twoStocks, "limit: 3", "limit: 1", 1))
	used := func() int64 {
		t.Helper()
		p := b.e.snap.Load().Plan
		o, _ := p.OfferByID([]byte("coupon"))
		for i := range p.Caps {
			if p.Caps[i].ID == "held_stock" {
				return b.e.store.Totals().Used(counterKey(p.Caps[i].Counter, p.Offers[o].Name), 0)
			}
		}
		return -1
	}
	say := func(token []byte, what, id string, want int64) {
		t.Helper()
		if r := b.outcome(token, what, id); r.Err != nil {
			t.Fatalf("%s: %v", what, r.Err)
		}
		if got := used(); got != want {
			t.Fatalf("after %s: %d used, want %d", what, got, want)
		}
	}
	b.want(b.decideReq("u1", "hero"), "coupon")
	first := slices.Clone(b.out.Items[0].Token)
	b.want(b.decideReq("u2", "hero"), "fallback: story")
	if got := b.e.Totals(); len(got) != 1 || got[0] != (TotalView{
		CapID: "held_stock", Of: "coupon", Held: 1, Limit: 1, Planned: 1,
	}) {
		t.Fatalf("%+v", got)
	}
	say(first, "impression", "1", 1)
	say(first, "reject", "2", 0)
	say(first, "reject", "2", 0) // once more
	b.want(b.decideReq("u2", "hero"), "coupon")
	second := slices.Clone(b.out.Items[0].Token)
	say(first, "reject", "3", 1) // another refusal of the same item takes nothing from others
	if r := b.outcome(first, "accept", "4"); r.Status != LineRejected {
		t.Fatalf("an accept without a unit: %+v", r)
	}
	say(second, "reject", "5", 1) // its impression is not reported: the item holds on
	say(second, "impression", "6", 1)
	say(second, "reject", "7", 0)
	b.reopen()
	if used() != 0 {
		t.Fatalf("%d used after a restart", used())
	}
	say(first, "accept", "8", 1)
	if got := b.e.Totals(); len(got) != 2 || got[0].Spent != 1 || got[0].Held != 0 ||
		got[1].CapID != "stock" || got[1].Spent != 1 {
		t.Fatalf("%+v", got)
	}
}

// A paced cap costs a decision one atomic read; the first of a second computes.
func TestPlannedAllocatesNothing(t *testing.T) {
	b := newBed(t, strings.Replace(testDefinitions, "window: lifetime\nlimit: 2",
		"window: {calendar: day}\nlimit: 240\npacing: even", 1))
	snap, now := b.e.snap.Load(), b.e.Now()
	name := snap.Plan.Caps[len(snap.Plan.Caps)-1].Counter
	for _, c := range snap.Plan.Caps {
		if c.ID == "stock" {
			name = c.Counter
		}
	}
	if n := testing.AllocsPerRun(100, func() { now += 500; snap.planned(name, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPlanned(b *testing.B) {
	set := "kind: workspace\nid: w\ntimezone: Asia/Shanghai\n---\nkind: cap\nid: c\nscope: total\n" +
		"per: all\ncount_on: accept\nwindow: {calendar: day}\nlimit: 240\npacing: even\n"
	e, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	if _, faults, _, err := e.Publish(testFiles(set), "b", "", 0); err != nil || len(faults) > 0 {
		b.Fatal(err, faults)
	}
	snap, now := e.snap.Load(), e.Now()
	b.ReportAllocs()
	for b.Loop() {
		snap.planned(snap.Plan.Caps[0].Counter, now)
	}
}
