package storage

import (
	"sync"
	"sync/atomic"
	"testing"
)

// However many take at once, the limit is never passed, and nothing is lost.
func TestTotalsAreExact(t *testing.T) {
	const limit = 37
	totals := NewTotals()
	key := CounterKey{5, 9}
	var taken, over atomic.Int64
	var done sync.WaitGroup
	for range 8 {
		done.Add(1)
		go func() {
			defer done.Done()
			for i := range 4000 {
				if !totals.Take(key, 3, limit) {
					continue
				}
				if taken.Add(1) > limit {
					over.Add(1)
				}
				if i%4 != 0 || i > 3000 {
					taken.Add(-1)
					totals.Give(key, 3)
				}
			}
		}()
	}
	done.Wait()
	if over.Load() != 0 || totals.Used(key, 3) != taken.Load() {
		t.Fatalf("%d over, %d used, want %d", over.Load(), totals.Used(key, 3), taken.Load())
	}
	for totals.Take(key, 3, limit) {
		taken.Add(1)
	}
	if taken.Load() != limit {
		t.Fatalf("%d of %d could be taken", taken.Load(), limit)
	}
	if totals.Used(key, 4) != 0 || totals.Used(CounterKey{5, 8}, 3) != 0 {
		t.Fatal("another counter moved")
	}
	totals.Force(key, 3)
	if totals.Used(key, 3) != limit+1 {
		t.Fatal("a fact was not counted")
	}
	totals.Give(key, 4)
	if totals.Used(key, 4) != 0 {
		t.Fatal("below nothing")
	}
}

// A table of statistics that is full keeps counting the rows it has.
func TestStatsAreBounded(t *testing.T) {
	s := statsTable{rows: map[StatsKey]statsRow{}}
	for i := range statsMax + 5 {
		s.add(StatsKey{Offer: Name(i)}, 1, 2)
	}
	s.add(StatsKey{Offer: 7}, 3, 1)
	if len(s.rows) != statsMax || s.lost != 5 {
		t.Fatalf("%d rows, %d lost", len(s.rows), s.lost)
	}
	if r := s.rows[StatsKey{Offer: 7}]; r.n != 4 || r.value != 3 {
		t.Fatalf("%+v", r)
	}
}
