package storage

// Bounds of the predicate bits of one person.
const (
	PageWords = 8  // of one page: 512 bits, a cache line
	MaxPages  = 32 // of one person: 16,384 bits

	everyPage = 1<<MaxPages - 1
	pageChunk = 1024 // rows: 72 KiB, nine pages of the allocator, nothing left over
	pageBytes = 72
)

// BitPage is one page of a person's predicate bits. The engine derives it from
// the person and fills it; it is never logged, never written to disk and
// outside the checksum. Rows that come from disk have empty pages.
type BitPage struct {
	Bits [PageWords]uint64
	Rev  uint32  // layout that Bits is complete for; 0 = nothing is known
	Next UnixSec // no bit changes with time alone before this second
}

// A pageTable holds one page of every person of a group by ordinal, without
// pointers. A chunk comes about when the page of one of its people is asked
// for: a page that no decision reads costs nothing.
type pageTable struct {
	chunks []*[pageChunk]BitPage
	arena  arena[[pageChunk]BitPage]
	held   int // chunks that exist
}

// at returns the page of o; nil when its chunk does not exist.
func (t *pageTable) at(o Ord) *BitPage {
	c := int(o / pageChunk)
	if c >= len(t.chunks) || t.chunks[c] == nil {
		return nil
	}
	return &t.chunks[c][o%pageChunk]
}

// place returns the page of o, growing the table.
func (t *pageTable) place(o Ord) *BitPage {
	c := int(o / pageChunk)
	for c >= len(t.chunks) {
		t.chunks = append(t.chunks, nil)
	}
	if t.chunks[c] == nil {
		t.chunks[c] = t.arena.next(t.held)
		t.held++
	}
	return &t.chunks[c][o%pageChunk]
}

// page returns page k of a person, or nil when its chunk does not exist. Page 0
// lies in the row.
func (s *state) page(o Ord, k int) *BitPage {
	if k == 0 {
		return &s.rows.at(o).Page
	}
	return s.pages[k-1].at(o)
}

// pageBytes is the memory of the pages outside the rows.
func (s *state) pageBytes() int64 {
	var n int64
	for k := range s.pages {
		n += int64(s.pages[k].held) * pageChunk * pageBytes
	}
	return n
}

// Page returns page k (below MaxPages) of a person's predicate bits: page 0 of
// the row, the others of a table of their own, which grows by 1,024 people. It
// belongs to the group. It is nil when the table would have to grow beyond
// Options.MemoryCap: the caller computes what it needs and keeps nothing. The
// person must exist.
// Cost: one cold cache line more than the row for k > 0; it allocates once for
// 1,024 people.
func (g *Group) Page(o Ord, k int) *BitPage {
	if p := g.mu.state.page(o, k); p != nil {
		return p
	}
	if g.store.o.MemoryCap > 0 && g.store.admitPerson() != nil {
		return nil
	}
	return g.mu.state.pages[k-1].place(o)
}

// TrimPages gives the memory of all pages from n (at least 1) on back. Pages
// asked for later are empty again.
func (g *Group) TrimPages(n int) {
	for k := max(n, 1); k < MaxPages; k++ {
		g.mu.state.pages[k-1] = pageTable{}
	}
}
