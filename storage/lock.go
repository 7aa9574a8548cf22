package storage

import (
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	// lockTries tries with lockPause locked instructions between them are ten to fifteen
	// microseconds. Measured: see bench/README.md.
	lockTries = 300
	lockPause = 4
)

// A groupMutex is a mutex whose Lock tries for some microseconds before its goroutine
// sleeps. A group is held for one or two microseconds at a time, and its callers are many
// goroutines on few processors: there sync.Mutex gives up at once, and waking one who
// sleeps takes a hundred microseconds.
type groupMutex struct{ sync.Mutex }

// Lock takes the mutex.
func (m *groupMutex) Lock() {
	if !m.TryLock() && !m.await() {
		m.Mutex.Lock()
	}
}

// await tries for a while; false: the mutex is still taken.
func (m *groupMutex) await() bool {
	if runtime.NumCPU() == 1 {
		return false
	}
	var pause atomic.Uint32
	for range lockTries {
		for range lockPause {
			pause.Add(1)
		}
		if m.TryLock() {
			return true
		}
	}
	return false
}
