package storage

import (
	"encoding/binary"
	"math"
)

// contactRoom is the room, in bytes, that a contact part gets behind it when a
// reservation makes it too long for its block, so that not every reservation of a
// session moves it: two reservations of one key. It stays while there is a lease.
const contactRoom = 2 * (heldHeader + heldKeySize)

// addReservation puts a reservation into a contact part where it lies, when nothing
// else of the part changes: the lease goes on, nothing has run out, nobody was united
// with the person. Then the part is what contactDraft would make of it, byte for byte,
// without being taken apart. false: nothing was done, and it is the draft's work.
// s.newest is set.
// Cost: linear in the open reservations and in the bytes behind them.
func (s *state) addReservation(r *Row, e *ReserveEffect, t Instant) (done bool, err error) {
	c := Contact{s.slab.get(r.contact)}
	s.newest = math.MaxUint64
	if c.Empty() || e.Lease.Epoch != 0 || c.opens() == MaxOpenReservations ||
		c.b[3]&(contactTagged|contactMarked) != 0 || le16(c.b[6:]) != 0 {
		return false, nil
	}
	newest, settled := c.settled(e.ID, t)
	if !settled {
		return false, nil
	}
	s.newest = newest
	at, size := c.resolvedFrom(), heldSize(e)
	ref, b, err := s.slab.widen(r.contact, at, size, contactRoom)
	if err != nil {
		return true, err
	}
	r.contact = ref
	appendHeldOf(b[at:at:at+size], e)
	b[0]++
	binary.LittleEndian.PutUint32(b[8:], uint32(at+size-contactHeader))
	return true, nil
}

// settled reports that a sweep at t would drop nothing, and that a reservation is not
// here, neither open nor resolved. newest is the highest number of those that are and
// have its epoch and group; 0 = there is none.
func (c Contact) settled(id ReservationID, t Instant) (newest uint64, ok bool) {
	if tr := c.trailer(); tr != nil {
		l := parseLease(tr)
		if tr[len(tr)-trailerEnd] != 0 || l.Epoch != 0 && secondUp(l.End) < t.Now {
			return 0, false
		}
	}
	for h, rest := c.firstHeld(); rest > 0; h, rest = h.next(), rest-1 {
		other := h.ID()
		if !h.inLife(t.Now) && !h.Live(t) || other == id {
			return 0, false
		}
		if other.beside(id) {
			newest = max(newest, other.Number)
		}
	}
	for i := range c.resolved() {
		r := c.resolvedAt(i)
		other := ReservationID{le32(r), le64(r[4:])}
		if other == id {
			return 0, false
		}
		if other.beside(id) {
			newest = max(newest, other.Number)
		}
	}
	for i := range c.requests() {
		if UnixSec(le32(c.request(i)[12:])) <= t.Now {
			return 0, false
		}
	}
	return newest, true
}

// beside tells whether two reservations are of one epoch and group: then their numbers
// say which was made first, and one is durable when a later one is.
func (r ReservationID) beside(o ReservationID) bool {
	return r.Epoch == o.Epoch && r.Number>>48 == o.Number>>48
}

// behind reports whether another reservation of the epoch and group of e, which has just
// been applied, may use one of its counters and has a number above durable: what Ask of
// the journal wants to know. It looks at the person's other reservations; what came with
// a merge was durable before. A resolved one may have used any counter, and one that is
// no longer known may have been anybody's.
// Cost: O(1) when all numbers are up to durable, else linear in the reservations.
func (s *state) behind(e *Effect, durable uint64) bool {
	if forgot := s.edit.forgot; forgot.beside(e.Reserve.ID) && forgot.Number > durable {
		return true
	}
	return s.newest > durable && s.contact(e.Ord).clashes(&e.Reserve, durable)
}

// clashes reports whether a reservation that was made beside e's, behind durable, may
// use one of its counters: one that is open and holds the counter, or one that is
// resolved, of which the counters are no longer known.
func (c Contact) clashes(e *ReserveEffect, durable uint64) bool {
	for i := range c.resolved() {
		r := c.resolvedAt(i)
		other := ReservationID{le32(r), le64(r[4:])}
		if other.beside(e.ID) && other.Number > durable {
			return true
		}
	}
	for h, rest := c.firstHeld(); rest > 0; h, rest = h.next(), rest-1 {
		other := h.ID()
		if other == e.ID || !other.beside(e.ID) || other.Number <= durable {
			continue
		}
		if h.someConfirmed() { // it holds no longer what it was confirmed of
			return true
		}
		for i := range e.Keys {
			for k, n := h.b[heldHeader:], h.Len(); n > 0; k, n = k[heldKeySize:], n-1 {
				if Name(le32(k)) == e.Keys[i].Key.Cap && le32(k[4:]) == e.Keys[i].Key.Dim {
					return true
				}
			}
		}
	}
	return false
}

// heldSize is the length of what appendHeldOf appends.
func heldSize(e *ReserveEffect) int {
	n := heldHeader + len(e.Keys)*heldKeySize
	if costOf(e.Keys) != 0 {
		n += heldCostSize
	}
	return n
}

// appendHeldOf appends a reservation as it lies in a contact part: see Contact.
func appendHeldOf(b []byte, e *ReserveEffect) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, e.ID.Epoch)
	b = le.AppendUint64(b, e.ID.Number)
	b = le.AppendUint32(b, uint32(e.Offer))
	b = le.AppendUint32(b, uint32(e.Treatment))
	b = le.AppendUint32(b, uint32(e.Placement))
	b = le.AppendUint32(b, uint32(e.Granted))
	b = le.AppendUint32(b, uint32(e.Expires))
	b = le.AppendUint32(b, e.Grace)
	cost, flags := costOf(e.Keys), byte(0)
	if cost != 0 {
		flags = heldHasCost
	}
	b = append(b, e.Channel, byte(len(e.Keys)), flags, 0)
	for i := range e.Keys {
		k := &e.Keys[i]
		b = le.AppendUint32(b, uint32(k.Key.Cap))
		b = le.AppendUint32(b, k.Key.Dim)
		b = le.AppendUint32(b, k.Window)
		b = le.AppendUint16(b, k.CountOn)
		b = append(b, k.Limit, k.flags())
	}
	if cost != 0 {
		b = le.AppendUint64(b, cost)
	}
	return b
}

// costOf is the one cost of the keys that have any.
func costOf(keys []HeldKey) uint64 {
	for i := range keys {
		if keys[i].Cost != 0 {
			return keys[i].Cost
		}
	}
	return 0
}
