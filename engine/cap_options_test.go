package engine

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tact/storage"
	"tact/storage/seeds"
)

// optWorld is four offers under two placements of a page and one that sends.
const optWorld = `
kind: workspace
id: default
timezone: %s
zones: [%s]
on_missing_timezone: %s
consent_required: []
---
{kind: attribute, id: allowed, type: int}
---
{kind: event, id: order}
---
{kind: event, id: complaint}
---
{kind: placement, id: spot, channel: web, policy: p, sticky: none}
---
{kind: placement, id: side, channel: web, policy: p, sticky: none}
---
{kind: placement, id: text, channel: sms, policy: p}
---
{kind: decision_policy, id: p, ranking: {by: order, offers: [a, b, m, t]}}
`

// optPlay is one seed: an engine and the oracle beside it.
type optPlay struct {
	*bed
	o      *optOracle
	r      *rand.Rand
	people []*optPerson
	events int
	seen   map[string]int
}

// TestCapOptions plays people against caps whose every option is drawn at random,
// and compares each answer of the engine with a plain count: what is granted, why
// not, until when, what contact-state tells, and that at `until` it is granted and a
// millisecond before it is not. TACT_EFFORT=1 plays 5,000 seeds.
func TestCapOptions(t *testing.T) {
	seen := map[string]int{}
	run := seeds.Run{
		Name: "cap options", Full: 5000, Few: 150,
		Counts: func() string { return fmt.Sprint(seen) },
	}
	got := run.Play(t, func(seed uint64) (uint64, error) {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { playOptions(t, seed, seen) }) {
			return 1, errors.New("what was answered is not what was counted, see above")
		}
		return 1, nil
	})
	if !got.Whole || got.Seeds < 500 {
		return
	}
	for _, what := range []string{
		"granted", "capped_user", "capped_contact", "capped_total", "min_gap", "suppressed",
		"user_not_found", "until", "late", "history", "stock refused", "state",
	} {
		if seen[what] == 0 {
			t.Errorf("no seed has seen %q: %v", what, seen)
		}
	}
}

func playOptions(t *testing.T, seed uint64, seen map[string]int) {
	r := rand.New(rand.NewPCG(seed, 77))
	b := newBed(t, "")
	// Clocks are set on 25 October and 1 November 2026.
	b.m.pass(time.Duration(pick(r, 0, 34*24, 40*24)+r.IntN(48)) * time.Hour)
	p := &optPlay{bed: b, r: r, seen: seen, o: &optOracle{
		zone: pick(r, "UTC", "Asia/Shanghai", "America/New_York"), protect: r.IntN(2) == 0,
		places: map[string]*time.Location{},
	}}
	p.o.zones = pick(r, []string{p.o.zone}, []string{"Asia/Kolkata", "America/New_York"})
	for _, id := range []string{"ann", "bob", "eve"} {
		p.people = append(p.people, &optPerson{
			id: id, allowed: -1, zone: pick(r, "", "Europe/Berlin", "Asia/Shanghai", "America/New_York"),
		})
	}
	now := p.now()
	var caps []*optCap
	for i := range 1 + r.IntN(2) {
		caps = append(caps, randomOptCap(r, fmt.Sprint("c", i), now))
		caps[i].grace = caps[0].grace
	}
	if caps[0].history {
		p.publish(p.world(nil))
	} else {
		p.publish(p.world(caps))
		p.o.caps = caps
	}
	for _, who := range p.people {
		p.tell(who)
	}
	if caps[0].history {
		p.past(caps)
	}
	for range 40 {
		p.step()
		if t.Failed() {
			for _, c := range caps {
				t.Log(c.yaml())
			}
			t.Logf("zone %s of %v, protect %v; TACT_SEED=%d", p.o.zone, p.o.zones, p.o.protect, seed)
			return
		}
	}
}

func (p *optPlay) now() int64 { return int64(p.e.Now()) / 1000 }

func (p *optPlay) world(caps []*optCap) string {
	missing := "workspace"
	if p.o.protect {
		missing = "protect"
	}
	text := fmt.Sprintf(optWorld, p.o.zone, strings.Join(p.o.zones, ", "), missing)
	for _, o := range optOffers() {
		text += fmt.Sprintf("---\nkind: offer\nid: %s\ngroup: %s\nmessage_class: %s\n", o.id, o.group,
			o.class)
		if o.campaign != "" {
			text += "campaign: " + o.campaign + "\n"
		}
		text += "treatments:\n- {id: w, channel: web, content: {type: text, body: x}}\n" +
			"- {id: s, channel: sms, content: {type: text, body: x}}\n"
	}
	for _, c := range caps {
		text += c.yaml()
	}
	return text
}

// tell stores a person as the oracle has them.
func (p *optPlay) tell(who *optPerson) {
	doc := UserDoc{
		UserID: []byte(who.id), HasTimezone: true, Timezone: []byte(who.zone),
		Identities: []IdentityRef{
			{[]byte("email"), []byte(who.id + "@example.com")},
			{[]byte("device"), []byte(who.id + "1")},
			{[]byte("device"), []byte(who.id + "2")},
		},
		Addresses: []AddressDoc{{[]byte("sms"), [][]byte{[]byte("+8613800000000")}}},
	}
	if who.allowed != -1 {
		doc.Attributes = []NamedValue{{
			[]byte("allowed"), RawValue{Kind: RawNumber, Text: fmt.Append(nil, who.allowed)},
		}}
	}
	p.user(doc)
}

// past plays a while without caps, and publishes them: those that count from history
// know what happened.
func (p *optPlay) past(caps []*optCap) {
	for range 6 {
		p.wait()
		it := p.someItem()
		req := p.request(it)
		p.want(req, it.offer.id)
		it.token, it.granted, it.expires = bytes.Clone(p.out.Items[0].Token), p.now(), p.now()
		on := pick(p.r, "send", "delivered", "click", "accept", "dismiss")
		if it.channel == "web" {
			on = pick(p.r, "impression", "impression", "click", "dismiss")
		}
		p.say(it, on, 0, "past")
		at := p.now()
		for _, c := range caps {
			if keys, _ := c.keys(it); c.history {
				if c.counts(on) {
					p.o.use(keys, it, at)
				}
				for _, k := range keys {
					if c.after > 0 && (on == "dismiss") {
						p.o.uses = append(p.o.uses, optUse{it.person.id, k, at, true})
					}
				}
			}
		}
	}
	p.publish(p.world(caps))
	p.o.caps = caps
	for _, who := range p.people { // history is counted at the first call of a person
		it := p.someItem()
		it.person = who
		p.event(who.id, "nothing", fmt.Sprint("first ", who.id))
	}
	p.seen["history"]++
}

func (p *optPlay) step() {
	switch n := p.r.IntN(20); {
	case n < 4:
		p.wait()
	case n < 11:
		p.decide(p.someItem(), true)
	case n < 16:
		p.report()
	case n < 17:
		p.probe()
	case n < 18:
		p.state()
	case n < 19:
		who := pick(p.r, p.people...)
		who.zone = pick(p.r, "", "Europe/Berlin", "Asia/Shanghai", "America/New_York")
		who.allowed = p.r.IntN(6)
		p.tell(who)
		p.e.tick()
	case p.r.IntN(3) == 0:
		p.sweep()
		p.reopen()
		p.o.floor = p.now()
		p.log("reopen")
	default:
		who, name := pick(p.r, p.people...), pick(p.r, "order", "complaint")
		p.events++
		p.event(who.id, name, fmt.Sprint("e", p.events))
		p.o.event(who, name, p.now())
		p.log("event %s of %s", name, who.id)
	}
}

// sweep makes the store forget what has run out: what it still has when it ends runs
// out anew after the start.
func (p *optPlay) sweep() {
	for _, who := range p.people {
		p.events++
		req := p.decideReq(who.id, "spot")
		req.Timeout, req.RequestID = 30*time.Second, fmt.Append(nil, "sweep", p.events)
		req.Placements[0].Block = [][]byte{[]byte("a"), []byte("b"), []byte("m"), []byte("t")}
		p.want(req, "none: blocked_by_request")
	}
	for _, it := range p.o.items {
		it.gone = it.gone || !it.live(p.now(), p.o.floor)
	}
}

func (p *optPlay) wait() {
	p.m.pass(time.Duration(pick(p.r, 1, 30, 61, 300, 601, 3600, 3600, 6*3600, 20*3600)) *
		time.Second * time.Duration(1+p.r.IntN(2)))
	p.e.tick() // what has run out is given back to the totals
}

// someItem is a question: one offer on one placement for somebody.
func (p *optPlay) someItem() *optItem {
	it := &optItem{
		person: p.people[p.r.IntN(12)/5], offer: optOffers()[p.r.IntN(8)/2],
		placement: pick(p.r, "spot", "spot", "side", "text"), channel: "web", identity: "user",
	}
	if it.placement == "text" {
		it.channel = "sms"
	}
	switch p.r.IntN(4) {
	case 0:
		it.identity = "email"
	case 1:
		it.device = it.person.id + pick(p.r, "1", "2")
		it.identity = it.device
	}
	return it
}

func (p *optPlay) request(it *optItem) *DecideRequest {
	req := p.decideReq(it.person.id, it.placement)
	req.Timeout = 30 * time.Second
	req.Placements[0].Allow = [][]byte{[]byte(it.offer.id)}
	if it.device != "" {
		req.Identities = []IdentityRef{{[]byte("device"), []byte(it.device)}}
	} else if it.identity == "email" {
		req.Identities = []IdentityRef{{[]byte("email"), []byte(it.person.id + "@example.com")}}
	}
	return req
}

// decide asks, sometimes for the same twice in one request, and compares.
func (p *optPlay) decide(it *optItem, live bool) {
	p.t.Helper()
	req := p.request(it)
	if !live {
		req.Mode = ModeDryRun
	} else if it.channel == "web" && p.r.IntN(3) == 0 {
		req.Dedupe = DedupeNone
		req.Placements = append(req.Placements, req.Placements[0])
		req.Placements[1].Key, req.Placements[1].PlacementID = []byte("again"), []byte("side")
		if it.placement == "side" {
			req.Placements[1].PlacementID = []byte("spot")
		}
	}
	got := strings.Split(p.ask(req), ", ")
	p.log("decide live %v %s on %s for %s (%s %s): %v", live, it.offer.id, it.placement, it.person.id,
		it.identity, it.device, got)
	for i := range req.Placements {
		next := *it
		next.held, next.placement = nil, string(req.Placements[i].PlacementID)
		reason, by := p.o.judge(&next, p.now(), nil)
		want := it.offer.id
		if reason != "" {
			want = "none: " + reason
		}
		if got[i] != want {
			p.t.Errorf("%s at %d: %s on %s for %s (%s %s): got %v, want %s of it; capped %v", req.Placements[i].Key,
				p.now(), it.offer.id, it.placement, it.person.id, it.identity, it.device, got, want,
				p.out.Capped)
			return
		}
		p.seen[strings.TrimPrefix(want, "none: ")]++
		if reason != "" && by != nil && reason != "user_not_found" && len(req.Placements) == 1 {
			p.untilIs(by, &next)
		}
		if reason == "" {
			p.seen["granted"]++
		}
		if reason == "" && live {
			slot := p.out.Slots[i]
			next.token = bytes.Clone(p.out.Items[slot.First].Token)
			p.o.grant(&next, p.now())
			if p.out.Items[slot.First].Reserved != next.reserved {
				p.t.Errorf("reserved %v, want %v", !next.reserved, next.reserved)
			}
		}
	}
}

// untilIs compares what the reply says of when a cap passes.
func (p *optPlay) untilIs(by *optCap, it *optItem) {
	p.t.Helper()
	why := p.o.refuses(by, it, p.now(), p.now(), nil)
	for _, c := range p.o.caps { // of several that refuse for one reason one is told
		if len(p.out.Capped) == 1 && c.id == p.out.Capped[0].CapID &&
			p.o.refuses(c, it, p.now(), p.now(), nil) == why {
			by = c
		}
	}
	want := p.o.frees(by, it, p.now(), nil)
	if c := p.out.Capped; len(c) != 1 || c[0].CapID != by.id || c[0].OfferID != it.offer.id ||
		int64(c[0].Until) != want {
		p.t.Errorf("at %d: capped %v, want until %d of %s, %d from now", p.now(), c, want, by.id,
			want-p.now())
	}
	p.seen["until"]++
}

// probe looks at the millisecond before a cap passes and at that moment.
func (p *optPlay) probe() {
	it := p.someItem()
	p.decide(it, false)
	if p.t.Failed() || len(p.out.Capped) != 1 || p.out.Capped[0].Until == 0 {
		return
	}
	until := int64(p.out.Capped[0].Until)
	if until > p.now()+60*86400 {
		return
	}
	p.m.pass(time.Duration(until*1000-int64(p.e.Now())-1) * time.Millisecond)
	p.e.tick()
	p.decide(it, false)
	p.m.pass(time.Millisecond)
	p.e.tick()
	p.decide(it, false)
	p.seen["probe"]++
}

// report says that something happened to an item, sometimes again or later.
func (p *optPlay) report() {
	if len(p.o.items) == 0 {
		return
	}
	it := p.o.items[max(0, len(p.o.items)-12)+p.r.IntN(min(12, len(p.o.items)))]
	on := pick(p.r, "impression", "impression", "send", "delivered", "click", "accept", "dismiss",
		"order", "complaint")
	if p.now() > it.granted+6*86400 {
		return // for seven days it is known what was counted
	}
	if p.r.IntN(3) == 0 { // what some cap counts
		on = pick(p.r, pick(p.r, p.o.caps...).countOn...)
		if on == "decision" {
			on = "impression"
		}
	}
	now, ago := p.now(), int64(0)
	if p.r.IntN(3) == 0 {
		ago = p.r.Int64N(now - it.granted + 1)
	}
	for _, c := range p.o.caps {
		if c.scope == "total" {
			ago = 0 // a unit is taken when it is asked for
		}
	}
	p.events++
	id := fmt.Sprint("r", p.events)
	switch on {
	case "impression", "send", "delivered":
		if !it.live(now, p.o.floor) { // when a late one happened counts from its expiry on only
			if now-ago > it.expires {
				return
			}
			p.seen["late"]++
		}
		p.say(it, on, ago, id)
		p.o.contact(it, on, now-ago, now)
	default:
		want := p.o.reaction(it, on, now-ago, now)
		r := p.tellOutcome(it, on, ago, id)
		if (r.Err == nil) != want {
			p.t.Errorf("at %d: %s of %s: %v, want it to be taken: %v", now, on, it.offer.id, r.Err, want)
		}
		if !want {
			p.seen["stock refused"]++
		}
		if want && p.r.IntN(4) == 0 {
			p.say(it, on, ago, id) // again
		}
	}
}

func (p *optPlay) tellOutcome(it *optItem, on string, ago int64, id string) LineResult {
	doc := OutcomeDoc{
		Token: bytes.Clone(it.token), Outcome: []byte(on), EventID: []byte(id), BodyHash: 1,
	}
	p.log("%s of %s for %s granted %d, %d s ago", on, it.offer.id, it.person.id, it.granted, ago)
	if ago > 0 {
		doc.OccurredAt = p.e.Now() - storage.UnixMsec(ago*1000)
	}
	return p.apply(func(x *Batch) LineResult { return x.Outcome(&doc) })
}

// log tells what is played, when one seed is.
func (p *optPlay) log(format string, args ...any) {
	if os.Getenv("TACT_SEED") != "" {
		p.t.Logf("%d: %s", p.now(), fmt.Sprintf(format, args...))
	}
}

func (p *optPlay) say(it *optItem, on string, ago int64, id string) {
	p.t.Helper()
	if r := p.tellOutcome(it, on, ago, id); r.Err != nil {
		p.t.Fatal(r.Err)
	}
}

// state compares contact-state with the oracle's counters.
func (p *optPlay) state() {
	it := p.someItem()
	it.identity, it.device = "", ""
	v, err := p.e.ContactState([]byte(it.person.id), []byte(it.offer.id))
	if err != nil {
		p.t.Fatal(err)
	}
	v.Caps = slices.DeleteFunc(v.Caps, func(c CounterView) bool { // those that have ended
		return slices.ContainsFunc(p.o.caps, func(of *optCap) bool {
			return of.id == c.CapID && of.until > 0 && of.until <= p.now()
		})
	})
	if err := unexplained(v, false); err != nil {
		p.t.Error(err)
	}
	for _, c := range v.Caps {
		for _, of := range p.o.caps {
			if of.id != c.CapID || of.scope == "identity" || of.scope == "device" {
				continue
			}
			want := p.o.used(optKey{of, c.Dimension}, it.person, p.now(), p.now(), nil)
			if int(c.Used) != want || of.scope != "total" && int(c.Limit) != of.limitOf(it.person) {
				p.t.Errorf("at %d: %+v, want %d used", p.now(), c, want)
			}
		}
	}
	p.seen["state"]++
}
