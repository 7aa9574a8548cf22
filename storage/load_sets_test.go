package storage

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Sets that are made of all members at once are those that come of adding them one
// by one: names beyond the table, people named twice and rare names included.
func TestSetLoadEqualsAddingOneByOne(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 3))
		ords := Ord(1 + random.IntN(200_000))
		names := []Name{0, 1, 2, 77, setNames - 1, setNames, setNames + 5}
		want, got := newBitmaps(new(slab)), newBitmaps(new(slab))
		var l setLoad
		for range random.IntN(30_000) {
			n := names[min(random.IntN(len(names)), random.IntN(len(names)))]
			o := Ord(random.IntN(int(ords)))
			want.add(n, o)
			l.add(&got, n, o)
		}
		l.finish(&got, ords)
		sizes := make(map[Name]int)
		for n := range want.heads {
			sizes[n] = want.size(n)
			if !slices.Equal(slices.Collect(want.each(n)), slices.Collect(got.each(n))) {
				t.Errorf("seed %d: set %d has other members", seed, n)
			}
			got.add(n, ords) // a set that was made at once takes changes
			got.remove(n, ords)
		}
		if err := got.check(sizes); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// Keys of many blocks and days are all found after the load, and no others, also
// where the first block is larger than the table and the keys come in rising order.
func TestDedupLoadFindsWhatWasTaken(t *testing.T) {
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 4))
		disk := newState(0, stateOptions{})
		keys := make(map[uint64]uint32)
		loaded := newState(0, stateOptions{})
		loaded.high = 2 * dayMsec
		l := dedupLoad{state: loaded}
		for day := range UnixMsec(3) {
			for range 1 + random.IntN(4) {
				for range random.IntN(20_000) {
					key, body := random.Uint64(), random.Uint32()
					keys[key] = body
					disk.dedup.add(day*dayMsec, key, body)
				}
				for _, b := range disk.takeDedup() {
					if err := l.add(b.value); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if err := l.finish(); err != nil {
			t.Fatal(err)
		}
		if n := loaded.dedup.n; n != len(keys) {
			t.Errorf("seed %d: %d keys are loaded, want %d", seed, n, len(keys))
		}
		for key, want := range keys {
			if body, ok := loaded.dedup.find(key); !ok || body != want {
				t.Fatalf("seed %d: key %x: %v %d, want %d", seed, key, ok, body, want)
			}
			if _, ok := loaded.dedup.find(key + 1); ok {
				t.Fatalf("seed %d: a key that was never taken is found", seed)
			}
		}
	}
}
