package storage_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"tact/storage"
	"tact/storage/backup"
	"tact/storage/lossy"
)

// restoring is a restore of the newest moment into the store again/store.
func (d *drill) restoring(settle func(s *storage.Store) error) (*backup.Restored, error) {
	o := d.options()
	o.Now = func() time.Time { return time.UnixMilli(int64(d.Options().Now())) }
	return backup.Restore(d.t.Context(), "backups", "again/store", backup.Restoring{
		Caps: storage.CapsProtect, Storage: d.Options(),
		Settle: func(s *storage.Store, _ *backup.Restored) error {
			if settle == nil {
				return nil
			}
			return settle(s)
		},
	}, o)
}

// Two restores into one folder: the second is told, and does nothing to the first. Until
// the first has ended nobody makes an empty store there.
func TestRestoresInOneFolder(t *testing.T) {
	d := newDrill(t, 15)
	defer d.close()
	d.work(10, d.options())
	open := d.Options()
	open.FS = d.fs
	_, err := d.restoring(func(s *storage.Store) error {
		if _, err := d.restoring(nil); !errors.Is(err, backup.ErrWorking) {
			t.Errorf("a second restore: %v", err)
		}
		if other, err := storage.Open("again/store", open); !errors.Is(err, storage.ErrRestoring) {
			t.Errorf("a store beside it: %v", errors.Join(err, other.Close()))
		}
		return s.Check()
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.fs.Stat("again/store.restoring"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what it was made in is left: %v", err)
	}
	if _, err := d.restoring(nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a store: %v", err)
	}
}

// A restore that fails leaves nothing, the folders that it had made included.
func TestFailedRestoreLeavesNothing(t *testing.T) {
	d := newDrill(t, 16)
	defer d.close()
	d.work(10, d.options())
	refused := errors.New("refused")
	if _, err := d.restoring(func(*storage.Store) error { return refused }); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if _, err := d.fs.Stat("again"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder is left: %v", err)
	}
	if _, err := d.restoring(nil); err != nil {
		t.Error(err)
	}
}

// What the restored store does not know may have gone on until it is started: caps are
// protected up to then, however long ago it was restored. And the start says nothing of a
// fault.
func TestCapsAreProtectedFromTheFirstStart(t *testing.T) {
	d := newDrill(t, 17)
	defer d.close()
	d.work(10, d.options())
	if _, err := d.restoring(nil); err != nil {
		t.Fatal(err)
	}
	o := d.Options()
	o.FS = d.fs
	later := o.Now() + 3_600_000
	o.Now = func() storage.UnixMsec { return later }
	for range 2 { // the second start is none of an older copy
		s, err := storage.Open("again/store", o)
		if err != nil {
			t.Fatal(err)
		}
		if blind := s.Blind(); int64(blind)*1000 < int64(later) {
			t.Errorf("protected up to %d, started at %d", blind, later)
		}
		if err := errors.Join(s.Check(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// Backups verify as they are, and every mutant of them is seen.
func TestVerify(t *testing.T) {
	d := newDrill(t, 18)
	defer d.close()
	for range 3 {
		d.work(10, d.options())
		d.mark()
	}
	d.work(1, d.options())
	f := func(what string, damaged bool) {
		t.Helper()
		v, err := backup.Verify(t.Context(), "backups", d.options())
		if err != nil || v.Damaged() != damaged {
			t.Fatalf("%s: damaged %v, %v: %+v", what, err == nil && v.Damaged(), err, v)
		}
		if !damaged && (len(v.Spans()) != 1 || v.Bytes == 0) {
			t.Errorf("%s: %+v", what, v.Spans())
		}
	}
	f("whole", false)
	files := backupFiles(t, d.fs, "backups")
	for path, b := range files {
		for _, at := range []int{0, len(b) / 3, len(b) - 1} {
			spoilt := append([]byte(nil), b...)
			if len(spoilt) == 0 {
				continue
			}
			spoilt[at] ^= 0x10
			layFile(t, d.fs, path, spoilt)
			f(path, true)
		}
		if err := d.fs.Remove(path); err != nil {
			t.Fatal(err)
		}
		// Without its manifest the newest backup has not ended.
		last := path == newestManifest(files)
		f(path+" is gone", !last)
		layFile(t, d.fs, path, b)
	}
	f("whole again", false)
}

func newestManifest(files map[string][]byte) (last string) {
	fs := lossy.New()
	for path := range files {
		if fs.PathBase(path) == "manifest.json" {
			last = max(last, path)
		}
	}
	return last
}
