package content

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tact/engine/definition"
)

// The limits of one message. They bound the memory of a template and the time
// of Append whatever a definition says.
const (
	maxSources = 64
	maxTags    = 256
	maxDepth   = 32 // of a JSON body
)

// Compile turns a content into a Template, or says everything that is wrong
// with it. The Field of a fault starts with "type" or "body": the caller puts
// in front where the content stands in its document. A "json" body is a map,
// whose texts are templates while its keys are literal; the output is compact
// and in the order written. "text" and "html" bodies are one template.
//
// Tags between constants only, such as {{ 'a' | upcase }}, are rendered here.
// Cost: O(body), at publish.
func Compile(c definition.Content, resolve Resolve) (*Template, []definition.Fault) {
	b := &builder{resolve: resolve, pos: c.Pos}
	switch c.Type {
	case "json":
		b.form = formJSON
	case "text":
		b.form = formText
	case "html":
		b.form = formHTML
	default:
		b.fault(mistake{
			message: fmt.Sprintf("unknown content type %q: json, text or html", c.Type),
			suggest: definition.Suggest(c.Type, []string{"html", "json", "text"}),
		}, "type")
		return nil, b.faults
	}
	b.body(c.Body)
	if len(b.faults) == 0 && b.size+len(b.literal) > MaxOutput {
		b.pos = c.Body.Pos
		b.fault(mistake{message: string(errTooLong)}, "body")
	}
	if len(b.faults) > 0 {
		return nil, b.faults
	}
	if len(b.literal) > 0 {
		b.parts = append(b.parts, part{literal: slices.Clip(b.literal)})
	}
	t := &Template{form: b.form, parts: b.parts, sources: b.sources}
	return t, nil
}

// builder gathers the parts of one template.
type builder struct {
	form    form
	resolve Resolve
	pos     definition.Pos // of the node at hand
	literal []byte         // not yet in a part
	parts   []part
	sources []Source
	tags    int
	size    int // bytes of literals so far, in parts
	faults  []definition.Fault
}

func (b *builder) fault(m mistake, field string) {
	b.faults = append(b.faults, definition.Fault{
		Pos: b.pos, Field: field, Message: m.message, Suggest: m.suggest,
	})
}

// position gives the place of a source among the values, a new one if needed.
func (b *builder) position(s Source) (int, bool) {
	if i := slices.Index(b.sources, s); i >= 0 {
		return i, true
	}
	if len(b.sources) == maxSources {
		return 0, false
	}
	b.sources = append(b.sources, s)
	return len(b.sources) - 1, true
}

// body compiles the whole body.
func (b *builder) body(n *definition.Node) {
	want, what := definition.NodeString, "a string"
	if b.form == formJSON {
		want, what = definition.NodeMap, "a map"
	}
	if n == nil || n.Kind != want {
		if n != nil {
			b.pos = n.Pos
		}
		b.fault(mistake{message: "the body of this content type must be " + what}, "body")
		return
	}
	if b.form == formJSON {
		b.json(n, "body", 1)
		return
	}
	b.pos = n.Pos
	b.template(n.Text, "body")
}

// json compiles one node of a JSON body.
func (b *builder) json(n *definition.Node, field string, depth int) {
	if n == nil {
		b.raw("null")
		return
	}
	b.pos = n.Pos
	if depth > maxDepth {
		b.fault(mistake{message: fmt.Sprintf("nested deeper than %d", maxDepth)}, field)
		return
	}
	switch n.Kind {
	case definition.NodeNull:
		b.raw("null")
	case definition.NodeBool:
		b.raw(strconv.FormatBool(n.Bool))
	case definition.NodeInt:
		b.raw(strconv.FormatInt(n.Int, 10))
	case definition.NodeFloat:
		if !isFinite(n.Float) {
			b.fault(mistake{message: "a number of JSON must be finite"}, field)
			return
		}
		b.literal = appendJSONFloat(b.literal, n.Float)
	case definition.NodeString:
		b.raw(`"`)
		b.template(n.Text, field)
		b.raw(`"`)
	case definition.NodeList:
		b.raw("[")
		for i, item := range n.List {
			if i > 0 {
				b.raw(",")
			}
			b.json(item, fmt.Sprintf("%s[%d]", field, i), depth+1)
		}
		b.raw("]")
	case definition.NodeMap:
		b.jsonMap(n, field, depth)
	default:
		b.fault(mistake{message: "unknown kind of value"}, field)
	}
}

func (b *builder) jsonMap(n *definition.Node, field string, depth int) {
	b.raw("{")
	for i := range n.Keys {
		key := &n.Keys[i]
		if i > 0 {
			b.raw(",")
		}
		b.literal = AppendJSONString(b.literal, []byte(key.Name))
		b.raw(":")
		b.json(key.Value, field+"."+key.Name, depth+1)
	}
	b.raw("}")
}

// appendJSONFloat writes a float as encoding/json does.
func appendJSONFloat(dst []byte, f float64) []byte {
	layout := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		layout = 'e'
	}
	return strconv.AppendFloat(dst, f, layout, -1, 64)
}

// raw appends syntax of the output.
func (b *builder) raw(s string) { b.literal = append(b.literal, s...) }

// words appends a piece of a template's own text.
func (b *builder) words(s string) {
	if b.form == formJSON {
		b.literal = appendJSON(b.literal, []byte(s))
		return
	}
	b.literal = append(b.literal, s...)
}

// whiteSpace is what {{- and -}} take away: Ruby's \s.
const whiteSpace = " \t\n\v\f\r"

// template compiles one text with its tags.
func (b *builder) template(text, field string) {
	if !utf8.ValidString(text) {
		b.fault(mistake{message: "the text is not valid UTF-8"}, field)
		return
	}
	trim := false // the last tag ended with -}}
	for {
		at := nextTag(text)
		if at < 0 {
			break
		}
		before, rest := text[:at], text[at+2:]
		if trim {
			before = strings.TrimLeft(before, whiteSpace)
		}
		if strings.HasPrefix(rest, "-") {
			rest = rest[1:]
			before = strings.TrimRight(before, whiteSpace)
		}
		b.words(before)
		if text[at+1] == '%' {
			b.fault(unsupportedTag(rest), field)
			return
		}
		if b.tags++; b.tags > maxTags {
			if b.tags == maxTags+1 {
				b.fault(mistake{message: fmt.Sprintf("more than %d output tags", maxTags)}, field)
			}
			return
		}
		var used int
		used, trim = b.output(text[at:], rest, field)
		text = rest[used:]
	}
	if trim {
		text = strings.TrimLeft(text, whiteSpace)
	}
	b.words(text)
}

// nextTag finds the next {{ or {%, or gives -1.
func nextTag(text string) int {
	for i := 0; i+1 < len(text); i++ {
		if text[i] == '{' && (text[i+1] == '{' || text[i+1] == '%') {
			return i
		}
	}
	return -1
}

// unsupportedTag names the tag of a {% … %}.
func unsupportedTag(rest string) mistake {
	p := parser{text: rest}
	p.space()
	name := p.name()
	if name == "" {
		return mistake{message: "tags {% … %} are not supported yet"}
	}
	return mistake{message: fmt.Sprintf("tag {%% %s %%} is not supported yet", name)}
}

// output compiles the output tag that starts at whole; rest is what follows
// its opening. It says how much of rest the tag took.
func (b *builder) output(whole, rest, field string) (used int, trim bool) {
	p := parser{text: rest, builder: b}
	t, trim := p.tag()
	t.finish(b.form)
	var folded []byte
	constant := p.wrong == nil && t.isConstant()
	if constant {
		var r render
		text, err := r.tag(&t)
		if err != nil {
			p.fail("", "%s", err.Error())
		}
		folded = text
	}
	if p.wrong != nil {
		m := *p.wrong
		m.message = fmt.Sprintf("in %s: %s", snippet(whole), m.message)
		b.fault(m, field)
		if end := strings.Index(rest[p.at:], "}}"); end >= 0 {
			return p.at + end + 2, false
		}
		return len(rest), false
	}
	if constant {
		b.literal = appendEscaped(b.literal, folded, b.form, t.escaped)
		return p.at, trim
	}
	b.size += len(b.literal)
	b.parts = append(b.parts, part{literal: b.literal, tag: &t})
	b.literal = nil
	return p.at, trim
}

// isConstant says that nothing in the tag depends on a value. A date may depend
// on the zone of the person, so it is never constant.
func (t *tag) isConstant() bool {
	if t.head.source >= 0 {
		return false
	}
	for i := range t.calls {
		c := &t.calls[i]
		if c.filter == filterDate {
			return false
		}
		for k := range c.n {
			if c.args[k].source >= 0 {
				return false
			}
		}
	}
	return true
}

// finish settles what of the tag is HTML already. In HTML content, breaks are
// put into escaped text, since otherwise the breaks would be escaped.
func (t *tag) finish(f form) {
	if f != formHTML {
		return
	}
	calls := make([]call, 0, len(t.calls))
	for _, c := range t.calls {
		if c.filter == filterNewlineToBr && !t.escaped {
			calls = append(calls, call{filter: filterEscape})
			t.escaped = true
		}
		calls = append(calls, c)
		t.escaped = c.filter.escapes() || t.escaped && c.filter.keepsHTML()
	}
	t.calls = calls
}

// snippet shows a tag in a message: up to its end, at most 60 characters.
func snippet(whole string) string {
	if end := strings.Index(whole, "}}"); end >= 0 {
		whole = whole[:end+2]
	}
	if cut := runeOffset([]byte(whole[:min(len(whole), 240)]), 60); cut < len(whole) {
		whole = whole[:cut] + "…"
	}
	return strings.Join(strings.Fields(string(appendText(nil, []byte(whole)))), " ")
}

// unknownDirective gives the first directive of a date pattern that date does
// not know, or "".
func unknownDirective(pattern []byte) string {
	r := render{}
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			continue
		}
		rest := pattern[i+1:]
		size := 1
		if len(rest) > 0 && rest[0] == '-' {
			rest, size = rest[1:], 2
		}
		if len(rest) == 0 {
			return string(pattern[i:])
		}
		t, _ := r.timeOf(intValue(0))
		if _, ok := appendField(nil, rest[0], false, t); !ok {
			at := i + size
			return string(pattern[i : at+runeOffset(pattern[at:], 1)])
		}
		i += size
	}
	return ""
}
