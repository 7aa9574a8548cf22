package storage

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

const (
	// dedupDays is how long an idempotency key is known.
	// Whole days go at once, so a key of the last minute of a day needs an eighth
	// to be known for seven.
	dedupDays = 8
	dayMsec   = 24 * 3600 * 1000
	daySec    = 24 * 3600
	// An entry is the lower 56 bits of a key, the lower 8 bits of its day above
	// them, and the body: the upper bits of the key are those of its segment.
	dedupPlace   = 12
	dedupKeyBits = 56
	// dedupFill is how many entries a segment has in the mean. More take less
	// memory, four bytes and a block's header a segment, and longer to look through.
	dedupFill    = 16
	dedupMinBits = 64 - dedupKeyBits
	dedupMaxBits = 36
	// dedupSwept adds one look for entries whose day is over is taken.
	dedupSwept = 4
	// dedupStale days behind the oldest that is known there are no entries, nor as
	// many ahead: half of what eight bits tell apart, and some.
	dedupStale = 100
)

// A dedupTable holds the idempotency keys of the last days exactly, in segments:
// segment i has the keys whose upper bits are i, in no order, in one block of the
// group's slab. Its memory is 12 bytes a key and at most a fifth more.
//
// The segments are doubled one at a time (W. Litwin, Linear hashing, VLDB 1980), so
// that no key waits for a table that is built anew. Those below split are in next,
// two for each of cur. Entries of days that are over do not count, and are taken
// out as the table changes.
type dedupTable struct {
	slab   *slab
	days   int
	tables []dedupDay // rising days
	low    uint16     // first day that is known
	oldest uint16     // no entry is of a day before

	bits  int // of the number of a segment of cur
	cur   []Ref
	next  []Ref
	split int
	n     int   // entries, of days that are over too
	used  int64 // bytes of the segments' blocks

	adds   int // since the last look
	looked int // segments, since the oldest day was known
	passed uint16
	body   []byte
}

// dedupDay is what is kept of a day beside its entries.
type dedupDay struct {
	day     uint16
	pending []dedupEntry // not yet taken for the disk
	// plain: an older version may have entered keys as Store.DedupHash gives them.
	plain bool
}

type dedupEntry struct {
	key  uint64
	body uint32
}

// find returns the body hash of a key.
// Cost: two or three cold cache lines, no allocation.
func (t *dedupTable) find(key uint64) (body uint32, ok bool) {
	_, body, ok = t.look(key)
	return body, ok
}

// look finds a key of a day that is known.
func (t *dedupTable) look(key uint64) (day uint16, body uint32, ok bool) {
	if key == 0 || t.n == 0 {
		return 0, 0, false
	}
	for b := t.slab.get(*t.segment(key)); len(b) >= dedupPlace; b = b[dedupPlace:] {
		if w := le64(b); w<<dedupMinBits == key<<dedupMinBits {
			if day, ok := t.dayOf(w); ok {
				return day, le32(b[8:]), true
			}
		}
	}
	return 0, 0, false
}

// findPlain is find in days that may hold keys of an older version.
func (t *dedupTable) findPlain(key uint64) (body uint32, ok bool) {
	if !slices.ContainsFunc(t.tables, func(d dedupDay) bool { return d.plain }) {
		return 0, false
	}
	day, body, ok := t.look(key)
	if !ok {
		return 0, false
	}
	i, found := t.dayAt(day)
	if !found || !t.tables[i].plain {
		return 0, false
	}
	return body, true
}

// dayOf returns the day of an entry, and whether it is known still.
func (t *dedupTable) dayOf(w uint64) (day uint16, ok bool) {
	ahead := int8(uint8(w>>dedupKeyBits) - uint8(t.low))
	return t.low + uint16(ahead), ahead >= 0
}

// replayed notes that a frame of maybe an older version was applied.
func (t *dedupTable) replayed(at UnixMsec) { t.on(uint16(at / dayMsec)).plain = true }

// add enters a key on the day of at, which is not after the one expire had last. A
// key that is known keeps its body, and one of a day that is over is not entered.
// room was asked before.
func (t *dedupTable) add(at UnixMsec, key uint64, body uint32) {
	day := uint16(at / dayMsec)
	if key == 0 || day < t.low {
		return
	}
	if _, known := t.find(key); known {
		return
	}
	d := t.on(day)
	d.pending = append(d.pending, dedupEntry{key, body})
	t.reserve(1)
	t.enter(key, day, body)
	if t.oldest < t.low {
		if t.adds++; t.adds >= dedupSwept {
			t.adds = 0
			t.sweepNext()
		}
	}
}

// room reports whether a key can be entered.
func (t *dedupTable) room() error { return t.slab.spare() }

// expire forgets the days that are too old on day.
// Cost: none, but a walk over all entries when a hundred days have passed in which
// hardly any key was added.
func (t *dedupTable) expire(day uint16) {
	low, before := max(0, int(day)+1-t.days), t.low
	if low <= int(before) {
		return
	}
	t.low = uint16(low)
	for len(t.tables) > 0 && t.tables[0].day < t.low {
		t.tables = slices.Delete(t.tables, 0, 1)
	}
	if t.n > 0 && t.low-t.oldest > dedupStale {
		for i := range t.segments() {
			t.sweep(t.at(i), before)
		}
		t.oldest, t.looked = t.low, 0
	}
	if t.n == 0 {
		t.cur, t.next, t.split, t.oldest, t.looked = nil, nil, 0, t.low, 0
	}
}

// on returns what is kept of a day, making it.
func (t *dedupTable) on(day uint16) *dedupDay {
	i, found := t.dayAt(day)
	if !found {
		t.tables = slices.Insert(t.tables, i, dedupDay{day: day})
	}
	return &t.tables[i]
}

func (t *dedupTable) dayAt(day uint16) (int, bool) {
	return slices.BinarySearchFunc(t.tables, day, func(d dedupDay, day uint16) int {
		return int(d.day) - int(day)
	})
}

// bytes returns the memory held, the blocks of the slab included.
func (t *dedupTable) bytes() int64 { return int64(len(t.cur)+len(t.next))*4 + t.used }

// held counts the bytes of the segments' blocks.
func (t *dedupTable) held() (n int64) {
	for i := range t.segments() {
		n += t.slab.size(*t.at(i))
	}
	return n
}

// each calls f for all entries whose day is known, in no order.
func (t *dedupTable) each(f func(key uint64, day uint16, body uint32)) {
	for i := range t.segments() {
		upper := t.first(i) &^ (1<<dedupKeyBits - 1)
		for b := t.slab.get(*t.at(i)); len(b) >= dedupPlace; b = b[dedupPlace:] {
			if day, ok := t.dayOf(le64(b)); ok {
				f(upper|le64(b)&(1<<dedupKeyBits-1), day, le32(b[8:]))
			}
		}
	}
}

// segments is their number: those that are split, by twos, then the others.
func (t *dedupTable) segments() int { return len(t.cur) + t.split }

// number returns which segment a key belongs to, at which a new one would begin.
func (t *dedupTable) number(key uint64) int {
	if i := int(key >> (64 - t.bits)); i >= t.split {
		return i + t.split
	}
	return int(key >> (63 - t.bits))
}

// first returns the lowest key of a segment.
func (t *dedupTable) first(i int) uint64 {
	if i < 2*t.split {
		return uint64(i) << (63 - t.bits)
	}
	return uint64(i-t.split) << (64 - t.bits)
}

func (t *dedupTable) at(i int) *Ref {
	if i < 2*t.split {
		return &t.next[i]
	}
	return &t.cur[i-t.split]
}

func (t *dedupTable) segment(key uint64) *Ref { return t.at(t.number(key)) }

// enter adds an entry to its segment.
func (t *dedupTable) enter(key uint64, day uint16, body uint32) {
	t.append(t.segment(key), dedupWord(key, day), body)
	t.n++
}

func dedupWord(key uint64, day uint16) uint64 {
	return key&(1<<dedupKeyBits-1) | uint64(day)<<dedupKeyBits
}

// append adds an entry to a segment. That the slab has no block left was ruled out
// by room.
func (t *dedupTable) append(ref *Ref, word uint64, body uint32) {
	if b, err := t.grow(ref, 1); err == nil {
		putDedup(b[len(b)-dedupPlace:], word, body)
	}
}

func putDedup(b []byte, word uint64, body uint32) {
	binary.LittleEndian.PutUint64(b, word)
	binary.LittleEndian.PutUint32(b[8:], body)
}

// grow makes room for n entries behind those of a segment, and returns all.
func (t *dedupTable) grow(ref *Ref, n int) ([]byte, error) {
	before := t.slab.used
	r, b, err := t.slab.grow(*ref, n*dedupPlace)
	if err != nil {
		return nil, err
	}
	*ref = r
	t.used += t.slab.used - before
	return b, nil
}

// reserve makes segments for n more keys.
func (t *dedupTable) reserve(n int) {
	if t.cur == nil {
		t.bits = max(dedupMinBits, bits.Len(uint((n-1)/dedupFill)))
		t.cur = make([]Ref, 1<<t.bits)
	}
	for t.n+n > dedupFill*t.segments() && t.bits < dedupMaxBits {
		if t.next == nil {
			t.next = make([]Ref, 2*len(t.cur))
		}
		if !t.splitOne() {
			return
		}
		if t.split == len(t.cur) {
			t.cur, t.next, t.split, t.bits = t.next, nil, 0, t.bits+1
		}
	}
}

// splitOne makes two segments of the next one, without entries of days that are
// over. Without room for them it stays as it is.
func (t *dedupTable) splitOne() bool {
	if t.room() != nil {
		return false
	}
	old := t.cur[t.split]
	t.body = append(t.body[:0], t.slab.get(old)...)
	t.drop(old)
	t.cur[t.split] = 0
	refs := t.next[2*t.split : 2*t.split+2]
	kept := 0
	for b := t.body; len(b) >= dedupPlace; b = b[dedupPlace:] {
		if _, ok := t.dayOf(le64(b)); ok {
			t.append(&refs[le64(b)>>(63-t.bits)&1], le64(b), le32(b[8:]))
			kept++
		}
	}
	t.n -= len(t.body)/dedupPlace - kept
	t.split++
	return true
}

func (t *dedupTable) drop(r Ref) {
	before := t.slab.used
	t.slab.drop(r)
	t.used += t.slab.used - before
}

// sweep takes the entries out of a segment whose day is over. Their days are told by
// one that is near them.
func (t *dedupTable) sweep(ref *Ref, near uint16) {
	b := t.slab.get(*ref)
	t.body = t.body[:0]
	for at := 0; at < len(b); at += dedupPlace {
		ahead := int8(uint8(le64(b[at:])>>dedupKeyBits) - uint8(near))
		if int(near)+int(ahead) >= int(t.low) {
			t.body = append(t.body, b[at:at+dedupPlace]...)
		}
	}
	if len(t.body) == len(b) {
		return
	}
	before := t.slab.used
	if r, err := t.slab.put(*ref, t.body); err == nil { // else the entries stay, and do not count
		*ref = r
		t.n -= (len(b) - len(t.body)) / dedupPlace
	}
	t.used += t.slab.used - before
}

// sweepNext sweeps one more segment. After the last one no entry is of a day before
// the first that was known when the pass began: a split moves segments to later
// numbers only.
func (t *dedupTable) sweepNext() {
	if t.looked == 0 {
		t.passed = t.low
	}
	if t.looked < t.segments() {
		t.sweep(t.at(t.looked), t.low)
	}
	if t.looked++; t.looked >= t.segments() {
		t.oldest, t.looked = t.passed, 0
	}
}
