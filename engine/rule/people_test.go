package rule

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// people makes one profile for each patch in a store in memory. The views are
// valid until the test ends.
func people(t testing.TB, patches ...*storage.Patch) []storage.Profile {
	t.Helper()
	s, err := storage.Open("store", storage.Options{
		Groups: 1, FS: vfs.NewMem(), CommitMax: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	g := s.Group(0)
	g.Lock()
	t.Cleanup(func() {
		g.Unlock()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	ords := make([]storage.Ord, len(patches))
	for i, patch := range patches {
		id := fmt.Appendf(nil, "u%d", i)
		person, ord := g.NextPerson()
		effects := []*storage.Effect{
			{Kind: storage.EffectCreate, Ord: ord, Create: storage.CreateEffect{
				Workspace: 1, Slot: s.SlotOf(1, id), Person: person, ID: id,
				IDHash: s.IndexHash(1, id), Key: g.NewKey(),
			}},
			{Kind: storage.EffectPatch, Ord: ord, Patch: patch},
		}
		for _, e := range effects {
			e.Time = 1
			if _, err := g.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		ords[i] = ord
	}
	profiles := make([]storage.Profile, len(patches))
	for i, ord := range ords {
		profiles[i] = g.Profile(ord)
	}
	return profiles
}
