package rule

import (
	"slices"

	"tact/storage"
)

// Standing is a tree made ready to be asked about one person again and again:
// it tells whether the tree holds, until when at least, and of which changes of
// a person it has to be asked anew. It is immutable.
type Standing struct {
	root  *derived
	key   string
	reads Reads
}

// Reads is what a tree looks at in a person. Names are dictionary ids, rising.
type Reads struct {
	Attributes []storage.Name
	Tags       []storage.Name
	Segments   []storage.Name // static ones
	Events     []storage.Name // events, and outcomes by the name of their event
	AnyEvent   bool           // every event that is no outcome
	Consents   bool
	Channels   bool // blacklist, addresses
	Zone       bool // the person's time zone
	Timed      bool // the answer may change with time alone
	Request    bool // it asks about a request: such a condition is false here
	Other      bool // something else: of which only that it changed is known
}

// Standing compiles the tree. Cost: as compiling the tree.
func (t *Tree) Standing() *Standing {
	whole := t.whole()
	s := &Standing{}
	s.reads.gather(whole)
	s.root, s.key = deriveNode(settle(whole, nil, everyLeaf))
	s.reads.Timed = s.root.timed
	s.reads.Zone = s.reads.Zone || s.root.calendar
	for _, list := range []*[]storage.Name{
		&s.reads.Attributes, &s.reads.Tags, &s.reads.Segments, &s.reads.Events,
	} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return s
}

// Key is the meaning of the tree: equal keys, equal answers.
func (s *Standing) Key() string { return s.key }

// Reads says what the tree looks at.
func (s *Standing) Reads() *Reads { return &s.reads }

// ReadsEvents says whether Judge looks at Who.Tail and Who.Activity.
func (s *Standing) ReadsEvents() bool { return s.root.events }

// Judge says whether the tree holds for w at w.Now. next is a second at or
// before the earliest instant after w.Now at which that changes with time alone,
// 0xFFFFFFFF when there is none; it may be the second of w.Now itself, as of
// EvalUser. Cost: as EvalUser for the conditions up to the one that settles the
// answer; no allocation.
func (s *Standing) Judge(w *Who) (holds bool, next storage.UnixSec) {
	e := evaluation{who: w, flip: never}
	if s.root.calendar {
		e.clock = newClock(w.Now, w.Zone)
	} else {
		e.clock.now = w.Now
	}
	holds = e.derived(s.root)
	return holds, seconds(e.flip)
}

// gather notes what the leaves of n look at.
func (r *Reads) gather(n *node) {
	for _, sub := range n.subs {
		r.gather(sub)
	}
	if n.kind != nodeLeaf {
		return
	}
	l := n.leaf
	switch l.subject {
	case subjectTag, subjectTier: // a level is kept as a tag
		r.Tags = append(append(r.Tags, l.id), l.former...)
	case subjectClock:
		r.Zone = true
	case subjectSegment:
		r.Segments = append(r.Segments, l.id)
	case subjectConsent, subjectWithdrawn:
		r.Consents = true
	case subjectBlacklisted, subjectReachable:
		r.Channels = true
	case subjectContext:
		r.Request = true
	case subjectEvent:
		r.Zone = true
		for i := range l.behaviour.steps {
			r.event(&l.behaviour.steps[i])
		}
		if l.behaviour.without != nil {
			r.event(l.behaviour.without)
		}
	case subjectPercent:
	case subjectAttribute:
		r.Attributes = append(r.Attributes, l.id)
		t := compile(l).test
		r.Zone = r.Zone || t.dynamic()
	default:
		r.Other = true
	}
}

func (r *Reads) event(m *match) {
	if m.any {
		r.AnyEvent = true
		return
	}
	r.Events = append(r.Events, m.event)
}
