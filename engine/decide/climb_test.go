package decide

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tact/storage"
)

// scoredPlacement is a catalogue of n offers on one placement, whose scores come
// from attributes, constants, both, and levers that an experiment sets, so that many
// are near each other or equal; with caps that refuse some.
func scoredPlacement(r *rand.Rand, n int) string {
	var b strings.Builder
	b.WriteString("kind: workspace\nid: default\ntimezone: UTC\n")
	attributes := 1 + r.IntN(maxLanes+2)
	for i := range attributes {
		fmt.Fprintf(&b, "---\nkind: attribute\nid: a%d\ntype: float\n", i)
	}
	for i := range 4 {
		fmt.Fprintf(&b, "---\nkind: tag\nid: t%d\n", i)
	}
	fmt.Fprintf(&b, "---\nkind: placement\nid: p\nchannel: web\npolicy: p\n"+
		"---\nkind: decision_policy\nid: p\ncandidates: {offers: all}\n"+
		"ranking: {by: product, propensity: %s, context: 1, value: 1, lever: %s}\n",
		one(r, "1", "1", "1", "0", "2", "0.5"), one(r, "1", "1", "2"))
	share := r.IntN(100) // of offers with a rule
	for i := range n {
		fmt.Fprintf(&b, "---\nkind: offer\nid: o%d\ngroup: g%d\nmessage_class: marketing\nvalue: %d\n",
			i, r.IntN(6), 1+r.IntN(3))
		attribute := fmt.Sprintf("{attribute: a%d}", r.IntN(attributes))
		fmt.Fprintf(&b, "propensity: %s\n", one(r, attribute, attribute, attribute, "0.5", "0.25", "1"))
		b.WriteString(one(r, "", "", "", "", "context: "+attribute+"\n"))
		if r.IntN(100) < share {
			fmt.Fprintf(&b, "eligibility: {any: [{tag: t%d}, {not: {tag: t%d}}]}\n", r.IntN(4), r.IntN(4))
		}
		b.WriteString(one(r, "", "", "", "caps: [never]\n", "caps: [hourly]\n"))
		b.WriteString("treatments: [{id: t, channel: web, content: {type: text, body: x}}]\n")
	}
	all := ""
	if r.IntN(6) == 0 {
		all = "applies_to: {offers: {groups: [g0, g1, g2, g3]}}\n"
	} else {
		all = "applies_to: {offers: {ids: [o0]}}\n"
	}
	b.WriteString("---\nkind: cap\nid: never\nscope: person\nper: offer\ncount_on: [decision]\n" +
		"window: lifetime\nlimit: 0\n" + all +
		"---\nkind: cap\nid: hourly\nscope: person\nper: offer\ncount_on: [decision]\n" +
		"window: {rolling: 1h}\nlimit: 1\napplies_to: {offers: {ids: [o0]}}\n" +
		"---\nkind: layer\nid: l\n---\nkind: experiment\nid: e\nlayer: l\nrange: [0%, 100%]\nunit: user\nvariants:\n" +
		"  - {id: up, weight: 50, set: {offers: {o1: {lever: 3}, o2: {lever: 0.1}, o3: false}}}\n" +
		"  - {id: down, weight: 50, set: {offers: {o4: {lever: 2}, o5: {lever: 1}}}}\n")
	return b.String()
}

// propensities draws what a person's scores are made of: few values, so that scores
// are equal, some that are no propensities, and none.
func propensities(w *world, r *rand.Rand) *storage.Patch {
	p := &storage.Patch{}
	for i := range maxLanes + 2 {
		value := one(r, 0.5, 0.25, 1, 0, 0.75, 1.5, -1, 1e-61, 1e-300)
		if r.IntN(5) == 0 {
			continue
		}
		p.Attrs = append(p.Attrs, storage.AttrValue{
			ID: w.name(storage.DictAttribute, fmt.Sprint("a", i)), Value: storage.Value{
				Kind: storage.KindFloat, Num: math.Float64bits(value),
			},
		})
	}
	for i := range 4 {
		if r.IntN(2) == 0 {
			p.TagsAdd = append(p.TagsAdd, storage.TagValue{
				ID: w.name(storage.DictTag, fmt.Sprint("t", i)),
			})
		}
	}
	return p
}

// answers copies what a Result says.
func answers(out *Result) Result {
	return Result{
		Slots: slices.Clone(out.Slots), Items: slices.Clone(out.Items),
		Keys: slices.Clone(out.Keys), Capped: slices.Clone(out.Capped),
		Assignments: slices.Clone(out.Assignments),
	}
}

// Looking at candidates in falling order of what a person's numbers make of their
// bounds gives all that a look at one after the other gives: items, scores, the
// caps that are noted and their order.
func TestClimbEqualsScan(t *testing.T) {
	played, climbed, capped, full := 0, 0, 0, 0
	seeds(t, 40, func(seed uint64) {
		played++
		r := rand.New(rand.NewPCG(seed, 11))
		w := newWorld(t)
		w.plain = one(r, 0, 1, 5)
		now := storage.UnixMsec(startMs)
		if faults := w.publish(scoredPlacement(r, one(r, 6, 40, 130)+r.IntN(60)), now); faults != "" {
			t.Fatal(faults)
		}
		lanes := w.plan.slabs[0].lanes
		for k := range 10 {
			id := fmt.Sprint("u", k)
			w.patch(w.create(id, now), now, propensities(w, r))
			req := &Request{
				Slots: []SlotRequest{
					{Policy: -1, Count: one(r, 1, 1, 3)}, {Policy: -1, Count: one(r, 1, 5)},
				},
				Dedupe: Dedupe(r.IntN(3)),
			}
			if r.IntN(4) == 0 {
				req.Slots[1].Block = []int32{int32(r.IntN(5)), int32(r.IntN(5))}
			}
			for range r.IntN(4) { // uses
				w.pick(req, id, now, nil, true)
			}
			got := answers(w.pick(req, id, now, nil, false))
			w.plan.slabs[0].lanes = nil
			want := answers(w.pick(req, id, now, nil, false))
			w.plan.slabs[0].lanes = lanes
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d %s: climbed\n%+v\nscanned\n%+v", seed, id, got, want)
			}
			if lanes != nil {
				climbed++
			}
			if len(got.Capped) > 0 {
				capped++
			}
			if len(got.Capped) >= MaxCapped {
				full++
			}
		}
	})
	if played >= 20 && (climbed == 0 || capped == 0 || full == 0) {
		t.Fatalf("%d climbed, %d noted caps, %d as many as fit", climbed, capped, full)
	}
}
