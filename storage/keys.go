package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/zeebo/xxh3"
)

// The key space by first byte. User rows begin with a slot, which is below
// 0x1000: first byte 0x00..0x0F. Identity rows begin with 0x1000 | slot: first
// byte 0x10..0x1F.
const (
	prefixFrame     = 0x20
	prefixGroup     = 0x21
	prefixMember    = 0x22
	prefixMoved     = 0x23
	prefixPersonKey = 0x30
	prefixErased    = 0x31
	prefixPurge     = 0x32
	prefixName      = 0x40
	prefixDedup     = 0x50
	prefixDoc       = 0x60
	prefixNode      = 0x70
	prefixList      = 0x80

	identitySlots = 0x1000
)

// Keys of the node's own records, after prefixNode.
const (
	nodeManifest = 0x01
	nodeEpoch    = 0x02
	nodeJournal  = 0x03
	nodeCommit   = 0x04
	nodeLog      = 0x05
	nodeHold     = 0x06
)

// AppendKey appends the storage key of one part of a person's state to dst and
// returns the longer slice. A slot is one contiguous range, a person a sub-range:
//
//	slot u16 | workspace u32 | person u64 | kind u8      all big-endian
//
// It does not allocate when dst has 15 bytes to spare.
func AppendKey(dst []byte, slot Slot, ws WorkspaceID, person PersonID, kind RowKind) []byte {
	be := binary.BigEndian
	dst = be.AppendUint16(dst, uint16(slot))
	dst = be.AppendUint32(dst, uint32(ws))
	dst = be.AppendUint64(dst, uint64(person))
	return append(dst, byte(kind))
}

// rowKey is a parsed AppendKey.
type rowKey struct {
	slot   Slot
	ws     WorkspaceID
	person PersonID
	kind   RowKind
}

func parseRowKey(key []byte) (k rowKey, ok bool) {
	if len(key) != 15 {
		return k, false
	}
	be := binary.BigEndian
	k = rowKey{
		slot:   Slot(be.Uint16(key)),
		ws:     WorkspaceID(be.Uint32(key[2:])),
		person: PersonID(be.Uint64(key[6:])),
		kind:   RowKind(key[14]),
	}
	return k, k.slot < Slots && k.kind.known()
}

// appendFrameKey appends 0x20 | group u16 | number u64.
func appendFrameKey(dst []byte, g GroupID, number uint64) []byte {
	dst = binary.BigEndian.AppendUint16(append(dst, prefixFrame), uint16(g))
	return binary.BigEndian.AppendUint64(dst, number)
}

// appendMovedKey appends 0x23 | decision id 16.
func appendMovedKey(dst []byte, id DecisionID) []byte {
	return append(append(dst, prefixMoved), id[:]...)
}

// appendGroupKey appends 0x21 | group u16.
func appendGroupKey(dst []byte, g GroupID) []byte {
	return binary.BigEndian.AppendUint16(append(dst, prefixGroup), uint16(g))
}

// appendPersonKeyKey appends 0x30 | slot u16 | workspace u32 | person u64. Its
// value is wrap format u8 (1 = none) | key 16, or 2 alone: thrown away.
func appendPersonKeyKey(dst []byte, slot Slot, ws WorkspaceID, person PersonID) []byte {
	be := binary.BigEndian
	dst = be.AppendUint16(append(dst, prefixPersonKey), uint16(slot))
	dst = be.AppendUint32(dst, uint32(ws))
	return be.AppendUint64(dst, uint64(person))
}

const (
	personKeyPlain = 1
	personKeyGone  = 2 // the key was thrown away in a backup: there is none
)

// errPersonGone reports a key that was thrown away.
var errPersonGone = errors.New("the person's key was thrown away")

func parsePersonKey(value []byte) (key [16]byte, err error) {
	switch {
	case len(value) == 17 && value[0] == personKeyPlain:
		copy(key[:], value[1:])
		return key, nil
	case len(value) == 1 && value[0] == personKeyGone:
		return key, errPersonGone
	case len(value) > 0 && value[0] > personKeyGone:
		return key, fmt.Errorf("%w: person key format %d", ErrNewerFormat, value[0])
	}
	return key, fmt.Errorf("%w: person key of %d bytes", ErrCorrupt, len(value))
}

// appendIdentityKey appends (0x1000 | slot) u16 | workspace u32 | hash 16.
func appendIdentityKey(dst []byte, slot Slot, ws WorkspaceID, hash [16]byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, identitySlots|uint16(slot))
	dst = binary.BigEndian.AppendUint32(dst, uint32(ws))
	return append(dst, hash[:]...)
}

// appendNameKey appends 0x40 | kind u8 | id u32.
func appendNameKey(dst []byte, kind DictKind, id Name) []byte {
	return binary.BigEndian.AppendUint32(append(dst, prefixName, byte(kind)), uint32(id))
}

// appendDedupKey appends 0x50 | group u16 | day u16 | seq u32.
func appendDedupKey(dst []byte, g GroupID, day uint16, seq uint32) []byte {
	be := binary.BigEndian
	dst = be.AppendUint16(append(dst, prefixDedup), uint16(g))
	return be.AppendUint32(be.AppendUint16(dst, day), seq)
}

// after returns the first key behind all keys that begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// Keys are the secrets of a store, made when it is created. They are on disk in
// its manifest and never leave the node.
type Keys struct {
	TokenKey     [16]byte // AES-CMAC of signed tokens
	IdentityKey  [16]byte // of IdentityHash
	SlotSeed     uint64   // of SlotOf
	IndexSeed    uint64   // of IndexHash
	DedupSeed    uint64   // of DedupHash
	DocumentSeed uint64   // reserved for digests that must not be guessed
}

// Keys returns the secrets of the store.
func (s *Store) Keys() Keys { return s.man.keys }

// workspaceStep spreads workspaces over the seeds: 2^64 / golden ratio.
const workspaceStep = 0x9E3779B97F4A7C15

// SlotOf returns the slot of a canonical id or of an identity: the top 12 bits
// of hash "xxh3-1", which is xxh3-64 of the id with the seed SlotSeed +
// workspace × 0x9E3779B97F4A7C15.
func (s *Store) SlotOf(ws WorkspaceID, id []byte) Slot {
	return Slot(xxh3.HashSeed(id, s.man.keys.SlotSeed+uint64(ws)*workspaceStep) >> 52)
}

// IndexHash returns the resident index hash of a canonical id: not the slot's,
// so that people of one slot do not share buckets.
func (s *Store) IndexHash(ws WorkspaceID, id []byte) uint64 {
	return xxh3.HashSeed(id, s.man.keys.IndexSeed+uint64(ws)*workspaceStep)
}

// DedupHash returns the keyed hash of an idempotency key; kind keeps the keys of
// users, events and outcomes apart. It is never 0.
func (s *Store) DedupHash(kind uint8, key []byte) uint64 {
	h := xxh3.HashSeed(key, s.man.keys.DedupSeed+uint64(kind)*workspaceStep)
	return max(h, 1)
}

// IdentityHash returns the keyed 128-bit hash of an identity: AES-128 CBC-MAC of
//
//	workspace u32 | type u32 | length u64      big-endian, the first block
//	the value, padded with zeros to whole blocks
//
// The length in the first block makes the encoding prefix-free, for which
// CBC-MAC is a pseudo-random function (Bellare, Kilian, Rogaway, JCSS 61 (2000)
// 362-399). It does not allocate.
func (s *Store) IdentityHash(ws WorkspaceID, typ Name, value []byte) [16]byte {
	m := s.macs.take()
	defer s.macs.give(m)
	binary.BigEndian.PutUint32(m.state[0:], uint32(ws))
	binary.BigEndian.PutUint32(m.state[4:], uint32(typ))
	binary.BigEndian.PutUint64(m.state[8:], uint64(len(value)))
	m.block.Encrypt(m.state[:], m.state[:])
	for len(value) > 0 {
		n := min(len(value), len(m.state))
		for i, c := range value[:n] {
			m.state[i] ^= c
		}
		m.block.Encrypt(m.state[:], m.state[:])
		value = value[n:]
	}
	return m.state
}

// mac is the scratch of one IdentityHash; pooled, since a buffer handed to a
// cipher escapes.
type mac struct {
	block cipher.Block
	state [16]byte
}

type macPool struct {
	key  [16]byte
	pool sync.Pool
}

func (p *macPool) take() *mac {
	if m, ok := p.pool.Get().(*mac); ok {
		return m
	}
	block, err := aes.NewCipher(p.key[:])
	if err != nil {
		panic(err) // the key's length is right by its type
	}
	return &mac{block: block}
}

func (p *macPool) give(m *mac) {
	clear(m.state[:])
	p.pool.Put(m)
}
