package storage

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// An index against a map, with hashes that collide in tag and bucket.
func TestIndexEqualsMap(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var x index
	hashes := make([]uint64, 3000)
	for i := range hashes {
		hashes[i] = r.Uint64()
		if i%3 == 0 {
			hashes[i] = uint64(i%5)<<indexTag | uint64(i%2)
		}
	}
	hashOf := func(o Ord) uint64 { return hashes[o] }
	in := map[Ord]bool{}
	for range 60_000 {
		o := Ord(r.IntN(len(hashes)))
		if in[o] {
			x.remove(hashes[o], o)
		} else {
			x.add(hashes[o], o, hashOf)
		}
		in[o] = !in[o]
		p := Ord(r.IntN(len(hashes)))
		_, found := x.find(hashes[p], func(at Ord) bool { return at == p })
		if found != in[p] {
			t.Fatalf("ordinal %d: %t, want %t", p, found, in[p])
		}
	}
	n := 0
	for o := range hashes {
		if in[Ord(o)] {
			n++
		}
	}
	if x.live != n || x.used > indexMost*len(x.buckets) {
		t.Fatalf("%d entries, %d places taken of %d; want %d", x.live, x.used, indexPlaces*len(x.buckets), n)
	}
	x.remove(1, 99_999)
	if x.live != n {
		t.Fatal("a stranger was removed")
	}
}

// An identity index against a map, with hashes that collide at both ends of the table.
func TestIdentityIndexEqualsMap(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var x identityIndex
	want := map[[16]byte]PersonRef{}
	for i := range 60_000 {
		var h [16]byte
		h[7], h[9] = byte(250+r.IntN(12)), byte(r.IntN(100))
		h[8] = byte(r.IntN(2))
		c := claim{hash: h, target: PersonRef{Group: 2, Ord: Ord(i), Person: PersonID(i + 1)}}
		if r.IntN(3) == 0 {
			c.target = PersonRef{}
			delete(want, h)
		} else {
			want[h] = c.target
		}
		x.put(c)
		h[7], h[9] = byte(250+r.IntN(12)), byte(r.IntN(100))
		got, ok := x.find(h)
		if w, known := want[h]; ok != known || got != w {
			t.Fatalf("step %d: %v %t, want %v %t", i, got, ok, w, known)
		}
	}
	n := 0
	x.each(func(c claim) {
		if n++; want[c.hash] != c.target {
			t.Errorf("%x is told as %v, want %v", c.hash, c.target, want[c.hash])
		}
	})
	if x.n != len(want) || n != len(want) {
		t.Fatalf("%d entries, %d in the table, want %d", x.n, n, len(want))
	}
}

// However many identities there are, one takes 36 bytes in a table that is no less than
// five eighths full.
func TestIdentityIndexBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var x identityIndex
	for i := range 200_000 {
		var h [16]byte
		binary.LittleEndian.PutUint64(h[:], r.Uint64())
		x.put(claim{hash: h, target: PersonRef{Person: PersonID(i + 1)}})
		if i > identityMin && x.bytes() > int64(x.n)*58 || 5*x.n > 4*len(x.entries) {
			t.Fatalf("%d identities take %d bytes", x.n, x.bytes())
		}
	}
}

// Idempotency keys are known for seven days and found again after a load.
func TestDedupDays(t *testing.T) {
	s := newState(1, stateOptions{})
	start := UnixMsec(20_000) * dayMsec
	key := func(day int, i int) uint64 { return uint64(day*100_000+i)*0x9E3779B97F4A7C15 | 1 }
	var blocks [][]byte
	for day := range 12 {
		for i := range 2000 {
			err := s.apply(uint64(day+1), &Effect{
				Kind: EffectTime, Ord: NoOrd,
				Time: start + UnixMsec(day)*dayMsec, DedupKey: key(day, i), DedupBody: uint32(i),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if day%3 == 2 {
			for _, b := range s.takeDedup() {
				blocks = append(blocks, b.value)
			}
		}
	}
	if len(s.takeDedup()) != 0 {
		t.Fatal("keys were left behind")
	}
	f := func(s *state) {
		t.Helper()
		for day := range 12 {
			for i := range 2000 {
				body, ok := s.seenDedup(key(day, i))
				if ok != (day >= 4) || ok && body != uint32(i) {
					t.Fatalf("day %d key %d: %d %t", day, i, body, ok)
				}
			}
		}
		if _, ok := s.seenDedup(0); ok {
			t.Fatal("0 is a key")
		}
	}
	f(s)
	l := newState(1, stateOptions{})
	if err := l.loadMeta(s.appendMeta(nil, 12)); err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if err := l.loadDedup(b); err != nil {
			t.Fatal(err)
		}
	}
	f(l)
	if day := dedupSince(s.highWater()); day != 20_004 {
		t.Fatalf("blocks since day %d are needed", day)
	}
	// The same key again keeps its first body.
	s.dedup.add(s.high, key(11, 1), 77)
	if body, _ := s.seenDedup(key(11, 1)); body != 1 {
		t.Fatalf("body %d", body)
	}
}
