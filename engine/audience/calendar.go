package audience

import "tact/storage"

// calendarBlock is how many people share one entry of the upper level: of 10
// million people in 16 groups a look at what is due reads 10 KiB a group.
const calendarBlock = 256

// Calendar keeps for every person of a group, by ordinal, the second at which
// time may move the person into or out of a tracked segment. It holds four bytes
// a person and no pointers: the times, and of every 256 of them a lower bound.
// One goroutine at a time may use it.
type Calendar struct {
	times  []storage.UnixSec
	lowest []storage.UnixSec // of a block: at or below its least time
}

// Reset forgets all times: nobody is due.
func (c *Calendar) Reset() { c.times, c.lowest = c.times[:0], c.lowest[:0] }

// At returns the time of a person; Never when there is none.
func (c *Calendar) At(o storage.Ord) storage.UnixSec {
	if int(o) >= len(c.times) {
		return Never
	}
	return c.times[o]
}

// Set replaces the time of a person. Cost: O(1), amortised.
func (c *Calendar) Set(o storage.Ord, at storage.UnixSec) {
	if int(o) >= len(c.times) {
		if at == Never {
			return
		}
		c.grow(int(o) + 1)
	}
	c.times[o] = at
	if b := o / calendarBlock; at < c.lowest[b] {
		c.lowest[b] = at
	}
}

// Lower makes a person due at a time, unless due earlier.
func (c *Calendar) Lower(o storage.Ord, at storage.UnixSec) {
	if at < c.At(o) {
		c.Set(o, at)
	}
}

func (c *Calendar) grow(n int) {
	blocks := (n + calendarBlock - 1) / calendarBlock
	for len(c.times) < blocks*calendarBlock {
		c.times = append(c.times, Never)
	}
	for len(c.lowest) < blocks {
		c.lowest = append(c.lowest, Never)
	}
}

// Due is a person whose time has come.
type Due struct {
	Ord storage.Ord
	At  storage.UnixSec
}

// Due appends to dst the people whose time is at or before now, in rising order,
// and stops behind the block with which there are limit of them. Those it
// returns have no time until they are Set again.
// Cost: a quarter of a cache line a thousand people, and the blocks in which
// somebody is due.
func (c *Calendar) Due(now storage.UnixSec, limit int, dst []Due) []Due {
	for b, lowest := range c.lowest {
		if lowest > now {
			continue
		}
		if len(dst) >= limit {
			break
		}
		least := Never
		first := b * calendarBlock
		for i, at := range c.times[first : first+calendarBlock] {
			if at <= now {
				dst = append(dst, Due{storage.Ord(first + i), at})
				c.times[first+i] = Never
				continue
			}
			least = min(least, at)
		}
		c.lowest[b] = least
	}
	return dst
}

// Bytes is the memory held.
func (c *Calendar) Bytes() int64 { return 4 * int64(cap(c.times)+cap(c.lowest)) }
