package loadtest

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// longestNap bounds one sleep, so that a cancelled run ends soon.
const longestNap = 20 * time.Millisecond

// pacerNice is the niceness of pacers. Real time would be on time more often
// still, but the Go runtime spins where it expects another thread to go on, and
// a real-time thread then keeps that thread from its processor for 50 to 100 ms
// (measured).
const pacerNice = -15

// bindPacer ties the goroutine to a thread of its own, which ends with it, and
// asks the kernel to wake that thread on time: threads are otherwise woken up to
// 50 µs late on purpose, and wait for a slice of 3 ms when the processors are
// busy. Priority needs a privilege; without it raised is false, and the lateness
// says what that costs.
//
// Source: prctl(2), PR_SET_TIMERSLACK; sched(7).
func bindPacer() (raised bool, err error) {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return false, fmt.Errorf("timer slack: %w", err)
	}
	return unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), pacerNice) == nil, nil
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
