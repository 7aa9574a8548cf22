package rule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tact/engine/definition"
)

// Empty says whether n is the empty rule, which holds for everybody: nothing, a
// null or an empty map. It is a whole rule and never a part of one.
func Empty(n *definition.Node) bool {
	return n == nil || n.Kind == definition.NodeNull ||
		n.Kind == definition.NodeMap && len(n.Keys) == 0
}

// Parse reads a condition tree. field is the path of n in its document and
// stands before every path of the faults. With faults the tree is nil.
//
// Cost: O(nodes + values), and the compilation of regular expressions.
func Parse(n *definition.Node, names *Names, field string) (*Tree, []definition.Fault) {
	if Empty(n) {
		return True(), nil
	}
	if names == nil {
		names = &Names{}
	}
	p := &parser{names: names}
	at := place{p, n, field}
	part := p.tree(at, 1, false)
	if len(p.faults) > 0 {
		return nil, p.faults
	}
	t := &Tree{
		rule: part.node, safe: part.safe || p.sensitive, sensitive: p.sensitive, nodes: p.nodes,
		depth: p.depth,
	}
	if t.safe {
		t.known = asks(part.node)
	}
	return t, nil
}

// parser is one call of Parse.
type parser struct {
	names     *Names
	faults    []definition.Fault
	nodes     int
	values    int
	depth     int  // deepest
	sensitive bool // a sensitive attribute is named
}

// place is one value of the document and its path.
type place struct {
	p    *parser
	node *definition.Node
	path string
}

func (at place) fault(format string, args ...any) {
	if len(at.p.faults) == definition.MaxFaults {
		return // enough to mend
	}
	at.p.faults = append(at.p.faults, definition.Fault{
		Pos: at.node.Pos, Field: at.path, Message: fmt.Sprintf(format, args...),
	})
}

// near is fault with the word of among that is nearest to word.
func (at place) near(word string, among []string, format string, args ...any) {
	if len(at.p.faults) == definition.MaxFaults {
		return
	}
	at.fault(format, args...)
	at.p.faults[len(at.p.faults)-1].Suggest = definition.Suggest(word, among)
}

// key returns the place of a key's value; ok is false when it is absent.
func (at place) key(name string) (place, bool) {
	n := at.node.Get(name)
	return place{at.p, n, definition.JoinPath(at.path, name)}, n != nil
}

// items returns the places of a list's values.
func (at place) items() []place {
	all := make([]place, len(at.node.List))
	for i, n := range at.node.List {
		all[i] = place{at.p, n, at.path + "[" + strconv.Itoa(i) + "]"}
	}
	return all
}

// text reads a string; ok is false with a fault.
func (at place) text(wanted string) (string, bool) {
	if at.node.Kind != definition.NodeString {
		at.fault("%s is expected, not %s", wanted, describe(at.node))
		return "", false
	}
	return at.node.Text, true
}

// flag reads an optional bool of a map.
func (at place) flag(name string) bool {
	f, ok := at.key(name)
	if ok && f.node.Kind != definition.NodeBool {
		f.fault("true or false is expected, not %s", describe(f.node))
	}
	return ok && f.node.Bool
}

// part is a tree that was read.
type part struct {
	node  *node   // nil with a fault
	safe  bool    // it says safety: true itself
	asked []*node // what safety asks for under a not, to be asked outside of it
}

// subjects are the keys that say what a map is about, in the order of the
// documentation; one of them stands in every map.
func subjects() []string {
	return []string{
		"all", "any", "not", "attribute", "tag", "segment", "percent", "context",
		"tier", "event", "outcome", "sequence", "not_seen_for",
	}
}

// tree reads one map of a tree; negated says that it stands under a not.
func (p *parser) tree(at place, depth int, negated bool) part {
	p.depth = max(p.depth, depth)
	switch p.nodes++; {
	case depth > MaxDepth:
		at.fault("the rule is nested deeper than %d levels", MaxDepth)
		return part{}
	case p.nodes == MaxNodes+1:
		at.fault("the rule has more than %d conditions", MaxNodes)
		return part{}
	case p.nodes > MaxNodes:
		return part{}
	}
	subject, ok := at.subject()
	if !ok {
		return part{}
	}
	value, _ := at.key(subject)
	result := part{safe: at.flag("safety")}
	switch subject {
	case "all", "any":
		at.close([]string{subject})
		p.many(&result, value, subject == "any", reading{depth, negated})
	case "not":
		at.close([]string{subject})
		p.negation(&result, value, reading{depth, negated})
	case "tier":
		result.node = p.tier(at, value)
	case "event", "outcome":
		result.node = p.event(at, value, subject)
	case "sequence":
		result.node = p.sequence(at, value)
	case "not_seen_for":
		result.node = p.unseen(at, value)
	case "segment":
		p.segment(&result, at, value, reading{depth, negated})
	default:
		result.node = p.atom(at, value, subject)
	}
	if depth == 1 || !result.safe || result.node == nil { // the root: see Parse
		return result
	}
	if known := asks(result.node); negated {
		result.asked = append(result.asked, known...)
	} else {
		result.node = with(result.node, known)
	}
	return result
}

// reading says where a part stands.
type reading struct {
	depth   int
	negated bool
}

// with is a part beside what it asks to be known.
func with(n *node, known []*node) *node {
	if len(known) == 0 {
		return n
	}
	return &node{kind: nodeAll, subs: append([]*node{n}, known...)}
}

// subject finds what a map is about.
func (at place) subject() (string, bool) {
	if at.node.Kind != definition.NodeMap {
		at.fault("a condition such as {tag: NAME} is expected, not %s", describe(at.node))
		return "", false
	}
	var found []string
	for _, k := range at.node.Keys {
		if slices.Contains(subjects(), k.Name) {
			found = append(found, k.Name)
		}
	}
	switch len(found) {
	case 1:
		return found[0], true
	case 0:
		for _, k := range at.node.Keys {
			if slices.Contains(always(), k.Name) {
				continue
			}
			p := place{at.p, &definition.Node{Pos: k.Pos}, definition.JoinPath(at.path, k.Name)}
			p.near(k.Name, subjects(), "unknown condition %q", brief(k.Name))
			return "", false
		}
		at.fault("a condition names one of %s", strings.Join(subjects(), ", "))
		return "", false
	}
	at.fault("a condition names one thing; this one names %s: join them with all or any",
		strings.Join(found, " and "))
	return "", false
}

// always are the keys that every map of a tree may have.
func always() []string { return []string{"note", "id", "safety"} }

// close reports keys that are not among known.
func (at place) close(known []string) {
	known = append(slices.Clone(known), always()...)
	for _, k := range at.node.Keys {
		if slices.Contains(known, k.Name) {
			continue
		}
		p := place{at.p, &definition.Node{Pos: k.Pos}, definition.JoinPath(at.path, k.Name)}
		p.near(k.Name, known, "unknown key %q", brief(k.Name))
	}
}

func (p *parser) many(result *part, list place, anyOf bool, r reading) {
	if list.node.Kind != definition.NodeList {
		list.fault("a list of conditions is expected, not %s", describe(list.node))
		return
	}
	if anyOf && len(list.node.List) == 0 {
		list.fault("any of nothing never holds")
		return
	}
	n := &node{kind: nodeAll}
	if anyOf {
		n.kind = nodeAny
	}
	for _, item := range list.items() {
		sub := p.tree(item, r.depth+1, r.negated)
		if sub.node == nil {
			continue
		}
		n.subs = append(n.subs, sub.node)
		result.asked = append(result.asked, sub.asked...)
	}
	result.node = n
}

// negation asks for what its part asks to be known outside of the outermost
// not: inside, lack of a value would let people pass.
func (p *parser) negation(result *part, value place, r reading) {
	sub := p.tree(value, r.depth+1, true)
	if sub.node == nil {
		return
	}
	result.node = &node{kind: nodeNot, subs: []*node{sub.node}}
	if r.negated {
		result.asked = sub.asked
		return
	}
	result.node = with(result.node, distinct(sub.asked))
}

// asks returns what a safety part asks to be known: a leaf for each attribute,
// enum tag and context key it names, once each.
func asks(n *node) []*node {
	var all []*node
	var walk func(*node)
	walk = func(n *node) {
		if n.kind == nodeLeaf && !n.asked {
			if l := n.leaf.asksKnown(); l != nil {
				all = append(all, &node{kind: nodeLeaf, leaf: l, asked: true})
			}
		}
		for _, sub := range n.subs {
			walk(sub)
		}
	}
	walk(n)
	return distinct(all)
}

// brief is how a fault quotes a text.
func brief(s string) string { return definition.Shorten(s) }

func describe(n *definition.Node) string {
	switch n.Kind {
	case definition.NodeBool:
		return strconv.FormatBool(n.Bool)
	case definition.NodeInt, definition.NodeFloat:
		return "the number " + brief(n.Text)
	case definition.NodeString:
		return strconv.Quote(brief(n.Text))
	case definition.NodeList:
		return "a list"
	case definition.NodeMap:
		return "a map"
	}
	return "nothing"
}
