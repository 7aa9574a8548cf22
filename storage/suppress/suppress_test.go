package suppress

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
)

// Law 1 and 2: a set against a map, over random additions and removals; hashes
// crowd in places, as a poor hash's would.
func TestSetAgainstMap(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		wide := r.IntN(2) == 0
		draw := func() Hash {
			h := Hash{r.Uint64(), r.Uint64() % 4}
			if !wide {
				h.Hi = h.Hi % 512 << 55
			}
			return h
		}
		set, want := new(Set), map[Hash]bool{}
		for range 40 {
			var some []Hash
			for range r.IntN(400) {
				some = append(some, draw())
			}
			if r.IntN(4) == 0 {
				for h := range want {
					if some = append(some, h); r.IntN(50) == 0 {
						break
					}
				}
				gone := set.Present(some)
				set.Remove(gone)
				for _, h := range gone {
					if !want[h] {
						t.Fatalf("seed %d: removed what was not there", seed)
					}
				}
				for _, h := range some {
					delete(want, h)
				}
			} else {
				set.Add(set.Missing(some))
				for _, h := range some {
					want[h] = true
				}
			}
			if set.Len() != len(want) {
				t.Fatalf("seed %d: %d hashes, want %d", seed, set.Len(), len(want))
			}
			for range 200 {
				if h := draw(); set.Has(h) != want[h] {
					t.Fatalf("seed %d: %v", seed, h)
				}
			}
			for h := range want {
				if !set.Has(h) {
					t.Fatalf("seed %d: %v is gone", seed, h)
				}
			}
		}
		runs := set.view()
		for i, run := range runs {
			if !slices.IsSortedFunc(run.hashes, Hash.Compare) {
				t.Fatalf("seed %d: run %d is not sorted", seed, i)
			}
		}
		if len(runs) > 3*size(len(want))+1 {
			t.Errorf("seed %d: %d runs", seed, len(runs))
		}
	}
}

func TestHashBytes(t *testing.T) {
	f := func(a, b [16]byte) {
		t.Helper()
		if got, want := HashOf(a).Compare(HashOf(b)), slices.Compare(a[:], b[:]); got != want {
			t.Errorf("%x %x: %d, want %d", a, b, got, want)
		}
		if !slices.Equal(HashOf(a).Append(nil), a[:]) {
			t.Errorf("%x does not come back", a)
		}
	}
	f([16]byte{0: 1}, [16]byte{7: 255, 15: 255})
	f([16]byte{8: 1}, [16]byte{15: 255})
	f([16]byte{15: 2}, [16]byte{15: 2})
	f([16]byte{0: 255}, [16]byte{0: 1})
}

func TestSetAllocatesNothing(t *testing.T) {
	s := new(Set)
	r := rand.New(rand.NewPCG(1, 1))
	var some []Hash
	for range 5000 {
		some = append(some, Hash{r.Uint64(), r.Uint64()})
	}
	s.Add(s.Missing(some))
	in, out := some[7], Hash{r.Uint64(), 1}
	if n := testing.AllocsPerRun(100, func() { s.Has(in); s.Has(out) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Readers beside an editor see a hash that was there before the editing began.
func TestSetReaders(t *testing.T) {
	s := new(Set)
	r := rand.New(rand.NewPCG(2, 1))
	kept := make([]Hash, 3000)
	for i := range kept {
		kept[i] = Hash{r.Uint64(), 0}
	}
	s.Add(s.Missing(kept))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := rand.New(rand.NewPCG(3, 1))
		for range 200 {
			var some []Hash
			for range w.IntN(300) {
				some = append(some, Hash{w.Uint64(), 1})
			}
			s.Add(s.Missing(some))
			s.Remove(s.Present(some[:len(some)/2]))
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
		}
		if h := kept[r.IntN(len(kept))]; !s.Has(h) {
			t.Fatalf("%v is not seen", h)
		}
	}
}

// BenchmarkHas looks absent hashes up in 2 million, built by batches of 64 Ki
// as an import does; it reports the bytes a hash and the hashes added a second.
func BenchmarkHas(b *testing.B) {
	const n, batch = 2_000_000, 1 << 16
	r := rand.New(rand.NewPCG(1, 1))
	s := new(Set)
	start := time.Now()
	some := make([]Hash, 0, batch)
	for i := range n {
		some = append(some, Hash{r.Uint64(), r.Uint64()})
		if len(some) == batch || i == n-1 {
			s.Add(s.Missing(some))
			some = some[:0]
		}
	}
	rate := n / time.Since(start).Seconds()
	runtime.GC()
	b.ResetTimer()
	for b.Loop() {
		s.Has(Hash{r.Uint64(), r.Uint64()})
	}
	b.ReportMetric(float64(s.Bytes())/float64(s.Len()), "B/hash")
	b.ReportMetric(rate, "added/s")
	b.ReportMetric(float64(len(s.view())), "runs")
}
