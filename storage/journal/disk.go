package journal

import (
	"sync/atomic"
	"unsafe"
)

// Disk is where the files lie. A simulator gives another one.
type Disk interface {
	// Create makes a file of size bytes with the header in front: every byte
	// written and synced, the name too, so that a later write neither grows it
	// nor meets a full disk. It replaces a file of that name.
	Create(name string, header []byte, size int64) (File, error)
	Open(name string) (File, error)
	List() ([]string, error) // names in the folder
	Remove(name string) error
}

// File is one preallocated file. WriteAt is durable when it returns. Offsets and
// lengths are multiples of the page.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Size() (int64, error)
	Direct() bool // past the page cache
	Close() error
}

// Shm is memory that outlives the process, for one ring.
type Shm interface {
	// Open returns size bytes: what is there when it has that size, else zeros.
	// Every byte is backed, so that a store never meets a full file system.
	Open(size int) ([]byte, error)
	Close(remove bool) error
}

// A locker is a Shm that says whether its pages stay in memory.
type locker interface {
	// LockFault returns why the memory of Open is not locked; nil: it is.
	LockFault() error
}

// storeTail publishes the ring's tail in one store, behind the record it names.
func storeTail(b []byte, n uint64) { (*atomic.Uint64)(unsafe.Pointer(&b[0])).Store(n) }
