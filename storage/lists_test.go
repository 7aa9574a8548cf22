package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
)

// hashOf is the list hash of the n-th value of a kind.
func hashOf(s *Store, n int) [16]byte {
	digest := sha256.Sum256(fmt.Appendf(nil, "%d", n))
	return s.ListHash(1, &digest)
}

func TestLists(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, fs, testOptions(fs))
	a, _ := s.Intern(DictList, "a")
	b, _ := s.Intern(DictList, "b")
	if s.ListEpoch() != 0 || s.Listed(hashOf(s, 1)) {
		t.Fatal("an empty store has lists")
	}
	edit := func(list Name, add, remove []int, want ListEdited) {
		t.Helper()
		before := s.ListEpoch()
		e := ListEdit{List: list}
		for _, n := range add {
			e.Add = append(e.Add, hashOf(s, n))
		}
		for _, n := range remove {
			e.Remove = append(e.Remove, hashOf(s, n))
		}
		got, err := s.EditList(&e)
		if err != nil || got != want {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
		if changed := want != (ListEdited{}); (s.ListEpoch() > before) != changed {
			t.Fatalf("epoch %d after %d", s.ListEpoch(), before)
		}
	}
	on := func(n int, want ...Name) {
		t.Helper()
		var got []Name
		s.EachListed(hashOf(s, n), func(list Name) { got = append(got, list) })
		if fmt.Sprint(got) != fmt.Sprint(want) || s.Listed(hashOf(s, n)) != (len(want) > 0) {
			t.Fatalf("%d is on %v, want %v", n, got, want)
		}
	}
	edit(a, []int{1, 2, 2, 3}, nil, ListEdited{3, 0})
	edit(b, []int{3, 4}, []int{9}, ListEdited{2, 0})
	edit(a, []int{1, 2, 3}, nil, ListEdited{}) // once more
	edit(a, []int{5, 6}, []int{6, 2}, ListEdited{1, 1})
	check := func() {
		t.Helper()
		on(1, a)
		on(2)
		on(3, a, b)
		on(4, b)
		on(5, a)
		on(6)
		if sizes := s.ListSizes(); len(sizes) != 2 || sizes[0].Entries != 3 || sizes[1].Entries != 2 {
			t.Fatalf("%+v", sizes)
		}
	}
	check()
	// Another kind of the same value is another entry.
	digest := sha256.Sum256([]byte("1"))
	if s.Listed(s.ListHash(2, &digest)) {
		t.Fatal("the kind is not part of the hash")
	}
	many := make([][16]byte, MaxListEdit+1)
	if _, err := s.EditList(&ListEdit{List: a, Add: many}); !errors.Is(err, ErrLimit) {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, fs, testOptions(fs))
	if s.ListEpoch() == 0 {
		t.Fatal("no epoch after a start")
	}
	check()
	for i := range MaxLists {
		name, _ := s.Intern(DictList, fmt.Sprint("more", i))
		_, err := s.EditList(&ListEdit{List: name, Add: [][16]byte{{1}}})
		if full := i >= MaxLists-2; errors.Is(err, ErrLimit) != full {
			t.Fatalf("list %d: %v", i, err)
		}
	}
	mustClose(t, s)
	if _, err := s.EditList(&ListEdit{List: a}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// A listing is what was kept until the profile changes, of nobody else.
func TestListing(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, fs, testOptions(fs))
	defer mustClose(t, s)
	g, ord, _ := addPerson(t, s, "ann")
	g.Lock()
	defer g.Unlock()
	want := Listing{Epoch: 1<<48 - 1, Blocked: 0x8001}
	g.SetListing(ord, want)
	if got := g.Listing(ord); got != want || g.Listing(ord+1) != (Listing{}) ||
		g.Listing(ord+rowChunk) != (Listing{}) {
		t.Fatalf("%+v", got)
	}
	address := []Address{{Channel: 3, Values: [][]byte{[]byte("a@example.com")}}}
	_, err := g.Append(&Effect{Kind: EffectPatch, Ord: ord, Time: 1, Patch: &Patch{Addresses: address}})
	if err != nil || g.Listing(ord) != (Listing{}) {
		t.Fatalf("%+v, %v", g.Listing(ord), err)
	}
}

// TestListCrash: over random edits and power cuts, what was answered is there,
// and what was not answered is there or not, hash by hash.
func TestListCrash(t *testing.T) {
	play(t, "lists over crashes", 1000, nil, func(seed uint64) {
		r := rand.New(rand.NewPCG(seed, 77))
		fs := lossy.New()
		sure := map[int]bool{} // what an answered edit last said
		for range 3 {
			s := mustOpen(t, fs, testOptions(fs))
			mustCheck(t, s)
			list, err := s.Intern(DictList, "a")
			if err != nil {
				t.Fatal(err)
			}
			for n, want := range sure {
				if got := s.Listed(hashOf(s, n)); got != want {
					t.Fatalf("seed %d: %d is listed: %t, want %t", seed, n, got, want)
				}
			}
			var cut *lossy.FS
			for range 1 + r.IntN(6) {
				e := ListEdit{List: list}
				add, numbers := r.IntN(3) > 0, []int(nil)
				for range r.IntN(200) {
					n := r.IntN(400)
					numbers = append(numbers, n)
					if h := hashOf(s, n); add {
						e.Add = append(e.Add, h)
					} else {
						e.Remove = append(e.Remove, h)
					}
				}
				if r.IntN(5) == 0 { // the power goes while the edit is under way
					var both sync.WaitGroup
					both.Go(func() { _, _ = s.EditList(&e) })
					both.Go(func() { cut = crashClone(fs, r) })
					both.Wait()
					for _, n := range numbers {
						delete(sure, n)
					}
					break
				}
				if _, err := s.EditList(&e); err != nil {
					t.Fatal(err)
				}
				for _, n := range numbers {
					sure[n] = add
				}
			}
			if cut == nil {
				cut = crashClone(fs, r)
			}
			mustClose(t, s)
			fs = cut
		}
	})
}

func crashClone(fs *lossy.FS, r *rand.Rand) *lossy.FS {
	return fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: r.IntN(101), RNG: rand.New(rand.NewPCG(r.Uint64(), 1)),
	})
}

// Entries that are not what was written are refused at the start, by class.
func TestListCorrupt(t *testing.T) {
	f := func(key []byte, want error) {
		t.Helper()
		fs := vfs.NewMem()
		s := mustOpen(t, fs, testOptions(fs))
		if err := s.db.db.Set(key, nil, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		mustClose(t, s)
		_, err := Open("store", testOptions(fs))
		if !errors.Is(err, want) {
			t.Errorf("%x: %v, want %v", key, err, want)
		}
	}
	good := binary.BigEndian.AppendUint32([]byte{prefixList, listFormat}, 1)
	good = append(good, make([]byte, 16)...)
	newer, short, none := bytes.Clone(good), good[:21], bytes.Clone(good)
	newer[1] = 2
	none[5] = 0
	f(newer, ErrNewerFormat)
	f(short, ErrCorrupt)
	f(none, ErrCorrupt)
	f([]byte{prefixList}, ErrCorrupt)
	f(append(bytes.Clone(good), 1), ErrCorrupt)
}

func FuzzListKey(f *testing.F) {
	f.Add([]byte{prefixList, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Add([]byte{prefixList, 2})
	f.Fuzz(func(t *testing.T, key []byte) {
		list, h, err := parseListKey(key)
		if err == nil && !bytes.Equal(appendListKey(nil, list, h), key) {
			t.Fatalf("%x comes back as %d %v", key, list, h)
		}
	})
}

// TestListLarge imports 10 million hashes times TACT_EFFORT (125,000 without
// it) in edits of 64 Ki, opens the store again, and reports rate and memory.
func TestListLarge(t *testing.T) {
	n := effort(t, 10_000_000)
	fs := vfs.FS(vfs.NewMem())
	dir := "store"
	if n > 1_000_000 {
		fs, dir = vfs.Default, t.TempDir()+"/store"
	}
	o := testOptions(nil)
	o.FS, o.CommitMax = fs, time.Minute
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.Intern(DictList, "unsubscribed")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	e := ListEdit{List: list}
	for i := range n {
		e.Add = append(e.Add, hashOf(s, i))
		if len(e.Add) == MaxListEdit || i == n-1 {
			if _, err := s.EditList(&e); err != nil {
				t.Fatal(err)
			}
			e.Add = e.Add[:0]
		}
	}
	took := time.Since(start)
	mustClose(t, s)
	runtime.GC()
	start = time.Now()
	if s, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	size := s.ListSizes()[0]
	t.Logf("%d hashes: %.0f a second; opened in %v; %.1f bytes each", n,
		float64(n)/took.Seconds(), time.Since(start), float64(size.Bytes)/float64(n))
	if size.Entries != n || float64(size.Bytes) > 18*float64(n) {
		t.Errorf("%d entries in %d bytes", size.Entries, size.Bytes)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		if i := r.IntN(2 * n); s.Listed(hashOf(s, i)) != (i < n) {
			t.Fatalf("%d", i)
		}
	}
}
