package storage

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

const (
	// dedupDays is how long an idempotency key is known.
	// Whole days go at once, so a key of the last minute of a day needs an eighth
	// to be known for seven.
	dedupDays   = 8
	dedupMin    = 1024
	dedupHeader = 8
	dedupPair   = 12
	dedupFormat = 2
	dedupPlain  = 1 // the format of blocks that may hold keys without a person's
	dayMsec     = 24 * 3600 * 1000
	dedupPlace  = 12
)

// A dedupTable holds the idempotency keys of the last days exactly: one open
// addressing table a day, 12 bytes a place, at most three quarters full.
type dedupTable struct {
	days   int
	tables []dedupDay // rising days
}

type dedupDay struct {
	day     uint16
	keys    []uint64 // 0 = empty
	bodies  []uint32
	n       int
	pending []dedupEntry // not yet taken for the disk
	// plain: an older version may have entered keys as Store.DedupHash gives them.
	plain bool
}

type dedupEntry struct {
	key  uint64
	body uint32
}

// A dedupBlock is the stored form of some keys of one day.
type dedupBlock struct {
	day   uint16
	value []byte
}

// find returns the body hash of a key.
// Cost: one probe a day, no allocation.
func (t *dedupTable) find(key uint64) (body uint32, ok bool) {
	if key == 0 {
		return 0, false
	}
	for i := len(t.tables) - 1; i >= 0; i-- {
		d := &t.tables[i]
		if p := d.place(key); d.keys[p] == key {
			return d.bodies[p], true
		}
	}
	return 0, false
}

// findPlain is find in days that may hold keys of an older version.
func (t *dedupTable) findPlain(key uint64) (body uint32, ok bool) {
	for i := len(t.tables) - 1; i >= 0; i-- {
		d := &t.tables[i]
		if !d.plain {
			continue
		}
		if p := d.place(key); key != 0 && d.keys[p] == key {
			return d.bodies[p], true
		}
	}
	return 0, false
}

// replayed notes that a frame of maybe an older version was applied.
func (t *dedupTable) replayed(at UnixMsec) { t.on(uint16(at / dayMsec)).plain = true }

// add enters a key on the day of at. A key that is known keeps its body.
func (t *dedupTable) add(at UnixMsec, key uint64, body uint32) {
	if key == 0 {
		return
	}
	day := uint16(at / dayMsec)
	if _, known := t.find(key); known {
		return
	}
	d := t.on(day)
	d.insert(key, body)
	d.pending = append(d.pending, dedupEntry{key, body})
}

// expire drops the days that are too old on day.
func (t *dedupTable) expire(day uint16) {
	for len(t.tables) > 0 && int(t.tables[0].day)+t.days <= int(day) {
		t.tables = slices.Delete(t.tables, 0, 1)
	}
}

// on returns the table of a day, making it.
func (t *dedupTable) on(day uint16) *dedupDay {
	i, found := slices.BinarySearchFunc(t.tables, day, func(d dedupDay, day uint16) int {
		return int(d.day) - int(day)
	})
	if !found {
		t.tables = slices.Insert(t.tables, i, dedupDay{
			day: day, keys: make([]uint64, dedupMin), bodies: make([]uint32, dedupMin),
		})
	}
	return &t.tables[i]
}

func (t *dedupTable) bytes() int64 {
	var n int64
	for i := range t.tables {
		n += int64(len(t.tables[i].keys)) * dedupPlace
	}
	return n
}

// place returns where the key lies or would lie. Its home is given by its high
// bits, so that the rising keys of a block walk through the table, as do the keys
// of a table that becomes a larger one.
func (d *dedupDay) place(key uint64) uint64 {
	mask := uint64(len(d.keys) - 1)
	i := key >> bits.LeadingZeros64(mask)
	for d.keys[i] != 0 && d.keys[i] != key {
		i = (i + 1) & mask
	}
	return i
}

func (d *dedupDay) insert(key uint64, body uint32) {
	d.reserve(1)
	p := d.place(key)
	if d.keys[p] == 0 {
		d.n++
	}
	d.keys[p], d.bodies[p] = key, body
}

// reserve makes room for n more keys. Without it the rising keys of a block would
// all crowd at the beginning of a table that is yet to grow.
func (d *dedupDay) reserve(n int) {
	size := len(d.keys)
	for 4*(d.n+n) > 3*size {
		size *= 2
	}
	if size == len(d.keys) {
		return
	}
	keys, bodies := d.keys, d.bodies
	d.keys, d.bodies = make([]uint64, size), make([]uint32, size)
	for i, k := range keys {
		if k != 0 {
			p := d.place(k)
			d.keys[p], d.bodies[p] = k, bodies[i]
		}
	}
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

// A dedupLoad enters the blocks of a group, those of a day together, so that the
// day's table need not grow block by block.
type dedupLoad struct {
	state *state
	day   uint16
	pairs []byte // key u64 | body u32, of day
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
	day := le16(b[2:])
	if int64(day)+int64(l.state.dedup.days) <= int64(l.state.high/dayMsec) {
		return nil
	}
	if day != l.day || len(l.pairs)+len(b) > dedupLoadBytes {
		l.finish()
		l.day = day
	}
	l.pairs = append(l.pairs, b[dedupHeader:]...)
	if b[0] == dedupPlain {
		l.state.dedup.on(day).plain = true
	}
	return nil
}

// finish enters what add has kept.
func (l *dedupLoad) finish() {
	if len(l.pairs) == 0 {
		return
	}
	d := l.state.dedup.on(l.day)
	d.reserve(len(l.pairs) / dedupPair)
	for at := 0; at < len(l.pairs); at += dedupPair {
		d.insert(le64(l.pairs[at:]), le32(l.pairs[at+8:]))
	}
	l.pairs = l.pairs[:0]
}

// dedupSince returns the oldest day whose keys are still known at now.
func dedupSince(now UnixMsec) uint16 {
	day := now / dayMsec
	return uint16(max(0, day-dedupDays+1))
}
