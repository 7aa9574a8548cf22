package storage

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"
)

// testSealer seals with nonces that are all different.
func testSealer() *sealer {
	s := newSealer(rand.Reader, 4)
	return &s
}

// Whatever keys share a slot, each part is sealed with its own and a nonce of its own;
// a cipher that was let go of is made anew.
func TestSealerKeepsKeysApart(t *testing.T) {
	seal := newSealer(rand.Reader, 3)
	seen := make(map[string]bool)
	for i := range 400 {
		key := [16]byte{byte(i % 7), 0, 0, 0, 0, 0, 0, 0, 1}
		switch i % 50 {
		case 20:
			seal.forget(&key)
		case 40:
			seal.forgetAll()
		}
		plain := fmt.Appendf(nil, "part %d", i)
		sealed, err := seal.append(nil, &key, plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		if nonce := string(sealed[:sealNonce]); seen[nonce] {
			t.Fatalf("part %d has the nonce of another", i)
		} else {
			seen[nonce] = true
		}
		if got, err := appendOpened(nil, &key, sealed, nil); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("part %d: %q, %v", i, got, err)
		}
		other := [16]byte{byte(i%7 + 1), 0, 0, 0, 0, 0, 0, 0, 1}
		if _, err := seal.open(nil, &other, sealed, nil); err == nil {
			t.Fatalf("part %d opens with another key", i)
		}
	}
}

// No cipher is kept of a person whose frame of erasure was written.
func TestErasedCipherIsLetGo(t *testing.T) {
	key := [16]byte{3}
	f := newFrame(1)
	e := Effect{Kind: EffectErase, Ord: 1, Time: 1, Erase: EraseEffect{Person: 1}}
	if err := f.append(&e, &key, nil); err != nil {
		t.Fatal(err)
	}
	seal := testSealer()
	head := frameHead{number: 1, count: 1}
	if _, err := appendFrame(nil, &head, f, seal, func(*record) {}); err != nil {
		t.Fatal(err)
	}
	for _, kept := range seal.slots {
		if kept.aead != nil || kept.key == key {
			t.Fatal("the cipher of an erased person is kept")
		}
	}
}

// BenchmarkSeal seals parts of 200 bytes: each of another person, and three of one
// person after each other, as the rows of an event are written.
func BenchmarkSeal(b *testing.B) {
	plain := make([]byte, 200)
	f := func(name string, each int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			seal := newSealer(rand.Reader, 1)
			var dst []byte
			for i := 0; b.Loop(); i++ {
				n := i / each
				key := [16]byte{byte(n), byte(n >> 8), byte(n >> 16)}
				var err error
				if dst, err = seal.append(dst[:0], &key, plain, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("others", 1)
	f("three", 3)
}
