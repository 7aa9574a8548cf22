package storage

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pages outside the row cost memory when they are asked for, lie apart, are
// marked by patches and events, and are empty again after TrimPages.
func TestPages(t *testing.T) {
	s := mustOpen(t, vfs.NewMem(), testOptions(nil))
	g := s.Group(0)
	g.Lock()
	defer g.Unlock()
	ord := Ord(3000)
	for k := 1; k < MaxPages; k++ {
		if g.mu.state.page(ord, k) != nil {
			t.Fatal("a page that nobody asked for")
		}
		g.Page(ord, k).Rev = uint32(k)
		g.Page(ord+1, k).Rev = 99
	}
	for k := 1; k < MaxPages; k++ {
		if g.Page(ord, k).Rev != uint32(k) {
			t.Fatalf("page %d was written over", k)
		}
	}
	chunk := int64(pageChunk * pageBytes)
	if n := g.mu.state.pageBytes(); n != (MaxPages-1)*chunk {
		t.Fatalf("%d bytes of pages", n)
	}
	g.TrimPages(3)
	if n := g.mu.state.pageBytes(); n != 2*chunk || g.Page(ord, 3).Rev != 0 ||
		g.Page(ord, 2).Rev != 2 {
		t.Fatalf("%d bytes of pages after the trim", n)
	}
	s.o.MemoryCap = 1
	g.bytes.Store(1)
	if g.Page(ord, 9) != nil || g.Page(ord, 2) == nil {
		t.Fatal("the memory cap does not hold for pages")
	}
}
