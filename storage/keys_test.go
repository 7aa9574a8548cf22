package storage

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
)

// The slot of an id never changes: these values are on disks.
func TestSlotVectors(t *testing.T) {
	s := &Store{man: manifest{keys: Keys{SlotSeed: 42}}}
	f := func(ws WorkspaceID, id string, want Slot) {
		t.Helper()
		if got := s.SlotOf(ws, []byte(id)); got != want {
			t.Errorf("slot of (%d, %q) is %d, want %d", ws, id, got, want)
		}
	}
	f(1, "u1", 3244)
	f(1, "用户-1", 3100)
	f(2, "u1", 834)
}

// Key order must equal (slot, workspace, person, kind) order: range export relies on it.
func FuzzKeyOrder(f *testing.F) {
	f.Add(uint16(1), uint32(2), uint64(3), uint16(1), uint32(2), uint64(4))
	f.Fuzz(func(t *testing.T, s1 uint16, w1 uint32, p1 uint64, s2 uint16, w2 uint32, p2 uint64) {
		s1, s2 = s1%Slots, s2%Slots
		a := AppendKey(nil, Slot(s1), WorkspaceID(w1), PersonID(p1), RowTail)
		b := AppendKey(nil, Slot(s2), WorkspaceID(w2), PersonID(p2), RowTail)
		less := s1 < s2 || s1 == s2 && (w1 < w2 || w1 == w2 && p1 < p2)
		if (bytes.Compare(a, b) < 0) != less {
			t.Fatalf("%x and %x", a, b)
		}
		want := rowKey{Slot(s1), WorkspaceID(w1), PersonID(p1), RowTail}
		if k, ok := parseRowKey(a); !ok || k != want {
			t.Fatalf("%x parses to %+v", a, k)
		}
	})
}

func TestManifestBitFlips(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.fill()
	m, err := makeManifest(&o)
	if err != nil {
		t.Fatal(err)
	}
	b := m.append(nil)
	if got, err := parseManifest(b); err != nil || got != m {
		t.Fatalf("%+v, %v", got, err)
	}
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := parseManifest(b); err == nil {
			t.Fatalf("bit %d passes", bit)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

// Names come back with their ids.
func TestDictionary(t *testing.T) {
	fs := lossy.New()
	s := mustOpen(t, fs, testOptions(nil))
	for i := range 200 {
		id, err := s.Intern(DictEvent, string(rune('a'+i%100))+"x")
		if err != nil || id != Name(i%100+1) {
			t.Fatalf("name %d is %d, %v", i, id, err)
		}
	}
	if s.NameOf(DictEvent, 3) != "cx" || s.NameOf(DictEvent, 101) != "" || s.NameOf(0, 1) != "" {
		t.Error("names of ids are wrong")
	}
	f := func(kind DictKind, name string) {
		t.Helper()
		if _, err := s.Intern(kind, name); err == nil {
			t.Errorf("dictionary %d takes a name of %d bytes", kind, len(name))
		}
	}
	f(0, "x")
	f(DictTag, "")
	f(DictTag, string(make([]byte, 257)))
	mustClose(t, s)
	s = mustOpen(t, fs, testOptions(nil))
	if names := s.NamesOf(DictEvent); len(names) != 100 || names[2] != "cx" {
		t.Errorf("%d names came back", len(names))
	}
	if id, ok := s.LookupBytes(DictEvent, []byte("cx")); !ok || id != 3 {
		t.Errorf("cx is %d", id)
	}
	mustClose(t, s)
}
