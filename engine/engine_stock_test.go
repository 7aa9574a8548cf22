package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tact/storage"
)

// twoStocks counts the accepts of the coupon twice: in a stock of three that the
// decision holds, and in one of one that only the accept takes.
const twoStocks = `
---
kind: cap
id: held_stock
applies_to: {offers: {ids: [coupon]}}
scope: total
per: offer
count_on: accept
window: lifetime
limit: 3
hold: 15m
`

// A refused accept takes nothing: the units of the other totals stay.
func TestRefusedAcceptTakesNothing(t *testing.T) {
	yaml := strings.Replace(testDefinitions, "window: lifetime\nlimit: 2", "window: lifetime\nlimit: 1", 1)
	b := newBed(t, yaml+twoStocks)
	var tokens [][]byte
	for i := range 3 {
		b.want(b.decideReq(fmt.Sprintf("s%d", i), "hero"), "coupon")
		tokens = append(tokens, slices.Clone(b.out.Items[0].Token))
	}
	used := func(want int64) {
		t.Helper()
		var sum int64
		for i := range b.e.snap.Load().Plan.Caps {
			c := &b.e.snap.Load().Plan.Caps[i]
			if c.ID == "held_stock" {
				o, _ := b.e.snap.Load().Plan.OfferByID([]byte("coupon"))
				key := counterKey(c.Counter, b.e.snap.Load().Plan.Offers[o].Name)
				sum = b.e.store.Totals().Used(key, 0)
			}
		}
		if sum != want {
			t.Fatalf("%d of held_stock used, want %d", sum, want)
		}
	}
	used(3)
	if r := b.outcome(tokens[0], "accept", "a"); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := b.outcome(tokens[1], "accept", "b"); r.Status != LineRejected {
		t.Fatalf("%+v", r)
	}
	used(3)
	b.m.pass(21 * time.Minute)
	b.e.tick()
	used(1) // the two that were not accepted came back, once
	b.reopen()
	used(1)
	if r := b.outcome(tokens[0], "accept", "c"); r.Err != nil || r.Flags&FlagRepeat == 0 {
		t.Fatalf("a second accept of one item took stock: %+v", r)
	}
	used(1)
	if r := b.outcome(tokens[1], "accept", "d"); r.Status != LineRejected {
		t.Fatalf("stock that is used up was taken: %+v", r)
	}
	used(1)
}

// Of one request that wants more units than are left, as many slots are filled
// as there are units.
func TestScarceTotalFillsWhatItCan(t *testing.T) {
	yaml := strings.Replace(testDefinitions, "count_on: accept", "count_on: impression", 1)
	b := newBed(t, yaml)
	req := b.decideReq("u1", "hero")
	req.Dedupe = DedupeNone
	for i := range 2 {
		req.Placements = append(req.Placements, PlacementAsk{
			Key: fmt.Appendf(nil, "k%d", i), PlacementID: []byte("hero"),
		})
	}
	anonymous := *req
	anonymous.UserID, anonymous.Identities = []byte("u2"), nil
	b.want(b.decideReq("u0", "hero"), "coupon")
	b.want(&anonymous, "coupon, fallback: story, fallback: story")
	b.want(b.decideReq("u3", "hero"), "fallback: story")
}

// A confirm after life and grace is late, also when nothing has swept the
// reservation yet; the same contact under one event id of another item is its own.
func TestLateConfirmIsFlagged(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.user(UserDoc{UserID: []byte("u1")})
	b.user(UserDoc{UserID: []byte("u2")})
	b.want(b.decideReq("u1", "hero"), "coupon")
	first := slices.Clone(b.out.Items[0].Token)
	b.want(b.decideReq("u2", "hero"), "coupon")
	second := slices.Clone(b.out.Items[0].Token)
	if r := b.outcome(second, "impression", "1"); r.Err != nil || r.Flags != 0 {
		t.Fatalf("%+v", r)
	}
	b.m.pass(16 * time.Minute)
	if r := b.outcome(first, "impression", "1"); r.Err != nil || r.Flags&FlagLate == 0 {
		t.Fatalf("%+v", r)
	}
	b.want(b.decideReq("u1", "hero"), "fallback: story") // it is a use all the same
}

// A publish may not change the type of what is stored; every fault of rules and
// messages is shown beside those of documents.
func TestFaultsAreCompleteAndTypesStay(t *testing.T) {
	b := newBed(t, testDefinitions)
	changed := strings.Replace(testDefinitions, "id: age\ntype: int", "id: age\ntype: float", 1)
	_, faults, _, err := b.e.Publish(testFiles(changed), "t", "", 0)
	if err != nil || len(faults) != 1 || !strings.Contains(faults[0].Message, "from int to float") {
		t.Fatalf("%v %v", faults, err)
	}
	broken := strings.Replace(testDefinitions, "value: 10", "valu: 10", 1)
	broken = strings.Replace(broken, "not: {tag: complaint_open}", "not: {tag: complaint_opn}", 1)
	broken = strings.Replace(broken, "{{ context.page }}", "{{ context.pge }}", 1)
	faults, _ = b.e.Check(testFiles(broken))
	text := fmt.Sprint(faults)
	for _, want := range []string{"valu", "complaint_opn", "context.pge"} {
		if !strings.Contains(text, want) {
			t.Errorf("no fault names %s: %s", want, text)
		}
	}
}

// An empty allow list allows nothing, whatever was asked before.
func TestEmptyAllowList(t *testing.T) {
	b := newBed(t, testDefinitions)
	req := b.decideReq("u1", "hero")
	req.Mode = ModeDryRun
	for range 2 {
		req.Placements[0].Allow = [][]byte{}
		b.want(req, "none: blocked_by_request")
		req.Placements[0].Allow = [][]byte{[]byte("coupon")}
		b.want(req, "coupon")
	}
}

func counterKey(name, dim storage.Name) storage.CounterKey {
	return storage.CounterKey{Cap: name, Dim: uint32(dim)}
}

// A limit that grows is exact from what the ring remembers: where an older use
// of the new window has been forgotten, the cap counts as full.
func TestGrownLimitErrsToLess(t *testing.T) {
	short := strings.Replace(testDefinitions, "window: {rolling: 1h}", "window: {rolling: 10s}", 1)
	short = strings.Replace(short, "groups: [growth]", "ids: [coupon]", 1)
	short = strings.Replace(short, "ids: [coupon]}}\nscope: total", "ids: [points]}}\nscope: total", 1)
	b := newBed(t, short)
	b.user(UserDoc{UserID: []byte("u1")})
	for i := range 5 {
		b.want(b.decideReq("u1", "hero"), "coupon")
		token := slices.Clone(b.out.Items[0].Token)
		if r := b.outcome(token, "impression", fmt.Sprint(i)); r.Err != nil || r.Flags != 0 {
			t.Fatalf("%+v", r)
		}
		b.m.pass(12 * time.Second)
	}
	b.publish(strings.Replace(short, "{rolling: 10s}\nlimit: 1", "{rolling: 1h}\nlimit: 5", 1))
	b.want(b.decideReq("u1", "hero"), "fallback: story")
	b.m.pass(59*time.Minute + 30*time.Second)
	b.want(b.decideReq("u1", "hero"), "coupon")
}

// A request whose reservation ran out and was given back is decided anew, as of now:
// what the retry holds counts, and a second retry repeats it.
func TestRetryAfterExpiryIsDecidedNow(t *testing.T) {
	b := newBed(t, capWorld+"scope: total\nper: offer\ncount_on: impression\n"+
		"window: lifetime\nlimit: 1\nhold: 10s\nconfirm_grace: 5s\n")
	b.user(UserDoc{UserID: []byte("ann")})
	req := b.decideReq("ann", "spot")
	req.RequestID, req.BodyHash = []byte("q"), 7
	b.want(req, "a")
	first := b.out.ID
	b.m.pass(20 * time.Second)
	b.e.tick()
	b.want(req, "a")
	second := b.out.ID
	if b.out.Replayed || second == first || b.out.DecidedAt != b.e.Now() ||
		b.out.Items[0].ExpiresAt != b.e.Now()+10_000 {
		t.Fatalf("decided at %d, now %d: %+v", b.out.DecidedAt, b.e.Now(), b.out.Items[0])
	}
	b.want(b.decideReq("ann", "spot"), "none: capped_total")
	b.want(req, "a")
	if !b.out.Replayed || b.out.ID != second {
		t.Fatalf("replayed %v", b.out.Replayed)
	}
}
