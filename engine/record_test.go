package engine

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"tact/storage"
)

func randomRecord(rng *rand.Rand) *record {
	name := func() storage.Name { return storage.Name(rng.Uint32N(1 << 20)) }
	r := &record{
		Revision: rng.Uint32(), StateFrame: rng.Uint64N(1 << 36), BodyHash: rng.Uint32(),
		BitsRev: rng.Uint32N(100),
	}
	for i := range r.UserWords {
		if rng.IntN(3) == 0 {
			r.UserWords[i] = rng.Uint64()
		}
	}
	for k := 1; k < storage.MaxPages && rng.IntN(2) == 0; k += 1 + rng.IntN(12) {
		r.Pages |= 1 << k
		for range storage.PageWords {
			r.More = append(r.More, rng.Uint64()*uint64(rng.IntN(2)))
		}
	}
	for range rng.IntN(3) {
		r.Request = append(r.Request, rng.Uint64())
		r.Variants = append(r.Variants, name())
		r.Counts = append(r.Counts, recordCount{storage.CounterKey{Cap: name(), Dim: 7}, rng.IntN(9)})
		r.Capped = append(r.Capped, recordCapped{name(), name(), storage.UnixSec(rng.Uint32())})
	}
	for range 1 + rng.IntN(3) {
		s := recordSlot{
			KeyHash: rng.Uint32(), Placement: name(), Policy: name(), Kind: uint8(rng.IntN(3)),
			Reason: uint8(rng.IntN(30)), Count: rng.IntN(4),
		}
		for i := range s.Count {
			r.Items = append(r.Items, recordItem{
				Offer: name(), Treatment: name(), Rank: i + 1, Channel: uint8(rng.IntN(8)),
				Score: rng.Float64() * 100, Propensity: rng.Float64(), Probability: 1,
				Life: 600, Reservation: storage.ReservationID{Epoch: 3, Number: rng.Uint64()},
			})
		}
		r.Slots = append(r.Slots, s)
	}
	return r
}

// A record reads back as written; a typical one stays within 160 bytes.
func TestRecordRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	var got record
	for range 2000 {
		want := randomRecord(rng)
		b := want.append(nil)
		if err := got.decode(b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.append(nil), b) {
			t.Fatalf("read back otherwise\n got %+v\nwant %+v", got, *want)
		}
		if len(want.Items) > 0 && !reflect.DeepEqual(got.Items, want.Items) {
			t.Fatalf("items differ")
		}
		if got.decode(b[:len(b)-1]) == nil {
			t.Fatal("a cut record was accepted")
		}
	}
	typical := &record{Revision: 12, StateFrame: 1 << 20, BodyHash: 1, BitsRev: 3, Request: []uint64{5}}
	typical.UserWords[0], typical.UserWords[1] = 77, 99
	typical.Slots = []recordSlot{{KeyHash: 1, Placement: 2, Policy: 2, Count: 1}}
	typical.Items = []recordItem{{
		Offer: 900, Treatment: 1800, Rank: 1, Score: 1.25, Propensity: 0.1, Probability: 1, Life: 600,
		Reservation: storage.ReservationID{Epoch: 4, Number: 5<<48 | 1000},
	}}
	if n := len(typical.append(nil)); n > 160 {
		t.Fatalf("a typical record takes %d bytes", n)
	}
}

func FuzzRecordDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 8 {
		f.Add(randomRecord(rng).append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again record
		if r.decode(b) != nil {
			return
		}
		if err := again.decode(r.append(nil)); err != nil {
			t.Fatalf("own bytes refused: %v", err)
		}
	})
}
