package storage

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

const (
	// A span is so many ordinals that follow each other: 512 bytes as bits. Up to
	// spanFew of them are listed, two bytes each, and again when they have become
	// spanLess.
	spanOrds  = 1 << 12
	spanBytes = spanOrds / 8
	spanFew   = spanBytes/2 - 1
	spanLess  = spanFew * 3 / 4
	// openSets is how many sets of a kind are kept up as bitmaps too.
	openSets = 32
)

// bitmaps holds, for each name of one kind, the ordinals of the people who
// carry it. They are derived from the profiles: never logged nor written out.
//
// A set is a block of the group's slab with the Ref of each of its spans, of which
// those that are not empty are blocks too: rising ordinals within the span, u16, or a
// bit for each. So a collection looks at no set, however many there are; changing one
// moves 512 bytes at most and, at a span it did not reach yet, the Refs. Whoever asks
// for a set as a whole is given a bitmap; the sets that questions asked for last are
// kept as bitmaps beside that, which takes the conversion from the next question: see
// ask and trim.
type bitmaps struct {
	slab    *slab
	heads   map[Name]setHead
	members int64
	used    int64 // bytes of the slab's blocks

	opened map[Name]*openSet
	within int64 // members of those
	asks   uint64
	refs   []byte
}

// setHead is one set.
type setHead struct {
	spans   Ref // u32 each, from the first one on
	members uint32
}

// openSet is a set that is kept as a bitmap too.
type openSet struct {
	set   *roaring.Bitmap
	asked uint64
}

// spanBits are a span as bits.
type spanBits [spanOrds / 64]uint64

func newBitmaps(s *slab) bitmaps {
	return bitmaps{slab: s, heads: make(map[Name]setHead), opened: make(map[Name]*openSet)}
}

// room reports whether members can be added.
func (b *bitmaps) room() error { return b.slab.spare() }

// add puts somebody into a set. room was asked before.
func (b *bitmaps) add(n Name, o Ord) {
	h := b.heads[n]
	if !b.enter(&h, o) {
		return
	}
	h.members++
	b.heads[n] = h
	b.members++
	if x := b.opened[n]; x != nil {
		x.set.Add(uint32(o))
		b.within++
	}
}

func (b *bitmaps) remove(n Name, o Ord) {
	h := b.heads[n]
	if !b.leave(&h, o) {
		return
	}
	h.members--
	b.heads[n] = h
	b.members--
	if x := b.opened[n]; x != nil {
		x.set.Remove(uint32(o))
		b.within--
	}
	if h.members == 0 {
		b.put(h.spans, nil)
		delete(b.heads, n)
		delete(b.opened, n)
	}
}

// contains reports whether somebody is in a set.
// Cost: three cold cache lines.
func (b *bitmaps) contains(n Name, o Ord) bool {
	c := b.span(b.heads[n], int(o/spanOrds))
	low := uint16(o % spanOrds)
	if len(c) == spanBytes {
		return c[low/8]>>(low%8)&1 == 1
	}
	_, found := findLow(c, low)
	return found
}

// size returns how many people are in a set.
func (b *bitmaps) size(n Name) int { return int(b.heads[n].members) }

// each yields the ordinals of a set, rising. The set must not change meanwhile.
func (b *bitmaps) each(n Name) iter.Seq[Ord] {
	return func(yield func(Ord) bool) {
		h := b.heads[n]
		for at := range b.spans(h) {
			if len(b.span(h, at)) == 0 {
				continue
			}
			words := b.bitsOf(h, at)
			for i, w := range words {
				for ; w != 0; w &= w - 1 {
					if !yield(Ord(at*spanOrds + i*64 + bits.TrailingZeros64(w))) {
						return
					}
				}
			}
		}
	}
}

// set returns a set as a bitmap, which belongs to the caller; nil: nobody is in it.
// Cost: 5 ns a member where few are in it, else a pass over a bit for each ordinal.
func (b *bitmaps) set(n Name) *roaring.Bitmap {
	h := b.heads[n]
	if h.members == 0 {
		return nil
	}
	m := newSet()
	ords := b.spans(h) * spanOrds
	if int(h.members) < ords/setSparse {
		members := make([]uint32, 0, h.members)
		for o := range b.each(n) {
			members = append(members, uint32(o))
		}
		m.AddMany(members)
		return m
	}
	words := make([]uint64, 0, ords/64)
	for at := range b.spans(h) {
		span := b.bitsOf(h, at)
		words = append(words, span[:]...)
	}
	m.FromDense(words, true)
	return m
}

// ask returns a set as a bitmap that add and remove keep up, for a question that
// shares it; nil: nobody is in it. trim ends that.
func (b *bitmaps) ask(n Name) *roaring.Bitmap {
	b.asks++
	x := b.opened[n]
	if x == nil {
		set := b.set(n)
		if set == nil {
			return nil
		}
		x = &openSet{set: set}
		b.opened[n] = x
		b.within += int64(b.size(n))
	}
	x.asked = b.asks
	return x.set
}

// trim forgets all but the bitmaps that were asked for last.
func (b *bitmaps) trim() {
	if len(b.opened) <= openSets {
		return
	}
	asked := make([]uint64, 0, len(b.opened))
	for _, x := range b.opened {
		asked = append(asked, x.asked)
	}
	slices.Sort(asked)
	oldest := asked[len(asked)-openSets]
	for n, x := range b.opened {
		if x.asked < oldest {
			delete(b.opened, n)
			b.within -= int64(b.size(n))
		}
	}
}

// bytes is the memory of the sets, that of bitmaps estimated: two bytes a member,
// 64 a bitmap.
func (b *bitmaps) bytes() int64 {
	return b.used + 24*int64(len(b.heads)) + 2*b.within + 64*int64(len(b.opened))
}

// spans is how many spans a set reaches over.
func (b *bitmaps) spans(h setHead) int { return len(b.slab.get(h.spans)) / 4 }

// span returns the content of a span; empty: nobody.
func (b *bitmaps) span(h setHead, at int) []byte {
	if refs := b.slab.get(h.spans); 4*at < len(refs) {
		return b.slab.get(Ref(le32(refs[4*at:])))
	}
	return nil
}

// bitsOf returns a span as bits.
func (b *bitmaps) bitsOf(h setHead, at int) (w spanBits) {
	c := b.span(h, at)
	if len(c) == spanBytes {
		for i := range w {
			w[i] = le64(c[8*i:])
		}
		return w
	}
	for ; len(c) >= 2; c = c[2:] {
		low := binary.LittleEndian.Uint16(c)
		w[low/64] |= 1 << (low % 64)
	}
	return w
}

// findLow finds a number in a span that is a list.
func findLow(c []byte, low uint16) (at int, found bool) {
	lo, hi := 0, len(c)/2
	for lo < hi {
		mid := (lo + hi) / 2
		switch v := binary.LittleEndian.Uint16(c[2*mid:]); {
		case v < low:
			lo = mid + 1
		case v > low:
			hi = mid
		default:
			return mid, true
		}
	}
	return lo, false
}

// enter puts somebody into a set; false: already there.
func (b *bitmaps) enter(h *setHead, o Ord) bool {
	at, low := int(o/spanOrds), uint16(o%spanOrds)
	refs := b.reach(h, at)
	ref := Ref(le32(refs[4*at:]))
	c := b.slab.get(ref)
	if len(c) == spanBytes {
		was := c[low/8]
		c[low/8] |= 1 << (low % 8)
		return c[low/8] != was
	}
	i, found := findLow(c, low)
	if found {
		return false
	}
	if len(c)/2 < spanFew {
		ref, c = b.widen(ref, 2*i, 2)
		binary.LittleEndian.PutUint16(c[2*i:], low)
	} else {
		words := b.bitsOf(*h, at)
		words[low/64] |= 1 << (low % 64)
		ref = b.putBits(ref, &words)
	}
	binary.LittleEndian.PutUint32(refs[4*at:], uint32(ref))
	return true
}

// leave takes somebody out of a set; false: not there.
func (b *bitmaps) leave(h *setHead, o Ord) bool {
	at, low := int(o/spanOrds), uint16(o%spanOrds)
	refs := b.slab.get(h.spans)
	if 4*at >= len(refs) {
		return false
	}
	ref := Ref(le32(refs[4*at:]))
	c := b.slab.get(ref)
	if len(c) == spanBytes {
		if c[low/8]>>(low%8)&1 == 0 {
			return false
		}
		c[low/8] &^= 1 << (low % 8)
		if words := b.bitsOf(*h, at); words.count() <= spanLess {
			ref = b.putList(ref, &words)
		}
	} else {
		i, found := findLow(c, low)
		if !found {
			return false
		}
		var list [spanBytes]byte
		n := copy(list[:], c[:2*i])
		n += copy(list[n:], c[2*i+2:])
		ref = b.put(ref, list[:n])
	}
	binary.LittleEndian.PutUint32(refs[4*at:], uint32(ref))
	return true
}

// reach returns the refs of a set's spans up to one.
func (b *bitmaps) reach(h *setHead, at int) []byte {
	refs := b.slab.get(h.spans)
	if n := len(refs); 4*at >= n {
		h.spans, refs = b.widen(h.spans, n, 4*(at+1)-n)
		clear(refs[n:])
	}
	return refs
}

// fill makes a set, which nobody is in, of ordinals that do not fall.
func (b *bitmaps) fill(n Name, members []uint32) {
	b.refs = b.refs[:0]
	count := 0
	for i := 0; i < len(members); {
		at := members[i] / spanOrds
		var words spanBits
		for ; i < len(members) && members[i]/spanOrds == at; i++ {
			words[members[i]%spanOrds/64] |= 1 << (members[i] % 64)
		}
		count += b.appendSpan(int(at), &words)
	}
	b.keep(n, count)
}

// fillDense is fill of a bit for each ordinal.
func (b *bitmaps) fillDense(n Name, dense []uint64) {
	b.refs = b.refs[:0]
	count := 0
	for at := 0; len(dense) > 0; at++ {
		var words spanBits
		dense = dense[copy(words[:], dense):]
		count += b.appendSpan(at, &words)
	}
	b.keep(n, count)
}

// appendSpan makes a span that is not empty and notes its Ref; it returns how many are
// in it.
func (b *bitmaps) appendSpan(at int, words *spanBits) int {
	count := words.count()
	if count == 0 {
		return 0
	}
	ref := Ref(0)
	if count > spanFew {
		ref = b.putBits(ref, words)
	} else {
		ref = b.putList(ref, words)
	}
	for len(b.refs) < 4*at {
		b.refs = append(b.refs, 0, 0, 0, 0)
	}
	b.refs = binary.LittleEndian.AppendUint32(b.refs, uint32(ref))
	return count
}

// keep makes the spans that were noted a set.
func (b *bitmaps) keep(n Name, count int) {
	if count > 0 {
		b.heads[n] = setHead{b.put(0, b.refs), uint32(count)}
		b.members += int64(count)
	}
}

func (w *spanBits) count() (n int) {
	for _, one := range w {
		n += bits.OnesCount64(one)
	}
	return n
}

// putBits stores a span as bits, putList as a list, in place of the block old.
func (b *bitmaps) putBits(old Ref, words *spanBits) Ref {
	var c [spanBytes]byte
	for i, w := range words {
		binary.LittleEndian.PutUint64(c[8*i:], w)
	}
	return b.put(old, c[:])
}

func (b *bitmaps) putList(old Ref, words *spanBits) Ref {
	var c [spanBytes]byte
	n := 0
	for i, w := range words {
		for ; w != 0; w &= w - 1 {
			binary.LittleEndian.PutUint16(c[n:], uint16(i*64+bits.TrailingZeros64(w)))
			n += 2
		}
	}
	return b.put(old, c[:n])
}

// put stores content in place of the block old. A slab without a block left is one
// that room has told of; content that became shorter stays where it is then. Nobody asks
// while people are read at a start: what fitted into 64 GiB fits again, more densely.
func (b *bitmaps) put(old Ref, content []byte) Ref {
	before := b.slab.used
	ref, err := b.slab.put(old, content)
	if err != nil {
		ref, err = b.slab.putRoomy(old, content, spanBytes)
	}
	b.settle(before, err)
	return ref
}

// widen is that of the slab.
func (b *bitmaps) widen(old Ref, at, n int) (Ref, []byte) {
	before := b.slab.used
	ref, c, err := b.slab.widen(old, at, n, 0)
	b.settle(before, err)
	return ref, c
}

func (b *bitmaps) settle(before int64, err error) {
	if err != nil {
		panic(fmt.Sprintf("storage: a set has no room: %v", err))
	}
	b.used += b.slab.used - before
}

// checkMember says that somebody whose profile has the name is missing in its set.
func (b *bitmaps) checkMember(n Name, o Ord) error {
	if b.contains(n, o) {
		return nil
	}
	return fmt.Errorf("ordinal %d is missing in the set of name %d: %w", o, n, ErrCorrupt)
}

// check compares the parts of the sets with each other, and their number with that of
// the members whom the profiles name, each of which contains has told to be there.
func (b *bitmaps) check(wanted map[Name]int) error {
	if len(b.heads) != len(wanted) {
		return fmt.Errorf("%d sets, want %d: %w", len(b.heads), len(wanted), ErrCorrupt)
	}
	var used, members int64
	for n, h := range b.heads {
		used += b.slab.size(h.spans)
		count := 0
		for at := range b.spans(h) {
			used += b.slab.size(Ref(le32(b.slab.get(h.spans)[4*at:])))
			words := b.bitsOf(h, at)
			count += words.count()
		}
		members += int64(count)
		if count != int(h.members) || count != wanted[n] {
			return fmt.Errorf("set of name %d has %d members, counted %d, want %d: %w",
				n, count, h.members, wanted[n], ErrCorrupt)
		}
	}
	var within int64
	for n, x := range b.opened {
		within += int64(b.size(n))
		if !x.set.Equals(b.set(n)) {
			return fmt.Errorf("bitmap of name %d differs from the set: %w", n, ErrCorrupt)
		}
	}
	if used != b.used || members != b.members || within != b.within {
		return fmt.Errorf("sets of %d bytes, %d members, %d in bitmaps; counted %d, %d, %d: %w",
			used, members, within, b.used, b.members, b.within, ErrCorrupt)
	}
	return nil
}
