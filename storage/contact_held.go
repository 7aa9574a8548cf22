package storage

// ReservationState says what became of a reservation.
type ReservationState uint8

// States of a reservation. The number is stored; it never changes.
const (
	ReservationUnknown   ReservationState = iota // never here, or resolved too long ago
	ReservationOpen                              // holds uses
	ReservationConfirmed                         // every use was confirmed; see ReservationPartly
	ReservationReleased                          // given back or expired, nothing was confirmed
	// ReservationPartly: some use was confirmed, the others were given back or expired.
	// Older versions wrote ReservationConfirmed for it.
	ReservationPartly
)

// Held is a view of one open reservation.
type Held struct{ b []byte }

// ID returns the reservation's id.
func (h Held) ID() ReservationID {
	return ReservationID{Epoch: le32(h.b), Number: le64(h.b[4:])}
}

// Offer returns the offer that was reserved.
func (h Held) Offer() Name { return Name(le32(h.b[12:])) }

// Treatment returns the treatment that was reserved.
func (h Held) Treatment() Name { return Name(le32(h.b[16:])) }

// Placement returns the placement that was decided.
func (h Held) Placement() Name { return Name(le32(h.b[20:])) }

// Granted returns the time of the decision.
func (h Held) Granted() UnixSec { return UnixSec(le32(h.b[24:])) }

// Expires returns the latest time at which the use may happen.
func (h Held) Expires() UnixSec { return UnixSec(le32(h.b[28:])) }

// Grace returns the seconds after Expires in which a confirm is not late.
func (h Held) Grace() uint32 { return le32(h.b[32:]) }

// Channel returns the channel of the treatment.
func (h Held) Channel() uint8 { return h.b[36] }

// Len returns the number of keys still held.
func (h Held) Len() int { return int(h.b[37]) }

// Key returns the i-th key still held, 0 ≤ i < Len.
func (h Held) Key(i int) HeldKey {
	k := heldKeyAt(h.b[heldHeader+i*heldKeySize:])
	if h.b[heldHeader+i*heldKeySize+15]&heldKeyCost != 0 {
		k.Cost = h.cost()
	}
	return k
}

// next is the reservation behind h of firstHeld.
func (h Held) next() Held { return Held{h.b[h.size():]} }

// holds counts the keys still held that are of a counter of the person.
func (h Held) holds(key CounterKey) (n int) {
	want := uint64(key.Cap) | uint64(key.Dim)<<32 // as the key lies in memory
	for b, i := h.b[heldHeader:], h.Len(); i > 0; b, i = b[heldKeySize:], i-1 {
		if le64(b) == want && b[15]&heldKeyTotal == 0 {
			n++
		}
	}
	return n
}

// cost is what a use of the reservation costs, 0 when no budget counts it.
func (h Held) cost() uint64 {
	if h.b[38]&heldHasCost == 0 {
		return 0
	}
	return le64(h.b[heldHeader+h.Len()*heldKeySize:])
}

// Holds reports whether one of the keys still held is of a counter.
func (h Held) Holds(key CounterKey, total bool) bool {
	for i := range h.Len() {
		if k := h.Key(i); k.Key == key && k.Total == total {
			return true
		}
	}
	return false
}

// Kept reports whether a later decision was answered with the reservation too: see
// DecisionEffect.Kept.
func (h Held) Kept() bool { return h.b[38]&heldKept != 0 }

// Live reports whether the reservation still holds its uses at t: until its
// expiry and grace have passed, on the clock and since t.Floor.
//
// Source: expiry runs on two clocks, docs/decision.md, Caps.
func (h Held) Live(t Instant) bool {
	return h.inLife(t.Now) || uint64(t.Now) < h.releaseAt(t.Floor)
}

// inLife reports whether the clock alone says that the reservation is live.
func (h Held) inLife(now UnixSec) bool {
	return uint64(now) < uint64(h.Expires())+uint64(h.Grace())
}

func (h Held) releaseAt(floor UnixSec) uint64 {
	return releaseAt(h.Granted(), h.Expires(), h.Grace(), floor)
}

// releaseAt returns when a pending use that was granted is given back.
func releaseAt(granted, expires UnixSec, grace uint32, floor UnixSec) uint64 {
	at := uint64(expires) + uint64(grace)
	if granted <= floor && expires >= granted {
		at = max(at, uint64(floor)+uint64(expires-granted)+uint64(grace))
	}
	return at
}

func (h Held) size() int {
	n := heldHeader + h.Len()*heldKeySize
	if h.b[38]&heldHasCost != 0 {
		n += heldCostSize
	}
	if h.b[38]&heldHasOrigin != 0 {
		n += heldOriginSize
	}
	return n
}

func heldKeyAt(k []byte) HeldKey {
	return HeldKey{
		Key:     CounterKey{Cap: Name(le32(k)), Dim: le32(k[4:])},
		Window:  le32(k[8:]),
		CountOn: le16(k[12:]),
		Limit:   k[14],
		Total:   k[15]&heldKeyTotal != 0,
		Coarse:  Coarse(k[15] >> 1 & 3),
	}
}

// flags packs what a key's flag byte says.
func (k *HeldKey) flags() byte {
	flags := byte(k.Coarse) << 1
	if k.Total {
		flags |= heldKeyTotal
	}
	if k.Cost != 0 {
		flags |= heldKeyCost
	}
	return flags
}
