package storage

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// An event that is the newest is put into a tail as any other: byte for byte, whatever
// is too old then, and when the tail is full.
func TestTailNewestEqualsAnyEvent(t *testing.T) {
	var taken, refused, left, full int
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 31))
		now := UnixMsec(1_790_000_000_000)
		steps := []int64{0, 1, 500, 100_000, TailAge / 40, TailAge / 3, TailAge}
		long := []int{1, 30, 100, 200}[seed%4]
		steps = steps[:4+seed/4%4] // with the first ones a tail becomes full
		var old []byte
		for range 150 {
			now += UnixMsec(random.Int64N(1 + steps[random.IntN(len(steps))]))
			if c := (tailCursor{b: old}); seed%2 == 0 && random.IntN(8) == 0 {
				for n := random.IntN(TailMax); n > 0 && c.next(); {
					n--
				}
				now = max(now, c.occurred+TailAge) // it is just too old
			}
			in := &tailEdit{occurred: now, now: now, body: []byte{0, 1}}
			if random.IntN(8) == 0 {
				in.occurred -= UnixMsec(random.Int64N(TailAge + TailAge/8))
			}
			if random.IntN(8) == 0 {
				in.occurred += UnixMsec(random.Int64N(1000))
			}
			for range random.IntN(long) * random.IntN(2) {
				in.body = append(in.body, 7)
			}
			var want, got tailDraft
			want.addBetween(Tail{old}, in)
			if taken++; !got.addNewest(Tail{old}, in) {
				taken--
				refused++
				if len(got.b)+got.left != 0 {
					t.Fatalf("seed %d: refused, and %x is there", seed, got)
				}
			} else if !bytes.Equal(got.b, want.b) || got.left != want.left {
				t.Fatalf("seed %d, %d events:\n%x\nwant\n%x", seed, Tail{old}.Len(), got, want)
			}
			left += want.left
			old = want.b
			full += Tail{old}.Len() / TailMax
		}
	}
	if taken < 10_000 || refused < 1_000 || left < 10_000 || full < 3_000 {
		t.Errorf("%d taken, %d refused, %d left, %d full: the test says little",
			taken, refused, left, full)
	}
}

func BenchmarkTailNewest(b *testing.B) {
	var d tailDraft
	var old []byte
	in := &tailEdit{now: 1_790_000_000_000, body: []byte{tailOneProp, 1, 2, 3, 4, 5}}
	for range 38 {
		in.now += 3_600_117
		in.occurred = in.now
		if err := d.add(Tail{old}, in); err != nil {
			b.Fatal(err)
		}
		old = bytes.Clone(d.b)
	}
	in.occurred, in.now = in.occurred+5000, in.now+5000
	for b.Loop() {
		d.b = d.b[:0]
		if !d.addNewest(Tail{old}, in) {
			b.Fatal("refused")
		}
	}
}

// tailNumber reads what binary.Uvarint reads, wherever the slice ends.
func TestTailNumber(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	f := func(b []byte, at int) {
		t.Helper()
		v, n := tailNumber(b, at)
		if want, m := binary.Uvarint(b[at:]); v != want || n != m {
			t.Fatalf("%x from %d: %d of %d bytes, want %d of %d", b, at, v, n, want, m)
		}
	}
	for shift := range 64 {
		for _, v := range []uint64{1 << shift, 1<<shift - 1, math.MaxUint64 >> shift, random.Uint64() >> shift} {
			for behind := range 12 {
				b := binary.AppendUvarint([]byte{0xFF}, v)
				for range behind {
					b = append(b, byte(random.Uint32()))
				}
				f(b, 1)
				f(b[:len(b)-behind-1], 1)
			}
		}
	}
	f([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1}, 0)
	f([]byte{0x80, 0x80, 0, 9, 9, 9, 9, 9, 9}, 0) // longer than need be
	f([]byte{5}, 1)
}
