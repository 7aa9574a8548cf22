package rule

import (
	"slices"

	"tact/storage"
)

// Program is the atoms of one snapshot with their bits. It is immutable.
//
// Atom i of UserAtoms owns bit i%64 of word i/64%8 of page i/512 of a person.
// Two Programs of one chain of Builders that have the same Rev give the same
// meaning to every bit. A page says for which Rev it is complete; EvalPage judges
// what it must, be the page older or newer.
type Program struct {
	Rev          uint32 // counts layouts, from 1
	UserAtoms    []Atom // an Atom with an empty Key is a free bit
	RequestWords int    // words EvalRequest fills, 0..8

	requestAtoms []Atom
	requestClock bool // one of them asks for the clock
	pages        []page
}

// page is what a Program knows of one page: which atoms are to be judged when.
type page struct {
	since  uint32 // the newest Since of its atoms, at least 1
	all    batch
	timed  batch // atoms that change with time alone, or with an event
	events batch // atoms that change with an event
}

// newProgram sorts the atoms of a Program into what EvalPage judges together.
func newProgram(rev uint32, user, request []Atom) *Program {
	for len(user) > 0 && user[len(user)-1].Key == "" {
		user = user[:len(user)-1]
	}
	p := &Program{
		Rev: rev, UserAtoms: user, requestAtoms: request, RequestWords: (len(request) + 63) / 64,
	}
	p.requestClock = slices.ContainsFunc(request, func(a Atom) bool { return a.test.dynamic() })
	for k := range p.Pages() {
		p.pages = append(p.pages, newPage(p.pageAtoms(k)))
	}
	return p
}

func newPage(atoms []Atom) page {
	g := page{since: 1}
	var all, timed, events []uint16
	for i := range atoms {
		t := &atoms[i].test
		if t.kind == testNone {
			continue
		}
		g.since = max(g.since, atoms[i].Since)
		all = append(all, uint16(i))
		if t.timed() {
			timed = append(timed, uint16(i))
		}
		if t.behavioural() {
			events = append(events, uint16(i))
		}
	}
	g.all, g.timed, g.events = newBatch(atoms, all), newBatch(atoms, timed), newBatch(atoms, events)
	return g
}

// Pages returns how many pages the bits of a person fill: 1 to MaxPages.
func (p *Program) Pages() int {
	return max(1, (len(p.UserAtoms)+PageAtoms-1)/PageAtoms)
}

// pageAtoms are the atoms of page k, by bit.
func (p *Program) pageAtoms(k int) []Atom {
	from := min(k*PageAtoms, len(p.UserAtoms))
	return p.UserAtoms[from:min(from+PageAtoms, len(p.UserAtoms))]
}

// ReadsEvents says whether EvalPage of page k looks at Who.Tail and
// Who.Activity. Without it they need not be filled.
func (p *Program) ReadsEvents(k int) bool { return p.pages[k].all.behavioural }

// Doubt is what may have made a page untrue since it was computed, beside time.
type Doubt uint8

// Doubts.
const (
	DoubtEvents Doubt = 1 << iota // an event or an outcome came
	DoubtPerson                   // anything else about the person changed
)

// Fresh says whether a page holds what holds for the person at now: EvalPage
// would change nothing. Cost: a few comparisons.
func (p *Program) Fresh(k int, bits *storage.BitPage, doubt Doubt, now storage.UnixSec) bool {
	g := &p.pages[k]
	return bits.Rev >= g.since && bits.Rev <= p.Rev && now < bits.Next &&
		(doubt == 0 || doubt == DoubtEvents && !g.events.some)
}

// EvalPage brings page k up to date: afterwards every bit of an atom of the
// Program says what holds for w at w.Now, and the page is complete for p.Rev. It
// judges no more than it must: every atom when nothing is known (Rev 0, a Rev
// above p.Rev, or DoubtPerson); else the atoms that are newer than the page, those
// that time may have changed when Next has come, those on events under
// DoubtEvents. A change of w.Zone needs DoubtPerson.
//
// Next becomes a second at or before the earliest instant after w.Now at which an
// atom of the page changes with time alone, 0xFFFFFFFF when there is none until
// 2106. It may be the second of w.Now itself, when the change comes later in it:
// a caller who judges again as long as the second of its clock is not below Next
// is always right.
//
// Cost: one walk over the attributes, tags and segments that the person has and
// the page asks about; about 5 ns for each atom on them, nothing for one on what
// the person has not. See batch. Atoms on events share one reading of the tail
// when there is a w.Scratch to read it into. No allocation.
func (p *Program) EvalPage(w *Who, k int, bits *storage.BitPage, doubt Doubt) {
	e := evaluation{who: w, flip: never, atoms: p.pageAtoms(k)}
	e.clock.now = w.Now
	g := &p.pages[k]
	if w.Scratch != nil && len(g.all.events) >= sharedTail {
		e.recent, w.Scratch.recent.n = &w.Scratch.recent, unread
	}
	known := bits.Rev != 0 && bits.Rev <= p.Rev && doubt&DoubtPerson == 0
	newer := known && bits.Rev < g.since
	if newer && e.mostlyNewer(bits.Rev) {
		known, newer = false, false
	}
	next := bits.Next
	switch {
	case !known:
		next, bits.Bits = latest, [PageWords]uint64{}
		e.run(&g.all, &bits.Bits)
	case seconds(w.Now) >= bits.Next:
		next = latest
		e.run(&g.timed, &bits.Bits)
	case doubt&DoubtEvents != 0 && g.events.some:
		e.run(&g.events, &bits.Bits)
	}
	if newer {
		e.zoned(g.all.calendar)
		for i := range e.atoms {
			if e.atoms[i].Since > bits.Rev && e.atoms[i].test.kind != testNone {
				e.set(&bits.Bits, uint16(i), e.judge(&e.atoms[i].test))
			}
		}
	}
	bits.Rev, bits.Next = p.Rev, min(next, seconds(e.flip))
}

// latest is the last second that a page can name.
const latest = storage.UnixSec(0xFFFFFFFF)

// mostlyNewer says that so many atoms are newer than rev that judging all of
// them together is cheaper than judging those one by one.
func (e *evaluation) mostlyNewer(rev uint32) bool {
	n := 0
	for i := range e.atoms {
		if e.atoms[i].Since > rev {
			n++
		}
	}
	return n*8 > len(e.atoms)
}

// EvalUser judges every page as EvalPage does: bits has the words of all pages,
// from is the Rev for which they are complete; time has passed and events may
// have come. It returns the earliest Next.
func (p *Program) EvalUser(w *Who, from uint32, bits []uint64) (next storage.UnixSec) {
	next = latest
	for k := range p.pages {
		words := bits[k*PageWords : (k+1)*PageWords]
		one := storage.BitPage{Bits: [PageWords]uint64(words), Rev: from}
		p.EvalPage(w, k, &one, DoubtEvents)
		copy(words, one.Bits[:])
		next = min(next, one.Next)
	}
	return next
}

// ByDay sets in bits the bits of the atoms of page k with a window that reaches
// behind the person's tail and is answered by calendar day, and clears the others.
// Cost: as judging the atoms of the page on events; no allocation.
func (p *Program) ByDay(w *Who, k int, bits *[PageWords]uint64) {
	*bits = [PageWords]uint64{}
	if w.Tail.Floor() == 0 {
		return // the tail is the whole life
	}
	e := evaluation{who: w, flip: never, atoms: p.pageAtoms(k)}
	e.clock.now = w.Now
	e.zoned(p.pages[k].all.calendar)
	for i := range e.atoms {
		if t := &e.atoms[i].test; t.kind != testNone && t.behavioural() {
			e.byDay = false
			e.judge(t)
			e.set(bits, uint16(i), e.byDay)
		}
	}
}

// EvalRequest sets the words of a request: words has p.RequestWords words; bits
// that a shorter one has no room for are left out. Conditions on the person's
// clock are false until EvalClock judges them. Cost: about 0.1 µs an atom.
func (p *Program) EvalRequest(ctx []ContextValue, words []uint64) {
	clear(words)
	for i := range p.requestAtoms {
		t := &p.requestAtoms[i].test
		if t.dynamic() {
			continue
		}
		if value, ok := contextValue(ctx, t.id); ok && i>>6 < len(words) && t.static(value) {
			words[i>>6] |= 1 << (i & 63)
		}
	}
}

// EvalClock sets, in words that EvalRequest made, the bits of the conditions that
// compare a date or a time of the request with the clock of w at w.Now. Cost:
// nothing when there is none; no allocation.
func (p *Program) EvalClock(w *Who, ctx []ContextValue, words []uint64) {
	if !p.requestClock {
		return
	}
	e := evaluation{who: w, flip: never}
	e.zoned(true)
	for i := range p.requestAtoms {
		t := &p.requestAtoms[i].test
		if !t.dynamic() || i>>6 >= len(words) {
			continue
		}
		words[i>>6] &^= 1 << (i & 63)
		if value, ok := contextValue(ctx, t.id); ok && e.moving(t, value) {
			words[i>>6] |= 1 << (i & 63)
		}
	}
}

func contextValue(ctx []ContextValue, key storage.Name) (storage.Value, bool) {
	i := slices.IndexFunc(ctx, func(c ContextValue) bool { return c.Key == key })
	if i < 0 {
		return storage.Value{}, false
	}
	return ctx[i].Value, true
}
