package decide

import (
	"math/bits"
	"slices"

	"tact/engine/rule"
)

// plainScan is how many candidates are looked at one after the other before the
// index is asked: at a few ns each they cost less than asking it. Measured: at 64
// a placement of 60 offers costs 0.9 µs more. A slab of fewer than fewest
// candidates has no index: the reason of an empty slot is found by judging all.
const (
	plainScan = 16
	fewest    = 4
)

// index finds the candidates of a slab that may hold for a person without looking
// at the others. Every candidate is filed under one literal that it needs (of a
// choice: one of every alternative), the one that fewest people are thought to
// pass; a candidate none of whose literals holds is refused. Candidates that need
// nothing are always found.
//
// Cost: one look at each word of the row that literals name, a list for each
// literal that holds, and 1 ns for each candidate on those lists.
type index struct {
	words    []indexWord
	starts   []uint32  // of list i in positions; one more than there are lists
	position []uint32  // of candidates in the slab, list after list
	always   bitset    // candidates filed under nothing
	hurdles  []hurdles // of every candidate, for the reason of an empty slot

	classes []refusalClass
	held    uint64 // holdouts that cover every candidate
}

// indexWord is the literals of one word of the row. The list of a set bit of set
// is setFirst plus the number of lower bits in set; likewise for clear.
type indexWord struct {
	word                 uint16
	set, clear           uint64 // bits filed under as wanted set, wanted clear
	setFirst, clearFirst uint32
}

// refusalClass is candidates that the index rules out at the same gate.
type refusalClass struct {
	stage   Stage // whose rule refuses; StageNone: consent
	exact   bool  // no rule list before it asks anything, so the refusal is known
	known   *rule.Cond
	members bitset
}

// access is what a candidate is filed under.
type access struct {
	literals []rule.Term // of one bit each: when none holds, the candidate is refused
	stage    Stage
	likely   float64 // share of people thought to pass
}

// index builds the index of a slab whose candidates are in their order, when it
// is long enough for one.
func (b *slabBuilder) index() {
	s := b.s
	if s.plain = b.c.env.plain; s.plain == 0 {
		s.plain = plainScan
	}
	if len(s.candidates) < min(s.plain+1, fewest) {
		return
	}
	x := &index{always: newBitset(len(s.candidates)), held: ^uint64(0)}
	lists := map[rule.Term][]uint32{}
	for i := range s.candidates {
		x.held &= s.details[i].holds
		x.hurdles = append(x.hurdles, b.hurdles(i))
		a := b.access(i)
		if a == nil {
			x.always.add(int32(i))
			continue
		}
		for _, l := range a.literals {
			lists[l] = append(lists[l], uint32(i))
		}
		b.lead(&s.candidates[i], a)
		x.file(a, &b.c.plan.Offers[s.candidates[i].offer], i, len(s.candidates))
	}
	x.lists(lists)
	s.index = x
}

// lists lays the lists out by word and bit.
func (x *index) lists(lists map[rule.Term][]uint32) {
	words := map[uint16]*indexWord{}
	for l := range lists {
		w := words[l.Word]
		if w == nil {
			w = &indexWord{word: l.Word}
			words[l.Word] = w
		}
		if l.Want != 0 {
			w.set |= l.Mask
		} else {
			w.clear |= l.Mask
		}
	}
	for _, w := range words {
		x.words = append(x.words, *w)
	}
	slices.SortFunc(x.words, func(a, z indexWord) int { return int(a.word) - int(z.word) })
	n := uint32(0)
	for i := range x.words {
		w := &x.words[i]
		w.setFirst = n
		for open := w.set; open != 0; open &= open - 1 {
			bit := open & -open
			x.add(lists[rule.Term{Word: w.word, Mask: bit, Want: bit}])
			n++
		}
		w.clearFirst = n
		for open := w.clear; open != 0; open &= open - 1 {
			x.add(lists[rule.Term{Word: w.word, Mask: open & -open}])
			n++
		}
	}
	x.starts = append(x.starts, uint32(len(x.position)))
}

func (x *index) add(list []uint32) {
	x.starts = append(x.starts, uint32(len(x.position)))
	x.position = append(x.position, list...)
}

// find sets in open, which is empty, the positions of the candidates that may
// hold for a row.
func (x *index) find(row []uint64, open bitset) {
	copy(open, x.always)
	for i := range x.words {
		w := &x.words[i]
		word := row[w.word]
		for hit := word & w.set; hit != 0; hit &= hit - 1 {
			x.open(open, w.setFirst+uint32(bits.OnesCount64(w.set&(hit&-hit-1))))
		}
		for hit := ^word & w.clear; hit != 0; hit &= hit - 1 {
			x.open(open, w.clearFirst+uint32(bits.OnesCount64(w.clear&(hit&-hit-1))))
		}
	}
}

func (x *index) open(open bitset, list uint32) {
	for _, i := range x.position[x.starts[list]:x.starts[list+1]] {
		open[i>>6] |= 1 << (i & 63)
	}
}

// maxClasses bounds the classes of a slab; of candidates beyond, those of a stage share
// two that are not exact, one of which says that a value may be unknown.
const maxClasses = 64

// file puts candidate i into the class of what refuses it when the index does.
func (x *index) file(a *access, o *Offer, i, n int) {
	c := refusalClass{stage: a.stage, exact: true}
	for k := range o.rules {
		before := a.stage == StageNone || Stage(k+1) < a.stage
		if before && !o.rules[k].Always() {
			c.exact = false
		}
	}
	if a.stage != StageNone && o.hasKnown[a.stage-1] {
		c.known = &o.known[a.stage-1]
	}
	at := slices.IndexFunc(x.classes, func(have refusalClass) bool {
		return have.stage == c.stage && have.exact == c.exact && sameCond(have.known, c.known)
	})
	if at < 0 && len(x.classes) >= maxClasses {
		c.exact = false
		at = slices.IndexFunc(x.classes, func(have refusalClass) bool {
			return have.stage == c.stage && !have.exact && (c.known == nil || have.known != nil)
		})
	}
	if at < 0 {
		c.members = newBitset(n)
		at = len(x.classes)
		x.classes = append(x.classes, c)
	}
	x.classes[at].members.add(int32(i))
}

func sameCond(a, b *rule.Cond) bool {
	return a == b || a != nil && b != nil && a.Equal(b)
}

// lead makes the term that holds an access literal the one that the scan looks
// at first.
func (b *slabBuilder) lead(cand *candidate, a *access) {
	if len(a.literals) != 1 {
		return
	}
	terms := spanOf(b.s.terms, cand.terms)
	i := slices.IndexFunc(terms, func(t rule.Term) bool { return t.Word == a.literals[0].Word })
	if i >= 0 {
		first := rule.Term{Word: cand.word, Mask: cand.mask, Want: cand.want}
		cand.word, cand.mask, cand.want = terms[i].Word, terms[i].Mask, terms[i].Want
		terms[i] = first
	}
}

// access chooses what a candidate is filed under: of the first rule list that
// asks anything the literal that fewest people pass, unless a later list has one
// that a quarter as many do; where no rule asks anything, the consent. nil: there
// is nothing to file it under.
func (b *slabBuilder) access(i int) *access {
	cand, d := &b.s.candidates[i], &b.s.details[i]
	var best *access
	for k, cond := range b.c.plan.Offers[cand.offer].rules {
		a := b.narrowest(cond.Conjunctions(), cond.Always())
		if a == nil {
			continue
		}
		a.stage = Stage(k + 1)
		if best == nil || a.likely < best.likely/4 {
			best = a
		}
	}
	if best != nil {
		return best
	}
	for _, t := range spanOf(b.s.terms, d.consent) {
		if t.Want != 0 {
			return &access{literals: []rule.Term{t}, likely: 1}
		}
	}
	return nil
}

// mostLiterals bounds what a candidate is filed under.
const mostLiterals = rule.MaxConjunctions

// narrowest takes of every alternative the literal that fewest people pass; nil
// when an alternative asks nothing. A rule that never holds is filed under
// nothing that holds.
func (b *slabBuilder) narrowest(alternatives [][]rule.Term, always bool) *access {
	if always || len(alternatives) > mostLiterals {
		return nil
	}
	a := &access{}
	for _, terms := range alternatives {
		var best rule.Term
		least := 2.0
		for _, t := range terms {
			for open := t.Mask; open != 0; open &= open - 1 {
				one := rule.Term{Word: t.Word, Mask: open & -open}
				one.Want = t.Want & one.Mask
				if likely := b.c.builder.Likely(one); likely < least {
					best, least = one, likely
				}
			}
		}
		if least > 1 {
			return nil
		}
		if !slices.Contains(a.literals, best) {
			a.literals = append(a.literals, best)
			a.likely += least
		}
	}
	return a
}
