package storage

// Ring is a view of the latest confirmed uses of one counter.
type Ring struct{ b []byte }

// Key returns the ring's counter.
func (r Ring) Key() CounterKey { return CounterKey{Cap: Name(le32(r.b)), Dim: le32(r.b[4:])} }

// Room returns how many uses the ring can hold.
func (r Ring) Room() int { return int(r.b[8]) }

// Len returns how many uses the ring holds.
func (r Ring) Len() int { return r.len() }

// Time returns the time of the i-th oldest use, 0 ≤ i < Len; of a ring that keeps
// counts the latest time that the uses of the i-th count may have.
func (r Ring) Time(i int) UnixSec { return r.time(i) }

// Uses returns how many uses the i-th entry stands for, at least 1, or UsesUnknown.
func (r Ring) Uses(i int) uint32 { return r.uses(i) }

// Coarse says that the ring keeps counts of uses instead of their times.
func (r Ring) Coarse() bool { return r.kind() == ringCells }

// Latest returns the time of the newest use that is known; 0 = none.
func (r Ring) Latest() UnixSec { return r.latest() }

// Dropped returns the time of the newest use that was pushed out; 0 = none.
func (r Ring) Dropped() UnixSec { return r.dropped() }

// count adds the ring's uses after since to u.
func (r Ring) count(u *Usage, since UnixSec) {
	if r.kind() == ringTimes {
		for i := r.len() - 1; i >= 0 && r.time(i) > since; i-- {
			u.add(r.time(i))
		}
		u.Unknown = u.Unknown || r.dropped() > since
		return
	}
	some := false
	for i := r.len() - 1; i >= 0 && r.time(i) > since; i-- {
		n := r.uses(i)
		if n == cellUnknown {
			u.Unknown = true
			continue
		}
		latest := u.Latest
		u.add(r.time(i))
		u.N += int(n) - 1
		u.Latest, some = latest, true
	}
	if some {
		u.Latest = max(u.Latest, r.latest())
	}
}

func (r Ring) len() int {
	if len(r.b) == 0 {
		return 0
	}
	return int(r.b[9])
}

func (r Ring) kind() byte {
	if len(r.b) == 0 {
		return ringTimes
	}
	return r.b[10] &^ ringTagged
}

func (r Ring) time(i int) UnixSec {
	if r.kind() == ringCells {
		return UnixSec(le32(r.b[ringHeader+cellSize*i:]) - 1)
	}
	return UnixSec(le32(r.b[ringHeader+4*i:]))
}

func (r Ring) uses(i int) uint32 {
	if r.kind() == ringCells {
		return le32(r.b[ringHeader+cellSize*i+4:])
	}
	return 1
}

func (r Ring) latest() UnixSec {
	switch {
	case len(r.b) == 0 || r.len() == 0:
		return 0
	case r.kind() == ringCells:
		return UnixSec(le32(r.b[12:]))
	}
	return r.time(r.len() - 1)
}

func (r Ring) dropped() UnixSec {
	if len(r.b) == 0 || r.kind() == ringCells {
		return 0
	}
	return UnixSec(le32(r.b[12:]))
}

func (r Ring) size() int {
	return r.entries() + r.tagSize()
}
