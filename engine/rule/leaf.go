package rule

import (
	"regexp"

	"tact/engine/definition"
	"tact/storage"
)

// subject is what a leaf is about.
type subject uint8

const (
	subjectAttribute subject = iota + 1
	subjectTag
	subjectSegment
	subjectPercent
	subjectContext
	subjectConsent
	subjectWithdrawn
	subjectBlacklisted
	subjectReachable
	subjectEvent    // events, outcomes, sequences
	subjectProperty // of an event, in where
	subjectTier
	subjectClock // hour of the week, on the person's clock
	subjectFixed // a value of the request, once it is known
)

// op is how a leaf compares. There is no negative one.
type op uint8

const (
	opNone op = iota // tag, segment: held
	opIsSet
	opIs
	opIn
	opGt
	opGte
	opLt
	opLte
	opBetween // both ends belong to it
	opBefore
	opAfter
	opStartsWith
	opEndsWith
	opContains
	opMatches
	opWithinLast
	opWithinNext
	opYearsSince
	opMonthsSince
	opAnniversary
)

// leaf is one comparison as the document says it: what Naive judges, Explain
// prints and compile turns into a test.
type leaf struct {
	subject subject
	name    string // as written: attribute, tag, segment, context key; the salt of percent
	id      storage.Name
	typ     definition.AttrType // of attribute and context
	enum    bool                // of tag: it has values
	channel uint8               // of consent, blacklist, address
	op      op
	than    op   // of years_since and months_since: is gt gte lt lte between
	fold    bool // ignore case
	values  []operand
	pattern *regexp.Regexp // of matches
	former  []storage.Name // of tag: names it had
	each    bool           // of a property: of the elements of a list
	clock   clockUnit      // of subjectClock
	levels  []Level        // of tier; num of a value is its place
	fixed   storage.Value  // of subjectFixed

	behaviour *behaviour // of events
}

// operand is a value of a leaf. num holds a bool as 0 or 1, an int, the days of a
// date, the milliseconds of a time, the seconds of a duration, or hundredths of a
// percent.
type operand struct {
	text  string // as written; of strings the value itself
	num   int64
	float float64      // of a float
	date  bool         // a date compared with a time: judged by local date
	value storage.Name // of an enum tag
}

// asksKnown returns the leaf that asks for what l names to be known, or nil
// when there is nothing to know: labels and static segments are held or not. Of
// events it asks that the window is known and something comes out of it.
func (l *leaf) asksKnown() *leaf {
	switch {
	case l.subject == subjectEvent:
		return &leaf{
			subject: l.subject, name: l.name, typ: l.typ, behaviour: l.behaviour, op: opIsSet,
		}
	case l.subject == subjectAttribute, l.subject == subjectContext,
		l.subject == subjectTag && l.enum, l.subject == subjectTier:
		return &leaf{
			subject: l.subject, name: l.name, id: l.id, typ: l.typ, enum: l.enum, op: opIsSet,
			former: l.former, levels: l.levels,
		}
	}
	return nil
}
