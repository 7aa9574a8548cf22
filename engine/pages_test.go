package engine

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tact/engine/decide"
	"tact/storage"
)

// pagedDefinitions is a catalogue whose conditions fill several pages of bits: on
// each of three placements `atoms` offers with a condition of their own on an
// attribute, and some on a tag, on an event and on time. shift moves the numbers,
// so that a catalogue with another shift shares a part of the conditions.
func pagedDefinitions(atoms, shift int) string {
	var b strings.Builder
	b.WriteString("kind: workspace\nid: default\ntimezone: UTC\n" +
		"---\nkind: attribute\nid: n\ntype: int\n---\nkind: attribute\nid: at\ntype: time\n" +
		"---\nkind: tag\nid: vip\n---\nkind: event\nid: visit\n---\nkind: event\nid: order\n")
	rules := func(p, i int) string {
		switch i % 8 {
		case 0:
			return fmt.Sprintf("{event: visit, count: {gte: %d}, within: %dh}", 1+i%3, 1+i)
		case 1:
			return fmt.Sprintf("{attribute: at, within_last: %dh}", 1+i)
		case 2:
			return fmt.Sprintf("{all: [{tag: vip}, {attribute: n, gt: %d}]}", p*10_000+i)
		case 3:
			return fmt.Sprintf("{all: [{not: {event: order, within: %dm}}, {attribute: n, lt: %d}]}",
				1+i, i)
		}
		return fmt.Sprintf("{attribute: n, between: [%d, %d]}", p*10_000+i, p*10_000+i+5)
	}
	for p := range 3 {
		fmt.Fprintf(&b, "---\nkind: placement\nsticky: none\nid: p%d\nchannel: web\npolicy: p%d\n"+
			"---\nkind: decision_policy\nid: p%d\ncandidates: {offers: {groups: [g%d]}}\n"+
			"ranking: {by: product}\n", p, p, p, p)
		for i := range atoms {
			fmt.Fprintf(&b, "---\nkind: offer\nid: o%d-%d\nmessage_class: marketing\ngroup: g%d\n"+
				"value: %d\neligibility: %s\n"+
				"treatments: [{id: t, channel: web, placements: [p%d], "+
				"content: {type: json, body: {}}}]\n", p, i+shift, p, 1+(i+shift)*7%311,
				rules(p, i+shift), p)
		}
	}
	return b.String()
}

// Over random patches, events, times and publishes a decision over pages that are
// kept gives what a preview gives, which judges every condition anew; and a
// placement reads few pages.
func TestPagesEqualAnew(t *testing.T) {
	b := newBed(t, pagedDefinitions(240, 0))
	rng := rand.New(rand.NewPCG(8, 8))
	plan := func() int { return b.e.snap.Load().Plan.Program.Pages() }
	if n := plan(); n < 2 {
		t.Fatalf("%d pages", n)
	}
	seen := map[string]bool{}
	for step := range 400 {
		user := fmt.Sprint("u", rng.IntN(3))
		switch rng.IntN(9) {
		case 0, 1:
			b.user(UserDoc{UserID: []byte(user), Attributes: []NamedValue{
				{[]byte("n"), RawValue{
					Kind: RawNumber, Text: fmt.Append(nil, rng.IntN(3)*10_000+rng.IntN(260)),
				}},
			}})
		case 2:
			b.user(UserDoc{UserID: []byte(user), Attributes: []NamedValue{
				{[]byte("at"), RawValue{Kind: RawString, Text: time.UnixMilli(b.m.wall).UTC().AppendFormat(nil, time.RFC3339)}},
			}})
		case 3, 4:
			name := [...]string{"visit", "order"}[rng.IntN(2)]
			b.apply(func(x *Batch) LineResult {
				return x.Event(&EventDoc{
					EventID: fmt.Appendf(nil, "e%d", step), UserID: []byte(user), Event: []byte(name),
				})
			})
		case 5:
			b.m.pass(time.Duration(rng.IntN(3*3600)) * time.Second)
		case 6:
			if rng.IntN(6) == 0 {
				b.publish(pagedDefinitions(60+rng.IntN(200), rng.IntN(3)*40))
			}
		}
		req := b.decideReq(user, fmt.Sprint("p", rng.IntN(3)))
		req.Mode, req.Placements[0].Count = ModeDryRun, 20
		got := b.ask(req)
		req.Mode, req.Revision = ModePreview, b.e.Revision()
		if want := b.ask(req); got != want {
			t.Fatalf("step %d: kept pages say %s, judged anew %s", step, got, want)
		}
		seen[got] = true
	}
	if len(seen) < 30 {
		t.Fatalf("only %d different answers", len(seen))
	}
	if b.e.StoreStats().Bytes.Pages == 0 {
		t.Fatal("no page outside the rows was used")
	}
	b.publish(testDefinitions)
	if n := b.e.StoreStats().Bytes.Pages; n != 0 {
		t.Fatalf("%d bytes of pages that nothing reads are kept", n)
	}
}

// A publish sees for how many people a condition holds.
func TestShares(t *testing.T) {
	b := newBed(t, pagedDefinitions(60, 0))
	for i := range 40 {
		b.user(UserDoc{UserID: fmt.Appendf(nil, "u%d", i), Attributes: []NamedValue{
			{[]byte("n"), RawValue{Kind: RawNumber, Text: fmt.Append(nil, 10_000+i%4*6)}},
		}})
	}
	program := b.e.snap.Load().Plan.Program
	var total float32
	for _, s := range b.e.shares(program) {
		if s < 0 || s > 1 {
			t.Fatalf("a share of %v", s)
		}
		total += s
	}
	if total == 0 {
		t.Error("no condition holds for anybody")
	}
	if b.e.shares(program) == nil || newBed(t, "").e.shares(program) != nil {
		t.Error("the shares of nobody")
	}
}

// A placement reads the page that all share and the pages of its own conditions.
func TestFewPagesAPlacement(t *testing.T) {
	b := newBed(t, pagedDefinitions(700, 0))
	plan := b.e.snap.Load().Plan
	if n := plan.Program.Pages(); n < 3 {
		t.Fatalf("%d pages", n)
	}
	for i := range plan.Placements {
		slots := []decide.SlotRequest{{Placement: int32(i), Policy: -1}}
		n := bits.OnesCount32(plan.Pages(slots))
		if n > 700/512+2 {
			t.Errorf("placement %d reads %d pages of %d", i, n, plan.Program.Pages())
		}
	}
	if storage.MaxPages*512 != 16384 {
		t.Error("the limit of docs/rules.md")
	}
}
