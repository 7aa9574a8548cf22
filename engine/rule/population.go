package rule

import (
	"time"

	"tact/storage"
)

// Population is a tree made ready to be asked about everybody, in one request
// and so with one context: what it says of the request is settled once. Indexes
// of the population answer what they can as sets (Bounds); the people they leave
// open are asked one by one (Judge). It is immutable and may be read by any
// number of goroutines.
//
// Law, with a test: who is in the sure set of Bounds, or in the open one and held
// by a Judge, is who Naive says.
type Population struct {
	root *derived // asked one by one
	plan *setPart // answered by sets
	ask  storage.ViewAsk

	onEvents   int  // conditions on events
	leaves     int  // of the plan
	asksPeople bool // of some leaf no set tells who passes
}

// Population compiles the tree for people in a request with this context; a key
// that the context has not is missing. Cost: as compiling the tree, O(nodes +
// values).
func (t *Tree) Population(ctx []ContextValue) *Population {
	p := &Population{}
	p.root, _ = deriveNode(settle(t.whole(), ctx, everyLeaf))
	p.ask.Events = p.root.events
	p.plan = p.partOf(p.root)
	return p
}

// Ask returns what a view must hold for Bounds, and must not be changed.
func (p *Population) Ask() *storage.ViewAsk { return &p.ask }

// ViewAsk returns what a view must hold so that conditions on events are not judged anew
// for people of whom it is known how they came out: Ask with the scope in front of the
// keys of conditions. The scope names what outcomes depend on beside the condition, the
// person and the time: the definitions. An empty one asks for none.
func (p *Population) ViewAsk(scope string) *storage.ViewAsk {
	ask := p.ask
	if ask.Verdicts = nil; scope != "" {
		for _, v := range p.ask.Verdicts[:min(len(p.ask.Verdicts), storage.MaxVerdicts)] {
			ask.Verdicts = append(ask.Verdicts, storage.VerdictAsk{Key: scope + " " + v.Key})
		}
	}
	return &ask
}

// ReadsEvents says whether a person's Tail and Activity are looked at. Without it
// they need not be filled.
func (p *Population) ReadsEvents() bool { return p.root.events }

// Weight is what judging a person costs at most, in conditions on attributes: one
// on events counts as eight, about what it takes with thirty events in the tail.
func (p *Population) Weight() int { return p.root.weight() }

func (d *derived) weight() (sum int) {
	switch {
	case d.kind != nodeLeaf:
		for _, sub := range d.subs {
			sum += sub.weight()
		}
		return sum
	case d.events:
		return 8
	}
	return 1
}

// Holds says whether the tree holds for w at w.Now: what Cond says of the bits
// that EvalUser and EvalRequest make. Cost: as EvalUser for the conditions up to
// the one that settles the answer; no allocation.
func (p *Population) Holds(w *Who) bool {
	j := Judge{population: p}
	return j.Holds(w)
}

// A Judge asks a Population about one person after the other, all at one time. It
// remembers what the clock shows in each zone, and belongs to one goroutine.
type Judge struct {
	population *Population
	last       clock
	clocks     map[*time.Location]clock
	scratch    *Scratch // where several conditions read the tail
	byDay      bool     // of the last answer
	keeps      bool     // what conditions on events came to is told
	told       []Verdict
}

// Verdict is what one condition on events came to for a person: until the second Until,
// as long as nothing changes the person.
type Verdict struct {
	Condition int // its place among the verdicts of Ask
	Holds     bool
	Until     storage.UnixSec
}

// Judge returns a Judge.
func (p *Population) Judge() *Judge {
	j := &Judge{
		population: p, clocks: map[*time.Location]clock{}, keeps: len(p.ask.Verdicts) > 0,
	}
	if p.onEvents >= sharedTail {
		j.scratch = &Scratch{}
	}
	return j
}

// Holds is Population.Holds; w.Now must be the same in every call.
func (j *Judge) Holds(w *Who) bool {
	root := j.population.root
	e := evaluation{who: w, flip: never}
	e.clock.now = w.Now
	if root.calendar {
		e.clock = j.clock(w)
	}
	if j.scratch != nil {
		e.recent, j.scratch.recent.n = &j.scratch.recent, unread
	}
	if j.keeps {
		j.told = j.told[:0]
		e.verdicts = &j.told
	}
	holds := e.derived(root)
	j.byDay = e.byDay
	return holds
}

// Told returns what the conditions on events that the last answer of Holds looked at came
// to. It is valid until the next.
func (j *Judge) Told() []Verdict { return j.told }

// verdict judges a condition whose outcomes are kept, and tells for how long it holds.
func (e *evaluation) verdict(d *derived) bool {
	flip := e.flip
	e.flip = never
	holds := e.judge(&d.test)
	*e.verdicts = append(*e.verdicts, Verdict{d.verdict - 1, holds, seconds(e.flip)})
	e.flip = min(flip, e.flip)
	return holds
}

// ByDay says whether a window that the last answer of Holds looked at reaches
// behind the person's tail and was answered by calendar day.
func (j *Judge) ByDay() bool { return j.byDay }

func (j *Judge) clock(w *Who) clock {
	if j.clocks == nil {
		return newClock(w.Now, w.Zone)
	}
	if j.last.zone != nil && j.last.zone == w.Zone {
		return j.last
	}
	c, ok := j.clocks[w.Zone]
	if !ok {
		c = newClock(w.Now, w.Zone)
		j.clocks[w.Zone] = c
	}
	j.last = c
	return c
}

func everyLeaf(*leaf) bool { return true }

// settle replaces what the leaves in question ask of the request by what holds.
func settle(n *node, ctx []ContextValue, asks func(*leaf) bool) *node {
	if n.kind == nodeLeaf {
		if n.leaf.subject != subjectContext || !asks(n.leaf) {
			return n
		}
		t := compile(n.leaf).test
		value, ok := contextValue(ctx, t.id)
		switch {
		case ok && t.dynamic(): // it depends on the person's clock
			fixed := *n.leaf
			fixed.subject, fixed.fixed = subjectFixed, value
			return leafNode(fixed)
		case ok && t.static(value):
			return &node{kind: nodeAll}
		}
		return &node{kind: nodeAny}
	}
	out := &node{kind: n.kind, subs: make([]*node, len(n.subs))}
	for i, sub := range n.subs {
		out.subs[i] = settle(sub, ctx, asks)
	}
	return out
}
