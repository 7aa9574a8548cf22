package lossy

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Copies in the midst of the operations that take the lock twice: on Pebble's own file
// system this hangs within some hundred rounds.
func TestCopyTakesTurns(t *testing.T) {
	fs := New()
	if err := fs.MkdirAll("d", 0o755); err != nil {
		t.Fatal(err)
	}
	const rounds = 3000
	var all sync.WaitGroup
	faults := make([]error, 4)
	for who := range faults {
		all.Go(func() {
			for i := range rounds {
				if who == 0 {
					fs.CrashClone(vfs.CrashCloneCfg{})
					continue
				}
				if faults[who] = use(fs, fmt.Sprintf("d/%d", who), i); faults[who] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(faults...); err != nil {
		t.Fatal(err)
	}
}

func use(fs *FS, name string, round int) error {
	held, err := fs.Lock(name + ".lock")
	if err != nil {
		return err
	}
	linked := fmt.Sprintf("%s.%d", name, round)
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err == nil {
		err = errors.Join(f.Close(), fs.Link(name, linked))
	}
	if err == nil {
		f, err = fs.ReuseForWrite(linked, name, vfs.WriteCategoryUnspecified)
	}
	if err == nil {
		err = f.Close()
	}
	return errors.Join(err, held.Close())
}

// What was not synced is gone in a copy, and what was is there.
func TestCopyForgets(t *testing.T) {
	fs := New()
	for name, synced := range map[string]bool{"kept": true, "lost": false} {
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if synced {
			dir, openErr := fs.OpenDir("")
			err = errors.Join(openErr, f.Sync(), dir.Sync(), dir.Close())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := fs.CrashClone(vfs.CrashCloneCfg{}).Stat(name); (err == nil) != synced {
			t.Errorf("%s: %v", name, err)
		}
	}
}
