package rule

// segment reads a segment: of a static one membership, of a dynamic one its own
// rule in its place.
func (p *parser) segment(result *part, at, value place, r reading) {
	at.close([]string{"segment"})
	name, ok := value.text("the id of a segment")
	if !ok {
		return
	}
	if tree := p.names.Rules[name]; tree != nil {
		p.inline(result, value, tree, r)
		return
	}
	id, ok := p.names.Segments[name]
	if !ok {
		value.near(name, append(keys(p.names.Segments), keys(p.names.Rules)...),
			"there is no segment %q", brief(name))
		return
	}
	result.node = leafNode(leaf{subject: subjectSegment, name: name, id: id})
}

// inline puts a segment's rule in the place that names it. What it asks to be
// known is asked outside of the outermost not.
func (p *parser) inline(result *part, value place, tree *Tree, r reading) {
	p.nodes += tree.nodes
	p.depth = max(p.depth, r.depth+tree.depth)
	switch {
	case p.depth > MaxDepth:
		value.fault("with its segments the rule is nested deeper than %d levels", MaxDepth)
		return
	case p.nodes > MaxNodes:
		value.fault("with its segments the rule has more than %d conditions", MaxNodes)
		return
	}
	known := tree.known
	if tree.sensitive { // then the whole rule asks
		p.sensitive, known = true, nil
	}
	if !r.negated {
		result.node = with(tree.rule, known)
		return
	}
	stripped, asked := strip(tree.rule)
	result.node = stripped
	result.asked = append(append(result.asked, asked...), known...)
}

// strip takes what safety asks to be known out of a rule.
func strip(n *node) (*node, []*node) {
	switch {
	case n.asked:
		return &node{kind: nodeAll}, []*node{n}
	case n.kind == nodeLeaf:
		return n, nil
	}
	out := &node{kind: n.kind, subs: make([]*node, len(n.subs))}
	var asked []*node
	for i, sub := range n.subs {
		kept, more := strip(sub)
		out.subs[i] = kept
		asked = append(asked, more...)
	}
	return out, asked
}
