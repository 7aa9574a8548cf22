package storage

import "unsafe"

// A Fetch brings what decisions and events read of people into the processor's caches,
// of many people at once: who is taken one by one waits for the index, the row and the
// parts, one behind the other; of many the waits of each kind overlap. The zero value
// is ready. One goroutine at a time.
type Fetch struct {
	hashes []uint64 // of the ids, group by group
	from   []int    // of group g: hashes[from[g]:from[g+1]]
	slots  []Slot   // of the id of the same index
	found  []uint64 // of ids, as IndexHash
	rows   []*Row
	keys   []uint64 // of events, group by group
	places []Ref    // where such a key would lie
}

// People brings people with canonical ids into the caches. Who is not there is skipped.
// It changes nothing and allocates nothing once its memory has grown.
// Cost: two hashes and some 15 cache lines a person, a lock each group.
func (f *Fetch) People(s *Store, ws WorkspaceID, ids [][]byte) {
	f.arrange(s, ws, ids, nil)
	for i, g := range s.groups {
		if of := f.hashes[f.from[i]:f.from[i+1]]; len(of) > 0 {
			g.mu.Lock()
			g.mu.state.fetchAll(of, f.rows[:0])
			g.mu.Unlock()
		}
	}
	clear(f.rows[:cap(f.rows)])
}

// Where returns the slot and the IndexHash of the i-th person of the last People or Events.
func (f *Fetch) Where(i int) (Slot, uint64) { return f.slots[i], f.found[i] }

// Events brings people to whom events are to be added into the caches; keys are the
// idempotency keys of the events, as Store.DedupHash gives them. Who is not there is
// skipped. It changes nothing and allocates nothing once its memory has grown.
// Cost: two hashes and, of a person with a full tail, some 35 cache lines, a lock each
// group.
func (f *Fetch) Events(s *Store, ws WorkspaceID, ids [][]byte, keys []uint64) {
	f.arrange(s, ws, ids, keys)
	for i, g := range s.groups {
		from, to := f.from[i], f.from[i+1]
		if from < to {
			g.mu.Lock()
			g.mu.state.fetchEvents(f, from, to)
			g.mu.Unlock()
		}
	}
	clear(f.rows[:cap(f.rows)])
}

// arrange hashes ids and puts them, and the keys when there are any, in the order of
// their groups.
func (f *Fetch) arrange(s *Store, ws WorkspaceID, ids [][]byte, keys []uint64) {
	n := len(ids)
	if cap(f.slots) < n {
		f.slots, f.found = make([]Slot, n), make([]uint64, n)
		f.hashes, f.rows = make([]uint64, n), make([]*Row, n)
	}
	if cap(f.keys) < len(keys) {
		f.keys, f.places = make([]uint64, n), make([]Ref, n)
	}
	if len(f.from) != len(s.groups)+1 {
		f.from = make([]int, len(s.groups)+1)
	}
	f.slots, f.found, f.hashes = f.slots[:n], f.found[:n], f.hashes[:n]
	f.keys = f.keys[:len(keys)]
	clear(f.from)
	for i, id := range ids {
		f.found[i] = s.IndexHash(ws, id)
		f.slots[i] = s.SlotOf(ws, id)
		f.from[s.GroupOf(f.slots[i]).id]++
	}
	end := 0
	for g := range f.from {
		end += f.from[g]
		f.from[g] = end
	}
	for i, slot := range f.slots {
		g := s.GroupOf(slot).id
		f.from[g]--
		f.hashes[f.from[g]] = f.found[i]
		if len(keys) > 0 {
			f.keys[f.from[g]] = keys[i]
		}
	}
}

// fetchEvents asks for what an event reads and changes of those between two places: the
// index, the row, then tail, sums, pending events and the place of the idempotency key.
// Inside each step no read waits for another.
func (s *state) fetchEvents(f *Fetch, from, to int) {
	if len(s.index.buckets) == 0 {
		return
	}
	hashes, keys := f.hashes[from:to], f.keys[from:to]
	rows, places := f.rows[:0], f.places[:0]
	s.index.aheadAll(hashes)
	for i, h := range hashes {
		if o, _, _, ok := s.index.next(h, s.index.first(h)); ok {
			if r := s.rows.spot(o); r != nil {
				ahead(unsafe.Pointer(r), rowLines)
				keys[len(rows)] = keys[i]
				rows = append(rows, r)
			}
		}
	}
	for i, r := range rows {
		s.slab.ahead(r.tail, 1)
		s.slab.ahead(r.activity, 1)
		s.slab.ahead(r.pending, 1)
		if s.dedup.n > 0 {
			places = append(places, *s.dedup.segment(r.DedupKey(keys[i])))
		}
	}
	for _, r := range rows {
		s.slab.aheadAll(r.tail)
		s.slab.aheadAll(r.activity)
	}
	for _, p := range places {
		s.slab.aheadAll(p)
	}
}

// fetchAll asks for the index of all, then for their rows and profiles, then for what
// holds of caps: inside each step no read waits for another.
func (s *state) fetchAll(hashes []uint64, rows []*Row) {
	if len(s.index.buckets) == 0 {
		return
	}
	s.index.aheadAll(hashes)
	for _, h := range hashes {
		if o, hint, _, ok := s.index.next(h, s.index.first(h)); ok {
			if r := s.rows.spot(o); r != nil {
				rows = append(rows, r)
				ahead(unsafe.Pointer(r), rowLines)
				s.slab.ahead(*hint, fetchLines)
			}
		}
	}
	for _, r := range rows {
		s.slab.ahead(r.contact, 1)
	}
}
