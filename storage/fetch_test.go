package storage

import (
	"fmt"
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
