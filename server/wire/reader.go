package wire

import (
	"bytes"
	"strconv"

	"github.com/zeebo/xxh3"
)

// reader walks one JSON value. The first fault sticks: after it every method
// returns at once with a zero value, so that callers test for it once, at the end.
type reader struct {
	src     []byte
	pos     int
	depth   int  // open objects and lists
	spaced  bool // white space was skipped since it was last cleared
	fault   *Fault
	scratch []byte   // unescaped text and compacted values
	lists   [][]byte // elements of lists of strings
	names   []mark   // members of all open objects, outermost first
	path    [MaxDepth + 1]step
}

// mark is one member already seen in an open object.
type mark struct {
	sum uint32 // hash of key, 0 while the object has at most fewKeys
	key []byte
}

// fewKeys is up to how many members of an object are compared byte by byte.
const fewKeys = 8

// step is where the reader stands inside one open object or list.
type step struct {
	key   []byte
	index int
	list  bool
}

// object is the state of one open object.
type object struct {
	key  []byte
	base int // of its members in names
	more bool
}

func (r *reader) reset(src []byte) {
	r.scratch, r.lists = r.scratch[:0], r.lists[:0]
	r.follow(src)
}

// follow is reset that leaves what earlier documents borrow as it is.
func (r *reader) follow(src []byte) {
	r.src, r.pos, r.depth, r.fault = src, 0, 0, nil
	r.spaced = false
	r.names = r.names[:0]
}

// finish refuses anything but white space after the value.
func (r *reader) finish() *Fault {
	if r.fault == nil {
		r.space()
		if r.pos < len(r.src) {
			r.fail(CodeTrailingBytes, "there are bytes after the value")
		}
	}
	return r.fault
}

func (r *reader) fail(code, detail string) {
	if r.fault == nil {
		r.fault = &Fault{Code: code, Field: r.field(""), Offset: r.pos, Detail: detail}
	}
}

// failIn reports a fault of the member name of the innermost open object.
func (r *reader) failIn(name, code, detail string) {
	if r.fault == nil {
		r.fault = &Fault{Code: code, Field: r.field(name), Offset: r.pos, Detail: detail}
	}
}

// missing reports a required member that did not come. Called after the object closed.
func (r *reader) missing(name string) {
	r.failIn(name, CodeMissingField, "is required")
}

// field renders the path; last is appended when it is not empty.
func (r *reader) field(last string) string {
	var b []byte
	for _, s := range r.path[1 : r.depth+1] {
		switch {
		case s.list:
			b = strconv.AppendInt(append(b, '['), int64(s.index), 10)
			b = append(b, ']')
		case len(s.key) > 0:
			b = append(appendDot(b), s.key[:min(len(s.key), 128)]...)
		}
	}
	if last != "" {
		b = append(appendDot(b), last...)
	}
	return string(bytes.ToValidUTF8(b, nil))
}

func appendDot(b []byte) []byte {
	if len(b) > 0 {
		b = append(b, '.')
	}
	return b
}

// space skips white space.
func (r *reader) space() {
	for r.pos < len(r.src) {
		switch r.src[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
			r.spaced = true
		default:
			return
		}
	}
}

// peek gives the first byte of the next token, 0 after a fault or at the end.
func (r *reader) peek() byte {
	if r.fault == nil && r.pos < len(r.src) && r.src[r.pos] > ' ' {
		return r.src[r.pos]
	}
	return r.peekOn()
}

// peekOn is peek where there is white space, the end, or was a fault.
func (r *reader) peekOn() byte {
	if r.fault != nil {
		return 0
	}
	r.space()
	if r.pos >= len(r.src) {
		r.fail(CodeTruncated, "the input ends too early")
		return 0
	}
	return r.src[r.pos]
}

// open enters an object or a list.
func (r *reader) open(list bool) bool {
	if r.depth == MaxDepth {
		r.fail(CodeTooDeep, "more than 32 levels of objects and lists")
		return false
	}
	r.pos++
	r.depth++
	r.path[r.depth] = step{list: list, index: -1}
	return true
}

// object enters an object; member must follow until it returns false.
func (r *reader) object(o *object) bool {
	if c := r.peek(); c != '{' {
		r.wrongType(c, "an object")
		return false
	}
	*o = object{base: len(r.names)}
	return r.open(false)
}

// member moves to the next member, whose value must then be read, and leaves
// the object when there is none.
func (r *reader) member(o *object) bool {
	c := r.peek()
	if r.fault != nil {
		return false
	}
	if c == '}' {
		r.pos++
		r.depth--
		r.names = r.names[:o.base]
		return false
	}
	if o.more {
		if c != ',' {
			r.path[r.depth].key = nil
			r.fail(CodeInvalidJSON, "expected a comma or the end of the object")
			return false
		}
		r.pos++
		c = r.peek()
	}
	o.more = true
	if c != '"' {
		r.path[r.depth].key = nil
		r.fail(CodeInvalidJSON, "expected the name of a member")
		return false
	}
	o.key = r.quoted()
	r.path[r.depth].key = o.key
	if !r.unseen(o) {
		return false
	}
	if r.peek() != ':' {
		r.fail(CodeInvalidJSON, "expected a colon")
		return false
	}
	r.pos++
	return r.fault == nil
}

// unseen refuses a member that the object has already, and too many members.
func (r *reader) unseen(o *object) bool {
	if r.fault != nil {
		return false
	}
	seen := r.names[o.base:]
	var sum uint32
	if len(seen) >= fewKeys {
		if len(seen) == fewKeys {
			for i := range seen {
				seen[i].sum = uint32(xxh3.Hash(seen[i].key))
			}
		}
		sum = uint32(xxh3.Hash(o.key))
	}
	for i := range seen {
		if seen[i].sum == sum && bytes.Equal(seen[i].key, o.key) {
			r.fail(CodeDuplicate, "the member comes twice")
			return false
		}
	}
	if len(seen) == MaxKeys {
		r.fail(CodeTooManyKeys, "more than 512 members in one object")
		return false
	}
	r.names = append(r.names, mark{sum: sum, key: o.key})
	return true
}

// unknown refuses the member just met.
func (r *reader) unknown() {
	r.fail(CodeUnknownField, "there is no such field")
}

// list enters a list; element must follow until it returns false.
func (r *reader) list() bool {
	if c := r.peek(); c != '[' {
		r.wrongType(c, "a list")
		return false
	}
	return r.open(true)
}

// element moves to the next element, which must then be read, and leaves the
// list when there is none.
func (r *reader) element() bool {
	c := r.peek()
	if r.fault != nil {
		return false
	}
	at := &r.path[r.depth]
	switch {
	case c == ']':
		r.pos++
		r.depth--
		return false
	case at.index >= 0 && c != ',':
		r.fail(CodeInvalidJSON, "expected a comma or the end of the list")
		return false
	case at.index >= 0:
		r.pos++
		if r.peek() == ']' {
			r.fail(CodeInvalidJSON, "a comma before the end of the list")
		}
	}
	at.index++
	return r.fault == nil
}

// wrongType reports what stands where something else must.
func (r *reader) wrongType(c byte, want string) {
	if r.fault != nil {
		return
	}
	var found string
	switch {
	case c == '{':
		found = "an object"
	case c == '[':
		found = "a list"
	case c == '"':
		found = "a string"
	case c == 't' || c == 'f':
		found = "a boolean"
	case c == 'n':
		found = "null"
	case c == '-' || isDigit(c):
		found = "a number"
	default:
		r.fail(CodeInvalidJSON, "expected a value")
		return
	}
	r.fail(CodeWrongType, "expected "+want+", found "+found)
}

// word reads one of the three literal words.
func (r *reader) word(w string) bool {
	if r.fault != nil {
		return false
	}
	rest := r.src[r.pos:]
	if len(rest) >= len(w) && string(rest[:len(w)]) == w {
		r.pos += len(w)
		return true
	}
	if len(rest) < len(w) && string(rest) == w[:len(rest)] {
		r.pos = len(r.src)
		r.fail(CodeTruncated, "the input ends too early")
	} else {
		r.fail(CodeInvalidJSON, "expected a value")
	}
	return false
}

// null reads null when it is there.
func (r *reader) null() bool {
	return r.peek() == 'n' && r.word("null")
}

func (r *reader) boolean() bool {
	switch c := r.peek(); c {
	case 't':
		return r.word("true")
	case 'f':
		r.word("false")
	default:
		r.wrongType(c, "a boolean")
	}
	return false
}

// skip reads one value of any kind and checks it.
func (r *reader) skip() {
	switch c := r.peek(); c {
	case '{':
		var o object
		r.object(&o)
		for r.fault == nil && r.member(&o) {
			r.skip()
		}
	case '[':
		r.list()
		for r.fault == nil && r.element() {
			r.skip()
		}
	case '"':
		r.quoted()
	case 't', 'f':
		r.boolean()
	case 'n':
		r.word("null")
	default:
		r.literal("a value")
	}
}

// raw reads one value of any kind and gives its text without white space
// between tokens.
func (r *reader) raw() []byte {
	r.peek()
	start, spaced, base := r.pos, r.spaced, len(r.scratch)
	r.spaced = false
	r.skip()
	// Names unescaped inside the value are of no use any more.
	r.scratch = r.scratch[:base]
	return r.compacted(start, spaced)
}

// compacted gives the value that began at start, without white space between
// tokens. spaced is what the flag was before the value.
func (r *reader) compacted(start int, spaced bool) []byte {
	within := r.spaced
	r.spaced = spaced || within
	if r.fault != nil {
		return nil
	}
	if !within {
		return r.src[start:r.pos:r.pos]
	}
	base := len(r.scratch)
	quoted := false
	for i := start; i < r.pos; i++ {
		c := r.src[i]
		switch {
		case quoted && c == '\\':
			r.scratch = append(r.scratch, c)
			i++
			c = r.src[i]
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		r.scratch = append(r.scratch, c)
	}
	return r.scratch[base:len(r.scratch):len(r.scratch)]
}
