package engine

import (
	"sync/atomic"
	"time"

	"tact/storage"
)

// Bounds of what a wall clock may do.
const (
	maxForwardStep = 10 * time.Minute    // a larger step of the wall clock is not adopted
	maxStartStep   = 30 * 24 * time.Hour // at start, against the store's high-water time
	stepTolerance  = time.Second         // smaller steps are adopted at once, by any caller
)

// Reading is one look at the machine's clocks: the wall clock in unix
// milliseconds, and milliseconds of a clock that no one sets. Tests inject it.
type Reading func() (wall, mono int64)

// machineReading reads both clocks with one time.Now, and the second alone.
func machineReading() (read Reading, mono func() int64) {
	base := time.Now()
	read = func() (wall, mono int64) {
		t := time.Now()
		return t.UnixMilli(), t.Sub(base).Milliseconds()
	}
	return read, func() int64 { return time.Since(base).Milliseconds() }
}

// clock is server time: milliseconds that never run backwards and that follow
// the wall clock as far as the bounds allow. Between two readings it advances
// by the monotonic clock. Any goroutine may call Now.
//
// A forward step above stepTolerance is not taken by Now: it is left for the
// conductor's loop, which first makes every open reservation outlive the step
// (expiry runs on two clocks) and then calls adopt.
type clock struct {
	read   Reading
	mono   func() int64 // what read gives beside the wall clock; nil: read alone is asked
	looked atomic.Int64 // mono when the wall clock was looked at last, + 1
	offset atomic.Int64 // server time = monotonic + offset, ms
	last   atomic.Int64
	skewed atomic.Bool // the wall clock is ahead of what may be adopted
}

// newClock starts server time. floor is the store's high-water time: server
// time never lies below it. A wall clock more than 30 days ahead of a floor
// that exists is not adopted unless accept is set.
func newClock(read Reading, floor storage.UnixMsec, accept bool) *clock {
	c := &clock{read: read}
	start, mono := read()
	if floor > 0 && !accept && start > int64(floor)+maxStartStep.Milliseconds() {
		start = int64(floor)
		c.skewed.Store(true)
	}
	c.offset.Store(start - mono)
	c.last.Store(max(start, int64(floor)))
	return c
}

// Now returns server time. Inside one millisecond of the monotonic clock the wall
// clock is looked at once. Cost: one reading of the monotonic clock and two atomics.
func (c *clock) Now() storage.UnixMsec {
	if c.mono != nil && c.mono()+1 == c.looked.Load() {
		return storage.UnixMsec(c.last.Load())
	}
	wall, mono := c.read()
	offset := c.offset.Load()
	step := wall - mono - offset
	if !c.skewed.Load() && step != 0 && step <= stepTolerance.Milliseconds() {
		c.offset.CompareAndSwap(offset, offset+step)
		offset += step
	}
	now := c.raise(mono + offset)
	c.looked.Store(mono + 1)
	return now
}

// raise moves last up to ms and returns the larger of both.
func (c *clock) raise(ms int64) storage.UnixMsec {
	for {
		last := c.last.Load()
		if ms <= last {
			return storage.UnixMsec(last)
		}
		if c.last.CompareAndSwap(last, ms) {
			return storage.UnixMsec(ms)
		}
	}
}

// pending returns the forward step of the wall clock that waits for adoption,
// or 0. A step beyond maxForwardStep is never adopted; it marks the clock as
// skewed until the wall comes back into reach.
func (c *clock) pending() time.Duration {
	wall, mono := c.read()
	step := time.Duration(wall-mono-c.offset.Load()) * time.Millisecond
	switch {
	case step > maxForwardStep:
		c.skewed.Store(true)
		return 0
	case c.skewed.Load():
		c.skewed.Store(false)
	}
	if step > stepTolerance {
		return step
	}
	return 0
}

// adopt takes a step that pending reported.
func (c *clock) adopt(step time.Duration) {
	c.offset.Add(step.Milliseconds())
	c.looked.Store(0)
}

// Skewed tells whether the wall clock is further ahead than may be adopted.
func (c *clock) Skewed() bool { return c.skewed.Load() }
