// Package content turns the message of a treatment into text: templates are
// compiled at publish into fragments, and rendered at decision by appending.
//
// The language is the output part of Liquid: {{ path | filter: argument }},
// with whitespace control {{- -}}. Tags ({% … %}) are refused by name.
// Semantics follow the Shopify Liquid reference (shopify.dev/docs/api/liquid)
// and its Ruby implementation; where Ruby's types show through (big integers,
// regular expressions) the difference is documented at the filter.
//
// Laws, with the tests that hold them:
//  1. Whatever the values, a JSON message is valid JSON, and an HTML message
//     has no tag, attribute or entity that its author did not write (FuzzAppend).
//  2. A missing value renders as nothing; default stands in for what is
//     missing, empty or false (TestRules).
//  3. A message is at most MaxOutput bytes; beyond it rendering is refused, as
//     is a division by zero. Nothing is ever cut silently (TestRefusals).
//  4. Append allocates nothing once dst and the scratch have grown
//     (TestAppendDoesNotAllocate), but for dates written as a text with a zone.
//  5. A template without variables is one literal fragment (TestStatic).
//
// What is not promised: text keeps line breaks, so a caller that puts it into a
// header line (an e-mail's subject) must refuse or fold them; and HTML escaping
// suits text and quoted attributes, not scripts, styles, or an address whose
// scheme comes from a value.
//
// Path: publish calls Compile per treatment, decision calls Append after the
// person's lock is released. A Template is immutable and shared by goroutines.
// Cost: a literal fragment is one copy; a variable one escaping pass over its
// bytes; a filter one pass more, together at most a megabyte a message.
package content

import (
	"errors"
	"time"

	"tact/engine/definition"
)

// MaxOutput is the longest message, and the longest value on its way through
// filters, in bytes. It is above every channel's own limit (a push is 4 KiB,
// an e-mail is cut by large providers near 100 KiB) and bounds the work.
const MaxOutput = 64 << 10

// maxWork bounds what all filters of one message read together, in bytes: many
// long values that are each cut short at the end would cost much and give little.
const maxWork = 16 * MaxOutput

// ErrRender is the class of every refusal of Append.
var ErrRender = errors.New("message cannot be rendered")

// refusal is one reason for not rendering. All of them are constants, so that
// refusing does not allocate.
type refusal string

const (
	errTooLong  refusal = "message is longer than 65536 bytes"
	errWork     refusal = "filters have more than a megabyte to read"
	errDivision refusal = "division by zero"
	errRange    refusal = "number out of range"
	errNotOne   refusal = "a date or a time is not a number"
	errInteger  refusal = "a length or position is not a whole number"
	errValues   refusal = "fewer values than the template has variables"
)

func (r refusal) Error() string        { return "message cannot be rendered: " + string(r) }
func (r refusal) Is(target error) bool { return target == ErrRender }

// Space says where a variable's value is kept.
type Space uint8

// The spaces.
const (
	SpaceUserID     Space = iota + 1 // the canonical id
	SpaceUserAttr                    // Source.ID is the attribute
	SpaceUserLocale                  // the person's locale
	SpaceContext                     // Source.ID is the key of the request's context
	SpaceConst                       // a constant of the snapshot, Source.ID as the resolver likes
)

// Source is where a variable's value comes from.
type Source struct {
	Space Space
	ID    uint32
	Type  definition.AttrType
}

// Resolve gives the source of a variable's path ("user.id",
// "user.first_name", "context.page"). A name in brackets, user['Order No'],
// arrives with a dot: "user.Order No". false = there is no such variable.
type Resolve func(path string) (Source, bool)

// Value is the value of one variable at decision.
type Value struct {
	Set  bool
	Kind definition.AttrType
	// Num: bool 0 or 1; int and float64 as their bits; a date in days and a time
	// in milliseconds since 1970, both as the bits of an int64.
	Num   uint64
	Bytes []byte // string, semver; read only during Append
}

// Scratch is the working memory of Append. The zero value is ready; keep one
// per worker, since it grows to what its templates need and is then reused. It
// must not be used by two calls at a time.
type Scratch struct {
	Zone *time.Location // in which times are written; nil = UTC
	text []byte
}

// form is what a message is made of, and so how values are escaped.
type form uint8

const (
	formJSON form = iota + 1
	formText
	formHTML
)

// Template is a compiled message.
type Template struct {
	form    form
	parts   []part
	sources []Source
}

// part is a literal followed by an output tag; tag is nil in the last part of
// a message that ends with a literal.
type part struct {
	literal []byte
	tag     *tag
}

// Sources lists the variables, each once, in order of first use. The position
// of a source is the position of its value in the slice that Append takes.
func (t *Template) Sources() []Source { return t.sources }

// Static returns the message of a template in which nothing varies; the bytes
// must not be changed. ok is false when there is something to fill in.
func (t *Template) Static() (message []byte, ok bool) {
	switch {
	case len(t.parts) == 0:
		return nil, true
	case len(t.parts) == 1 && t.parts[0].tag == nil:
		return t.parts[0].literal, true
	}
	return nil, false
}

// Append renders the message behind dst and returns the longer slice. JSON
// content gives JSON text; text and HTML content give raw text, which the
// caller quotes where it needs to (AppendJSONString).
//
// values are in the order of Sources. An unset value renders as nothing. The
// error is of class ErrRender, and dst then comes back as it was.
//
// Cost: O(message); no allocation when dst and scratch have room.
func (t *Template) Append(dst []byte, values []Value, scratch *Scratch) ([]byte, error) {
	if len(values) < len(t.sources) {
		return dst, errValues
	}
	start := len(dst)
	r := render{values: values, zone: scratch.Zone, text: scratch.text[:0]}
	dst, err := r.parts(dst, t)
	if cap(r.text) <= keepScratch {
		scratch.text = r.text
	}
	if err == nil && len(dst)-start > MaxOutput {
		err = errTooLong
	}
	if err != nil {
		return dst[:start], err
	}
	return dst, nil
}
