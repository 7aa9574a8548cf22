package storage

import (
	"math/rand/v2"
	"testing"
)

// A table against a map of days: keys come on days that rise by none, one, a few or
// hundreds, some of them again, some on days before; what is over is never found, and
// each counts exactly what is known.
func TestDedupEqualsMap(t *testing.T) {
	type entry struct {
		day  uint16
		body uint32
	}
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 8))
		s := newState(0, stateOptions{dedupDays: 1 + r.IntN(9)})
		d := &s.dedup
		want, keys := map[uint64]entry{}, []uint64{}
		day := uint16(r.IntN(400))
		known := func(key uint64) (entry, bool) {
			e, ok := want[key]
			return e, ok && int(e.day)+d.days > int(day)
		}
		d.expire(day)
		for i := range 60_000 {
			if r.IntN(3000) == 0 {
				day += uint16([]int{1, 1, 1, 2, 7, 90, 101, 300, 700}[r.IntN(9)])
				d.expire(day)
			}
			key := r.Uint64()
			if len(keys) > 0 && r.IntN(4) == 0 {
				key = keys[r.IntN(len(keys))]
			}
			on := day - min(day, uint16(r.IntN(2)*r.IntN(12)))
			if _, ok := known(key); !ok && int(on)+d.days > int(day) {
				want[key] = entry{on, uint32(i)}
				keys = append(keys, key)
			}
			d.add(UnixMsec(on)*dayMsec, key, uint32(i))
			again := append(keys, key)[r.IntN(len(keys)+1)]
			for _, key := range []uint64{key, again, r.Uint64()} {
				e, ok := known(key)
				if body, found := d.find(key); found != ok || found && body != e.body {
					t.Fatalf("seed %d step %d: key %x: %d %t, want %v %t", seed, i, key, body, found, e, ok)
				}
			}
		}
		n := 0
		d.each(func(key uint64, on uint16, body uint32) {
			n++
			if e, ok := known(key); !ok || e != (entry{on, body}) {
				t.Fatalf("seed %d: key %x is told as %d of day %d", seed, key, body, on)
			}
		})
		live := 0
		for key := range want {
			if _, ok := known(key); ok {
				live++
			}
		}
		if n != live || d.n < n {
			t.Fatalf("seed %d: %d entries of which %d are told, want %d", seed, d.n, n, live)
		}
		if _, used := s.slab.bytes(); used != d.used {
			t.Fatalf("seed %d: %d bytes are counted, %d are held", seed, d.used, used)
		}
	}
}

// Keys take little more than their 12 bytes, however many there are, also when half
// of them came from a disk, and those of days that are over leave by and by.
func TestDedupBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	s, disk := newState(0, stateOptions{}), newState(0, stateOptions{})
	s.high, disk.high = 20*dayMsec, 20*dayMsec
	s.dedup.expire(20)
	f := func(n int) {
		t.Helper()
		if d := &s.dedup; d.n != n || float64(d.bytes()) > 14.5*float64(d.n)+20_000 {
			t.Errorf("%d entries, want %d, take %d bytes: %.1f each", d.n, n, d.bytes(),
				float64(d.bytes())/float64(d.n))
		}
	}
	for range 150_000 {
		disk.dedup.add(20*dayMsec, r.Uint64(), 1)
	}
	l := dedupLoad{state: s}
	for _, b := range disk.takeDedup() {
		if err := l.add(b.value); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	f(150_000)
	for i := range 150_000 {
		s.dedup.add(20*dayMsec, r.Uint64(), 1)
		if i%50_000 == 0 {
			f(150_001 + i)
		}
	}
	f(300_000)
	s.dedup.expire(28)
	for range 260_000 {
		s.dedup.add(28*dayMsec, r.Uint64(), 1)
	}
	f(260_000)
}

// A key that lies in two blocks, of one run of them or of two, is entered once: with
// the body of the first, counted once, and in no more room than it needs.
func TestDedupKeyInTwoBlocks(t *testing.T) {
	const day = 20
	blockOf := func(from, until uint64, body uint32) []byte {
		d := newState(0, stateOptions{})
		for i := from; i < until; i++ {
			d.dedup.add(day*dayMsec, i*0x9E3779B97F4A7C15, body)
		}
		return d.takeDedup()[0].value
	}
	f := func(n int, finishBetween bool, blocks ...[]byte) {
		t.Helper()
		s := newState(0, stateOptions{})
		s.high = day * dayMsec
		l := dedupLoad{state: s}
		for _, b := range blocks {
			if err := l.add(b); err != nil {
				t.Fatal(err)
			}
			if finishBetween {
				if err := l.finish(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := l.finish(); err != nil {
			t.Fatal(err)
		}
		told := map[uint64]int{}
		s.dedup.each(func(key uint64, _ uint16, _ uint32) {
			if told[key]++; told[key] > 1 {
				t.Errorf("key %x is told %d times", key, told[key])
			}
		})
		room := 0
		for i := range s.dedup.segments() {
			room += len(s.slab.get(*s.dedup.at(i))) / dedupPlace
		}
		if s.dedup.n != n || len(told) != n || room != n {
			t.Errorf("%d entries are counted, %d told, and there is room for %d: want %d",
				s.dedup.n, len(told), room, n)
		}
		if _, used := s.slab.bytes(); used != s.dedup.used || used != s.dedup.held() {
			t.Errorf("%d bytes are counted, %d are held", s.dedup.used, used)
		}
		for i := uint64(1); i <= uint64(n); i++ {
			want := uint32(1)
			if i > 1000 {
				want = 2
			}
			if body, ok := s.dedup.find(i * 0x9E3779B97F4A7C15); !ok || body != want {
				t.Fatalf("key %d: %d %t, want %d", i, body, ok, want)
			}
		}
	}
	first, again, beside := blockOf(1, 1001, 1), blockOf(1, 1001, 2), blockOf(501, 1501, 2)
	for _, between := range []bool{false, true} {
		f(1000, between, first)
		f(1000, between, first, again)
		f(1500, between, first, beside)
		f(1500, between, first, beside, again, beside)
	}
}

func BenchmarkDedup(b *testing.B) {
	s := newState(0, stateOptions{})
	r := rand.New(rand.NewPCG(7, 7))
	for range 2_000_000 {
		s.dedup.add(0, r.Uint64(), 1)
	}
	s.takeDedup()
	b.Run("find", func(b *testing.B) {
		for range b.N {
			s.dedup.find(r.Uint64())
		}
		b.ReportMetric(float64(s.dedup.bytes())/float64(s.dedup.n), "B/key")
	})
	b.Run("add", func(b *testing.B) {
		for range b.N {
			s.dedup.add(0, r.Uint64(), 1)
		}
	})
}
