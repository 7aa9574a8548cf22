package definition

// Pos is a place in a definitions folder. Line and Column count from 1; zero
// means unknown (a document built in memory).
type Pos struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"` // in characters, not bytes
}

// Fault is one thing wrong with a document, at the place where it stands.
// All faults of a set are gathered before any is reported.
type Fault struct {
	Pos     Pos    `json:"pos"`
	Field   string `json:"field"`             // path in the document: offers[2].start
	Doc     string `json:"doc,omitempty"`     // kind/id of the document, when known
	Message string `json:"message"`           // what is wrong, lower-case
	Suggest string `json:"suggest,omitempty"` // the nearest right word, if one is near
}

// NodeKind says what a Node holds.
type NodeKind uint8

// The kinds of a Node.
const (
	NodeNull NodeKind = iota
	NodeBool
	NodeInt
	NodeFloat
	NodeString
	NodeList
	NodeMap
)

// Node is one value of a document with its place, before it has a meaning.
// Rules and message bodies stay Nodes: the packages that own them read them.
// A Node is immutable once the document is loaded.
type Node struct {
	Kind  NodeKind
	Pos   Pos
	Bool  bool    // NodeBool
	Int   int64   // NodeInt
	Float float64 // NodeFloat
	Text  string  // NodeString: the text. Int, float: the literal as written
	List  []*Node // NodeList
	Keys  []Key   // NodeMap: in the order written, no duplicates

	bad bool // a fault is already reported: decoding passes over it
}

// Key is one entry of a map Node.
type Key struct {
	Name  string
	Pos   Pos
	Value *Node
}

// Get returns the value under name, or nil.
func (n *Node) Get(name string) *Node {
	if n == nil {
		return nil
	}
	for i := range n.Keys {
		if n.Keys[i].Name == name {
			return n.Keys[i].Value
		}
	}
	return nil
}
