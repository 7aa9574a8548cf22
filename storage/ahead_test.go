package storage

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"unsafe"

	"tact/storage/lossy"
)

// A look-up sets the hint of its index entry right, whatever it was before, and finds
// the person all the same; a table that is built anew takes the hints along.
func TestHintsFollowProfiles(t *testing.T) {
	s := populace(t, 1, 5000, 20)[0]
	id := []byte("person-xxxxxxxx")
	hintOf := func(i int) (*Ref, *Row) {
		binary.LittleEndian.PutUint64(id[7:], uint64(i))
		r := s.rows.at(Ord(i))
		p := s.index.first(r.IDHash)
		for {
			o, hint, next, ok := s.index.next(r.IDHash, p)
			if !ok {
				t.Fatalf("person %d is not in the index", i)
			}
			if o == Ord(i) {
				return hint, r
			}
			p = next
		}
	}
	for i := range 5000 {
		hint, r := hintOf(i)
		switch i % 3 { // wrong ones: of nobody, of another, of the last block there is
		case 0:
			*hint = 0
		case 1:
			*hint = s.rows.at(Ord(i - 1)).profile
		case 2:
			*hint = Ref(uint32(len(s.slab.chunks)-1)*slabChunkUnit + slabChunkUnit - 1)
		}
		if o, ok := s.find(1, r.IDHash, id); !ok || o != Ord(i) {
			t.Fatalf("person %d: found %d, %t", i, o, ok)
		}
		if *hint != r.profile || r.profile == 0 {
			t.Fatalf("person %d: hint %d, the profile lies at %d", i, *hint, r.profile)
		}
	}
	s.index.rebuild(s.hashOf)
	for i := range 5000 {
		if hint, r := hintOf(i); *hint != r.profile {
			t.Fatalf("person %d: hint %d after the table was built anew, want %d", i, *hint, r.profile)
		}
	}
}

// Ahead looks at the table that look-ups read, also when that has grown, and at none
// before there is one.
func TestAheadSeesTheTable(t *testing.T) {
	if unsafe.Sizeof(Row{})%cacheLine != 0 {
		t.Fatalf("a row of %d bytes", unsafe.Sizeof(Row{}))
	}
	var g Group
	g.Ahead(1)
	s := newState(0, stateOptions{})
	g.show(s)
	g.Ahead(1)
	for i := range Ord(10_000) {
		s.index.add(uint64(i)*0x9E3779B97F4A7C15, i, func(o Ord) uint64 {
			return uint64(o) * 0x9E3779B97F4A7C15
		})
		seen := g.table.Load()
		if seen == nil || &seen.buckets[0] != &s.index.buckets[0] ||
			len(seen.buckets) != len(s.index.buckets) {
			t.Fatalf("after %d entries Ahead sees another table", i+1)
		}
		g.Ahead(uint64(i))
	}
}

// A group shows the table of the state it has after a reload and after a start.
func TestAheadAfterLoads(t *testing.T) {
	var refuse atomic.Bool
	o := simOptions()
	o.Groups = 1
	o.hooks.commit = func(frames int) error {
		if frames > 0 && refuse.CompareAndSwap(true, false) {
			return errors.New("planted")
		}
		return nil
	}
	fs := lossy.New()
	s := mustOpen(t, fs, o)
	check := func(g *Group, when string) {
		t.Helper()
		g.Lock()
		defer g.Unlock()
		buckets, seen := g.mu.state.index.buckets, g.table.Load()
		if len(buckets) == 0 || seen == nil || &seen.buckets[0] != &buckets[0] {
			t.Fatalf("%s: Ahead sees another table", when)
		}
	}
	g, ord := ann(t, s)
	check(g, "after a create")
	event := func() uint64 {
		return mustAppend(t, g, &Effect{
			Kind: EffectEvent, Ord: ord, Time: s.HighWater(),
			Event: EventEffect{Event: 1, Occurred: s.HighWater()},
		})
	}
	mustWait(t, s, g, event())
	refuse.Store(true)
	mustDrop(t, s, g, event())
	eventually(t, "reloaded", func() bool { return s.com.reloads.Load() > 0 && g.takes() })
	check(g, "after a reload")
	mustClose(t, s)
	s = mustOpen(t, fs, o)
	check(s.groups[0], "after a start")
	mustClose(t, s)
}
