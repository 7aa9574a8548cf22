package engine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tact/storage"
)

// stickyWorld is two offers on a web placement that is sticky because nothing else
// is said, each shown once a day; a is the better one.
const stickyWorld = `
kind: workspace
id: default
timezone: UTC
---
{kind: tag, id: vip}
---
{kind: offer, id: a, group: g, message_class: marketing, value: 2,
 treatments: [{id: t, channel: web, content: {type: text, body: a}}]}
---
{kind: offer, id: b, group: g, message_class: marketing, value: 1,
 treatments: [{id: t, channel: web, content: {type: text, body: b}}]}
---
{kind: placement, id: spot, channel: web, policy: p}
---
{kind: placement, id: other, channel: web, policy: p}
---
{kind: decision_policy, id: p, candidates: {offers: {groups: [g]}}, ranking: {by: product}}
---
{kind: cap, id: c, scope: person, per: offer, count_on: impression, window: {rolling: 1d}, limit: 1}
`

// reload is what the reply says of the one item that was given.
type reload struct {
	decision storage.DecisionID
	held     storage.ReservationID
	expires  storage.UnixMsec
	token    []byte
}

func (b *bed) reload(req *DecideRequest, want string) reload {
	b.t.Helper()
	b.want(req, want)
	it := &b.out.Items[0]
	return reload{b.out.ID, it.Reservation, it.ExpiresAt, bytes.Clone(it.Token)}
}

// used is how many uses of a cap the person has for an offer.
func (b *bed) used(user, offer, id string) int64 {
	b.t.Helper()
	v, err := b.e.ContactState([]byte(user), []byte(offer))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range v.Caps {
		if c.CapID == id {
			return c.Used
		}
	}
	return 0
}

// A reload gets the same offer under another decision, with the same reservation
// and its end, and takes no second use: at once, after a restart, and under a
// request id of its own.
func TestStickyReload(t *testing.T) {
	b := newBed(t, stickyWorld)
	b.user(UserDoc{UserID: []byte("ann")})
	req := b.decideReq("ann", "spot")
	first := b.reload(req, "a")
	b.m.pass(3 * time.Minute)
	again := b.reload(req, "a")
	if again.decision == first.decision || again.held != first.held ||
		again.expires != first.expires || bytes.Equal(again.token, first.token) {
		t.Fatalf("first %+v, again %+v", first, again)
	}
	b.want(b.decideReq("ann", "other"), "b") // held here, not there
	b.reopen()
	req.RequestID, req.BodyHash = []byte("r"), 7
	named := b.reload(req, "a")
	replay := b.reload(req, "a")
	if !b.out.Replayed || named.decision != replay.decision || named.held != first.held ||
		replay.held != first.held || replay.expires != first.expires {
		t.Fatalf("named %+v, replayed %v %+v", named, b.out.Replayed, replay)
	}
	if n := b.used("ann", "a", "c"); n != 1 {
		t.Fatalf("%d uses", n)
	}
	b.m.pass(16 * time.Minute) // it runs out, and its grace, both anew since the start
	b.reload(b.decideReq("ann", "spot"), "a")
	if b.out.Items[0].Reservation == first.held {
		t.Fatal("a reservation that ran out was given again")
	}
	if err := b.e.CheckStore(); err != nil {
		t.Fatal(err)
	}
}

// One reservation confirms one use, whichever of its decisions reports it first.
func TestStickyConfirmsOnce(t *testing.T) {
	b := newBed(t, stickyWorld)
	b.user(UserDoc{UserID: []byte("ann")})
	req := b.decideReq("ann", "spot")
	first, again := b.reload(req, "a"), b.reload(req, "a")
	if r := b.outcome(again.token, "impression", "1"); r.Err != nil || r.Flags != 0 {
		t.Fatalf("%+v", r)
	}
	for range 2 {
		if r := b.outcome(first.token, "impression", "2"); r.Err != nil ||
			r.Status == LineApplied && r.Flags != FlagRepeat {
			t.Fatalf("%+v", r)
		}
	}
	if n := b.used("ann", "a", "c"); n != 1 {
		t.Fatalf("%d uses", n)
	}
	b.want(req, "b") // what was seen is not open any more
}

// What ends it: a gate that refuses now, a counter that the reservation does not
// hold, a request that forbids the offer.
func TestStickyEnds(t *testing.T) {
	f := func(what string, change func(b *bed, req *DecideRequest), want string) {
		t.Helper()
		b := newBed(t, stickyWorld)
		b.user(UserDoc{UserID: []byte("ann")})
		req := b.decideReq("ann", "spot")
		b.want(req, "a")
		change(b, req)
		if got := b.ask(req); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	publish := func(old, new string) func(*bed, *DecideRequest) {
		return func(b *bed, _ *DecideRequest) {
			b.t.Helper()
			text := strings.Replace(stickyWorld, old, new, 1)
			if text == stickyWorld {
				b.t.Fatal("nothing to publish")
			}
			b.publish(text)
		}
	}
	const a = "{kind: offer, id: a, group: g, message_class: marketing, value: 2,"
	f("nothing", func(*bed, *DecideRequest) {}, "a")
	f("a better offer", publish("value: 1", "value: 9"), "a")
	f("another limit", publish("limit: 1", "limit: 2"), "a")
	f("a limit of none", publish("limit: 1", "limit: 0"), "none: capped_user")
	f("an offer that is gone", publish("id: a, group: g", "id: z, group: g"), "z")
	f("another group", publish("id: a, group: g", "id: a, group: h"), "b")
	f("dates", publish(a, a+` end: "2026-09-01T00:00:00Z",`), "b")
	f("a rule", publish(a, a+" eligibility: {tag: vip},"), "b")
	f("another placement's", func(_ *bed, req *DecideRequest) {
		req.Placements[0].PlacementID = []byte("other")
	}, "b")
	f("sticky: none", publish("id: spot, channel: web", "id: spot, sticky: none, channel: web"), "b")
	f("a cap more", publish("rolling: 1d}, limit: 1}", "rolling: 1d}, limit: 1}\n---\n"+
		"{kind: cap, id: d, scope: person, per: placement, count_on: impression, "+
		"window: {rolling: 1d}, limit: 5}"), "b")
	f("a withdrawn consent", func(b *bed, _ *DecideRequest) {
		b.user(UserDoc{UserID: []byte("ann"), Consents: []ConsentDoc{{
			Purpose: []byte("marketing"), Channel: []byte("web"), At: b.e.Now(),
		}}})
	}, "none: consent_missing")
	f("a blacklist", func(b *bed, _ *DecideRequest) {
		b.user(UserDoc{UserID: []byte("ann"), HasBlacklist: true, Blacklist: [][]byte{[]byte("web")}})
	}, "none: blacklisted")
	f("a blocked offer", func(_ *bed, req *DecideRequest) {
		req.Placements[0].Block = [][]byte{[]byte("a")}
	}, "b")
	f("its end", func(b *bed, _ *DecideRequest) { b.m.pass(10 * time.Minute) }, "b")
	f("its release", func(b *bed, _ *DecideRequest) { b.m.pass(16 * time.Minute) }, "a")
}

// A cap on a reaction is judged as ever, and one on the decision is used again.
func TestStickyBesideOtherCaps(t *testing.T) {
	b := newBed(t, stickyWorld+`
---
{kind: cap, id: clicks, scope: person, per: offer, count_on: click, window: {rolling: 1d}, limit: 1}
---
{kind: cap, id: decisions, scope: person, per: offer, count_on: decision, window: {rolling: 1d},
 limit: 3}
`)
	b.user(UserDoc{UserID: []byte("ann")})
	req := b.decideReq("ann", "spot")
	for range 3 {
		b.want(req, "a")
	}
	b.want(req, "b") // the fourth decision
	if n := b.used("ann", "a", "decisions"); n != 3 {
		t.Fatalf("%d decisions counted", n)
	}
	b.user(UserDoc{UserID: []byte("bob")})
	req = b.decideReq("bob", "spot")
	first := b.reload(req, "a")
	if r := b.outcome(first.token, "click", "1"); r.Err != nil {
		t.Fatal(r.Err)
	}
	b.want(req, "b")
}

// Of two items both are given again, in their order; of one whose impression was
// reported the other is, beside what may be given anew.
func TestStickyItems(t *testing.T) {
	b := newBed(t, strings.Replace(stickyWorld, "id: spot,", "id: spot, count: 2,", 1))
	b.user(UserDoc{UserID: []byte("ann")})
	req := b.decideReq("ann", "spot")
	b.want(req, "a, b")
	held := []storage.ReservationID{b.out.Items[0].Reservation, b.out.Items[1].Reservation}
	token := bytes.Clone(b.out.Items[0].Token)
	b.want(req, "a, b")
	for i := range held {
		if b.out.Items[i].Reservation != held[i] || b.out.Items[i].Rank != i+1 {
			t.Fatalf("item %d: %+v", i, b.out.Items[i])
		}
	}
	if r := b.outcome(token, "impression", "1"); r.Err != nil {
		t.Fatal(r.Err)
	}
	b.want(req, "b")
	if b.out.Items[0].Reservation != held[1] {
		t.Fatalf("%+v", b.out.Items[0])
	}
}

// Whoever made a reservation does not take it back once another decision was
// answered with it, and who was given it again never does.
func TestStickyIsNotReleased(t *testing.T) {
	b := newBed(t, stickyWorld)
	b.user(UserDoc{UserID: []byte("ann")})
	req := b.decideReq("ann", "spot")
	var first, again Decision
	for _, out := range []*Decision{&first, &again} {
		if err := b.e.Decide(req, out); err != nil {
			t.Fatal(err)
		}
	}
	held := first.work.held[0]
	for _, out := range []*Decision{&again, &first} {
		w := &out.work
		w.held = append(w.held[:0], held)
		if !b.e.release(w, b.e.words.renderError) {
			t.Fatal("nothing was released")
		}
		if got := b.reload(req, "a"); got.held != held {
			t.Fatalf("%+v, want %+v", got, held)
		}
	}
	b.reopen()
	if got := b.reload(req, "a"); got.held != held {
		t.Fatalf("after a restart %+v, want %+v", got, held)
	}
}

// Many at once get one reservation between them, or nothing, and one use is held.
func TestStickyConcurrent(t *testing.T) {
	b := newBed(t, stickyWorld)
	for round := range 20 {
		user := fmt.Sprint("u", round)
		b.user(UserDoc{UserID: []byte(user)})
		var all sync.WaitGroup
		var mu sync.Mutex
		seen := map[string]map[storage.ReservationID]bool{"a": {}, "b": {}}
		for range 8 {
			all.Go(func() {
				var out Decision
				if err := b.e.Decide(b.decideReq(user, "spot"), &out); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				for _, it := range out.Items {
					seen[it.OfferID][it.Reservation] = true
				}
			})
		}
		all.Wait()
		if len(seen["a"]) != 1 || len(seen["b"]) > 0 {
			t.Fatalf("%v", seen)
		}
		if n := b.used(user, "a", "c"); n != 1 {
			t.Fatalf("%d uses", n)
		}
	}
}

// A reload allocates nothing in Decide itself.
func TestStickyAllocatesNothing(t *testing.T) {
	b := newBed(t, stickyWorld)
	b.user(UserDoc{UserID: []byte("ann")})
	req := b.decideReq("ann", "spot")
	for range 4 {
		b.want(req, "a")
	}
	if n := testing.AllocsPerRun(200, func() {
		if err := b.e.Decide(req, &b.out); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations a decision", n)
	}
}

// Uses say which decisions they came from: contacts, reactions and decisions, also
// of two in one second, after a restart, and in counters that keep counts.
func TestUsesNameTheirDecisions(t *testing.T) {
	b := newBed(t, strings.Replace(stickyWorld, "limit: 1}", "limit: 3}", 1)+`
---
{kind: cap, id: clicks, scope: person, per: all, count_on: click, window: {rolling: 1d}, limit: 9}
---
{kind: cap, id: decisions, scope: person, per: all, count_on: decision, window: {rolling: 1d},
 limit: 100}
`)
	b.user(UserDoc{UserID: []byte("ann")})
	var shown, made []storage.DecisionID
	for i := range 3 {
		got := b.reload(b.decideReq("ann", "spot"), "a")
		shown, made = append(shown, got.decision), append(made, got.decision)
		if r := b.outcome(got.token, "impression", fmt.Sprint(i)); r.Err != nil {
			t.Fatal(r.Err)
		}
		if i == 0 {
			if r := b.outcome(got.token, "click", "c"); r.Err != nil {
				t.Fatal(r.Err)
			}
			b.m.pass(time.Minute)
		}
	}
	other := b.reload(b.decideReq("ann", "spot"), "b")
	made = append(made, other.decision)
	b.reopen()
	f := func(id string, want ...storage.DecisionID) {
		t.Helper()
		v, err := b.e.ContactState([]byte("ann"), []byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		var got []storage.DecisionID
		for _, c := range v.Caps {
			for i := len(c.Uses) - 1; i >= 0 && c.CapID == id; i-- {
				if n := len(c.Uses[i].Decisions); n != int(c.Uses[i].Count) {
					t.Errorf("%s: a use with %d decisions: %+v", id, n, c.Uses[i])
				}
				got = append(got, c.Uses[i].Decisions...)
			}
		}
		sort := func(ids []storage.DecisionID) {
			slices.SortFunc(ids, func(a, b storage.DecisionID) int { return bytes.Compare(a[:], b[:]) })
		}
		sort(got)
		sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %x, want %x", id, got, want)
		}
	}
	f("c", shown...)
	f("clicks", shown[0])
	f("decisions", made...)
}
