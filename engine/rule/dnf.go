package rule

import (
	"cmp"
	"math/bits"
	"slices"
)

// Bounds of the work on one tree: products larger than mostProduct and sums
// larger than mostSum are not multiplied out.
const (
	mostProduct = 1024
	mostSum     = 256
)

// literal is an atom of a normal form, by its number, or its negation.
type literal int32

func (l literal) atom() int32      { return int32(l >> 1) }
func (l literal) negative() bool   { return l&1 != 0 }
func (l literal) inverse() literal { return l ^ 1 }

// conj is a conjunction: literals in rising order, at most one of an atom.
type conj struct {
	lits []literal
	sign uint64 // a bit per literal, by its number modulo 64: a quick test of inclusion
}

// normal turns trees into disjunctions of conjunctions.
type normal struct {
	numbers map[string]int32 // of atoms, by key
	atoms   []compiled
	leaves  map[*leaf]int32
}

func newNormal() *normal {
	return &normal{numbers: map[string]int32{}, leaves: map[*leaf]int32{}}
}

// number returns the number of an atom; of one that never holds, -1.
func (d *normal) number(l *leaf) int32 {
	n, ok := d.leaves[l]
	if !ok {
		n = d.atom(compile(l))
		d.leaves[l] = n
	}
	return n
}

func (d *normal) atom(c compiled) int32 {
	if c.test.impossible() {
		return -1
	}
	n, ok := d.numbers[c.key]
	if !ok {
		n = int32(len(d.atoms))
		d.atoms = append(d.atoms, c)
		d.numbers[c.key] = n
	}
	return n
}

// tree returns the normal form of a tree: at most MaxConjunctions. When the
// plain one is larger, the largest parts that are about the person alone become
// one atom each; ok is false when that does not help.
func (d *normal) tree(n *node) (all []conj, ok bool) {
	all, ok = d.sum(n, false)
	if ok && len(all) <= MaxConjunctions {
		return all, true
	}
	all, ok = d.sum(d.derive(n), false)
	return all, ok && len(all) <= MaxConjunctions
}

// derive replaces the largest parts of a tree that are about the person alone.
func (d *normal) derive(n *node) *node {
	if n.kind == nodeLeaf {
		return n
	}
	if personal(n) {
		return &node{kind: nodeLeaf, leaf: d.derivedLeaf(n)}
	}
	changed := &node{kind: n.kind}
	own := &node{kind: n.kind} // sub-trees about the person, side by side
	for _, sub := range n.subs {
		if personal(sub) && n.kind != nodeNot {
			own.subs = append(own.subs, sub)
			continue
		}
		changed.subs = append(changed.subs, d.derive(sub))
	}
	switch {
	case len(own.subs) == 1:
		changed.subs = append(changed.subs, d.derive(own.subs[0]))
	case len(own.subs) > 1:
		changed.subs = append(changed.subs, &node{kind: nodeLeaf, leaf: d.derivedLeaf(own)})
	}
	return changed
}

// derivedLeaf numbers a sub-tree as one atom. The leaf is only its handle.
func (d *normal) derivedLeaf(n *node) *leaf {
	handle := &leaf{}
	d.leaves[handle] = d.atom(compileDerived(n))
	return handle
}

// personal says that a tree asks nothing of the request.
func personal(n *node) bool {
	if n.kind == nodeLeaf {
		return n.leaf.subject != subjectContext
	}
	for _, sub := range n.subs {
		if !personal(sub) {
			return false
		}
	}
	return true
}

// sum returns the normal form of n, or of its negation. Negation goes down to
// the leaves by De Morgan's laws.
func (d *normal) sum(n *node, negated bool) (all []conj, ok bool) {
	switch {
	case n.kind == nodeNot:
		return d.sum(n.subs[0], !negated)
	case n.kind == nodeLeaf:
		return d.single(n.leaf, negated), true
	case (n.kind == nodeAll) == negated:
		for _, sub := range n.subs {
			part, ok := d.sum(sub, negated)
			if !ok {
				return nil, false
			}
			all = absorb(append(all, part...))
			if len(all) > mostSum {
				return nil, false
			}
		}
		return all, true
	}
	all = []conj{{}}
	for _, part := range d.factors(n, negated) {
		if part == nil {
			return nil, false
		}
		if all, ok = product(all, part); !ok {
			return nil, false
		}
	}
	return all, true
}

// factors returns the normal forms of the subs, shortest first; a nil one is
// too large. An impossible one makes the product empty, whatever the others.
func (d *normal) factors(n *node, negated bool) [][]conj {
	parts := make([][]conj, 0, len(n.subs))
	for _, sub := range n.subs {
		part, ok := d.sum(sub, negated)
		switch {
		case !ok:
			part = nil
		case len(part) == 0:
			return [][]conj{{}}
		}
		parts = append(parts, part)
	}
	slices.SortStableFunc(parts, func(a, b []conj) int { return cmp.Compare(len(a), len(b)) })
	return parts
}

func (d *normal) single(l *leaf, negated bool) []conj {
	n := d.number(l)
	switch {
	case n < 0 && negated:
		return []conj{{}}
	case n < 0:
		return []conj{}
	}
	lit := literal(n << 1)
	if negated {
		lit = lit.inverse()
	}
	return []conj{{lits: []literal{lit}, sign: 1 << (lit & 63)}}
}

// product multiplies two normal forms; ok is false when the result is too large.
func product(a, b []conj) (all []conj, ok bool) {
	if len(a)*len(b) > mostProduct {
		return nil, false
	}
	all = make([]conj, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			if z, ok := both(x, y); ok {
				all = append(all, z)
			}
		}
	}
	all = absorb(all)
	return all, len(all) <= mostSum
}

// both joins two conjunctions; ok is false when they contradict each other.
func both(x, y conj) (z conj, ok bool) {
	if len(x.lits) == 0 {
		return y, true
	}
	z.sign = x.sign | y.sign
	z.lits = make([]literal, 0, len(x.lits)+len(y.lits))
	i, j := 0, 0
	for i < len(x.lits) || j < len(y.lits) {
		switch {
		case j == len(y.lits) || i < len(x.lits) && x.lits[i] < y.lits[j]:
			z.lits = append(z.lits, x.lits[i])
			i++
		case i == len(x.lits) || y.lits[j] < x.lits[i]:
			z.lits = append(z.lits, y.lits[j])
			j++
		default:
			z.lits = append(z.lits, x.lits[i])
			i, j = i+1, j+1
		}
		if n := len(z.lits); n > 1 && z.lits[n-2].inverse() == z.lits[n-1] {
			return conj{}, false
		}
	}
	return z, true
}

// absorb drops conjunctions that another one makes needless, and joins two that
// differ in one literal's sign only: (a and b) or (a and not b) is a.
func absorb(all []conj) []conj {
	for {
		all = smallest(all)
		if len(all) > MaxConjunctions*2 || !resolve(all) {
			return all
		}
	}
}

// smallest keeps, in rising length, the conjunctions that include no other.
func smallest(all []conj) []conj {
	slices.SortStableFunc(all, func(a, b conj) int { return cmp.Compare(len(a.lits), len(b.lits)) })
	kept := all[:0]
next:
	for _, x := range all {
		for _, y := range kept {
			if y.sign&^x.sign == 0 && includes(x.lits, y.lits) {
				continue next
			}
		}
		kept = append(kept, x)
	}
	return kept
}

// includes says whether all of y is in x; both rise.
func includes(x, y []literal) bool {
	for _, l := range y {
		for len(x) > 0 && x[0] < l {
			x = x[1:]
		}
		if len(x) == 0 || x[0] != l {
			return false
		}
	}
	return true
}

// resolve shortens a conjunction x that differs from another y in the sign of
// one literal and includes y otherwise; it says whether it found one.
func resolve(all []conj) bool {
	for i := range all {
		for j := range all {
			if i == j || bits.OnesCount64(all[j].sign&^all[i].sign) > 1 {
				continue
			}
			at, ok := opposed(all[i].lits, all[j].lits)
			if !ok {
				continue
			}
			lits := slices.Delete(slices.Clone(all[i].lits), at, at+1)
			all[i] = conj{lits: lits}
			for _, l := range lits {
				all[i].sign |= 1 << (l & 63)
			}
			return true
		}
	}
	return false
}

// opposed finds where x has the inverse of a literal of y, when all the others
// of y are in x.
func opposed(x, y []literal) (at int, ok bool) {
	at = -1
	for _, l := range y {
		if _, found := slices.BinarySearch(x, l); found {
			continue
		}
		i, found := slices.BinarySearch(x, l.inverse())
		if !found || at >= 0 {
			return 0, false
		}
		at = i
	}
	return at, at >= 0
}
