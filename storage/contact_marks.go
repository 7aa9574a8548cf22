package storage

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// The marks of a contact part say which decision a use came from. They are kept
// once for each use, whatever number of counters it is counted in, and as long as
// a counter that keeps times has the use: a limit up to RingMax. Beside those the
// newest marksNewest are kept, for counters that keep counts.
//
//	marks   mark ×, then the bytes they take u32         rising times of use
//	mark    tag u8 | at uvarint | time varint | (group and epoch) u32? |
//	        frame varint | index uvarint | offer uvarint? | count_on uvarint?
//
// at is in seconds since the mark before (since 1970 for the first), time the
// milliseconds from at to the decision, frame what the decision's frame is ahead of
// that of the mark before in the same epoch. The tag's bits say what is as in the
// mark before and not written again: 1 group << 16 | epoch, 2 offer, 4 count_on.
// A mark takes 10 to 15 bytes. A part that an older version wrote has its marks in
// another form, under contactMarked: at u32 | offer u32 | count_on u16 | 0 u16 |
// decision id 16, at most 32 of them and in any order, then n u8 | 0 ×3.
const (
	oldMarkSize = 28
	oldMarksMax = 32
	marksEnd    = 4

	marksNewest = 32
	// marksMax bounds the marks of a person, at most 60 KB: the oldest leave.
	marksMax = 4096
	// marksSweep is how many marks come between two looks at which of them are no
	// longer needed.
	marksSweep = 16

	sameEpoch = 1 // bits of a mark's tag
	sameOffer = 2
	sameOn    = 4
	sameAll   = 7
)

// A UseMark says which decision a use came from, and of which offer. The zero mark
// says nothing: the use of an event that belongs to no decision.
type UseMark struct {
	Decision DecisionID
	Offer    Name
}

func (m *UseMark) set() bool { return m.Decision != DecisionID{} }

// usedMark is a mark with the use it belongs to.
type usedMark struct {
	UseMark
	at UnixSec
	on uint16
}

// EachMark calls f for the uses whose decision is known, whatever counters they were
// counted in, in the order of their times, until f returns false: all that a counter
// of a limit up to RingMax keeps, up to 4,096, and the newest 32. on is the set of
// what they were counted on.
func (c Contact) EachMark(f func(at UnixSec, on uint16, m UseMark) bool) {
	if len(c.b) > 0 && c.b[3]&contactMarked != 0 {
		for _, m := range readOldMarks(nil, c.marks()) {
			if !f(m.at, m.on, m.UseMark) {
				return
			}
		}
		return
	}
	var m usedMark
	for b := c.marks(); len(b) > 0; {
		n := m.read(b)
		if n == 0 || !f(m.at, m.on, m.UseMark) {
			return
		}
		b = b[n:]
	}
}

// marks returns the section of marks without its end.
func (c Contact) marks() []byte {
	if end := c.bodyEnd(); c.ringsEnd() < end {
		return c.b[c.ringsEnd() : end-marksEnd]
	}
	return nil
}

// ringsEnd returns where the rings end.
func (c Contact) ringsEnd() int {
	end := c.bodyEnd()
	switch {
	case len(c.b) == 0 || c.b[3]&(contactMarked|contactPacked) == 0:
		return end
	case c.b[3]&contactMarked != 0:
		return end - marksEnd - int(c.b[end-marksEnd])*oldMarkSize
	}
	return end - marksEnd - int(le32(c.b[end-marksEnd:]))
}

// checkMarks reports whether the section of marks at the end of a contact part
// without its trailer is whole and in its one form, and returns the part without it.
func checkMarks(b []byte) (body []byte, ok bool) {
	flags := b[3] & (contactMarked | contactPacked)
	switch {
	case flags == 0:
		return b, true
	case flags == contactMarked|contactPacked, len(b) < contactHeader+marksEnd:
		return nil, false
	}
	end := b[len(b)-marksEnd:]
	if flags == contactMarked {
		n := int(end[0])
		from := len(b) - marksEnd - n*oldMarkSize
		if n == 0 || n > oldMarksMax || end[1]|end[2]|end[3] != 0 || from < contactHeader {
			return nil, false
		}
		return b[:from], true
	}
	size := int64(le32(end))
	from := int64(len(b)) - marksEnd - size
	if size == 0 || from < contactHeader || !packedMarks(b[from:int64(len(b))-marksEnd]) {
		return nil, false
	}
	return b[:from], true
}

// packedMarks reports whether b is marks, each as append writes it.
func packedMarks(b []byte) bool {
	var m, before usedMark
	var scratch [48]byte
	for n := 0; len(b) > 0; n++ {
		size := m.read(b)
		if size == 0 || n == marksMax || !m.set() ||
			string(m.append(scratch[:0], &before)) != string(b[:size]) {
			return false
		}
		b, before = b[size:], m
	}
	return true
}

// read reads the next mark over the one before it, the zero mark at first, and
// returns how many bytes it took; 0: there is no whole one.
func (m *usedMark) read(b []byte) int {
	if len(b) == 0 || b[0]&^sameAll != 0 {
		return 0
	}
	tag, at := b[0], 1
	ok := true
	next := func() uint64 {
		v, n := binary.Uvarint(b[at:])
		if n <= 0 {
			ok = false
			return 0
		}
		at += n
		return v
	}
	d := m.Decision
	since, ahead := next(), unzig(next())
	home := d.home()
	frame := d.Frame()
	if tag&sameEpoch == 0 {
		if !ok || len(b) < at+4 {
			return 0
		}
		home, frame = le32(b[at:]), 0
		at += 4
	}
	frame += uint64(unzig(next()))
	index := next()
	if tag&sameOffer == 0 {
		v := next()
		ok = ok && v <= math.MaxUint32
		m.Offer = Name(v)
	}
	if tag&sameOn == 0 {
		v := next()
		ok = ok && v <= math.MaxUint16
		m.on = uint16(v)
	}
	when := uint64(m.at) + since
	made := int64(when)*1000 + ahead
	if !ok || since > math.MaxUint32 || when > math.MaxUint32 || home >= 1<<28 ||
		frame >= 1<<36 || index > math.MaxUint16 || made < 0 || made >= 1<<48 {
		return 0
	}
	m.at = UnixSec(when)
	m.Decision = makeDecisionID(UnixMsec(made), GroupID(home>>16), home&0xFFFF, frame, int(index))
	return at
}

// append appends a mark behind the one before it.
func (m *usedMark) append(dst []byte, before *usedMark) []byte {
	var tag byte
	frame := int64(m.Decision.Frame())
	if m.Decision.home() == before.Decision.home() {
		tag |= sameEpoch
		frame -= int64(before.Decision.Frame())
	}
	if m.Offer == before.Offer {
		tag |= sameOffer
	}
	if m.on == before.on {
		tag |= sameOn
	}
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(m.at-before.at))
	dst = binary.AppendVarint(dst, int64(m.Decision.Time())-int64(m.at)*1000)
	if tag&sameEpoch == 0 {
		dst = binary.LittleEndian.AppendUint32(dst, m.Decision.home())
	}
	dst = binary.AppendVarint(dst, frame)
	dst = binary.AppendUvarint(dst, uint64(binary.BigEndian.Uint16(m.Decision[14:])))
	if tag&sameOffer == 0 {
		dst = binary.AppendUvarint(dst, uint64(m.Offer))
	}
	if tag&sameOn == 0 {
		dst = binary.AppendUvarint(dst, uint64(m.on))
	}
	return dst
}

// home is the group and the epoch of a decision: group << 16 | epoch.
func (d DecisionID) home() uint32 { return uint32(d.Group())<<16 | uint32(d.epoch()) }

func unzig(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// readOldMarks appends the marks of an older version in the order of their times.
func readOldMarks(dst []usedMark, b []byte) []usedMark {
	for ; len(b) > 0; b = b[oldMarkSize:] {
		m := usedMark{
			UseMark: UseMark{DecisionID(b[12:28]), Name(le32(b[4:]))}, at: UnixSec(le32(b)),
			on: le16(b[8:]),
		}
		if m.set() {
			dst = insertMark(dst, &m)
		}
	}
	return dst
}

// insertMark inserts a mark behind those of its time.
func insertMark(all []usedMark, m *usedMark) []usedMark {
	at := len(all)
	for at > 0 && all[at-1].at > m.at {
		at--
	}
	return slices.Insert(all, at, *m)
}

// loadMarks takes the section of marks into the draft, in its present form.
func (d *contactDraft) loadMarks(c Contact) {
	d.marks = d.marks[:0]
	if len(c.b) > 0 && c.b[3]&contactMarked != 0 {
		d.used = readOldMarks(d.used[:0], c.marks())
		d.packMarks()
		return
	}
	d.marks = append(d.marks, c.marks()...)
}

// readMarks takes the marks of the draft apart.
func (d *contactDraft) readMarks() {
	d.used = appendMarks(d.used[:0], d.marks)
}

func appendMarks(dst []usedMark, b []byte) []usedMark {
	var m usedMark
	for len(b) > 0 {
		n := m.read(b)
		if n == 0 {
			break
		}
		dst, b = append(dst, m), b[n:]
	}
	return dst
}

// packMarks writes the marks that were taken apart.
func (d *contactDraft) packMarks() {
	d.used = d.used[max(0, len(d.used)-marksMax):]
	d.marks = d.marks[:0]
	var before usedMark
	for i := range d.used {
		d.marks = d.used[i].append(d.marks, &before)
		before = d.used[i]
	}
}

// mark notes the decision of a use that was counted.
// Cost: linear in the marks; every 16th beyond 32 looks through the rings too.
func (d *contactDraft) mark(at UnixSec, on uint16, m *UseMark) {
	if !m.set() {
		return
	}
	d.readMarks()
	d.used = insertMark(d.used, &usedMark{UseMark: *m, at: at, on: on})
	if n := len(d.used); n > marksNewest && n%marksSweep == 0 || n > marksMax {
		d.sweepMarks()
	}
	d.packMarks()
}

// sweepMarks drops the marks whose use no counter keeps, but for the newest.
func (d *contactDraft) sweepMarks() {
	older := len(d.used) - marksNewest
	var needed [marksMax/64 + 1]uint64
	for _, r := range d.eachRing {
		for i := 0; i < r.len() && r.kind() == ringTimes; i++ {
			at, _ := slices.BinarySearchFunc(d.used[:older], r.time(i), func(m usedMark, t UnixSec) int {
				return int(int64(m.at) - int64(t))
			})
			for ; at < older && d.used[at].at == r.time(i); at++ {
				needed[at/64] |= 1 << (at % 64)
			}
		}
	}
	kept := d.used[:0]
	for i, m := range d.used {
		if i >= older || needed[i/64]&(1<<(i%64)) != 0 {
			kept = append(kept, m)
		}
	}
	d.used = kept
}

func (d *contactDraft) appendMarks(dst []byte) []byte {
	if len(d.marks) == 0 {
		return dst
	}
	dst = append(dst, d.marks...)
	return binary.LittleEndian.AppendUint32(dst, uint32(len(d.marks)))
}

// whereMark returns where an equal mark stands, or -1.
func whereMark(all []usedMark, m *usedMark) int {
	at, _ := slices.BinarySearchFunc(all, m.at, func(have usedMark, at UnixSec) int {
		return cmp.Compare(have.at, at)
	})
	for ; at < len(all) && all[at].at == m.at; at++ {
		if all[at] == *m {
			return at
		}
	}
	return -1
}

// absorbMarks takes the marks of a ceded part in.
func (d *contactDraft) absorbMarks(part Contact) {
	var other contactDraft
	other.loadMarks(part)
	other.readMarks()
	if len(other.used) == 0 {
		return
	}
	d.readMarks()
	own := slices.Clone(d.used)
	for i := range other.used {
		// A split has left it on both sides. Two uses of one decision in one second have
		// equal marks, and each of them its own.
		if at := whereMark(own, &other.used[i]); at >= 0 {
			own[at].on = 0 // no mark of a use has none
			continue
		}
		d.used = insertMark(d.used, &other.used[i])
	}
	if len(d.used) > marksMax {
		d.used = d.used[len(d.used)-marksMax:]
	}
	if len(d.used) > marksNewest {
		d.sweepMarks()
	}
	d.packMarks()
}
