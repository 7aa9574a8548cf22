package engine

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"

	"tact/storage"
)

// recordVersion is the format of a decision record, engineVersion that of the
// decision's meaning: equal inputs give equal bytes under one engineVersion. Both
// are stored.
const (
	recordVersion = 1
	engineVersion = 1

	recordPages  = 1 // flag: there are further pages
	recordScoped = 2 // flag: an identity or device follows
)

// Bounds of a record: a decoder refuses more.
const (
	maxRecordSlots = 64
	maxRecordItems = 64 * 20
	maxRecordWords = 1 << 12
)

// errRecord reports bytes that are not a decision record.
var errRecord = errors.New("broken decision record")

// record is what a decision read and what it chose.
// It holds numbers only; the values that the text used stand beside it, sealed
// (storage.DecisionEffect.Personal). Its bytes, integers as uvarints unless a
// width is given:
//
//	version u8 | flags u8 | engine version | revision | state frame | seed | body hash u32 |
//	layout of the bits | identity u32, device u32 with flag 2 |
//	n used user words: mask u8, then 8 bytes each | more pages | n request words, uvarints |
//	n assignments: variant… |
//	n capped: cap, offer, until u32 … | n counts: cap, dimension, uses known … |
//	n slots: key hash u32, placement, policy, kind u8, reason u8, items |
//	per item: offer, treatment, rank, channel u8, class u8, score f64, propensity f64,
//	          probability f64, life, reservation epoch, reservation number
//
// With recordPages in the flags, and only then, more pages are there: a set of
// pages, bit k-1 for page k, then of each the used words: mask u8, 8 bytes each.
type record struct {
	Revision   uint32
	StateFrame uint64 // the last frame applied to the person before this decision
	BodyHash   uint32
	BitsRev    uint32
	Identity   uint32    // what caps by identity counted by; 0 = nothing
	Device     uint32    // and by device
	UserWords  [8]uint64 // page 0 of the predicate bits; zero where unused
	Pages      uint32    // further pages that were read, bit k for page k
	More       []uint64  // their words, 8 a page
	Request    []uint64  // request words
	Variants   []storage.Name
	Seed       uint64 // of random draws; 0 = none were made
	Capped     []recordCapped
	Counts     []recordCount
	Slots      []recordSlot
	Items      []recordItem
}

type recordCapped struct {
	Cap, Offer storage.Name
	Until      storage.UnixSec
}

// recordCount is how many uses of a winner's counter were known, confirmed and
// pending, when the decision was made.
type recordCount struct {
	Key storage.CounterKey
	N   int
}

type recordSlot struct {
	KeyHash   uint32
	Placement storage.Name
	Policy    storage.Name
	Kind      uint8
	Reason    uint8
	Count     int
}

type recordItem struct {
	Offer, Treatment               storage.Name
	Rank                           int
	Channel, Class                 uint8
	Score, Propensity, Probability float64
	Life                           uint32 // seconds from the decision to expires_at
	Reservation                    storage.ReservationID
}

// append writes r to dst. It does not allocate when dst has room.
func (r *record) append(dst []byte) []byte {
	u := binary.AppendUvarint
	flags := uint8(0)
	if r.Pages != 0 {
		flags = recordPages
	}
	if r.Identity|r.Device != 0 {
		flags |= recordScoped
	}
	dst = append(dst, recordVersion, flags)
	dst = u(dst, engineVersion)
	dst = u(dst, uint64(r.Revision))
	dst = u(dst, r.StateFrame)
	dst = u(dst, r.Seed)
	dst = binary.BigEndian.AppendUint32(dst, r.BodyHash)
	dst = u(dst, uint64(r.BitsRev))
	if flags&recordScoped != 0 {
		dst = binary.BigEndian.AppendUint32(dst, r.Identity)
		dst = binary.BigEndian.AppendUint32(dst, r.Device)
	}
	dst = appendRecordPage(dst, r.UserWords[:])
	if r.Pages != 0 {
		dst = u(dst, uint64(r.Pages>>1))
		for i := 0; i < len(r.More); i += storage.PageWords {
			dst = appendRecordPage(dst, r.More[i:i+storage.PageWords])
		}
	}
	dst = u(dst, uint64(len(r.Request)))
	for _, w := range r.Request {
		dst = u(dst, w)
	}
	dst = u(dst, uint64(len(r.Variants)))
	for _, v := range r.Variants {
		dst = u(dst, uint64(v))
	}
	dst = u(dst, uint64(len(r.Capped)))
	for _, c := range r.Capped {
		dst = u(u(dst, uint64(c.Cap)), uint64(c.Offer))
		dst = binary.BigEndian.AppendUint32(dst, uint32(c.Until))
	}
	dst = u(dst, uint64(len(r.Counts)))
	for _, c := range r.Counts {
		dst = u(u(u(dst, uint64(c.Key.Cap)), uint64(c.Key.Dim)), uint64(c.N))
	}
	return r.appendSlots(dst)
}

// appendRecordPage appends the words of one page that are not 0.
func appendRecordPage(dst []byte, words []uint64) []byte {
	var mask uint8
	for i, w := range words {
		if w != 0 {
			mask |= 1 << i
		}
	}
	dst = append(dst, mask)
	for _, w := range words {
		if w != 0 {
			dst = binary.BigEndian.AppendUint64(dst, w)
		}
	}
	return dst
}

func (r *record) appendSlots(dst []byte) []byte {
	u := binary.AppendUvarint
	dst = u(dst, uint64(len(r.Slots)))
	next := 0
	for _, s := range r.Slots {
		dst = binary.BigEndian.AppendUint32(dst, s.KeyHash)
		dst = u(u(dst, uint64(s.Placement)), uint64(s.Policy))
		dst = append(dst, s.Kind, s.Reason)
		dst = u(dst, uint64(s.Count))
		for _, it := range r.Items[next : next+s.Count] {
			dst = u(u(dst, uint64(it.Offer)), uint64(it.Treatment))
			dst = u(dst, uint64(it.Rank))
			dst = append(dst, it.Channel, it.Class)
			dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(it.Score))
			dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(it.Propensity))
			dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(it.Probability))
			dst = u(dst, uint64(it.Life))
			dst = u(u(dst, uint64(it.Reservation.Epoch)), it.Reservation.Number)
		}
		next += s.Count
	}
	return dst
}

// recordReader walks record bytes; bad is set at the first fault and stays.
type recordReader struct {
	b   []byte
	bad bool
}

func (r *recordReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *recordReader) u32v() uint32 {
	v := r.uvarint()
	if v > math.MaxUint32 {
		r.bad = true
	}
	return uint32(v)
}

func (r *recordReader) count(limit int) int {
	v := r.uvarint()
	if v > uint64(limit) || v > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(v)
}

func (r *recordReader) take(n int) []byte {
	if len(r.b) < n {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *recordReader) u8() uint8   { return r.take(1)[0] }
func (r *recordReader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *recordReader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

// page reads the words of one page.
func (r *recordReader) page() (words [storage.PageWords]uint64) {
	for mask := r.u8(); mask != 0; mask &= mask - 1 {
		words[bits.TrailingZeros8(mask)] = r.u64()
	}
	return words
}

// decode reads b into r, reusing its slices. It errors with errRecord.
func (r *record) decode(b []byte) error {
	rd := &recordReader{b: b}
	version, flags := rd.u8(), rd.u8()
	if version != recordVersion || flags&^(recordPages|recordScoped) != 0 {
		return errRecord
	}
	*r = record{
		More: r.More[:0], Request: r.Request[:0], Variants: r.Variants[:0], Capped: r.Capped[:0],
		Counts: r.Counts[:0], Slots: r.Slots[:0], Items: r.Items[:0],
	}
	if rd.uvarint() != engineVersion {
		return errRecord
	}
	r.Revision = rd.u32v()
	r.StateFrame = rd.uvarint()
	r.Seed = rd.uvarint()
	r.BodyHash = rd.u32()
	r.BitsRev = rd.u32v()
	if flags&recordScoped != 0 {
		r.Identity, r.Device = rd.u32(), rd.u32()
	}
	r.UserWords = rd.page()
	if flags&recordPages != 0 {
		set := rd.uvarint()
		if set == 0 || set >= 1<<(storage.MaxPages-1) {
			return errRecord
		}
		r.Pages = uint32(set << 1)
		for range bits.OnesCount32(r.Pages) {
			page := rd.page()
			r.More = append(r.More, page[:]...)
		}
	}
	for range rd.count(maxRecordWords) {
		r.Request = append(r.Request, rd.uvarint())
	}
	for range rd.count(maxRecordWords) {
		r.Variants = append(r.Variants, storage.Name(rd.u32v()))
	}
	for range rd.count(maxRecordItems) {
		r.Capped = append(r.Capped, recordCapped{
			Cap: storage.Name(rd.u32v()), Offer: storage.Name(rd.u32v()),
			Until: storage.UnixSec(rd.u32()),
		})
	}
	for range rd.count(maxRecordItems) {
		key := storage.CounterKey{Cap: storage.Name(rd.u32v()), Dim: rd.u32v()}
		r.Counts = append(r.Counts, recordCount{key, int(rd.u32v())})
	}
	for range rd.count(maxRecordSlots) {
		r.decodeSlot(rd)
	}
	if rd.bad || len(rd.b) != 0 {
		return errRecord
	}
	return nil
}

func (r *record) decodeSlot(rd *recordReader) {
	s := recordSlot{
		KeyHash: rd.u32(), Placement: storage.Name(rd.u32v()), Policy: storage.Name(rd.u32v()),
		Kind: rd.u8(), Reason: rd.u8(),
	}
	s.Count = rd.count(maxRecordItems)
	for range s.Count {
		r.Items = append(r.Items, recordItem{
			Offer: storage.Name(rd.u32v()), Treatment: storage.Name(rd.u32v()),
			Rank: int(rd.u32v()), Channel: rd.u8(), Class: rd.u8(),
			Score: math.Float64frombits(rd.u64()), Propensity: math.Float64frombits(rd.u64()),
			Probability: math.Float64frombits(rd.u64()), Life: rd.u32v(),
			Reservation: storage.ReservationID{Epoch: rd.u32v(), Number: rd.uvarint()},
		})
	}
	r.Slots = append(r.Slots, s)
}
