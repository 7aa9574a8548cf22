package rule

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"tact/storage"
)

// Builder gathers the conditions of one snapshot. Calls of one Builder must not
// run at the same time.
type Builder struct {
	previous *Program
	renew    bool
	rev      uint32
	user     map[string]uint16 // bits of the atoms asked for
	known    map[string]uint16 // bits of the previous Program
	atoms    []Atom            // by bit
	lowest   [MaxPages]int     // by page: no bit below is free
	free     [MaxPages]int     // by page: bits that no atom has
	added    bool
	request  map[string]uint16
	asked    []Atom
	err      error
	shares   []float32 // by bit: see Observe
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
	for k := range b.free {
		b.free[k] = PageAtoms
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
			b.free[i/PageAtoms]--
		}
	}
	return b
}

// Draft is a tree in normal form, whose atoms have no bits yet. It belongs to no
// Builder and is immutable.
type Draft struct {
	atoms []compiled // that conjs name, by number
	conjs []conj
}

// NewDraft brings a tree into normal form. It returns ErrTooWide.
func NewDraft(t *Tree) (*Draft, error) {
	d := newNormal()
	conjs, ok := d.tree(t.whole())
	if !ok {
		return nil, fmt.Errorf("%w: more than %d alternatives", ErrTooWide, MaxConjunctions)
	}
	out := &Draft{conjs: conjs}
	numbers := make(map[int32]int32)
	for i := range conjs {
		lits := slices.Clone(conjs[i].lits)
		for j, l := range lits {
			n, ok := numbers[l.atom()]
			if !ok {
				n = int32(len(out.atoms))
				out.atoms = append(out.atoms, d.atoms[l.atom()])
				numbers[l.atom()] = n
			}
			lits[j] = literal(n)<<1 | l&1
		}
		conjs[i].lits = lits
	}
	return out, nil
}

// Groups gives the atoms of drafts bits. The drafts of one group are read by one
// decision: what many groups ask comes first, then each group goes on as few
// pages as can be: on pages where others of its atoms are, else on the fullest
// page that has room for all. Atoms of drafts that no group names get the lowest
// free bits at Finish.
func (b *Builder) Groups(groups [][]*Draft) {
	atoms := make([][]compiled, len(groups))
	groupsOf := map[string]int{}
	for i, drafts := range groups {
		seen := map[string]bool{}
		for _, d := range drafts {
			for _, c := range d.atoms {
				if !c.request && !seen[c.key] {
					seen[c.key] = true
					groupsOf[c.key]++
					atoms[i] = append(atoms[i], c)
				}
			}
		}
	}
	var common []compiled
	taken := map[string]bool{}
	for _, list := range atoms {
		for _, c := range list {
			if groupsOf[c.key] > 1 && !taken[c.key] {
				taken[c.key] = true
				common = append(common, c)
			}
		}
	}
	slices.SortStableFunc(common, func(x, y compiled) int {
		return groupsOf[y.key] - groupsOf[x.key]
	})
	b.together(common)
	for _, list := range atoms {
		b.together(list)
	}
}

// together gives atoms bits on as few pages as can be.
func (b *Builder) together(atoms []compiled) {
	var fresh []compiled
	var there [MaxPages]int
	for _, c := range atoms {
		if bit, ok := b.bitOf(c.key); ok {
			there[bit/PageAtoms]++
			b.user[c.key] = bit
			continue
		}
		fresh = append(fresh, c)
	}
	for len(fresh) > 0 && b.err == nil {
		k := b.roomiest(&there, len(fresh))
		if k < 0 {
			b.full()
			return
		}
		n := min(len(fresh), b.free[k])
		for _, c := range fresh[:n] {
			b.placeUser(c, k)
		}
		fresh, there[k] = fresh[n:], 0
	}
}

// bitOf returns the bit an atom has, in this Program or the previous one.
func (b *Builder) bitOf(key string) (uint16, bool) {
	bit, ok := b.user[key]
	if !ok {
		bit, ok = b.known[key]
	}
	return bit, ok
}

// roomiest chooses the page for n new atoms: the one with most atoms that are
// read together with them, else the fullest with room for all of them, else the
// emptiest. -1: all are full.
func (b *Builder) roomiest(there *[MaxPages]int, n int) int {
	best := -1
	better := func(k int) bool {
		if best < 0 {
			return true
		}
		switch fits, fit := b.free[k] >= n, b.free[best] >= n; {
		case there[k] != there[best]:
			return there[k] > there[best]
		case fits != fit:
			return fits
		case fits:
			return b.free[k] < b.free[best]
		}
		return b.free[k] > b.free[best]
	}
	for k := range b.free {
		if b.free[k] > 0 && better(k) {
			best = k
		}
	}
	return best
}

// Finish compiles a draft; atoms without a bit get the lowest free one. It
// returns ErrTooManyAtoms, or the error of an earlier call.
func (b *Builder) Finish(d *Draft) (Cond, error) {
	lits := make(map[int32]Lit)
	var c Cond
	for _, conj := range d.conjs {
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
// Rev stays; then their bits are free for the Program after.
func (b *Builder) Program() *Program {
	if b.err != nil {
		return nil
	}
	atoms, rev := slices.Clone(b.atoms), b.rev
	if b.previous != nil && !b.renew && !b.added {
		rev = b.previous.Rev
	} else {
		used := make([]bool, len(atoms))
		for bit := range maps.Values(b.user) {
			used[bit] = true
		}
		for i := range atoms {
			if !used[i] {
				atoms[i] = Atom{}
			}
		}
	}
	return newProgram(rev, atoms, slices.Clone(b.asked))
}

func (b *Builder) placeLeaf(l *leaf) Lit { return b.place(compile(l)) }

// place gives a compiled atom its bit.
func (b *Builder) place(c compiled) Lit {
	if c.request {
		return b.placeRequest(c)
	}
	bit, ok := b.bitOf(c.key)
	if !ok {
		k := slices.IndexFunc(b.free[:], func(n int) bool { return n > 0 })
		if k < 0 || b.err != nil {
			b.full()
			return Lit{}
		}
		bit = b.placeUser(c, k)
	}
	b.user[c.key] = bit
	return Lit{
		Word: uint16(pageWord(int(bit/PageAtoms)) + int(bit%PageAtoms/64)), Bit: uint8(bit % 64),
	}
}

func (b *Builder) full() {
	if b.err == nil {
		b.err = fmt.Errorf("%w: more than %d on people", ErrTooManyAtoms, MaxUserAtoms)
	}
}

// placeUser gives a new atom the lowest bit of page k that no atom has, of the
// previous Program either. Page k has one.
func (b *Builder) placeUser(c compiled, k int) uint16 {
	i := k*PageAtoms + b.lowest[k]
	for i < len(b.atoms) && b.atoms[i].Key != "" {
		i++
	}
	for i >= len(b.atoms) {
		b.atoms = append(b.atoms, Atom{})
	}
	b.lowest[k] = i%PageAtoms + 1
	b.free[k]--
	b.atoms[i] = Atom{Key: c.key, Since: b.rev, test: c.test}
	b.user[c.key], b.added = uint16(i), true
	return uint16(i)
}

func (b *Builder) placeRequest(c compiled) Lit {
	bit, ok := b.request[c.key]
	if !ok {
		if len(b.asked) == MaxRequestAtoms {
			if b.err == nil {
				b.err = fmt.Errorf("%w: more than %d on requests", ErrTooManyAtoms, MaxRequestAtoms)
			}
			return Lit{}
		}
		bit = uint16(len(b.asked))
		b.asked = append(b.asked, Atom{Key: c.key, Since: math.MaxUint32, test: c.test})
		b.request[c.key] = bit
	}
	return Lit{Word: requestWord + bit/64, Bit: uint8(bit % 64)}
}
