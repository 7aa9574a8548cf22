package definition

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unsafe"
)

// A Reader gives what Load gives, places and faults too, whatever it loaded before:
// the set itself, then with a document above it, with another file's name, with a
// fault, and once more.
func FuzzReader(f *testing.F) {
	names, err := filepath.Glob(exampleDir + "/*.yaml")
	if err != nil || len(names) == 0 {
		f.Fatal(names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, uint16(len(text)/2))
	}
	for _, text := range append(wrongShapes(),
		"kind: layer\nid: a\n---\nkind: layer\nid: b\n", "---\n---\nkind: layer\nid: a\n--- \n---x: 1\n",
		"kind: layer\nid: \"a\n---\nb\"\n", "kind: layer\nid: a\nname: |\n  x\n---\nkind: layer\nid: b\n",
		"kind: layer\nid: 'a\n--- b'\n", "kind: layer\nid: a\n...\n---\nkind: layer\nid: a\n",
		"kind: layer\rid: a\r---\rkind: layer\rid: b\r", "{kind: layer, id: a,\n---\nx: 1}\n",
	) {
		f.Add([]byte(text), uint16(7))
	}
	f.Fuzz(func(t *testing.T, text []byte, cut uint16) {
		var r Reader
		same := func(files ...File) {
			t.Helper()
			set, faults := r.Load(files)
			want, wanted := Load(files)
			if !reflect.DeepEqual(faults, wanted) {
				t.Fatalf("faults %v, want %v, in %q", faults, wanted, files)
			}
			if len(faults) == 0 && !reflect.DeepEqual(set, want) {
				t.Fatalf("another set of %q", files)
			}
			lightened(t, set, len(faults) == 0)
		}
		at := min(int(cut), len(text))
		file := File{Name: "f.yaml", Content: text}
		moved := File{Name: "f.yaml", Content: append([]byte("kind: layer\nid: above\n---\n"), text...)}
		same(file)
		same(moved)
		same(File{Name: "g.yaml", Content: text})
		same(File{Name: "f.yaml", Content: append(text[:at:at], text[at:]...)[:at]})
		same(File{Name: "f.yaml", Content: append(text[:at:at], "\n---\n: x"...)})
		same(moved, File{Name: "h.yaml", Content: text[:at]})
		same(file)
	})
}

// What stood in the last set is shared, not read anew, and only what stood there.
func TestReaderSharesDocuments(t *testing.T) {
	var r Reader
	load := func(text string) *Set {
		t.Helper()
		set, faults := r.Load([]File{{Name: "f.yaml", Content: []byte(text)}})
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		return set
	}
	a, b := "kind: layer\nid: a\n---\n", "kind: layer\nid: b\n"
	first := load(a + b)
	second := load(a + b + "---\nkind: layer\nid: c\n")
	if unsafe.StringData(first.Layers[0].ID) != unsafe.StringData(second.Layers[0].ID) {
		t.Fatal("a document that did not change was read anew")
	}
	if n := len(r.mu.last); n != 3 {
		t.Fatalf("%d documents are kept of 3", n)
	}
	if _, faults := r.Load([]File{{Name: "f.yaml", Content: []byte("kind: layer\n")}}); len(faults) == 0 {
		t.Fatal("a layer without an id")
	}
	if n := len(r.mu.last); n != 3 {
		t.Fatalf("a set with faults left %d documents", n)
	}
	load("kind: layer\nid: a\n")
	if n := len(r.mu.last); n != 1 {
		t.Fatalf("%d documents are kept of 1", n)
	}
}

// The bound on tokens is of the file, not of a part.
func TestReaderBoundsTokens(t *testing.T) {
	text := strings.Repeat("---\nkind: layer\nid: a\n", MaxTokens/6)
	var r Reader
	_, faults := r.Load([]File{{Name: "f.yaml", Content: []byte(text)}})
	if len(faults) != 1 || !strings.Contains(faults[0].Message, "tokens") {
		t.Fatal(faults)
	}
}

// Parts that are read beside each other give what one reading of the file gives, with
// and without a fault, in more parts than are read at once, the second time too.
func TestReaderOfManyParts(t *testing.T) {
	text := func(broken int) []byte {
		var b strings.Builder
		b.WriteString("kind: workspace\nid: default\n")
		for i := range 2*partsAtOnce + 7 {
			fmt.Fprintf(&b, "---\nkind: attribute\nid: a%d\ntype: int\n", i)
			if i == broken {
				b.WriteString("type: [\n")
			}
		}
		return []byte(b.String())
	}
	var r Reader
	for _, broken := range []int{-1, -1, 0, partsAtOnce + 40, -1} {
		files := []File{{Name: "all.yaml", Content: text(broken)}}
		want, wantFaults := Load(files)
		got, faults := r.Load(files)
		if !reflect.DeepEqual(faults, wantFaults) || (len(faults) > 0) != (broken >= 0) {
			t.Fatalf("broken part %d: faults %v, want %v", broken, faults, wantFaults)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("broken part %d: another set", broken)
		}
	}
}

// The texts of a document lie in one string, whatever the file said.
func TestTextsLieInOneString(t *testing.T) {
	set, faults := Load([]File{{Name: "f.yaml", Content: []byte(
		"kind: layer\nid: a\nname: \"quoted\"\ndescription: |\n  several\n  lines\n")}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	m := &set.Layers[0].Meta
	from := uintptr(unsafe.Pointer(unsafe.StringData(m.packed)))
	for _, text := range []string{m.Kind, m.ID, m.Name.Any, m.Description.Any} {
		at := uintptr(unsafe.Pointer(unsafe.StringData(text)))
		if text == "" || at < from || at+uintptr(len(text)) > from+uintptr(len(m.packed)) {
			t.Errorf("%q lies elsewhere", text)
		}
	}
}
