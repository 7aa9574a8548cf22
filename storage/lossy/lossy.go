// Package lossy is a file system in memory that can be copied as a loss of power would
// leave it, while others use it.
//
// Law: a copy never waits for ever. Pebble's file system in memory takes the lock of its
// copies twice in Lock, Link and ReuseForWrite; a copy that is asked for between the two
// and they wait for each other. Here such an operation and a copy take turns.
//
// Only tests import it. It costs one lock an operation of the three.
package lossy

import (
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is the file system. Its methods may be called from any goroutine.
type FS struct {
	*vfs.MemFS
	turn sync.Mutex // held while a file is locked, linked or reused, and while it is copied
}

// New returns an empty file system.
func New() *FS { return &FS{MemFS: vfs.NewCrashableMem()} }

// CrashClone returns what a loss of power leaves now: see vfs.MemFS. A copy has no locks.
func (f *FS) CrashClone(c vfs.CrashCloneCfg) *FS {
	f.turn.Lock()
	defer f.turn.Unlock()
	return &FS{MemFS: f.MemFS.CrashClone(c)}
}

// Lock locks a file.
func (f *FS) Lock(name string) (io.Closer, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	return f.MemFS.Lock(name)
}

// Link gives a file a second name.
func (f *FS) Link(old, name string) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	return f.MemFS.Link(old, name)
}

// ReuseForWrite gives a file another name, to be written over.
func (f *FS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	return f.MemFS.ReuseForWrite(old, name, c)
}
