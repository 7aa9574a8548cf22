package storage

import (
	"errors"
	"math"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Whoever a merge or split has brought something, and nobody else, is said to have keys
// in other groups: for as long as a key is known that was entered before, over starts,
// also when nothing else is known of the person. Then it is forgotten.
func TestKeysAway(t *testing.T) {
	w := &mergeWorld{t: t, o: testOptions(vfs.NewMem())}
	w.o.Groups, w.now = 2, UnixSec(testDay/1000)+10
	w.open()
	for i := range 3 {
		w.newPerson(i)
	}
	a, b, other := w.people[0], w.people[1], w.people[2]
	f := func(what string, want ...bool) {
		t.Helper()
		for start := range 2 {
			for i, p := range []*mergePerson{a, b, other} {
				g := w.s.Group(p.ref.Group)
				g.Lock()
				if got := g.Contact(p.ref.Ord).KeysAway(w.now); got != want[i] {
					t.Errorf("%s, start %d: %d: %v", what, start, i, got)
				}
				g.Unlock()
			}
			if err := errors.Join(w.s.Check(), w.s.Close()); err != nil {
				t.Fatal(err)
			}
			w.open()
		}
	}
	// use takes a use that leaves the person's part as it was but for what has run out.
	use := func(p *mergePerson) {
		w.append(p, Effect{Kind: EffectUse, Use: UseEffect{At: w.now, Keys: []HeldKey{personKey(1)}}})
	}
	f("apart", false, false, false)
	if err := w.s.MergeContacts(a.ref, b.ref, math.MaxUint32, w.ms()); err != nil {
		t.Fatal(err)
	}
	f("merged", true, false, false)
	w.now += 2 * daySec
	if err := w.s.SplitContacts(a.ref, b.ref, nil, w.ms()); err != nil {
		t.Fatal(err)
	}
	use(other)
	f("split", true, true, false)
	w.now += (dedupDays-2)*daySec + daySec - 11
	use(a)
	f("nine days", true, true, false)
	w.now += daySec
	f("ten", false, true, false)
	w.now += 2 * daySec
	use(a)
	use(b)
	f("twelve", false, false, false)
	for _, p := range []*mergePerson{a, b} {
		g := w.s.Group(p.ref.Group)
		g.Lock()
		if c := g.Contact(p.ref.Ord); le16(c.b[6:]) != 0 {
			t.Errorf("%v: day %d is kept", p.ref, le16(c.b[6:]))
		}
		g.Unlock()
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}
