package content

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"tact/engine/definition"
)

// maxFilters bounds the filters of one output tag, and so its work.
const maxFilters = 16

// mistake is what is wrong inside one tag.
type mistake struct {
	message string
	suggest string
}

// parser reads the inside of one output tag:
//
//	tag      = operand { "|" name [ ":" argument { "," argument } ] }
//	argument = operand | "allow_false" ":" operand
//	operand  = path | 'text' | "text" | number | true | false | nil
//	path     = name { "." name | "[" 'text' "]" }
type parser struct {
	text    string // from behind the opening braces to the end of the template
	at      int
	builder *builder
	wrong   *mistake // the first one
}

func (p *parser) fail(suggest, format string, args ...any) {
	if p.wrong == nil {
		p.wrong = &mistake{message: fmt.Sprintf(format, args...), suggest: suggest}
	}
}

// tag reads up to and including the closing braces.
func (p *parser) tag() (t tag, trimRight bool) {
	p.space()
	if p.closes() {
		p.fail("", "an output tag needs a variable or a value")
		return t, false
	}
	t.head = p.operand()
	for p.wrong == nil && p.take('|') {
		if len(t.calls) == maxFilters {
			p.fail("", "more than %d filters in one tag", maxFilters)
			break
		}
		t.calls = append(t.calls, p.call())
	}
	if p.wrong != nil {
		return t, false
	}
	if !p.closes() {
		p.unexpected()
		return t, false
	}
	trimRight = p.text[p.at] == '-'
	p.at += len("}}")
	if trimRight {
		p.at++
	}
	p.checkTypes(&t)
	return t, trimRight
}

// closes says whether the closing braces come next.
func (p *parser) closes() bool {
	p.space()
	rest := p.text[p.at:]
	return strings.HasPrefix(rest, "}}") || strings.HasPrefix(rest, "-}}")
}

// unexpected names what stands where it should not, and for full-width
// punctuation, which Chinese input methods write, what should stand there.
func (p *parser) unexpected() {
	if p.at == len(p.text) {
		p.fail("", "'{{' is not closed")
		return
	}
	if !p.fullWidth() {
		r, _ := utf8.DecodeRuneInString(p.text[p.at:])
		p.fail("", "unexpected %q", r)
	}
}

// fullWidth fails when full-width punctuation comes next.
func (p *parser) fullWidth() bool {
	p.space()
	r, _ := utf8.DecodeRuneInString(p.text[p.at:])
	half := halfWidth(r)
	if half != "" {
		p.fail(half, "full-width %q cannot stand here", r)
	}
	return half != ""
}

func halfWidth(r rune) string {
	switch r {
	case '‘', '’', '“', '”', '「', '」':
		return "'"
	case '\u3001':
		return ","
	case '\u3002':
		return "."
	case '\u3000':
		return " "
	}
	if r >= '\uff01' && r <= '\uff5e' { // the full-width forms of ! to ~
		return string(r - '\uff01' + '!')
	}
	return ""
}

// space skips white space.
func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\n\r\v\f", p.text[p.at]) >= 0 {
		p.at++
	}
}

// take skips white space and then c, if it is there.
func (p *parser) take(c byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

// name reads letters, digits, _ and -, of any script; "" when there is none. A
// - before the closing braces is white space control, not a part of the name.
func (p *parser) name() string {
	begin := p.at
	for p.at < len(p.text) {
		r, size := utf8.DecodeRuneInString(p.text[p.at:])
		if r == '-' && (p.at == begin || strings.HasPrefix(p.text[p.at:], "-}}")) {
			break
		}
		if r != '_' && r != '-' && !unicode.In(r, unicode.L, unicode.M, unicode.Nd) {
			break
		}
		p.at += size
	}
	return p.text[begin:p.at]
}

// call reads a filter with its arguments.
func (p *parser) call() (c call) {
	p.space()
	name := p.name()
	if name == "" {
		p.unexpected()
		return c
	}
	shape, ok, nearest := shapeOf(name)
	if !ok {
		p.fail(nearest, "unknown filter %q", name)
		return c
	}
	c.filter = shape.filter
	if p.take(':') {
		for {
			p.argument(&c, shape)
			if p.wrong != nil || !p.take(',') {
				break
			}
		}
	}
	if p.wrong == nil && c.n < shape.min && !p.fullWidth() {
		p.fail("", "filter %s takes %s, not %d", name, arity(shape), c.n)
	}
	return c
}

func arity(s shape) string {
	switch {
	case s.max == 0:
		return "no argument"
	case s.min != s.max:
		return fmt.Sprintf("%d to %d arguments", s.min, s.max)
	case s.max == 1:
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", s.max)
}

// argument reads one argument into c.
func (p *parser) argument(c *call, s shape) {
	p.space()
	begin := p.at
	if name := p.name(); name != "" && p.take(':') {
		if s.filter != filterDefault || name != "allow_false" {
			p.fail("", "filter %s has no option %q", s.name, name)
			return
		}
		o := p.operand()
		if p.wrong == nil && (o.source >= 0 || o.constant.kind != kindBool) {
			p.fail("", "allow_false must be true or false")
		}
		c.allowFalse = o.constant.num != 0
		return
	}
	p.at = begin
	o := p.operand()
	if p.wrong != nil {
		return
	}
	if c.n == s.max {
		p.fail("", "filter %s takes %s", s.name, arity(s))
		return
	}
	if s.numbers>>c.n&1 == 1 {
		p.checkNumber(s, c.n, o)
	}
	c.args[c.n] = o
	c.n++
}

// checkNumber refuses a constant that is no number where one is needed.
func (p *parser) checkNumber(s shape, i int, o operand) {
	if o.source >= 0 {
		if kind := p.builder.sources[o.source].Type; isTime(kind) {
			p.fail("", "filter %s: argument %d must be a number", s.name, i+1)
		}
		return
	}
	v, err := numberOf(o.constant)
	plain := o.constant.kind == kindInt || o.constant.kind == kindFloat ||
		o.constant.kind == kindText && isNumeral(o.constant.text)
	if err != nil || !plain {
		p.fail("", "filter %s: argument %d must be a number", s.name, i+1)
		return
	}
	if _, err := positionOf(o.constant); err != nil && s.filter.isEdit() {
		p.fail("", "filter %s: argument %d must be a whole number", s.name, i+1)
		return
	}
	divides := s.filter == filterDividedBy || s.filter == filterModulo
	if divides && asFloat(v) == 0 {
		p.fail("", "division by zero")
	}
}

// isNumeral says whether a text is nothing but a number: -12 or 3.50.
func isNumeral(text []byte) bool {
	text = bytes.TrimPrefix(text, []byte("-"))
	whole, fraction, point := bytes.Cut(text, []byte("."))
	return isDigits(whole) && (!point || isDigits(fraction))
}

func isTime(t definition.AttrType) bool {
	return t == definition.TypeDate || t == definition.TypeTime
}

// operand reads a constant or a variable.
func (p *parser) operand() operand {
	p.space()
	if p.at == len(p.text) {
		p.unexpected()
		return operand{}
	}
	switch c := p.text[p.at]; {
	case c == '\'' || c == '"':
		return operand{source: -1, constant: textValue([]byte(p.quoted()))}
	case c >= '0' && c <= '9' || c == '-':
		return operand{source: -1, constant: p.number()}
	}
	return p.variable()
}

// quoted reads a text in quotes. Liquid has no escapes inside.
func (p *parser) quoted() string {
	quote := p.text[p.at]
	end := strings.IndexByte(p.text[p.at+1:], quote)
	if end < 0 {
		p.fail("", "the text after %c is not closed", quote)
		return ""
	}
	text := p.text[p.at+1 : p.at+1+end]
	p.at += end + 2
	return text
}

// number reads 12, -3 or 0.5.
func (p *parser) number() value {
	begin := p.at
	if p.text[p.at] == '-' {
		p.at++
	}
	digits := func() bool {
		first := p.at
		for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
			p.at++
		}
		return p.at > first
	}
	if !digits() {
		p.at = begin
		p.unexpected()
		return value{}
	}
	if p.at < len(p.text) && p.text[p.at] == '.' {
		p.at++
		if !digits() {
			p.fail("", "a digit is missing behind the point")
			return value{}
		}
		f, err := strconv.ParseFloat(p.text[begin:p.at], 64)
		if err != nil || math.IsInf(f, 0) {
			p.fail("", "number out of range")
		}
		return floatValue(f)
	}
	i, err := strconv.ParseInt(p.text[begin:p.at], 10, 64)
	if err != nil {
		p.fail("", "number out of range")
	}
	return intValue(i)
}

// variable reads a path, or one of the words that are constants.
func (p *parser) variable() operand {
	name := p.name()
	if name == "" {
		p.unexpected()
		return operand{}
	}
	path := name
	for p.wrong == nil && p.at < len(p.text) {
		switch p.text[p.at] {
		case '.':
			p.at++
			part := p.name()
			if part == "" {
				p.unexpected()
			}
			path += "." + part
			continue
		case '[':
			p.at++
			path += "." + p.bracket()
			continue
		}
		break
	}
	if p.wrong != nil {
		return operand{}
	}
	if v, ok := constantWord(path); ok {
		return operand{source: -1, constant: v}
	}
	return p.resolve(path)
}

// bracket reads ['name'] from behind the opening bracket.
func (p *parser) bracket() string {
	p.space()
	if p.at == len(p.text) || p.text[p.at] != '\'' && p.text[p.at] != '"' {
		p.fail("", "only a name in quotes may stand in brackets; lists have no places here")
		return ""
	}
	name := p.quoted()
	if p.wrong == nil && !p.take(']') {
		p.unexpected()
	}
	return name
}

// constantWord knows the words of Liquid; blank and empty write nothing.
func constantWord(word string) (value, bool) {
	switch word {
	case "true":
		return value{kind: kindBool, num: 1}, true
	case "false":
		return value{kind: kindBool}, true
	case "nil", "null":
		return value{}, true
	case "blank", "empty":
		return textValue(nil), true
	}
	return value{}, false
}

// resolve finds the source of a variable and its place among the values.
func (p *parser) resolve(path string) operand {
	source, ok := p.builder.resolve(path)
	if !ok && p.fullWidth() {
		return operand{}
	}
	if !ok {
		suggest := ""
		for _, space := range [...]string{"user.", "context."} {
			if _, ok := p.builder.resolve(space + path); ok && suggest == "" {
				suggest = space + path
			}
		}
		p.fail(suggest, "unknown variable %q", path)
		return operand{}
	}
	if source.Type == definition.TypeList {
		p.fail("", "%q is a list, which cannot be written in a message", path)
		return operand{}
	}
	position, ok := p.builder.position(source)
	if !ok {
		p.fail("", "more than %d variables in one message", maxSources)
	}
	return operand{source: position}
}

// checkTypes refuses what can never give a sensible text.
func (p *parser) checkTypes(t *tag) {
	if len(t.calls) > 0 && t.calls[0].filter.isNumeric() && t.head.source >= 0 &&
		isTime(p.builder.sources[t.head.source].Type) {
		p.fail("", "a date or a time is not a number: write it with the date filter first")
	}
	for i := range t.calls {
		c := &t.calls[i]
		if c.filter != filterDate || c.args[0].source >= 0 {
			continue
		}
		if bad := unknownDirective(c.args[0].constant.text); bad != "" {
			p.fail("", "unknown directive %q in a date pattern", bad)
		}
		if i == 0 && t.head.source < 0 && isClockWord(string(t.head.constant.text)) {
			p.fail("", "a message has no clock: give the time in the request's context")
		}
	}
}

func isClockWord(word string) bool {
	word = strings.ToLower(word)
	return word == "now" || word == "today"
}
