package definition

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestDiff(t *testing.T) {
	f := func(before, after, want string) {
		t.Helper()
		set := func(text string) *Set {
			s, faults := Load([]File{{Name: "f.yaml", Content: []byte(text)}})
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			return s
		}
		d := Diff(set(before), set(after))
		if got := fmt.Sprint(d.Added, d.Changed, d.Removed, d.Same); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	const a, b, c = "kind: layer\nid: a\n", "kind: layer\nid: b\n", "kind: tag\nid: a\n"
	f(a, a, "[] [] [] 1")
	f(a, "", "[] [] [layer/a] 0")
	f("", a+"---\n"+b, "[layer/a layer/b] [] [] 0")
	f(a+"---\n"+b, b+"---\n"+c, "[tag/a] [] [layer/a] 1")
	f(a, "# other words\nid: a\nkind: layer\n", "[] [] [] 1")
	f(a, a+"owner: me\n", "[] [layer/a] [] 0")
	f(c+"values: [x, y]\n", c+"values: [y, x]\n", "[] [tag/a] [] 0")
	f(c+"ttl: 5d\n", c+"owner: 5d\n", "[] [tag/a] [] 0")
	f("kind: workspace\nid: x\n", "kind: workspace\nid: y\n", "[workspace/y] [] [workspace/x] 0")
}

// What SaveDir wrote LoadDir reads: the same bytes of YAML, the same documents of
// JSON.
func TestSaveDir(t *testing.T) {
	example, err := LoadDir(exampleDir)
	if err != nil {
		t.Fatal(err)
	}
	set, faults := Load(example)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	f := func(files []File) []File {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "new", "folder")
		if err := SaveDir(dir, files); err != nil {
			t.Fatal(err)
		}
		back, err := LoadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		again, faults := Load(back)
		if len(faults) > 0 || !bytes.Equal(again.Canonical(), set.Canonical()) {
			t.Fatalf("%v, or other documents", faults)
		}
		return back
	}
	for i, file := range f(example) {
		if file.Name != example[i].Name || !bytes.Equal(file.Content, example[i].Content) {
			t.Errorf("%s came back as %s", example[i].Name, file.Name)
		}
	}
	f([]File{{Name: "console/all.json", Content: set.Canonical()}})
	f([]File{{Name: "all", Content: bytes.Join(contents(example), []byte("\n---\n"))}})

	wrong := func(names ...string) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "x")
		var files []File
		for _, name := range names {
			files = append(files, File{Name: name, Content: []byte("kind: layer\nid: a\n")})
		}
		if err := SaveDir(dir, files); err == nil {
			t.Errorf("%q was written", names)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q left a folder", names)
		}
	}
	wrong("a.yaml", "../b.yaml")
	wrong("/a.yaml")
	wrong("a//b.yaml")
	wrong("")
	wrong(".hidden.yaml")
	wrong("a/.git/b.yaml")
	wrong("a.yaml", "a.yaml")
	wrong("a", "a.yaml")
	wrong("a.json")
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := SaveDir(full, example); err == nil {
		t.Error("a folder with something in it was written to")
	}
}

func contents(files []File) (out [][]byte) {
	for _, f := range files {
		out = append(out, f.Content)
	}
	return out
}
