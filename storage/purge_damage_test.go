package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A block of a table that goes bad under a running store holds the purge up, which says
// so and names the file; when the block is whole again the purge ends as ever.
func TestPurgeMeetsDamage(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, diskOptions())
	if err != nil {
		t.Fatal(err)
	}
	keys := crowd(t, s, 400)
	mustClose(t, s)
	if s, err = Open(dir, diskOptions()); err != nil {
		t.Fatal(err)
	}
	if err := s.db.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, folderDatabase, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	flip := func() {
		for _, name := range tables {
			file, err := os.OpenFile(name, os.O_RDWR, 0)
			if errors.Is(err, os.ErrNotExist) { // it was of no use any more
				continue
			}
			b := make([]byte, 1)
			if err == nil {
				_, err = file.ReadAt(b, 200)
				b[0] ^= 1
			}
			if err == nil {
				_, err = file.WriteAt(b, 200)
			}
			if err := errors.Join(err, file.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip()
	gone := eraseMarked(t, s, keys, 20)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err = s.Purge(ctx)
	f := s.PurgeFault()
	if !errors.Is(err, ErrCorrupt) || f == nil || f.People == 0 || f.People > len(gone) ||
		!strings.Contains(DamageText(err), "db/") || !strings.Contains(DamageText(f.Err), ".sst: block ") {
		t.Fatalf("%v, %+v", err, f)
	}
	flip()
	mustPurge(t, s)
	if f := s.PurgeFault(); f != nil {
		t.Errorf("still held up: %+v", f)
	}
	if found := grep(t, dir, gone); len(found) > 0 {
		t.Errorf("keys of erased people are left in %v", found)
	}
	mustCheck(t, s)
	mustClose(t, s)
}

// An entry of the ledger that cannot be read holds up nobody but its own person.
func TestPurgeGoesOnAroundAnEntry(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, diskOptions())
	if err != nil {
		t.Fatal(err)
	}
	keys := crowd(t, s, 40)
	bad := erasePerson(t, s, "marked-person-7")
	whole, err := s.db.get(bad.appendKey(nil))
	if err != nil {
		t.Fatal(err)
	}
	put := func(value []byte) {
		t.Helper()
		b := s.db.db.NewBatch()
		if err := errors.Join(b.Set(bad.appendKey(nil), value, nil), s.db.commitSynced(b)); err != nil {
			t.Fatal(err)
		}
	}
	put(append([]byte{whole[0] ^ 0x40}, whole[1:]...)[:len(whole)-1])
	gone := eraseMarked(t, s, keys, 5)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for err = s.Purge(ctx); err == nil; err = s.Purge(ctx) { // until the rows reflect the erasures
		if ctx.Err() != nil {
			t.Fatal("the damage is not told")
		}
	}
	if f := s.PurgeFault(); !errors.Is(err, ErrCorrupt) || f == nil || f.People != 1 {
		t.Fatalf("%v, %+v", err, f)
	}
	for ; ctx.Err() == nil && len(grep(t, dir, gone)) > 0; _ = s.Purge(ctx) {
		time.Sleep(10 * time.Millisecond)
	}
	if found := grep(t, dir, gone); len(found) > 0 {
		t.Errorf("keys of others are left in %v", found)
	}
	put(whole)
	mustPurge(t, s)
	if f := s.PurgeFault(); f != nil {
		t.Errorf("still held up: %+v", f)
	}
	mustClose(t, s)
}

// eraseMarked erases the first n people of a crowd, and gives the keys that are to go.
func eraseMarked(t *testing.T, s *Store, keys map[string][]byte, n int) (gone [][]byte) {
	t.Helper()
	for i := range n {
		id := fmt.Sprintf("marked-person-%d", i)
		erasePerson(t, s, id)
		gone = append(gone, keys[id])
	}
	return gone
}
