package storage

import (
	"math/bits"
	"unsafe"
)

// statsMax bounds the rows of the statistics of a group. What would make one
// more row is counted in lost.
const statsMax = 1 << 20

// statsTable counts per (offer, treatment, variant, what): open addressing, a row in the
// first free slot from its hash on, none is ever taken out. Every decision counts here
// under the lock, where a map took a twentieth of its time.
type statsTable struct {
	slots []statsSlot // a power of two, three quarters full at most, or none
	rows  int
	lost  uint64 // additions that found the table full
}

type statsSlot struct {
	key   StatsKey
	row   statsRow
	taken bool
}

type statsRow struct {
	n     uint64
	value float64
}

const statsMinSlots = 64

// add adds to a row. It does not allocate when the row exists.
// Cost: one or two cache lines.
func (t *statsTable) add(key StatsKey, n uint64, value float64) {
	r := t.find(key)
	if r == nil {
		if t.rows >= statsMax {
			t.lost += n
			return
		}
		r = t.make(key)
	}
	r.n += n
	r.value += value
}

// find returns a row, nil when there is none.
func (t *statsTable) find(key StatsKey) *statsRow {
	if len(t.slots) == 0 {
		return nil
	}
	if s := t.slot(key); s.taken {
		return &s.row
	}
	return nil
}

// at returns the row of a key, making it.
func (t *statsTable) at(key StatsKey) *statsRow {
	if r := t.find(key); r != nil {
		return r
	}
	return t.make(key)
}

// make returns a new row of a key that has none.
func (t *statsTable) make(key StatsKey) *statsRow {
	if 4*(t.rows+1) > 3*len(t.slots) {
		old := t.slots
		t.slots = make([]statsSlot, max(statsMinSlots, 2*len(old)))
		for i := range old {
			if old[i].taken {
				*t.slot(old[i].key) = old[i]
			}
		}
	}
	t.rows++
	s := t.slot(key)
	s.key, s.taken = key, true
	return &s.row
}

// slot returns where a key is, or would be: there is a free one.
func (t *statsTable) slot(key StatsKey) *statsSlot {
	last := uint64(len(t.slots) - 1)
	for i := key.hash(); ; i++ {
		if s := &t.slots[i&last]; !s.taken || s.key == key {
			return s
		}
	}
}

// hash spreads keys, whose names are small numbers, by the odd constant of 2^64 over the
// golden ratio: Knuth, The Art of Computer Programming 3, 6.4.
func (k *StatsKey) hash() uint64 {
	h := (uint64(k.Offer)<<32 | uint64(k.Treatment)) * workspaceStep
	h = (bits.RotateLeft64(h, 32) ^ uint64(k.Variant)<<32 ^ uint64(k.What)) * workspaceStep
	return h ^ h>>32
}

// each calls f for every row, in no order.
func (t *statsTable) each(f func(StatsKey, statsRow)) {
	for i := range t.slots {
		if s := &t.slots[i]; s.taken {
			f(s.key, s.row)
		}
	}
}

// bytes is the memory of the table.
func (t *statsTable) bytes() int64 {
	return int64(len(t.slots)) * int64(unsafe.Sizeof(statsSlot{}))
}

// addOutcome adds an outcome to the row over everybody and to the row of each
// variant.
func (t *statsTable) addOutcome(e *OutcomeEffect) {
	key := StatsKey{Offer: e.Offer, Treatment: e.Treatment, What: e.Outcome}
	t.add(key, 1, e.Value)
	for _, v := range e.Variants {
		if v != 0 {
			key.Variant = v
			t.add(key, 1, e.Value)
		}
	}
}

// totalsShare is what one group holds of the node's ledger of totals: its
// confirmed uses. Its pending ones are the open reservations of its people.
type totalsShare struct {
	confirmed map[TotalKey]int64
	ledger    *Totals // nil before attachTotals: the ledger is not touched
	// oldest is derived: no cell of a rolling total before it is in confirmed.
	oldest map[CounterKey]uint32
	blocks blockShare
}

// keptCells is how many cells of a rolling total are kept before the newest one
// that was used: more than its window and the longest hold reach over.
const keptCells = 128

// confirm counts a use. Of a rolling total the cells that have left go.
func (t *totalsShare) confirm(k *HeldKey) {
	key := TotalKey{k.Key, k.Window}
	before := t.confirmed[key]
	t.confirmed[key] = before + k.Units()
	if k.Coarse != CoarseRolling || before > 0 || k.Window < keptCells {
		return
	}
	last := k.Window - keptCells
	first, ok := t.oldest[k.Key]
	if ok && k.Window < first {
		t.oldest[k.Key] = k.Window // a late one: it goes with the next new cell
		return
	}
	if !ok || last-first > keptCells {
		for have := range t.confirmed {
			if have.CounterKey == k.Key && have.Window < last {
				t.forget(have)
			}
		}
	} else {
		for w := first; w < last; w++ {
			t.forget(TotalKey{k.Key, w})
		}
	}
	if t.oldest == nil {
		t.oldest = make(map[CounterKey]uint32)
	}
	t.oldest[k.Key] = max(first, last)
}

func (t *totalsShare) forget(k TotalKey) {
	n, ok := t.confirmed[k]
	if !ok {
		return
	}
	delete(t.confirmed, k)
	delete(t.blocks.burnt, k)
	if t.ledger != nil {
		t.ledger.add(k, -n)
	}
}

func (t *totalsShare) give(k HeldKey) {
	if t.ledger != nil {
		t.ledger.Give(&k)
	}
}

func (t *totalsShare) move(m *move) {
	if t.ledger != nil {
		t.ledger.move(m)
	}
}

// floors are the latest floors and the frames that set them. A floor is in
// force for its own frame and all later ones, so that replaying an older frame
// over newer meta judges reservations as the first time.
type floors struct {
	set [16]floorMark
	n   int
}

type floorMark struct {
	frame uint64
	at    UnixSec
}

// raise sets the floor from frame on. A floor never sinks.
func (f *floors) raise(frame uint64, at UnixSec) {
	at = max(at, f.latest())
	if f.n > 0 && f.set[f.n-1].frame == frame {
		f.set[f.n-1].at = at
		return
	}
	if f.n == len(f.set) {
		copy(f.set[:], f.set[1:])
		f.n--
	}
	f.set[f.n] = floorMark{frame, at}
	f.n++
}

// in returns the floor that is in force in frame.
func (f *floors) in(frame uint64) UnixSec {
	for i := f.n - 1; i >= 0; i-- {
		if f.set[i].frame <= frame {
			return f.set[i].at
		}
	}
	return 0
}

func (f *floors) latest() UnixSec {
	if f.n == 0 {
		return 0
	}
	return f.set[f.n-1].at
}

// heldQueue is a binary heap of the open reservations that hold a total key, by
// the time at which they may expire. It is derived: built when rows are loaded,
// and an entry may be out of date.
type heldQueue struct{ heap []heldEntry }

type heldEntry struct {
	at  uint64 // unix seconds
	ord Ord
	id  ReservationID
}

func (q *heldQueue) push(e heldEntry) {
	q.heap = append(q.heap, e)
	for i := len(q.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if q.heap[up].at <= q.heap[i].at {
			return
		}
		q.heap[up], q.heap[i] = q.heap[i], q.heap[up]
		i = up
	}
}

func (q *heldQueue) pop() heldEntry {
	top, last := q.heap[0], len(q.heap)-1
	q.heap[0] = q.heap[last]
	q.heap = q.heap[:last]
	for i := 0; ; {
		low := 2*i + 1
		if low >= last {
			return top
		}
		if low+1 < last && q.heap[low+1].at < q.heap[low].at {
			low++
		}
		if q.heap[i].at <= q.heap[low].at {
			return top
		}
		q.heap[low], q.heap[i] = q.heap[i], q.heap[low]
		i = low
	}
}

// due takes the earliest entry when its time has come.
func (q *heldQueue) due(now UnixSec) (heldEntry, bool) {
	if len(q.heap) == 0 || q.heap[0].at > uint64(now) {
		return heldEntry{}, false
	}
	return q.pop(), true
}
