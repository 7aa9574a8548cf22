package storage

import (
	"encoding/binary"
	"math"

	"github.com/RoaringBitmap/roaring/v2"
)

// IndexKind says what a population index is about.
type IndexKind uint8

// Kinds of indexes.
const (
	IndexEveryone IndexKind = iota + 1 // who is no visitor and not gone
	IndexAttr                          // values of the attribute ID, declared as Type
	IndexTag                           // values of the enum tag ID
	IndexEvent                         // who ever had the event ID; 0: any event
	IndexOutcome                       // who ever had the outcome ID; 0: any outcome
)

// IndexKey names an index of a group.
type IndexKey struct {
	Kind IndexKind
	Type ValueKind // of IndexAttr
	ID   Name
}

const (
	// popValues bounds the values of one attribute that have a bitmap each; who
	// holds another value is known to hold some other one.
	popValues = 256
	// popText bounds the length of such a value.
	popText = 128
	// popSlices is the bits of a key: see rankKey.
	popSlices = 32
	// popBytes bounds the indexes: so many bytes a person, and popFloor.
	popBytes = 128
	popFloor = 1 << 20
)

// A population holds the indexes by which a group answers "which people": sets
// of ordinals, derived from rows, never logged nor written out. An index comes
// into being when a rule over the whole population first names its subject,
// block by block while changes go on, and is kept up by apply from then on; a
// start begins without any. Together they take at most popBytes a person: beyond
// it the one that was asked for least recently goes, unless a question is building
// it: a question for whose indexes there is no room goes without them.
//
// Bytes a person, at most: values 2.5 (one bit where a value is common), numbers
// 4.5 (one bit for every bit the values use), events and everyone 0.25.
//
// All indexes are safe to be kept up before they are complete: entering a
// person twice changes nothing.
type population struct {
	all    map[IndexKey]*popIndex
	attrs  map[Name][]*popIndex
	tags   []*popIndex
	asks   uint64 // counts questions, for the order of going
	before []popChange
}

// popIndex is one index.
type popIndex struct {
	key      IndexKey
	complete bool
	next     Ord // the person to be read next
	asked    uint64
	pins     int // questions that are building it

	has    *roaring.Bitmap // a value of the kind is there; of events: the answer
	odd    *roaring.Bitmap // the value has no bitmap, or is no value of the type
	codes  map[string]uint16
	values []string // by code; only appended to
	sets   []*roaring.Bitmap
	slices [popSlices]*roaring.Bitmap // bits of keys, lowest first; nil: no bit is set
}

// popCell is what one person has in one index.
type popCell struct {
	state popState
	key   int32 // popCoded: the code; popNumber: the key
}

type popState uint8

const (
	popNone popState = iota
	popOdd
	popCoded
	popNumber
	popHas // of a set without values
)

type popChange struct {
	x   *popIndex
	old popCell
}

func newPopulation() population {
	return population{all: map[IndexKey]*popIndex{}, attrs: map[Name][]*popIndex{}}
}

func newSet() *roaring.Bitmap {
	m := roaring.New()
	m.SetCopyOnWrite(true)
	return m
}

// numeric says that a kind is kept as bits of a key.
func (k ValueKind) numeric() bool {
	return k == KindInt || k == KindFloat || k == KindDate || k == KindTime
}

// bytes estimates an index of a group with so many people, from above.
func (k IndexKey) bytes(people int) int64 {
	quarters := int64(1)
	switch {
	case k.Kind == IndexAttr && k.Type.numeric():
		quarters = 18
	case k.Kind == IndexAttr || k.Kind == IndexTag:
		quarters = 10
	}
	return quarters * int64(people) / 4
}

// bytes estimates all indexes.
func (p *population) bytes(people int) int64 {
	var n int64
	for k := range p.all {
		n += k.bytes(people)
	}
	return n
}

// open returns the index of a key, new when there is none, or nil when there is
// no room: those of keep are not given up for it.
func (p *population) open(k IndexKey, people int, keep []IndexKey) *popIndex {
	p.asks++
	if x := p.all[k]; x != nil {
		x.asked = p.asks
		return x
	}
	for room := popFloor + popBytes*int64(people); p.bytes(people)+k.bytes(people) > room; {
		if !p.drop(keep) {
			return nil
		}
	}
	x := &popIndex{key: k, asked: p.asks, has: newSet(), odd: newSet()}
	p.all[k] = x
	switch k.Kind {
	case IndexAttr:
		p.attrs[k.ID] = append(p.attrs[k.ID], x)
	case IndexTag:
		p.tags = append(p.tags, x)
	}
	if k.Kind == IndexTag || k.Kind == IndexAttr && !k.Type.numeric() {
		x.codes = map[string]uint16{}
	}
	return x
}

// drop gives up the index that was asked for least recently; false when all are
// in keep or being built.
func (p *population) drop(keep []IndexKey) bool {
	var last *popIndex
next:
	for k, x := range p.all {
		for _, kept := range keep {
			if k == kept {
				continue next
			}
		}
		if x.pins > 0 {
			continue
		}
		if last == nil || x.asked < last.asked {
			last = x
		}
	}
	if last == nil {
		return false
	}
	delete(p.all, last.key)
	without := func(list []*popIndex) []*popIndex {
		var left []*popIndex
		for _, x := range list {
			if x != last {
				left = append(left, x)
			}
		}
		return left
	}
	p.tags = without(p.tags)
	if left := without(p.attrs[last.key.ID]); len(left) > 0 {
		p.attrs[last.key.ID] = left
	} else {
		delete(p.attrs, last.key.ID)
	}
	return true
}

// join enters a person who is no visitor.
func (p *population) join(o Ord) {
	if x := p.all[IndexKey{Kind: IndexEveryone}]; x != nil {
		enter(x.has, o)
	}
}

// leave takes a person out of every index.
func (p *population) leave(o Ord) {
	for _, x := range p.all {
		x.has.Remove(uint32(o))
		x.odd.Remove(uint32(o))
		for _, m := range x.sets {
			m.Remove(uint32(o))
		}
		for _, m := range x.slices {
			if m != nil {
				m.Remove(uint32(o))
			}
		}
	}
}

// did enters a person who has had an event or an outcome.
func (p *population) did(o Ord, kind IndexKind, event Name) {
	for _, id := range [...]Name{event, 0} {
		if x := p.all[IndexKey{Kind: kind, ID: id}]; x != nil {
			enter(x.has, o)
		}
	}
}

// patching notes what a profile has in the indexes of the attributes that a
// patch names, before it is changed.
func (p *population) patching(patch *Patch, old Profile) {
	p.before = p.before[:0]
	if len(p.attrs) == 0 {
		return
	}
	for i := range patch.Attrs {
		for _, x := range p.attrs[patch.Attrs[i].ID] {
			v, ok := old.Attr(x.key.ID)
			p.before = append(p.before, popChange{x, x.cell(v, ok, false)})
		}
	}
}

// patched brings the indexes from what patching noted to the new profile.
func (p *population) patched(o Ord, now Profile) {
	for _, c := range p.before {
		v, ok := now.Attr(c.x.key.ID)
		c.x.change(o, c.old, c.x.cell(v, ok, true))
	}
}

// retag brings the indexes of tags from a person's old tags to the new ones.
func (p *population) retag(o Ord, old, now []TagValue) {
	for _, x := range p.tags {
		was, is := popCell{}, popCell{}
		if i, ok := findTag(old, x.key.ID); ok {
			was = x.tagCell(old[i].Value, false)
		}
		if i, ok := findTag(now, x.key.ID); ok {
			is = x.tagCell(now[i].Value, true)
		}
		x.change(o, was, is)
	}
}

// cell is where a value belongs; mint makes room for a value never seen.
func (x *popIndex) cell(v Value, ok, mint bool) popCell {
	kind := x.key.Type
	if !ok || v.Kind != kind && (kind != KindFloat || v.Kind != KindInt) {
		return popCell{}
	}
	if !kind.numeric() {
		if kind == KindBool {
			// "\x00", "\x01", or another byte for what is none
			return x.code([]byte{byte(min(v.Num, 255))}, mint)
		}
		if len(v.Bytes) > popText {
			return popCell{state: popOdd}
		}
		return x.code(v.Bytes, mint)
	}
	rank, ok := valueRank(kind, v)
	if !ok {
		return popCell{state: popOdd}
	}
	return popCell{popNumber, rankKey(kind, rank)}
}

func (x *popIndex) tagCell(value Name, mint bool) popCell {
	if value == 0 {
		return popCell{}
	}
	var text [4]byte
	binary.BigEndian.PutUint32(text[:], uint32(value))
	return x.code(text[:], mint)
}

// code gives a value its code. Values are spelled as stored; a bool is one byte, a
// value of a tag its number in four bytes, big-endian.
func (x *popIndex) code(text []byte, mint bool) popCell {
	code, ok := x.codes[string(text)]
	if !ok {
		if !mint || len(x.values) == popValues {
			return popCell{state: popOdd}
		}
		code = uint16(len(x.values))
		value := string(text)
		x.codes[value] = code
		x.values = append(x.values, value)
		x.sets = append(x.sets, newSet())
	}
	return popCell{popCoded, int32(code)}
}

// change moves a person from one cell to another. The person need not have been
// in the first.
func (x *popIndex) change(o Ord, old, now popCell) {
	if old == now {
		return
	}
	if now.state == popNone {
		x.has.Remove(uint32(o))
	} else {
		enter(x.has, o)
	}
	if old.state == popOdd {
		x.odd.Remove(uint32(o))
	}
	if now.state == popOdd {
		enter(x.odd, o)
	}
	if old.state == popCoded {
		x.sets[old.key].Remove(uint32(o))
	}
	if now.state == popCoded {
		enter(x.sets[now.key], o)
	}
	if old.state == popNumber || now.state == popNumber {
		x.rekey(o, uint32(old.key), uint32(now.key))
	}
}

// rekey brings the slices from one key to another; a cell without a number has
// the key 0.
func (x *popIndex) rekey(o Ord, old, now uint32) {
	for i := range x.slices {
		switch {
		case now>>i&1 == 1:
			if x.slices[i] == nil {
				x.slices[i] = newSet()
			}
			enter(x.slices[i], o)
		case old>>i&1 == 1 && x.slices[i] != nil:
			x.slices[i].Remove(uint32(o))
		}
	}
}

// enter adds a person; a set that has the person already is not copied.
func enter(m *roaring.Bitmap, o Ord) {
	if !m.Contains(uint32(o)) {
		m.Add(uint32(o))
	}
}

// valueRank gives a number its rank: of two values of a kind the smaller one has
// the smaller rank. ok is false for what is no value: a NaN.
func valueRank(kind ValueKind, v Value) (rank int64, ok bool) {
	if kind != KindFloat {
		return int64(v.Num), true
	}
	f := math.Float64frombits(v.Num)
	if v.Kind == KindInt {
		f = float64(int64(v.Num))
	}
	return FloatRank(f), f == f
}

// FloatRank is the rank of a float in an index: it rises with the number, and
// both zeros have one.
func FloatRank(f float64) int64 {
	if f == 0 {
		return 0
	}
	bits := int64(math.Float64bits(f))
	if bits < 0 {
		bits ^= math.MaxInt64
	}
	return bits
}

// rankShift is how many low bits of a rank an index leaves out: of a time 11, so
// that 32 bits reach 139 years around 1970 in steps of two seconds; of a float
// 32, which leaves its sign, its exponent and 20 bits of its fraction.
func rankShift(kind ValueKind) uint {
	switch kind {
	case KindTime:
		return 11
	case KindFloat:
		return 32
	}
	return 0
}

// rankKey is what is kept of a rank: its high bits, or the nearest key when they
// do not fit. It rises with the rank.
func rankKey(kind ValueKind, rank int64) int32 {
	return int32(min(max(rank>>rankShift(kind), math.MinInt32), math.MaxInt32))
}
