package rule

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"tact/storage"
)

// Program is the atoms of one snapshot with their bits. It is immutable.
//
// Bit i of a person's row, that is bit i%64 of word i/64, is UserAtoms[i]. Two
// Programs of one chain of Builders that have the same Rev give the same
// meaning to every bit. A row that says for which Rev its bits are complete is
// trusted when that is the Program's own, and given to EvalUser when it is
// another, older or newer; EvalUser then judges what it must.
type Program struct {
	Rev          uint32 // counts layouts, from 1
	UserAtoms    []Atom // an Atom with an empty Key is a free bit
	RequestWords int    // words EvalRequest fills, 0..8

	requestAtoms []Atom
	timed        []uint16 // bits of atoms that change with time alone or with an event
	calendar     bool     // an atom needs the zone
	events       bool     // an atom needs what the person did
}

// ReadsEvents says whether EvalUser looks at Who.Tail and Who.Activity. Without
// it they need not be filled.
func (p *Program) ReadsEvents() bool { return p.events }

// Builder gathers the conditions of one snapshot. Calls of one Builder must not
// run at the same time.
type Builder struct {
	previous *Program
	renew    bool
	rev      uint32
	user     map[string]uint16 // bits of the atoms asked for
	known    map[string]uint16 // bits of the previous Program
	atoms    []Atom            // by bit
	added    bool
	request  map[string]uint16
	asked    []Atom
	err      error
}

// NewBuilder starts a Program that continues previous: an atom that previous
// has keeps its bit. nil starts a new chain.
func NewBuilder(previous *Program) *Builder { return newBuilder(previous, false) }

// NewLayout starts a Program that comes after previous but shares no bit with
// it: every row is judged anew. It is for a snapshot that does not fit beside
// the atoms of the previous one.
func NewLayout(previous *Program) *Builder { return newBuilder(previous, true) }

func newBuilder(previous *Program, renew bool) *Builder {
	b := &Builder{
		previous: previous, renew: renew, rev: 1,
		user: map[string]uint16{}, known: map[string]uint16{}, request: map[string]uint16{},
	}
	if previous == nil {
		return b
	}
	b.rev = previous.Rev + 1
	if renew {
		return b
	}
	b.atoms = slices.Clone(previous.UserAtoms)
	for i := range b.atoms {
		if b.atoms[i].Key != "" {
			b.known[b.atoms[i].Key] = uint16(i)
		}
	}
	return b
}

// Cond compiles a tree and gives its atoms bits. It returns ErrTooWide,
// ErrTooManyAtoms, or the error of an earlier call.
func (b *Builder) Cond(t *Tree) (Cond, error) {
	if b.err != nil {
		return Cond{}, b.err
	}
	d := newNormal()
	conjunctions, ok := d.tree(t.whole())
	if !ok {
		return Cond{}, fmt.Errorf("%w: more than %d alternatives", ErrTooWide, MaxConjunctions)
	}
	lits := make(map[int32]Lit)
	var c Cond
	for _, conj := range conjunctions {
		start := len(c.terms)
		for _, l := range conj.lits {
			at, ok := lits[l.atom()]
			if !ok {
				at = b.place(d.atoms[l.atom()])
				lits[l.atom()] = at
			}
			c.terms = addTerm(c.terms, start, at.Term(!l.negative()))
		}
		slices.SortFunc(c.terms[start:], func(a, b Term) int { return cmp.Compare(a.Word, b.Word) })
		c.ends = append(c.ends, uint32(len(c.terms)))
	}
	return c, b.err
}

// addTerm joins t with the term of its word in the conjunction that starts at
// start. Contradictions have been dropped before.
func addTerm(terms []Term, start int, t Term) []Term {
	for i := start; i < len(terms); i++ {
		if terms[i].Word == t.Word {
			terms[i].Mask |= t.Mask
			terms[i].Want |= t.Want
			return terms
		}
	}
	return append(terms, t)
}

// Consent returns the bit of a consent that was granted.
func (b *Builder) Consent(purpose storage.Name, channel uint8) Lit {
	return b.placeLeaf(&leaf{subject: subjectConsent, id: purpose, channel: channel})
}

// Withdrawn returns the bit of a consent that was refused or taken back.
func (b *Builder) Withdrawn(purpose storage.Name, channel uint8) Lit {
	return b.placeLeaf(&leaf{subject: subjectWithdrawn, id: purpose, channel: channel})
}

// Blacklisted returns the bit of a channel that is blocked for the person.
func (b *Builder) Blacklisted(channel uint8) Lit {
	return b.placeLeaf(&leaf{subject: subjectBlacklisted, channel: channel})
}

// Reachable returns the bit of a channel on which the person has an address.
func (b *Builder) Reachable(channel uint8) Lit {
	return b.placeLeaf(&leaf{subject: subjectReachable, channel: channel})
}

// Err returns the first error: Lits and Conds given after it mean nothing.
func (b *Builder) Err() error { return b.err }

// Program returns the atoms asked for so far; nil after an error. The Rev is
// the previous one's unless an atom was added. Atoms of the previous Program
// that nobody asked for keep their bits, and are still judged, as long as the
// Rev stays.
func (b *Builder) Program() *Program {
	if b.err != nil {
		return nil
	}
	p := &Program{Rev: b.rev, UserAtoms: slices.Clone(b.atoms), requestAtoms: slices.Clone(b.asked)}
	p.RequestWords = (len(b.asked) + 63) / 64
	if b.previous != nil && !b.renew && !b.added {
		p.Rev = b.previous.Rev
	} else {
		used := make([]bool, len(p.UserAtoms))
		for bit := range maps.Values(b.user) {
			used[bit] = true
		}
		for i := range p.UserAtoms {
			if !used[i] {
				p.UserAtoms[i] = Atom{}
			}
		}
	}
	for i := range p.UserAtoms {
		t := &p.UserAtoms[i].test
		if t.timed() {
			p.timed = append(p.timed, uint16(i))
		}
		p.calendar = p.calendar || t.local()
		p.events = p.events || t.behavioural()
	}
	return p
}

func (b *Builder) placeLeaf(l *leaf) Lit { return b.place(compile(l)) }

// place gives a compiled atom its bit.
func (b *Builder) place(c compiled) Lit {
	if c.request {
		return b.placeRequest(c)
	}
	bit, ok := b.user[c.key]
	if !ok {
		bit, ok = b.known[c.key]
		if !ok {
			bit = b.free()
		}
		if b.err != nil {
			return Lit{}
		}
		if !ok {
			b.atoms[bit] = Atom{Key: c.key, Since: b.rev, test: c.test}
			b.added = true
		}
		b.user[c.key] = bit
	}
	return Lit{Word: bit / 64, Bit: uint8(bit % 64)}
}

// free finds the lowest bit that no atom has, of the previous Program either.
func (b *Builder) free() uint16 {
	for i := range b.atoms {
		if b.atoms[i].Key == "" {
			return uint16(i)
		}
	}
	if len(b.atoms) == MaxUserAtoms {
		b.err = fmt.Errorf("%w: more than %d on people", ErrTooManyAtoms, MaxUserAtoms)
		return 0
	}
	b.atoms = append(b.atoms, Atom{})
	return uint16(len(b.atoms) - 1)
}

func (b *Builder) placeRequest(c compiled) Lit {
	bit, ok := b.request[c.key]
	if !ok {
		if len(b.asked) == MaxRequestAtoms {
			b.err = fmt.Errorf("%w: more than %d on requests", ErrTooManyAtoms, MaxRequestAtoms)
			return Lit{}
		}
		bit = uint16(len(b.asked))
		b.asked = append(b.asked, Atom{Key: c.key, Since: math.MaxUint32, test: c.test})
		b.request[c.key] = bit
	}
	return Lit{Word: UserWords + bit/64, Bit: uint8(bit % 64)}
}
