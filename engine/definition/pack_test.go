package definition

import (
	"bytes"
	"math"
	"reflect"
	"testing"
)

// lightened checks that a set says after Lighten what it said before, of a whole one
// places and all, and that no tree is left of it. Nodes of one with faults say which
// were told already, and that is not kept.
func lightened(t *testing.T, s *Set, whole bool) {
	t.Helper()
	var before []*Node
	for _, m := range s.metas() {
		before = append(before, m.Raw)
	}
	var text []byte
	if whole {
		text = s.Canonical()
	}
	s.Lighten()
	metas := s.metas()
	if len(metas) != len(before) {
		t.Fatalf("%d documents, %d before", len(metas), len(before))
	}
	for i, m := range metas {
		same := reflect.DeepEqual(m.Whole(), before[i])
		if !whole {
			same = bytes.Equal(m.Whole().AppendJSON(nil), before[i].AppendJSON(nil))
		}
		if m.Raw != nil || !same {
			t.Fatalf("%s/%s is another: %s, was %s", m.Kind, m.ID,
				m.Whole().AppendJSON(nil), before[i].AppendJSON(nil))
		}
	}
	if whole && string(s.Canonical()) != string(text) {
		t.Fatal("other canonical bytes")
	}
	if trees(reflect.ValueOf(s)) {
		t.Fatal("a tree is left")
	}
}

// trees tells whether a value leads to a Node.
func trees(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil() && (v.Type() == reflect.TypeFor[*Node]() || trees(v.Elem()))
	case reflect.Struct:
		for i := range v.NumField() {
			if trees(v.Field(i)) {
				return true
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if trees(v.Index(i)) {
				return true
			}
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			if trees(v.MapIndex(k)) {
				return true
			}
		}
	}
	return false
}

// The example says the same once it is lightened, and a set of JSON too.
func TestLightenedSet(t *testing.T) {
	s := loadExample(t)
	text := s.Canonical()
	lightened(t, s, true)
	again, faults := Load([]File{{Name: "all.json", Content: text}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if d := Diff(s, again); len(d.Added)+len(d.Changed)+len(d.Removed) != 0 {
		t.Fatalf("another set: %+v", d)
	}
	lightened(t, again, true)
	lightened(t, &Set{Workspace: defaultWorkspace()}, false)
}

// A packed tree comes back as it was, in another file and on another line too.
func TestPackedTrees(t *testing.T) {
	at := func(line, column int) Pos { return Pos{File: "f.yaml", Line: line, Column: column} }
	f := func(n *Node) {
		t.Helper()
		packed := pack(n, 3)
		if got := unpack(packed, "f.yaml", 3); !reflect.DeepEqual(got, n) {
			t.Fatalf("%s, want %s", got.AppendJSON(nil), n.AppendJSON(nil))
		}
		moved := unpack(packed, "g.yaml", 10)
		if n != nil && (moved.Pos != Pos{"g.yaml", n.Pos.Line + 7, n.Pos.Column} ||
			3+lineOf(packed) != n.Pos.Line) {
			t.Fatalf("it stands at %v, want seven lines below %v", moved.Pos, n.Pos)
		}
		if string(moved.AppendJSON(nil)) != string(n.AppendJSON(nil)) {
			t.Fatalf("moved: %s, want %s", moved.AppendJSON(nil), n.AppendJSON(nil))
		}
	}
	f(&Node{Pos: at(3, 1)})
	f(&Node{Kind: NodeBool, Pos: at(900, 70_000), Bool: true})
	f(&Node{Kind: NodeBool, Pos: at(1, 0)})
	for _, i := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64} {
		f(&Node{Kind: NodeInt, Pos: at(4, 2), Int: i, Text: "as written"})
	}
	for _, x := range []float64{0, -1.5, math.MaxFloat64, math.Inf(-1)} {
		f(&Node{Kind: NodeFloat, Pos: at(4, 2), Float: x, Text: "0.10"})
	}
	f(&Node{Kind: NodeString, Pos: at(4, 2), Text: "高\x00" + string(make([]byte, 300))})
	f(&Node{Kind: NodeList, Pos: at(4, 2)})
	f(&Node{Kind: NodeList, Pos: at(4, 2), List: []*Node{}})
	f(&Node{Kind: NodeMap, Pos: at(4, 2)})
	f(&Node{Kind: NodeMap, Pos: at(4, 2), Keys: []Key{}})
	f(&Node{Kind: NodeMap, Pos: at(4, 2), Keys: []Key{
		{"a", at(5, 1), &Node{Kind: NodeList, Pos: at(5, 4), List: []*Node{
			{Kind: NodeInt, Pos: at(6, 1), Int: 7, Text: "7"}, nil, {Pos: at(7, 1)},
		}}},
		{"", at(8, 1), &Node{Kind: NodeString, Pos: at(8, 2)}},
	}})
}
