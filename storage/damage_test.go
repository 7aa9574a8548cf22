package storage

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/journal"
	"tact/storage/lossy"
)

// What Pebble alone would pass over: each is refused, and nothing is changed.
func TestQuietDamageIsRefused(t *testing.T) {
	originals, err := makeOriginals(1)
	if err != nil {
		t.Fatal(err)
	}
	f := func(name, kind string, damage func(d disk, stale disk) string) {
		t.Helper()
		for _, o := range originals {
			if o.kind != kind {
				continue
			}
			d := o.files.clone()
			what := damage(d, o.stale)
			if got := judgeMutant(what, d, o.tells); !strings.HasPrefix(got, "refused") {
				t.Errorf("%s, %s: %.400s", name, kind, got)
			}
		}
	}
	log := func(d disk) string {
		var logs []string
		for _, path := range slices.Sorted(maps.Keys(d)) {
			if strings.HasSuffix(path, ".log") {
				logs = append(logs, path)
			}
		}
		return logs[len(logs)-1]
	}
	end := func(b []byte) int { return len(bytes.TrimRight(b, "\x00")) }
	for _, kind := range []string{"killed", "closed"} {
		behind := map[string]int{"killed": 3, "closed": 60}[kind] // a clean end has a mark behind it
		f("a bit in the last record of the log", kind, func(d, _ disk) string {
			path := log(d)
			d[path][end(d[path])-behind] ^= 1
			return path
		})
		f("the last record of the log is cut off", kind, func(d, _ disk) string {
			path := log(d)
			d[path] = d[path][:end(d[path])-behind]
			return path
		})
		f("the marker names the MANIFEST before", kind, staleMarker)
	}
	newest := func(d disk) (path string, at int) {
		path = "store/journal-00000001"
		number := uint64(0)
		for i := 4096; i < len(d[path]); i += journal.SlotSize {
			if n := le64(d[path][i+16:]); n > number {
				number, at = n, i
			}
		}
		return path, at
	}
	f("a bit in the newest record of the journal", "killed", func(d, _ disk) string {
		path, at := newest(d)
		d[path][at+100] ^= 4
		delete(d, diskRing)
		return path
	})
	f("the journal as it was earlier", "killed", func(d, stale disk) string {
		d["store/journal-00000001"] = bytes.Clone(stale["store/journal-00000001"])
		delete(d, diskRing)
		return "journal"
	})
}

// Two tables of one size that have changed places are read by Pebble as if
// nothing had happened.
func TestSwappedTables(t *testing.T) {
	fs := vfs.NewMem()
	open := func(readOnly bool) *pebble.DB {
		db, err := pebble.Open("db", &pebble.Options{
			FS: fs, ReadOnly: readOnly, FormatMajorVersion: pebble.FormatNewest,
			DisableAutomaticCompactions: true, Logger: &faultLog{},
		})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open(false)
	for _, prefix := range "amnopqz" {
		for i := range 200 {
			key, value := fmt.Appendf(nil, "%c%03d", prefix, i), fmt.Appendf(nil, "%03d", i)
			if err := db.Set(key, value, pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}
		if prefix == 'm' { // a table with ranges of deletions
			if err := db.DeleteRange([]byte("a050"), []byte("zz"), pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	verify := func() error {
		db := open(true)
		return errors.Join(verifyTables(fs, "db", db), db.Close())
	}
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	bySize := map[int64]string{}
	names, err := fs.List("db")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		info, err := fs.Stat("db/" + name)
		if err != nil || !strings.HasSuffix(name, ".sst") {
			continue
		}
		if other, ok := bySize[info.Size()]; ok {
			err := errors.Join(fs.Rename("db/"+name, "db/x"), fs.Rename("db/"+other, "db/"+name),
				fs.Rename("db/x", "db/"+other))
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("swapped: %v", err)
			}
			return
		}
		bySize[info.Size()] = name
	}
	t.Errorf("no two tables of one size: %v", bySize)
}

// The MANIFEST before the current one is known only until the current one is so
// for ever.
func TestOldManifestIsForgotten(t *testing.T) {
	fs := vfs.NewMem()
	for range 3 {
		s := mustOpen(t, fs, testOptions(nil))
		if err := s.side.update(nil); err != nil {
			t.Fatal(err)
		}
		if m := s.side.record().marks; m[0].name == "" || m[1].name != "" {
			t.Errorf("marks %+v", m)
		}
		mustClose(t, s)
	}
}

// markerCut calls cut before a marker of a MANIFEST is made.
type markerCut struct {
	vfs.FS
	cut func()
}

func (f markerCut) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(f.PathBase(name), markerManifest) {
		f.cut()
	}
	return f.FS.Create(name, c)
}

// Several starts in a row lose the power when their MANIFEST is recorded and not
// yet current: the one that is current stays known. Seed 2791 of a long run.
func TestStartsCutBeforeTheMarker(t *testing.T) {
	fs := lossy.New()
	mustClose(t, mustOpen(t, fs, testOptions(nil)))
	for i := range 3 {
		var left *lossy.FS
		o := testOptions(nil)
		s := mustOpen(t, markerCut{fs, func() {
			if left == nil {
				left = fs.CrashClone(vfs.CrashCloneCfg{})
			}
		}}, o)
		mustClose(t, s)
		if left == nil {
			t.Fatalf("start %d made no MANIFEST", i)
		}
		fs = left
	}
	s := mustOpen(t, fs, testOptions(nil))
	mustCheck(t, s)
	mustClose(t, s)
}

func FuzzWitness(f *testing.F) {
	f.Add(appendWitness(nil, [16]byte{1}, &logEnds{2, 3, 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, ends, err := parseWitness(b)
		if err == nil && !bytes.Equal(appendWitness(nil, id, &ends), b) {
			t.Errorf("%x was read as %x %+v", b, id, ends)
		}
	})
}
