package content

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// size counts the characters of a text; what is not a text has size 0.
func (r *render) size(in value) value {
	if in.kind != kindText {
		return intValue(0)
	}
	return intValue(int64(utf8.RuneCount(in.text)))
}

// json writes a value as JSON: a text with its quotes, a date or a time as a
// text, nil as null.
func (r *render) json(in value) value {
	text := r.textOf(in)
	begin := len(r.text)
	switch in.kind {
	case kindBool, kindInt, kindFloat:
		return textValue(text)
	case kindNil:
		r.text = append(r.text, "null"...)
	default:
		r.text = AppendJSONString(r.text, text)
	}
	return textValue(r.since(begin))
}

// edit applies a filter that takes arguments to a text. Positions and lengths
// count characters (code points), so Chinese text is cut between characters.
//
// Source of every rule: Shopify/liquid lib/liquid/standardfilters.rb.
func (r *render) edit(c *call, in []byte, args [2]value) (value, error) {
	switch c.filter {
	case filterAppend:
		return r.joined(in, r.textOf(args[0])), nil
	case filterPrepend:
		return r.joined(r.textOf(args[0]), in), nil
	case filterReplace:
		return r.replaced(in, r.textOf(args[0]), r.textOf(args[1]), -1)
	case filterReplaceFirst:
		return r.replaced(in, r.textOf(args[0]), r.textOf(args[1]), 1)
	case filterRemove:
		return r.replaced(in, r.textOf(args[0]), nil, -1)
	case filterRemoveFirst:
		return r.replaced(in, r.textOf(args[0]), nil, 1)
	}
	return r.cut(c, in, args)
}

// joined puts two texts one behind the other.
func (r *render) joined(a, b []byte) value {
	begin := len(r.text)
	r.text = append(r.text, a...)
	r.text = append(r.text, b...)
	return textValue(r.since(begin))
}

// replaced replaces the first n occurrences of old, all when n < 0. An empty
// old stands before every character and at the end, as in Ruby and Go.
func (r *render) replaced(in, old, by []byte, n int) (value, error) {
	begin := len(r.text)
	for n != 0 {
		at := bytes.Index(in, old)
		if at < 0 {
			break
		}
		r.text = append(r.text, in[:at]...)
		r.text = append(r.text, by...)
		if len(r.text)-begin > MaxOutput {
			return value{}, errTooLong
		}
		in = in[at+len(old):]
		n--
		if len(old) == 0 {
			if len(in) == 0 {
				break
			}
			_, size := utf8.DecodeRune(in)
			r.text = append(r.text, in[:size]...)
			in = in[size:]
		}
	}
	r.text = append(r.text, in...)
	return textValue(r.since(begin)), nil
}

// cut applies slice, truncate and truncatewords.
func (r *render) cut(c *call, in []byte, args [2]value) (value, error) {
	length := 50
	if c.filter == filterTruncateWords {
		length = 15
	}
	if c.n > 0 {
		var err error
		if length, err = positionOf(args[0]); err != nil {
			return value{}, err
		}
	}
	if c.filter == filterSlice {
		size := 1
		if c.n > 1 {
			var err error
			if size, err = positionOf(args[1]); err != nil {
				return value{}, err
			}
		}
		return textValue(sliceText(in, length, size)), nil
	}
	ellipsis := []byte("...")
	if c.n > 1 {
		ellipsis = r.textOf(args[1])
	}
	if c.filter == filterTruncateWords {
		return r.truncateWords(in, max(length, 1), ellipsis), nil
	}
	if utf8.RuneCount(in) <= length {
		return textValue(in), nil
	}
	kept := in[:runeOffset(in, max(length-utf8.RuneCount(ellipsis), 0))]
	return r.joined(kept, ellipsis), nil
}

// sliceText takes length characters from position on; a negative position
// counts from the end. Outside the text there is nothing.
func sliceText(in []byte, position, length int) []byte {
	count := utf8.RuneCount(in)
	if position < 0 {
		position += count
	}
	if position < 0 || position >= count || length <= 0 {
		return nil
	}
	from := runeOffset(in, position)
	return in[from : from+runeOffset(in[from:], length)]
}

// runeOffset gives the byte offset behind the first n characters.
func runeOffset(in []byte, n int) int {
	at := 0
	for ; n > 0 && at < len(in); n-- {
		_, size := utf8.DecodeRune(in[at:])
		at += size
	}
	return at
}

// truncateWords keeps the first words, joined by single spaces. Words are what
// white space separates: a Chinese sentence without spaces is one word.
func (r *render) truncateWords(in []byte, words int, ellipsis []byte) value {
	begin := len(r.text)
	rest := bytes.TrimLeftFunc(in, unicode.IsSpace)
	for n := 0; len(rest) > 0; n++ {
		if n == words {
			r.text = append(r.text, ellipsis...)
			return textValue(r.since(begin))
		}
		end := bytes.IndexFunc(rest, unicode.IsSpace)
		if end < 0 {
			end = len(rest)
		}
		if n > 0 {
			r.text = append(r.text, ' ')
		}
		r.text = append(r.text, rest[:end]...)
		rest = bytes.TrimLeftFunc(rest[end:], unicode.IsSpace)
	}
	return textValue(in)
}

// rewrite applies a filter without arguments to a text.
func (r *render) rewrite(f filter, in []byte) []byte {
	begin := len(r.text)
	switch f {
	case filterStrip:
		// White space is Unicode's, so the ideographic space goes too; Ruby knows only ASCII's.
		return bytes.TrimSpace(in)
	case filterLstrip:
		return bytes.TrimLeftFunc(in, unicode.IsSpace)
	case filterRstrip:
		return bytes.TrimRightFunc(in, unicode.IsSpace)
	case filterUpcase:
		r.text = appendMapped(r.text, in, unicode.ToUpper)
	case filterDowncase:
		r.text = appendMapped(r.text, in, unicode.ToLower)
	case filterCapitalize:
		_, size := utf8.DecodeRune(in)
		r.text = appendMapped(r.text, in[:size], unicode.ToTitle)
		r.text = appendMapped(r.text, in[size:], unicode.ToLower)
	case filterURLEncode:
		r.text = appendURLEncoded(r.text, in)
	case filterURLDecode:
		r.text = appendURLDecoded(r.text, in)
	case filterEscape:
		r.text = appendHTML(r.text, in)
	case filterEscapeOnce:
		r.text = appendEscapedOnce(r.text, in)
	case filterStripHTML:
		r.text = appendWithoutTags(r.text, in)
	case filterNewlineToBr:
		r.text = appendWithBreaks(r.text, in)
	}
	return r.since(begin)
}

// appendMapped maps every character one by one (ß has no upper case of its
// own, so it stays). Bytes that are not UTF-8 become U+FFFD.
func appendMapped(dst, in []byte, to func(rune) rune) []byte {
	for i := 0; i < len(in); {
		r, size := utf8.DecodeRune(in[i:])
		dst = utf8.AppendRune(dst, to(r))
		i += size
	}
	return dst
}

// appendURLEncoded writes a text as a part of a query: a space becomes +,
// everything but letters, digits and _ . - ~ becomes %XX.
//
// Source: Ruby's CGI.escape, which Liquid calls.
func appendURLEncoded(dst, in []byte) []byte {
	const hex = "0123456789ABCDEF"
	from := 0
	for i, c := range in {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			c == '_', c == '.', c == '-', c == '~':
			continue
		case c == ' ':
			dst = append(append(dst, in[from:i]...), '+')
		default:
			dst = append(append(dst, in[from:i]...), '%', hex[c>>4], hex[c&0xf])
		}
		from = i + 1
	}
	return append(dst, in[from:]...)
}

// appendURLDecoded undoes appendURLEncoded. A % without two hexadecimal digits
// stays as it is.
func appendURLDecoded(dst, in []byte) []byte {
	for i := 0; i < len(in); i++ {
		c := in[i]
		if c == '+' {
			c = ' '
		} else if c == '%' && i+2 < len(in) {
			hi, lo := hexValue(in[i+1]), hexValue(in[i+2])
			if hi >= 0 && lo >= 0 {
				c = byte(hi<<4 | lo)
				i += 2
			}
		}
		dst = append(dst, c)
	}
	return dst
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
