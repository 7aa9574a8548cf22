package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Checkpoint makes a copy of the store in dir, which no process may use, in the
// new folder to on the same disk. Tables, which never change, become second names
// of the same bytes; the rest is copied and synced. The copy is a store. It is
// half a backup: it is no help against a broken disk.
// It errors with ErrNotFound without a store, ErrLocked, os.ErrExist, or what the
// disk says. What was copied until then stays under another name, to with
// ".unfinished" behind it, which the next one of that name removes.
func Checkpoint(dir, to string, o Options) error {
	o.fill()
	lock, err := lockExamined(o.FS, dir)
	if err != nil {
		return err
	}
	err = errors.Join(checkpoint(o.FS, dir, to), lock.Close())
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", to, err)
	}
	return nil
}

func checkpoint(fs vfs.FS, dir, to string) error {
	if there, err := exists(fs, to); err != nil || there {
		return errors.Join(err, os.ErrExist)
	}
	making := to + ".unfinished"
	if err := fs.RemoveAll(making); err != nil {
		return err
	}
	if err := copyFolder(fs, dir, making); err != nil {
		return err
	}
	if err := fs.Rename(making, to); err != nil {
		return err
	}
	return syncFolder(fs, fs.PathDir(to))
}

func copyFolder(fs vfs.FS, from, to string) error {
	if err := fs.MkdirAll(to, 0o750); err != nil {
		return err
	}
	names, err := fs.List(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := copyOrLink(fs, fs.PathJoin(from, name), fs.PathJoin(to, name)); err != nil {
			return err
		}
	}
	return syncFolder(fs, to)
}

func copyOrLink(fs vfs.FS, from, to string) error {
	name := fs.PathBase(from)
	info, err := fs.Stat(from)
	switch {
	case err != nil:
		return err
	case name == fileLock, name == fileBallast, name == folderCreating:
		return nil
	case info.IsDir():
		return copyFolder(fs, from, to)
	case strings.HasSuffix(name, ".sst"):
		return fs.Link(from, to)
	}
	source, err := fs.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := fs.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Sync(), target.Close())
}
