package content

import (
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendEscaped appends a substituted value in the way of the message's form.
// escaped says that the author's own filters made it HTML already.
func appendEscaped(dst, text []byte, f form, escaped bool) []byte {
	switch f {
	case formJSON:
		return appendJSON(dst, text)
	case formHTML:
		if !escaped {
			return appendHTML(dst, text)
		}
	}
	return appendText(dst, text)
}

// AppendJSONString appends raw as a JSON string with its quotes. Control
// characters are escaped, bytes that are not UTF-8 become U+FFFD, and < > & as
// well as U+2028 and U+2029 are written as \u escapes, so that the text may
// stand inside an HTML page's script. Cost: one pass, no allocation when dst
// has room.
func AppendJSONString(dst, raw []byte) []byte {
	dst = append(dst, '"')
	dst = appendJSON(dst, raw)
	return append(dst, '"')
}

// plainLow and plainHigh have a bit for each character below 64 and from 64 to 127
// that stands for itself in a JSON string.
const (
	plainLow  = uint64(0xFFFFFFFF_00000000) &^ (1<<'"' | 1<<'&' | 1<<'<' | 1<<'>')
	plainHigh = uint64(0xFFFFFFFF_FFFFFFFF) &^ (1<<('\\'-64) | 1<<(0x7f-64))
)

// appendJSON appends the inside of a JSON string.
//
// Source of the set of characters: RFC 8259 section 7, and encoding/json with
// HTML escaping on.
func appendJSON(dst, raw []byte) []byte {
	from := 0
	for i := 0; i < len(raw); {
		c := raw[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(raw[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				dst = append(dst, raw[from:i]...)
				dst = append(dst, `\ufffd`...)
				from = i + 1
			case r < 0xa0: // the C1 controls
				dst = append(dst, raw[from:i]...)
				dst = appendJSONByte(dst, byte(r))
				from = i + size
			case r == '\u2028' || r == '\u2029':
				dst = append(dst, raw[from:i]...)
				dst = append(dst, `\u202`...)
				dst = append(dst, hexDigits[r&0xf])
				from = i + size
			}
			i += size
			continue
		}
		plain := plainLow
		if c >= 64 {
			plain = plainHigh
		}
		if plain>>(c&63)&1 != 0 {
			i++
			continue
		}
		dst = append(dst, raw[from:i]...)
		dst = appendJSONByte(dst, c)
		i++
		from = i
	}
	return append(dst, raw[from:]...)
}

func appendJSONByte(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}

// appendText appends a value as plain text: no escaping, but control
// characters other than newline and tab are dropped (a carriage return, an
// escape or a NUL in a name would otherwise reach headers, terminals and SMS
// gateways) and bytes that are not UTF-8 become U+FFFD.
func appendText(dst, raw []byte) []byte {
	from := 0
	for i := 0; i < len(raw); {
		size, keep, replace := textRune(raw[i:])
		if keep {
			i += size
			continue
		}
		dst = append(dst, raw[from:i]...)
		if replace {
			dst = append(dst, "\uFFFD"...)
		}
		i += size
		from = i
	}
	return append(dst, raw[from:]...)
}

// textRune judges the first character of raw, which is not empty: its size,
// whether it stays as it is, and if not whether U+FFFD stands in for it.
func textRune(raw []byte) (size int, keep, replace bool) {
	c := raw[0]
	if c < utf8.RuneSelf {
		return 1, (c >= ' ' && c != 0x7f) || c == '\n' || c == '\t', false
	}
	r, size := utf8.DecodeRune(raw)
	if r == utf8.RuneError && size == 1 {
		return 1, false, true
	}
	return size, r >= 0xa0, false // U+0080 … U+009F are the C1 controls
}

// appendHTML appends a value as HTML text or as a quoted attribute's value:
// what appendText does, and < > & " ' become entities.
func appendHTML(dst, raw []byte) []byte {
	from := 0
	for i := 0; i < len(raw); {
		size, keep, replace := textRune(raw[i:])
		entity := htmlEntity(raw[i])
		if keep && entity == "" {
			i += size
			continue
		}
		dst = append(dst, raw[from:i]...)
		if replace {
			entity = "\uFFFD"
		}
		dst = append(dst, entity...)
		i += size
		from = i
	}
	return append(dst, raw[from:]...)
}

// htmlEntity gives the entity of a character that HTML must not see, or "".
//
// Source: CGI.escapeHTML, which Liquid's escape filter calls.
func htmlEntity(c byte) string {
	switch c {
	case '&':
		return "&amp;"
	case '<':
		return "&lt;"
	case '>':
		return "&gt;"
	case '"':
		return "&quot;"
	case '\'':
		return "&#39;"
	}
	return ""
}
