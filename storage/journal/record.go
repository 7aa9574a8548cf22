package journal

import (
	"encoding/binary"
	"hash/crc32"
)

// Sizes of the carrier.
const (
	// SlotSize is the bytes of one slot. A record fills exactly one.
	SlotSize = 256
	// MaxPayload bounds the caller's part of a record: a longer one does not go
	// into the journal. It holds a reservation of a dozen counters.
	MaxPayload = SlotSize - recordHead

	pageSize   = 4096
	recordHead = 80
	noGroup    = 1<<16 - 1 // of a TIME record
)

// Kind is the kind of a record. The number is stored; it never changes.
type Kind uint8

// Kinds of records.
const (
	Reserve Kind = 1 // uses are held
	Release Kind = 2 // held uses are given back
	Time    Kind = 3 // nothing but times: it keeps the high-water ahead
	Part    Kind = 4 // a part of what was decided with reservations
	Grant   Kind = 5 // uses are held, and what was decided with them
)

// holds tells whether a record of the kind holds uses.
func (k Kind) holds() bool { return k == Reserve || k == Grant }

// Msec is server time in milliseconds since 1970-01-01 UTC.
type Msec int64

// Record is one entry of the journal, in little-endian:
//
//	crc u32 | payload length u8 | kind u8 | group u16 | epoch u32 | ord u32 |
//	number u64 | frame u64 | person u64 | time i64 | synced i64 | ahead i64 |
//	expires u32 | 0 u32 | id u64 | payload, at most 176
//
// The CRC32C covers the bytes behind it up to the end of the payload and is
// salted with the store's id, so that a record of another store is no record.
type Record struct {
	Kind    Kind
	Group   uint16
	Epoch   uint32
	Ord     uint32 // the owner: a person of the group
	Number  uint64 // rises by one; names the slot
	Frame   uint64 // of the group: holds the same effect
	Person  uint64
	Time    Msec   // of the grant
	Synced  Msec   // start of the last sync that had completed
	Ahead   Msec   // high-water, ahead of Time
	Expires uint32 // of the reservation, unix seconds, rounded up; 0 = none
	ID      uint64 // number of the reservation inside its group; 0 = none
	Payload []byte
}

// put writes r into a slot, its checksum last; table is that of Castagnoli.
func (r *Record) put(slot []byte, salt uint32, table *crc32.Table) {
	le := binary.LittleEndian
	slot[4], slot[5] = byte(len(r.Payload)), byte(r.Kind)
	le.PutUint16(slot[6:], r.Group)
	le.PutUint32(slot[8:], r.Epoch)
	le.PutUint32(slot[12:], r.Ord)
	le.PutUint64(slot[16:], r.Number)
	le.PutUint64(slot[24:], r.Frame)
	le.PutUint64(slot[32:], r.Person)
	le.PutUint64(slot[40:], uint64(r.Time))
	le.PutUint64(slot[48:], uint64(r.Synced))
	le.PutUint64(slot[56:], uint64(r.Ahead))
	le.PutUint32(slot[64:], r.Expires)
	le.PutUint32(slot[68:], 0)
	le.PutUint64(slot[72:], r.ID)
	n := copy(slot[recordHead:], r.Payload)
	le.PutUint32(slot, crc32.Update(salt, table, slot[4:recordHead+n]))
}

// parse reads a slot; false when it holds no whole record. The payload aliases
// the slot.
func parse(slot []byte, salt uint32, trusting bool) (r Record, ok bool) {
	le := binary.LittleEndian
	n := int(slot[4])
	if n > MaxPayload {
		return r, false
	}
	if !trusting && le.Uint32(slot) != sum(salt, slot[4:recordHead+n]) {
		return r, false
	}
	r = Record{
		Kind: Kind(slot[5]), Group: le.Uint16(slot[6:]), Epoch: le.Uint32(slot[8:]),
		Ord: le.Uint32(slot[12:]), Number: le.Uint64(slot[16:]), Frame: le.Uint64(slot[24:]),
		Person: le.Uint64(slot[32:]), Time: Msec(le.Uint64(slot[40:])),
		Synced: Msec(le.Uint64(slot[48:])), Ahead: Msec(le.Uint64(slot[56:])),
		Expires: le.Uint32(slot[64:]), ID: le.Uint64(slot[72:]),
		Payload: slot[recordHead : recordHead+n : recordHead+n],
	}
	whole := r.Kind >= Reserve && r.Kind <= Grant && r.Number != 0 && r.Epoch != 0
	return r, whole && (trusting || le.Uint32(slot[68:]) == 0)
}

func sum(salt uint32, b []byte) uint32 {
	return crc32.Update(salt, crc32.MakeTable(crc32.Castagnoli), b)
}

func saltOf(id [16]byte) uint32 { return sum(0, id[:]) }
