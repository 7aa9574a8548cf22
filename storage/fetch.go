package storage

// A Fetch brings what decisions read of people into the processor's caches, of many
// people at once: who is decided on one by one waits for the index, the row and the
// profile, one behind the other; of many the waits of each kind overlap. The zero value
// is ready. One goroutine at a time.
type Fetch struct {
	hashes []uint64 // of the ids, group by group
	from   []int    // of group g: hashes[from[g]:from[g+1]]
	groups []uint16 // of the id of the same index
	found  []uint64 // of ids
	rows   []*Row
}

// People brings people with canonical ids into the caches. Who is not there is skipped.
// It changes nothing and allocates nothing once its memory has grown.
// Cost: two hashes and some 15 cache lines a person, a lock each group.
func (f *Fetch) People(s *Store, ws WorkspaceID, ids [][]byte) {
	n := len(ids)
	if cap(f.groups) < n {
		f.groups, f.found = make([]uint16, n), make([]uint64, n)
		f.hashes, f.rows = make([]uint64, n), make([]*Row, n)
	}
	if len(f.from) != len(s.groups)+1 {
		f.from = make([]int, len(s.groups)+1)
	}
	f.groups, f.found, f.hashes = f.groups[:n], f.found[:n], f.hashes[:n]
	clear(f.from)
	for i, id := range ids {
		f.found[i] = s.IndexHash(ws, id)
		f.groups[i] = uint16(s.GroupOf(s.SlotOf(ws, id)).id)
		f.from[f.groups[i]]++
	}
	end := 0
	for g := range f.from {
		end += f.from[g]
		f.from[g] = end
	}
	for i, g := range f.groups {
		f.from[g]--
		f.hashes[f.from[g]] = f.found[i]
	}
	for i, g := range s.groups {
		if of := f.hashes[f.from[i]:f.from[i+1]]; len(of) > 0 {
			g.mu.Lock()
			g.mu.state.fetchAll(of, f.rows[:0])
			g.mu.Unlock()
		}
	}
	clear(f.rows[:cap(f.rows)])
}

// fetchAll asks for the index of all, then for their rows, then for the parts that a
// decision reads: inside each step no read waits for another.
func (s *state) fetchAll(hashes []uint64, rows []*Row) {
	if len(s.index.buckets) == 0 {
		return
	}
	warm, last := uint64(0), uint64(len(s.index.buckets)-1)
	for _, h := range hashes {
		b := &s.index.buckets[h&last]
		warm += uint64(b.tags[0])
	}
	for _, h := range hashes {
		if o, _, ok := s.index.next(h, s.index.first(h)); ok {
			if r := s.rows.at(o); r != nil {
				rows = append(rows, r)
				warm += r.Page.Bits[0] + uint64(r.id[idInline-1])
			}
		}
	}
	for _, r := range rows {
		warm += uint64(s.slab.fetch(r.profile))
		if r.contact != 0 {
			warm += uint64(s.slab.at(r.contact)[0])
		}
	}
	s.warm += warm
}
