// Package synth owns made-up people: seeded populations with their profiles,
// static segments and events, and the definitions that go with them.
//
// Laws, each with a test:
//  1. A seed gives the same bytes for ever: nothing is drawn with floating
//     point or with a generator of the standard library.
//  2. A person depends on (seed, index) alone, not on the size of the
//     population or on who was read before: memory is O(1) for any number.
//  3. What is drawn fits the definitions of the same shape: every attribute,
//     tag, event and segment is declared there, with its type.
//
// Path: New builds the tables; each goroutine takes a Reader; Load feeds an
// engine. Two shapes exist: Story, the people of `tact demo`, and Bench, rows
// of the size that the memory figure asks for.
//
// Cost: about 2 µs a person and 0.5 µs an event, a few small allocations each.
package synth

import (
	"strconv"
	"time"

	"tact/engine"
	"tact/storage"
)

// Shape says what kind of people a population holds.
type Shape uint8

// Shapes.
const (
	Story Shape = iota // people of a shop, for Definitions
	Bench              // rows of a fixed size, for Catalogue
)

// Options name a population. The zero value is the demo's.
type Options struct {
	Seed  uint64           // default 1
	Users int              // default 100,000
	End   storage.UnixMsec // events lie in (End-Days, End]; default 2026-11-01T00:00:00Z
	Days  int              // days of events; default 90
	Shape Shape
}

// Population is a seeded population. It is immutable: any number of goroutines
// may hold Readers of it.
type Population struct {
	o Options
	t *tables
}

// New builds a population. Cost: microseconds, whatever its size.
func New(o Options) *Population {
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Users == 0 {
		o.Users = 100_000
	}
	if o.Days == 0 {
		o.Days = 90
	}
	if o.End == 0 {
		o.End = storage.UnixMsec(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	}
	return &Population{o: o, t: newTables()}
}

// Len is the number of people.
func (p *Population) Len() int { return p.o.Users }

// AppendUserID appends the user_id of the person at index, counted from 0:
// u1, u2, u3 …
func AppendUserID(dst []byte, index int) []byte {
	return strconv.AppendInt(append(dst, 'u'), int64(index)+1, 10)
}

// Reader makes the people of a population one by one. It is used by one
// goroutine; what it returns is valid until its next call of the same method.
type Reader struct {
	p      *Population
	user   engine.UserDoc
	text   []byte // backs the user's slices
	list   [][]byte
	events []engine.EventDoc
	raw    []byte // backs the events' slices
	props  []engine.NamedValue
	times  []int64
	kinds  []int // of a person's events
}

// Reader returns a new Reader.
func (p *Population) Reader() *Reader { return &Reader{p: p} }

// User makes the profile of the person at index, 0 ≤ index < Len.
func (r *Reader) User(index int) *engine.UserDoc {
	r.text, r.list = r.text[:0], r.list[:0]
	r.user = engine.UserDoc{
		UserID:     r.id(index),
		Identities: r.user.Identities[:0],
		Attributes: r.user.Attributes[:0],
		Tags:       r.user.Tags[:0],
		Consents:   r.user.Consents[:0],
		Blacklist:  r.user.Blacklist[:0],
		Addresses:  r.user.Addresses[:0],
	}
	if r.p.o.Shape == Bench {
		r.benchUser(index)
	} else {
		r.storyUser(index)
	}
	return &r.user
}

// Events makes the events of the person at index, oldest first.
func (r *Reader) Events(index int) []engine.EventDoc {
	r.events, r.raw, r.props = r.events[:0], r.raw[:0], r.props[:0]
	if r.p.o.Shape == Bench {
		r.benchEvents(index)
	} else {
		r.storyEvents(index)
	}
	return r.events
}

// The purposes of streams. A number is never used for another purpose.
const (
	drawProfile = iota + 1
	drawContact
	drawEvents
	drawSegments
	drawBench
	drawBenchEvents
)

func (r *Reader) draw(index int, purpose uint64) draw {
	return newDraw(r.p.o.Seed, uint64(index), purpose)
}

func (r *Reader) id(index int) []byte {
	from := len(r.text)
	r.text = AppendUserID(r.text, index)
	return r.text[from:len(r.text):len(r.text)]
}

// join keeps the parts, one behind the other, until the next user.
func (r *Reader) join(parts ...string) []byte {
	from := len(r.text)
	for _, p := range parts {
		r.text = append(r.text, p...)
	}
	return r.text[from:len(r.text):len(r.text)]
}

// number keeps the decimal text of n until the next user.
func (r *Reader) number(n int) []byte {
	from := len(r.text)
	r.text = strconv.AppendInt(r.text, int64(n), 10)
	return r.text[from:len(r.text):len(r.text)]
}

// hundredths keeps n/100 as decimal text until the next user.
func (r *Reader) hundredths(n int) []byte {
	from := len(r.text)
	r.text = appendHundredths(r.text, n)
	return r.text[from:len(r.text):len(r.text)]
}

func appendHundredths(dst []byte, n int) []byte {
	dst = strconv.AppendInt(dst, int64(n/100), 10)
	return append(dst, '.', byte('0'+n/10%10), byte('0'+n%10))
}

// date keeps a day as 2006-01-02 until the next user.
func (r *Reader) date(year, month, day int) []byte {
	from := len(r.text)
	r.text = strconv.AppendInt(r.text, int64(year), 10)
	r.text = append(r.text, '-', byte('0'+month/10), byte('0'+month%10),
		'-', byte('0'+day/10), byte('0'+day%10))
	return r.text[from:len(r.text):len(r.text)]
}

func (r *Reader) attribute(name string, kind engine.RawKind, text []byte) {
	r.user.Attributes = append(r.user.Attributes, engine.NamedValue{
		Name: r.join(name), Value: engine.RawValue{Kind: kind, Text: text},
	})
}
