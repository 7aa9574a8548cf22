package storage

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// databaseFS is the file system that Pebble is given.
//
// It tells the sidecar of a new MANIFEST at the one moment when it is complete and
// synced but not yet current: when Pebble creates the marker file that names it.
//
// Pebble tries a failed flush again at once, thousands of times a second: a new
// table waits a moment after an error.
//
// A folder whose sync fails makes Pebble panic, in a goroutine of its own where
// nobody can catch it: the store dies instead, and the goroutine never returns, as
// after any fatal error of Pebble's.
//
// A damaged OPTIONS file is passed over: see Open.
//
// While fresh is set, and when the purger has deleted it, an old log is not written
// over: a new one holds nothing of what was in it.
type databaseFS struct {
	vfs.FS
	side   *sidecar
	faults *faultLog
	fresh  *atomic.Bool
}

// Open gives Pebble its own options in place of an OPTIONS file that it could not read.
// Nothing of the store is in there: the file is written anew by every open for writing,
// is compared with what never changes here, and may be missing.
func (f databaseFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, opts...)
	if err != nil || !strings.HasPrefix(f.PathBase(name), optionsPrefix) {
		return file, err
	}
	fault := optionsFault(f.FS, name)
	if fault == nil {
		return file, nil
	}
	if err := file.Close(); err != nil || !errors.Is(fault, ErrCorrupt) {
		return nil, errors.Join(fault, err)
	}
	f.faults.log.Warn("a file of options is damaged and not needed: it is written anew",
		"file", f.PathBase(name), "error", fault)
	memory := vfs.NewMem()
	whole, err := memory.Create(optionsPrefix, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	_, err = whole.Write([]byte(defaultOptions().String()))
	if err := errors.Join(err, whole.Close()); err != nil {
		return nil, err
	}
	return memory.Open(optionsPrefix)
}

const optionsPrefix = "OPTIONS-"

func defaultOptions() *pebble.Options {
	o := &pebble.Options{}
	o.EnsureDefaults()
	return o
}

// optionsFault says why Pebble would not take a file of options: ErrCorrupt, or an
// error of the disk.
func optionsFault(fs vfs.FS, name string) error {
	text, err := readFile(fs, name)
	if err != nil {
		return err
	}
	if err := defaultOptions().CheckCompatibility(fs.PathDir(name), string(text)); err != nil {
		return &Damage{File: folderDatabase + "/" + fs.PathBase(name), What: plainText(err), Err: err}
	}
	return nil
}

// Create intercepts marker.manifest.NUMBER.MANIFEST-NUMBER.
func (f databaseFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if rest, ok := strings.CutPrefix(f.PathBase(name), markerManifest); ok {
		if _, manifest, ok := strings.Cut(rest, "."); ok {
			if err := f.side.rotate(f.PathDir(name), manifest); err != nil {
				return nil, err
			}
		}
	}
	if strings.HasSuffix(name, ".sst") {
		f.faults.pause()
	}
	return f.FS.Create(name, c)
}

// ReuseForWrite gives a log that is of no use any more a new name, or makes a new one
// in its place.
func (f databaseFS) ReuseForWrite(
	old, name string, c vfs.DiskWriteCategory,
) (vfs.File, error) {
	if !f.fresh.Load() {
		file, err := f.FS.ReuseForWrite(old, name, c)
		if !errors.Is(err, os.ErrNotExist) {
			return file, err
		}
	}
	if err := f.FS.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return f.FS.Create(name, c)
}

// OpenDir opens a folder whose failed sync is the end of the store.
func (f databaseFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return databaseDir{file, f.faults.die}, nil
}

// Unwrap returns the file system below.
func (f databaseFS) Unwrap() vfs.FS { return f.FS }

type databaseDir struct {
	vfs.File
	die func(error)
}

func (d databaseDir) Sync() error {
	if err := d.File.Sync(); err != nil {
		d.die(fmt.Errorf("sync folder: %w", err))
		select {}
	}
	return nil
}
