package storage

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The meta of a group is what belongs to no person, in little-endian:
//
//	format u8 | 0 u8 | group u16 | frame u64 | last person u64 | next ord u32 |
//	last reservation u64 | high-water time i64 |
//	floors u8 × (frame u64 | time u32) | lost statistics u64 |
//	rows u32 × (offer u32 | treatment u32 | variant u32 | what u32 | n u64 | value f64) |
//	totals u32 × (cap u32 | dim u32 | window u32 | confirmed i64) |
//	incidents u8 × (frame u64 | epoch u32 | synced i64 | high i64 | known u64) |
//	blocks u32 × (cap u32 | dim u32 | window u32 | allowed i64 | drawn i64 | burnt i64) |
//	blind u32 | CRC32C u32
//
// Format 1 has no blocks, and without incidents their count is left out as well.
// Format 2 has both, and blind only format 3 has: see Store.Blind.
const (
	metaFormat    = 3
	metaPlain     = 1
	metaBlocks    = 2
	metaStatsRow  = 32
	metaTotalsRow = 20
)

// appendMeta appends the group's meta. Frame is the last one applied: what
// replay skips for the group. Keys and claims taken with takeDedup and
// takeClaims belong in the same batch.
func (s *state) appendMeta(dst []byte, frame uint64) []byte {
	le, at := binary.LittleEndian, len(dst)
	format := byte(metaPlain)
	switch {
	case s.blind != 0:
		format = metaFormat
	case !s.share.blocks.empty():
		format = metaBlocks
	}
	dst = append(dst, format, 0)
	dst = le.AppendUint16(dst, uint16(s.group))
	dst = le.AppendUint64(dst, frame)
	dst = le.AppendUint64(dst, uint64(s.person))
	dst = le.AppendUint32(dst, uint32(s.nextOrd))
	dst = le.AppendUint64(dst, s.reserved)
	dst = le.AppendUint64(dst, uint64(s.high))
	dst = append(dst, byte(s.floors.n))
	for _, f := range s.floors.set[:s.floors.n] {
		dst = le.AppendUint64(dst, f.frame)
		dst = le.AppendUint32(dst, uint32(f.at))
	}
	dst = le.AppendUint64(dst, s.stats.lost)
	dst = le.AppendUint32(dst, uint32(s.stats.rows))
	s.stats.each(func(k StatsKey, r statsRow) {
		dst = appendStatsKey(dst, k)
		dst = le.AppendUint64(dst, r.n)
		dst = le.AppendUint64(dst, math.Float64bits(r.value))
	})
	dst = le.AppendUint32(dst, uint32(len(s.share.confirmed)))
	for k, n := range s.share.confirmed {
		dst = appendTotalKey(dst, k)
		dst = le.AppendUint64(dst, uint64(n))
	}
	if len(s.incidents) > 0 || format != metaPlain {
		dst = s.incidents.append(dst)
	}
	dst = s.share.blocks.append(dst)
	if format == metaFormat {
		if s.share.blocks.empty() {
			dst = le.AppendUint32(dst, 0)
		}
		dst = le.AppendUint32(dst, uint32(s.blind))
	}
	return le.AppendUint32(dst, checkSum(dst[at:]))
}

func appendStatsKey(dst []byte, k StatsKey) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, uint32(k.Offer))
	dst = le.AppendUint32(dst, uint32(k.Treatment))
	dst = le.AppendUint32(dst, uint32(k.Variant))
	return le.AppendUint32(dst, uint32(k.What))
}

func appendTotalKey(dst []byte, k TotalKey) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, uint32(k.Cap))
	dst = le.AppendUint32(dst, k.Dim)
	return le.AppendUint32(dst, k.Window)
}

// loadMeta enters what appendMeta wrote into an empty state. After an error the
// state is of no use.
func (s *state) loadMeta(value []byte) error {
	b, err := checkedValue(value, metaFormat)
	if err != nil {
		return fmt.Errorf("meta: %w", err)
	}
	r := reader{b: b}
	format := r.byte()
	zero, group := r.byte(), GroupID(r.u16())
	s.metaFrame = r.u64()
	s.person = PersonID(r.u64())
	s.nextOrd = Ord(r.u32())
	s.reserved = r.u64()
	s.high = UnixMsec(r.u64())
	floors := int(r.byte())
	if zero != 0 || group != s.group || floors > len(s.floors.set) || s.nextOrd > maxOrds {
		return fmt.Errorf("meta of group %d: header: %w", s.group, ErrCorrupt)
	}
	for i := range floors {
		s.floors.set[i] = floorMark{r.u64(), UnixSec(r.u32())}
	}
	s.floors.n = floors
	s.stats.lost = r.u64()
	rows := int64(r.u32())
	if rows > statsMax || rows*metaStatsRow > int64(len(r.b)) {
		return fmt.Errorf("meta of group %d: statistics: %w", s.group, ErrCorrupt)
	}
	for range rows {
		k := StatsKey{Name(r.u32()), Name(r.u32()), Name(r.u32()), Name(r.u32())}
		*s.stats.at(k) = statsRow{r.u64(), math.Float64frombits(r.u64())}
	}
	totals := int64(r.u32())
	if totals*metaTotalsRow > int64(len(r.b)) {
		return fmt.Errorf("meta of group %d: totals: %w", s.group, ErrCorrupt)
	}
	for range totals {
		k := TotalKey{CounterKey{Name(r.u32()), r.u32()}, r.u32()}
		s.share.confirmed[k] = int64(r.u64())
	}
	whole := s.incidents.load(&r) &&
		(format == metaPlain || s.share.blocks.load(&r, format == metaFormat))
	if format == metaFormat {
		s.blind = UnixSec(r.u32())
		whole = whole && s.blind != 0
	}
	if r.bad || !whole || len(r.b) != 0 || int64(s.stats.rows) != rows ||
		int64(len(s.share.confirmed)) != totals {
		return fmt.Errorf("meta of group %d: length: %w", s.group, ErrCorrupt)
	}
	return nil
}
