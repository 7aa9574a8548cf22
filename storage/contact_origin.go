package storage

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"tact/storage/journal"
)

// Origins keep the uses of people apart that a merge has united. Every ring and
// every open reservation that came with a merge carries the person it came from;
// what the survivor had, and whatever happens after the merge, carries none. All
// of them count. A split takes out what carries one of some origins; the tag of a
// ring ends when the longest window has passed, and its uses join the survivor's.

// An Origin names a person of the store in what a merge has united; 0 = nobody.
type Origin uint64

// Origin returns the name of the person as an origin: the group in the upper 16
// bits, the person's id below.
func (p PersonRef) Origin() Origin { return Origin(p.Group)<<48 | Origin(p.Person)&(1<<48-1) }

// Origin returns the person that the uses of the ring came from in a merge, and
// until when that is known; 0 = they are the person's own.
func (r Ring) Origin() (from Origin, until UnixSec) {
	if r.tagSize() == 0 {
		return 0, 0
	}
	tag := r.b[r.entries():]
	return Origin(le64(tag)), UnixSec(le32(tag[8:]))
}

// Origin returns the person that the reservation came from in a merge; 0 = it is
// the person's own.
func (h Held) Origin() Origin {
	if h.b[38]&heldHasOrigin == 0 {
		return 0
	}
	return Origin(le64(h.b[len(h.b)-heldOriginSize:]))
}

func (r Ring) tagSize() int {
	if len(r.b) == 0 || r.b[10]&ringTagged == 0 {
		return 0
	}
	return ringTagSize
}

// entries returns where the entries end.
func (r Ring) entries() int {
	if r.kind() == ringCells {
		return ringHeader + cellSize*r.len()
	}
	return ringHeader + 4*r.len()
}

// appendRing appends a ring under another origin; 0 = none.
func appendRing(dst []byte, r Ring, from Origin, until UnixSec) []byte {
	at := len(dst)
	dst = append(dst, r.b[:r.entries()]...)
	dst[at+10] &^= ringTagged
	if from != 0 {
		dst[at+10] |= ringTagged
		dst = binary.LittleEndian.AppendUint64(dst, uint64(from))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(until))
	}
	return dst
}

// appendHeld appends a reservation under another origin; 0 = none.
func appendHeld(dst []byte, h Held, from Origin) []byte {
	at, b := len(dst), h.b
	if h.Origin() != 0 {
		b = b[:len(b)-heldOriginSize]
	}
	dst = append(dst, b...)
	dst[at+38] &^= heldHasOrigin
	if from != 0 {
		dst[at+38] |= heldHasOrigin
		dst = binary.LittleEndian.AppendUint64(dst, uint64(from))
	}
	return dst
}

// rings yields the draft's rings with where they begin.
func (d *contactDraft) eachRing(yield func(at int, r Ring) bool) {
	for at := 0; at < len(d.rings); {
		r := Ring{d.rings[at:]}
		r.b = r.b[:r.size()]
		if !yield(at, r) {
			return
		}
		at += len(r.b)
	}
}

// sweepOrigins ends the tags whose time has come: their uses join the person's own.
func (d *contactDraft) sweepOrigins(now UnixSec) {
	d.tagged = false
	for at := 0; at < len(d.rings); {
		r := Ring{d.rings[at:]}
		r.b = r.b[:r.size()]
		from, until := r.Origin()
		if from == 0 || until > now {
			d.tagged = d.tagged || from != 0
			at += len(r.b)
			continue
		}
		own := Ring{slices.Clone(r.b)}
		d.rings = slices.Delete(d.rings, at, at+len(r.b))
		d.nRings--
		d.pour(own)
		at = 0 // the person's own may stand before it and have grown
	}
}

// pour adds the uses of a ring to the person's own.
func (d *contactDraft) pour(r Ring) {
	k := HeldKey{Key: r.Key(), Limit: uint8(r.Room())}
	if r.kind() == ringTimes {
		if r.dropped() > 0 {
			at := d.ringAt(k)
			d.lose(at, r.dropped())
		}
		for i := range r.len() {
			d.use(k, r.time(i))
		}
		return
	}
	at := d.ringAt(k)
	if (Ring{d.rings[at:]}).kind() == ringTimes {
		d.toCells(at, &k)
	}
	latest := max(le32(d.rings[at+12:]), uint32(r.latest()))
	binary.LittleEndian.PutUint32(d.rings[at+12:], latest)
	for i := range r.len() {
		d.addCell(at, le32(r.b[ringHeader+cellSize*i:]), r.uses(i))
	}
}

// lose notes that a use has left the person's own ring.
func (d *contactDraft) lose(at int, when UnixSec) {
	r := Ring{d.rings[at:]}
	if r.kind() == ringCells {
		d.addCell(at, uint32(when)+1, cellUnknown)
		return
	}
	binary.LittleEndian.PutUint32(r.b[12:], uint32(max(r.dropped(), when)))
	for n := r.len(); n > 0 && r.time(0) < when; n = r.len() { // the ring keeps newer uses only
		d.rings = slices.Delete(d.rings, at+ringHeader, at+ringHeader+4)
		d.rings[at+9]--
		r = Ring{d.rings[at:]}
	}
}

// cede takes out what carries one of some origins, or everything when none is
// named, and returns it as a contact part of its own: under the first origin
// named as the person's own, under others still under them. What is resolved, marks, and
// the stand-ins of lost reservations, stand in both: nobody can tell whose lost use a
// confirm has brought. A lease stays, or ends with
// everything: whoever cedes has no grant that is not durable.
func (d *contactDraft) cede(origins []Origin, t Instant) []byte {
	d.charge(t)
	whole := len(origins) == 0
	var out contactDraft
	out.resolved, out.marks = slices.Clone(d.resolved), slices.Clone(d.marks)
	takes := func(from Origin) (Origin, bool) {
		switch {
		case whole:
			return from, true
		case from == 0 || !slices.Contains(origins, from):
			return 0, false
		case from == origins[0]:
			return 0, true
		}
		return from, true
	}
	for p := range eachStandIn(d.standIns) {
		switch {
		case whole:
		case p.from == 0:
			p.from = d.self
		case p.from == origins[0]:
			p.from = 0
		}
		out.standIns, out.nStandIns = p.append(out.standIns), out.nStandIns+1
	}
	var open, rings []byte
	opens, nRings := 0, 0
	for at := 0; at < len(d.open); {
		h := d.heldAt(at)
		at += len(h.b)
		if from, ok := takes(h.Origin()); ok {
			out.open, out.opens = appendHeld(out.open, h, from), out.opens+1
			continue
		}
		open, opens = append(open, h.b...), opens+1
	}
	d.tagged = false
	for _, r := range d.eachRing {
		from, until := r.Origin()
		if to, ok := takes(from); ok {
			out.rings, out.nRings = appendRing(out.rings, r, to, until), out.nRings+1
			out.tagged = out.tagged || to != 0
			continue
		}
		rings, nRings = append(rings, r.b...), nRings+1
		d.tagged = d.tagged || from != 0
	}
	d.open, d.opens, d.rings, d.nRings = open, opens, rings, nRings
	if whole {
		d.forgets(d.resolved)
		d.resolved, d.requests, d.marks = d.resolved[:0], d.requests[:0], d.marks[:0]
		d.standIns, d.nStandIns, d.lease = d.standIns[:0], 0, journal.Lease{}
		d.away = 0
	}
	return out.append(nil)
}

// absorb takes a ceded part in: what is the ceding person's own under its origin,
// what has one under that. An origin of 0 gives a person back what is its own. The
// stand-ins of both count on: each may have lost one reservation in the same loss.
// ErrTooLarge when there are too many open reservations or stand-ins; then nothing
// has changed.
func (d *contactDraft) absorb(part Contact, in *AbsorbEffect, t Instant) error {
	from, until := in.Origin, in.Until
	if d.opens+part.opens() > MaxOpenReservations {
		return fmt.Errorf("%d and %d open reservations: %w", d.opens, part.opens(), ErrTooLarge)
	}
	d.charge(t)
	if err := d.absorbStandIns(part, from); err != nil {
		return err
	}
	d.away = uint16(t.Now / daySec)
	for h := range part.held {
		to := h.Origin()
		if to == 0 {
			to = from
		}
		if d.find(h.ID()) < 0 {
			d.open, d.opens = appendHeld(d.open, h, to), d.opens+1
		}
	}
	for r := range part.allRings {
		to, end := r.Origin()
		if to == 0 {
			to, end = from, until
		}
		if to == 0 {
			d.pour(r)
			continue
		}
		d.insertTagged(r, to, end)
	}
	d.absorbResolved(part)
	d.absorbMarks(part)
	return nil
}

// absorbStandIns adds the stand-ins of a part, whose own are from's, 0 = the person's. A
// split leaves all of them on both sides, and what came of the same lease is one again
// when they meet: it counts on each counter that either of them counts on. So the number
// of stand-ins is at most that of the losses of the people that are united.
func (d *contactDraft) absorbStandIns(part Contact, from Origin) error {
	all := slices.Collect(eachStandIn(d.standIns))
	met := make([]bool, len(all))
	for p := range eachStandIn(part.standInBytes()) {
		switch p.from {
		case 0:
			p.from = from
		case d.self:
			p.from = 0
		}
		same := func(i int) bool {
			return !met[i] && all[i].epoch == p.epoch && all[i].from == p.from
		}
		at := 0
		for at < len(met) && !same(at) {
			at++
		}
		if at == len(met) {
			all = append(all, p)
			continue
		}
		met[at] = true
		all[at].meet(p)
	}
	if len(all) > standInsMax {
		return fmt.Errorf("%d and %d stand-ins of lost reservations: %w", len(met),
			len(all)-len(met), ErrTooLarge)
	}
	d.standIns, d.nStandIns = nil, len(all)
	for i := range all {
		d.standIns = all[i].append(d.standIns)
	}
	return nil
}

// meet makes one of two copies of a stand-in: no later than the later, on no fewer
// counters than either.
func (p *standIn) meet(o standIn) {
	p.high, p.until = max(p.high, o.high), max(p.until, o.until)
	p.grace, p.more = max(p.grace, o.grace), max(p.more, o.more)
	var both []byte
	for k := p.keys; len(k) > 0; k = k[8:] {
		if !o.counts(CounterKey{Cap: Name(le32(k)), Dim: le32(k[4:])}) {
			both = append(both, k[:8]...)
		}
	}
	p.keys = both
}

func eachStandIn(b []byte) iter.Seq[standIn] {
	return func(yield func(standIn) bool) {
		for len(b) > 0 {
			p, size := parseStandIn(b)
			if b = b[size:]; !yield(p) {
				return
			}
		}
	}
}

// absorbResolved keeps the newest of what is resolved on both sides: at least the
// newest half of the room of each.
func (d *contactDraft) absorbResolved(part Contact) {
	if part.Empty() {
		return
	}
	var theirs []byte
	for i := range part.resolved() {
		r := part.resolvedAt(i)
		if !d.isResolved(ReservationID{le32(r), le64(r[4:])}) {
			theirs = append(theirs, r...)
		}
	}
	half := resolvedMax / 2 * resolvedSize
	mine := max(resolvedMax*resolvedSize-len(theirs), half)
	cut := max(0, len(d.resolved)-mine)
	d.forgets(d.resolved[:cut])
	d.resolved = d.resolved[cut:]
	room := resolvedMax*resolvedSize - len(d.resolved)
	cut = max(0, len(theirs)-room)
	d.forgets(theirs[:cut])
	theirs = theirs[cut:]
	d.resolved = slices.Concat(theirs, d.resolved)
}

// insertTagged adds a ring under an origin, behind the others of its counter. Uses
// that came from the same person before are united with it.
func (d *contactDraft) insertTagged(r Ring, from Origin, until UnixSec) {
	to := len(d.rings)
	key := r.Key()
	for at, have := range d.eachRing {
		k := have.Key()
		if origin, _ := have.Origin(); k == key && origin == from {
			d.pour(Ring{appendRing(nil, r, 0, 0)})
			return
		}
		if k.Cap > key.Cap || k.Cap == key.Cap && k.Dim > key.Dim {
			to = at
			break
		}
	}
	d.rings = slices.Insert(d.rings, to, appendRing(nil, r, from, until)...)
	d.nRings++
	d.tagged = true
}

func (c Contact) allRings(yield func(Ring) bool) { c.ringsFrom(c.ringsAt(), yield) }

// standInBytes are the stand-ins that are written down.
func (c Contact) standInBytes() []byte {
	if t := c.trailer(); t != nil {
		return t[leaseSize : len(t)-trailerEnd]
	}
	return nil
}
