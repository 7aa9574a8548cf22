package storage

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Limits of the contact part of one person.
const (
	// MaxOpenReservations bounds the open reservations of a person; more give
	// ErrTooLarge.
	MaxOpenReservations = 255
	// MaxHeldKeys bounds the keys of one reservation or use.
	MaxHeldKeys = 255
	// RingMin and RingMax bound the latest uses kept for one counter: the limit
	// of its cap inside these bounds.
	RingMin = 4
	RingMax = 64

	resolvedMax = 16
	requestsMax = 4
)

// UsesUnknown, of Ring.Uses, says that there may be any number.
const UsesUnknown = math.MaxUint32

// Contact is a view of what caps know of one person: open reservations, the
// latest resolved ones, live request ids, and one ring of confirmed uses for
// each counter. It is valid until the group is unlocked or the next Append of
// this person. Integers are little-endian:
//
//	open u8 | resolved u8 | requests u8 | flags u8 | rings u16 | away u16 | open bytes u32
//	open ×     epoch u32 | number u64 | offer u32 | treatment u32 | placement u32 |
//	           granted u32 | expires u32 | grace u32 | channel u8 | keys u8 |
//	           flags u8 (1 some confirmed, 2 cost, 4 kept, 8 origin) | 0 u8 | keys × (cap u32 |
//	           dim u32 | window u32 | count_on u16 | limit u8 | flags u8) |
//	           cost u64? | origin u64?
//	resolved × epoch u32 | number u64 | state u8 | 0 ×3            oldest first
//	requests × hash u64 | body u32 | until u32 | decision id 16    oldest first
//	rings ×    cap u32 | dim u32 | room u8 | n u8 | kind u8 | 0 u8, then by kind
//	           0: dropped u32 | n × time u32                       rising times
//	           1: latest u32 | n × (end u32 | uses u32)            rising ends
//	           and behind a kind with 0x80: origin u64 | until u32
//	                                                   rising keys, origins
//
//	marks      of the decisions that uses came from, when flags say so: see
//	           contact_marks.go
//
// flags: 1 a trailer follows, 2 some ring has an origin, 4 there are marks of an
// older version, 8 there are marks. An origin is the person that the uses came
// from in a merge: see MergeContacts. away is the day since 1970 of the last merge or
// split that brought something here, 0 = none that is to be known: see KeysAway.
//
// A ring of kind 1 keeps counts of uses instead of their times (limits above
// RingMax): each before its end, and counted until the second before the end
// has left the window. At most cellsMax counts are kept; the two oldest become
// one, dated at the later, which errs to less contact. uses of cellUnknown says
// that there may be any number.
//
// Pending reservations never lie in a ring, so that a live one cannot push a
// confirmed use out: after its release the ring still knows that use.
type Contact struct{ b []byte }

const (
	contactHeader = 12
	heldHeader    = 40
	heldKeySize   = 16
	resolvedSize  = 16
	requestSize   = 32
	ringHeader    = 16

	heldSomeConfirmed = 1 // flag of an open reservation
	heldHasCost       = 2 // flag of an open reservation: a cost follows its keys
	heldCostSize      = 8
	heldKept          = 4 // flag of an open reservation: a later decision was answered with it too
	heldHasOrigin     = 8 // flag of an open reservation: an origin follows its cost
	heldOriginSize    = 8
	heldKeyTotal      = 1 // flag of a key; the next two bits are its Coarse
	heldKeyFlags      = 5 // the greatest set of these flags
	heldKeyCost       = 8 // flag of a total key: a use costs what the reservation does

	ringTimes   = 0 // kinds of rings
	ringCells   = 1
	ringTagged  = 0x80 // beside the kind: an origin follows the entries
	ringTagSize = 12
	cellSize    = 8
	cellsMax    = 96
	cellUnknown = UsesUnknown
)

// Instant is the moment at which reservations are judged. Floor is the boot or
// the last adopted clock step: a reservation granted by then is released only
// after its whole life and grace have passed again since Floor, so that
// downtime never eats the time of a confirm.
type Instant struct {
	Now   UnixSec
	Floor UnixSec

	incidents incidents // of the group, see Group.Instant
	blind     UnixSec   // see Blind
	certain   bool
}

// Certain returns the same moment for counters that no reservation holds, such as
// those of reactions: no stand-in of a lost reservation counts on them.
func (t Instant) Certain() Instant {
	t.certain = true
	return t
}

// Incidents is how many incidents the group knows of. Counters of a person who is not
// changed hold no more uses at a later Instant of the same number and the same Floor.
func (t Instant) Incidents() int { return len(t.incidents) }

// Usage is the answer of Contact.Count.
type Usage struct {
	N       int     // uses in the window, confirmed and pending
	Pending int     // those of N that are held and not confirmed
	Latest  UnixSec // latest use in the window, a pending one dated at its expiry; 0 = none
	Oldest  UnixSec // oldest use in the window; 0 = none
	Unknown bool    // a use in the window has left the ring: N is a lower bound, take it as full
}

// Empty reports that caps know nothing of the person.
func (c Contact) Empty() bool { return len(c.b) == 0 }

// Count counts the uses of key with a time in (since, …): confirmed ones, and
// live pending ones dated at their expiry, the latest moment they can happen.
// Total keys are not counted here, see Totals.
//
// Rules (docs/decision.md, Caps): a pending use is dated at its latest possible time
// and takes no room in the ring.
// Cost: linear in the person's rings and open reservations, no allocation.
func (c Contact) Count(key CounterKey, since UnixSec, t Instant) Usage {
	return c.CountWithout(key, since, t, ReservationID{})
}

// CountWithout is Count as if one reservation were not there.
func (c Contact) CountWithout(
	key CounterKey, since UnixSec, t Instant, without ReservationID,
) Usage {
	var u Usage
	r, next := c.ringFrom(c.ringsAt(), key)
	for r.count(&u, since); next > 0; r.count(&u, since) {
		r, next = c.ringFrom(next, key)
	}
	for h, rest := c.firstHeld(); rest > 0; h, rest = h.next(), rest-1 {
		n := h.holds(key)
		if n == 0 || h.Expires() <= since || !h.Live(t) || h.ID() == without {
			continue
		}
		for range n {
			u.add(h.Expires())
			u.Pending++
		}
	}
	c.standIns(t, func(p standIn) bool {
		for n := 0; n <= int(p.more) && p.until > since && p.counts(key); n++ {
			u.add(p.until)
			u.Pending++
		}
		return true
	})
	return u
}

func (u *Usage) add(at UnixSec) {
	u.N++
	u.Latest = max(u.Latest, at)
	if u.Oldest == 0 || at < u.Oldest {
		u.Oldest = at
	}
}

// KthLatest returns the time of the k-th latest use of key, k ≥ 1, pending ones
// that live at t dated at their expiry, with those of more, which the store does
// not know yet; 0 when fewer are known. What has left a ring counts as any number
// of uses at the latest moment they may have. A rolling cap of k uses in W seconds
// is free again at that time plus W.
// Cost: for each different time down to the result one pass over the ring and the
// open reservations, no allocation.
func (c Contact) KthLatest(key CounterKey, k int, t Instant, more ...UnixSec) UnixSec {
	s := latest{key: key, t: t, bound: 1 << 32}
	for seen := uint64(0); seen < uint64(k); seen += s.n {
		s.best, s.n = 0, 0
		r, next := c.ringFrom(c.ringsAt(), key)
		for s.inRing(r); next > 0; s.inRing(r) {
			r, next = c.ringFrom(next, key)
		}
		for h := range c.held {
			s.inHeld(h)
		}
		c.standIns(t, func(p standIn) bool {
			if p.counts(key) {
				s.consider(p.until, 1+uint32(p.more))
			}
			return true
		})
		for _, at := range more {
			s.consider(at, 1)
		}
		if s.n == 0 {
			return 0
		}
		s.bound = s.best
	}
	return UnixSec(s.bound)
}

// latest looks for the latest uses before a bound, all of one time.
type latest struct {
	key   CounterKey
	t     Instant
	bound uint64 // exclusive
	best  uint64
	n     uint64 // uses at best
}

func (s *latest) consider(at UnixSec, uses uint32) {
	switch v := uint64(at); {
	case v >= s.bound || v < s.best || v == 0:
	case v > s.best:
		s.best, s.n = v, uint64(uses)
	default:
		s.n += uint64(uses)
	}
}

func (s *latest) inRing(r Ring) {
	for i := r.len() - 1; i >= 0; i-- {
		at := r.time(i)
		if uint64(at) < s.best {
			break
		}
		s.consider(at, r.uses(i))
	}
	s.consider(r.dropped(), cellUnknown)
}

func (s *latest) inHeld(h Held) {
	if !h.Live(s.t) {
		return
	}
	for i := range h.Len() {
		if e := h.Key(i); e.Key == s.key && !e.Total {
			s.consider(h.Expires(), 1)
		}
	}
}

// Request looks up a live request id: the decision it was answered with and
// the hash of the body that came with it.
func (c Contact) Request(hash uint64, now UnixSec) (id DecisionID, body uint32, ok bool) {
	for i := range c.requests() {
		q := c.request(i)
		if le64(q) == hash && UnixSec(le32(q[12:])) > now {
			copy(id[:], q[16:])
			return id, le32(q[8:]), true
		}
	}
	return DecisionID{}, 0, false
}

// Reservation looks up a reservation. Held may be read when it is open.
func (c Contact) Reservation(id ReservationID) (Held, ReservationState) {
	for h := range c.held {
		if h.ID() == id {
			return h, ReservationOpen
		}
	}
	for i := range c.resolved() {
		r := c.resolvedAt(i)
		if le32(r) == id.Epoch && le64(r[4:]) == id.Number {
			return Held{}, ReservationState(r[12])
		}
	}
	return Held{}, ReservationUnknown
}

// HoldsNothing tells whether no reservation is open.
func (c Contact) HoldsNothing() bool { return c.opens() == 0 }

// EachReservation calls f for every open reservation, oldest first, until f
// returns false. Ones that no longer live are included until the next effect of
// the person drops them: see Held.Live.
func (c Contact) EachReservation(f func(Held) bool) { c.held(f) }

// EachRing calls f for every ring in rising order of keys until f returns false.
func (c Contact) EachRing(f func(Ring) bool) { c.ringsFrom(c.ringsAt(), f) }

// EachRequest calls f for every request id with its body hash, the end of its
// life and its decision, oldest first, until f returns false.
func (c Contact) EachRequest(f func(hash uint64, body uint32, until UnixSec, id DecisionID) bool) {
	for i := range c.requests() {
		q := c.request(i)
		if !f(le64(q), le32(q[8:]), UnixSec(le32(q[12:])), DecisionID(q[16:32])) {
			return
		}
	}
}

// KeysAway reports whether a merge or split has brought the person something in the last
// days: then idempotency keys of what happened to the person may lie in any group, and
// otherwise in the person's own alone.
func (c Contact) KeysAway(now UnixSec) bool {
	return len(c.b) > 0 && keysAway(le16(c.b[6:]), now)
}

// keysAway: days are those of groups, whose times may differ by one.
func keysAway(day uint16, now UnixSec) bool {
	return day != 0 && int(now/daySec) <= int(day)+dedupDays
}

func (c Contact) opens() int {
	if len(c.b) == 0 {
		return 0
	}
	return int(c.b[0])
}

func (c Contact) resolved() int {
	if len(c.b) == 0 {
		return 0
	}
	return int(c.b[1])
}

func (c Contact) requests() int {
	if len(c.b) == 0 {
		return 0
	}
	return int(c.b[2])
}

func (c Contact) rings() int {
	if len(c.b) == 0 {
		return 0
	}
	return int(le16(c.b[4:]))
}

func (c Contact) resolvedFrom() int { return contactHeader + int(le32(c.b[8:])) }

func (c Contact) resolvedAt(i int) []byte {
	at := c.resolvedFrom() + i*resolvedSize
	return c.b[at : at+resolvedSize]
}

func (c Contact) requestsFrom() int { return c.resolvedFrom() + c.resolved()*resolvedSize }

func (c Contact) request(i int) []byte {
	at := c.requestsFrom() + i*requestSize
	return c.b[at : at+requestSize]
}

func (c Contact) ringsAt() int {
	if len(c.b) == 0 {
		return 0
	}
	return c.requestsFrom() + c.requests()*requestSize
}

// held yields the open reservations, oldest first.
func (c Contact) held(yield func(Held) bool) {
	at := contactHeader
	for range c.opens() {
		h := Held{c.b[at:]}
		h.b = h.b[:h.size()]
		if !yield(h) {
			return
		}
		at += len(h.b)
	}
}

// firstHeld returns how many open reservations there are, and the oldest, for
// next: its bytes go on to the end of the part.
func (c Contact) firstHeld() (h Held, n int) {
	if n = c.opens(); n > 0 {
		h.b = c.b[contactHeader:]
	}
	return h, n
}

func (c Contact) ringsFrom(at int, yield func(Ring) bool) {
	for range c.rings() {
		r := Ring{c.b[at:]}
		r.b = r.b[:r.size()]
		if !yield(r) {
			return
		}
		at += len(r.b)
	}
}

// ringFrom returns the first ring of key from an offset on, or a view of nothing.
// next is where another may be: 0 = there is none.
func (c Contact) ringFrom(at int, key CounterKey) (r Ring, next int) {
	for end := c.ringsEnd(); at < end; {
		r = Ring{c.b[at:]}
		size := r.size()
		if r.Key() == key {
			r.b = r.b[:size]
			if c.b[3]&contactTagged == 0 || at+size == end {
				return r, 0
			}
			return r, at + size
		}
		at += size
	}
	return Ring{}, 0
}

// checkContact reports whether b is a contact part, so that a Contact over it
// never reads outside it. Everything it takes is written back byte for byte.
func checkContact(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	bad := func(what string) error { return fmt.Errorf("contact: %s: %w", what, ErrCorrupt) }
	const known = contactTrailer | contactTagged | contactMarked | contactPacked
	if len(b) < contactHeader || b[3]&^known != 0 {
		return bad("header")
	}
	b, ok := checkTrailer(b)
	if !ok {
		return bad("trailer")
	}
	if b, ok = checkMarks(b); !ok {
		return bad("marks")
	}
	c := Contact{b}
	if c.resolved() > resolvedMax || c.requests() > requestsMax {
		return bad("counts")
	}
	at, openEnd := contactHeader, int64(contactHeader)+int64(le32(b[8:]))
	if openEnd > int64(len(b)) {
		return bad("open reservations")
	}
	for range c.opens() {
		if at+heldHeader > int(openEnd) || at+(Held{b[at:]}).size() > int(openEnd) {
			return bad("open reservation")
		}
		at += (Held{b[at:]}).size()
	}
	if at != int(openEnd) {
		return bad("open reservations")
	}
	at += c.resolved()*resolvedSize + c.requests()*requestSize
	for range c.rings() {
		if at+ringHeader > len(b) {
			return bad("ring")
		}
		r := Ring{b[at:]}
		switch {
		case r.kind() > ringCells, r.tagSize() > 0 && b[3]&contactTagged == 0,
			r.kind() == ringTimes && (r.Room() < RingMin || r.Room() > RingMax),
			r.kind() == ringCells && r.Room() != cellsMax, r.len() > r.Room():
			return bad("ring size")
		}
		if at += r.size(); at > len(b) {
			return bad("ring")
		}
		if !r.rising() {
			return bad("ring order")
		}
	}
	if at != len(b) {
		return bad("length")
	}
	return nil
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
