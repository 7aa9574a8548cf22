package definition

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// Declare returns, as YAML, the documents that the rules of a set name and nobody
// defines: attributes, tags and events with their indexed properties. Types are
// read off the comparisons; a text where nothing tells. Nothing to declare gives no
// bytes. Properties that a defined event lacks are left to the faults of the set.
// Cost: O(nodes).
func Declare(s *Set) []byte {
	d := declaring{
		attributes: map[string]AttrType{}, tags: map[string][]string{},
		events: map[string]map[string]AttrType{}, known: map[docKey]bool{},
	}
	for _, a := range s.Attributes {
		d.known[docKey{"attribute", a.ID}] = true
	}
	for _, t := range s.Tags {
		d.known[docKey{"tag", t.ID}] = true
		for _, old := range t.Formerly {
			d.known[docKey{"tag", old}] = true
		}
	}
	for _, e := range s.Events {
		d.known[docKey{"event", e.ID}] = true
	}
	for _, m := range s.metas() {
		if n := m.Whole(); m.Kind != "test" && n != nil {
			d.walk(n)
		}
	}
	return d.yaml()
}

// declaring gathers what is named and not defined.
type declaring struct {
	known      map[docKey]bool
	attributes map[string]AttrType
	tags       map[string][]string
	events     map[string]map[string]AttrType
}

func (d *declaring) walk(n *Node) {
	for _, item := range n.List {
		d.walk(item)
	}
	for _, k := range n.Keys {
		d.walk(k.Value)
	}
	name := func(kind string) (string, bool) {
		v := n.Get(kind)
		return d.missing(kind, v), v != nil && d.missing(kind, v) != ""
	}
	if a, ok := name("attribute"); ok {
		d.attributes[a] = wider(d.attributes[a], compared(n))
	}
	if t, ok := name("tag"); ok {
		d.tags[t] = append(d.tags[t], valuesOf(n)...)
	}
	if e, ok := name("event"); ok && e != "*" {
		if d.events[e] == nil {
			d.events[e] = map[string]AttrType{}
		}
		d.properties(n, d.events[e])
	}
}

// missing returns the name that a key gives when nobody defines it.
func (d *declaring) missing(kind string, v *Node) string {
	if v == nil || v.Kind != NodeString || d.known[docKey{kind, v.Text}] {
		return ""
	}
	return v.Text
}

// properties notes the properties that an atom on an event names.
func (d *declaring) properties(n *Node, into map[string]AttrType) {
	if where := n.Get("where"); where != nil {
		for _, item := range where.List {
			if p := item.Get("property"); p != nil && p.Kind == NodeString {
				into[p.Text] = wider(into[p.Text], compared(item))
			}
		}
	}
	of := n.Get("of")
	if of == nil || of.Kind != NodeString {
		return
	}
	t := AttrType(0)
	for _, agg := range []string{"sum", "min", "max", "avg"} {
		if n.Get(agg) != nil {
			t = TypeFloat
		}
	}
	into[of.Text] = wider(into[of.Text], t)
}

// valuesOf lists the values that a tag is compared with.
func valuesOf(n *Node) []string {
	var all []string
	for _, word := range []string{"is", "is_not", "in", "not_in"} {
		v := n.Get(word)
		if v == nil {
			continue
		}
		for _, item := range append([]*Node{v}, v.List...) {
			if item.Kind == NodeString {
				all = append(all, item.Text)
			}
		}
	}
	return all
}

// compared reads a type off the comparisons of an atom; 0 where nothing tells.
func compared(n *Node) AttrType {
	t := AttrType(0)
	for _, k := range n.Keys {
		switch k.Name {
		case "attribute", "property", "note", "id", "safety", "is_set", "fold", "default", "max":
		case "years_since", "months_since", "anniversary":
			t = wider(t, TypeDate)
		case "within_last", "within_next":
			t = wider(t, TypeTime)
		case "starts_with", "ends_with", "contains", "matches":
			t = wider(t, TypeString)
		default:
			for _, v := range append([]*Node{k.Value}, k.Value.List...) {
				t = wider(t, valueType(v))
			}
		}
	}
	return t
}

func valueType(n *Node) AttrType {
	switch n.Kind {
	case NodeBool:
		return TypeBool
	case NodeInt:
		return TypeInt
	case NodeFloat:
		return TypeFloat
	case NodeString:
		switch {
		case regexp.MustCompile(`^\d{4}-\d\d-\d\d$`).MatchString(n.Text):
			return TypeDate
		case regexp.MustCompile(`^\d{4}-\d\d-\d\dT`).MatchString(n.Text):
			return TypeTime
		}
		return TypeString
	}
	return 0
}

// wider joins what two comparisons say of a type: a float takes ints, a time takes
// dates; else the first holds.
func wider(a, b AttrType) AttrType {
	switch {
	case a == 0, a == TypeInt && b == TypeFloat, a == TypeDate && b == TypeTime:
		return b
	}
	return a
}

func (d *declaring) yaml() []byte {
	var out bytes.Buffer
	document := func(lines ...string) {
		if out.Len() > 0 {
			out.WriteString("---\n")
		}
		out.WriteString(strings.Join(lines, "\n") + "\n")
	}
	for _, name := range sortedKeys(d.attributes) {
		t := d.attributes[name]
		if t == 0 {
			t = TypeString
		}
		document("kind: attribute", "id: "+quotedYAML(name), "type: "+t.String())
	}
	for _, name := range sortedKeys(d.tags) {
		lines := []string{"kind: tag", "id: " + quotedYAML(name)}
		values := slices.Clone(d.tags[name])
		slices.Sort(values)
		if values = slices.Compact(values); len(values) > 0 {
			for i := range values {
				values[i] = quotedYAML(values[i])
			}
			lines = append(lines, "values: ["+strings.Join(values, ", ")+"]")
		}
		document(lines...)
	}
	for _, name := range sortedKeys(d.events) {
		lines := []string{"kind: event", "id: " + quotedYAML(name)}
		for i, property := range sortedKeys(d.events[name]) {
			if i == 0 {
				lines = append(lines, "properties:")
			}
			t := d.events[name][property]
			if t == 0 {
				t = TypeString
			}
			lines = append(lines, "  "+quotedYAML(property)+": {type: "+t.String()+", indexed: true}")
		}
		document(lines...)
	}
	return out.Bytes()
}

func sortedKeys[V any](m map[string]V) []string {
	all := make([]string, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// quotedYAML writes a text as YAML reads it back: a JSON string is one.
func quotedYAML(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		return `""` // a string always marshals
	}
	return string(b)
}
