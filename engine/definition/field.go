package definition

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// reading is one Load: what is decoded so far and what was wrong with it.
type reading struct {
	set    *Set
	faults []Fault
	known  map[docKey]Pos    // every document seen, also those with faults
	refs   []reference       // names of other documents, resolved by check
	later  []func(*reading)  // checks that need the whole set
	offers map[string]*Offer // by id, for later checks

	formerly map[string]*Tag // by a name it had
}

type docKey struct{ kind, id string }

// reference is a place where one document names another.
type reference struct {
	field
	to docKey
}

func (r *reading) add(f Fault) { r.faults = append(r.faults, f) }

// field is one value of a document and where it stands.
type field struct {
	r    *reading
	node *Node
	doc  string // kind/id
	path string
}

func (f field) fault(format string, args ...any) {
	f.faultAt(f.node.Pos, format, args...)
}

func (f field) faultAt(pos Pos, format string, args ...any) {
	f.r.add(Fault{Pos: pos, Field: f.path, Doc: f.doc, Message: fmt.Sprintf(format, args...)})
}

func (f field) faultNear(word string, among []string, message string) {
	f.r.add(Fault{
		Pos: f.node.Pos, Field: f.path, Doc: f.doc, Message: message,
		Suggest: Suggest(word, among),
	})
}

// refers notes that f names the document id of a kind.
func (f field) refers(kind, id string) {
	if id != "" {
		f.r.refs = append(f.r.refs, reference{f, docKey{kind, id}})
	}
}

// expect reports whether the value is of a kind, and is the fault if not.
func (f field) expect(kind NodeKind, wanted string) bool {
	if f.node.Kind == kind && !f.node.bad {
		return true
	}
	if !f.node.bad {
		f.fault("%s is expected, not %s", wanted, f.node.describe())
	}
	return false
}

func (n *Node) describe() string {
	switch n.Kind {
	case NodeBool:
		return strconv.FormatBool(n.Bool)
	case NodeInt, NodeFloat:
		return "the number " + Shorten(n.Text)
	case NodeString:
		return strconv.Quote(Shorten(n.Text))
	case NodeList:
		return "a list"
	case NodeMap:
		return "a map"
	}
	return "nothing"
}

// object reads a map key by key; close reports the keys nobody asked for.
type object struct {
	field
	asked []string
}

func (f field) object() (*object, bool) {
	return &object{field: f}, f.expect(NodeMap, "a map")
}

// get gives the value of a key; ok is false when the key is absent.
func (o *object) get(name string) (field, bool) {
	o.asked = append(o.asked, name)
	n := o.node.Get(name)
	if n == nil {
		return field{}, false
	}
	return field{o.r, n, o.doc, JoinPath(o.path, name)}, true
}

// need is get for a key that must be there.
func (o *object) need(name string) (field, bool) {
	f, ok := o.get(name)
	if !ok {
		missing := field{o.r, o.node, o.doc, JoinPath(o.path, name)}
		missing.fault("is required")
	}
	return f, ok
}

func (o *object) close() {
	for i := range o.node.Keys {
		k := &o.node.Keys[i]
		if !slices.Contains(o.asked, k.Name) {
			o.r.add(Fault{
				Pos: k.Pos, Field: JoinPath(o.path, k.Name), Doc: o.doc,
				Message: "unknown key", Suggest: Suggest(k.Name, o.asked),
			})
		}
	}
}

// entries gives the keys of a map whose keys are data, each with its value.
func (f field) entries() []entry {
	if !f.expect(NodeMap, "a map") {
		return nil
	}
	out := make([]entry, 0, len(f.node.Keys))
	for i := range f.node.Keys {
		k := &f.node.Keys[i]
		path := JoinPath(f.path, k.Name)
		key := &Node{Kind: NodeString, Pos: k.Pos, Text: k.Name}
		out = append(out, entry{field{f.r, key, f.doc, path}, field{f.r, k.Value, f.doc, path}})
	}
	return out
}

type entry struct{ key, value field }

// items gives the values of a list of at most most values.
func (f field) items(most int) []field {
	if !f.expect(NodeList, "a list") {
		return nil
	}
	if len(f.node.List) > most {
		f.fault("a list of at most %d is expected, not %d", most, len(f.node.List))
		return nil
	}
	out := make([]field, len(f.node.List))
	for i, n := range f.node.List {
		out[i] = field{f.r, n, f.doc, f.path + "[" + strconv.Itoa(i) + "]"}
	}
	return out
}

// unique reads a list of texts, each by read, none twice; "" is not kept.
func (f field) unique(read func(field) string) []string {
	const most = 10_000
	var out []string
	for _, item := range f.items(most) {
		text := read(item)
		switch {
		case text == "":
		case slices.Contains(out, text):
			item.fault("%q stands twice", text)
		default:
			out = append(out, text)
		}
	}
	return out
}

// text reads a string of at least one character.
func (f field) text() string {
	switch f.node.Kind {
	case NodeInt, NodeFloat:
		if !f.node.bad {
			f.fault("text is expected, not the number %s: put it in quotes", Shorten(f.node.Text))
		}
		return ""
	}
	if !f.expect(NodeString, "text") {
		return ""
	}
	if f.node.Text == "" {
		f.fault("text is expected, not an empty string")
	}
	return f.node.Text
}

// word reads one of a closed list of words and gives its index, -1 for none.
func (f field) word(among ...string) int {
	text := f.text()
	if text == "" {
		return -1
	}
	i := slices.Index(among, text)
	if i < 0 {
		f.faultNear(text, among,
			strconv.Quote(Shorten(text))+" is none of "+strings.Join(among, ", "))
	}
	return i
}

func (f field) boolean() bool { return f.expect(NodeBool, "true or false") && f.node.Bool }

// integer reads a whole number in [lo, hi].
func (f field) integer(lo, hi int64) int64 {
	if !f.expect(NodeInt, "a whole number") {
		return lo
	}
	if f.node.Int < lo || f.node.Int > hi {
		f.fault("a number from %d to %d is expected, not %d", lo, hi, f.node.Int)
		return lo
	}
	return f.node.Int
}

// float reads a number in [lo, hi]; NaN cannot be written.
func (f field) float(lo, hi float64) float64 {
	v := f.node.Float
	if f.node.Kind == NodeInt {
		v = float64(f.node.Int)
	} else if !f.expect(NodeFloat, "a number") {
		return lo
	}
	if v < lo || v > hi {
		f.fault("a number from %v to %v is expected, not %s", lo, hi, Shorten(f.node.Text))
		return lo
	}
	return v
}
