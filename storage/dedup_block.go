package storage

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

const (
	dedupHeader    = 8
	dedupPairBytes = 12
	dedupFormat    = 2
	dedupPlain     = 1 // the format of blocks that may hold keys without a person's
)

// A dedupBlock is the stored form of some keys of one day.
type dedupBlock struct {
	day   uint16
	value []byte
}

// takeDedup returns the keys entered since the last call as one block a day.
// They belong in the batch of the meta that covers them. A block is, in
// little-endian:
//
//	format u8 | 0 u8 | day u16 | n u32 | n × (key u64 | body u32) rising | CRC32C u32
//
// Format 1 says that there may be keys of an older version among them.
func (s *state) takeDedup() []dedupBlock {
	var out []dedupBlock
	for i := range s.dedup.tables {
		d := &s.dedup.tables[i]
		if len(d.pending) == 0 {
			continue
		}
		slices.SortFunc(d.pending, func(a, b dedupEntry) int {
			if a.key < b.key {
				return -1
			}
			return 1
		})
		b := make([]byte, 0, dedupHeader+len(d.pending)*dedupPairBytes+4)
		format := byte(dedupFormat)
		if d.plain {
			format = dedupPlain
		}
		b = append(b, format, 0)
		b = binary.LittleEndian.AppendUint16(b, d.day)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(d.pending)))
		for _, e := range d.pending {
			b = binary.LittleEndian.AppendUint64(b, e.key)
			b = binary.LittleEndian.AppendUint32(b, e.body)
		}
		b = binary.LittleEndian.AppendUint32(b, checkSum(b))
		out = append(out, dedupBlock{d.day, b})
		d.pending = nil
	}
	return out
}

const (
	// dedupLoadPairs is how many keys a dedupLoad keeps: 32 MiB, and as many again
	// while they are put in order.
	dedupLoadPairs = 2 << 20
	// dedupLoadPart keys are entered together, about: they and the segments they lie
	// in fit the cache of a processor.
	dedupLoadPart     = 4096
	dedupLoadPartBits = 10
)

// A dedupLoad enters the blocks of a group, many at a time: a segment of the table
// is then made longer once. Keys whose upper bits agree are entered together, so that
// a segment is in the cache while its keys are.
type dedupLoad struct {
	state  *state
	pairs  []dedupPair // as they come
	sorted []dedupPair // by their upper bits, those that agree as they came
	ends   []int       // in sorted, by the upper bits
	fill   []uint32    // bytes by segment of a part
}

type dedupPair struct {
	key  uint64
	body uint32
	day  uint16
}

// begin begins with a group. A dedupLoad may be used for one after the other.
func (l *dedupLoad) begin(s *state) { l.state, l.pairs = s, l.pairs[:0] }

// add takes a block, unless it is too old. The group's meta was loaded before.
func (l *dedupLoad) add(value []byte) error {
	b, err := checkedValue(value, dedupFormat)
	if err != nil {
		return fmt.Errorf("dedup block: %w", err)
	}
	if len(b) < dedupHeader || b[1] != 0 ||
		int64(len(b)) != dedupHeader+int64(le32(b[4:]))*dedupPairBytes {
		return fmt.Errorf("dedup block: length: %w", ErrCorrupt)
	}
	var last uint64
	for at := dedupHeader; at < len(b); at += dedupPairBytes {
		key := le64(b[at:])
		if key <= last {
			return fmt.Errorf("dedup block: order: %w", ErrCorrupt)
		}
		last = key
	}
	t := &l.state.dedup
	day, today := le16(b[2:]), uint16(l.state.high/dayMsec)
	if day > today {
		return fmt.Errorf("dedup block: of day %d, the group's last is %d: %w",
			day, today, ErrCorrupt)
	}
	if t.expire(today); day < t.low {
		return nil
	}
	n := (len(b) - dedupHeader) / dedupPairBytes
	if len(l.pairs)+n > dedupLoadPairs {
		if err := l.finish(); err != nil {
			return err
		}
	}
	for at := dedupHeader; at < len(b); at += dedupPairBytes {
		l.pairs = append(l.pairs, dedupPair{le64(b[at:]), le32(b[at+8:]), day})
	}
	if b[0] == dedupPlain {
		t.on(day).plain = true
	}
	return nil
}

// finish enters what add has kept. A key may lie in two blocks: a pass of the flusher
// that a reload of the group overtook has written what the next one writes again.
func (l *dedupLoad) finish() error {
	if len(l.pairs) == 0 {
		return nil
	}
	l.state.dedup.reserve(len(l.pairs))
	l.sort()
	from := 0
	for _, end := range l.ends {
		if err := l.enter(l.sorted[from:end]); err != nil {
			return err
		}
		from = end
	}
	l.pairs = l.pairs[:0]
	return nil
}

// sort puts the pairs into parts by the upper bits of their keys, no more of them than
// tell segments apart.
func (l *dedupLoad) sort() {
	n := len(l.pairs)
	upper := min(bits.Len(uint(n/dedupLoadPart)), dedupLoadPartBits, l.state.dedup.bits)
	l.ends = slices.Grow(l.ends[:0], 1<<upper)[:1<<upper]
	clear(l.ends)
	for i := range l.pairs {
		l.ends[l.pairs[i].key>>(64-upper)]++
	}
	from := 0
	for i, n := range l.ends {
		l.ends[i] = from
		from += n
	}
	l.sorted = slices.Grow(l.sorted[:0], n)[:n]
	for i := range l.pairs {
		end := &l.ends[l.pairs[i].key>>(64-upper)]
		l.sorted[*end] = l.pairs[i]
		*end++
	}
}

// enter enters a part, whose keys are all there are of their segments.
func (l *dedupLoad) enter(part []dedupPair) error {
	if len(part) == 0 {
		return nil
	}
	t := &l.state.dedup
	lo, hi := math.MaxInt, 0
	for i := range part {
		number := t.number(part[i].key)
		lo, hi = min(lo, number), max(hi, number)
	}
	l.fill = slices.Grow(l.fill[:0], hi+1-lo)[:hi+1-lo]
	clear(l.fill)
	for i := range part {
		l.fill[t.number(part[i].key)-lo]++
	}
	for i, more := range l.fill {
		if more == 0 {
			continue
		}
		if err := t.room(); err != nil {
			return err
		}
		b, err := t.grow(t.at(lo+i), int(more))
		if err != nil {
			return fmt.Errorf("idempotency keys: %w", err)
		}
		l.fill[i] = uint32(len(b)) - more*dedupPlace
	}
	twice := l.put(part, lo)
	t.n += len(part) - twice
	if twice > 0 {
		return l.trim(lo)
	}
	return nil
}

// put puts the pairs where there is room for them, and counts those whose key is
// there. lo is the first segment of the part.
func (l *dedupLoad) put(part []dedupPair, lo int) (twice int) {
	t := &l.state.dedup
	for i := range part {
		p := &part[i]
		number := t.number(p.key)
		b, fill := t.slab.get(*t.at(number)), &l.fill[number-lo]
		if t.holds(b[:*fill], p.key) {
			twice++
			continue
		}
		putDedup(b[*fill:], dedupWord(p.key, p.day), p.body)
		*fill += dedupPlace
	}
	return twice
}

// holds tells whether entries of a segment have a key of a day that is known.
func (t *dedupTable) holds(b []byte, key uint64) bool {
	for ; len(b) >= dedupPlace; b = b[dedupPlace:] {
		if w := le64(b); w<<dedupMinBits == key<<dedupMinBits {
			if _, ok := t.dayOf(w); ok {
				return true
			}
		}
	}
	return false
}

// trim gives back the room of keys that were there.
func (l *dedupLoad) trim(lo int) error {
	t := &l.state.dedup
	for i, filled := range l.fill {
		ref := t.at(lo + i)
		b := t.slab.get(*ref)
		if filled == 0 || int(filled) == len(b) { // 0: nothing was entered
			continue
		}
		t.body = append(t.body[:0], b[:filled]...)
		before := t.slab.used
		r, err := t.slab.put(*ref, t.body)
		if err != nil {
			return fmt.Errorf("idempotency keys: %w", err)
		}
		*ref = r
		t.used += t.slab.used - before
	}
	return nil
}

// dedupSince returns the oldest day whose keys are still known at now.
func dedupSince(now UnixMsec) uint16 {
	day := now / dayMsec
	return uint16(max(0, day-dedupDays+1))
}
