package backup

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// layManifests writes backups that consist of a manifest and an empty people.json: number
// n of them goes on from n-1 unless it is in full, and covers ms 10(n-1) to 10n.
func layManifests(t *testing.T, fs vfs.FS, n int, full ...int) (names []string) {
	t.Helper()
	isFull := func(i int) bool {
		for _, f := range full {
			if f == i {
				return true
			}
		}
		return false
	}
	for i := 1; i <= n; i++ {
		m := Manifest{
			Format: manifestFormat, ID: ID{byte(i)}.String(), Kind: Incremental, Groups: 1,
			Store: ID{77}.String(), Parent: ID{byte(i - 1)}.String(), Position: make([]position, 1),
			From: int64(10 * (i - 1)), Until: int64(10 * i),
		}
		if isFull(i) {
			m.Kind, m.Parent, m.From = Full, "", m.Until
		}
		m.Name = nameOf(i, time.UnixMilli(0), m.Kind)
		dir := fs.PathJoin("b", m.Name)
		x := peopleIndex{Format: peopleFormat, Backup: m.ID, Groups: 1, Parts: 1, Generation: 1}
		err := errors.Join(fs.MkdirAll(dir, 0o755), writeSealed(fs, dir, peopleFile, &x))
		if err == nil {
			err = writeSealed(fs, dir, manifestFile, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, m.Name)
	}
	return names
}

// spoil changes a byte of a manifest.
func spoil(t *testing.T, fs vfs.FS, name string) {
	t.Helper()
	f, err := fs.OpenReadWrite(fs.PathJoin("b", name, manifestFile), vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.WriteAt([]byte("x"), 20)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What is chosen for a time, and what is said where nothing can be. Of five backups, of
// which 1 and 4 are full, some are gone, damaged or without a manifest.
func TestChoose(t *testing.T) {
	f := func(gone, damaged, unfinished []int, at int64, want int, says string) {
		t.Helper()
		fs := vfs.NewMem()
		names := layManifests(t, fs, 6, 1, 4)
		var errs []error
		for _, n := range gone {
			errs = append(errs, fs.RemoveAll(fs.PathJoin("b", names[n-1])))
		}
		for _, n := range damaged {
			spoil(t, fs, names[n-1])
		}
		for _, n := range unfinished {
			errs = append(errs, fs.Remove(fs.PathJoin("b", names[n-1], manifestFile)))
		}
		all, err := List("b", Options{FS: fs})
		if err := errors.Join(append(errs, err)...); err != nil {
			t.Fatal(err)
		}
		i, err := choose(all, choice{at: at})
		got := 0
		if err == nil {
			got, _ = numberOf(all[i].Name)
		}
		if got != want || err == nil && !all[i].Restorable() ||
			says != "" && !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("gone %v, damaged %v, unfinished %v, at %d: %d, %v; want %d, %q",
				gone, damaged, unfinished, at, got, err, want, says)
		}
		damage := strings.Contains(says, "damaged")
		if err != nil && damage != errors.Is(err, ErrDamaged) {
			t.Errorf("gone %v, damaged %v, at %d: %v is damage: %v", gone, damaged, at, err, !damage)
		}
	}
	f(nil, nil, nil, 0, 6, "")
	f(nil, nil, nil, 10, 1, "")
	f(nil, nil, nil, 11, 2, "")
	f(nil, nil, nil, 35, 0, "no backup covers that time; what can be restored: "+
		"1970-01-01T00:00:00.010Z to 1970-01-01T00:00:00.030Z, 1970-01-01T00:00:00.040Z to ")
	f(nil, nil, nil, 61, 0, "no backup covers that time")
	f([]int{2}, nil, nil, 25, 0, "damaged: 000003-19700101T000000Z-incremental goes on from "+
		"backup 000002, which is missing; what can be restored: 1970-01-01T00:00:00.010Z, 1970")
	f([]int{2}, nil, nil, 0, 6, "")
	f([]int{5}, nil, nil, 0, 0, "damaged: 000006-19700101T000000Z-incremental goes on from "+
		"backup 000005, which is missing")
	f([]int{2}, nil, nil, 15, 0, "no backup covers that time")
	f([]int{1, 2}, nil, nil, 25, 0, "damaged: 000003-19700101T000000Z-incremental goes on from "+
		"a backup of 000001 to 000002, which is missing or damaged")
	f(nil, []int{1}, nil, 25, 0, "goes on from 000001-19700101T000000Z-full: "+
		"b/000001-19700101T000000Z-full/manifest.json: damaged")
	f(nil, []int{6}, nil, 0, 0, "000006-19700101T000000Z-incremental/manifest.json: damaged")
	f(nil, []int{6}, nil, 55, 0, "000006-19700101T000000Z-incremental/manifest.json: damaged")
	f(nil, []int{6}, nil, 45, 5, "")
	f(nil, []int{5}, []int{6}, 0, 0, "manifest.json: damaged") // the damaged is not the last folder
	f(nil, nil, []int{6}, 0, 5, "")
	f(nil, nil, []int{1, 2, 3, 4, 5, 6}, 0, 0, "no backups that have ended")
	f([]int{1, 2, 3, 4, 5, 6}, nil, nil, 0, 0, "no backups")
}

// Backups of several stores in one folder are not taken for one another.
func TestChooseStore(t *testing.T) {
	all := []Listed{
		{Manifest: Manifest{Name: "000001-x-full", ID: "1", Kind: Full, Store: "a", From: 5, Until: 5}},
		{Manifest: Manifest{Name: "000002-x-full", ID: "2", Kind: Full, Store: "b", From: 6, Until: 6}},
	}
	f := func(store string, at int64, want int, class error) {
		t.Helper()
		i, err := choose(all, choice{at, store})
		if !errors.Is(err, class) || err == nil && i != want {
			t.Errorf("store %q, at %d: %d, %v; want %d, %v", store, at, i, err, want, class)
		}
	}
	f("", 0, 0, ErrManyStores)
	f("", 5, 0, ErrManyStores)
	f("a", 0, 0, nil)
	f("b", 0, 1, nil)
	f("a", 6, 0, ErrNotCovered)
	f("c", 0, 0, ErrNone)
}
