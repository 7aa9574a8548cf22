package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestNodeFromJSONFaults(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := NodeFromJSON([]byte(text), "f.json")
		var e *TextError
		if !errors.As(err, &e) || err.Error() != want {
			t.Errorf("%.60q: got %v, want %s", text, err, want)
		}
	}
	f("", "f.json:1:1: the text ends where a value is expected")
	f("{\n \"高\": x}", "f.json:2:7: 高: a value is expected")
	f(`{"a":1,"b":{"a":1,"a":2}}`, "f.json:1:19: b.a: the key stands twice")
	f(`[1,]`, "f.json:1:4: [1]: a value is expected")
	f(`[1 2]`, "f.json:1:4: a comma or ] is expected")
	f(`{"a" 1}`, "f.json:1:6: a: a colon is expected")
	f(`{"a":1,}`, "f.json:1:8: a key in quotes is expected")
	f(`{"a":1 "b":2}`, "f.json:1:8: a comma or } is expected")
	f(`{a:1}`, "f.json:1:2: a key in quotes is expected")
	f(`[01]`, "f.json:1:2: [0]: not a number of JSON")
	f(`1.`, "f.json:1:1: not a number of JSON")
	f(`-`, "f.json:1:1: not a number of JSON")
	f(`9223372036854775808`, "f.json:1:1: the number 9223372036854775808 does not fit 64 bits")
	f(`1e999`, "f.json:1:1: the number 1e999 is too large")
	f(`1 2`, "f.json:1:3: text after the end of the value")
	f(`"\ud800"`, "f.json:1:2: not an escape of JSON")
	f(`"\ud800\u0041"`, "f.json:1:2: not an escape of JSON")
	f(`"\x"`, "f.json:1:2: not an escape of JSON")
	f(`"\u12"`, "f.json:1:2: not an escape of JSON")
	f(`"\`, "f.json:1:2: not an escape of JSON")
	f(`"a`, "f.json:1:3: the text ends inside a string")
	f("\"a\nb\"", "f.json:1:3: control character U+000A in a string: write it as an escape")
	f("\"\xff\"", "f.json:1:2: broken UTF-8")
	f(strings.Repeat("[", 33), "f.json:1:33: "+strings.Repeat("[0]", 32)+
		": nested deeper than 32 levels")
	f(strings.Repeat("[", 1<<20), "f.json:1:33: "+strings.Repeat("[0]", 32)+
		": nested deeper than 32 levels")
	f(strings.Repeat(" ", MaxBytes+1), "f.json:1:1: more than 8 MiB of JSON")
	f("["+strings.Repeat("1,", MaxValues), "f.json:1:524288: [262143]: too many values and keys")
	f("["+strings.Repeat("{\"a\":1},", MaxValues), "f.json:1:699050: [87381]: too many values and keys")
	files := []File{{Name: "f.json", Content: []byte("[" + strings.Repeat("1,", MaxTokens) + "1]")}}
	if _, faults := Load(files); len(faults) != 1 || faults[0].Message != "too many values and keys" {
		t.Errorf("%v", faults)
	}
}

func TestNodeFromJSONPlaces(t *testing.T) {
	n, err := NodeFromJSON([]byte("{\"高价\": [1,\n  -2.50, \"\\ud83d\\ude00\\n\"]}"), "f.json")
	if err != nil {
		t.Fatal(err)
	}
	want := &Node{
		Kind: NodeMap, Pos: Pos{"f.json", 1, 1},
		Keys: []Key{{Name: "高价", Pos: Pos{"f.json", 1, 2}, Value: &Node{
			Kind: NodeList, Pos: Pos{"f.json", 1, 8},
			List: []*Node{
				{Kind: NodeInt, Pos: Pos{"f.json", 1, 9}, Int: 1, Text: "1"},
				{Kind: NodeFloat, Pos: Pos{"f.json", 2, 3}, Float: -2.5, Text: "-2.50"},
				{Kind: NodeString, Pos: Pos{"f.json", 2, 10}, Text: "😀\n"},
			},
		}}},
	}
	if !reflect.DeepEqual(n, want) {
		t.Fatalf("got %s", n.AppendJSON(nil))
	}
}

func TestAppendJSON(t *testing.T) {
	f := func(n *Node, want string) {
		t.Helper()
		if got := string(n.AppendJSON(nil)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f(nil, "null")
	f(&Node{}, "null")
	f(&Node{Kind: NodeInt, Int: -3}, "-3")
	f(&Node{Kind: NodeFloat, Float: 2}, "2.0")
	f(&Node{Kind: NodeFloat, Float: 1e300}, "1e+300")
	f(&Node{Kind: NodeFloat, Float: 0.1, Text: "0.10"}, "0.10")
	f(&Node{Kind: NodeFloat, Float: math.NaN()}, "null")
	f(&Node{Kind: NodeString, Text: "a\"\\\n\x00\x7f\u0085<高"}, `"a\"\\\n\u0000\u007f\u0085<高"`)
	f(&Node{Kind: NodeMap}, "{}")
	f(&Node{Kind: NodeList, List: []*Node{{Kind: NodeBool, Bool: true}, {}}}, "[true,null]")
}

// The same document in YAML and in JSON is the same Node but for places.
func TestJSONIsYAML(t *testing.T) {
	for _, m := range loadExample(t).metas() {
		text := m.Raw.AppendJSON(nil)
		if !json.Valid(text) {
			t.Fatalf("not JSON: %s", text)
		}
		n, err := NodeFromJSON(text, "f.json")
		if err != nil {
			t.Fatal(err)
		}
		docs, faults, _ := readYAML(File{Name: "f.yaml", Content: text})
		if len(faults) > 0 || len(docs) != 1 {
			t.Fatalf("%s: %v", text, faults)
		}
		if a, b := placeless(n), placeless(docs[0]); !reflect.DeepEqual(a, b) {
			t.Errorf("%s and %s", a.AppendJSON(nil), b.AppendJSON(nil))
		}
	}
}

// placeless is a copy of n without places.
func placeless(n *Node) *Node {
	c := *n
	c.Pos = Pos{}
	c.List, c.Keys = nil, nil
	for _, v := range n.List {
		c.List = append(c.List, placeless(v))
	}
	for _, k := range n.Keys {
		c.Keys = append(c.Keys, Key{Name: k.Name, Value: placeless(k.Value)})
	}
	return &c
}

func FuzzNodeFromJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2.5e3,"\u00e9\ud83d\ude00",true,false,null,{}]}`, `[[[[]]]]`, `"\\\/\b"`, `-0`,
		`{"a":{"a":{}}}`, "  [ ] ", `{"":""}`, `1E+2`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := NodeFromJSON(b, "f")
		if err != nil {
			return
		}
		if !json.Valid(b) {
			t.Fatalf("%q is not JSON", b)
		}
		text := n.AppendJSON(nil)
		again, err := NodeFromJSON(text, "f")
		if err != nil {
			t.Fatalf("%q from %q: %v", text, b, err)
		}
		if !reflect.DeepEqual(placeless(n), placeless(again)) {
			t.Fatalf("%q became %q", b, text)
		}
		if !bytes.Equal(again.AppendJSON(nil), text) {
			t.Fatalf("%q is not stable", text)
		}
	})
}
