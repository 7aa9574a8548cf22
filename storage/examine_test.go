package storage

import (
	"bytes"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Each damage is one finding that names the file, says in one line what is wrong there,
// and is not told again of what follows from it; what damage hides is called unknown.
func TestExamineNamesTheFile(t *testing.T) {
	originals, err := makeOriginals(1)
	if err != nil {
		t.Fatal(err)
	}
	find := func(d disk, part string) (path string) {
		for _, p := range slices.Sorted(maps.Keys(d)) {
			if strings.Contains(p, part) {
				path = p // the newest
			}
		}
		return path
	}
	hurt := map[string]func(d disk, path string){
		"flip":   func(d disk, path string) { d[path][len(bytes.TrimRight(d[path], "\x00"))/2] ^= 1 },
		"cut":    func(d disk, path string) { d[path] = d[path][:len(d[path])/2] },
		"delete": func(d disk, path string) { delete(d, path) },
		"zeros":  func(d disk, path string) { clear(d[path][:min(64, len(d[path]))]) },
	}
	// file is what is named, the path itself when it is empty; known: the figures are.
	f := func(kind, part, how, file string, damage, known bool) {
		t.Helper()
		o := originals[slices.IndexFunc(originals, func(o original) bool { return o.kind == kind })]
		d := o.files.clone()
		path := find(d, part)
		hurt[how](d, path)
		fs, ring, err := d.lay()
		if err != nil {
			t.Fatal(err)
		}
		options := mutantOptions(ring)
		options.FS = fs
		got, err := Examine("store", options, nil)
		if err != nil {
			t.Fatalf("%s of %s: %v", how, path, err)
		}
		if file == "" {
			file = strings.TrimPrefix(path, "store/")
		}
		var told []Finding
		for _, x := range got.Findings {
			if x.File != "journal" { // of a ring that a closed store has not
				told = append(told, x)
			}
		}
		if len(told) != 1 || told[0].File != file || told[0].Damage != damage || got.Known != known ||
			strings.ContainsAny(told[0].What, "\n\t") || strings.Contains(told[0].What, ".go:") {
			t.Errorf("%s, %s of %s: known %v, %+v, unknown %q", kind, how, path, got.Known, told,
				got.Unknown)
		}
		if !known && len(got.Unknown) == 0 {
			t.Errorf("%s, %s of %s: nothing is called unknown", kind, how, path)
		}
	}
	for _, kind := range []string{"killed", "closed"} {
		f(kind, "db/MANIFEST", "flip", "", true, false)
		f(kind, "db/MANIFEST", "cut", "", true, false)
		f(kind, "db/MANIFEST", "delete", "", true, false)
		f(kind, "marker.manifest", "delete", "db/marker.manifest", true, false)
		f(kind, "marker.format", "delete", "db/marker.format-version", true, false)
		f(kind, ".sst", "cut", "", true, false)
		f(kind, ".sst", "delete", "", true, false)
		f(kind, ".log", "flip", "", true, true)
		f(kind, ".log", "cut", "", true, true)
		f(kind, "OPTIONS", "cut", "", false, true)
		f(kind, "OPTIONS", "zeros", "", false, true)
		f(kind, "log/decisions-00000002", "flip", "", true, true)
		f(kind, "log/effects-00000003", "cut", "", true, true)
		f(kind, "log/effects-00000003", "delete", "", true, true)
		f(kind, "sidecar-a", "flip", "", false, true)
		f(kind, "witness", "flip", "", false, true)
	}
	f("closed", ".log", "zeros", "", true, false)
}

// A damaged file of options hinders no start, which says so and writes it anew.
func TestDamagedOptionsAreWrittenAnew(t *testing.T) {
	originals, err := makeOriginals(1)
	if err != nil {
		t.Fatal(err)
	}
	o := originals[0]
	for _, content := range []string{"", "garbage", "[Options]\n  comparer=other\n", "[Options"} {
		d := o.files.clone()
		for path := range d {
			if class(path) == "OPTIONS" {
				d[path] = []byte(content)
			}
		}
		if got := judgeMutant("options", d, o.tells); got != "harmless options" {
			t.Errorf("%q: %.300s", content, got)
		}
	}
}

// What may only be read is examined all the same, and is not changed.
func TestExamineReadOnly(t *testing.T) {
	originals, err := makeOriginals(1)
	if err != nil {
		t.Fatal(err)
	}
	o := originals[1]
	fs, ring, err := o.files.lay()
	if err != nil {
		t.Fatal(err)
	}
	options := mutantOptions(ring)
	options.FS = readOnlyFS{fs}
	d, err := Examine("store", options, nil)
	if err != nil || !d.Known || d.Damaged() || d.Users == 0 || len(d.Unknown) != 1 ||
		!strings.Contains(d.Unknown[0], "whether a server uses the folder") {
		t.Errorf("%+v, %v", d, err)
	}
	if changed := o.files.changed(fs); changed != "" {
		t.Error(changed)
	}
	if names, err := fs.List("store"); err != nil || slices.Contains(names, fileLock) {
		t.Errorf("%v, %v", names, err)
	}
}

// readOnlyFS is a folder mounted for reading.
type readOnlyFS struct{ vfs.FS }

func refused(op, name string) error { return &os.PathError{Op: op, Path: name, Err: syscall.EROFS} }

func (f readOnlyFS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, refused("create", name)
}

func (f readOnlyFS) OpenReadWrite(
	name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption,
) (vfs.File, error) {
	return nil, refused("open", name)
}

func (f readOnlyFS) Lock(name string) (io.Closer, error)       { return nil, refused("open", name) }
func (f readOnlyFS) Remove(name string) error                  { return refused("remove", name) }
func (f readOnlyFS) Rename(name, _ string) error               { return refused("rename", name) }
func (f readOnlyFS) MkdirAll(name string, _ os.FileMode) error { return refused("mkdir", name) }
func (f readOnlyFS) Unwrap() vfs.FS                            { return f.FS }
