package storage_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
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

// backupMutant changes one file of backups: what it was, and what it is.
func backupMutant(rng *rand.Rand, files map[string][]byte, path string) (string, []byte) {
	b := append([]byte(nil), files[path]...)
	n := len(b)
	switch at := rng.IntN(n); rng.IntN(5) {
	case 0:
		b = b[:at]
		return fmt.Sprintf("cut at %d of %d", at, n), b
	case 1:
		end := min(n, at+1+rng.IntN(64))
		clear(b[at:end])
		return fmt.Sprintf("zeros from %d to %d", at, end), b
	case 2:
		name := path[strings.LastIndexByte(path, '/'):]
		for other, theirs := range files {
			if other != path && strings.HasSuffix(other, name) {
				return "in the place of it " + other, theirs
			}
		}
	case 3:
		return "bytes behind it", append(b, byte(rng.Uint32()))
	}
	at := rng.IntN(n)
	b[at] ^= 1 << rng.IntN(8)
	return fmt.Sprintf("a flip in byte %d of %d", at, n), b
}

// A backup in which anything is not what was written is refused, or what is wrong is
// not needed and the state is right: none gives another state.
// TACT_EFFORT=1 tries 10,000.
func TestBackupMutants(t *testing.T) {
	d := newDrill(t, 11)
	defer d.close()
	for range 3 {
		d.work(20, d.options())
		d.mark()
	}
	d.work(1, d.options())
	at := d.marks[2].At
	want, _, err := d.restore(at)
	if err != nil {
		t.Fatal(err)
	}
	files := backupFiles(t, d.fs, "backups")
	var paths []string
	for path, b := range files {
		if len(b) > 0 {
			paths = append(paths, path)
		}
	}
	rng := rand.New(rand.NewPCG(storage.FirstSeed(t), 5))
	refused, right := 0, 0
	for range storage.Effort(t, 10_000) {
		path := paths[rng.IntN(len(paths))]
		what, b := backupMutant(rng, files, path)
		if string(b) == string(files[path]) {
			continue
		}
		layFile(t, d.fs, path, b)
		ends, _, err := d.restore(at)
		switch {
		case err == nil && fmt.Sprint(ends) == fmt.Sprint(want):
			right++
		case err == nil:
			t.Fatalf("%s: %s: restored up to %v, want %v", path, what, ends, want)
		case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrNewerFormat),
			errors.Is(err, backup.ErrNotCovered):
			refused++
		default:
			t.Fatalf("%s: %s: %v", path, what, err)
		}
		if _, statErr := d.fs.Stat(fmt.Sprintf("restored/%d", d.made)); err != nil && statErr == nil {
			t.Fatalf("%s: %s: a refused restore has left a store", path, what)
		}
		layFile(t, d.fs, path, files[path])
	}
	t.Logf("%d mutants refused, %d restored right, 0 silent", refused, right)
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
