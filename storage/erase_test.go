package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tact/storage/lossy"
)

// erasePerson erases a person and waits until that is durable.
func erasePerson(t *testing.T, s *Store, id string) Erasure {
	t.Helper()
	g := s.GroupOf(s.SlotOf(1, []byte(id)))
	g.Lock()
	o, ok := g.Find(1, s.IndexHash(1, []byte(id)), []byte(id))
	if !ok {
		t.Fatalf("%s is not there", id)
	}
	e, frame, err := g.Erase(o, testDay, 0)
	g.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	mustWait(t, s, g, frame)
	return e
}

// grep returns the files below dir that hold one of the needles; those that are
// deleted meanwhile hold none.
func grep(t *testing.T, dir string, needles [][]byte) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Pebble has deleted it
		}
		for _, n := range needles {
			if err == nil && bytes.Contains(b, n) {
				found = append(found, path)
				break
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func diskOptions() Options {
	o := testOptions(nil)
	o.Ballast, o.JournalSlots = 1, 64
	o.hooks.memTable = 256 << 10
	return o
}

// crowd makes people with events, of whom some are erased, until Pebble has written
// over some of its logs.
func crowd(t *testing.T, s *Store, n int) (keys map[string][]byte) {
	t.Helper()
	keys = map[string][]byte{}
	for i := range n {
		id := fmt.Sprintf("marked-person-%d", i)
		g, o, _ := addPerson(t, s, id)
		g.Lock()
		key := g.Row(o).Key
		keys[id] = key[:]
		g.Unlock()
		mustAppend(t, g, &Effect{Kind: EffectPatch, Ord: o, Time: testDay, Patch: &Patch{
			Identities: []Identity{{Type: 1, Value: []byte(id + "@mark")}},
			TagsAdd:    []TagValue{{ID: 3}}, SegmentsAdd: []Name{4},
			Consents: []Consent{{Purpose: 1, Granted: true, At: testDay}},
		}})
		frame := mustAppend(t, g, &Effect{Kind: EffectEvent, Ord: o, Time: testDay, Event: EventEffect{
			Event: 1, Occurred: testDay, EventID: []byte(id + "-event"),
			Raw: fmt.Appendf(nil, `{"mark":"%s","fill":"%0900d"}`, id, i),
		}})
		if i%50 == 0 {
			mustWait(t, s, g, frame)
		}
	}
	return keys
}

// After a purge no file holds the key of anybody who was erased, and everybody else
// is as before.
func TestPurgeLeavesNoKey(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, diskOptions())
	if err != nil {
		t.Fatal(err)
	}
	keys := crowd(t, s, 2000)
	if err := s.FlushLog(); err != nil {
		t.Fatal(err)
	}
	var gone, kept [][]byte
	var last Erasure
	for i := range 2000 {
		id := fmt.Sprintf("marked-person-%d", i)
		if i%4 != 0 {
			kept = append(kept, keys[id])
			continue
		}
		last = erasePerson(t, s, id)
		gone = append(gone, keys[id])
	}
	if len(grep(t, dir, gone)) == 0 {
		t.Fatal("the keys are not found before the purge: the search finds nothing")
	}
	mustPurge(t, s)
	if found := grep(t, dir, gone); len(found) > 0 {
		t.Fatalf("keys of erased people are left in %v", found)
	}
	if len(grep(t, dir, kept)) == 0 {
		t.Fatal("the keys of others are gone too")
	}
	// The person was created and changed, and had an event.
	last.Logged = LogHoldings{Counted: true, Events: 1, Changes: 2}
	checkPurged(t, s, last, 500)
	mustCheck(t, s)
	mustClose(t, s)
	d, err := Examine(dir, diskOptions(), nil)
	if err != nil || d.Damaged() {
		t.Fatalf("%v, %+v", err, d)
	}
	if s, err = Open(dir, diskOptions()); err != nil {
		t.Fatal(err)
	}
	checkPurged(t, s, last, 500)
	mustCheck(t, s)
	if st := s.Stats(); st.People != 1500 {
		t.Fatalf("%d people", st.People)
	}
	mustClose(t, s)
	if found := grep(t, dir, gone); len(found) > 0 {
		t.Fatalf("after a restart keys are in %v", found)
	}
}

func mustPurge(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Purge(ctx); err != nil {
		t.Fatal(err)
	}
}

func checkPurged(t *testing.T, s *Store, one Erasure, n int) {
	t.Helper()
	count := 0
	err := s.Erasures(func(e Erasure) bool {
		if e.Purged == 0 {
			t.Errorf("%+v is not purged", e)
		}
		count++
		return true
	})
	if err != nil || count != n {
		t.Fatalf("%d erasures: %v", count, err)
	}
	one.Purged = testDay
	found := false
	err = s.ErasuresOf(one.Hash, func(e Erasure) bool {
		found = e == one
		return found
	})
	if err != nil || !found {
		t.Fatalf("%+v is not in the ledger: %v", one, err)
	}
}

// Somebody who reads an older state holds the purge up, and no longer than that.
func TestPurgeWaitsForReaders(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, diskOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	keys := crowd(t, s, 20)
	snapshot := s.db.db.NewSnapshot()
	erasePerson(t, s, "marked-person-7")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Purge(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("purged under a reader: %v", err)
	}
	if err := snapshot.Close(); err != nil {
		t.Fatal(err)
	}
	mustPurge(t, s)
	if found := grep(t, dir, [][]byte{keys["marked-person-7"]}); len(found) > 0 {
		t.Fatalf("the key is in %v", found)
	}
	mustCheck(t, s)
}

// What was held of a person is counted, and nothing of it is left; the id makes a new
// person with a new key; totals that are held count as used.
func TestEraseTakesOut(t *testing.T) {
	s := mustOpen(t, lossy.New(), testOptions(nil))
	defer mustClose(t, s)
	g, o, _ := addPerson(t, s, "ann")
	patch := &Patch{
		Identities: []Identity{{1, []byte("a@example.com")}},
		Attrs:      []AttrValue{{ID: 1, Value: Value{Kind: KindInt, Num: 4}}},
		TagsAdd:    []TagValue{{ID: 3}, {ID: 4, Expires: secondOf(testDay) + 9}}, SegmentsAdd: []Name{4},
		Consents:  []Consent{{Purpose: 1, Granted: true, At: testDay}},
		Addresses: []Address{{1, [][]byte{[]byte("x"), []byte("y")}}},
	}
	mustAppend(t, g, &Effect{Kind: EffectPatch, Ord: o, Time: testDay, Patch: patch})
	mustAppend(t, g, &Effect{Kind: EffectEvent, Ord: o, Time: testDay, Event: EventEffect{
		Event: 1, Occurred: testDay, EventID: []byte("e"),
	}})
	key := HeldKey{Key: CounterKey{5, 6}, CountOn: 1, Limit: 3, Total: true}
	live := ReserveEffect{
		ID: ReservationID{1, 1}, Granted: secondOf(testDay), Expires: secondOf(testDay) + 60,
		Keys: []HeldKey{key, {Key: CounterKey{7, 0}, CountOn: 1, Limit: 3}},
	}
	s.Totals().Force(&key)
	mustAppend(t, g, &Effect{Kind: EffectReserve, Ord: o, Time: testDay, Reserve: live})
	g.Lock()
	old := g.Row(o).Key
	g.Unlock()
	e := erasePerson(t, s, "ann")
	want := Holdings{
		HeldIdentities: 1, HeldAttributes: 1, HeldAddresses: 2, HeldTags: 2, HeldSegments: 1,
		HeldConsents: 1, HeldEvents: 1, HeldSums: 1, HeldReservations: 1,
	}
	if e.Held != want || e.Hash != s.ErasureHash(1, []byte("ann")) {
		t.Fatalf("%+v, want %v", e, want)
	}
	if n := s.Totals().Used(key.Key, 0); n != 1 {
		t.Fatalf("%d units used", n)
	}
	g.Lock()
	if g.Row(o) != nil || g.TagBitmap(3, testDay) != nil || g.SegmentBitmap(4) != nil {
		t.Error("the person is there")
	}
	g.ExpiringTags(4, secondOf(testDay)+10, func(Ord, UnixSec) bool {
		t.Error("a tag of nobody ends")
		return true
	})
	if _, _, err := g.Erase(o, testDay, 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("erased twice: %v", err)
	}
	g.Unlock()
	mustCheck(t, s)
	_, again, frame := addPerson(t, s, "ann")
	mustWait(t, s, g, frame)
	g.Lock()
	defer g.Unlock()
	if again == o || g.Row(again).Key == old || g.Profile(again).tags() != 0 {
		t.Fatal("the new person is the old one")
	}
}

// Entries of the ledger that were not written as they are are an error, never a panic.
func FuzzErasure(f *testing.F) {
	e := Erasure{
		Hash: [16]byte{1}, Workspace: 1, Slot: 5, Group: 1, Person: 9, Frame: 3, At: testDay,
		Held: Holdings{HeldEvents: 7},
	}
	f.Add(e.appendKey(nil), e.append(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		for _, v := range [][]byte{value, sealRecord(value[:len(value):len(value)])} {
			e, err := parseErasure(key, v)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
					t.Fatal(err)
				}
				continue
			}
			if got, err := parseErasure(e.appendKey(nil), e.append(nil)); err != nil || got != e {
				t.Fatalf("%+v reads back as %+v: %v", e, got, err)
			}
		}
	})
}
