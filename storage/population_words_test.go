package storage

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

// numbersOf makes an index of people up to last: each with a number by draw, now and
// then without one or with an odd one.
func numbersOf(r *rand.Rand, kind ValueKind, last int, draw func() int64) *IndexView {
	x := &IndexView{Key: IndexKey{Kind: IndexAttr, Type: kind}, Has: newSet(), Odd: newSet()}
	for o := range uint32(last) {
		switch r.IntN(40) {
		case 0:
			continue
		case 1:
			x.Odd.Add(o)
		}
		x.Has.Add(o)
		for i, key := 0, uint32(rankKey(kind, draw())); key != 0; i, key = i+1, key>>1 {
			if key&1 == 0 {
				continue
			}
			if x.slices[i] == nil {
				x.slices[i] = newSet()
			}
			x.slices[i].Add(o)
		}
	}
	return x
}

// Over words a comparison finds whom it finds set by set, whatever containers the
// sets have: arrays, bits, runs, none at all; the words of the pool may hold anything.
func TestBetweenWords(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	ends := []int64{
		math.MinInt64, math.MinInt32, -3000, -1, 0, 1, 2047, 2048, 5000, 9999, 1 << 20,
		1<<32 - 1, 1 << 32, math.MaxInt32, math.MaxInt64 - 1, math.MaxInt64,
	}
	f := func(kind ValueKind, last int, within func(uint32) bool, draw func() int64) {
		t.Helper()
		x := numbersOf(r, kind, last, draw)
		of := newSet()
		for o := range uint32(last) {
			if within(o) {
				of.Add(o)
			}
		}
		of.RunOptimize()
		pool := &WordPool{}
		pool.Reset((last + 63) / 64)
		set, sure := pool.Take(), pool.Take()
		for _, lo := range ends {
			hi := ends[r.IntN(len(ends))]
			wantSure, want := x.Between(of, lo, hi)
			if x.Tells(lo, hi) {
				pool.SpreadTo(set, of)
				x.KeepBetween(pool, set, lo, hi)
				if !set.Bitmap().Equals(want) || set.Count() != wantSure.GetCardinality() {
					t.Fatalf("kind %d, %d people, [%d, %d]: %d are kept, want %d and %d for sure",
						kind, last, lo, hi, set.Count(), want.GetCardinality(), wantSure.GetCardinality())
				}
			}
			x.NumbersOf(pool, of, set)
			x.BetweenWords(pool, set, sure, lo, hi)
			if !set.Bitmap().Equals(want) || !sure.Bitmap().Equals(wantSure) {
				t.Fatalf("kind %d, %d people, [%d, %d]: %d and %d for sure, want %d and %d",
					kind, last, lo, hi, set.Bitmap().GetCardinality(), sure.Bitmap().GetCardinality(),
					want.GetCardinality(), wantSure.GetCardinality())
			}
		}
	}
	all := func(uint32) bool { return true }
	f(KindInt, 0, all, func() int64 { return 0 })
	f(KindInt, 70, all, func() int64 { return r.Int64N(5) - 2 })
	f(KindInt, 1<<16, all, func() int64 { return 0 })
	f(KindInt, 1<<17, all, func() int64 { return r.Int64N(10_000) })
	f(KindInt, 150_001, func(o uint32) bool { return o%97 == 0 }, func() int64 { return r.Int64N(6000) - 3000 })
	f(KindInt, 140_000, func(o uint32) bool { return o/1000%3 == 0 }, func() int64 {
		return int64(1) << r.IntN(50)
	})
	f(KindInt, 140_000, func(o uint32) bool { return o >= 70_000 }, func() int64 { return -r.Int64N(4) })
	f(KindTime, 100_000, all, func() int64 { return r.Int64N(1 << 34) })
	f(KindFloat, 100_000, all, func() int64 { return FloatRank(r.NormFloat64()) })
}

// Spreading a set out leaves nothing of what the words held.
func TestSpread(t *testing.T) {
	dense := roaring.New()
	dense.AddRange(0, 1<<16)
	dense.Remove(5)
	gap := dense.Clone()
	gap.RemoveRange(1<<15, 1<<16)
	tail := roaring.BitmapOf(1<<16, 1<<16+63)
	for i, m := range []*roaring.Bitmap{
		roaring.New(), dense, gap, tail, roaring.Or(dense, tail), roaring.Or(gap, tail),
	} {
		pool := &WordPool{}
		pool.Reset(1025)
		for j := range pool.spread {
			pool.spread[j] = math.MaxUint64
		}
		if got := pool.Spread(m).Bitmap(); !got.Equals(m) {
			t.Errorf("set %d: %d people, want %d", i, got.GetCardinality(), m.GetCardinality())
		}
	}
}
