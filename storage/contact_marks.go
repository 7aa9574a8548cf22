package storage

import (
	"encoding/binary"
	"slices"
)

const (
	markSize = 28
	marksEnd = 4
	// marksMax bounds the uses of a person that keep their decision: 900 bytes.
	marksMax = 32
)

// A UseMark says which decision a use came from, and of which offer. The zero mark
// says nothing: the use of an event that belongs to no decision.
type UseMark struct {
	Decision DecisionID
	Offer    Name
}

func (m *UseMark) set() bool { return m.Decision != DecisionID{} }

// EachMark calls f for the newest 32 uses that came from a decision, whatever
// counters they were counted in, oldest first, until f returns false. on is the set
// of what they were counted on.
func (c Contact) EachMark(f func(at UnixSec, on uint16, m UseMark) bool) {
	for b := c.marks(); len(b) > 0; b = b[markSize:] {
		if !f(UnixSec(le32(b)), le16(b[8:]), UseMark{DecisionID(b[12:28]), Name(le32(b[4:]))}) {
			return
		}
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
	if len(c.b) == 0 || c.b[3]&contactMarked == 0 {
		return end
	}
	return end - marksEnd - int(c.b[end-marksEnd])*markSize
}

// checkMarks reports whether the section of marks at the end of a contact part
// without its trailer is whole, and returns the part without it.
func checkMarks(b []byte) (body []byte, ok bool) {
	if b[3]&contactMarked == 0 {
		return b, true
	}
	if len(b) < contactHeader+marksEnd {
		return nil, false
	}
	end := b[len(b)-marksEnd:]
	n := int(end[0])
	from := len(b) - marksEnd - n*markSize
	if n == 0 || n > marksMax || end[1]|end[2]|end[3] != 0 || from < contactHeader {
		return nil, false
	}
	return b[:from], true
}

// mark notes the decision of a use. The oldest of too many leaves.
func (d *contactDraft) mark(at UnixSec, on uint16, m *UseMark) {
	if !m.set() {
		return
	}
	if len(d.marks) == marksMax*markSize {
		d.marks = slices.Delete(d.marks, 0, markSize)
	}
	d.marks = binary.LittleEndian.AppendUint32(d.marks, uint32(at))
	d.marks = binary.LittleEndian.AppendUint32(d.marks, uint32(m.Offer))
	d.marks = binary.LittleEndian.AppendUint32(d.marks, uint32(on))
	d.marks = append(d.marks, m.Decision[:]...)
}

func (d *contactDraft) appendMarks(dst []byte) []byte {
	if len(d.marks) == 0 {
		return dst
	}
	dst = append(dst, d.marks...)
	return append(dst, byte(len(d.marks)/markSize), 0, 0, 0)
}

// absorbMarks keeps the newest of both sides.
func (d *contactDraft) absorbMarks(part Contact) {
	for b := part.marks(); len(b) > 0; b = b[markSize:] {
		at := 0
		for at < len(d.marks) && le32(d.marks[at:]) <= le32(b) {
			at += markSize
		}
		d.marks = slices.Insert(d.marks, at, b[:markSize]...)
	}
	d.marks = d.marks[max(0, len(d.marks)-marksMax*markSize):]
}
