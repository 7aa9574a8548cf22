package storage

import (
	"encoding/binary"
	"fmt"
	"slices"

	"tact/storage/journal"
)

// A contactDraft is a contact part taken apart into its sections, each in its
// stored form. It is kept from one effect to the next for its memory, so that a
// steady state allocates nothing.
type contactDraft struct {
	open      []byte
	opens     int
	tagged    bool       // some ring has an origin
	away      uint16     // see Contact
	marks     []byte     // packed
	used      []usedMark // the marks, while they are taken apart
	resolved  []byte
	requests  []byte
	rings     []byte
	nRings    int
	given     []HeldKey // total keys that were released
	confirmed []HeldKey // total keys that became uses
	moved     []move    // of confirmed, those that changed their window

	self      Origin // the person, as an origin
	lease     journal.Lease
	standIns  []byte
	nStandIns int

	charged, released, taken uint64 // stand-ins, since the state was made
	// forgot is the newest reservation of the group that a list of resolved ones has let
	// go, of whichever person, since the state was made.
	forgot ReservationID
}

// A move takes one use of a total out of a window into an earlier one.
type move struct {
	key      CounterKey
	from, to uint32
	units    int64
}

func (d *contactDraft) load(c Contact) {
	d.open, d.resolved = d.open[:0], d.resolved[:0]
	d.requests, d.rings = d.requests[:0], d.rings[:0]
	d.given, d.confirmed, d.moved = d.given[:0], d.confirmed[:0], d.moved[:0]
	d.opens, d.nRings, d.away = c.opens(), c.rings(), 0
	d.loadMarks(c)
	d.tagged = !c.Empty() && c.b[3]&contactTagged != 0
	d.loadTrailer(c)
	if c.Empty() {
		return
	}
	d.away = le16(c.b[6:])
	d.open = append(d.open, c.b[contactHeader:c.resolvedFrom()]...)
	d.resolved = append(d.resolved, c.b[c.resolvedFrom():c.requestsFrom()]...)
	d.requests = append(d.requests, c.b[c.requestsFrom():c.ringsAt()]...)
	d.rings = append(d.rings, c.b[c.ringsAt():c.ringsEnd()]...)
}

// append packs the draft behind dst; an empty one appends nothing.
func (d *contactDraft) append(dst []byte) []byte {
	if len(d.open)+len(d.resolved)+len(d.requests)+len(d.rings)+len(d.marks) == 0 &&
		d.away == 0 && !d.hasTrailer() {
		return dst
	}
	var flags byte
	if d.hasTrailer() {
		flags = contactTrailer
	}
	if d.tagged {
		flags |= contactTagged
	}
	if len(d.marks) > 0 {
		flags |= contactPacked
	}
	le := binary.LittleEndian
	dst = append(dst, byte(d.opens), byte(len(d.resolved)/resolvedSize),
		byte(len(d.requests)/requestSize), flags)
	dst = le.AppendUint16(dst, uint16(d.nRings))
	dst = le.AppendUint16(dst, d.away)
	dst = le.AppendUint32(dst, uint32(len(d.open)))
	dst = append(dst, d.open...)
	dst = append(dst, d.resolved...)
	dst = append(dst, d.requests...)
	dst = append(dst, d.rings...)
	return d.appendTrailer(d.appendMarks(dst))
}

// sweep drops what has run out at t: reservations that no longer live, which
// become resolved, and request ids.
func (d *contactDraft) sweep(t Instant) {
	d.sweepLease(t)
	if d.tagged {
		d.sweepOrigins(t.Now)
	}
	if !keysAway(d.away, t.Now) {
		d.away = 0
	}
	for at := 0; at < len(d.open); {
		h := d.heldAt(at)
		if h.Live(t) {
			at += h.size()
			continue
		}
		d.release(at)
	}
	for at := 0; at < len(d.requests); {
		if UnixSec(le32(d.requests[at+12:])) <= t.Now {
			d.requests = slices.Delete(d.requests, at, at+requestSize)
			continue
		}
		at += requestSize
	}
}

// reserve adds an open reservation. One that is here already is left alone.
func (d *contactDraft) reserve(e *ReserveEffect) error {
	if d.find(e.ID) >= 0 || d.isResolved(e.ID) {
		return nil
	}
	if d.opens >= MaxOpenReservations {
		return fmt.Errorf("%d open reservations: %w", d.opens, ErrTooLarge)
	}
	d.open = appendHeldOf(d.open, e)
	d.opens++
	return nil
}

// confirm moves the keys of a reservation whose CountOn meets e's into the
// rings, those of totals into the windows of e. Nothing happens when it is not
// open.
func (d *contactDraft) confirm(e *ResolveEffect) {
	at := d.find(e.ID)
	if at < 0 {
		return
	}
	h := d.heldAt(at)
	use := min(max(e.At, h.Granted()), h.Expires())
	left, counted := h.Len(), false
	for i := 0; i < left; {
		k := h.Key(i)
		if k.CountOn&e.CountOn == 0 {
			i++
			continue
		}
		if k.Total {
			d.confirmTotal(k, e.Windows)
		} else {
			d.use(k, use)
			counted = true
		}
		from := at + heldHeader + i*heldKeySize
		d.open = slices.Delete(d.open, from, from+heldKeySize)
		left--
		d.open[at+37] = byte(left)
		d.open[at+38] |= heldSomeConfirmed
		h = d.heldAt(at)
	}
	if counted {
		d.mark(use, e.CountOn, &e.Mark)
	}
	if left == 0 && h.someConfirmed() {
		d.resolve(at, ReservationConfirmed)
	}
}

// confirmTotal counts a use of a total in the window it happened in, when that is
// known and not behind the one it was held in.
func (d *contactDraft) confirmTotal(k HeldKey, windows []TotalKey) {
	for _, w := range windows {
		if w.CounterKey == k.Key && w.Window < k.Window {
			d.moved = append(d.moved, move{k.Key, k.Window, w.Window, k.Units()})
			k.Window = w.Window
			break
		}
	}
	d.confirmed = append(d.confirmed, k)
}

// releaseID gives back what a reservation still holds.
func (d *contactDraft) releaseID(id ReservationID) {
	if at := d.find(id); at >= 0 {
		d.release(at)
	}
}

func (d *contactDraft) release(at int) {
	h := d.heldAt(at)
	for i := range h.Len() {
		if k := h.Key(i); k.Total {
			d.given = append(d.given, k)
		}
	}
	to := ReservationReleased
	if h.someConfirmed() {
		to = ReservationPartly
	}
	d.resolve(at, to)
}

// resolve takes the reservation at out and remembers what became of it.
func (d *contactDraft) resolve(at int, to ReservationState) {
	h := d.heldAt(at)
	if len(d.resolved) == resolvedMax*resolvedSize {
		d.forgets(d.resolved[:resolvedSize])
		d.resolved = slices.Delete(d.resolved, 0, resolvedSize)
	}
	d.resolved = append(d.resolved, h.b[:12]...)
	d.resolved = append(d.resolved, byte(to), 0, 0, 0)
	d.open = slices.Delete(d.open, at, at+h.size())
	d.opens--
}

// forgets notes that resolved reservations are no longer known.
func (d *contactDraft) forgets(resolved []byte) {
	for ; len(resolved) > 0; resolved = resolved[resolvedSize:] {
		id := ReservationID{le32(resolved), le64(resolved[4:])}
		own := id.Number>>48 == uint64(d.self)>>48
		if own && (id.Epoch > d.forgot.Epoch ||
			id.Epoch == d.forgot.Epoch && id.Number > d.forgot.Number) {
			d.forgot = id
		}
	}
}

// use counts one use of a key at a time. A full ring loses its oldest use.
func (d *contactDraft) use(k HeldKey, use UnixSec) {
	at := d.ringAt(k)
	r := Ring{d.rings[at:]}
	if k.Coarse != CoarseNone || r.kind() == ringCells {
		d.useCell(at, &k, use)
		return
	}
	n, le := r.len(), binary.LittleEndian
	room := max(r.Room(), ringRoom(k.Limit))
	r.b[8] = byte(room)
	i := n
	for i > 0 && r.time(i-1) > use {
		i--
	}
	if n < room {
		from := at + ringHeader + 4*i
		d.rings = slices.Insert(d.rings, from, 0, 0, 0, 0)
		le.PutUint32(d.rings[from:], uint32(use))
		d.rings[at+9]++
		return
	}
	if i == 0 {
		le.PutUint32(r.b[12:], uint32(max(r.dropped(), use)))
		return
	}
	le.PutUint32(r.b[12:], uint32(max(r.dropped(), r.time(0))))
	copy(r.b[ringHeader:], r.b[ringHeader+4:ringHeader+4*i])
	le.PutUint32(r.b[ringHeader+4*(i-1):], uint32(use))
}

// ringAt returns where the ring of a key begins, making it.
func (d *contactDraft) ringAt(k HeldKey) int {
	at := 0
	for at < len(d.rings) {
		r := Ring{d.rings[at:]}
		switch have := r.Key(); {
		case have == k.Key && r.tagSize() == 0:
			return at
		case have == k.Key, have.Cap > k.Key.Cap || have.Cap == k.Key.Cap && have.Dim > k.Key.Dim:
			d.insertRing(at, k)
			return at
		}
		at += r.size()
	}
	d.insertRing(at, k)
	return at
}

func (d *contactDraft) insertRing(at int, k HeldKey) {
	var b [ringHeader]byte
	binary.LittleEndian.PutUint32(b[0:], uint32(k.Key.Cap))
	binary.LittleEndian.PutUint32(b[4:], k.Key.Dim)
	b[8] = byte(ringRoom(k.Limit))
	d.rings = slices.Insert(d.rings, at, b[:]...)
	d.nRings++
}

// ringRoom returns how many uses a ring keeps for a limit.
func ringRoom(limit uint8) int { return min(max(int(limit), RingMin), RingMax) }

// answer enters a request id with the decision it was answered with. The oldest
// of more than four leaves.
func (d *contactDraft) answer(e *DecisionEffect) {
	for at := 0; at < len(d.requests); at += requestSize {
		if le64(d.requests[at:]) == e.Request {
			d.requests = slices.Delete(d.requests, at, at+requestSize)
			break
		}
	}
	if len(d.requests) == requestsMax*requestSize {
		d.requests = slices.Delete(d.requests, 0, requestSize)
	}
	le := binary.LittleEndian
	d.requests = le.AppendUint64(d.requests, e.Request)
	d.requests = le.AppendUint32(d.requests, e.Body)
	d.requests = le.AppendUint32(d.requests, uint32(e.Until))
	d.requests = append(d.requests, e.ID[:]...)
}

// keep marks the reservations that a later decision was answered with too.
func (d *contactDraft) keep(ids []ReservationID) {
	for _, id := range ids {
		if at := d.find(id); at >= 0 {
			d.open[at+38] |= heldKept
		}
	}
}

// find returns where an open reservation begins, or -1.
func (d *contactDraft) find(id ReservationID) int {
	for at := 0; at < len(d.open); {
		h := d.heldAt(at)
		if h.ID() == id {
			return at
		}
		at += h.size()
	}
	return -1
}

func (d *contactDraft) isResolved(id ReservationID) bool {
	for at := 0; at < len(d.resolved); at += resolvedSize {
		if le32(d.resolved[at:]) == id.Epoch && le64(d.resolved[at+4:]) == id.Number {
			return true
		}
	}
	return false
}

func (d *contactDraft) heldAt(at int) Held {
	h := Held{d.open[at:]}
	h.b = h.b[:h.size()]
	return h
}

func (h Held) someConfirmed() bool { return h.b[38]&heldSomeConfirmed != 0 }

func (h Held) hasTotal() bool {
	for i := range h.Len() {
		if h.Key(i).Total {
			return true
		}
	}
	return false
}
