package loadtest

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// longestNap bounds one sleep, so that a cancelled run ends soon.
const longestNap = 20 * time.Millisecond

// bindPacer ties the goroutine to a thread of its own, which ends with it, and
// asks the kernel to wake that thread on time: threads are otherwise woken up to
// 50 µs late on purpose. The thread keeps its ordinary priority: real time or a
// negative niceness made the generator's other threads wait, and the measured
// p99 ten times worse (measured on two busy processors).
//
// Source: prctl(2), PR_SET_TIMERSLACK.
func bindPacer() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	return nil
}

// nap sleeps until due, or for longestNap if that is sooner. It is the system
// call, because timers of the Go runtime wake an idle process up to 1 ms late.
// It may return early, when a signal comes.
func nap(due time.Time) {
	left := min(time.Until(due), longestNap)
	if left <= 0 {
		return
	}
	request := unix.NsecToTimespec(left.Nanoseconds())
	// The one error that can come says that a signal came first.
	_ = unix.Nanosleep(&request, nil)
}

// selfCPU is the CPU time that this process has used.
func selfCPU() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// kernelRelease names the running kernel.
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
