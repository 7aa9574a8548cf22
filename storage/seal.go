package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
)

// A sealed part is AES-128-GCM with the key of its person:
//
//	nonce 12 | ciphertext | tag 16
//
// The nonce is random: a person's key seals far fewer than 2^32 parts. The
// associated data binds the part to its place, so that one part cannot be put
// in the place of another.
//
// Source: NIST SP 800-38D.
const (
	sealNonce = 12
	sealTag   = 16
	sealExtra = sealNonce + sealTag
)

// A sealer seals and opens parts. It keeps the ciphers of the keys it met last, since
// the schedule of a key costs more than a part of some hundred bytes, and reads nonces
// ahead. One goroutine uses it.
type sealer struct {
	random io.Reader
	nonces [16 * sealNonce]byte
	left   int // unread bytes at the end of nonces
	slots  []keptCipher
	keep   int
}

// keptCiphers is how many the committer and the logger keep: effects of one person often
// follow each other, and more ciphers than the cache of a processor holds would not pay.
const keptCiphers = 8

// keptCipher is a cipher with its key; some 1.3 KB.
type keptCipher struct {
	key  [16]byte
	aead cipher.AEAD // nil: the slot is free
}

// newSealer makes a sealer that takes nonces from random and keeps up to keep ciphers.
func newSealer(random io.Reader, keep int) sealer { return sealer{random: random, keep: keep} }

// append appends plain, sealed with key, to dst. Plain may not overlap the free room of
// dst.
func (s *sealer) append(dst []byte, key *[16]byte, plain, bind []byte) ([]byte, error) {
	aead, err := s.cipher(key)
	if err != nil {
		return dst, err
	}
	if s.left < sealNonce {
		if _, err := io.ReadFull(s.random, s.nonces[:]); err != nil {
			return dst, fmt.Errorf("nonce: %w", err)
		}
		s.left = len(s.nonces)
	}
	at, from := len(dst), len(s.nonces)-s.left
	s.left -= sealNonce
	dst = append(dst, s.nonces[from:from+sealNonce]...)
	return aead.Seal(dst, dst[at:at+sealNonce], plain, bind), nil
}

// open is appendOpened.
func (s *sealer) open(dst []byte, key *[16]byte, sealed, bind []byte) ([]byte, error) {
	aead, err := s.cipher(key)
	if err != nil {
		return dst, err
	}
	return openWith(aead, dst, sealed, bind)
}

func (s *sealer) cipher(key *[16]byte) (cipher.AEAD, error) {
	if s.slots == nil {
		s.slots = make([]keptCipher, max(s.keep, 1))
	}
	// Keys are random: some bytes of one are as good as a hash.
	slot := &s.slots[le64(key[:])%uint64(len(s.slots))]
	if slot.aead != nil && slot.key == *key {
		return slot.aead, nil
	}
	aead, err := personCipher(key)
	if err == nil {
		*slot = keptCipher{*key, aead}
	}
	return aead, err
}

// forget lets go of the cipher of a key.
func (s *sealer) forget(key *[16]byte) {
	if s.slots == nil {
		return
	}
	if slot := &s.slots[le64(key[:])%uint64(len(s.slots))]; slot.key == *key {
		*slot = keptCipher{}
	}
}

// forgetAll lets go of all ciphers.
func (s *sealer) forgetAll() { clear(s.slots) }

// appendOpened appends the plain bytes of a sealed part to dst. Bytes that the
// key did not seal for this place give ErrCorrupt and dst unchanged.
func appendOpened(dst []byte, key *[16]byte, sealed, bind []byte) ([]byte, error) {
	aead, err := personCipher(key)
	if err != nil {
		return dst, err
	}
	return openWith(aead, dst, sealed, bind)
}

func openWith(aead cipher.AEAD, dst, sealed, bind []byte) ([]byte, error) {
	if len(sealed) < sealExtra {
		return dst, fmt.Errorf("sealed part of %d bytes: %w", len(sealed), ErrCorrupt)
	}
	out, err := aead.Open(dst, sealed[:sealNonce], sealed[sealNonce:], bind)
	if err != nil {
		return dst, fmt.Errorf("sealed part: %w", ErrCorrupt)
	}
	return out, nil
}

// rowBind returns the associated data of a sealed part of a row:
// workspace u32 | person u64 | kind u8.
func rowBind(ws WorkspaceID, person PersonID, kind RowKind) (bind [13]byte) {
	binary.BigEndian.PutUint32(bind[0:], uint32(ws))
	binary.BigEndian.PutUint64(bind[4:], uint64(person))
	bind[12] = byte(kind)
	return bind
}

func personCipher(key *[16]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("person key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("person key: %w", err)
	}
	return aead, nil
}
