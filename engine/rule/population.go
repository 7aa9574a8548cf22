package rule

// Population is a tree made ready to be asked about many people, in one request
// and so with one context: what it says of the request is settled once. It is
// immutable and may be read by any number of goroutines.
type Population struct{ root *derived }

// Population compiles the tree for people in a request with this context; a key
// that the context has not is missing. Cost: as compiling the tree, O(nodes +
// values).
func (t *Tree) Population(ctx []ContextValue) *Population {
	root, _ := deriveNode(settle(t.whole(), ctx))
	return &Population{root}
}

// ReadsEvents says whether Holds looks at Who.Tail and Who.Activity. Without it
// they need not be filled.
func (p *Population) ReadsEvents() bool { return p.root.events }

// Holds says whether the tree holds for w at w.Now. It is what Cond says of the
// bits that EvalUser and EvalRequest make. Cost: as EvalUser for the conditions
// up to the one that settles the answer; no allocation.
func (p *Population) Holds(w *Who) bool {
	e := evaluation{who: w, flip: never}
	if p.root.calendar {
		e.clock = newClock(w.Now, w.Zone)
	} else {
		e.clock.now = w.Now
	}
	return e.derived(p.root)
}

// settle replaces what a tree asks of the request by what holds.
func settle(n *node, ctx []ContextValue) *node {
	if n.kind == nodeLeaf {
		if n.leaf.subject != subjectContext {
			return n
		}
		t := compile(n.leaf).test
		if value, ok := contextValue(ctx, t.id); ok && t.static(value) {
			return &node{kind: nodeAll}
		}
		return &node{kind: nodeAny}
	}
	out := &node{kind: n.kind, subs: make([]*node, len(n.subs))}
	for i, sub := range n.subs {
		out.subs[i] = settle(sub, ctx)
	}
	return out
}
