package storage_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"tact/storage"
	"tact/storage/backup"
)

// backupFiles returns the paths of all files of all backups, with their bytes.
func backupFiles(t *testing.T, fs vfs.FS, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			for path, b := range backupFiles(t, fs, path) {
				files[path] = b
			}
			continue
		}
		if strings.HasSuffix(name, ".lock") {
			continue
		}
		f, err := fs.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		files[path] = b
	}
	return files
}

func layFile(t *testing.T, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// backupMutant damages backups: what was done, and the files that are others then, nil
// for one that is gone. stale are the files as they were before somebody was forgotten.
func backupMutant(rng *rand.Rand, files, stale map[string][]byte, path string) (
	kind, what string, made map[string][]byte,
) {
	b := append([]byte(nil), files[path]...)
	n := len(b)
	one := func(kind, format string, args ...any) (string, string, map[string][]byte) {
		return kind, path + ": " + fmt.Sprintf(format, args...), map[string][]byte{path: b}
	}
	paths := slices.Sorted(maps.Keys(files))
	switch at := rng.IntN(n); rng.IntN(9) {
	case 0:
		b = b[:at]
		return one("cut", "cut at %d of %d", at, n)
	case 1:
		end := min(n, at+1+rng.IntN(64))
		clear(b[at:end])
		return one("zeros", "zeros from %d to %d", at, end)
	case 2: // of the same name, in an earlier or a later backup
		name := path[strings.LastIndexByte(path, '/'):]
		for _, other := range paths {
			if other != path && strings.HasSuffix(other, name) {
				b = files[other]
				return one("older", "in the place of it %s", other)
			}
		}
	case 3:
		b = append(b, byte(rng.Uint32()))
		return one("longer", "bytes behind it")
	case 4:
		b = nil
		return one("delete", "deleted")
	case 5:
		if other := paths[rng.IntN(len(paths))]; other != path {
			return "swap", path + " and " + other + " swapped",
				map[string][]byte{path: files[other], other: b}
		}
	case 6, 7:
		if old, ok := stale[path]; ok && string(old) != string(b) {
			b = old
			return one("stale", "as it was before somebody was forgotten")
		}
	}
	at := rng.IntN(n)
	b[at] ^= 1 << rng.IntN(8)
	return one("flip", "a flip in byte %d of %d", at, n)
}

// A backup in which anything is not what was written is refused, or what is wrong is
// not needed and the state is right: none gives another state.
// TACT_EFFORT=1 tries 10,000.
func TestBackupMutants(t *testing.T) {
	d := newDrill(t, 11)
	defer d.close()
	name, err := d.s.Intern(storage.DictSource, "a form")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		d.work(20, d.options())
		d.mark()
	}
	d.work(1, d.options())
	at := d.marks[2].At
	stale := backupFiles(t, d.fs, "backups")
	gone := backup.Gone{
		Store: d.s.StoreID(), Names: [][]byte{storage.AppendNameKey(nil, storage.DictSource, name)},
	}
	if done, err := backup.Forget(t.Context(), "backups", gone, d.options()); err != nil ||
		done.Names < 3 { // of the first backup it may be too late
		t.Fatalf("%+v, %v", done, err)
	}
	want, _, err := d.restore(at)
	if err != nil {
		t.Fatal(err)
	}
	files := backupFiles(t, d.fs, "backups")
	paths := slices.DeleteFunc(slices.Sorted(maps.Keys(files)), func(path string) bool {
		return len(files[path]) == 0
	})
	rng := rand.New(rand.NewPCG(storage.FirstSeed(t), 5))
	refused, right, kinds := 0, 0, map[string]int{}
	n := storage.Effort(t, 10_000)
	p := storage.NewProgress(t, "backup mutants", n)
	for i := range n {
		kind, what, made := backupMutant(rng, files, stale, paths[rng.IntN(len(paths))])
		kinds[kind]++
		d.lay(made)
		ends, _, err := d.restore(at)
		switch {
		case err == nil && fmt.Sprint(ends) == fmt.Sprint(want):
			right++
		case err == nil:
			t.Fatalf("%s: restored up to %v, want %v", what, ends, want)
		case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrNewerFormat),
			errors.Is(err, backup.ErrNotCovered):
			refused++
		default:
			t.Fatalf("%s: %v", what, err)
		}
		if _, statErr := d.fs.Stat(fmt.Sprintf("restored/%d", d.made)); err != nil && statErr == nil {
			t.Fatalf("%s: a refused restore has left a store", what)
		}
		for path := range made {
			layFile(t, d.fs, path, files[path])
		}
		p(i+1, 0)
	}
	t.Logf("%d mutants: %d refused, %d restored right, 0 silent: %v", n, refused, right, kinds)
}

// lay writes files, and removes those that are nil.
func (d *drill) lay(made map[string][]byte) {
	d.t.Helper()
	for path, b := range made {
		if b != nil {
			layFile(d.t, d.fs, path, b)
		} else if err := d.fs.Remove(path); err != nil {
			d.t.Fatal(err)
		}
	}
}

// failAt fails one writing operation of a file system.
func failAt(fs vfs.FS, index int32, hit *atomic.Bool) vfs.FS {
	var n atomic.Int32
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || n.Add(1)-1 != index {
			return nil
		}
		hit.Store(true)
		return errorfs.ErrInjected
	}))
}

// An error at any operation of a backup leaves the backups before and no half one, and
// the next goes on.
func TestBackupFailsAnywhere(t *testing.T) {
	d := newDrill(t, 12)
	defer d.close()
	d.work(10, d.options())
	step := int32(1 + 30/(1+storage.Effort(t, 1000)))
	whole := func() (n int) {
		all, err := backup.List("backups", d.options())
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			if all[i].Fault == nil {
				n++
			}
		}
		return n
	}
	for index := int32(0); ; index += step {
		if err := d.Write(d.s, 2); err != nil {
			t.Fatal(err)
		}
		var hit atomic.Bool
		o := d.options()
		o.FS = failAt(d.fs, index, &hit)
		before := whole()
		_, err := backup.Take(t.Context(), d.s, "backups", o)
		if !hit.Load() {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		// A lock that is refused once is asked for again: the backup may be whole then.
		if after := whole(); after > before+1 || err == nil && after != before+1 {
			t.Fatalf("operation %d: %d backups of %d, %v", index, after, before, err)
		}
	}
	d.mark()
	d.work(1, d.options())
	if _, _, err := d.restore(d.marks[0].At); err != nil {
		t.Fatal(err)
	}
}

// An error at any operation of a restore leaves no store under the name, or a whole
// one; the next restore is not in its way.
func TestRestoreFailsAnywhere(t *testing.T) {
	d := newDrill(t, 13)
	defer d.close()
	d.work(10, d.options())
	d.mark()
	d.work(1, d.options())
	step := int32(1 + 60/(1+storage.Effort(t, 1000)))
	for index := int32(0); ; index += step {
		var hit atomic.Bool
		o := d.options()
		o.FS = failAt(d.fs, index, &hit)
		r := backup.Restoring{At: d.marks[0].At, Caps: storage.CapsProtect, Storage: d.Options()}
		_, err := backup.Restore(t.Context(), "backups", "again", r, o)
		_, statErr := d.fs.Stat("again")
		switch {
		case err != nil && statErr == nil:
			so := d.Options()
			so.FS = d.fs
			s, openErr := storage.Open("again", so)
			if openErr != nil {
				t.Fatalf("operation %d: %v, and what is there: %v", index, err, openErr)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		case err == nil && errors.Is(statErr, os.ErrNotExist):
			t.Fatalf("operation %d: nothing there after success", index)
		}
		if err := d.fs.RemoveAll("again"); err != nil {
			t.Fatal(err)
		}
		if !hit.Load() {
			break
		}
	}
	if _, _, err := d.restore(d.marks[0].At); err != nil {
		t.Fatal(err)
	}
}

// Whoever was forgotten in the backups, and whoever was erased after the copy, is not
// in a restored store; everybody else is.
func TestRestoredStoreKeepsErasures(t *testing.T) {
	d := newDrill(t, 14)
	defer d.close()
	d.work(30, d.options())
	d.mark()
	d.work(1, d.options())
	all := d.People(d.s)
	forgotten, erased := all[0], all[1]
	who := backup.Person{Slot: forgotten.Slot, Workspace: forgotten.Workspace, ID: forgotten.ID}
	done, err := backup.Forget(t.Context(), "backups",
		backup.Gone{Store: d.s.StoreID(), People: []backup.Person{who}}, d.options())
	if err != nil || done.Keys == 0 {
		t.Fatal(done, err)
	}
	if err := d.Erase(d.s, erased); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Take(t.Context(), d.s, "backups", d.options()); err != nil {
		t.Fatal(err)
	}
	o := d.Options()
	var left []storage.DrillPerson
	r, err := backup.Restore(t.Context(), "backups", "again", backup.Restoring{
		At: d.marks[0].At, Caps: storage.CapsProtect, Storage: o,
		Settle: func(s *storage.Store, _ *backup.Restored) error { left = d.People(s); return nil },
	}, d.options())
	if err != nil || r.LeftOut != 1 || r.Erased != 1 {
		t.Fatalf("%+v, %d of %d people: %v", r, len(left), len(all), err)
	}
	for _, p := range left {
		if p == forgotten || p == erased {
			t.Errorf("%+v is there", p)
		}
	}
}
