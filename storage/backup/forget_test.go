package backup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"tact/storage"
	"tact/storage/lossy"
)

const testGroups = 4

func testStore() [16]byte { return [16]byte{9} }

func goneOf(people ...Person) Gone { return Gone{Store: testStore(), People: people} }

// row is a record of a people file.
type row struct{ key, value []byte }

// keyOf and claimOf make the records of somebody; the mark stands for the secret.
func keyOf(who Person) row {
	return row{
		storage.AppendPersonKey(nil, who.Slot, who.Workspace, who.ID),
		fmt.Appendf([]byte{1}, "key of %09d", who.ID),
	}
}

func claimOf(who Person) row {
	value := make([]byte, 20)
	binary.LittleEndian.PutUint16(value[2:], uint16(groupOf(who.Slot, testGroups)))
	binary.LittleEndian.PutUint64(value[8:], uint64(who.ID))
	return row{fmt.Appendf([]byte{0x10, 7, 0, 0, 0, 1}, "hash of %08d", who.ID), value}
}

func somebody(i int) Person {
	return Person{
		Slot: storage.Slot(i * 977 % storage.Slots), Workspace: 1, ID: storage.PersonID(i + 1),
	}
}

// writePeople makes the people files of a backup in dir.
func writePeople(t *testing.T, fs vfs.FS, dir string, n, parts int) {
	t.Helper()
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := newPeopleWriter(fs, dir, peopleIndex{
		Store: hexStore(testStore()), Groups: testGroups, Parts: parts,
	}, ID{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, make := range []func(Person) row{claimOf, keyOf} {
		for i := range n {
			r := make(somebody(i))
			if err := w.add(r.key, r.value); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
}

// readRows returns all records of a backup's people files, sorted.
func readRows(fs vfs.FS, dir string) (rows []row, err error) {
	x, id, err := readPeople(fs, dir)
	if err != nil {
		return nil, err
	}
	u, err := newUnpacker()
	if err != nil {
		return nil, err
	}
	defer u.unpack.Close()
	m := &Manifest{ID: id.String(), Groups: x.Groups, Store: x.Store}
	err = eachPerson(folder{fs: fs, dir: dir}, m, u, func(key, value []byte) error {
		rows = append(rows, row{slices.Clone(key), slices.Clone(value)})
		return nil
	})
	slices.SortFunc(rows, func(a, b row) int { return bytes.Compare(a.key, b.key) })
	return rows, err
}

func without(n int, gone ...int) (rows []row) {
	for i := range n {
		if !slices.Contains(gone, i) {
			rows = append(rows, keyOf(somebody(i)), claimOf(somebody(i)))
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return bytes.Compare(a.key, b.key) })
	return rows
}

func sameRows(a, b []row) bool {
	return slices.EqualFunc(a, b, func(a, b row) bool {
		return bytes.Equal(a.key, b.key) && bytes.Equal(a.value, b.value)
	})
}

// grep returns the files below dir that hold mark, compressed blocks unpacked.
func grep(t *testing.T, fs vfs.FS, dir string, mark []byte) (hits []string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	u, err := newUnpacker()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		if info, err := fs.Stat(path); err == nil && info.IsDir() {
			hits = append(hits, grep(t, fs, path, mark)...)
			continue
		}
		b := readAll(t, fs, path)
		found := bytes.Contains(b, mark)
		if len(b) >= streamHeader && string(b[:8]) == streamMagic {
			id := streamID{fileKind(b[9]), binary.LittleEndian.Uint32(b[12:]), ID(b[16:32])}
			err := u.read(bytes.NewReader(b), int64(len(b)), id, func(key, value []byte) error {
				found = found || bytes.Contains(key, mark) || bytes.Contains(value, mark)
				return nil
			})
			if err != nil && !errors.Is(err, storage.ErrCorrupt) {
				t.Fatal(err)
			}
		}
		if found {
			hits = append(hits, path)
		}
	}
	return hits
}

func readAll(t *testing.T, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestForgetThrowsKeysAway(t *testing.T) {
	f := func(n, parts int, gone ...int) {
		t.Helper()
		fs := vfs.NewMem()
		writePeople(t, fs, "backups/0001", n, parts)
		writePeople(t, fs, "backups/daily/0002", n, parts)
		var people []Person
		for _, i := range gone {
			people = append(people, somebody(i))
		}
		done, err := Forget(t.Context(), "backups", goneOf(people...), Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		held := len(gone) - len(slices.DeleteFunc(slices.Clone(gone), func(i int) bool { return i < n }))
		want := Forgotten{Backups: 2, Keys: 2 * held, Claims: 2 * held}
		if held == 0 {
			want = Forgotten{}
		}
		if done != want {
			t.Errorf("%d people in %d parts: %+v, want %+v", n, parts, done, want)
		}
		for _, dir := range []string{"backups/0001", "backups/daily/0002"} {
			rows, err := readRows(fs, dir)
			if err != nil || !sameRows(rows, without(n, gone...)) {
				t.Errorf("%s: %d records, %v", dir, len(rows), err)
			}
		}
		for _, i := range gone {
			if hits := grep(t, fs, "", keyOf(somebody(i)).value[1:]); len(hits) > 0 {
				t.Errorf("the key of %d is still in %v", i, hits)
			}
		}
		if done, err = Forget(t.Context(), "backups", goneOf(people...), Options{FS: fs}); err != nil ||
			done != (Forgotten{}) {
			t.Errorf("again: %+v, %v", done, err)
		}
	}
	f(50, 1, 3)
	f(50, 8, 3, 4, 49)
	f(50, 8, 60) // not there
	f(1, 1, 0)
	f(3000, 2, 7, 8, 9, 1000, 2999)
}

// Numbers of people mean nothing in another store: its backups in the same folder
// stay as they are. One of an older version says in its manifest whose it is.
func TestForgetKeepsToItsStore(t *testing.T) {
	fs := vfs.NewMem()
	writePeople(t, fs, "b/000001-20261122T000000Z-full", 20, 2)
	other := Gone{Store: [16]byte{8}, People: []Person{somebody(3)}}
	if done, err := Forget(t.Context(), "b", other, Options{FS: fs}); err != nil ||
		done != (Forgotten{}) {
		t.Fatalf("of another store: %+v, %v", done, err)
	}
	const older = "b/000002-20261122T000000Z-full"
	writePeople(t, fs, older, 20, 2)
	x, _, err := readPeople(fs, older)
	if err != nil {
		t.Fatal(err)
	}
	x.Format, x.Store = 1, ""
	if err := writeSealed(fs, older, peopleFile, x); err != nil {
		t.Fatal(err)
	}
	if _, err := Forget(t.Context(), "b", other, Options{FS: fs}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a backup of nobody knows which store: %v", err)
	}
	m := Manifest{
		Format: 1, ID: ID{1}.String(), Name: fs.PathBase(older), Kind: Full, Groups: 1,
		Store: hexStore(testStore()), Position: []position{{}},
	}
	if err := writeSealed(fs, older, manifestFile, &m); err != nil {
		t.Fatal(err)
	}
	for gone, want := range map[*Gone]int{&other: 0, new(goneOf(somebody(3))): 2} {
		done, err := Forget(t.Context(), "b", *gone, Options{FS: fs})
		if err != nil || done.Keys != want {
			t.Errorf("%x: %+v, %v", gone.Store, done, err)
		}
	}
}

func TestForgetInNothing(t *testing.T) {
	fs := vfs.NewMem()
	done, err := Forget(t.Context(), "none", goneOf(somebody(1)), Options{FS: fs})
	if err != nil || done != (Forgotten{}) {
		t.Fatal(done, err)
	}
}

// A backup that did not end is never restored: its keys go whoever they are of.
func TestForgetWipesUnfinished(t *testing.T) {
	fs := vfs.NewMem()
	writePeople(t, fs, "b/0001", 20, 2)
	if err := fs.Remove("b/0001/" + peopleFile); err != nil {
		t.Fatal(err)
	}
	if _, err := Forget(t.Context(), "b", goneOf(somebody(3)), Options{FS: fs}); err != nil {
		t.Fatal(err)
	}
	if hits := grep(t, fs, "", []byte("key of")); len(hits) > 0 {
		t.Fatal(hits)
	}
}

// An error at any operation, or a crash there with what was not synced lost, leaves
// whole files of before or of after, and the next call ends it.
func TestForgetIsCrashSafe(t *testing.T) {
	const n, parts = 40, 4
	people := []Person{somebody(3), somebody(10), somebody(11)}
	before, after := without(n), without(n, 3, 10, 11)
	for index, ended := int32(0), false; !ended; index++ {
		mem := lossy.New()
		writePeople(t, mem, "b/0001", n, parts)
		syncAll(t, mem, "b/0001", "b", "")
		var at atomic.Int32
		var crashed *lossy.FS
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || at.Add(1)-1 != index {
				return nil
			}
			crashed = mem.CrashClone(vfs.CrashCloneCfg{})
			return errorfs.ErrInjected
		}))
		done, err := Forget(t.Context(), "b", goneOf(people...), Options{FS: fs})
		ended = crashed == nil
		if ended && (err != nil || done.Keys != len(people)) {
			t.Fatal(done, err)
		}
		if ended {
			break
		}
		for _, left := range []*lossy.FS{crashed, mem} {
			rows, err := readRows(left, "b/0001")
			if err != nil || !sameRows(rows, before) && !sameRows(rows, after) {
				t.Fatalf("operation %d: %d records, %v", index, len(rows), err)
			}
			if _, err := Forget(t.Context(), "b", goneOf(people...), Options{FS: left}); err != nil {
				t.Fatalf("operation %d: again: %v", index, err)
			}
			rows, err = readRows(left, "b/0001")
			if err != nil || !sameRows(rows, after) {
				t.Fatalf("operation %d: after the second call: %d records, %v", index, len(rows), err)
			}
			for _, who := range people {
				if hits := grep(t, left, "", keyOf(who).value[1:]); len(hits) > 0 {
					t.Fatalf("operation %d: the key of %d is in %v", index, who.ID, hits)
				}
			}
		}
	}
}

func syncAll(t *testing.T, fs vfs.FS, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := syncFolder(fs, dir); err != nil {
			t.Fatal(err)
		}
	}
}

// Every flipped byte, every cut and every file of another place is refused.
func TestPeopleFilesRefuseDamage(t *testing.T) {
	fs := vfs.NewMem()
	writePeople(t, fs, "b/0001", 30, 2)
	names, err := fs.List("b/0001")
	if err != nil {
		t.Fatal(err)
	}
	want := without(30)
	for _, name := range names {
		path := "b/0001/" + name
		whole := readAll(t, fs, path)
		f := func(what string, b []byte) {
			t.Helper()
			overwrite(t, fs, path, b)
			if rows, err := readRows(fs, "b/0001"); err == nil && !sameRows(rows, want) {
				t.Fatalf("%s: %s gives %d records", path, what, len(rows))
			} else if err == nil {
				t.Fatalf("%s: %s is not noticed", path, what)
			} else if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNewerFormat) {
				t.Fatalf("%s: %s: %v", path, what, err)
			}
		}
		for i := range whole {
			b := slices.Clone(whole)
			b[i] ^= 1 << (i % 8)
			f(fmt.Sprintf("flip of byte %d", i), b)
		}
		for i := range whole {
			f(fmt.Sprintf("cut at %d", i), whole[:i])
		}
		overwrite(t, fs, path, whole)
	}
}

func overwrite(t *testing.T, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestForgetWaitsForALock(t *testing.T) {
	fs := vfs.NewMem()
	writePeople(t, fs, "b/0001", 10, 1)
	held, err := fs.Lock("b/" + peopleLock)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Forget(ctx, "b", goneOf(somebody(1)), Options{FS: fs}); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Forget(t.Context(), "b", goneOf(somebody(1)), Options{FS: fs}); err != nil {
		t.Fatal(err)
	}
}

// The same on the disk.
func TestForgetOnDisk(t *testing.T) {
	dir := t.TempDir()
	writePeople(t, vfs.Default, dir+"/0001", 100, 2)
	done, err := Forget(t.Context(), dir, goneOf(somebody(5)), Options{})
	if err != nil || done.Keys != 1 {
		t.Fatal(done, err)
	}
	entries, err := os.ReadDir(dir + "/0001")
	if err != nil || len(entries) != 3 {
		t.Fatal(entries, err)
	}
}

// Somebody is forgotten while the people files are read: that is no damage, and everybody
// else is read, each once.
func TestForgetBesideReading(t *testing.T) {
	const n = 40
	fs := vfs.NewMem()
	writePeople(t, fs, "b/1", n, 8)
	m := &Manifest{ID: ID{1}.String(), Groups: testGroups, Store: hexStore(testStore())}
	u, err := newUnpacker()
	if err != nil {
		t.Fatal(err)
	}
	defer u.unpack.Close()
	var rows []row
	err = eachPerson(folder{fs: fs, dir: "b/1"}, m, u, func(key, value []byte) error {
		if len(rows) == 0 { // of the first part: every other one is replaced
			var gone []Person
			for i := range n {
				p := somebody(i)
				if at := (person{groupOf(p.Slot, testGroups), p.ID}).part(8); at > 0 && i%2 == 0 {
					gone = append(gone, p)
				}
			}
			done, err := Forget(t.Context(), "b", goneOf(gone...), Options{FS: fs})
			if err != nil || done.Keys != len(gone) || len(gone) == 0 {
				t.Fatalf("%d gone: %+v, %v", len(gone), done, err)
			}
		}
		rows = append(rows, row{slices.Clone(key), slices.Clone(value)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(rows, func(a, b row) int { return bytes.Compare(a.key, b.key) })
	left, err := readRows(fs, "b/1")
	if err != nil || !sameRows(rows, left) {
		t.Errorf("%d records were read, %d are left: %v", len(rows), len(left), err)
	}
}
