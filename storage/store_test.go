package storage

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
)

const testDay UnixMsec = 1_763_769_600_000 // 2025-11-22

// testOptions are quick: small groups, short pauses, a clock that stands still.
func testOptions(fs vfs.FS) Options {
	return Options{
		Groups: 2, FS: fs, BoundedMax: 5 * time.Millisecond, FlushEvery: 5 * time.Millisecond,
		CommitMax: 20 * time.Second, MinFree: 1,
		Now: func() UnixMsec { return testDay },
	}
}

func mustOpen(t testing.TB, fs vfs.FS, o Options) *Store {
	t.Helper()
	o.FS = fs
	s, err := Open("store", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustCheck(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}

// addPerson creates a person and returns where it is.
func addPerson(t testing.TB, s *Store, id string) (*Group, Ord, uint64) {
	t.Helper()
	hash := s.IndexHash(1, []byte(id))
	slot := s.SlotOf(1, []byte(id))
	g := s.GroupOf(slot)
	g.Lock()
	defer g.Unlock()
	if o, ok := g.Find(1, hash, []byte(id)); ok {
		return g, o, 0
	}
	person, o := g.NextPerson()
	e := Effect{Kind: EffectCreate, Ord: o, Time: testDay, Create: CreateEffect{
		Workspace: 1, Slot: slot, Person: person, ID: []byte(id), IDHash: hash, Key: g.NewKey(),
	}}
	frame, err := g.Append(&e)
	if err != nil {
		t.Fatal(err)
	}
	return g, o, frame
}

func mustAppend(t testing.TB, g *Group, e *Effect) uint64 {
	t.Helper()
	g.Lock()
	defer g.Unlock()
	frame, err := g.Append(e)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func mustWait(t testing.TB, s *Store, g *Group, frame uint64) {
	t.Helper()
	if err := s.Wait(g.GroupID(), frame, 0); err != nil {
		t.Fatal(err)
	}
}

// mustDrop waits for a frame whose commit is refused: who waits is told that it is
// unknown, who comes while the group is reloaded that it is fenced.
func mustDrop(t testing.TB, s *Store, g *Group, frame uint64) {
	t.Helper()
	err := s.Wait(g.GroupID(), frame, time.Minute)
	if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrFenced) {
		t.Fatalf("frame %d, whose commit is refused: %v", frame, err)
	}
}

// eventually waits a minute at most.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// takes reports whether a group is open.
func (g *Group) takes() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.fenced == nil
}

func TestStoreComesBack(t *testing.T) {
	fs := lossy.New()
	s := mustOpen(t, fs, testOptions(nil))
	id := s.StoreID()
	tag, err := s.Intern(DictTag, "vip")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		g, o, frame := addPerson(t, s, fmt.Sprint("user-", i))
		if i%3 == 0 {
			frame = mustAppend(t, g, &Effect{
				Kind: EffectPatch, Ord: o, Time: testDay,
				Patch: &Patch{TagsAdd: []TagValue{{ID: tag}}},
			})
		}
		mustWait(t, s, g, frame)
	}
	mustCheck(t, s)
	mustClose(t, s)
	for open := range 3 {
		s = mustOpen(t, fs, testOptions(nil))
		if s.StoreID() != id || s.Epoch() != uint32(open+2) {
			t.Fatalf("open %d: store %x epoch %d", open, s.StoreID(), s.Epoch())
		}
		if got, ok := s.Lookup(DictTag, "vip"); !ok || got != tag {
			t.Fatalf("tag is %d, %v", got, ok)
		}
		mustCheck(t, s)
		var held int
		for i := range 100 {
			g, o, frame := addPerson(t, s, fmt.Sprint("user-", i))
			if frame != 0 {
				t.Fatalf("user-%d was lost", i)
			}
			g.Lock()
			if string(g.ID(o)) != fmt.Sprint("user-", i) {
				t.Fatalf("user-%d is %q", i, g.ID(o))
			}
			if _, ok, _ := g.Profile(o).Tag(tag); ok {
				held++
			}
			g.Unlock()
		}
		if held != 34 {
			t.Fatalf("%d people hold the tag, want 34", held)
		}
		mustClose(t, s)
	}
}

func TestOneProcessAFolder(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, fs, testOptions(nil))
	o := testOptions(fs)
	if _, err := Open("store", o); !errors.Is(err, ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
	mustClose(t, s)
	if err := s.Close(); !errors.Is(err, ErrClosed) {
		t.Fatalf("second close: %v", err)
	}
	mustClose(t, mustOpen(t, fs, testOptions(nil)))
}

func TestOptionsNameAllFaults(t *testing.T) {
	_, err := Open("store", Options{Groups: 3, CommitMax: -1, MinFree: -1, FS: vfs.NewMem()})
	if err == nil {
		t.Fatal("no fault")
	}
	for _, part := range []string{"groups is 3", "commit max", "min free"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %q", err, part)
		}
	}
}
