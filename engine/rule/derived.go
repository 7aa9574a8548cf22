package rule

import (
	"slices"
	"strings"
)

// derived is a tree about the person that is one atom: it is judged as a whole.
type derived struct {
	kind     nodeKind
	subs     []*derived
	test     test // of a leaf
	timed    bool
	calendar bool
	events   bool
	verdict  int // of a leaf in a Population whose outcomes are kept: its number + 1
}

// compileDerived makes one atom of a tree. Its key does not depend on the order
// in which all and any name their parts.
func compileDerived(n *node) compiled {
	tree, key := deriveNode(n)
	return compiled{
		test: test{kind: testDerived, tree: tree},
		key:  hashed("derived " + key),
	}
}

func deriveNode(n *node) (*derived, string) {
	d := &derived{kind: n.kind}
	if n.kind == nodeLeaf {
		c := compile(n.leaf)
		d.test = c.test
		d.timed, d.calendar = c.test.timed(), c.test.local()
		d.events = c.test.behavioural()
		return d, c.key
	}
	keys := make([]string, 0, len(n.subs))
	for _, sub := range n.subs {
		s, key := deriveNode(sub)
		d.subs = append(d.subs, s)
		d.timed, d.calendar = d.timed || s.timed, d.calendar || s.calendar
		d.events = d.events || s.events
		keys = append(keys, key)
	}
	slices.Sort(keys)
	word := [...]string{nodeAll: "all", nodeAny: "any", nodeNot: "not"}[n.kind]
	return d, word + "(" + strings.Join(slices.Compact(keys), ";") + ")"
}

// derived judges a tree and stops where the answer is settled. What it passes
// over need not lower flip: the answer stays at least until the part that
// settled it changes, and that part has lowered flip.
func (e *evaluation) derived(d *derived) bool {
	switch d.kind {
	case nodeLeaf:
		if e.verdicts != nil && d.verdict != 0 {
			return e.verdict(d)
		}
		return e.judge(&d.test)
	case nodeNot:
		return !e.derived(d.subs[0])
	}
	for _, sub := range d.subs {
		if e.derived(sub) == (d.kind == nodeAny) {
			return d.kind == nodeAny
		}
	}
	return d.kind == nodeAll
}
