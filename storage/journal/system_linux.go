package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// tryOwn takes the lock of a file that the kernel gives back when the file is closed and
// when its process ends; false: another opening of the file has it.
func tryOwn(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	return err == nil, err
}

// lockMemory keeps pages in memory: a store into the ring never waits for a swap.
// It errors where the limit of locked memory (ulimit -l, LimitMEMLOCK) is too low.
func lockMemory(b []byte) error {
	if err := syscall.Mlock(b); err != nil {
		return fmt.Errorf("mlock of %d KiB: %w", len(b)>>10, err)
	}
	return nil
}

// mappings returns a process for each path beginning with prefix that is mapped by one
// whose mappings this process may read.
func mappings(prefix string) map[string]int {
	users := make(map[string]int)
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return users
	}
	for _, p := range processes {
		id, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		maps, err := os.ReadFile(filepath.Join("/proc", p.Name(), "maps"))
		if err != nil {
			continue // it has ended, or is another user's
		}
		for line := range strings.SplitSeq(string(maps), "\n") {
			if at := strings.Index(line, prefix); at >= 0 {
				users[line[at:]] = id
			}
		}
	}
	return users
}

func unmapShared(b []byte) error { return syscall.Munmap(b) }
