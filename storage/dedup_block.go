package storage

import (
	"encoding/binary"
	"fmt"
	"slices"
)

const (
	dedupHeader = 8
	dedupPair   = 12
	dedupFormat = 2
	dedupPlain  = 1 // the format of blocks that may hold keys without a person's
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
		b := make([]byte, 0, dedupHeader+len(d.pending)*dedupPair+4)
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

// dedupLoadBytes is how many bytes of blocks a dedupLoad keeps.
const dedupLoadBytes = 16 << 20

// A dedupLoad enters the blocks of a group, many at a time: a segment of the table
// is then made longer once.
type dedupLoad struct {
	state *state
	pairs []byte // key u64 | body u32
	runs  []dedupRun
	fill  []uint32 // by segment
}

// A dedupRun says of which day the next pairs are.
type dedupRun struct {
	day   uint16
	bytes int
}

// add takes a block, unless it is too old. The group's meta was loaded before.
func (l *dedupLoad) add(value []byte) error {
	b, err := checkedValue(value, dedupFormat)
	if err != nil {
		return fmt.Errorf("dedup block: %w", err)
	}
	if len(b) < dedupHeader || b[1] != 0 ||
		int64(len(b)) != dedupHeader+int64(le32(b[4:]))*dedupPair {
		return fmt.Errorf("dedup block: length: %w", ErrCorrupt)
	}
	var last uint64
	for at := dedupHeader; at < len(b); at += dedupPair {
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
	if len(l.pairs)+len(b) > dedupLoadBytes {
		if err := l.finish(); err != nil {
			return err
		}
	}
	l.pairs = append(l.pairs, b[dedupHeader:]...)
	l.runs = append(l.runs, dedupRun{day, len(b) - dedupHeader})
	if b[0] == dedupPlain {
		t.on(day).plain = true
	}
	return nil
}

// finish enters what add has kept. A key may lie in two blocks: a pass of the flusher
// that a reload of the group overtook has written what the next one writes again.
func (l *dedupLoad) finish() error {
	t, n := &l.state.dedup, len(l.pairs)/dedupPair
	if n == 0 {
		return nil
	}
	t.reserve(n)
	l.fill = slices.Grow(l.fill[:0], t.segments())[:t.segments()]
	clear(l.fill)
	for at := 0; at < len(l.pairs); at += dedupPair {
		l.fill[t.number(le64(l.pairs[at:]))]++
	}
	for i, more := range l.fill {
		if more == 0 {
			continue
		}
		if err := t.room(); err != nil {
			return err
		}
		b, err := t.grow(t.at(i), int(more))
		if err != nil {
			return fmt.Errorf("idempotency keys: %w", err)
		}
		l.fill[i] = uint32(len(b)) - more*dedupPlace
	}
	twice := l.enter()
	t.n += n - twice
	l.pairs, l.runs = l.pairs[:0], l.runs[:0]
	if twice > 0 {
		return l.trim()
	}
	return nil
}

// enter puts the pairs where there is room for them, and counts those whose key is
// there.
func (l *dedupLoad) enter() (twice int) {
	t, at := &l.state.dedup, 0
	for _, run := range l.runs {
		for end := at + run.bytes; at < end; at += dedupPair {
			key := le64(l.pairs[at:])
			i := t.number(key)
			b := t.slab.get(*t.at(i))
			if t.holds(b[:l.fill[i]], key) {
				twice++
				continue
			}
			putDedup(b[l.fill[i]:], dedupWord(key, run.day), le32(l.pairs[at+8:]))
			l.fill[i] += dedupPlace
		}
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
func (l *dedupLoad) trim() error {
	t := &l.state.dedup
	for i, filled := range l.fill {
		ref := t.at(i)
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
