package wire

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tact/engine"
	"tact/storage"
)

// Lines of a batch are those of single decisions, byte for byte, whatever follows
// whatever: more offers and numbers than are remembered, texts to escape, parts that few
// decisions have.
func TestBatchLinesAreThoseOfDecisions(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var lines BatchLines
	var got, want []byte
	for n := range 20_000 {
		d := sampleDecision()
		d.HasID = r.IntN(2) == 0
		if r.IntN(8) > 0 {
			d.Assignments, d.Capped, d.Degraded, d.Trace = nil, nil, nil, nil
		}
		d.Replayed = r.IntN(50) == 0
		d.DecidedAt += storage.UnixMsec(n / 100)
		d.Revision += uint32(n / 1000)
		d.UserID = fmt.Appendf(nil, "u\"%d", n)
		if r.IntN(40) == 0 {
			d.UserID = nil
		}
		for i := range d.Items {
			it := &d.Items[i]
			if r.IntN(4) > 0 {
				k := r.IntN(1000)
				it.OfferID = fmt.Sprintf("offer %d\n", k)
				it.TreatmentID = []string{"t", "", "other"}[r.IntN(3)]
			}
			it.Channel = []string{"web", "app", ""}[r.IntN(3)]
			it.Rank = r.IntN(120)
			it.Score = []float64{
				0, math.Copysign(0, -1), 1, math.NaN(), -1e-300, r.Float64(),
				r.NormFloat64() * 1e25, math.MaxFloat64, math.SmallestNonzeroFloat64,
			}[r.IntN(9)]
			it.Propensity = float64(r.IntN(1000)) / 1000
			it.Content = []([]byte){nil, []byte(`{"a":1}`), []byte("x\ty")}[r.IntN(3)]
			it.Reserved = r.IntN(2) == 0
			if r.IntN(2) == 0 {
				it.Token = nil
			}
		}
		if r.IntN(3) > 0 {
			d.Slots = d.Slots[r.IntN(2):]
			d.Slots = d.Slots[:1+r.IntN(len(d.Slots))]
		}
		d.Slots[0].Key = [][]byte{nil, []byte("hero"), []byte("a\"b")}[n/500%3]
		if r.IntN(3) == 0 {
			d.Slots = []engine.SlotReply{{Key: []byte("hero"), Count: 2}}
		}
		id := []byte("\x00device\x00d1")
		got, want = lines.Append(got[:0], id, d), AppendBatchDecision(want[:0], id, d)
		if string(got) != string(want) {
			t.Fatalf("%d:\n%s%s", n, got, want)
		}
	}
}

// Nothing is allocated for a line whose parts have been seen.
func TestBatchLinesDoNotAllocate(t *testing.T) {
	d := sampleDecision()
	d.Assignments, d.Capped, d.Degraded, d.Trace = nil, nil, nil, nil
	var lines BatchLines
	buf := lines.Append(nil, nil, d)
	if n := testing.AllocsPerRun(100, func() { buf = lines.Append(buf[:0], nil, d) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
