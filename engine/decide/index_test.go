package decide

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tact/engine/definition"
	"tact/storage"
)

// crowdedPlacement is a catalogue of n offers on one placement, whose rules, some
// of them safety rules, stand in any of the three lists; with dates, holdouts, an
// experiment that excludes, quiet hours that hold, and caps.
func crowdedPlacement(r *rand.Rand, n int) string {
	var b strings.Builder
	b.WriteString("kind: workspace\nid: default\ntimezone: UTC\n" +
		"quiet_hours: {channels: [sms], when_hit: hold, windows: [{from: \"21:00\", until: \"08:00\"}]}\n")
	channel := one(r, "web", "sms")
	for i := range 4 {
		fmt.Fprintf(&b, "---\nkind: attribute\nid: a%d\ntype: int\n---\nkind: tag\nid: t%d\n", i, i)
	}
	fmt.Fprintf(&b, "---\nkind: placement\nid: p\nchannel: %s\npolicy: p\n"+
		"---\nkind: decision_policy\nid: p\ncandidates: {offers: all}\nranking: {by: %s}\n"+
		"---\nkind: placement\nid: other\nchannel: %s\npolicy: p\n", channel,
		one(r, "product", "order, offers: [o3, o9]"), channel)
	rule := func() string {
		safe := one(r, "", "", "safety: true, ")
		atom := func() string {
			return one(r, fmt.Sprintf("{attribute: a%d, is: %d}", r.IntN(4), r.IntN(4)),
				fmt.Sprintf("{attribute: a%d, gte: %d}", r.IntN(4), r.IntN(4)),
				fmt.Sprintf("{tag: t%d}", r.IntN(4)), fmt.Sprintf("{not: {tag: t%d}}", r.IntN(4)))
		}
		return fmt.Sprintf("{%s%s: [%s, %s]}", safe, one(r, "all", "all", "any"), atom(), atom())
	}
	share := r.IntN(100) // of offers with a rule
	for i := range n {
		fmt.Fprintf(&b, "---\nkind: offer\nid: o%d\nmessage_class: %s\nvalue: %d\n", i,
			one(r, "marketing", "transactional", "mandatory"), 1+r.IntN(5))
		for _, list := range []string{"eligibility", "applicability", "suitability"} {
			if r.IntN(100) < share {
				fmt.Fprintf(&b, "%s: %s\n", list, rule())
			}
		}
		b.WriteString(one(r, "", "", "", "end: \"2026-03-02T09:00:00Z\"\n"))
		b.WriteString(one(r, "", "caps: [never]\n", "caps: [hourly]\n", "caps: [daily]\n"))
		fmt.Fprintf(&b, "treatments: [{id: t, channel: %s, placements: [%s], "+
			"content: {type: text, body: x}}]\n", channel, one(r, "p", "p", "p", "other"))
	}
	b.WriteString("---\nkind: cap\nid: never\nscope: person\nper: offer\ncount_on: [decision]\n" +
		"window: lifetime\nlimit: 0\napplies_to: {offers: {ids: [o0]}}\n" +
		"---\nkind: cap\nid: hourly\nscope: person\nper: all\ncount_on: [decision]\n" +
		"window: {rolling: 1h}\nlimit: 1\napplies_to: {offers: {ids: [o0]}}\n")
	b.WriteString("---\nkind: cap\nid: daily\nscope: person\nper: all\ncount_on: [decision]\n" +
		"window: {rolling: 24h}\nlimit: 1\napplies_to: {offers: {ids: [o0]}}\n")
	if r.IntN(3) == 0 {
		fmt.Fprintf(&b, "---\nkind: holdout\nid: h\nrange: [0%%, 50%%]\ncovers: {offers: %s}\n",
			one(r, "all", "{ids: [o1, o2, o5]}"))
	}
	return b.String()
}

// An indexed slab gives the items, the reason and its time that a look at every
// candidate gives, which is what a request with a trace gets.
func TestIndexEqualsScan(t *testing.T) {
	reasons := map[Reason]int{}
	timed := 0
	seeds(t, 150, func(seed uint64) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(t)
		w.plain = one(r, 0, 1, 5)
		now := storage.UnixMsec(startMs + int64(r.IntN(24))*3_600_000)
		if faults := w.publish(crowdedPlacement(r, 70+r.IntN(40)), now); faults != "" {
			t.Fatal(faults)
		}
		for k := range 12 {
			id := fmt.Sprint("u", k)
			ord := w.create(id, now)
			w.patch(ord, now, randomPatch(w, r))
			req := &Request{Slots: []SlotRequest{{
				Placement: int32(r.IntN(2)), Policy: -1,
				Count: one(r, 1, 1, 3),
			}}}
			if r.IntN(4) == 0 {
				req.Slots[0].Allow = []int32{int32(r.IntN(20)), int32(r.IntN(20))}
			}
			if r.IntN(4) == 0 {
				req.Slots[0].Block = []int32{int32(r.IntN(20)), int32(r.IntN(20))}
			}
			over := &Overlay{NoReserve: r.IntN(8) == 0}
			for range r.IntN(4) { // uses
				w.pick(req, id, now, over, true)
			}
			fast := describeSlots(w.pick(req, id, now, over, false))
			req.Explain = true
			out := w.pick(req, id, now, over, false)
			if slow := describeSlots(out); fast != slow {
				t.Fatalf("seed %d %s: indexed %s, scanned %s", seed, id, fast, slow)
			}
			reasons[out.Slots[0].Reason]++
			if out.Slots[0].Until != 0 {
				timed++
			}
		}
	})
	answers := 0
	for _, n := range reasons {
		answers += n
	}
	if answers < 1000 {
		return // too few to meet every reason
	}
	for _, want := range []Reason{
		ReasonNone, Ineligible, ValueUnknown, NotApplicable, NotSuitable, ConsentMissing,
		QuietHoursNow, CappedUser, BlockedByRequest,
	} {
		if reasons[want] == 0 {
			t.Errorf("no answer was %q: %v", want, reasons)
		}
	}
	if timed == 0 {
		t.Error("no answer had an end")
	}
}

func describeSlots(out *Result) string {
	s := &out.Slots[0]
	text := fmt.Sprint(s.Kind, s.Reason, " until ", s.Until, ":")
	for _, it := range out.Items {
		text += fmt.Sprint(" ", it.Offer, it.Rank, it.Score)
	}
	return text
}

func randomPatch(w *world, r *rand.Rand) *storage.Patch {
	p := &storage.Patch{}
	for i := range 4 {
		if r.IntN(2) == 0 {
			p.Attrs = append(p.Attrs, storage.AttrValue{
				ID:    w.name(storage.DictAttribute, fmt.Sprint("a", i)),
				Value: storage.Value{Kind: storage.KindInt, Num: uint64(r.IntN(5))},
			})
		}
		if r.IntN(3) == 0 {
			p.TagsAdd = append(p.TagsAdd, storage.TagValue{
				ID: w.name(storage.DictTag, fmt.Sprint("t", i)),
			})
		}
	}
	if r.IntN(2) == 0 {
		p.Consents = append(p.Consents, storage.Consent{
			Purpose: w.name(storage.DictPurpose, "marketing"), At: 5, Granted: true,
			Channel: uint8(one(r, definition.ChannelSMS, definition.ChannelWeb)),
		})
	}
	if r.IntN(2) == 0 {
		zone := w.name(storage.DictZone, "UTC")
		p.Zone = &zone
	}
	if r.IntN(2) == 0 {
		p.Addresses = append(p.Addresses, storage.Address{
			Channel: uint8(definition.ChannelSMS), Values: [][]byte{[]byte("1")},
		})
	}
	return p
}
