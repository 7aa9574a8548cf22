package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	_ "time/tzdata"
)

const exampleDir = "../../docs/example"

func loadExample(t testing.TB) *Set {
	t.Helper()
	files, err := LoadDir(exampleDir)
	if err != nil {
		t.Fatal(err)
	}
	set, faults := Load(files)
	for _, f := range faults {
		t.Error(f)
	}
	return set
}

// wrong gives the faults of one file, one line each.
func wrong(text string) []string {
	_, faults := Load([]File{{Name: "f.yaml", Content: []byte(text)}})
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.String()
	}
	return lines
}

// TestExampleGolden pins the typed set of the example. Raw and places are left
// out: they repeat the files.
func TestExampleGolden(t *testing.T) {
	const golden = "testdata/example.golden"
	set := loadExample(t)
	var got bytes.Buffer
	show(&got, "", reflect.ValueOf(*set))
	if os.Getenv("TACT_UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	lines, wanted := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(lines), len(wanted)) {
		g, w := "(end)", "(end)"
		if i < len(lines) {
			g = lines[i]
		}
		if i < len(wanted) {
			w = wanted[i]
		}
		if g != w {
			t.Fatalf("line %d:\n got %s\nwant %s", i+1, g, w)
		}
	}
}

// show writes a value as one line for each field that is not zero.
func show(w *bytes.Buffer, path string, v reflect.Value) {
	switch v.Type() {
	case reflect.TypeFor[Pos]():
		return
	case reflect.TypeFor[Channel](), reflect.TypeFor[MessageClass](), reflect.TypeFor[CapScope]():
		fmt.Fprintf(w, "%s = %v\n", path, v.Interface())
		return
	case reflect.TypeFor[*Node]():
		if !v.IsNil() && !strings.HasSuffix(path, ".Raw") {
			fmt.Fprintf(w, "%s = %s\n", path, v.Interface().(*Node).AppendJSON(nil))
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			show(w, path, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name == "packed" {
				continue // Raw once more
			}
			show(w, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			show(w, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int {
			return strings.Compare(a.String(), b.String())
		})
		for _, k := range keys {
			show(w, path+"["+k.String()+"]", v.MapIndex(k))
			if v.MapIndex(k).IsZero() {
				fmt.Fprintf(w, "%s[%s] = zero\n", path, k)
			}
		}
	default:
		if !v.IsZero() {
			fmt.Fprintf(w, "%s = %v\n", path, v.Interface())
		}
	}
}

// The canonical bytes hold every document, read back to the same set, and do
// not depend on how documents are spread over files.
func TestCanonical(t *testing.T) {
	set := loadExample(t)
	canonical := set.Canonical()
	if !json.Valid(canonical) {
		t.Fatal("canonical bytes are not JSON")
	}
	again, faults := Load([]File{{Name: "all.json", Content: canonical}})
	if len(faults) > 0 {
		t.Fatal(faults[0])
	}
	if !bytes.Equal(again.Canonical(), canonical) {
		t.Fatal("canonical bytes changed when read back")
	}
	files, err := LoadDir(exampleDir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(files)
	turned, _ := Load(files)
	if !bytes.Equal(turned.Canonical(), canonical) {
		t.Fatal("canonical bytes depend on the order of files")
	}
	if n, want := len(set.metas()), bytes.Count(canonical, []byte(`"kind":`)); n != want {
		t.Fatalf("%d documents, %d in the canonical bytes", n, want)
	}
	const outside = 5 // document, treatments, treatment, content, body
	deepest, faults := Load([]File{{Name: "deep.yaml", Content: []byte("kind: offer\nid: o\n" +
		"message_class: marketing\ntreatments: [{id: t, channel: web, content: {type: json, " +
		"body: {a: " + strings.Repeat("[", MaxDepth-outside) +
		strings.Repeat("]", MaxDepth-outside) + "}}}]\n")}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if _, faults := Load([]File{{"d.json", deepest.Canonical()}}); len(faults) > 0 {
		t.Fatal("the deepest document is not read back: ", faults)
	}
	empty, _ := Load(nil)
	if got := string(empty.Canonical()); got != "[]" {
		t.Fatalf("an empty set gives %s", got)
	}
}

// Slices are in the order of (file, position).
func TestOrder(t *testing.T) {
	set, faults := Load([]File{
		{"b.yaml", []byte("kind: layer\nid: z\n---\nkind: layer\nid: a\n")},
		{"a.yaml", []byte("kind: layer\nid: m\n")},
	})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	var ids []string
	for _, l := range set.Layers {
		ids = append(ids, fmt.Sprint(l.ID, " ", l.Pos))
	}
	want := []string{"z b.yaml:1:1", "a b.yaml:4:1", "m a.yaml:1:1"}
	if !slices.Equal(ids, want) {
		t.Fatalf("got %q, want %q", ids, want)
	}
}

// Without a workspace document the documented defaults hold.
func TestDefaultWorkspace(t *testing.T) {
	set, faults := Load(nil)
	w := set.Workspace
	if len(faults) > 0 || w.Timezone != "UTC" || !slices.Equal(w.Zones, []string{"UTC"}) ||
		!w.ProtectZone || w.UndeclaredReject || w.Raw != nil || w.QuietHours != nil ||
		len(w.ConsentRequired) != 6 || !slices.Equal(w.IdentityOrder, []string{"user_id"}) {
		t.Fatalf("%v %+v", faults, w)
	}
}

func TestLoadDir(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("z.yaml", "z")
	write("a/b.yml", "b")
	write("a.yaml", "a")
	write("notes.txt", "n")
	write(".hidden/x.yaml", "x")
	write("a/c.json", "c")
	if err := os.Symlink(dir, filepath.Join(dir, "a", "loop")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	files, err := LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name+"="+string(f.Content))
	}
	if want := []string{"a.yaml=a", "a/b.yml=b", "z.yaml=z"}; !slices.Equal(names, want) {
		t.Fatalf("got %q, want %q", names, want)
	}
	write("big.yaml", strings.Repeat("#", MaxBytes))
	if _, err := LoadDir(dir); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("more than MaxBytes: %v", err)
	}
	for _, missing := range []string{filepath.Join(dir, "none"), filepath.Join(dir, "z.yaml")} {
		if _, err := LoadDir(missing); err == nil {
			t.Fatalf("%s was read as a folder", missing)
		}
	}
}

func TestBounds(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := wrong(text); !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("%.40q: got %q, want %q", text, got, want)
		}
	}
	f(strings.Repeat("#", MaxBytes+1), "definitions hold more than 8 MiB of text")
	f(strings.Repeat("- ", 100), "nested deeper than 32 levels")
	f(strings.Repeat("[", 1<<20), "nested deeper than 32 levels")
	f(strings.Repeat("{a: ", MaxDepth+1)+strings.Repeat("}", MaxDepth+1),
		"f.yaml:1:129: a"+strings.Repeat(".a", MaxDepth-1)+": nested deeper than 32 levels")
	f("a: ["+strings.Repeat("1,", MaxTokens)+"]", "more than 1048576 tokens in one file")
	var keys strings.Builder
	for i := range MaxKeys + 1 {
		fmt.Fprintf(&keys, "k%d: 1\n", i)
	}
	f(keys.String(), "f.yaml:1:1: a map of more than 512 keys")
	if got := wrong(strings.Repeat("---\nkind: layr\nid: a\n", 2000)); len(got) != MaxFaults+1 ||
		got[MaxFaults] != "1000 more faults are not shown" {
		t.Errorf("%d faults, the last %q", len(got), got[len(got)-1])
	}
	deep := "kind: layer\nid: x\nname: " + strings.Repeat("[", MaxDepth-1) +
		strings.Repeat("]", MaxDepth-1)
	if got := wrong(deep); len(got) != 1 || !strings.Contains(got[0], "text is expected, not a list") {
		t.Errorf("32 levels: %q", got)
	}
}

func TestSuggest(t *testing.T) {
	f := func(word, want string, among ...string) {
		t.Helper()
		if got := Suggest(word, among); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", word, got, want)
		}
	}
	f("limt", "limit", "window", "limit", "per")
	f("Limit", "limit", "limit")
	f("tretament", "treatment", "placement", "treatment")
	f("xyz", "", "limit", "window")
	f("a", "b", "c", "b") // one edit each: the first in byte order
	f("cap", "", "cap")   // the word itself is no suggestion
	f("高价直", "高价值", "高价值")
	f("", "", "ab")
	f(strings.Repeat("a", 65), "", strings.Repeat("a", 64))
}
