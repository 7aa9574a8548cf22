package decide

import "testing"

const slotCatalogue = judgeCatalogue + `
---
kind: offer
id: b
message_class: marketing
value: 9
eligibility: {all: [{context: placement, in: [q]}, {context: channel, is: web}]}
treatments: [{id: t, channel: web, content: {type: text, body: b}}]
---
kind: placement
id: q
channel: web
policy: pol
`

// Every slot of a request is judged for itself: an offer holds in one and not in
// another, in any order of the slots, and asking allocates nothing.
func TestSlotOfItsOwn(t *testing.T) {
	w := newWorld(t)
	if faults := w.publish(slotCatalogue, 1000); w.plan == nil {
		t.Fatal(faults)
	}
	var bits [8]uint64
	who := Person{HasID: true, ID: []byte("u"), Bits: bits[:]}
	at := moment(1000)
	words := make([]uint64, w.plan.Program.RequestWords)
	f := func(want string, slots ...int32) {
		t.Helper()
		req := &Request{Words: words, Dedupe: DedupeNone}
		for _, p := range slots {
			req.Slots = append(req.Slots, SlotRequest{Placement: p, Policy: -1})
		}
		w.plan.Pick(req, &who, &at, nil, &w.out)
		got := ""
		for _, it := range w.out.Items {
			got += w.plan.Offers[it.Offer].ID
		}
		if got != want {
			t.Errorf("slots %v: %s, want %s", slots, got, want)
		}
		n := testing.AllocsPerRun(100, func() {
			w.plan.Pick(req, &who, &at, nil, &w.out)
		})
		if n != 0 {
			t.Errorf("slots %v: %v allocations", slots, n)
		}
	}
	f("a", 0)
	f("b", 1)
	f("ab", 0, 1)
	f("ba", 1, 0)
	f("baab", 1, 0, 0, 1)
}
