//go:build linux && !race

package server

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of a loop never wait, so the scheduler is not told of them: that would
// cost more than a call that has nothing to do. The buffers are not empty.

// pollNow gives the events there are.
func pollNow(ep uintptr, events []unix.EpollEvent) int {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, ep,
			uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		if errno == 0 {
			return int(n)
		}
		if errno != unix.EINTR {
			return 0
		}
	}
}

func readNow(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd),
		uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

func writeNow(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd),
		uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}
