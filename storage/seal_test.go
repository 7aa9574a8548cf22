package storage

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// testSealer seals with nonces that are all different.
func testSealer() *sealer {
	s := newSealer(rand.Reader)
	return &s
}

// Each part is sealed with the key of its person and a nonce of its own.
func TestSealerKeepsKeysApart(t *testing.T) {
	seal := testSealer()
	seen := make(map[string]bool)
	for i := range 400 {
		key := [16]byte{byte(i % 7), 0, 0, 0, 0, 0, 0, 0, 1}
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
		if _, err := appendOpened(nil, &other, sealed, nil); err == nil {
			t.Fatalf("part %d opens with another key", i)
		}
	}
}

// A sealed part is what FORMAT.md says, so that whoever has the key can read it: the
// cipher of RFC 8439 by its library, keyed and bound as written there.
func TestSealedPartIsAsWritten(t *testing.T) {
	key, bind := [16]byte{1, 2, 3, 15: 16}, []byte("a place")
	sealed, err := testSealer().append(nil, &key, []byte("some text"), bind)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.New(append(key[:], "tact sealed part"...))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := aead.Open(nil, sealed[:12], sealed[12:], bind)
	if err != nil || string(plain) != "some text" {
		t.Fatalf("%q, %v", plain, err)
	}
}

// A part of an older format opens, for its key and at its place only, and no bit of it
// can differ.
func TestOlderPartsOpen(t *testing.T) {
	key, bind := [16]byte{7, 15: 9}, rowBind(1, 2, RowTail)
	aead, err := olderCipher(&key)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, sealNonce)
	sealed := aead.Seal(bytes.Clone(nonce), nonce, []byte("of old"), bind[:])
	got, err := appendOpened([]byte("front "), &key, sealed, bind[:])
	if err != nil || string(got) != "front of old" {
		t.Fatalf("%q, %v", got, err)
	}
	other := rowBind(1, 3, RowTail)
	if _, err := appendOpened(nil, &key, sealed, other[:]); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("at another place: %v", err)
	}
	for i := range len(sealed) * 8 {
		sealed[i/8] ^= 1 << (i % 8)
		got, err := appendOpened([]byte("front"), &key, sealed, bind[:])
		if !errors.Is(err, ErrCorrupt) || string(got) != "front" {
			t.Fatalf("bit %d: %q, %v", i, got, err)
		}
		sealed[i/8] ^= 1 << (i % 8)
	}
}

// BenchmarkSeal seals and opens parts of 200 bytes, each of another person.
func BenchmarkSeal(b *testing.B) {
	plain := make([]byte, 200)
	key := [16]byte{1}
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		seal := testSealer()
		var dst []byte
		for i := 0; b.Loop(); i++ {
			key = [16]byte{byte(i), byte(i >> 8), byte(i >> 16)}
			var err error
			if dst, err = seal.append(dst[:0], &key, plain, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		sealed, err := testSealer().append(nil, &key, plain, nil)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if plain, err = appendOpened(plain[:0], &key, sealed, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
