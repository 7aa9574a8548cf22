package storage

import "encoding/binary"

// addReservation puts a reservation into a contact part where it lies, when nothing
// else of the part changes: the lease goes on, nothing has run out, no ring has an
// origin. Then the part is what contactDraft would make of it, byte for byte, without
// being taken apart. false: nothing was done, and it is the draft's work.
// Cost: linear in the open reservations and in the bytes behind them.
func (s *state) addReservation(r *Row, e *ReserveEffect, t Instant) (done bool, err error) {
	c := Contact{s.slab.get(r.contact)}
	if c.Empty() || e.Lease.Epoch != 0 || c.opens() == MaxOpenReservations ||
		c.b[3]&(contactTagged|contactMarked) != 0 || !c.settled(e.ID, t) {
		return false, nil
	}
	at, size := c.resolvedFrom(), heldSize(e)
	ref, b, err := s.slab.widen(r.contact, at, size)
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
// here, neither open nor resolved.
func (c Contact) settled(id ReservationID, t Instant) bool {
	if tr := c.trailer(); tr != nil {
		l := parseLease(tr)
		if tr[len(tr)-trailerEnd] != 0 || l.Epoch != 0 && secondUp(l.End) < t.Now {
			return false
		}
	}
	for h, rest := c.firstHeld(); rest > 0; h, rest = h.next(), rest-1 {
		if !h.Live(t) || h.ID() == id {
			return false
		}
	}
	for i := range c.resolved() {
		if r := c.resolvedAt(i); le64(r[4:]) == id.Number && le32(r) == id.Epoch {
			return false
		}
	}
	for i := range c.requests() {
		if UnixSec(le32(c.request(i)[12:])) <= t.Now {
			return false
		}
	}
	return true
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
