package rule

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"strconv"

	"tact/engine/definition"
	"tact/storage"
)

// A property of the elements of a list, such as items[].price, is kept as a list
// of texts: of each element that has the member what the caller wrote, a number as
// its digits, a bool as true or false.

// anyElement says whether the test holds for one element of a packed list: (uvarint
// length, bytes) per element. Broken bytes end it.
func (t *test) anyElement(v storage.Value) bool {
	if v.Kind != storage.KindList {
		return false
	}
	for packed := v.Bytes; len(packed) > 0; {
		size, n := binary.Uvarint(packed)
		if n <= 0 || size > uint64(len(packed)-n) {
			return false
		}
		text := packed[n : n+int(size)]
		packed = packed[n+int(size):]
		if one, ok := elementValue(text, t.typ); ok && t.static(one) {
			return true
		}
	}
	return false
}

// anyKnown says whether one of the elements reads as a value of the property.
func (b *behaviour) anyKnown(v storage.Value) bool {
	t := test{kind: testKnown, typ: b.ofType}
	return t.anyElement(v)
}

// MaxElements is how many different elements one condition tells apart: of more it
// knows that there are more.
const MaxElements = 1024

// elementSet is different values: a table of 2 × MaxElements places, each probed
// from its hash on. The hash is seeded anew for every set, so that no caller can
// choose elements that fall together. It lies on the stack, 45 KB.
type elementSet struct {
	seed   maphash.Seed
	n      int
	places [2 * MaxElements]uint16 // 1 + place in values; 0: free
	values [MaxElements]storage.Value
}

// add says false when there is no room for another value.
func (s *elementSet) add(v storage.Value) bool {
	var number [8]byte
	key := v.Bytes
	if v.Kind != storage.KindString {
		binary.LittleEndian.PutUint64(number[:], v.Num)
		key = number[:]
	}
	const places = uint64(len(s.places))
	for i := maphash.Bytes(s.seed, key) % places; ; i = (i + 1) % places {
		at := s.places[i]
		if at != 0 {
			if o := &s.values[at-1]; o.Num == v.Num && string(o.Bytes) == string(v.Bytes) {
				return true
			}
			continue
		}
		if s.n == MaxElements {
			return false
		}
		s.values[s.n] = v
		s.n++
		s.places[i] = uint16(s.n)
		return true
	}
}

// distinctElements counts the different elements in the window; whole is false
// when there are more.
func (e *evaluation) distinctElements(b *behaviour, s span) (n int, whole bool) {
	set := elementSet{seed: maphash.MakeSeed()}
	w := e.walk(&b.steps[0])
	for c := w.next(); c != nil && c.Occurred >= s.lo; c = w.next() {
		if !e.counts(b, &s, c) {
			continue
		}
		v, ok := c.Prop(b.of)
		if !ok || v.Kind != storage.KindList {
			continue
		}
		for packed := v.Bytes; len(packed) > 0; {
			size, n := binary.Uvarint(packed)
			if n <= 0 || size > uint64(len(packed)-n) {
				break
			}
			one, ok := elementValue(packed[n:n+int(size)], b.ofType)
			packed = packed[n+int(size):]
			if one.Kind == storage.KindFloat && math.Float64frombits(one.Num) == 0 {
				one.Num = 0 // minus zero is zero
			}
			if ok && !set.add(one) {
				return set.n, false
			}
		}
	}
	return set.n, true
}

// likeNumber says whether a text may be a number, by its first byte: what strconv
// refuses costs an allocation.
func likeNumber(text []byte) bool {
	if len(text) == 0 {
		return false
	}
	switch c := text[0]; c {
	case '+', '-', '.', 'i', 'I', 'n', 'N':
		return true
	default:
		return '0' <= c && c <= '9'
	}
}

// elementValue reads one element as a value of a type. It does not allocate when
// the element reads as one.
func elementValue(text []byte, typ definition.AttrType) (v storage.Value, ok bool) {
	number := typ == definition.TypeInt || typ == definition.TypeFloat
	if number && !likeNumber(text) {
		return v, false
	}
	switch typ {
	case definition.TypeString:
		return storage.Value{Kind: storage.KindString, Bytes: text}, true
	case definition.TypeBool:
		if string(text) == "true" {
			v.Num = 1
		}
		v.Kind = storage.KindBool
		return v, v.Num == 1 || string(text) == "false"
	case definition.TypeInt:
		n, err := strconv.ParseInt(string(text), 10, 64)
		return storage.Value{Kind: storage.KindInt, Num: uint64(n)}, err == nil
	case definition.TypeFloat:
		f, err := strconv.ParseFloat(string(text), 64)
		return storage.Value{Kind: storage.KindFloat, Num: math.Float64bits(f)}, err == nil && f == f
	}
	return v, false
}

// addElements adds the numbers of a packed list up.
func addElements(sums *storage.Sums, v storage.Value) {
	if v.Kind != storage.KindList {
		return
	}
	for packed := v.Bytes; len(packed) > 0; {
		size, n := binary.Uvarint(packed)
		if n <= 0 || size > uint64(len(packed)-n) {
			return
		}
		one, ok := elementValue(packed[n:n+int(size)], definition.TypeFloat)
		packed = packed[n+int(size):]
		if f := math.Float64frombits(one.Num); ok && !math.IsInf(f, 0) {
			sums.Join(storage.Sums{N: 1, Sum: f, Min: f, Max: f})
		}
	}
}
