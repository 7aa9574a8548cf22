package backup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Listed is one backup of a folder.
type Listed struct {
	Manifest
	Fault error // of the manifest: the backup is none; nil: it is whole as far as that says
	// Broken says why a backup whose manifest is whole cannot be restored: one that it
	// goes on from is missing or damaged. It is ErrDamaged.
	Broken error
}

// Restorable tells whether it can be restored, as far as manifests say.
func (l *Listed) Restorable() bool { return l.Fault == nil && l.Broken == nil }

// Unfinished tells whether it has no manifest: it is being written, or was cut short.
func (l *Listed) Unfinished() bool { return errors.Is(l.Fault, errUnfinished) }

// errUnfinished is the Fault of a backup that did not end. Nobody can tell one that is
// being written from it without a lock, which would be in the writer's way.
var errUnfinished = errors.New("it has no manifest: it is being written, or was cut short")

// List returns the backups in dir, oldest first, those that did not end or have a
// damaged manifest included: their Fault says so, and the Broken of those that go on
// from such a one, or from one that is missing. Other files are not read.
func List(dir string, o Options) ([]Listed, error) {
	o.fill()
	names, err := o.FS.List(dir)
	if err != nil {
		return nil, fmt.Errorf("backups in %s: %w", dir, err)
	}
	var all []Listed
	slices.SortFunc(names, byNumber)
	for _, name := range names {
		if _, ok := numberOf(name); !ok {
			continue
		}
		m, err := readManifest(o.FS, o.FS.PathJoin(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			err = errUnfinished
		}
		if err != nil {
			all = append(all, Listed{Manifest: Manifest{Name: name}, Fault: err})
			continue
		}
		all = append(all, Listed{Manifest: *m})
	}
	judge(folder{fs: o.FS, dir: dir}, all, nil)
	return all, nil
}

// byNumber orders names of backups as they were taken.
func byNumber(x, y string) int {
	n, _ := numberOf(x)
	m, _ := numberOf(y)
	return cmp.Or(cmp.Compare(n, m), strings.Compare(x, y))
}

// Backups lie in folders NUMBER-TIME-KIND; the number rises.
func nameOf(number int, at time.Time, kind string) string {
	return fmt.Sprintf("%06d-%s-%s", number, at.UTC().Format("20060102T150405Z"), kind)
}

func numberOf(name string) (int, bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 || len(parts[0]) < 6 || parts[2] != Full && parts[2] != Incremental {
		return 0, false
	}
	n, err := strconv.Atoi(parts[0])
	return n, err == nil && n > 0
}

// sweepUnfinished removes backups that did not end.
func sweepUnfinished(fs vfs.FS, dir string, all []Listed) error {
	var errs []error
	for i := range all {
		if !errors.Is(all[i].Fault, errUnfinished) {
			continue
		}
		path := fs.PathJoin(dir, all[i].Name)
		if err := sweepPeople(fs, path, nil); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, fs.RemoveAll(path))
	}
	return errors.Join(errs...)
}

func timeText(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}
