package content

import (
	"math"
	"strconv"
	"time"

	"tact/engine/definition"
)

const (
	errKind refusal = "value of a type that cannot be written"

	// keepScratch is the most memory a Scratch keeps between calls.
	keepScratch = 4 * MaxOutput
)

// kind is the type of a value on its way through filters.
type kind uint8

const (
	kindNil kind = iota
	kindBool
	kindInt
	kindFloat
	kindText
	kindDate // num: days since 1970
	kindTime // num: unix ms
)

// value is one value on its way through filters. text points into the
// template, the caller's values or the scratch, and is never written to.
type value struct {
	kind kind
	num  uint64
	text []byte
}

func textValue(text []byte) value  { return value{kind: kindText, text: text} }
func intValue(i int64) value       { return value{kind: kindInt, num: uint64(i)} }
func (v value) int() int64         { return int64(v.num) }
func (v value) float() float64     { return math.Float64frombits(v.num) }
func (v value) isFalse() bool      { return v.kind == kindBool && v.num == 0 }
func (v value) isEmptyOrNil() bool { return v.kind == kindNil || v.isEmptyText() }
func (v value) isEmptyText() bool  { return v.kind == kindText && len(v.text) == 0 }
func floatValue(f float64) value   { return value{kind: kindFloat, num: math.Float64bits(f)} }
func isFinite(f float64) bool      { return !math.IsNaN(f) && !math.IsInf(f, 0) }
func checkFloat(f float64) (value, error) {
	if !isFinite(f) {
		return value{}, errRange
	}
	return floatValue(f), nil
}

// operand is a constant or a variable.
type operand struct {
	source   int // position in Template.sources; -1 = constant
	constant value
}

// tag is one compiled output tag.
type tag struct {
	head    operand
	calls   []call
	escaped bool // the last filters left HTML, which is not escaped again
}

// call is one filter with its arguments.
type call struct {
	filter     filter
	n          int // arguments present
	args       [2]operand
	allowFalse bool // default: keep false
}

// render is the state of one Append.
type render struct {
	values []Value
	zone   *time.Location
	text   []byte // working memory, only ever appended to while a tag is evaluated
	work   int    // bytes that filters have read
}

// parts appends the whole message.
func (r *render) parts(dst []byte, t *Template) ([]byte, error) {
	start := len(dst)
	for i := range t.parts {
		p := &t.parts[i]
		dst = append(dst, p.literal...)
		if p.tag == nil {
			continue
		}
		r.text = r.text[:0]
		text := r.usual(p.tag)
		if text == nil {
			var err error
			if text, err = r.tag(p.tag); err != nil {
				return dst, err
			}
		}
		// Escaping makes a text up to six times longer, so what is beyond the limit already
		// is refused before it.
		if len(dst)-start > MaxOutput {
			return dst, errTooLong
		}
		dst = appendEscaped(dst, text, t.form, p.tag.escaped)
	}
	return dst, nil
}

// usual is what tag gives for the tags that most messages have: a text that is
// there, as it is, where a default would stand in for it, or after one filter without
// arguments. nil: the tag is another one, or is refused.
func (r *render) usual(t *tag) []byte {
	if t.head.source < 0 || len(t.calls) > 1 {
		return nil
	}
	v := &r.values[t.head.source]
	if !v.Set || len(v.Bytes) == 0 || len(v.Bytes) > MaxOutput ||
		v.Kind != definition.TypeString && v.Kind != definition.TypeSemver {
		return nil
	}
	if len(t.calls) == 0 {
		return v.Bytes
	}
	c, text := &t.calls[0], v.Bytes
	work := r.work + len(text)
	for i := range c.n {
		if c.args[i].source >= 0 {
			return nil
		}
		work += len(c.args[i].constant.text)
	}
	switch {
	case work > maxWork:
		return nil
	case c.filter.isRewrite():
		text = r.rewrite(c.filter, text)
	case c.filter != filterDefault:
		return nil
	}
	if len(text) == 0 || len(text) > MaxOutput {
		return nil
	}
	r.work = work
	return text
}

// tag evaluates an output tag to the text that stands for it.
func (r *render) tag(t *tag) ([]byte, error) {
	v, err := r.load(&t.head)
	if err != nil {
		return nil, err
	}
	for i := range t.calls {
		if v, err = r.apply(&t.calls[i], v); err != nil {
			return nil, err
		}
		if len(v.text) > MaxOutput {
			return nil, errTooLong
		}
	}
	return r.textOf(v), nil
}

// load fetches the value of an operand.
func (r *render) load(o *operand) (value, error) {
	if o.source < 0 {
		return o.constant, nil
	}
	v := &r.values[o.source]
	if !v.Set {
		return value{}, nil
	}
	switch v.Kind {
	case definition.TypeBool:
		return value{kind: kindBool, num: v.Num}, nil
	case definition.TypeInt:
		return value{kind: kindInt, num: v.Num}, nil
	case definition.TypeFloat:
		return checkFloat(math.Float64frombits(v.Num))
	case definition.TypeDate:
		return r.checkTime(value{kind: kindDate, num: v.Num})
	case definition.TypeTime:
		return r.checkTime(value{kind: kindTime, num: v.Num})
	case definition.TypeString, definition.TypeSemver:
		if len(v.Bytes) > MaxOutput {
			return value{}, errTooLong
		}
		return textValue(v.Bytes), nil
	}
	return value{}, errKind
}

// checkTime refuses what lies outside the years 0 to 9999.
func (r *render) checkTime(v value) (value, error) {
	if _, ok := r.timeOf(v); !ok {
		return value{}, errRange
	}
	return v, nil
}

// since returns what was appended to the working memory from begin on.
func (r *render) since(begin int) []byte {
	return r.text[begin:len(r.text):len(r.text)]
}

// textOf writes a value as text: nil as nothing, a float with at least one
// decimal (12.0, as Liquid does), a date as 2026-11-22, a time as
// "2026-11-22 10:00:00 +0800" in the scratch's zone.
func (r *render) textOf(v value) []byte {
	begin := len(r.text)
	switch v.kind {
	case kindText:
		return v.text
	case kindBool:
		r.text = strconv.AppendBool(r.text, v.num != 0)
	case kindInt:
		r.text = strconv.AppendInt(r.text, v.int(), 10)
	case kindFloat:
		r.text = appendFloat(r.text, v.float())
	case kindDate, kindTime:
		t, _ := r.timeOf(v) // load has refused what is out of range
		pattern := "%Y-%m-%d %H:%M:%S %z"
		if v.kind == kindDate {
			pattern = "%Y-%m-%d"
		}
		r.text = appendStrftime(r.text, pattern, t)
	}
	return r.since(begin)
}

// appendFloat writes the shortest decimal that reads back as f, with at least
// one digit behind the point; beyond 1e21 and below 1e-7 with an exponent.
func appendFloat(dst []byte, f float64) []byte {
	if abs := math.Abs(f); abs != 0 && (abs < 1e-7 || abs >= 1e21) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	begin := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	for _, c := range dst[begin:] {
		if c == '.' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

// apply runs one filter. Arguments that are absent are nil.
func (r *render) apply(c *call, in value) (value, error) {
	var args [2]value
	for i := range c.n {
		v, err := r.load(&c.args[i])
		if err != nil {
			return value{}, err
		}
		args[i] = v
	}
	if r.work += len(in.text) + len(args[0].text) + len(args[1].text); r.work > maxWork {
		return value{}, errWork
	}
	switch {
	case c.filter == filterDefault:
		if in.isEmptyOrNil() || in.isFalse() && !c.allowFalse {
			return args[0], nil
		}
		return in, nil
	case c.filter == filterDate:
		return r.date(in, args[0]), nil
	case c.filter == filterSize:
		return r.size(in), nil
	case c.filter == filterJSON:
		return r.json(in), nil
	case c.filter.isNumeric():
		return r.number(c, in, args)
	case c.filter.isEdit():
		return r.edit(c, r.textOf(in), args)
	}
	return textValue(r.rewrite(c.filter, r.textOf(in))), nil
}
