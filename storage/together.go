package storage

import "encoding/binary"

// Together runs f so that everything f appends, in whichever groups, becomes
// durable in one batch: after a crash all of it is there or none. f locks the
// groups it needs one after the other and must not wait for durability.
//
// The committer takes frames only between such calls. Cost: one shared lock.
func (s *Store) Together(f func()) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	f()
}

// IdentitySlot returns the slot that an identity lives in: the top 12 bits of
// its hash. hash is Store.IdentityHash.
func IdentitySlot(hash [16]byte) Slot {
	return Slot(binary.BigEndian.Uint16(hash[:]) >> 4)
}

// LastFrame returns the newest frame that holds anything: who answers for what
// is in memory, without appending, waits for it. The group must be locked.
func (g *Group) LastFrame() uint64 {
	if f := g.mu.open; f.count == 0 {
		return f.number - 1
	}
	return g.mu.open.number
}

// Floor returns the group's floor, for Instant. The group must be locked.
func (g *Group) Floor() UnixSec { return g.mu.state.floor() }

// Seal ends the open frame, when it holds anything, and returns the last frame:
// what is in memory now is the group after that frame, whole, and what is
// appended later lies in later frames. The group must be locked, and nothing
// appended since.
func (g *Group) Seal() uint64 {
	return g.sealLocked()
}
