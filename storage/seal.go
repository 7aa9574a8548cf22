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

// appendSealed appends plain, sealed with key and a nonce from random, to dst.
// Plain may not overlap the free room of dst.
func appendSealed(dst []byte, key *[16]byte, random io.Reader, plain, bind []byte) ([]byte, error) {
	at := len(dst)
	dst = append(dst, make([]byte, sealNonce)...)
	dst = append(dst, plain...)
	dst = append(dst, make([]byte, sealTag)...)
	if err := sealInPlace(dst[at:], key, random, bind); err != nil {
		return dst[:at], err
	}
	return dst, nil
}

// sealInPlace seals part, which holds room for the nonce, the plain bytes and
// room for the tag.
func sealInPlace(part []byte, key *[16]byte, random io.Reader, bind []byte) error {
	aead, err := personCipher(key)
	if err != nil {
		return err
	}
	nonce := part[:sealNonce]
	if _, err := io.ReadFull(random, nonce); err != nil {
		return fmt.Errorf("nonce: %w", err)
	}
	plain := part[sealNonce : len(part)-sealTag]
	aead.Seal(plain[:0], nonce, plain, bind)
	return nil
}

// appendOpened appends the plain bytes of a sealed part to dst. Bytes that the
// key did not seal for this place give ErrCorrupt and dst unchanged.
func appendOpened(dst []byte, key *[16]byte, sealed, bind []byte) ([]byte, error) {
	if len(sealed) < sealExtra {
		return dst, fmt.Errorf("sealed part of %d bytes: %w", len(sealed), ErrCorrupt)
	}
	aead, err := personCipher(key)
	if err != nil {
		return dst, err
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
