package journal

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

const tmpfsMagic = 0x01021994

// openDirect opens a file whose writes are durable when they return, past the
// page cache; where that is refused, an ordinary one.
func openDirect(path string) (f *os.File, direct bool, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|syscall.O_DIRECT|syscall.O_DSYNC, 0)
	if err == nil {
		return f, true, nil
	}
	if !errors.Is(err, syscall.EINVAL) {
		return nil, false, err
	}
	f, err = os.OpenFile(path, os.O_RDWR, 0)
	return f, false, err
}

func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// mapShared maps a file of a tmpfs. A file on a disk is refused: stores would
// wait for its pages, and nothing would be gained.
func mapShared(f *os.File, size int) ([]byte, error) {
	var fs syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &fs); err != nil {
		return nil, err
	}
	if int64(fs.Type) != tmpfsMagic {
		return nil, fmt.Errorf("%w: it does not lie in a tmpfs", errNoRing)
	}
	return syscall.Mmap(int(f.Fd()), 0, size,
		syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}

// lockMemory keeps pages in memory: a store into the ring never waits for a swap.
// It errors where the limit of locked memory (ulimit -l, LimitMEMLOCK) is too low.
func lockMemory(b []byte) error {
	if err := syscall.Mlock(b); err != nil {
		return fmt.Errorf("mlock of %d KiB: %w", len(b)>>10, err)
	}
	return nil
}

func unmapShared(b []byte) error { return syscall.Munmap(b) }
