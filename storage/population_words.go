package storage

import (
	"math"
	"math/bits"

	"github.com/RoaringBitmap/roaring/v2"
)

// Words are people as one bit an ordinal: bit o%64 of word o/64. Where many operations
// follow each other, as for the bits of a number, they are joined several times
// faster than sets, whose containers change their form and their memory at each.
type Words []uint64

// And leaves those who are in w and in m; both have one length.
func (w Words) And(m Words) {
	m = m[:len(w)]
	for len(w) >= 8 {
		d, s := (*[8]uint64)(w), (*[8]uint64)(m)
		d[0], d[1], d[2], d[3] = d[0]&s[0], d[1]&s[1], d[2]&s[2], d[3]&s[3]
		d[4], d[5], d[6], d[7] = d[4]&s[4], d[5]&s[5], d[6]&s[6], d[7]&s[7]
		w, m = w[8:], m[8:]
	}
	for i := range w {
		w[i] &= m[i]
	}
}

// AndNot leaves those who are in w and not in m; both have one length.
func (w Words) AndNot(m Words) {
	m = m[:len(w)]
	for len(w) >= 8 {
		d, s := (*[8]uint64)(w), (*[8]uint64)(m)
		d[0], d[1], d[2], d[3] = d[0]&^s[0], d[1]&^s[1], d[2]&^s[2], d[3]&^s[3]
		d[4], d[5], d[6], d[7] = d[4]&^s[4], d[5]&^s[5], d[6]&^s[6], d[7]&^s[7]
		w, m = w[8:], m[8:]
	}
	for i := range w {
		w[i] &^= m[i]
	}
}

// Or adds who is in m; both have one length.
func (w Words) Or(m Words) {
	m = m[:len(w)]
	for len(w) >= 8 {
		d, s := (*[8]uint64)(w), (*[8]uint64)(m)
		d[0], d[1], d[2], d[3] = d[0]|s[0], d[1]|s[1], d[2]|s[2], d[3]|s[3]
		d[4], d[5], d[6], d[7] = d[4]|s[4], d[5]|s[5], d[6]|s[6], d[7]|s[7]
		w, m = w[8:], m[8:]
	}
	for i := range w {
		w[i] |= m[i]
	}
}

// Count returns how many people there are.
func (w Words) Count() (n uint64) {
	for _, one := range w {
		n += uint64(bits.OnesCount64(one))
	}
	return n
}

// Bitmap returns the people as a set, which belongs to the caller.
func (w Words) Bitmap() *roaring.Bitmap { return roaring.FromDense(w, true) }

// A WordPool lends words of one length, and spreads sets out in them. The zero value
// is ready for Reset. It belongs to one goroutine; it keeps as many buffers as were
// lent at once.
type WordPool struct {
	Spreads int // sets spread out so far

	size   int
	free   []Words
	spread Words
}

// Reset sets how many words are lent at a time; those of another length are forgotten.
func (p *WordPool) Reset(size int) {
	if size == p.size {
		return
	}
	*p = WordPool{Spreads: p.Spreads, size: size, spread: make(Words, size)}
}

// Take lends words with anything in them.
func (p *WordPool) Take() Words {
	if n := len(p.free); n > 0 {
		w := p.free[n-1]
		p.free = p.free[:n-1]
		return w
	}
	return make(Words, p.size)
}

// Give takes words back.
func (p *WordPool) Give(w Words) { p.free = append(p.free, w) }

// Spread returns who is in a set; the words are valid until the next call. The set
// must not reach beyond the words.
func (p *WordPool) Spread(m *roaring.Bitmap) Words {
	p.SpreadTo(p.spread, m)
	return p.spread
}

// SpreadTo makes w the people of a set.
func (p *WordPool) SpreadTo(w Words, m *roaring.Bitmap) {
	p.Spreads++
	clear(w)
	m.WriteDenseTo(w)
}

// Words is how many words the people of a view take.
func (v *View) Words() int { return (int(v.end) + 63) / 64 }

// NumbersOf makes w who of a set has a number in the index.
func (x *IndexView) NumbersOf(p *WordPool, of *roaring.Bitmap, w Words) {
	p.SpreadTo(w, of)
	w.And(p.Spread(x.Has))
	if !x.Odd.IsEmpty() {
		w.AndNot(p.Spread(x.Odd))
	}
}

// BetweenWords is Between over words. within are people with a number (NumbersOf); it
// leaves those whose rank lies in [lo, hi] perhaps, and makes sure those of them
// whose does for sure.
// Cost: two or three passes over the words for every bit that the values use, and
// again where the index does not tell exactly.
func (x *IndexView) BetweenWords(p *WordPool, within, sure Words, lo, hi int64) {
	if lo > hi {
		clear(within)
		clear(sure)
		return
	}
	may, must := keysBetween(x.Key.Type, lo, hi)
	x.betweenWords(p, within, may)
	copy(sure, within)
	switch {
	case must == may:
	case must.lo > must.hi:
		clear(sure)
	default:
		x.betweenWords(p, sure, must)
	}
}

// Tells says whether the index knows of every number if its rank lies in [lo, hi].
func (x *IndexView) Tells(lo, hi int64) bool {
	may, must := keysBetween(x.Key.Type, lo, hi)
	return lo > hi || may == must
}

// KeepBetween leaves in w who has a number with a rank in [lo, hi], where the index
// Tells. Cost: two or three passes over the words for every bit that the values use.
func (x *IndexView) KeepBetween(p *WordPool, w Words, lo, hi int64) {
	if lo > hi {
		clear(w)
		return
	}
	w.And(p.Spread(x.Has))
	if !x.Odd.IsEmpty() {
		w.AndNot(p.Spread(x.Odd))
	}
	may, _ := keysBetween(x.Key.Type, lo, hi)
	x.betweenWords(p, w, may)
}

// keySpan is a range of keys, both ends belonging to it; none when lo > hi.
type keySpan struct{ lo, hi int64 }

// keysBetween returns the keys that numbers with a rank in [lo, hi] may have, and
// those that only such numbers have.
func keysBetween(kind ValueKind, lo, hi int64) (perhaps, sure keySpan) {
	perhaps = keySpan{int64(rankKey(kind, lo)), int64(rankKey(kind, hi))}
	sure = perhaps
	if lo != math.MinInt64 {
		sure.lo = int64(rankKey(kind, lo-1)) + 1
	}
	if hi != math.MaxInt64 {
		sure.hi = int64(rankKey(kind, hi+1)) - 1
	}
	return perhaps, sure
}

// betweenWords leaves in set who has a key in a span. Both ends are followed at
// once, so that each bit is spread out once.
func (x *IndexView) betweenWords(p *WordPool, set Words, keys keySpan) {
	const sign = popSlices - 1
	least, most := x.keys()
	if keys.lo > most || keys.hi < least {
		clear(set)
		return
	}
	var from, above keyBound
	if keys.lo > least {
		from = keyBound{words: p.Take(), key: uint32(keys.lo), whole: true}
	}
	if keys.hi < most {
		above = keyBound{words: p.Take(), key: uint32(keys.hi + 1), whole: true}
	}
	for i, slice := range x.slices[:sign] {
		if !from.asks(i) && !above.asks(i) {
			continue
		}
		var words Words // nil: nobody has a 1
		if slice != nil {
			words = p.Spread(slice)
		}
		from.next(i, words)
		above.next(i, words)
	}
	var negative Words
	if m := x.slices[sign]; m != nil && (from.words != nil || above.words != nil) {
		negative = p.Spread(m)
	}
	if from.words != nil {
		from.end(negative)
		set.And(from.words)
		p.Give(from.words)
	}
	if above.words != nil {
		above.end(negative)
		set.AndNot(above.words)
		p.Give(above.words)
	}
}

// keys returns between which keys all of the index lie.
func (x *IndexView) keys() (least, most int64) {
	if m := x.slices[popSlices-1]; m != nil && !m.IsEmpty() {
		return math.MinInt32, math.MaxInt32
	}
	for i, m := range x.slices {
		if m != nil && !m.IsEmpty() {
			most = 1<<(i+1) - 1
		}
	}
	return 0, most
}

// keyBound finds out who has a key ≥ key, bit by bit from the lowest: atLeast over
// words. Without words it asks nothing.
type keyBound struct {
	words Words
	key   uint32
	whole bool // everybody, so far; words hold anything
}

// asks says whether a bit changes who is found.
func (b *keyBound) asks(bit int) bool {
	return b.words != nil && (!b.whole || b.key>>bit&1 == 1)
}

// next looks at one bit more: at who has a 1 there.
func (b *keyBound) next(bit int, ones Words) {
	if !b.asks(bit) {
		return
	}
	switch one := b.key>>bit&1 == 1; {
	case one && ones == nil:
		clear(b.words)
	case one && b.whole:
		copy(b.words, ones)
	case one:
		b.words.And(ones)
	case ones != nil:
		b.words.Or(ones)
	}
	b.whole = false
}

// end looks at the sign: nil says that no key is negative.
func (b *keyBound) end(negative Words) {
	if b.whole {
		for i := range b.words {
			b.words[i] = math.MaxUint64
		}
	}
	switch below := int32(b.key) < 0; {
	case below && negative == nil:
		for i := range b.words {
			b.words[i] = math.MaxUint64
		}
	case below:
		for i, n := range negative {
			b.words[i] |= ^n
		}
	case negative != nil:
		b.words.AndNot(negative)
	}
}
