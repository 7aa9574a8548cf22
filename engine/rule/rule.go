// Package rule owns condition trees: what a rule may say, whether it is well
// said, and whether it holds for a person in a request.
//
// A tree is read by [Parse] from a document's [definition.Node]. A [Builder]
// turns trees into a [Program], the atoms of one snapshot with one bit each,
// and into [Cond]s: a few masks and wanted words over those bits. A person's
// bits are kept in the person's row and computed by [Program.EvalUser]; the bits
// of a request by [Program.EvalRequest]; a decision only compares words.
//
// Laws, each with a test of the same name:
//  1. Missing is not a value: a positive comparison over something missing is
//     false; is_not, not_in and not over it are true; is_set asks for a value.
//  2. Safety is never negated: what a safety rule names must be known, also
//     where the rule says not.
//  3. One meaning: Cond.Holds over the bits of EvalPage, EvalRequest and EvalClock
//     equals [Tree.Naive] for every tree, person, request and time. Three
//     evaluators agree: so does [Population], over sets and one by one.
//  4. Bits are stable: an atom keeps its bit from one Program to the next, and
//     two Programs with one Rev have one layout.
//  5. Never late: no atom of a page changes between the time of EvalPage and the
//     instant the page names.
//  6. The log is the truth: what is asked of events is answered as the whole log
//     of the person would, to the millisecond inside the tail, by calendar day of
//     the workspace beyond it, which it says, and not at all where neither reaches.
//  7. Every fault at once: each comes with its place, field and, where a word is
//     near, a suggestion. No input panics; depth, nodes, values and regular
//     expressions are bounded.
//
// Path: definition.Node → Parse → Tree → NewDraft → Builder.Finish → Cond; Builder.Program.
//
// Cost: Parse and Builder run at publish. EvalPage walks once over what is known
// of the person and asks each attribute and tag the atoms about it, about 5 ns an
// atom; one on events walks over the events of its name, about 10 ns an event.
// Holds compares a few words. None of them allocates. A Program, a Tree and a
// Cond are immutable and may be read by any number of goroutines; a Builder
// belongs to one.
package rule

import (
	"errors"
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// Bounds of one tree and of one Program.
const (
	MaxDepth        = 32      // maps inside maps
	MaxNodes        = 10_000  // all, any, not and atoms of one tree
	MaxValues       = 100_000 // values in the lists of one tree
	MaxPattern      = 256     // bytes of a regular expression
	MaxPatternSteps = 1_000   // instructions of a compiled regular expression
	MaxMatched      = 4_096   // bytes of a value that matches looks at: a longer one does not match
	MaxConjunctions = 64      // of one Cond
	PageAtoms       = 512     // bits of one page of a person
	PageWords       = storage.PageWords
	MaxPages        = storage.MaxPages // 72 bytes a person and page in memory, when used
	MaxUserAtoms    = MaxPages * PageAtoms
	MaxRequestAtoms = 512
)

// Classes of errors of a Builder.
var (
	// ErrTooWide reports a tree whose request conditions multiply out to more
	// than MaxConjunctions alternatives.
	ErrTooWide = errors.New("rule too wide")
	// ErrTooManyAtoms reports more than MaxUserAtoms (16,384) different conditions
	// on people, or more than MaxRequestAtoms on requests, in one Program. When
	// the Builder continues a Program, NewLayout may still have room.
	ErrTooManyAtoms = errors.New("too many different conditions")
)

// Names is what a tree may name. Ids are dictionary ids.
type Names struct {
	Attributes map[string]Attribute
	Tags       map[string]Tag
	Renamed    map[string]string // names that tags had → their names
	Tiers      map[string]Tier
	Segments   map[string]storage.Name // static ones
	Rules      map[string]*Tree        // dynamic segments
	Events     map[string]Event
	Outcomes   map[string]storage.Name // DictEvent ids
	Offers     []OfferName
	Context    map[string]ContextKey
	Placements []string         // ids that context: placement may name
	Offer      *definition.Node // attributes of the offer whose rule this is; nil elsewhere
	Today      storage.UnixMsec // time of the publish; no fault depends on it
}

// Attribute is a declared user attribute. Values is the closed list of a string
// attribute; empty = open.
type Attribute struct {
	ID        storage.Name
	Type      definition.AttrType
	Sensitive bool
	Values    []string
}

// Tag is a declared tag: a label, or an enum tag when Values is not empty. Who
// holds one of Former, tags that became this one, holds it: of several that a
// person holds the first counts, the tag itself before all.
type Tag struct {
	ID     storage.Name
	Former []storage.Name
	Values map[string]storage.Name // DictTagValue ids
}

// Tier is a declared model. The level of a person is stored as an enum tag.
type Tier struct {
	ID     storage.Name // DictTag
	Levels []Level      // lowest first
}

// Level is one level of a Tier.
type Level struct {
	Name string
	ID   storage.Name // DictTagValue
}

// ContextKey is a declared key of a request's context.
type ContextKey struct {
	ID   storage.Name
	Type definition.AttrType
}

// Who is the person an atom is asked about, and when. The zero Profile is a
// person of whom nothing is known; an empty ID is nobody (percent is false).
type Who struct {
	ID      []byte // canonical id
	Profile storage.Profile
	Zone    *time.Location // the person's, else the workspace's; nil counts as UTC
	Home    *time.Location // the workspace's, in which days of events are counted; nil: UTC
	Now     storage.UnixMsec

	Tail     storage.Tail // what the person did
	Activity storage.Activity
	Scratch  *Scratch // nil: every atom on events reads the tail by itself
}

// ContextValue is one value of a request's context. Of two values of one key
// the first counts.
type ContextValue struct {
	Key   storage.Name
	Value storage.Value
}

// Tree is a typed condition tree. It is immutable.
type Tree struct {
	rule  *node
	known []*node // what a safety rule asks to be known
	safe  bool

	sensitive bool // it names a sensitive attribute
	nodes     int
	depth     int
}

// True returns the empty rule: it holds for everybody.
func True() *Tree { return &Tree{rule: &node{kind: nodeAll}} }

// Safety says whether the whole tree is a safety rule: it says so at its root,
// or names a sensitive attribute.
func (t *Tree) Safety() bool { return t.safe }

// Known returns the part of a safety rule that asks for what the rule names to
// be known; the empty rule for other trees. A person refused by Known is
// refused for lack of a value, not by the rule.
func (t *Tree) Known() *Tree { return &Tree{rule: conjunction(t.known...)} }

// Empty says whether the tree is the empty rule.
func (t *Tree) Empty() bool {
	return len(t.known) == 0 && t.rule.kind == nodeAll && len(t.rule.subs) == 0
}

// whole is the rule with what it asks to be known.
func (t *Tree) whole() *node {
	if len(t.known) == 0 {
		return t.rule
	}
	return conjunction(append([]*node{t.rule}, t.known...)...)
}

type nodeKind uint8

const (
	nodeAll nodeKind = iota // true without subs
	nodeAny                 // false without subs
	nodeNot                 // one sub
	nodeLeaf
)

// node is one place of a tree. Leaves are positive: is_not is a not over is.
type node struct {
	kind  nodeKind
	subs  []*node
	leaf  *leaf
	asked bool // added by safety: asks that something is known
}

// conjunction joins nodes; parts that are conjunctions themselves are taken in.
func conjunction(parts ...*node) *node {
	all := &node{kind: nodeAll}
	for _, p := range parts {
		if p.kind == nodeAll {
			all.subs = append(all.subs, p.subs...)
			continue
		}
		all.subs = append(all.subs, p)
	}
	if len(all.subs) == 1 {
		return all.subs[0]
	}
	return all
}

// distinct keeps the first of leaves with the same meaning.
func distinct(leaves []*node) []*node {
	seen := make(map[string]bool, len(leaves))
	kept := leaves[:0]
	for _, n := range leaves {
		key := compile(n.leaf).key
		if !seen[key] {
			seen[key] = true
			kept = append(kept, n)
		}
	}
	return kept
}
