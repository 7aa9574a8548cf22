package storage

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"tact/storage/journal"
)

// What is written into a contact part where it lies is what taking it apart and packing
// it anew gives, over histories with leases, floors, requests, marks, costs and what
// runs out.
func TestPlacedEqualsPacked(t *testing.T) {
	placed, all, behind, beside := 0, 0, 0, 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 5))
		h := placeHistory{t: t, s: onePerson(t), rng: rng, now: scriptStart}
		for range 400 {
			h.step()
		}
		placed, all = placed+h.placed, all+h.all
		behind, beside = behind+h.behind, beside+h.beside
	}
	if behind*20 < all || beside*20 < all {
		t.Fatalf("of %d reservations %d were behind another and %d beside others", all, behind, beside)
	}
	if placed*4 < all || placed == all {
		t.Fatalf("%d of %d reservations were placed where the part lies", placed, all)
	}
}

type placeHistory struct {
	t           *testing.T
	s           *state
	rng         *rand.Rand
	now         UnixSec
	frame       uint64
	last        uint64
	placed, all int

	used           map[uint64][]HeldKey // of every reservation ever made
	durable        uint64
	behind, beside int // another shares a counter; others are not durable and share none
}

func (h *placeHistory) step() {
	h.now += UnixSec(h.rng.IntN(40))
	h.frame += 2
	key := func() HeldKey {
		k := HeldKey{
			Key: CounterKey{Name(1 + h.rng.IntN(6)), uint32(h.rng.IntN(2))}, CountOn: 1,
			Limit: uint8(h.rng.IntN(9)),
		}
		if h.rng.IntN(6) == 0 {
			k.Total, k.Cost = true, uint64(h.rng.IntN(3))
		}
		return k
	}
	keys := make([]HeldKey, h.rng.IntN(4))
	for i := range keys {
		keys[i] = key()
	}
	id := ReservationID{1, 1 + h.rng.Uint64N(h.last+1)}
	switch h.rng.IntN(20) {
	default:
		h.reserve(keys)
	case 0:
		h.apply(&Effect{Kind: EffectRelease, Resolve: ResolveEffect{ID: id}})
	case 1, 2:
		h.apply(&Effect{Kind: EffectConfirm, Resolve: ResolveEffect{
			ID: id, CountOn: 1, At: h.now, Mark: UseMark{Decision: DecisionID{9, 1}, Offer: 3},
		}})
	case 3:
		h.apply(&Effect{Kind: EffectUse, Use: UseEffect{At: h.now, Keys: []HeldKey{key()}}})
	case 4:
		h.apply(&Effect{Kind: EffectDecision, Decision: DecisionEffect{
			ID: DecisionID{byte(h.frame)}, Request: 1 + h.rng.Uint64N(9), Until: h.now + 300,
		}})
	case 5:
		if h.rng.IntN(4) == 0 {
			h.apply(&Effect{Kind: EffectTime, Ord: NoOrd, Floor: h.now})
		}
	}
}

// reserve applies a reservation, and does to a copy of the part what is done to one
// that changes all over.
func (h *placeHistory) reserve(keys []HeldKey) {
	h.last++
	e := &Effect{Kind: EffectReserve, Reserve: ReserveEffect{
		ID: ReservationID{1, h.last}, Offer: 3, Treatment: 4, Placement: 5, Channel: 1,
		Granted: h.now, Expires: h.now + UnixSec(h.rng.IntN(600)), Grace: uint32(h.rng.IntN(30)),
		Keys: keys,
	}}
	if h.rng.IntN(10) == 0 { // a lease of some minutes
		e.Reserve.Lease = journal.Lease{
			Epoch: 1, Life: 600, Grace: 30, ID: h.last, Start: journal.Msec(h.now) * 1000,
			End: journal.Msec(h.now+400) * 1000,
		}
	}
	if h.rng.IntN(12) == 0 { // one that is known
		e.Reserve.ID.Number = 1 + h.rng.Uint64N(h.last)
	}
	old := Contact{bytes.Clone(h.s.contact(0).b)}
	at := Instant{
		Now: h.now, Floor: h.s.floors.in(h.frame), incidents: h.s.incidents.in(h.frame),
	}
	var d contactDraft
	d.load(old)
	d.sweep(at)
	if err := d.change(e, at); err != nil {
		h.t.Fatal(err)
	}
	want := d.append(nil)
	h.all++
	if _, settled := old.settled(e.Reserve.ID, at); settled && !old.Empty() &&
		e.Reserve.Lease.Epoch == 0 {
		h.placed++
	}
	h.apply(e)
	h.checkBehind(e)
	if !bytes.Equal(h.s.contact(0).b, want) {
		h.t.Fatalf("frame %d: %+v\n%x\nwant\n%x", h.frame, e.Reserve, h.s.contact(0).b, want)
	}
}

// checkBehind compares what behind says with all reservations that ever were made: it
// overlooks none that shares a counter, and calls no other so but one that is resolved,
// or confirmed in part, or has a resolved one behind it that is no longer known.
func (h *placeHistory) checkBehind(e *Effect) {
	if e.Reserve.ID.Number != h.last {
		return
	}
	if h.used == nil {
		h.used = map[uint64][]HeldKey{}
	}
	if lag := h.last - h.durable; lag > 40 || h.rng.IntN(6) == 0 {
		h.durable += h.rng.Uint64N(lag)
	}
	shares, gone := false, h.s.edit.forgot.Number > h.durable
	for id := h.durable + 1; id < h.last; id++ {
		held, state := h.s.contact(0).Reservation(ReservationID{1, id})
		gone = gone || state > ReservationOpen || state == ReservationOpen && held.someConfirmed()
		for _, k := range h.used[id] {
			shares = shares || slices.ContainsFunc(e.Reserve.Keys, func(o HeldKey) bool {
				return o.Key == k.Key
			})
		}
	}
	got := h.s.behind(e, h.durable)
	if shares && !got || got && !shares && !gone {
		h.t.Fatalf("frame %d, durable up to %d: behind is %v: %+v", h.frame, h.durable, got, e.Reserve)
	}
	if got {
		h.behind++
	} else if h.s.newest > h.durable {
		h.beside++
	}
	h.used[h.last] = slices.Clone(e.Reserve.Keys)
}

func (h *placeHistory) apply(e *Effect) {
	h.t.Helper()
	e.Time = UnixMsec(h.now) * 1000
	if err := h.s.apply(h.frame, e); err != nil {
		h.t.Fatal(err)
	}
	if err := checkContact(h.s.contact(0).b); err != nil {
		h.t.Fatal(err)
	}
}
