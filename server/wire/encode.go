package wire

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// writer appends JSON. Every object and list is opened and closed by its
// caller; comma puts a comma where one is due.
type writer []byte

// comma separates a member or element from the one before.
func (w *writer) comma() { *w = appendComma(*w) }

func appendComma(b []byte) []byte {
	if n := len(b); n > 0 {
		switch b[n-1] {
		case '{', '[', ':', ',':
		default:
			b = append(b, ',')
		}
	}
	return b
}

// name writes the name of a member; name is plain ASCII.
func (w *writer) name(name string) {
	b := append(appendComma(*w), '"')
	b = append(b, name...)
	*w = append(b, '"', ':')
}

func (w *writer) open(c byte) { *w = append(appendComma(*w), c) }

func (w *writer) close(c byte) { *w = append(*w, c) }

// text writes a member with a string; empty strings are left out.
func (w *writer) text(name, s string) {
	if s != "" {
		w.name(name)
		*w = appendString(*w, s)
	}
}

// bytes writes a member with a string; empty strings are left out.
func (w *writer) bytes(name string, s []byte) {
	if len(s) > 0 {
		w.name(name)
		*w = appendString(*w, s)
	}
}

func (w *writer) int(name string, n int64) {
	w.name(name)
	*w = strconv.AppendInt(*w, n, 10)
}

func (w *writer) float(name string, f float64) {
	w.name(name)
	*w = appendFloat(*w, f)
}

func (w *writer) bool(name string, b bool) {
	w.name(name)
	*w = strconv.AppendBool(*w, b)
}

func (w *writer) time(name string, ms int64) {
	w.name(name)
	*w = appendTime(*w, ms)
}

// objects writes a member with a list of objects; one writes the members of an
// element.
func objects[T any](w *writer, name string, all []T, one func(*T)) {
	w.name(name)
	w.open('[')
	for i := range all {
		w.open('{')
		one(&all[i])
		w.close('}')
	}
	w.close(']')
}

// texts writes a member with a list of strings.
func (w *writer) texts(name string, list []string) {
	w.name(name)
	w.open('[')
	for _, s := range list {
		w.comma()
		*w = appendString(*w, s)
	}
	w.close(']')
}

// appendString appends s as a JSON string. Bytes that are not valid UTF-8 are
// replaced by U+FFFD: text from the store is valid, so this never alters any.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := plainASCII(s); i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = appendEscape(dst, c)
			i++
			start = i
			continue
		}
		n := runeLength(s, i)
		if n == 0 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\uFFFD"...)
			i++
			start = i
			continue
		}
		i += n
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// plainASCII gives a position up to which s is ASCII that stands for itself: len(s), or at
// most eight bytes before what is not. Eight bytes are looked at together, as in plain.
func plainASCII[T string | []byte](s T) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		if (w|(w-ones*0x20)|(quote-ones)&^quote|(slash-ones)&^slash)&tops != 0 {
			return i
		}
	}
	return i
}

// runeLength gives the length of the rune at i, 0 when it is not valid UTF-8.
func runeLength[T string | []byte](s T, i int) int {
	var buf [utf8.UTFMax]byte
	n := copy(buf[:], s[i:])
	r, size := utf8.DecodeRune(buf[:n])
	if r == utf8.RuneError && size <= 1 {
		return 0
	}
	return size
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
}

// appendFloat appends the shortest text that reads back as f. JSON has no word
// for what is not finite: that becomes null.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	// A number of few decimals is the quotient of two whole ones, which is rounded as
	// reading its digits is, and no shorter text is nearer to it.
	if n := math.Round(f * 1e4); n/1e4 == f && math.Abs(n) < 1e15 && (n != 0 || !math.Signbit(f)) {
		return appendDecimals(dst, int64(n))
	}
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// appendDecimals appends n ten-thousandths, without zeros at the end.
func appendDecimals(dst []byte, n int64) []byte {
	if n < 0 {
		dst, n = append(dst, '-'), -n
	}
	dst = strconv.AppendInt(dst, n/1e4, 10)
	rest := n % 1e4
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := int64(1000); rest != 0; unit /= 10 {
		dst = append(dst, '0'+byte(rest/unit))
		rest %= unit
	}
	return dst
}

// maxMsec is the last millisecond of the year 9999; minMsec the first of year 1.
const (
	maxMsec = 253402300799999
	minMsec = -62135596800000
)

// appendTime appends milliseconds since 1970 as a quoted RFC 3339 time in UTC
// with three digits of fraction. Times outside the years 1 to 9999 become the
// nearest that can be written.
func appendTime(dst []byte, ms int64) []byte {
	ms = max(minMsec, min(maxMsec, ms))
	const dayMsec = 86400 * 1000
	days := ms / dayMsec
	rest := ms % dayMsec
	if rest < 0 {
		rest += dayMsec
		days--
	}
	dst = appendDate(append(dst, '"'), days)
	at := int(rest)
	h, m, s := at/3600000, at/60000%60, at/1000%60
	return append(dst, 'T', digit(h/10), digit(h), ':', digit(m/10), digit(m), ':',
		digit(s/10), digit(s), '.', digit(at/100), digit(at/10), digit(at), 'Z', '"')
}

// digit is the last decimal digit of n; 0 <= n.
func digit(n int) byte { return '0' + byte(n%10) }

func appendDate(dst []byte, days int64) []byte {
	year, month, day := dateOf(days)
	return append(dst, digit(year/1000), digit(year/100), digit(year/10), digit(year), '-',
		digit(month/10), digit(month), '-', digit(day/10), digit(day))
}

// appendHex appends b in lower-case hexadecimal digits.
func appendHex(dst, b []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range b {
		dst = append(dst, digits[c>>4], digits[c&15])
	}
	return dst
}

// appendHexNumber appends n in lower-case hexadecimal, width digits.
func appendHexNumber(dst []byte, n uint64, width int) []byte {
	const digits = "0123456789abcdef"
	for shift := 4 * (width - 1); shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&15])
	}
	return dst
}
