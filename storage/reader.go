package storage

import (
	"encoding/binary"
	"math"
)

// A reader takes fields off the front of b. After a field that is not there,
// bad is set and every further field is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return le16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return le32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return le64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	if r.bad {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// name takes a dictionary id.
func (r *reader) name() Name {
	v := r.uvarint()
	if v > math.MaxUint32 {
		r.bad = true
		return 0
	}
	return Name(v)
}

// text takes a uvarint length and that many bytes.
func (r *reader) text() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

// value takes what appendValue wrote.
func (r *reader) value() Value {
	v := Value{Kind: ValueKind(r.byte())}
	switch v.Kind {
	case KindNone:
	case KindBool:
		v.Num = uint64(r.byte())
		r.bad = r.bad || v.Num > 1
	case KindInt, KindDate, KindTime:
		u := r.uvarint()
		v.Num = u>>1 ^ -(u & 1)
	case KindFloat:
		v.Num = r.u64()
	case valueHundredths:
		u := r.uvarint()
		r.bad = r.bad || u >= 1<<51
		v.Kind, v.Num = KindFloat, math.Float64bits(float64(unzig(u))/100)
	case KindString, KindList, KindSemver:
		v.Bytes = r.text()
	default:
		r.bad = true
	}
	if r.bad {
		return Value{}
	}
	return v
}

// valueHundredths is the stored kind of a float that is so many hundredths.
const valueHundredths ValueKind = 0x40

// appendValue appends a typed value:
//
//	kind u8 | bool: u8 · int, date, time: zig-zag uvarint ·
//	          float: 8 bytes little-endian · string, semver, list: uvarint length, bytes
//
// A float that is a whole number of hundredths may be them, with the kind valueHundredths
// and as an int: from row format 2 on.
func appendValue(dst []byte, v Value) []byte {
	dst = append(dst, byte(v.Kind))
	switch v.Kind {
	case KindBool:
		return append(dst, byte(v.Num&1))
	case KindInt, KindDate, KindTime:
		return binary.AppendVarint(dst, int64(v.Num))
	case KindFloat:
		if n, ok := hundredths(math.Float64frombits(v.Num)); ok {
			dst[len(dst)-1] = byte(valueHundredths)
			return binary.AppendVarint(dst, n)
		}
		return binary.LittleEndian.AppendUint64(dst, v.Num)
	case KindString, KindList, KindSemver:
		dst = binary.AppendUvarint(dst, uint64(len(v.Bytes)))
		return append(dst, v.Bytes...)
	}
	return dst
}

// checkValue reports whether v is of a known kind.
func checkValue(v Value) bool {
	return v.Kind >= KindBool && v.Kind <= KindSemver && (v.Kind != KindBool || v.Num <= 1)
}
