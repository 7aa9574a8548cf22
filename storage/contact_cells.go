package storage

import (
	"encoding/binary"
	"math"
	"slices"
)

// useCell counts one use of a key in the ring at an offset, which keeps counts or
// is made to.
func (d *contactDraft) useCell(at int, k *HeldKey, use UnixSec) {
	if (Ring{d.rings[at:]}).kind() == ringTimes {
		d.toCells(at, k)
	}
	le := binary.LittleEndian
	latest := max(UnixSec(le.Uint32(d.rings[at+12:])), use)
	le.PutUint32(d.rings[at+12:], uint32(latest))
	d.addCell(at, k.cellEnd(use), 1)
}

// cellEnd returns the end, exclusive, of the cell that a use at a time falls in.
func (k *HeldKey) cellEnd(use UnixSec) uint32 {
	end := uint64(use) + 1
	switch {
	case k.Coarse == CoarseRolling && k.Window > 0:
		end = (uint64(use)/uint64(k.Window) + 1) * uint64(k.Window)
	case k.Coarse == CoarseCalendar:
		end = max(end, uint64(k.Window))
	}
	return uint32(min(end, math.MaxUint32))
}

// addCell adds uses to the cell of an end. Of too many cells the two oldest
// become one, dated at the later.
func (d *contactDraft) addCell(at int, end, uses uint32) {
	le := binary.LittleEndian
	n := int(d.rings[at+9])
	i := n
	for i > 0 && d.cell(at, i-1) > end {
		i--
	}
	from := at + ringHeader + cellSize*i
	if i > 0 && d.cell(at, i-1) == end {
		from -= cellSize
		le.PutUint32(d.rings[from+4:], sumUses(le.Uint32(d.rings[from+4:]), uses))
		return
	}
	if n == cellsMax && i == 0 {
		// Older than all that is kept: it joins the oldest.
		from = at + ringHeader + 4
		le.PutUint32(d.rings[from:], sumUses(le.Uint32(d.rings[from:]), uses))
		return
	}
	var b [cellSize]byte
	le.PutUint32(b[:], end)
	le.PutUint32(b[4:], uses)
	d.rings = slices.Insert(d.rings, from, b[:]...)
	if n < cellsMax {
		d.rings[at+9]++
		return
	}
	first := at + ringHeader
	older := le.Uint32(d.rings[first+4:])
	d.rings = slices.Delete(d.rings, first, first+cellSize)
	le.PutUint32(d.rings[first+4:], sumUses(le.Uint32(d.rings[first+4:]), older))
}

func (d *contactDraft) cell(at, i int) uint32 { return le32(d.rings[at+ringHeader+cellSize*i:]) }

// sumUses adds counts; the sum of more than fit is any number.
func sumUses(a, b uint32) uint32 {
	if uint64(a)+uint64(b) >= cellUnknown {
		return cellUnknown
	}
	return a + b
}

// toCells turns a ring of times into one of counts, for a limit that has grown
// above RingMax: each use becomes a count of its own second. What the ring has
// lost becomes any number of uses.
func (d *contactDraft) toCells(at int, k *HeldKey) {
	r := Ring{slices.Clone(d.rings[at : at+(Ring{d.rings[at:]}).size()])}
	d.rings = slices.Delete(d.rings, at+ringHeader, at+r.size())
	d.rings[at+8], d.rings[at+9], d.rings[at+10] = cellsMax, 0, ringCells
	binary.LittleEndian.PutUint32(d.rings[at+12:], uint32(r.latest()))
	whole := HeldKey{Coarse: k.Coarse}
	if k.Coarse == CoarseRolling {
		whole.Window = k.Window
	}
	if lost := r.dropped(); lost > 0 {
		d.addCell(at, whole.cellEnd(lost), cellUnknown)
	}
	for i := range r.len() {
		d.addCell(at, whole.cellEnd(r.time(i)), 1)
	}
}

// rising tells whether the entries of a ring stand in their order, and a ring of
// counts says nothing about a time before 1970.
func (r Ring) rising() bool {
	for i := range r.len() {
		if r.kind() == ringCells && (le32(r.b[ringHeader+cellSize*i:]) == 0 || r.uses(i) == 0 ||
			i > 0 && r.time(i) == r.time(i-1)) {
			return false
		}
		if r.kind() == ringCells && i > 0 && r.time(i) < r.time(i-1) {
			return false
		}
	}
	return true
}
