package server

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// admission bounds the decisions in flight by how long they take. While even the
// quickest decision of a stretch takes longer than waitTarget, there is a queue that
// does not end, and whatever waits in it comes too late for a page: then only as
// many are let in as are answered in waitTarget, and the rest is refused at once.
// When the queue is gone the bound rises again to that of all requests.
//
// Least times, and not means, tell a standing queue from a burst: K. Nichols,
// V. Jacobson, Controlling Queue Delay, ACM Queue 10 (2012). A decision waits for
// the disk no longer than its own timeout, 20 ms when it names none.
type admission struct {
	most  int64        // Options.InFlight
	limit atomic.Int64 // decisions in flight beyond which one is refused

	// Of the stretch under way.
	from     atomic.Int64 // its start, nanoseconds
	finished atomic.Int64
	least    atomic.Int64 // of their times, nanoseconds

	ending   atomic.Bool // one goroutine ends a stretch, and reads what follows
	standing int         // stretches in a row with a queue
}

const (
	waitTarget = 100 * time.Millisecond
	// A stretch is so long at least, and has so many decisions.
	stretch      = 50 * time.Millisecond
	stretchCount = 8
	// stretchesToCut in a row show a queue: a process that stood still for a moment
	// has one slow stretch.
	stretchesToCut = 2
	// leastLimit leaves room for what is in flight besides decisions.
	leastLimit = 64
)

func (a *admission) init(most int) {
	a.most = int64(most)
	a.limit.Store(a.most)
	a.least.Store(math.MaxInt64)
}

// finish counts a decision that took so long and ended now, in nanoseconds of a
// clock that does not go back.
func (a *admission) finish(now, took int64) {
	for least := a.least.Load(); took < least; least = a.least.Load() {
		if a.least.CompareAndSwap(least, took) {
			break
		}
	}
	n := a.finished.Add(1)
	elapsed := now - a.from.Load()
	if n < stretchCount || elapsed < int64(stretch) || !a.ending.CompareAndSwap(false, true) {
		return
	}
	n, least := a.finished.Swap(0), a.least.Swap(math.MaxInt64)
	if n >= stretchCount { // else another goroutine has just ended it
		a.from.Store(now)
		a.judge(float64(n)/float64(elapsed), least)
	}
	a.ending.Store(false)
}

// judge sets the limit after a stretch: perNano decisions were answered a
// nanosecond, the quickest in least.
func (a *admission) judge(perNano float64, least int64) {
	limit := a.limit.Load()
	if least < int64(waitTarget) {
		a.standing = 0
		if least < int64(waitTarget)/2 && limit < a.most {
			a.limit.Store(min(2*limit, a.most))
		}
		return
	}
	if a.standing++; a.standing < stretchesToCut {
		return
	}
	// Those in flight now were let in under the old limit: it does not fall further
	// before they are gone.
	if fits := max(int64(perNano*float64(waitTarget)), leastLimit); fits < limit {
		a.limit.Store(fits)
	}
}

// slowly makes decisions take a known time, one behind the other: a server of
// known capacity, for tests of overload. Nil: none.
type slowly struct {
	each time.Duration
	mu   struct {
		sync.Mutex
		free time.Time // when the next decision can begin
	}
}

func newSlowly(each time.Duration) *slowly {
	if each <= 0 {
		return nil
	}
	return &slowly{each: each}
}

// wait takes the service time of one decision, behind those that came before. That
// a sleeper wakes late does not make the next one later.
func (w *slowly) wait() {
	if w == nil {
		return
	}
	now := time.Now()
	w.mu.Lock()
	if w.mu.free.Before(now) {
		w.mu.free = now
	}
	w.mu.free = w.mu.free.Add(w.each)
	ends := w.mu.free
	w.mu.Unlock()
	time.Sleep(ends.Sub(now))
}
