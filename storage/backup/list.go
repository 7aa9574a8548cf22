package backup

import (
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
}

// errUnfinished is the Fault of a backup that did not end.
var errUnfinished = errors.New("it did not end")

// List returns the backups in dir, oldest first, those that did not end or have a
// damaged manifest included: their Fault says so. The files are not read.
func List(dir string, o Options) ([]Listed, error) {
	o.fill()
	names, err := o.FS.List(dir)
	if err != nil {
		return nil, fmt.Errorf("backups in %s: %w", dir, err)
	}
	var all []Listed
	slices.Sort(names)
	for _, name := range names {
		if _, ok := numberOf(name); !ok {
			continue
		}
		m, err := readManifest(o.FS, o.FS.PathJoin(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			err = errUnfinished
		}
		if err != nil {
			all = append(all, Listed{Manifest{Name: name}, err})
			continue
		}
		all = append(all, Listed{*m, nil})
	}
	return all, nil
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

// spans says which times the backups cover.
func spans(whole []*Manifest) string {
	var out []string
	for i := 0; i < len(whole); {
		from, until := whole[i].From, whole[i].Until
		last := whole[i]
		for i++; i < len(whole) && whole[i].Parent == last.ID; i++ {
			last = whole[i]
			until = last.Until
		}
		if from == until {
			out = append(out, timeText(from))
		} else {
			out = append(out, timeText(from)+" to "+timeText(until))
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}
