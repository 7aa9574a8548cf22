package storage

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

// modelSets are sets as one would write them without a thought of memory.
type modelSets map[Name]map[Ord]bool

func (m modelSets) sizes() map[Name]int {
	out := make(map[Name]int)
	for n, set := range m {
		if len(set) > 0 {
			out[n] = len(set)
		}
	}
	return out
}

func (m modelSets) bitmap(n Name) *roaring.Bitmap {
	b := roaring.New()
	for o := range m[n] {
		b.Add(uint32(o))
	}
	return b
}

// Sets hold what sets of a model hold, whatever comes and goes: spans that are lists and
// bits by turns, sets that are asked for, more of them than are kept as bitmaps, and
// what a question was given, which stays as it was.
func TestSetsEqualModel(t *testing.T) {
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 61))
		b, model := newBitmaps(new(slab)), modelSets{}
		names := Name(1 + random.IntN(3*openSets))
		ords := 1 + random.IntN(5*spanOrds)
		type given struct {
			is, was *roaring.Bitmap
		}
		var shared []given
		grow := true
		for step := range 60_000 {
			if step%10_000 == 0 {
				grow = random.IntN(3) > 0
			}
			n, o := 1+Name(random.IntN(int(names))), Ord(random.IntN(ords))
			if random.IntN(4) > 0 { // some sets are dense
				n = 1 + n%3
			}
			if add := random.IntN(10) < 7 == grow; add {
				if model[n] == nil {
					model[n] = map[Ord]bool{}
				}
				model[n][o] = true
				b.add(n, o)
			} else {
				delete(model[n], o)
				b.remove(n, o)
			}
			if b.contains(n, o) != model[n][o] || b.size(n) != len(model[n]) {
				t.Fatalf("seed %d step %d: %d in set %d: %v, of %d; want %v, %d", seed, step, o, n,
					b.contains(n, o), b.size(n), model[n][o], len(model[n]))
			}
			if random.IntN(400) == 0 {
				shared = append(shared, given{share(b.ask(n)), model.bitmap(n)})
				b.trim()
			}
		}
		for _, s := range shared {
			if !s.is.Equals(s.was) {
				t.Fatalf("seed %d: a set that was given away has changed", seed)
			}
		}
		if len(b.opened) > openSets {
			t.Errorf("seed %d: %d sets are kept as bitmaps", seed, len(b.opened))
		}
		if err := b.check(model.sizes()); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		for n := range names + 2 {
			all := slices.Collect(b.each(n))
			if !slices.Equal(all, slices.Sorted(maps.Keys(model[n]))) {
				t.Errorf("seed %d: set %d has %d members in another order", seed, n, len(all))
			}
			switch set := b.set(n); {
			case (set == nil) != (len(model[n]) == 0):
				t.Errorf("seed %d: set %d: %v", seed, n, set)
			case set != nil && !set.Equals(model.bitmap(n)):
				t.Errorf("seed %d: the bitmap of set %d differs", seed, n)
			}
		}
		for n, set := range model {
			for o := range set {
				b.remove(n, o)
			}
		}
		if b.used != 0 || b.slab.used != 0 || b.members != 0 || b.within != 0 || len(b.opened) != 0 {
			t.Errorf("seed %d: %d bytes, %d members, %d in %d bitmaps are left", seed, b.used,
				b.members, b.within, len(b.opened))
		}
	}
}

// The check sees each way in which a set may be wrong.
func TestCheckOfSetsSeesDamage(t *testing.T) {
	damage := map[string]func(b *bitmaps){
		"a member too few":   func(b *bitmaps) { b.leave(&setHead{spans: b.heads[1].spans}, 7) },
		"a member too many":  func(b *bitmaps) { b.enter(&setHead{spans: b.heads[1].spans}, 8) },
		"a set too many":     func(b *bitmaps) { b.add(9, 1) },
		"a wrong number":     func(b *bitmaps) { b.heads[1] = setHead{b.heads[1].spans, 1} },
		"a bitmap that lags": func(b *bitmaps) { b.ask(1).Remove(7) },
		"bytes lost":         func(b *bitmaps) { b.used++ },
		"members lost":       func(b *bitmaps) { b.members++ },
	}
	for name, f := range damage {
		b := newBitmaps(new(slab))
		for _, o := range []Ord{1, 7, 5000, 5001} {
			b.add(1, o)
		}
		sizes := map[Name]int{1: 4}
		if err := b.check(sizes); err != nil {
			t.Fatal(err)
		}
		if f(&b); b.check(sizes) == nil {
			t.Errorf("%s: not seen", name)
		}
	}
}

// A change of a set that is in place allocates nothing.
func TestSetsAllocateNothing(t *testing.T) {
	b := newBitmaps(new(slab))
	for o := range Ord(3 * spanOrds) {
		b.add(1, o)
		if o%40 == 0 {
			b.add(2, o)
		}
	}
	n := testing.AllocsPerRun(100, func() {
		for _, name := range [...]Name{1, 2} {
			for o := Ord(1); o < 3*spanOrds; o += 997 {
				b.add(name, o)
				b.remove(name, o)
				b.contains(name, o)
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
