package definition

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// No text panics; a set without faults reads back from its canonical bytes, its
// documents pass the schema, and every place lies inside the text.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob(exampleDir + "/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range wrongShapes() {
		f.Add([]byte(text))
	}
	for _, c := range unsupported() {
		f.Add([]byte(c.text))
	}
	f.Add([]byte("kind: layer\r\nid: |-\r\n  a\r\nname: {en: \"\\x85\\u2028\"}\n...\n---\n# c\n"))
	s := compiledSchema(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		lines := bytes.Count(text, []byte("\n")) + bytes.Count(text, []byte("\r")) + 1
		set, faults := Load([]File{{Name: "f.yaml", Content: text}})
		for _, fault := range faults {
			if fault.Message == "" || fault.Pos.Line > lines || fault.Pos.Column < 0 {
				t.Fatalf("%+v in %q", fault, text)
			}
		}
		if len(faults) > 0 {
			return
		}
		canonical := set.Canonical()
		again, faults := Load([]File{{Name: "f.json", Content: canonical}})
		if len(faults) > 0 || !bytes.Equal(again.Canonical(), canonical) {
			t.Fatalf("%q became %q: %v", text, canonical, faults)
		}
		for _, m := range set.metas() {
			if n := withoutTrees(m.Raw); inSchema(t, s, n) != nil {
				t.Fatalf("the schema refuses %s: %v", n.AppendJSON(nil), inSchema(t, s, n))
			}
		}
	})
}

// withoutTrees leaves out condition trees, which Load does not read.
func withoutTrees(n *Node) *Node {
	c := *n
	c.Keys = nil
	for _, k := range n.Keys {
		switch k.Name {
		case "eligibility", "applicability", "suitability", "targeting":
		default:
			c.Keys = append(c.Keys, k)
		}
	}
	return &c
}
