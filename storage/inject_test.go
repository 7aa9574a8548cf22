package storage

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// An injection fails operations of a file system from the one of a given index
// on. The zero value only counts.
type injection struct {
	mode  injectMode
	index int64 // of the first operation that fails, from 1; 0 = none
	ops   atomic.Int64
	hits  atomic.Int64

	cut func() // injectCut: called once, before that operation

	mu    sync.Mutex
	first string // the first operation that failed
}

type injectMode int

// What fails: the count is of the operations that may.
const (
	injectOnce   injectMode = iota // one operation of any kind: input/output error
	injectEver                     // every operation from then on
	injectFull                     // writes, new names and growth: no space, for a while
	injectShort                    // one write stops in the middle
	injectSync                     // one sync
	injectSyncs                    // every sync from then on
	injectCut                      // nothing: cut is called
	injectModes  = 6               // that fail
	injectFullOf = 200
)

func (m injectMode) String() string {
	return [...]string{"once", "ever", "full", "short", "sync", "syncs", "cut"}[m]
}

// kind of an operation.
type opKind int

const (
	opRead opKind = iota
	opName        // create, rename, remove, link
	opWrite
	opSync
	opClose
)

func (in *injection) concerns(k opKind) bool {
	switch in.mode {
	case injectFull:
		return k == opName || k == opWrite
	case injectShort:
		return k == opWrite
	case injectSync, injectSyncs:
		return k == opSync
	}
	return true
}

// fail counts an operation and returns its error, nil when it is to be done.
func (in *injection) fail(k opKind, what, path string) error {
	if !in.concerns(k) {
		return nil
	}
	n := in.ops.Add(1)
	if in.mode == injectCut && n == in.index {
		in.cut()
	}
	if in.mode == injectCut || in.index == 0 || n < in.index {
		return nil
	}
	last := in.index
	switch in.mode {
	case injectEver, injectSyncs:
		last = 1 << 60
	case injectFull:
		last += injectFullOf
	}
	if n > last {
		return nil
	}
	in.hits.Add(1)
	in.mu.Lock()
	if in.first == "" {
		in.first = what + " " + path
	}
	in.mu.Unlock()
	number := syscall.EIO
	if in.mode == injectFull {
		number = syscall.ENOSPC
	}
	return &os.PathError{Op: what, Path: path, Err: number}
}

// injectFS is a file system whose operations may fail.
type injectFS struct {
	vfs.FS
	in *injection
}

func (f injectFS) wrap(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &injectFile{file, f.in, name}, nil
}

func (f injectFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.in.fail(opName, "create", name); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	return f.wrap(name, file, err)
}

func (f injectFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := f.in.fail(opRead, "open", name); err != nil {
		return nil, err
	}
	file, err := f.FS.Open(name, opts...)
	return f.wrap(name, file, err)
}

func (f injectFS) OpenReadWrite(
	name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	if err := f.in.fail(opName, "open", name); err != nil {
		return nil, err
	}
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	return f.wrap(name, file, err)
}

func (f injectFS) OpenDir(name string) (vfs.File, error) {
	if err := f.in.fail(opRead, "open", name); err != nil {
		return nil, err
	}
	file, err := f.FS.OpenDir(name)
	return f.wrap(name, file, err)
}

func (f injectFS) ReuseForWrite(
	oldname, newname string, c vfs.DiskWriteCategory,
) (vfs.File, error) {
	if err := f.in.fail(opName, "reuse", oldname); err != nil {
		return nil, err
	}
	file, err := f.FS.ReuseForWrite(oldname, newname, c)
	return f.wrap(newname, file, err)
}

func (f injectFS) Link(oldname, newname string) error {
	if err := f.in.fail(opName, "link", oldname); err != nil {
		return err
	}
	return f.FS.Link(oldname, newname)
}

func (f injectFS) Remove(name string) error {
	if err := f.in.fail(opName, "remove", name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f injectFS) RemoveAll(name string) error {
	if err := f.in.fail(opName, "remove", name); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

func (f injectFS) Rename(oldname, newname string) error {
	if err := f.in.fail(opName, "rename", oldname); err != nil {
		return err
	}
	return f.FS.Rename(oldname, newname)
}

func (f injectFS) MkdirAll(dir string, perm os.FileMode) error {
	if err := f.in.fail(opName, "mkdir", dir); err != nil {
		return err
	}
	return f.FS.MkdirAll(dir, perm)
}

func (f injectFS) Lock(name string) (io.Closer, error) {
	if err := f.in.fail(opName, "lock", name); err != nil {
		return nil, err
	}
	return f.FS.Lock(name)
}

func (f injectFS) List(dir string) ([]string, error) {
	if err := f.in.fail(opRead, "list", dir); err != nil {
		return nil, err
	}
	return f.FS.List(dir)
}

func (f injectFS) Stat(name string) (vfs.FileInfo, error) {
	if err := f.in.fail(opRead, "stat", name); err != nil {
		return nil, err
	}
	return f.FS.Stat(name)
}

func (f injectFS) Unwrap() vfs.FS { return f.FS }

// injectFile is a file of an injectFS.
type injectFile struct {
	vfs.File
	in   *injection
	name string
}

func (f *injectFile) Read(p []byte) (int, error) {
	if err := f.in.fail(opRead, "read", f.name); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *injectFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.in.fail(opRead, "read", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *injectFile) Write(p []byte) (int, error) {
	if err := f.in.fail(opWrite, "write", f.name); err != nil {
		n := 0
		if f.in.mode == injectShort || f.in.mode == injectFull {
			n, _ = f.File.Write(p[:len(p)/2]) // the error is the one that is injected
		}
		return n, err
	}
	return f.File.Write(p)
}

func (f *injectFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.in.fail(opWrite, "write", f.name); err != nil {
		n := 0
		if f.in.mode == injectShort || f.in.mode == injectFull {
			n, _ = f.File.WriteAt(p[:len(p)/2], off) // as above
		}
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f *injectFile) Preallocate(offset, length int64) error {
	if err := f.in.fail(opWrite, "preallocate", f.name); err != nil {
		return err
	}
	return f.File.Preallocate(offset, length)
}

func (f *injectFile) Stat() (vfs.FileInfo, error) {
	if err := f.in.fail(opRead, "stat", f.name); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

func (f *injectFile) Sync() error {
	if err := f.in.fail(opSync, "sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *injectFile) SyncData() error {
	if err := f.in.fail(opSync, "sync", f.name); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *injectFile) SyncTo(n int64) (bool, error) {
	if err := f.in.fail(opSync, "sync", f.name); err != nil {
		return false, err
	}
	return f.File.SyncTo(n)
}

// Close closes the file also when it says that it failed, as the system does.
func (f *injectFile) Close() error {
	if err := f.in.fail(opClose, "close", f.name); err != nil {
		_ = f.File.Close() // the error is the one that is injected
		return err
	}
	return f.File.Close()
}

func (in *injection) String() string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return fmt.Sprintf("%s at %d of %d (%s), %d failed", in.mode, in.index, in.ops.Load(), in.first,
		in.hits.Load())
}
