package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"
	"github.com/zeebo/xxh3"
)

// What lies on disk of a group's memberships, keys after 0x22 | group u16:
//
//	1                             the record: format u8 | last u64 | lost u64 |
//	                              list of (segment uvarint, phase u8, digest u64) |
//	                              list of (first u64, until ms u64, bytes u32) | crc
//	2 | segment u32 | high u16    format u8 | portable roaring bitmap | crc: the
//	                              members whose ordinal has these upper 16 bits
//	3 | first u64                 changes: format u8 | first u64 | list of run | crc
//
//	run = segment uvarint | flags u8 (1 entered) | cause u8 | at ms u64 |
//	      time ms u64 | list of ords, each as uvarint distance to the last
//
// The record and the bitmaps reflect the changes up to last; the changes behind
// it are applied to the bitmaps at start.

const (
	memberFormat = 1
	memberRecord = 1
	memberBits   = 2
	memberLog    = 3

	// Bitmaps are written after so many passes of the flusher (a minute), or after
	// so many changes: that bounds what a start applies.
	memberPasses  = 60
	memberChanges = 1 << 18

	// The log keeps seven days, and at most so many bytes a group.
	changesKept      UnixMsec = 7 * dayMsec
	changesKeptBytes          = 32 << 20
	changeSpanBytes           = 256 << 10
	changeSpanTime   UnixMsec = 3600 * 1000
	// A block holds the changes of one pass, or a part of them.
	changeBlockBytes = 1 << 20
)

func appendMemberKey(dst []byte, g GroupID, part byte) []byte {
	return append(binary.BigEndian.AppendUint16(append(dst, prefixMember), uint16(g)), part)
}

func appendMemberBitsKey(dst []byte, g GroupID, segment Name) []byte {
	return binary.BigEndian.AppendUint32(appendMemberKey(dst, g, memberBits), uint32(segment))
}

func appendChangesKey(dst []byte, g GroupID, first uint64) []byte {
	return binary.BigEndian.AppendUint64(appendMemberKey(dst, g, memberLog), first)
}

// appendMember appends the body of a MemberEffect:
// segment uvarint | flags u8 | cause u8 | at ms u64 | list of ords.
func appendMember(b []byte, m *MemberEffect) []byte {
	b = binary.AppendUvarint(b, uint64(m.Segment))
	b = append(appendBool(b, m.Entered), byte(m.Cause))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.At))
	return appendOrds(b, m.Ords)
}

func appendOrds(b []byte, ords []Ord) []byte {
	b = binary.AppendUvarint(b, uint64(len(ords)))
	var last Ord
	for _, o := range ords {
		b = binary.AppendUvarint(b, uint64(o-last))
		last = o
	}
	return b
}

func (d *effectDecoder) member(m *MemberEffect) {
	*m = MemberEffect{
		Segment: d.in.name(), Entered: d.in.flag(), Cause: MemberCause(d.in.u8()),
		At: UnixMsec(d.in.u64()),
	}
	n := d.in.count(1)
	d.in.check(n <= MaxMemberOrds)
	d.ords = d.ords[:0]
	var last uint64
	for range n {
		if d.in.bad {
			return
		}
		last += uint64(d.in.uvarint32())
		d.in.check(last < maxOrds)
		d.ords = append(d.ords, Ord(last))
	}
	m.Ords = d.ords
}

// encodeMembers puts what the pass has to write of the memberships into b: the
// new changes, and, when it is time, the bitmaps that have changed.
func (s *Store) encodeMembers(g *Group, b *pebble.Batch) error {
	st := g.mu.state
	m := &st.members
	if len(m.sets) == 0 && len(m.log) == 0 && !m.force {
		return nil
	}
	var errs []error
	for len(m.log) > 0 {
		var block []byte
		first := m.log[0].first
		block, size := m.takeBlock(block)
		s.flush.key = appendChangesKey(s.flush.key[:0], g.id, first)
		errs = append(errs, b.Set(s.flush.key, block, nil))
		m.span(first, size, st.high)
	}
	m.passes++
	if m.force || m.last != m.saved &&
		(m.passes >= memberPasses || m.last-m.saved >= memberChanges) {
		errs = append(errs, s.encodeBitmaps(g, b, m))
	}
	return errors.Join(errs...)
}

// takeBlock moves the oldest changes out of memory into a block.
func (m *memberships) takeBlock(block []byte) ([]byte, int) {
	le := binary.LittleEndian
	var runs []byte
	n := 0
	for n < len(m.log) && len(runs) < changeBlockBytes {
		e := &m.log[n]
		runs = binary.AppendUvarint(runs, uint64(e.segment))
		runs = append(appendBool(runs, e.entered), byte(e.cause))
		runs = le.AppendUint64(runs, uint64(e.at))
		runs = le.AppendUint64(runs, uint64(e.time))
		runs = appendOrds(runs, m.ords[e.from:e.from+e.n])
		n++
	}
	block = le.AppendUint64(append(block, memberFormat), m.log[0].first)
	block = append(binary.AppendUvarint(block, uint64(n)), runs...)
	last := &m.log[n-1]
	m.taken = last.first + uint64(last.n) - 1
	if n == len(m.log) {
		m.log, m.ords = m.log[:0], m.ords[:0]
		if cap(m.ords) > MaxMemberOrds {
			m.ords = nil
		}
	} else {
		m.log = append(m.log[:0], m.log[n:]...)
	}
	return sealRecord(block), len(block) + 4
}

// span notes that a block was added to the log.
func (m *memberships) span(first uint64, size int, now UnixMsec) {
	if n := len(m.spans); n > 0 {
		last := &m.spans[n-1]
		if last.bytes < changeSpanBytes && last.until/changeSpanTime == now/changeSpanTime {
			last.bytes += uint32(size)
			last.until = now
			return
		}
	}
	m.spans = append(m.spans, changeSpan{first, now, uint32(size)})
}

// encodeBitmaps puts the bitmaps that changed and the record into b, and drops
// what the log need not keep.
func (s *Store) encodeBitmaps(g *Group, b *pebble.Batch, m *memberships) error {
	var errs []error
	for _, n := range m.ended {
		from := appendMemberBitsKey(nil, g.id, n)
		errs = append(errs, b.DeleteRange(from, after(from), nil))
	}
	m.ended = m.ended[:0]
	for n, set := range m.sets {
		for high := range set.dirty {
			key := binary.BigEndian.AppendUint16(appendMemberBitsKey(nil, g.id, n), high)
			part := set.container(high)
			if part.IsEmpty() {
				errs = append(errs, b.Delete(key, nil))
				continue
			}
			bits, err := part.ToBytes()
			value := sealRecord(append([]byte{memberFormat}, bits...))
			errs = append(errs, err, b.Set(key, value, nil))
		}
		clear(set.dirty)
	}
	if lost := m.outdated(g.mu.state.high); lost > m.lost {
		m.lost = lost
		from, to := appendChangesKey(nil, g.id, 0), appendChangesKey(nil, g.id, lost+1)
		errs = append(errs, b.DeleteRange(from, to, nil))
	}
	m.saved, m.passes, m.force = m.last, 0, false
	value := sealRecord(m.appendRecord(nil))
	errs = append(errs, b.Set(appendMemberKey(nil, g.id, memberRecord), value, nil))
	return errors.Join(errs...)
}

// container returns the members with these upper 16 bits.
func (s *memberSet) container(high uint16) *roaring.Bitmap {
	part := roaring.New()
	part.AddRange(uint64(high)<<16, (uint64(high)+1)<<16)
	part.And(s.bitmap)
	return part
}

// outdated drops the spans that need not be kept, and returns the last change
// of them.
func (m *memberships) outdated(now UnixMsec) uint64 {
	var bytes int
	for _, s := range m.spans {
		bytes += int(s.bytes)
	}
	n := 0
	for n < len(m.spans)-1 &&
		(m.spans[n].until < now-changesKept || bytes > changesKeptBytes) {
		bytes -= int(m.spans[n].bytes)
		n++
	}
	if n == 0 {
		return m.lost
	}
	m.spans = append(m.spans[:0], m.spans[n:]...)
	return m.spans[0].first - 1
}

func (m *memberships) appendRecord(dst []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint64(append(dst, memberFormat), m.last)
	dst = le.AppendUint64(dst, m.lost)
	dst = binary.AppendUvarint(dst, uint64(len(m.sets)))
	for n, set := range m.sets {
		dst = binary.AppendUvarint(dst, uint64(n))
		dst = le.AppendUint64(append(dst, byte(set.phase)), set.digest)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.spans)))
	for _, s := range m.spans {
		dst = le.AppendUint64(dst, s.first)
		dst = le.AppendUint64(dst, uint64(s.until))
		dst = le.AppendUint32(dst, s.bytes)
	}
	return dst
}

func (m *memberships) loadRecord(value []byte) error {
	b, err := checkedValue(value, memberFormat)
	if err != nil {
		return fmt.Errorf("memberships: %w", err)
	}
	in := effectReader{b: b[1:]}
	m.last, m.lost = in.u64(), in.u64()
	for range in.count(10) {
		n := in.name()
		set := &memberSet{
			bitmap: roaring.New(), dirty: make(map[uint16]struct{}),
			phase: TrackPhase(in.u8()), digest: in.u64(),
		}
		in.check(n != 0 && m.sets[n] == nil && set.phase > TrackEnded && set.phase <= TrackChanged)
		m.sets[n] = set
	}
	for range in.count(20) {
		m.spans = append(m.spans, changeSpan{in.u64(), UnixMsec(in.u64()), in.u32()})
	}
	if err := in.end(); err != nil {
		return fmt.Errorf("memberships: %w", err)
	}
	m.saved, m.taken = m.last, m.last
	return nil
}

// loadMembers brings the memberships of a group back, as of its record.
func (in loader) loadMembers(g GroupID, st *state) error {
	m := &st.members
	value, err := in.get(appendMemberKey(nil, g, memberRecord))
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	default:
		if err := m.loadRecord(value); err != nil {
			return err
		}
	}
	prefix := appendMemberKey(nil, g, memberBits)
	err = in.scan(prefix, after(prefix), func(key, value []byte) error {
		if len(key) != 10 {
			return fmt.Errorf("%w: key %x of members", ErrCorrupt, key)
		}
		set := m.sets[Name(binary.BigEndian.Uint32(key[4:]))]
		if set == nil {
			return fmt.Errorf("%w: members %x of no segment", ErrCorrupt, key)
		}
		return set.load(binary.BigEndian.Uint16(key[8:]), value)
	})
	if err != nil {
		return err
	}
	err = in.scan(appendChangesKey(nil, g, m.saved+1), after(appendMemberKey(nil, g, memberLog)),
		func(_, value []byte) error { return m.loadChanges(value, st.nextOrd) })
	for _, set := range m.sets {
		m.members += int64(set.bitmap.GetCardinality())
	}
	return err
}

func (s *memberSet) load(high uint16, value []byte) error {
	b, err := checkedValue(value, memberFormat)
	if err != nil {
		return fmt.Errorf("members: %w", err)
	}
	part := roaring.New()
	bits := slices.Clone(b[1:])
	if n, err := part.FromBuffer(bits); err != nil || n != int64(len(bits)) ||
		part.Validate() != nil || part.IsEmpty() ||
		part.Minimum()>>16 != uint32(high) || part.Maximum()>>16 != uint32(high) {
		return fmt.Errorf("%w: bitmap of members", ErrCorrupt)
	}
	s.bitmap.Or(part)
	return nil
}

// loadChanges applies a block of the log to the bitmaps.
func (m *memberships) loadChanges(value []byte, next Ord) error {
	first := m.last + 1
	size, until := len(value), UnixMsec(0)
	err := eachChange(value, func(r *changeRun, o Ord) bool {
		until = r.time
		if r.number != m.last+1 || o >= next {
			return false
		}
		m.last++
		if set := m.sets[r.segment]; set != nil {
			set.flip(o, r.entered)
		}
		return true
	})
	if err != nil {
		return err
	}
	if m.last < first {
		return fmt.Errorf("%w: changes behind %d", ErrCorrupt, m.last)
	}
	m.taken = m.last
	m.span(first, size, until)
	return nil
}

// changeRun is one run of changes of a block; number is that of the change at
// hand.
type changeRun struct {
	number   uint64
	segment  Name
	entered  bool
	cause    MemberCause
	at, time UnixMsec
}

// eachChange calls f for every change of a block, until f returns false, which
// is ErrCorrupt.
func eachChange(value []byte, f func(r *changeRun, o Ord) bool) error {
	b, err := checkedValue(value, memberFormat)
	if err != nil {
		return fmt.Errorf("changes: %w", err)
	}
	in := effectReader{b: b[1:]}
	r := changeRun{number: in.u64()}
	for range in.count(20) {
		r.segment, r.entered, r.cause = in.name(), in.flag(), MemberCause(in.u8())
		r.at, r.time = UnixMsec(in.u64()), UnixMsec(in.u64())
		in.check(r.segment != 0 && r.cause >= CauseChange && r.cause <= CauseEnded)
		var last uint64
		for range in.count(1) {
			last += uint64(in.uvarint32())
			in.check(last < maxOrds)
			if in.bad {
				break
			}
			if !f(&r, Ord(last)) {
				return fmt.Errorf("%w: change %d out of place", ErrCorrupt, r.number)
			}
			r.number++
		}
	}
	if err := in.end(); err != nil {
		return fmt.Errorf("changes: %w", err)
	}
	return nil
}

// sum is the memberships' share of the checksum.
func (m *memberships) sum() uint64 {
	le := binary.LittleEndian
	var sum uint64
	if m.last > 0 {
		sum = xxh3.Hash(append(le.AppendUint64(nil, m.last), 'n'))
	}
	for n, set := range m.sets {
		b := le.AppendUint32([]byte{'m', byte(set.phase)}, uint32(n))
		b = le.AppendUint64(b, set.digest)
		set.bitmap.Iterate(func(o uint32) bool {
			b = le.AppendUint32(b, o)
			return true
		})
		sum += xxh3.Hash(b)
	}
	return sum
}

func (m *memberships) check(next Ord) error {
	var members int64
	for n, set := range m.sets {
		members += int64(set.bitmap.GetCardinality())
		if !set.bitmap.IsEmpty() && set.bitmap.Maximum() >= uint32(next) {
			return fmt.Errorf("%w: segment %d has a member past the last ordinal", ErrCorrupt, n)
		}
	}
	if members != m.members {
		return fmt.Errorf("%w: %d members, counted %d", ErrCorrupt, m.members, members)
	}
	return nil
}
