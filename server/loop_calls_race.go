//go:build linux && race

package server

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// The calls of a loop in a way that the race detector follows.

// pollNow gives the events there are.
func pollNow(ep uintptr, events []unix.EpollEvent) int {
	n, err := unix.EpollWait(int(ep), events, 0)
	for err == unix.EINTR {
		n, err = unix.EpollWait(int(ep), events, 0)
	}
	return max(n, 0)
}

func readNow(fd int, p []byte) (int, unix.Errno) {
	n, err := syscall.Read(fd, p)
	return n, errnoOf(err)
}

func writeNow(fd int, p []byte) (int, unix.Errno) {
	n, err := syscall.Write(fd, p)
	return n, errnoOf(err)
}

func errnoOf(err error) (errno unix.Errno) {
	errors.As(err, &errno)
	return errno
}
