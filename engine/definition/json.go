package definition

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// TextError says where a JSON text stops being a Node. NodeFromJSON returns it.
type TextError struct {
	Pos     Pos
	Field   string // path of the value that was being read
	Message string
}

func (e *TextError) Error() string {
	return Fault{Pos: e.Pos, Field: e.Field, Message: e.Message}.String()
}

func faultOf(err error) Fault {
	var e *TextError
	if errors.As(err, &e) {
		return Fault{Pos: e.Pos, Field: e.Field, Message: e.Message}
	}
	return Fault{Message: err.Error()}
}

// NodeFromJSON reads one JSON value with its places: RFC 8259 as written, at
// most MaxBytes long, MaxDepth levels deep, MaxKeys keys a map and MaxValues
// values and keys in all; no key twice, no broken UTF-8, no lone surrogate, no
// whole number beyond 64 bits. file is the name that places carry. It stops at
// the first fault, which it returns as *TextError. Cost: linear in b.
func NodeFromJSON(b []byte, file string) (*Node, error) {
	j := &jsonReading{text: b, file: file, line: 1, deepest: MaxDepth, most: MaxValues}
	return j.whole()
}

// documentsFromJSON reads one document, or a list of documents.
func documentsFromJSON(f File) ([]*Node, error) {
	j := &jsonReading{text: f.Content, file: f.Name, line: 1, deepest: MaxDepth, most: MaxTokens}
	list := j.peek() == '['
	if list {
		j.deepest++
	}
	n, err := j.whole()
	if err != nil {
		return nil, err
	}
	if list {
		return n.List, nil
	}
	return []*Node{n}, nil
}

func (j *jsonReading) whole() (*Node, error) {
	if len(j.text) > MaxBytes {
		return nil, j.fail("", "more than %d MiB of JSON", MaxBytes>>20)
	}
	n, err := j.value("", 0)
	if err != nil {
		return nil, err
	}
	j.space()
	if j.at < len(j.text) {
		return nil, j.fail("", "text after the end of the value")
	}
	return n, nil
}

type jsonReading struct {
	text []byte
	file string
	at   int // next byte
	line int // of at
	from int // offset where that line starts
	mark int // column counting: characters up to mark are counted
	cols int // characters of the line before mark

	deepest int // lists and maps that may stand in each other
	most    int // values and keys that may still come
}

func (j *jsonReading) pos() Pos {
	if j.mark < j.from {
		j.mark, j.cols = j.from, 0
	}
	j.cols += utf8.RuneCount(j.text[j.mark:j.at])
	j.mark = j.at
	return Pos{File: j.file, Line: j.line, Column: j.cols + 1}
}

func (j *jsonReading) fail(path, format string, args ...any) error {
	return &TextError{Pos: j.pos(), Field: path, Message: fmt.Sprintf(format, args...)}
}

func (j *jsonReading) space() {
	for ; j.at < len(j.text); j.at++ {
		switch j.text[j.at] {
		case ' ', '\t', '\r':
		case '\n':
			j.line, j.from = j.line+1, j.at+1
		default:
			return
		}
	}
}

// peek skips space and gives the next byte, 0 at the end.
func (j *jsonReading) peek() byte {
	j.space()
	if j.at == len(j.text) {
		return 0
	}
	return j.text[j.at]
}

// value reads one value that has depth lists and maps around it.
func (j *jsonReading) value(path string, depth int) (*Node, error) {
	c := j.peek()
	if j.most--; j.most < 0 {
		return nil, j.fail(path, "too many values and keys")
	}
	n := &Node{Pos: j.pos()}
	if (c == '{' || c == '[') && depth == j.deepest {
		return nil, j.fail(path, "nested deeper than %d levels", MaxDepth)
	}
	switch {
	case c == '{':
		n.Kind = NodeMap
		return n, j.mapping(n, path, depth+1)
	case c == '[':
		n.Kind = NodeList
		return n, j.list(n, path, depth+1)
	case c == '"':
		n.Kind = NodeString
		text, err := j.quoted(path)
		n.Text = text
		return n, err
	case c == '-' || c >= '0' && c <= '9':
		return j.number(n.Pos, path)
	}
	for _, word := range []string{"null", "true", "false"} {
		if bytes.HasPrefix(j.text[j.at:], []byte(word)) {
			j.at += len(word)
			if word != "null" {
				n.Kind, n.Bool = NodeBool, word == "true"
			}
			return n, nil
		}
	}
	if c == 0 && j.at == len(j.text) {
		return nil, j.fail(path, "the text ends where a value is expected")
	}
	return nil, j.fail(path, "a value is expected")
}

func (j *jsonReading) number(pos Pos, path string) (*Node, error) {
	end := j.at
	for end < len(j.text) && strings.IndexByte("+-.eE0123456789", j.text[end]) >= 0 {
		end++
	}
	text := string(j.text[j.at:end])
	n, wrong, ok := number(text)
	if !ok {
		wrong = "not a number of JSON"
	}
	if wrong != "" {
		return nil, j.fail(path, "%s", wrong)
	}
	n.Pos, j.at = pos, end
	return n, nil
}

func (j *jsonReading) list(n *Node, path string, depth int) error {
	j.at++
	if j.peek() == ']' {
		j.at++
		return nil
	}
	for {
		v, err := j.value(path+"["+strconv.Itoa(len(n.List))+"]", depth)
		if err != nil {
			return err
		}
		n.List = append(n.List, v)
		switch j.peek() {
		case ',':
			j.at++
		case ']':
			j.at++
			return nil
		default:
			return j.fail(path, "a comma or ] is expected")
		}
	}
}

func (j *jsonReading) mapping(n *Node, path string, depth int) error {
	j.at++
	if j.peek() == '}' {
		j.at++
		return nil
	}
	names := make(map[string]bool)
	for {
		if j.peek() != '"' {
			return j.fail(path, "a key in quotes is expected")
		}
		j.most--
		key := Key{Pos: j.pos()}
		name, err := j.quoted(path)
		if err != nil {
			return err
		}
		key.Name = name
		below := JoinPath(path, name)
		if names[name] {
			return &TextError{Pos: key.Pos, Field: below, Message: "the key stands twice"}
		}
		names[name] = true
		if len(names) > MaxKeys {
			return j.fail(path, "a map of more than %d keys", MaxKeys)
		}
		if j.peek() != ':' {
			return j.fail(below, "a colon is expected")
		}
		j.at++
		if key.Value, err = j.value(below, depth); err != nil {
			return err
		}
		n.Keys = append(n.Keys, key)
		switch j.peek() {
		case ',':
			j.at++
		case '}':
			j.at++
			return nil
		default:
			return j.fail(path, "a comma or } is expected")
		}
	}
}

func (j *jsonReading) quoted(path string) (string, error) {
	var out []byte
	for j.at++; j.at < len(j.text); {
		c := j.text[j.at]
		switch {
		case c == '"':
			j.at++
			return string(out), nil
		case c < ' ':
			return "", j.fail(path, "control character U+%04X in a string: write it as an escape", c)
		case c == '\\':
			var ok bool
			if out, ok = j.escape(out); !ok {
				return "", j.fail(path, "not an escape of JSON")
			}
		case c < utf8.RuneSelf:
			out = append(out, c)
			j.at++
		default:
			r, size := utf8.DecodeRune(j.text[j.at:])
			if r == utf8.RuneError && size == 1 {
				return "", j.fail(path, "broken UTF-8")
			}
			out = append(out, j.text[j.at:j.at+size]...)
			j.at += size
		}
	}
	return "", j.fail(path, "the text ends inside a string")
}

// escape reads one backslash sequence, or the two of a surrogate pair.
func (j *jsonReading) escape(out []byte) ([]byte, bool) {
	if j.at+1 >= len(j.text) {
		return out, false
	}
	c := j.text[j.at+1]
	if c != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return out, false
		}
		j.at += 2
		return append(out, "\"\\/\b\f\n\r\t"[i]), true
	}
	r, ok := j.hex(j.at)
	if !ok {
		return out, false
	}
	size := 6
	if utf16.IsSurrogate(r) {
		low, ok := j.hex(j.at + size)
		r = utf16.DecodeRune(r, low)
		if !ok || r == utf8.RuneError {
			return out, false
		}
		size = 12
	}
	j.at += size
	return utf8.AppendRune(out, r), true
}

// hex reads \uXXXX at offset at.
func (j *jsonReading) hex(at int) (rune, bool) {
	if at+6 > len(j.text) || j.text[at] != '\\' || j.text[at+1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(j.text[at+2:at+6]), 16, 16)
	return rune(v), err == nil
}

// AppendJSON appends the value as JSON without space: keys in the order
// written, numbers as written (or in their shortest form when Text is empty).
// A nil Node is null. NodeFromJSON reads it back to an equal Node.
func (n *Node) AppendJSON(dst []byte) []byte {
	if n == nil {
		return append(dst, "null"...)
	}
	switch n.Kind {
	case NodeBool:
		return strconv.AppendBool(dst, n.Bool)
	case NodeInt:
		if n.Text != "" {
			return append(dst, n.Text...)
		}
		return strconv.AppendInt(dst, n.Int, 10)
	case NodeFloat:
		return n.appendFloat(dst)
	case NodeString:
		return appendQuoted(dst, n.Text)
	case NodeList:
		dst = append(dst, '[')
		for i, v := range n.List {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = v.AppendJSON(dst)
		}
		return append(dst, ']')
	case NodeMap:
		dst = append(dst, '{')
		for i, k := range n.Keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, k.Name), ':')
			dst = k.Value.AppendJSON(dst)
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

// appendFloat writes a float so that it reads back as a float: with a point or
// an exponent. Infinity and NaN, which no document can hold, are null.
func (n *Node) appendFloat(dst []byte) []byte {
	if n.Text != "" {
		return append(dst, n.Text...)
	}
	if math.IsInf(n.Float, 0) || math.IsNaN(n.Float) {
		return append(dst, "null"...)
	}
	from := len(dst)
	dst = strconv.AppendFloat(dst, n.Float, 'g', -1, 64)
	if !bytes.ContainsAny(dst[from:], ".e") {
		dst = append(dst, ".0"...)
	}
	return dst
}

func appendQuoted(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r < ' ' || r >= 0x7f && r < 0xa0:
			dst = append(dst, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

// Canonical returns all documents of the set as one JSON list: sorted by kind,
// then id, each as [Node.AppendJSON] writes it. Two sets have equal bytes when
// they hold the same documents, whatever files and order they came in; the
// order of keys inside a document counts, since it is kept on export. Load
// reads the bytes back (as a file whose name ends in .json) to an equal set.
func (s *Set) Canonical() []byte {
	metas := s.metas()
	slices.SortStableFunc(metas, func(a, b *Meta) int {
		if c := strings.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	dst := []byte{'['}
	for i, m := range metas {
		if i > 0 {
			dst = append(dst, ',', '\n')
		}
		dst = m.Whole().AppendJSON(dst)
	}
	return append(dst, ']')
}

// metas gives every document that was written (the workspace may be implied).
func (s *Set) metas() []*Meta {
	var out []*Meta
	if s.Workspace.Raw != nil || s.Workspace.packed != "" {
		out = append(out, &s.Workspace.Meta)
	}
	out = metasOf(out, s.Attributes, func(d *Attribute) *Meta { return &d.Meta })
	out = metasOf(out, s.Tags, func(d *Tag) *Meta { return &d.Meta })
	out = metasOf(out, s.Tiers, func(d *Tier) *Meta { return &d.Meta })
	out = metasOf(out, s.Events, func(d *Event) *Meta { return &d.Meta })
	out = metasOf(out, s.Segments, func(d *Segment) *Meta { return &d.Meta })
	out = metasOf(out, s.Calendars, func(d *Calendar) *Meta { return &d.Meta })
	out = metasOf(out, s.Quiet, func(d *QuietRule) *Meta { return &d.Meta })
	out = metasOf(out, s.Caps, func(d *Cap) *Meta { return &d.Meta })
	out = metasOf(out, s.Offers, func(d *Offer) *Meta { return &d.Meta })
	out = metasOf(out, s.Placements, func(d *Placement) *Meta { return &d.Meta })
	out = metasOf(out, s.Policies, func(d *Policy) *Meta { return &d.Meta })
	out = metasOf(out, s.Layers, func(d *Layer) *Meta { return &d.Meta })
	out = metasOf(out, s.Experiments, func(d *Experiment) *Meta { return &d.Meta })
	out = metasOf(out, s.Holdouts, func(d *Holdout) *Meta { return &d.Meta })
	return metasOf(out, s.Tests, func(d *Test) *Meta { return &d.Meta })
}

func metasOf[D any](out []*Meta, docs []D, meta func(D) *Meta) []*Meta {
	for _, d := range docs {
		out = append(out, meta(d))
	}
	return out
}
