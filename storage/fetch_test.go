package storage

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A Fetch reads everybody's lines, some of them of nobody or named twice, changes
// nothing and allocates nothing: in an empty store, after people came, and after they
// lie on the disk sealed.
func TestFetchPeople(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, fs, testOptions(fs))
	var ids [][]byte
	for i := range 300 {
		ids = append(ids, fmt.Appendf(nil, "person-%d", i%250))
	}
	var f Fetch
	f.People(s, 1, ids)
	f.People(s, 1, nil)
	for i := range 200 {
		addPerson(t, s, fmt.Sprint("person-", i))
	}
	if n := testing.AllocsPerRun(10, func() { f.People(s, 1, ids) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	seen := 0
	for g := range s.groups {
		seen += len(f.hashes[f.from[g]:f.from[g+1]])
		for _, h := range f.hashes[f.from[g]:f.from[g+1]] {
			if !hashOfGroup(s, ids, h, g) {
				t.Fatalf("hash %x was asked for in group %d", h, g)
			}
		}
	}
	if seen != len(ids) {
		t.Errorf("%d of %d were asked for", seen, len(ids))
	}
	mustCheck(t, s)
	mustClose(t, s)
	s = mustOpen(t, fs, testOptions(fs))
	f.People(s, 1, ids)
	mustCheck(t, s)
	mustClose(t, s)
}

// hashOfGroup tells whether somebody of the group has the hash.
func hashOfGroup(s *Store, ids [][]byte, h uint64, group int) bool {
	for _, id := range ids {
		if s.IndexHash(1, id) == h {
			return int(s.GroupOf(s.SlotOf(1, id)).id) == group
		}
	}
	return false
}

// A Fetch for events reads of people who are there, who are not, who have no history and
// who have one, in memory and sealed; it changes nothing and allocates nothing.
func TestFetchEvents(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, fs, testOptions(fs))
	var ids [][]byte
	var keys []uint64
	for i := range 300 {
		ids = append(ids, fmt.Appendf(nil, "person-%d", i%250))
		keys = append(keys, uint64(i)<<40)
	}
	var f Fetch
	f.Events(s, 1, ids, keys)
	f.Events(s, 1, nil, nil)
	for i := range 200 {
		g, ord, _ := addPerson(t, s, fmt.Sprint("person-", i))
		for k := range i % 9 {
			g.Lock()
			e := Effect{
				Kind: EffectEvent, Ord: ord, Time: 1_790_000_000_000, DedupKey: g.Row(ord).DedupKey(keys[i]),
				Event: EventEffect{Event: 3, Occurred: 1_790_000_000_000 + UnixMsec(k)},
			}
			_, err := g.Append(&e)
			g.Unlock()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	before := checksumsOf(t, s)
	if n := testing.AllocsPerRun(10, func() { f.Events(s, 1, ids, keys) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if !slices.Equal(checksumsOf(t, s), before) {
		t.Error("something has changed")
	}
	f.arrange(s, 1, ids, keys)
	for i, id := range ids {
		slot, hash := f.Where(i)
		if slot != s.SlotOf(1, id) || hash != s.IndexHash(1, id) {
			t.Fatalf("person %d is taken for another", i)
		}
	}
	for at, key := range f.keys {
		if i := key >> 40; s.IndexHash(1, ids[i]) != f.hashes[at] {
			t.Fatalf("key %d stands beside another person", i)
		}
	}
	mustCheck(t, s)
	mustClose(t, s)
	s = mustOpen(t, fs, testOptions(fs))
	f.Events(s, 1, ids, keys)
	mustCheck(t, s)
	mustClose(t, s)
}

func checksumsOf(t *testing.T, s *Store) (sums []uint64) {
	t.Helper()
	for _, g := range s.groups {
		g.Lock()
		sum, err := g.mu.state.checksum()
		g.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum)
	}
	return sums
}
