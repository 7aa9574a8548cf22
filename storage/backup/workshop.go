package backup

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrWorking reports a restore into a folder that another restore works on.
var ErrWorking = errors.New("another restore makes this store")

const workshopLock = "LOCK"

// A workshop is the folder in which a store is made until it has its name. Whoever
// holds its lock works there.
type workshop struct {
	fs   vfs.FS
	dir  string
	log  *slog.Logger
	held io.Closer
	made []string // the folders above it that were made for it, deepest first
}

// open makes the workshop and clears what a restore that was cut short has left. When it
// fails nothing of it is left.
func (w *workshop) open() error {
	err := w.take()
	switch {
	case err == nil:
		if err = w.clear(); err != nil {
			err = errors.Join(err, w.close(true))
		}
	case !errors.Is(err, ErrWorking):
		w.unmake()
	}
	return err
}

// take makes the folder and locks it.
func (w *workshop) take() error {
	fs := w.fs
	for dir := fs.PathDir(w.dir); ; dir = fs.PathDir(dir) {
		if _, err := fs.Stat(dir); !errors.Is(err, os.ErrNotExist) || dir == fs.PathDir(dir) {
			break
		}
		w.made = append(w.made, dir)
	}
	if err := fs.MkdirAll(w.dir, 0o700); err != nil {
		return err
	}
	path := fs.PathJoin(w.dir, workshopLock)
	held, err := fs.Lock(path)
	if fault := (*os.PathError)(nil); errors.As(err, &fault) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: it works in %s; let it end", ErrWorking, w.dir)
	}
	if _, err := fs.Stat(path); err != nil { // the other one has just ended, and cleared up
		return errors.Join(fmt.Errorf("%w: it worked in %s until now", ErrWorking, w.dir), held.Close())
	}
	w.held = held
	return nil
}

func (w *workshop) clear() error {
	names, err := w.fs.List(w.dir)
	if err != nil {
		return err
	}
	said := false
	for _, name := range names {
		if name == workshopLock {
			continue
		}
		if !said {
			w.log.Info("what a restore has left that was cut short is removed", "folder", w.dir)
			said = true
		}
		if err := w.fs.RemoveAll(w.fs.PathJoin(w.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// close removes the workshop and lets go of it; of a restore that has failed also the
// folders that were made for it, as far as nothing else lies there.
func (w *workshop) close(failed bool) error {
	err := errors.Join(w.fs.RemoveAll(w.dir), w.held.Close())
	if failed {
		w.unmake()
	}
	return err
}

// unmake removes the folders that were made, as far as nothing lies there.
func (w *workshop) unmake() {
	for _, dir := range append([]string{w.dir}, w.made...) {
		left, err := w.fs.List(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil || len(left) > 0 || w.fs.Remove(dir) != nil {
			return
		}
	}
}
