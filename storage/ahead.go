package storage

import "unsafe"

// cacheLine is the size of a line of the processor's caches, in bytes.
const cacheLine = 64

// rowLines are the cache lines of a Row.
const rowLines = int(unsafe.Sizeof(Row{}) / cacheLine)

// fetchLines is how many cache lines of a profile are asked for: those of one with
// twenty tags and twenty attributes. Measured: see bench/README.md.
const fetchLines = 7

// Ahead asks for the line of the index that Find will read first, without the lock, so
// that it is on its way while a request is read. hash is Store.IndexHash of the
// canonical id.
// Cost: two hot cache lines, no wait and no allocation.
func (g *Group) Ahead(hash uint64) {
	if t := g.table.Load(); t != nil {
		ahead(unsafe.Pointer(&t.buckets[hash&uint64(len(t.buckets)-1)]), 1)
	}
}

// show lets Ahead see the index of a state that becomes the group's.
func (g *Group) show(s *state) {
	s.index.shown = &g.table
	s.index.show()
}

// fetch asks for the lines of a row and, by the hint of its index entry, for those that
// its profile begins with, all at once: so a person who is in no cache costs one wait
// for both, and not one for each line. Then it sets the hint right and asks for the
// caps' part, and for the profile where the hint was wrong. Of people whose answers are
// kept, who were here lately, nothing is asked for; the processor guesses which they are
// and does not wait for the row to tell.
func (s *state) fetch(o Ord, hint *Ref) {
	r := s.rows.spot(o)
	if r == nil || r.Flags&RowKept != 0 {
		return
	}
	ahead(unsafe.Pointer(r), rowLines)
	s.slab.ahead(*hint, fetchLines)
	s.slab.ahead(r.contact, 1)
	if *hint != r.profile {
		*hint = r.profile
		s.slab.ahead(r.profile, fetchLines)
	}
}

// ahead asks for the first lines of a block, or of what lies behind a shorter one.
func (s *slab) ahead(r Ref, lines int) {
	if r != 0 {
		ahead(unsafe.Pointer(&s.at(r)[0]), lines)
	}
}

// aheadAll asks for all lines of a block, and waits for the first.
func (s *slab) aheadAll(r Ref) {
	if b := s.get(r); len(b) > 0 {
		ahead(unsafe.Pointer(&b[0]), (len(b)+cacheLine-1)/cacheLine)
	}
}
