package storage

import "sync"

// TotalKey names one counter of a cap of scope total in one calendar window.
// Window is the window's number, 0 for lifetime.
type TotalKey struct {
	CounterKey
	Window uint32
}

// Totals is the node's ledger of caps of scope total: per key and window the
// uses of all people, confirmed and held. It is exact under concurrency: the
// sum of what Take granted and Give did not take back never passes the limit.
//
// The ledger is resident. At start it is rebuilt from what every group holds:
// its confirmed counts and the open reservations of its people. It has a lock
// of its own, held for one map access, and never takes another lock, so it may
// be used with a group's lock held.
type Totals struct {
	shards [16]totalsShard
}

type totalsShard struct {
	mu   sync.Mutex
	used map[TotalKey]int64
	_    [48]byte // a cache line for each shard
}

// NewTotals returns an empty ledger.
func NewTotals() *Totals {
	t := new(Totals)
	for i := range t.shards {
		t.shards[i].used = make(map[TotalKey]int64)
	}
	return t
}

// Take takes one use when fewer than limit are used, and reports whether it
// did. The caller gives it back with Give when the effect that carries the use
// is not applied.
func (t *Totals) Take(key CounterKey, window uint32, limit int64) bool {
	k := TotalKey{key, window}
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used[k] >= limit {
		return false
	}
	s.used[k]++
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

// Used returns the uses of a key, confirmed and held.
func (t *Totals) Used(key CounterKey, window uint32) int64 {
	k := TotalKey{key, window}
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used[k]
}

// Each calls f for every counter in no order, with a lock of the ledger held:
// f must not use the ledger.
func (t *Totals) Each(f func(key TotalKey, used int64)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for k, n := range s.used {
			f(k, n)
		}
		s.mu.Unlock()
	}
}

func (t *Totals) add(k TotalKey, n int64) {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.used[k] + n
	if left <= 0 {
		delete(s.used, k)
		return
	}
	s.used[k] = left
}

func (t *Totals) shard(k TotalKey) *totalsShard {
	h := uint64(k.Cap)*0x9E3779B97F4A7C15 ^ uint64(k.Dim)*0xC2B2AE3D27D4EB4F ^ uint64(k.Window)
	h *= 0x9E3779B97F4A7C15
	return &t.shards[h>>60]
}
