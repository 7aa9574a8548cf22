package storage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unsafe"
)

// An identityIndex maps the keyed 128-bit hash of an identity to a person. It
// is open addressing with linear probing over entries of 40 bytes without
// pointers, at most three quarters full.
type identityIndex struct {
	entries []identityEntry // a power of two, or none
	n       int
}

type identityEntry struct {
	lo, hi uint64
	person PersonID // 0 = empty
	ord    Ord
	slot   Slot
	group  GroupID
	ws     WorkspaceID
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
	identityBytes = 40
	// An identity row is format u8 | 0 u8 | group u16 | ord u32 | person u64 |
	// CRC32C u32, little-endian.
	identityRow       = 20
	identityRowFormat = 1
)

func (x *identityIndex) find(hash [16]byte) (PersonRef, bool) {
	if x.n == 0 {
		return PersonRef{}, false
	}
	lo, hi := le64(hash[:]), le64(hash[8:])
	e := &x.entries[x.place(lo, hi)]
	if e.person == 0 {
		return PersonRef{}, false
	}
	return PersonRef{Group: e.group, Ord: e.ord, Person: e.person}, true
}

// put points an identity at a person; a target without a person removes it.
func (x *identityIndex) put(c claim) {
	lo, hi := le64(c.hash[:]), le64(c.hash[8:])
	if c.target.Person == 0 {
		x.remove(lo, hi)
		return
	}
	x.reserve(1)
	e := &x.entries[x.place(lo, hi)]
	if e.person == 0 {
		x.n++
	}
	*e = identityEntry{
		lo: lo, hi: hi, person: c.target.Person, ord: c.target.Ord,
		slot: c.slot, group: c.target.Group, ws: c.ws,
	}
}

// reserve makes room for n more entries, by a table twice as long or longer.
func (x *identityIndex) reserve(n int) {
	size := max(identityMin, len(x.entries))
	for 4*(x.n+n) > 3*size {
		size *= 2
	}
	if size == len(x.entries) {
		return
	}
	old := x.entries
	x.entries = make([]identityEntry, size)
	if size*identityBytes >= hugeFrom<<20 {
		preferHuge(unsafe.Pointer(&x.entries[0]), uintptr(size)*identityBytes)
	}
	for i := range old {
		if old[i].person != 0 {
			x.entries[x.place(old[i].lo, old[i].hi)] = old[i]
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

// place returns where the hash lies or would lie.
func (x *identityIndex) place(lo, hi uint64) uint64 {
	mask := uint64(len(x.entries) - 1)
	for i := lo & mask; ; i = (i + 1) & mask {
		e := &x.entries[i]
		if e.person == 0 || e.lo == lo && e.hi == hi {
			return i
		}
	}
}

// remove takes an entry out and moves those behind it up, so that no mark is
// needed.
func (x *identityIndex) remove(lo, hi uint64) {
	if x.n == 0 {
		return
	}
	mask := uint64(len(x.entries) - 1)
	hole := x.place(lo, hi)
	if x.entries[hole].person == 0 {
		return
	}
	x.n--
	for i := (hole + 1) & mask; x.entries[i].person != 0; i = (i + 1) & mask {
		// The entry at i may move to the hole unless its own place lies between.
		if home := x.entries[i].lo & mask; (i-home)&mask >= (i-hole)&mask {
			x.entries[hole] = x.entries[i]
			hole = i
		}
	}
	x.entries[hole] = identityEntry{}
}

func (x *identityIndex) each(f func(*identityEntry)) {
	for i := range x.entries {
		if x.entries[i].person != 0 {
			f(&x.entries[i])
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
