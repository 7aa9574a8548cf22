package wire

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"tact/engine"
)

// maxExact is the largest whole number up to which float64 is exact.
const maxExact = 1 << 53

// text reads a string.
func (r *reader) text() []byte {
	if c := r.peek(); c != '"' {
		r.wrongType(c, "a string")
		return nil
	}
	return r.quoted()
}

// filled reads a string that is not empty.
func (r *reader) filled() []byte {
	s := r.text()
	if len(s) == 0 {
		r.fail(CodeInvalidValue, "must not be empty")
	}
	return s
}

// texts reads a list of strings.
func (r *reader) texts() [][]byte {
	base := len(r.lists)
	if !r.list() {
		return nil
	}
	for r.element() {
		r.lists = append(r.lists, r.text())
	}
	if len(r.lists) == 0 { // no memory yet: an empty list is still a list
		return [][]byte{}
	}
	return r.lists[base:len(r.lists):len(r.lists)]
}

// quoted reads a string whose opening quote is the next byte.
func (r *reader) quoted() []byte {
	start := r.pos + 1
	end, high := plain(r.src, start)
	if end < len(r.src) && r.src[end] == '"' {
		s := r.src[start:end:end]
		if high && !utf8.Valid(s) {
			r.fail(CodeInvalidUTF8, "the string is not valid UTF-8")
			return nil
		}
		r.pos = end + 1
		return s
	}
	return r.unescape(start, end)
}

// plain gives the first position from i on that holds a quote, a backslash or
// a control character, or len(src), and whether a byte before it is not ASCII.
// Eight bytes are looked at together; the tests for a byte below 0x20, a quote
// and a backslash are the usual borrow tricks and may also flag a byte behind
// the first match, never one before it.
func plain(src []byte, i int) (end int, high bool) {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	var seen uint64
	for i+8 <= len(src) {
		w := binary.LittleEndian.Uint64(src[i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		hit := ((w-ones*0x20)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & tops
		if hit != 0 {
			n := bits.TrailingZeros64(hit) / 8
			seen |= w & (1<<(8*n) - 1)
			return i + n, seen&tops != 0
		}
		seen |= w
		i += 8
	}
	high = seen&tops != 0
	for ; i < len(src); i++ {
		c := src[i]
		if c == '"' || c == '\\' || c < 0x20 {
			break
		}
		high = high || c >= utf8.RuneSelf
	}
	return i, high
}

// unescape reads the rest of a string that begins at start into scratch; i is
// the first position that is not plain.
func (r *reader) unescape(start, i int) []byte {
	base := len(r.scratch)
	r.scratch = append(r.scratch, r.src[start:i]...)
	for {
		if i >= len(r.src) {
			r.pos = i
			r.fail(CodeTruncated, "the input ends inside a string")
			return nil
		}
		switch c := r.src[i]; {
		case c == '"':
			s := r.scratch[base:len(r.scratch):len(r.scratch)]
			if !utf8.Valid(s) {
				r.fail(CodeInvalidUTF8, "the string is not valid UTF-8")
				return nil
			}
			r.pos = i + 1
			return s
		case c == '\\':
			if i = r.escape(i); i < 0 {
				return nil
			}
		case c < 0x20:
			r.pos = i
			r.fail(CodeInvalidJSON, "a control character inside a string")
			return nil
		default:
			end, _ := plain(r.src, i)
			r.scratch = append(r.scratch, r.src[i:end]...)
			i = end
		}
	}
}

// escape reads the escape whose backslash is at i, appends what it stands for
// and gives the position behind it, or -1 after a fault.
func (r *reader) escape(i int) int {
	if i+1 >= len(r.src) {
		r.pos = len(r.src)
		r.fail(CodeTruncated, "the input ends inside a string")
		return -1
	}
	c := r.src[i+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return r.codePoint(i)
	default:
		r.pos = i
		r.fail(CodeInvalidJSON, "no such escape")
		return -1
	}
	r.scratch = append(r.scratch, c)
	return i + 2
}

// codePoint reads \uXXXX at i, with the second half of a surrogate pair.
func (r *reader) codePoint(i int) int {
	point := r.hex4(i)
	if point < 0 {
		return -1
	}
	i += 6
	if utf16.IsSurrogate(point) {
		if i+1 >= len(r.src) || r.src[i] != '\\' || r.src[i+1] != 'u' {
			r.pos = i
			r.fail(CodeInvalidUTF8, "half of a surrogate pair")
			return -1
		}
		low := r.hex4(i)
		if low < 0 {
			return -1
		}
		if point = utf16.DecodeRune(point, low); point == utf8.RuneError {
			r.pos = i
			r.fail(CodeInvalidUTF8, "half of a surrogate pair")
			return -1
		}
		i += 6
	}
	r.scratch = utf8.AppendRune(r.scratch, point)
	return i
}

// hex4 reads the four digits of \uXXXX at i; -1 after a fault.
func (r *reader) hex4(i int) rune {
	r.pos = i
	if i+6 > len(r.src) {
		r.fail(CodeTruncated, "the input ends inside a string")
		return -1
	}
	var n rune
	for _, c := range r.src[i+2 : i+6] {
		d := hexDigit(c)
		if d < 0 {
			r.fail(CodeInvalidJSON, "an escape needs four hexadecimal digits")
			return -1
		}
		n = n<<4 | rune(d)
	}
	return n
}

func hexDigit(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// literal reads a number and gives its text. want names what a fault says was expected.
func (r *reader) literal(want string) []byte {
	c := r.peek()
	if c != '-' && !isDigit(c) {
		r.wrongType(c, want)
		return nil
	}
	start := r.pos
	if c == '-' {
		r.pos++
	}
	if r.pos < len(r.src) && r.src[r.pos] == '0' {
		r.pos++
	} else {
		r.digits()
	}
	if r.pos < len(r.src) && r.src[r.pos] == '.' {
		r.pos++
		r.digits()
	}
	if r.pos < len(r.src) && r.src[r.pos]|0x20 == 'e' {
		r.pos++
		if r.pos < len(r.src) && (r.src[r.pos] == '+' || r.src[r.pos] == '-') {
			r.pos++
		}
		r.digits()
	}
	if r.pos-start > MaxNumber {
		r.fail(CodeNumber, "a number of more than 64 characters")
	}
	if r.fault != nil {
		return nil
	}
	return r.src[start:r.pos:r.pos]
}

// digits reads one or more digits.
func (r *reader) digits() {
	start := r.pos
	for r.pos < len(r.src) && isDigit(r.src[r.pos]) {
		r.pos++
	}
	if r.pos > start {
		return
	}
	if r.pos == len(r.src) {
		r.fail(CodeTruncated, "the input ends inside a number")
	} else {
		r.fail(CodeInvalidJSON, "expected a digit")
	}
}

// integer reads a whole number in [lo, hi], written without fraction or
// exponent; the bounds are within ±2^53.
func (r *reader) integer(lo, hi int64) int64 {
	lit := r.literal("a whole number")
	if r.fault != nil {
		return 0
	}
	n, whole, ok := wholeNumber(lit)
	if !whole {
		r.fail(CodeWrongType, "expected a whole number, found a fraction")
		return 0
	}
	if !ok || n < lo || n > hi {
		r.fail(CodeNumber, "must be from "+strconv.FormatInt(lo, 10)+
			" to "+strconv.FormatInt(hi, 10))
		return 0
	}
	return n
}

// float reads a finite number. A whole number beyond 2^53 is refused: it could
// not be kept exactly.
func (r *reader) float() float64 {
	lit := r.literal("a number")
	if r.fault != nil {
		return 0
	}
	if n, whole, ok := wholeNumber(lit); whole {
		if !ok || n > maxExact || n < -maxExact {
			r.fail(CodeNumber, "a whole number beyond 2^53")
		}
		return float64(n)
	}
	f, err := strconv.ParseFloat(string(lit), 64)
	if err != nil {
		r.fail(CodeNumber, "the number is too large")
		return 0
	}
	return f
}

// wholeNumber reads a checked literal: whole says that it has no fraction and
// no exponent, ok that it fits in 62 bits.
func wholeNumber(lit []byte) (n int64, whole, ok bool) {
	digits := lit
	if lit[0] == '-' {
		digits = lit[1:]
	}
	ok = len(digits) <= 18
	for _, c := range digits {
		if !isDigit(c) {
			return 0, false, false
		}
		if ok {
			n = n*10 + int64(c-'0')
		}
	}
	if lit[0] == '-' {
		n = -n
	}
	return n, true, ok
}

// value reads one value of any kind.
func (r *reader) value(v *engine.RawValue) {
	*v = engine.RawValue{}
	switch c := r.peek(); c {
	case '"':
		v.Kind, v.Text = engine.RawString, r.quoted()
	case 't', 'f':
		v.Kind, v.Bool = engine.RawBool, r.boolean()
	case 'n':
		r.word("null")
	case '{':
		v.Kind, v.Text = engine.RawOther, r.raw()
	case '[':
		if !r.strings(v) {
			v.Kind, v.Text = engine.RawOther, r.raw()
		}
	default:
		v.Kind, v.Text = engine.RawNumber, r.literal("a value")
	}
}

// strings reads a list of strings; for any other list it reads nothing and
// returns false.
func (r *reader) strings(v *engine.RawValue) bool {
	pos, depth, base, scratch := r.pos, r.depth, len(r.lists), len(r.scratch)
	if !r.list() {
		return true
	}
	for r.element() {
		if r.peek() != '"' {
			break
		}
		r.lists = append(r.lists, r.quoted())
	}
	if r.fault == nil && r.depth > depth {
		r.pos, r.depth, r.lists, r.scratch = pos, depth, r.lists[:base], r.scratch[:scratch]
		return false
	}
	v.Kind, v.List = engine.RawList, r.lists[base:len(r.lists):len(r.lists)]
	return true
}

// named reads an object of any members.
func (r *reader) named(dst []engine.NamedValue) []engine.NamedValue {
	var o object
	if !r.object(&o) {
		return dst
	}
	for r.member(&o) {
		dst = append(dst, engine.NamedValue{})
		last := &dst[len(dst)-1]
		last.Name = o.key
		r.value(&last.Value)
	}
	return dst
}

// time reads an RFC 3339 time with zone, as milliseconds since 1970.
func (r *reader) time() int64 {
	s := r.text()
	if r.fault != nil {
		return 0
	}
	ms, ok := ParseTime(s)
	if !ok {
		r.fail(CodeInvalidValue, "must be an RFC 3339 time with zone, as 2026-11-22T09:30:00+08:00")
	}
	if ms == 0 {
		ms = 1 // 0 says "absent" to the engine; the epoch itself is a real time
	}
	return ms
}
