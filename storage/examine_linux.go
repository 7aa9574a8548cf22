package storage

import (
	"os"
	"syscall"
)

// lockHeld asks whether another process holds the lock of a file that may be read and
// not written. known is false when the file cannot be asked.
func lockHeld(path string) (held, known bool) {
	f, err := os.Open(path)
	if err != nil {
		return false, false
	}
	defer f.Close()
	lock := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock); err != nil {
		return false, false
	}
	return lock.Type != syscall.F_UNLCK, true
}
