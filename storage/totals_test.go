package storage

import (
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// However many take at once, the limit is never passed, and nothing is lost.
func TestTotalsAreExact(t *testing.T) {
	const limit = 37
	totals := NewTotals()
	key := CounterKey{5, 9}
	use := &HeldKey{Key: key, Total: true, Window: 3}
	var taken, over atomic.Int64
	var done sync.WaitGroup
	for range 8 {
		done.Add(1)
		go func() {
			defer done.Done()
			for i := range 4000 {
				if !totals.Take(use, 3, limit) {
					continue
				}
				if taken.Add(1) > limit {
					over.Add(1)
				}
				if i%4 != 0 || i > 3000 {
					taken.Add(-1)
					totals.Give(use)
				}
			}
		}()
	}
	done.Wait()
	if over.Load() != 0 || totals.Used(key, 3) != taken.Load() {
		t.Fatalf("%d over, %d used, want %d", over.Load(), totals.Used(key, 3), taken.Load())
	}
	for totals.Take(use, 3, limit) {
		taken.Add(1)
	}
	if taken.Load() != limit {
		t.Fatalf("%d of %d could be taken", taken.Load(), limit)
	}
	if totals.Used(key, 4) != 0 || totals.Used(CounterKey{5, 8}, 3) != 0 {
		t.Fatal("another counter moved")
	}
	totals.Force(use)
	if totals.Used(key, 3) != limit+1 {
		t.Fatal("a fact was not counted")
	}
	totals.Give(&HeldKey{Key: key, Total: true, Window: 4})
	if totals.Used(key, 4) != 0 {
		t.Fatal("below nothing")
	}
}

// A use of a budget in money takes its cost, or nothing when its cost does not fit.
func TestTotalsInMoney(t *testing.T) {
	totals := NewTotals()
	use := func(cost uint64) *HeldKey {
		return &HeldKey{Key: CounterKey{5, 9}, Total: true, Window: 3, Cost: cost}
	}
	f := func(cost uint64, want bool, used int64) {
		t.Helper()
		if got := totals.Take(use(cost), 2, 1000); got != want {
			t.Fatalf("a use that costs %d: %v", cost, got)
		}
		if got := totals.UsedSince(CounterKey{5, 9}, 2); got != used {
			t.Fatalf("%d used, want %d", got, used)
		}
	}
	f(600, true, 600)
	f(401, false, 600)
	f(400, true, 1000)
	f(1, false, 1000)
	totals.Give(use(400))
	f(399, true, 999)
	f(1<<62, false, 999)
	if w, ok := totals.Frees(CounterKey{5, 9}, 1000-400+1); !ok || w != 3 {
		t.Fatalf("frees with window %d, %v", w, ok)
	}
	if _, ok := totals.Frees(CounterKey{5, 9}, 0); ok {
		t.Fatal("a limit of 0 frees")
	}
}

// A table of statistics that is full keeps counting the rows it has.
func TestStatsAreBounded(t *testing.T) {
	var s statsTable
	for i := range statsMax + 5 {
		s.add(StatsKey{Offer: Name(i)}, 1, 2)
	}
	s.add(StatsKey{Offer: 7}, 3, 1)
	if s.rows != statsMax || s.lost != 5 {
		t.Fatalf("%d rows, %d lost", s.rows, s.lost)
	}
	if r := s.find(StatsKey{Offer: 7}); r.n != 4 || r.value != 3 {
		t.Fatalf("%+v", r)
	}
}

// The table of statistics against a map, also after it was written and read.
func TestStatsEqualMap(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	s, want := newState(2, stateOptions{}), map[StatsKey]statsRow{}
	for range 50_000 {
		k := StatsKey{
			Offer: Name(r.IntN(300)), Treatment: Name(r.IntN(3)), Variant: Name(r.IntN(2)),
			What: Name(1<<31 + r.IntN(4)),
		}
		if r.IntN(50) == 0 {
			k = StatsKey{}
		}
		n, value := uint64(r.IntN(3)), float64(r.IntN(100))-50
		s.stats.add(k, n, value)
		w := want[k]
		want[k] = statsRow{w.n + n, w.value + value}
	}
	loaded := newState(2, stateOptions{})
	if err := loaded.loadMeta(s.appendMeta(nil, 7)); err != nil {
		t.Fatal(err)
	}
	for _, of := range [...]*state{s, loaded} {
		got := map[StatsKey]statsRow{}
		of.stats.each(func(k StatsKey, row statsRow) { got[k] = row })
		if !maps.Equal(got, want) || of.stats.rows != len(want) {
			t.Fatalf("%d rows, want %d", of.stats.rows, len(want))
		}
		for k, w := range want {
			if row := of.stats.find(k); row == nil || *row != w {
				t.Fatalf("%v: %v, want %v", k, row, w)
			}
		}
		if of.stats.find(StatsKey{Offer: 400}) != nil {
			t.Fatal("a row of nothing")
		}
	}
}
