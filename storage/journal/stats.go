package journal

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// SyncBuckets is the number of buckets of Stats.Syncs.
const SyncBuckets = 24

// Stats is a snapshot of the journal's counters since the start.
type Stats struct {
	AtOnce   uint64 // grants answered before they were durable
	Waited   uint64 // grants that wait for their record
	Refused  uint64 // records the journal did not take: the grant waits for its frame
	Late     uint64 // waits that ended at their deadline
	Backlog  uint64 // records that hold a slot
	Slots    int
	Syncs    [SyncBuckets]uint64 // by time: bucket i has those below 2^i µs, the last the rest
	Longest  time.Duration
	Total    time.Duration // of all syncs
	Failures uint64        // writes that went wrong
	Files    uint64        // files begun after such a write
	Dead     bool          // stopped: grants wait for their frames
	Ring     bool          // there is a ring: grants may be answered at once
	Asked    bool          // a ring was asked for
	Fault    string        // why there is none
	Unlocked string        // why its pages are not locked in memory; "": they are
	Closed   uint64        // times a full journal ended answers at once for a while
	Direct   bool          // the file is written past the page cache
}

type counters struct {
	atOnce, waited, refused, late, failures, files, closed atomic.Uint64

	syncs          [SyncBuckets]atomic.Uint64
	longest, total atomic.Int64
	dead           atomic.Bool
	ringFault      atomic.Value
	lockFault      atomic.Value
}

func (c *counters) sync(took time.Duration) {
	us := uint64(max(took.Microseconds(), 0))
	c.syncs[min(bits.Len64(us), SyncBuckets-1)].Add(1)
	c.total.Add(int64(took))
	for {
		old := c.longest.Load()
		if old >= int64(took) || c.longest.CompareAndSwap(old, int64(took)) {
			return
		}
	}
}

// Stats returns the counters.
func (j *Journal) Stats() Stats {
	c := &j.stats
	s := Stats{
		AtOnce: c.atOnce.Load(), Waited: c.waited.Load(), Refused: c.refused.Load(),
		Late: c.late.Load(), Backlog: j.backlog.Load(), Slots: j.o.Slots,
		Longest: time.Duration(c.longest.Load()), Total: time.Duration(c.total.Load()),
		Failures: c.failures.Load(),
		Files:    c.files.Load(), Dead: c.dead.Load(), Ring: j.Fast(),
	}
	for i := range s.Syncs {
		s.Syncs[i] = c.syncs[i].Load()
	}
	s.Fault, _ = c.ringFault.Load().(string)
	s.Unlocked, _ = c.lockFault.Load().(string)
	s.Asked, s.Closed = j.o.Shm != nil, c.closed.Load()
	s.Direct = j.direct
	return s
}
