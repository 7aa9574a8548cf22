package storage

import (
	"math"
	"slices"
	"sync"
)

// TotalKey names one counter of a cap of scope total in one window. Window is the
// number of the calendar window or of the cell of a rolling one, 0 for lifetime.
type TotalKey struct {
	CounterKey
	Window uint32
}

// Totals is the node's ledger of caps of scope total: per key and window the
// uses of all people, confirmed and held. It is exact under concurrency: what
// Take granted and Give did not take back never passes the limit.
//
// A held use is dated at the latest moment it can happen, so a counter is the sum
// of its windows from one on: later ones hold uses that are not sure to come. The
// confirm dates it when it happened.
//
// The ledger is resident. At start it is rebuilt from what every group holds:
// its confirmed counts and the open reservations of its people. It has a lock
// of its own, held for a look at the windows of one counter, and never takes
// another lock, so it may be used with a group's lock held.
type Totals struct {
	shards [16]totalsShard
}

type totalsShard struct {
	mu   sync.Mutex
	used map[CounterKey][]totalCell // rising windows, none of 0 uses
	_    [48]byte                   // a cache line for each shard
}

type totalCell struct {
	window uint32
	n      int64
}

// NewTotals returns an empty ledger.
func NewTotals() *Totals {
	t := new(Totals)
	for i := range t.shards {
		t.shards[i].used = make(map[CounterKey][]totalCell)
	}
	return t
}

// Take takes one use of a window when fewer than limit are used in it and in
// later ones, and reports whether it did. The caller gives it back with Give when
// the effect that carries the use is not applied.
func (t *Totals) Take(key CounterKey, window uint32, limit int64) bool {
	return t.TakeSince(key, window, window, limit)
}

// TakeSince takes one use of a window when fewer than limit are used in the
// windows from since on. Cost: the counter's windows from since on.
func (t *Totals) TakeSince(key CounterKey, window, since uint32, limit int64) bool {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sum(key, since) >= limit {
		return false
	}
	s.add(key, window, 1)
	return true
}

// Force takes one use whatever the limit: a fact that was not granted, such as
// a late confirm.
func (t *Totals) Force(key CounterKey, window uint32) {
	t.add(TotalKey{key, window}, 1)
}

// Give gives one use back. More gives than takes leave the counter at 0.
func (t *Totals) Give(key CounterKey, window uint32) {
	t.add(TotalKey{key, window}, -1)
}

// Used returns the uses of a key in one window, confirmed and held.
func (t *Totals) Used(key CounterKey, window uint32) int64 {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.sum(key, window)
	if window < math.MaxUint32 {
		n -= s.sum(key, window+1)
	}
	return n
}

// UsedSince returns the uses of a key in the windows from since on.
func (t *Totals) UsedSince(key CounterKey, since uint32) int64 {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum(key, since)
}

// Frees returns the window with which the limit-th latest use leaves: when it is
// before since, the counter has room. ok is false when fewer uses are known.
func (t *Totals) Frees(key CounterKey, limit int64) (window uint32, ok bool) {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	cells := s.used[key]
	for i := len(cells) - 1; i >= 0; i-- {
		if limit -= cells[i].n; limit <= 0 {
			return cells[i].window, true
		}
	}
	return 0, false
}

// Each calls f for every counter and window in no order, with a lock of the
// ledger held: f must not use the ledger.
func (t *Totals) Each(f func(key TotalKey, used int64)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for k, cells := range s.used {
			for _, c := range cells {
				f(TotalKey{k, c.window}, c.n)
			}
		}
		s.mu.Unlock()
	}
}

func (t *Totals) add(k TotalKey, n int64) {
	s := t.shard(k.CounterKey)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(k.CounterKey, k.Window, n)
}

// move dates a use earlier: the sum of the windows from any one on is at most what
// it was.
func (t *Totals) move(m *move) {
	s := t.shard(m.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(m.key, m.to, 1)
	s.add(m.key, m.from, -1)
}

func (s *totalsShard) sum(key CounterKey, since uint32) int64 {
	cells, n := s.used[key], int64(0)
	for i := len(cells) - 1; i >= 0 && cells[i].window >= since; i-- {
		n += cells[i].n
	}
	return n
}

func (s *totalsShard) add(key CounterKey, window uint32, n int64) {
	cells := s.used[key]
	i := len(cells)
	for i > 0 && cells[i-1].window >= window {
		i--
	}
	switch {
	case i < len(cells) && cells[i].window == window:
		if cells[i].n += n; cells[i].n <= 0 {
			cells = slices.Delete(cells, i, i+1)
		}
	case n > 0:
		cells = slices.Insert(cells, i, totalCell{window, n})
	}
	if len(cells) == 0 {
		delete(s.used, key)
		return
	}
	s.used[key] = cells
}

func (t *Totals) shard(k CounterKey) *totalsShard {
	h := uint64(k.Cap)*0x9E3779B97F4A7C15 ^ uint64(k.Dim)*0xC2B2AE3D27D4EB4F
	h *= 0x9E3779B97F4A7C15
	return &t.shards[h>>60]
}
