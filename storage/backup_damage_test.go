package storage_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"tact/storage"
	"tact/storage/backup"
	"tact/storage/lossy"
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

// A cut keeps what a loss of power, or an end of the process, at one writing operation of
// a file system would have left, and fails the operation. Those of a database go on:
// Pebble ends the process when some of them fail, which leaves the same.
type cut struct {
	vfs.FS
	crashed *lossy.FS // nil: the operation was never reached
}

func cutAt(mem *lossy.FS, index int32, rng *rand.Rand) *cut {
	c := &cut{}
	var n atomic.Int32
	c.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || n.Add(1)-1 != index {
			return nil
		}
		c.crashed = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * int(index%3), RNG: rng})
		if strings.Contains(op.Path, "/db") {
			return nil
		}
		return errorfs.ErrInjected
	}))
	return c
}

// layBackups puts files on a disk of their own, durably.
func layBackups(t *testing.T, files map[string][]byte) *lossy.FS {
	t.Helper()
	mem := lossy.New()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		dir := mem.PathDir(path)
		if err := mem.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := mem.Create(path, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(append([]byte(nil), files[path]...))
			err = errors.Join(err, f.Sync(), f.Close())
		}
		for err == nil {
			var d vfs.File
			if d, err = mem.OpenDir(dir); err == nil {
				err = errors.Join(d.Sync(), d.Close())
			}
			if dir == "" {
				break
			}
			if dir = mem.PathDir(dir); dir == "." {
				dir = ""
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return mem
}

// restoreOn restores backups of another disk and says where the groups end.
func (d *drill) restoreOn(fs vfs.FS, at storage.UnixMsec) (ends []uint64, err error) {
	o := d.options()
	o.FS = fs
	_, err = backup.Restore(d.t.Context(), "backups", "again", backup.Restoring{
		At: at, Caps: storage.CapsTrust, Storage: d.Options(),
		Settle: func(s *storage.Store, _ *backup.Restored) (err error) {
			ends, err = d.Compare(s)
			return err
		},
	}, o)
	return ends, err
}

// wholeOn returns the names of the backups that count.
func (d *drill) wholeOn(fs vfs.FS) (names []string) {
	d.t.Helper()
	o := d.options()
	o.FS = fs
	all, err := backup.List("backups", o)
	if err != nil {
		d.t.Fatal(err)
	}
	for i := range all {
		if all[i].Fault == nil {
			names = append(names, all[i].Name)
		}
	}
	return names
}

// each calls f with every index, or with TACT_EFFORT below 1 with some, until f says
// that there are no more operations.
func (d *drill) each(name string, step int32, f func(index int32) (more bool)) {
	d.t.Helper()
	step = int32(1 + int(step)/(1+storage.Effort(d.t, 1000)))
	p, n := storage.NewProgress(d.t, name, 0), 0
	for index := int32(0); f(index); index += step {
		n++
		p(n, 0)
	}
	d.t.Logf("%s: cut at %d operations, every %d. one", name, n, step)
}

// A backup that is cut at any operation, by an error or by a loss of power, leaves the
// backups of before, or these and a whole one more, each of which restores to what was;
// and the next backup ends there. Full and incremental.
func TestBackupCutAnywhere(t *testing.T) {
	for _, full := range []bool{true, false} {
		d := newDrill(t, 12)
		d.work(10, d.options())
		if err := d.Write(d.s, 10); err != nil {
			t.Fatal(err)
		}
		d.mark()
		files := backupFiles(t, d.fs, "backups")
		before := d.wholeOn(d.fs)
		rng := rand.New(rand.NewPCG(12, 3))
		d.each(fmt.Sprintf("backup cut, full %v", full), 60, func(index int32) bool {
			mem := layBackups(t, files)
			c := cutAt(mem, index, rng)
			o := d.options()
			o.FS, o.Full = c, full
			_, err := backup.Take(t.Context(), d.s, "backups", o)
			if c.crashed == nil {
				if err != nil {
					t.Fatal(err)
				}
				d.judgeTaken(mem.CrashClone(vfs.CrashCloneCfg{}), len(before)+1)
				return false
			}
			for i, left := range []*lossy.FS{mem, c.crashed} {
				d.judgeCut(left, before, fmt.Sprintf("full %v, operation %d, disk %d (%v)", full, index, i, err))
			}
			return true
		})
		d.close()
	}
}

// judgeTaken looks at what a loss of power leaves of a backup that has been reported as
// taken: the whole of it.
func (d *drill) judgeTaken(left *lossy.FS, want int) {
	d.t.Helper()
	if whole := d.wholeOn(left); len(whole) != want {
		d.t.Fatalf("after a loss of power: backups %v, want %d", whole, want)
	}
	ends, err := d.restoreOn(left, 0)
	if err != nil || !slices.Equal(ends, d.marks[len(d.marks)-1].Ends) {
		d.t.Fatalf("after a loss of power a backup that was taken restores up to %v: %v", ends, err)
	}
}

// judgeCut looks at what a cut backup has left.
func (d *drill) judgeCut(left *lossy.FS, before []string, what string) {
	d.t.Helper()
	whole := d.wholeOn(left)
	if len(whole) > len(before)+1 || !slices.Equal(whole[:min(len(before), len(whole))], before) {
		d.t.Fatalf("%s: backups %v, before %v", what, whole, before)
	}
	if _, err := d.restoreOn(left, 0); err != nil {
		d.t.Fatalf("%s: what is there does not restore: %v", what, err)
	}
	o := d.options()
	o.FS = left
	if _, err := backup.Take(d.t.Context(), d.s, "backups", o); err != nil {
		d.t.Fatalf("%s: the next backup: %v", what, err)
	}
	if err := left.RemoveAll("again"); err != nil {
		d.t.Fatal(err)
	}
	ends, err := d.restoreOn(left, 0)
	if err != nil || !slices.Equal(ends, d.marks[len(d.marks)-1].Ends) {
		d.t.Fatalf("%s: the next backup restores up to %v: %v", what, ends, err)
	}
}

// A restore that is cut at any operation, by an error or by a loss of power, leaves no
// store under the name, or the whole one; the next restore is not in its way.
func TestRestoreCutAnywhere(t *testing.T) {
	d := newDrill(t, 13)
	defer d.close()
	d.work(10, d.options())
	d.mark()
	d.work(1, d.options())
	files := backupFiles(t, d.fs, "backups")
	want, err := d.restoreOn(layBackups(t, files), d.marks[0].At)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(13, 3))
	d.each("restore cut", 120, func(index int32) bool {
		mem := layBackups(t, files)
		c := cutAt(mem, index, rng)
		_, err := d.restoreOn(c, d.marks[0].At)
		if c.crashed == nil {
			if err != nil {
				t.Fatal(err)
			}
			so := d.Options()
			so.FS = mem.CrashClone(vfs.CrashCloneCfg{})
			s, err := storage.Open("again", so)
			if err != nil {
				t.Fatalf("a restored store after a loss of power: %v", err)
			}
			if err := errors.Join(s.Check(), s.Close()); err != nil {
				t.Fatalf("a restored store after a loss of power: %v", err)
			}
			return false
		}
		// Who has failed may hold locks until the process ends.
		ended := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
		for i, left := range []*lossy.FS{ended, c.crashed} {
			what := fmt.Sprintf("operation %d, disk %d (%v)", index, i, err)
			_, statErr := left.Stat("again")
			switch {
			case statErr == nil:
				so := d.Options()
				so.FS = left
				s, openErr := storage.Open("again", so)
				if openErr != nil {
					t.Fatalf("%s, and what is there: %v", what, openErr)
				}
				if err := errors.Join(s.Check(), s.Close(), left.RemoveAll("again")); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			case err == nil && i == 0:
				t.Fatalf("%s: nothing there after success: %v", what, statErr)
			}
			ends, err := d.restoreOn(left, d.marks[0].At)
			if err != nil || !slices.Equal(ends, want) {
				t.Fatalf("%s: the next restore goes up to %v: %v", what, ends, err)
			}
		}
		return true
	})
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
