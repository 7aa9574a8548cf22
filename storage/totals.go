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
// units of all people's uses, confirmed and held. A unit is a use, or of a budget
// in money a minor unit of its currency: see HeldKey.Units. It is exact under concurrency: what
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
	shards  [16]totalsShard
	feeding sync.Mutex // held by FeedTotals
}

type totalsShard struct {
	mu     sync.Mutex
	used   map[CounterKey][]totalCell // rising windows, none of 0 uses
	blocks map[TotalKey]*block
	burnt  map[TotalKey]burntUnits
	_      [32]byte // a cache line for each shard
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
		t.shards[i].blocks = make(map[TotalKey]*block)
		t.shards[i].burnt = make(map[TotalKey]burntUnits)
	}
	return t
}

// Take takes the units of a use of a window when they and what the windows from
// since on hold already are at most limit, and reports whether it did. The caller
// gives them back with Give when the effect that carries the use is not applied.
// Cost: the counter's windows from since on.
func (t *Totals) Take(k *HeldKey, since uint32, limit int64) bool {
	s := t.shard(k.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sum(k.Key, since) > limit-k.Units() {
		return false
	}
	s.add(k.Key, k.Window, k.Units())
	return true
}

// Force takes a use whatever the limit: a fact that was not granted, such as a
// late confirm.
func (t *Totals) Force(k *HeldKey) {
	t.add(TotalKey{k.Key, k.Window}, k.Units())
}

// Give gives a use back. More gives than takes leave the counter at 0.
func (t *Totals) Give(k *HeldKey) {
	t.add(TotalKey{k.Key, k.Window}, -k.Units())
}

// Used returns the units of a key in one window, confirmed and held.
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

// UsedSince returns the units of a key in the windows from since on.
func (t *Totals) UsedSince(key CounterKey, since uint32) int64 {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum(key, since)
}

// Frees returns the window with which the limit-th latest unit leaves: when it is
// before since, the counter has room for one more. ok is false when fewer units
// are known, and for a limit below 1, which never has room.
func (t *Totals) Frees(key CounterKey, limit int64) (window uint32, ok bool) {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	cells := s.used[key]
	for i := len(cells) - 1; i >= 0 && limit > 0; i-- {
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
	s.add(m.key, m.to, m.units)
	s.add(m.key, m.from, -m.units)
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
