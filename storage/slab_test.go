package storage

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// Every length fits in its class, and no class is more than a ninth too large.
func TestSlabClasses(t *testing.T) {
	for n := 1; n <= slabMax; n++ {
		class := slabClass(n)
		size := int(classUnits(class)) * slabUnit
		if class >= slabClasses || size < n+slabHeader {
			t.Fatalf("%d bytes: class %d of %d bytes", n, class, size)
		}
		if class > 0 && int(classUnits(class-1))*slabUnit >= n+slabHeader {
			t.Fatalf("%d bytes: class %d is not the smallest", n, class)
		}
		if n > 256 && (size-n)*9 > size+9*slabUnit {
			t.Fatalf("%d bytes: %d are wasted", n, size-n)
		}
		if n > 4096 {
			n += 61
		}
	}
	if size := int(classUnits(slabClasses-1)) * slabUnit; size != slabChunk {
		t.Fatalf("the last class has %d bytes", size)
	}
}

// A slab against a map: no block touches another.
func TestSlabEqualsMap(t *testing.T) {
	var s slab
	r := rand.New(rand.NewPCG(1, 2))
	refs, want := make([]Ref, 300), make([][]byte, 300)
	for i := range 40_000 {
		k := r.IntN(len(refs))
		n := r.IntN(200)
		if r.IntN(200) == 0 {
			n = r.IntN(30_000)
		}
		if r.IntN(5) == 0 {
			s.drop(refs[k])
			refs[k], want[k] = 0, nil
			continue
		}
		content := bytes.Repeat([]byte{byte(i)}, n)
		if r.IntN(3) == 0 && refs[k] != 0 {
			at := r.IntN(len(want[k]) + 1)
			ref, b, err := s.widen(refs[k], at, n, r.IntN(2)*112)
			if err != nil || len(b) != len(want[k])+n {
				t.Fatalf("step %d: %d bytes: %v", i, len(b), err)
			}
			copy(b[at:at+n], content)
			refs[k], want[k] = ref, slices.Insert(bytes.Clone(want[k]), at, content...)
			continue
		}
		room := r.IntN(2) * 112
		ref, err := s.putRoomy(refs[k], content, room)
		if err != nil {
			t.Fatal(err)
		}
		if most := classUnits(slabClass(n + room)); ref != 0 && s.size(ref) > int64(most)*slabUnit {
			t.Fatalf("step %d: %d bytes lie in %d", i, n, s.size(ref))
		}
		refs[k], want[k] = ref, content
		if i%1000 == 0 {
			for k := range refs {
				if !bytes.Equal(s.get(refs[k]), want[k]) {
					t.Fatalf("step %d: block %d differs", i, k)
				}
			}
		}
	}
	held, used := s.bytes()
	for _, ref := range refs {
		s.drop(ref)
	}
	if _, left := s.bytes(); left != 0 || used > held {
		t.Fatalf("%d of %d bytes are lost", left, held)
	}
	if _, err := s.put(0, make([]byte, slabMax+1)); err == nil {
		t.Fatal("too long a block was taken")
	}
	short, err := s.put(0, []byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if ref, _, err := s.widen(short, 1, slabMax, 0); err == nil || ref != short {
		t.Fatal("a block was made too long")
	}
	s.drop(short)
	ref, err := s.put(0, make([]byte, slabMax))
	if err != nil || len(s.get(ref)) != slabMax {
		t.Fatalf("the longest block: %v", err)
	}
}
