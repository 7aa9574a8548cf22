package eventlog

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// Tags of a coded value. Those up to tagDigits and from tagDirect on are strings.
const (
	tagVerbatim = iota // length uvarint, bytes
	tagShared          // uvarint: an entry behind the direct ones
	tagUUID            // 16 bytes: of a canonical UUID in lower case
	tagDigits          // entry of the prefix + 1 uvarint (0: none), width u8, number uvarint
	tagNull
	tagFalse
	tagTrue
	tagInt     // zig-zag
	tagDecimal // zig-zag, places behind the point u8
	tagOther   // length uvarint, JSON as it was
	tagDirect  = 16
	direct     = 256 - tagDirect // entries that need no number of their own
)

const (
	maxShared  = 64      // bytes of a shared value
	maxEntries = 1 << 16 // of a table
	maxDigits  = 18      // they fit in 63 bits
	uuidText   = 36
)

// object is a JSON object taken apart at its top level.
type object struct {
	keys   []byte   // each a text: length uvarint, bytes as they stood between the quotes
	values [][]byte // views
}

// parse takes raw apart. False: raw is not an object in compact form. What it
// accepts, join gives back byte for byte.
func (o *object) parse(raw []byte) bool {
	o.keys, o.values = o.keys[:0], o.values[:0]
	if len(raw) < 2 || raw[0] != '{' || raw[len(raw)-1] != '}' {
		return false
	}
	b := raw[1 : len(raw)-1]
	for first := true; len(b) > 0; first = false {
		if !first {
			if b[0] != ',' {
				return false
			}
			b = b[1:]
		}
		n := stringEnd(b)
		if n == 0 || n >= len(b) || b[n] != ':' {
			return false
		}
		o.keys = appendText(o.keys, b[1:n-1])
		b = b[n+1:]
		if n = valueEnd(b); n == 0 {
			return false
		}
		o.values = append(o.values, b[:n:n])
		b = b[n:]
	}
	return true
}

// Property returns the value of a property of a compact JSON object, as it stands
// there; false: the object has none of that name, or is not compact. A name that
// is written with an escape is not found. It does not allocate.
func Property(raw, name []byte) (value []byte, ok bool) {
	if len(raw) < 2 || raw[0] != '{' || raw[len(raw)-1] != '}' {
		return nil, false
	}
	for b := raw[1 : len(raw)-1]; len(b) > 0; {
		n := stringEnd(b)
		if n == 0 || n >= len(b) || b[n] != ':' {
			return nil, false
		}
		key := b[1 : n-1]
		b = b[n+1:]
		if n = valueEnd(b); n == 0 {
			return nil, false
		}
		if string(key) == string(name) {
			return b[:n:n], true
		}
		b = b[n:]
		if len(b) > 0 {
			b = b[1:] // the comma
		}
	}
	return nil, false
}

// stringEnd returns the length of the JSON string at the front of b, 0 when there
// is none.
func stringEnd(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// valueEnd returns the length of the value at the front of b: up to the comma or
// the end at its own depth. 0: there is none.
func valueEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringEnd(b[i:])
			if n == 0 {
				return 0
			}
			i += n - 1
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	if depth != 0 {
		return 0
	}
	return len(b)
}

// coder codes texts and JSON values. Values says which strings have an entry.
type coder struct {
	values map[string]uint32
	render []byte
}

// appendString codes a string.
func (c *coder) appendString(dst, s []byte) []byte {
	if i, ok := c.values[string(s)]; ok {
		return appendEntry(dst, i)
	}
	if id, ok := parseUUID(s); ok {
		return append(append(dst, tagUUID), id[:]...)
	}
	if n := trailingDigits(s); n > 0 {
		number, err := strconv.ParseUint(string(s[len(s)-n:]), 10, 63)
		i, ok := c.values[string(s[:len(s)-n])]
		if err == nil && (ok || n == len(s)) {
			entry := uint64(0)
			if n < len(s) {
				entry = uint64(i) + 1
			}
			dst = binary.AppendUvarint(append(dst, tagDigits), entry)
			return binary.AppendUvarint(append(dst, byte(n)), number)
		}
	}
	return appendText(append(dst, tagVerbatim), s)
}

func appendEntry(dst []byte, i uint32) []byte {
	if i < direct {
		return append(dst, byte(tagDirect+i))
	}
	return binary.AppendUvarint(append(dst, tagShared), uint64(i-direct))
}

// appendValue codes one JSON value.
func (c *coder) appendValue(dst, v []byte) []byte {
	switch {
	case len(v) > 0 && stringEnd(v) == len(v):
		return c.appendString(dst, v[1:len(v)-1])
	case string(v) == "null":
		return append(dst, tagNull)
	case string(v) == "false":
		return append(dst, tagFalse)
	case string(v) == "true":
		return append(dst, tagTrue)
	}
	if number, places, ok := parseDecimal(v); ok {
		c.render = appendDecimal(c.render[:0], number, places)
		if string(c.render) == string(v) {
			if places == 0 {
				return appendVarint(append(dst, tagInt), number)
			}
			return append(appendVarint(append(dst, tagDecimal), number), byte(places))
		}
	}
	return appendText(append(dst, tagOther), v)
}

// parseDecimal reads digits with at most one point between them.
func parseDecimal(v []byte) (number int64, places int, ok bool) {
	negative := len(v) > 0 && v[0] == '-'
	if negative {
		v = v[1:]
	}
	if len(v) == 0 || len(v) > maxDigits {
		return 0, 0, false
	}
	point := -1
	for i, c := range v {
		switch {
		case c >= '0' && c <= '9':
			number = number*10 + int64(c-'0')
		case c == '.' && point < 0:
			point = i
		default:
			return 0, 0, false
		}
	}
	if point >= 0 {
		places = len(v) - point - 1
	}
	if negative {
		number = -number
	}
	return number, places, true
}

// appendDecimal writes number / 10^places, with all its places.
func appendDecimal(dst []byte, number int64, places int) []byte {
	if number < 0 {
		dst = append(dst, '-')
	}
	var digits [20]byte
	n := len(strconv.AppendUint(digits[:0], magnitude(number), 10))
	whole := max(n-places, 0)
	if whole == 0 {
		dst = append(dst, '0')
	}
	dst = append(dst, digits[:whole]...)
	if places == 0 {
		return dst
	}
	dst = append(dst, '.')
	for range places - n {
		dst = append(dst, '0')
	}
	return append(dst, digits[whole:n]...)
}

func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

// trailingDigits counts the digits that s ends in, at most maxDigits; 0 when
// there are more.
func trailingDigits(s []byte) int {
	n := 0
	for n < len(s) && s[len(s)-1-n] >= '0' && s[len(s)-1-n] <= '9' {
		n++
	}
	if n > maxDigits {
		return 0
	}
	return n
}

// parseUUID reads a UUID as it is written canonically, in lower case.
func parseUUID(s []byte) (id [16]byte, ok bool) {
	if len(s) != uuidText || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, false
	}
	// No branch hangs on a digit, since which comes next cannot be guessed.
	const digits = "0123456789abcdef"
	n, wrong := 0, byte(0)
	for i := 0; i < uuidText; i += 2 {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			i++
		}
		high, low := s[i], s[i+1]
		h, l := high&15+9*(high>>6), low&15+9*(low>>6)
		wrong |= (digits[h&15] ^ high) | (digits[l&15] ^ low)
		id[n] = h<<4 | l&15
		n++
	}
	return id, wrong == 0
}

func appendUUID(dst, id []byte) []byte {
	for i, part := range [...][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, id[part[0]:part[1]])
	}
	return dst
}

// decoder reads what a coder wrote. Values are the entries, by number.
type decoder struct {
	in     reader
	values [][]byte
}

func (d *decoder) entry(i uint64) []byte {
	if i >= uint64(len(d.values)) {
		d.in.fail()
		return nil
	}
	return d.values[i]
}

// string appends one string to dst.
func (d *decoder) string(dst []byte) []byte {
	return d.stringOf(dst, d.in.u8())
}

func (d *decoder) stringOf(dst []byte, tag uint8) []byte {
	switch {
	case tag >= tagDirect:
		return append(dst, d.entry(uint64(tag-tagDirect))...)
	case tag == tagVerbatim:
		return append(dst, d.in.text()...)
	case tag == tagShared:
		i := d.in.uvarint()
		if i >= maxEntries {
			d.in.fail()
			return dst
		}
		return append(dst, d.entry(i+direct)...)
	case tag == tagUUID:
		if id := d.in.take(16); id != nil {
			return appendUUID(dst, id)
		}
		return dst
	case tag == tagDigits:
		return d.digits(dst)
	}
	d.in.fail()
	return dst
}

func (d *decoder) digits(dst []byte) []byte {
	if i := d.in.uvarint(); i > 0 {
		dst = append(dst, d.entry(i-1)...)
	}
	width, number := int(d.in.u8()), d.in.uvarint()
	if width == 0 || width > maxDigits {
		d.in.fail()
		return dst
	}
	var buf [20]byte
	digits := strconv.AppendUint(buf[:0], number, 10)
	for range width - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// value appends one JSON value to dst.
func (d *decoder) value(dst []byte) []byte {
	switch tag := d.in.u8(); tag {
	case tagNull:
		return append(dst, "null"...)
	case tagFalse:
		return append(dst, "false"...)
	case tagTrue:
		return append(dst, "true"...)
	case tagInt:
		return strconv.AppendInt(dst, d.in.varint(), 10)
	case tagDecimal:
		number, places := d.in.varint(), int(d.in.u8())
		if places > maxDigits {
			d.in.fail()
			return dst
		}
		return appendDecimal(dst, number, places)
	case tagOther:
		return append(dst, d.in.text()...)
	default:
		return append(d.stringOf(append(dst, '"'), tag), '"')
	}
}

// object appends the object with the keys of a shape to dst.
func (d *decoder) object(dst, shape []byte) []byte {
	dst = append(dst, '{')
	keys := reader{b: shape}
	for first := true; len(keys.b) > 0 && !d.in.bad; first = false {
		if !first {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), keys.text()...), '"', ':')
		dst = d.value(dst)
	}
	if keys.bad {
		d.in.fail()
	}
	return append(dst, '}')
}
