package storage

import (
	"encoding/binary"
	"math"
	"slices"

	"tact/storage/journal"
)

// A contact part may end in a trailer, which the header's fourth byte says:
//
//	lease:      epoch u32 | life u32 | grace u32 | 0 u32 | id u64 | start i64 |
//	            end i64 | before i64
//	stand-ins × epoch u32 | high u32 | until u32 | grace u32 | keys u8 |
//	            flags u8 (1 origin) | more u8 | 0 u8 | keys × (cap u32 | dim u32) |
//	            origin u64?
//	n u8 | 0 u8 | trailer length u16
//
// The lease is drawn in journal.Lease; epoch 0 is none. A stand-in is a pending
// use of every counter but its keys, whose lost use a confirm has brought. One
// that an incident brings is written down when its person's lease ends or is
// written over; until then it is read off the lease and the incident. more is how many
// further lost uses it stands for, and origin whose it is when it is not the person's
// own: see MergeContacts.
const (
	contactTrailer = 1 // in the header's fourth byte
	contactTagged  = 2
	contactMarked  = 4 // marks in the form of an older version
	contactPacked  = 8 // marks, see contact_marks.go
	leaseSize      = 48
	standInHeader  = 20
	standInOrigin  = 1 // flag
	trailerEnd     = 4
	// standInsMax bounds the stand-ins of a person: one for each start after a
	// loss within the life of a reservation.
	standInsMax = 16
	// keysTakenMax bounds the keys taken off a stand-in; a further one stays on,
	// which errs to less contact.
	keysTakenMax = 255
)

// trailer returns the trailer, nil when there is none.
func (c Contact) trailer() []byte {
	if len(c.b) == 0 || c.b[3]&contactTrailer == 0 {
		return nil
	}
	return c.b[c.bodyEnd():]
}

// bodyEnd returns where the trailer begins.
func (c Contact) bodyEnd() int {
	if len(c.b) == 0 || c.b[3]&contactTrailer == 0 {
		return len(c.b)
	}
	return len(c.b) - int(le16(c.b[len(c.b)-2:]))
}

// lease returns the person's lease.
func (c Contact) lease() journal.Lease {
	t := c.trailer()
	if t == nil {
		return journal.Lease{}
	}
	return parseLease(t)
}

func parseLease(t []byte) journal.Lease {
	return journal.Lease{
		Epoch: le32(t), Life: le32(t[4:]), Grace: le32(t[8:]), ID: le64(t[16:]),
		Start: journal.Msec(le64(t[24:])), End: journal.Msec(le64(t[32:])),
		Before: journal.Msec(le64(t[40:])),
	}
}

func appendLease(b []byte, l *journal.Lease) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, l.Epoch)
	b = le.AppendUint32(b, l.Life)
	b = le.AppendUint32(b, l.Grace)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, l.ID)
	b = le.AppendUint64(b, uint64(l.Start))
	b = le.AppendUint64(b, uint64(l.End))
	return le.AppendUint64(b, uint64(l.Before))
}

// A standIn is a pending use that an incident brought.
type standIn struct {
	epoch uint32
	high  UnixSec // the start after the loss
	until UnixSec // latest time of the lost use
	grace uint32
	from  Origin // 0 = of the person's own lease
	more  uint8  // further lost uses that it stands for
	keys  []byte // of the counters it does not count on
}

func (p standIn) live(t Instant) bool {
	return uint64(t.Now) < releaseAt(p.high, p.until, p.grace, t.Floor)
}

func (p standIn) counts(key CounterKey) bool {
	for k := p.keys; len(k) > 0; k = k[8:] {
		if (CounterKey{Cap: Name(le32(k)), Dim: le32(k[4:])}) == key {
			return false
		}
	}
	return true
}

func parseStandIn(b []byte) (p standIn, size int) {
	size = standInHeader + 8*int(b[16])
	p = standIn{
		epoch: le32(b), high: UnixSec(le32(b[4:])), until: UnixSec(le32(b[8:])),
		grace: le32(b[12:]), more: b[18], keys: b[standInHeader:size:size],
	}
	if b[17]&standInOrigin != 0 {
		p.from = Origin(le64(b[size:]))
		size += heldOriginSize
	}
	return p, size
}

func (p *standIn) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, p.epoch)
	b = le.AppendUint32(b, uint32(p.high))
	b = le.AppendUint32(b, uint32(p.until))
	b = le.AppendUint32(b, p.grace)
	flags := byte(0)
	if p.from != 0 {
		flags = standInOrigin
	}
	b = append(b, byte(len(p.keys)/8), flags, p.more, 0)
	b = append(b, p.keys...)
	if p.from != 0 {
		b = le.AppendUint64(b, uint64(p.from))
	}
	return b
}

// checkStandIn returns the size of the first stand-in of b; 0: there is no whole one.
func checkStandIn(b []byte) int {
	if len(b) < standInHeader || b[17]&^standInOrigin != 0 || b[19] != 0 {
		return 0
	}
	size := standInHeader + 8*int(b[16])
	if b[17]&standInOrigin != 0 {
		if size += heldOriginSize; size > len(b) || le64(b[size-heldOriginSize:]) == 0 {
			return 0
		}
	}
	if size > len(b) {
		return 0
	}
	return size
}

// standInOf is the stand-in that an incident brings for a lease.
func standInOf(in *Incident, l *journal.Lease) standIn {
	high := secondUp(in.High)
	return standIn{epoch: in.Epoch, high: high, until: high + UnixSec(l.Life), grace: l.Grace}
}

// standIns calls yield for every stand-in that lives at t: those written down,
// and the one that the lease's incident brings.
func (c Contact) standIns(t Instant, yield func(standIn) bool) {
	tr := c.trailer()
	if tr == nil || t.certain {
		return
	}
	written := int(tr[len(tr)-trailerEnd])
	if written == 0 && len(t.incidents) == 0 {
		return
	}
	l := parseLease(tr)
	charged := false
	at := leaseSize
	for range written {
		p, size := parseStandIn(tr[at:])
		charged = charged || p.epoch == l.Epoch && p.from == 0
		if p.live(t) && !yield(p) {
			return
		}
		at += size
	}
	if charged || l.Epoch == 0 {
		return
	}
	if in, ok := t.incidents.of(l.Epoch); ok && in.Charges(l) {
		if p := standInOf(&in, &l); p.live(t) {
			yield(p)
		}
	}
}

// A StandIn is a use that may have been lost with the power: until its owner's
// confirm comes or its time has passed it counts on every counter of contacts that
// the person has.
type StandIn struct {
	Start UnixSec // of the store, after the loss
	Until UnixSec // latest time that the lost use may have: it counts as one of then
}

// EachStandIn calls f for every stand-in that counts on a counter at t, until f
// returns false.
func (c Contact) EachStandIn(key CounterKey, t Instant, f func(StandIn) bool) {
	c.standIns(t, func(p standIn) bool {
		for n := 0; n <= int(p.more) && p.counts(key); n++ {
			if !f(StandIn{p.high, p.until}) {
				return false
			}
		}
		return true
	})
}

// checkTrailer reports whether the trailer of a contact part is whole, and
// returns the part without it.
func checkTrailer(b []byte) (body []byte, ok bool) {
	if b[3]&contactTrailer == 0 {
		return b, true
	}
	n := int(le16(b[len(b)-2:]))
	if n < leaseSize+trailerEnd || n > len(b)-contactHeader || b[len(b)-3] != 0 {
		return nil, false
	}
	body, tr := b[:len(b)-n], b[len(b)-n:]
	count := int(tr[n-trailerEnd])
	at, end := leaseSize, n-trailerEnd
	for range count {
		size := checkStandIn(tr[at:end])
		if size == 0 {
			return nil, false
		}
		at += size
	}
	empty := count == 0 && le32(tr) == 0
	return body, at == end && count <= standInsMax && le32(tr[12:]) == 0 && !empty
}

// loadTrailer takes the trailer into the draft.
func (d *contactDraft) loadTrailer(c Contact) {
	d.lease, d.standIns, d.nStandIns = journal.Lease{}, d.standIns[:0], 0
	if t := c.trailer(); t != nil {
		d.lease = parseLease(t)
		d.standIns = append(d.standIns, t[leaseSize:len(t)-trailerEnd]...)
		d.nStandIns = int(t[len(t)-trailerEnd])
	}
}

func (d *contactDraft) hasTrailer() bool { return d.lease.Epoch != 0 || d.nStandIns > 0 }

// appendTrailer packs the trailer behind dst.
func (d *contactDraft) appendTrailer(dst []byte) []byte {
	if !d.hasTrailer() {
		return dst
	}
	from := len(dst)
	dst = appendLease(dst, &d.lease)
	dst = append(dst, d.standIns...)
	dst = append(dst, byte(d.nStandIns), 0)
	return binary.LittleEndian.AppendUint16(dst, uint16(len(dst)-from+2))
}

// sweepLease drops stand-ins that no longer live, and a lease that has ended,
// after what an incident charges for it is written down.
func (d *contactDraft) sweepLease(t Instant) {
	for at := 0; at < len(d.standIns); {
		p, size := parseStandIn(d.standIns[at:])
		if p.live(t) {
			at += size
			continue
		}
		d.standIns = slices.Delete(d.standIns, at, at+size)
		d.nStandIns--
		d.released++
	}
	if d.lease.Epoch != 0 && secondUp(d.lease.End) < t.Now {
		d.charge(t)
		d.lease = journal.Lease{}
	}
}

// charge writes down the stand-in that an incident brings for the lease.
func (d *contactDraft) charge(t Instant) {
	in, ok := t.incidents.of(d.lease.Epoch)
	if !ok || d.lease.Epoch == 0 || !in.Charges(d.lease) || d.findStandIn(in.Epoch) >= 0 {
		return
	}
	p := standInOf(&in, &d.lease)
	if !p.live(t) {
		return
	}
	if d.nStandIns == standInsMax {
		p.join(d.dropStandIn())
	}
	d.standIns = p.append(d.standIns)
	d.nStandIns++
	d.charged++
}

// dropStandIn takes the oldest stand-in out.
func (d *contactDraft) dropStandIn() standIn {
	p, size := parseStandIn(d.standIns)
	p.keys = nil // they lie where others will
	d.standIns = slices.Delete(d.standIns, 0, size)
	d.nStandIns--
	return p
}

// join lets the stand-in stand for the uses of another as well, at the latest moment
// and of every counter that either of them counts on: that errs to less contact.
func (p *standIn) join(o standIn) {
	p.high, p.until = max(p.high, o.high), max(p.until, o.until)
	p.grace, p.keys = max(p.grace, o.grace), nil
	p.more = uint8(min(int(p.more)+int(o.more)+1, math.MaxUint8))
}

// renew begins a lease, after the one before is charged.
func (d *contactDraft) renew(l *journal.Lease, t Instant) {
	if l.Epoch != 0 {
		d.charge(t)
		d.lease = *l
	}
}

// takeStandIn takes the stand-in of an epoch off a counter: the lost use itself
// has come.
func (d *contactDraft) takeStandIn(epoch uint32, key CounterKey, t Instant) {
	if d.lease.Epoch == epoch {
		d.charge(t)
	}
	for at := 0; at < len(d.standIns); {
		p, size := parseStandIn(d.standIns[at:])
		if p.epoch == epoch && p.more == 0 && d.standIns[at+16] < keysTakenMax && p.counts(key) {
			var k [8]byte
			binary.LittleEndian.PutUint32(k[:], uint32(key.Cap))
			binary.LittleEndian.PutUint32(k[4:], key.Dim)
			d.standIns = slices.Insert(d.standIns, at+standInHeader+len(p.keys), k[:]...)
			d.standIns[at+16]++
			d.taken++
			return
		}
		at += size
	}
}

// findStandIn returns where the person's own stand-in of an epoch lies, or -1.
func (d *contactDraft) findStandIn(epoch uint32) int {
	for at := 0; at < len(d.standIns); {
		p, size := parseStandIn(d.standIns[at:])
		if p.epoch == epoch && p.from == 0 {
			return at
		}
		at += size
	}
	return -1
}
