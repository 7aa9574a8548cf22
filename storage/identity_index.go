package storage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"unsafe"
)

// An identityIndex maps the keyed 128-bit hash of an identity to a person. It
// is open addressing with linear probing over entries of 36 bytes without
// pointers, at most four fifths full. It grows by a quarter, so that it is nearly
// three quarters full in the mean: a hash has its place at the share of the table that
// it has of all hashes, whatever the table's length.
type identityIndex struct {
	entries []identityEntry
	n       int
}

type identityEntry struct {
	hash   [16]byte
	person [2]uint32 // low, high: a PersonID would make the entry 40 bytes; 0 = empty
	ord    Ord
	ws     WorkspaceID
	slot   Slot
	group  GroupID
}

func (e *identityEntry) empty() bool { return e.person == [2]uint32{} }

func (e *identityEntry) target() PersonRef {
	return PersonRef{
		Group: e.group, Ord: e.ord, Person: PersonID(e.person[0]) | PersonID(e.person[1])<<32,
	}
}

// A claim is an identity row to be written; a target without a person deletes
// it.
type claim struct {
	ws     WorkspaceID
	slot   Slot // of the identity
	hash   [16]byte
	target PersonRef
}

const (
	identityMin   = 64
	identityBytes = 36
	// An identity row is format u8 | 0 u8 | group u16 | ord u32 | person u64 |
	// CRC32C u32, little-endian.
	identityRow       = 20
	identityRowFormat = 1
)

func (x *identityIndex) find(hash [16]byte) (PersonRef, bool) {
	if x.n == 0 {
		return PersonRef{}, false
	}
	e := &x.entries[x.place(&hash)]
	return e.target(), !e.empty()
}

// put points an identity at a person; a target without a person removes it.
func (x *identityIndex) put(c claim) {
	if c.target.Person == 0 {
		x.remove(&c.hash)
		return
	}
	x.reserve(1)
	e := &x.entries[x.place(&c.hash)]
	if e.empty() {
		x.n++
	}
	*e = identityEntry{
		hash: c.hash, person: [2]uint32{uint32(c.target.Person), uint32(c.target.Person >> 32)},
		ord: c.target.Ord, slot: c.slot, group: c.target.Group, ws: c.ws,
	}
}

// reserve makes room for n more entries, by a table that is a quarter longer or more.
func (x *identityIndex) reserve(n int) {
	least := (x.n+n)*5/4 + 1
	if least <= len(x.entries) {
		return
	}
	old, size := x.entries, max(identityMin, least, len(x.entries)*5/4)
	x.entries = make([]identityEntry, size)
	if size*identityBytes >= hugeFrom<<20 {
		preferHuge(unsafe.Pointer(&x.entries[0]), uintptr(size)*identityBytes)
	}
	for i := range old {
		if !old[i].empty() {
			x.entries[x.place(&old[i].hash)] = old[i]
		}
	}
}

// enter puts many identities that point at people.
func (x *identityIndex) enter(claims []claim) {
	if len(claims) == 0 {
		return
	}
	x.reserve(len(claims))
	for i := range claims {
		x.put(claims[i])
	}
}

// home returns where a hash lies when nothing else does.
func (x *identityIndex) home(hash *[16]byte) int {
	at, _ := bits.Mul64(le64(hash[:]), uint64(len(x.entries)))
	return int(at)
}

// place returns where the hash lies or would lie.
func (x *identityIndex) place(hash *[16]byte) int {
	for i := x.home(hash); ; i = x.behind(i) {
		if e := &x.entries[i]; e.empty() || e.hash == *hash {
			return i
		}
	}
}

func (x *identityIndex) behind(i int) int {
	if i++; i < len(x.entries) {
		return i
	}
	return 0
}

// steps returns how many places lie from one to the other.
func (x *identityIndex) steps(from, to int) int {
	if to < from {
		to += len(x.entries)
	}
	return to - from
}

// remove takes an entry out and moves those behind it up, so that no mark is
// needed.
func (x *identityIndex) remove(hash *[16]byte) {
	if x.n == 0 {
		return
	}
	hole := x.place(hash)
	if x.entries[hole].empty() {
		return
	}
	x.n--
	for i := x.behind(hole); !x.entries[i].empty(); i = x.behind(i) {
		// The entry at i may move to the hole unless its own place lies between.
		if x.steps(x.home(&x.entries[i].hash), i) >= x.steps(hole, i) {
			x.entries[hole] = x.entries[i]
			hole = i
		}
	}
	x.entries[hole] = identityEntry{}
}

// each calls f for every identity, in no order.
func (x *identityIndex) each(f func(claim)) {
	for i := range x.entries {
		if e := &x.entries[i]; !e.empty() {
			f(claim{ws: e.ws, slot: e.slot, hash: e.hash, target: e.target()})
		}
	}
}

func (x *identityIndex) bytes() int64 { return int64(len(x.entries)) * identityBytes }

// takeClaims returns the identity rows to be written since the last call. They
// belong in the batch of the meta that covers them.
func (s *state) takeClaims() []claim {
	out := s.claims
	s.claims = nil
	return out
}

// appendIdentityRow appends the stored value of a claim with a target.
func appendIdentityRow(dst []byte, target PersonRef) []byte {
	at := len(dst)
	dst = append(dst, identityRowFormat, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(target.Group))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(target.Ord))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(target.Person))
	return binary.LittleEndian.AppendUint32(dst, checkSum(dst[at:]))
}

// parseIdentity gives the claim of an identity row read from disk.
func parseIdentity(slot Slot, ws WorkspaceID, hash [16]byte, value []byte) (claim, error) {
	b, err := checkedValue(value, identityRowFormat)
	if err != nil || len(b) != identityRow-4 || b[1] != 0 || le64(b[8:]) == 0 {
		return claim{}, fmt.Errorf("identity row: %w", orCorrupt(err))
	}
	return claim{ws: ws, slot: slot, hash: hash, target: PersonRef{
		Group: GroupID(le16(b[2:])), Ord: Ord(le32(b[4:])), Person: PersonID(le64(b[8:])),
	}}, nil
}

// checkedValue returns a stored value without its trailing CRC32C. A wrong sum
// is ErrCorrupt, a higher format than known ErrNewerFormat.
func checkedValue(value []byte, format uint8) ([]byte, error) {
	if len(value) < 5 {
		return nil, ErrCorrupt
	}
	body, sum := value[:len(value)-4], le32(value[len(value)-4:])
	switch {
	case checkSum(body) != sum:
		return nil, fmt.Errorf("checksum: %w", ErrCorrupt)
	case body[0] > format:
		return nil, fmt.Errorf("format %d: %w", body[0], ErrNewerFormat)
	case body[0] == 0:
		return nil, ErrCorrupt
	}
	return body, nil
}

func orCorrupt(err error) error {
	if err == nil {
		return ErrCorrupt
	}
	return err
}

// checkSum is CRC32C, which the processor computes.
func checkSum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
