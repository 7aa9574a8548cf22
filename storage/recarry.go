package storage

import (
	"errors"
	"fmt"

	"tact/storage/journal"
)

// A decision that holds a use goes into the journal with its reservations, so
// that whoever asks again, or names it by its id, finds it after the frame is
// gone. It is cut into parts: part u8 | parts u8 | bytes of the clear part of an
// EffectDecision. Its personal side lies in the frame only.
const (
	partHead  = 2
	partBytes = journal.MaxPayload - partHead
	partsMax  = 16
)

// carryDecision puts a decision's parts into the journal, behind its
// reservations; clear is its clear part. It returns the number of the last one; 0 says
// that the journal does not take them, and why tells the cause.
func (g *Group) carryDecision(
	e *Effect, frame uint64, clear []byte,
) (number uint64, why WaitCause) {
	s := &g.grant
	parts := (len(clear) + partBytes - 1) / partBytes
	if parts > partsMax {
		return 0, WaitSize
	}
	g.describe(e, g.mu.state.row(e.Ord), &s.record)
	s.record.Kind, s.record.Frame = journal.Part, frame
	s.ask = journal.Ask{}
	for i := range parts {
		body := clear[i*partBytes : min((i+1)*partBytes, len(clear))]
		s.part = append(append(s.part[:0], byte(i), byte(parts)), body...)
		s.record.Payload = s.part
		if number, _ = g.store.carry.j.Put(&s.record, &s.ask); number == 0 {
			return 0, WaitFull
		}
	}
	return number, WaitNone
}

// A record of a reservation and its decision holds the clear parts of both, but for
// what the record's head says and for what a decision without a request_id leaves
// empty:
//
//	flags u8 (1 request) | length u8 | clear part of the reservation behind its id |
//	decision id 16 | (request u64 | body u32 | until u32)? | the rest of its clear part
const (
	jointHead    = 2
	jointRequest = 1  // flag
	clearID      = 12 // of a reservation: epoch u32, number u64
	decisionHead = 32
	requestAt    = 16
)

// joinHeld makes one record of the reservation that Hold has left and of the decision
// that was appended last, where they fit into one and are of one person.
func (g *Group) joinHeld(e *Effect) bool {
	s := &g.grant
	if !s.open || s.ticket.Waits() || e.Ord != Ord(s.record.Ord) {
		return false
	}
	reserve, decision := g.mu.open.buf[s.from:s.to], g.mu.open.lastClear()
	if len(reserve)+len(decision) > journal.MaxPayload+clearID+decisionHead-requestAt-jointHead ||
		le32(reserve) != g.store.epoch || le64(reserve[4:]) != s.record.ID {
		return false
	}
	s.part = appendJoint(s.part[:0], reserve, decision)
	if len(s.part) > journal.MaxPayload {
		return false
	}
	s.record.Kind, s.record.Payload, s.open = journal.Grant, s.part, false
	return true
}

func appendJoint(b, reserve, decision []byte) []byte {
	b = append(b, 0, byte(len(reserve)-clearID))
	b = append(b, reserve[clearID:]...)
	if le64(decision[requestAt:])|le64(decision[requestAt+8:]) != 0 {
		b[0] = jointRequest
		return append(b, decision...)
	}
	b = append(b, decision[:requestAt]...)
	return append(b, decision[decisionHead:]...)
}

// parseJoint appends to dst the clear parts of the reservation and of the decision of a
// record, one behind the other, and returns where the second begins; ok is false when
// the payload is none that appendJoint makes.
func parseJoint(dst []byte, r *journal.Record) (both []byte, at int, ok bool) {
	b := r.Payload
	if len(b) < jointHead || b[0]&^jointRequest != 0 || len(b) < jointHead+int(b[1])+requestAt {
		return dst, 0, false
	}
	flags, reserve, decision := b[0], b[jointHead:jointHead+int(b[1])], b[jointHead+int(b[1]):]
	dst = appendReservationID(dst, ReservationID{r.Epoch, r.ID})
	dst = append(dst, reserve...)
	at = len(dst)
	if flags&jointRequest == 0 {
		dst = append(dst, decision[:requestAt]...)
		dst = append(dst, make([]byte, decisionHead-requestAt)...)
		return append(dst, decision[requestAt:]...), at, true
	}
	ok = len(decision) >= decisionHead && le64(decision[requestAt:])|le64(decision[requestAt+8:]) != 0
	return append(dst, decision...), at, ok
}

// partReader puts decisions together again. Parts of one group come in the order
// they were put; a decision of which one is missing is not there.
type partReader struct {
	whole []byte
	next  int // part that is due
	of    int
	frame uint64
	ord   uint32
}

// add takes a part, and returns the decision's bytes when it was the last.
func (p *partReader) add(r *journal.Record) (clear []byte, whole bool) {
	b := r.Payload
	if len(b) < partHead || b[0] >= b[1] || b[1] > partsMax {
		p.of = 0
		return nil, false
	}
	if b[0] == 0 {
		p.whole, p.next, p.of = p.whole[:0], 0, int(b[1])
		p.frame, p.ord = r.Frame, r.Ord
	}
	if p.of == 0 || int(b[0]) != p.next || int(b[1]) != p.of ||
		p.frame != r.Frame || p.ord != r.Ord {
		p.of = 0
		return nil, false
	}
	p.whole = append(p.whole, b[partHead:]...)
	if p.next++; p.next < p.of {
		return nil, false
	}
	p.of = 0
	return p.whole, true
}

// recarrier appends again what only the journal holds of a group.
type recarrier struct {
	g       *Group
	start   bool // of the store: its frames may hold a decision that was moved before
	decoder effectDecoder
	parts   partReader
	joint   []byte
}

// append appends the effect of a record, a decision's with the last of its parts,
// and returns the frame that holds it. One of a person who is not there was never
// answered: the person's own row was not durable. The group is locked.
func (c *recarrier) append(r *journal.Record) (frame uint64, err error) {
	g := c.g
	if hook := g.store.o.hooks.recarry; hook != nil {
		if err := hook(r); err != nil {
			return 0, err
		}
	}
	e := Effect{Kind: EffectReserve, Ord: Ord(r.Ord), Time: UnixMsec(r.Time)}
	if row := g.mu.state.row(e.Ord); row == nil || row.Person != PersonID(r.Person) {
		return g.mu.open.number, nil
	}
	clear := r.Payload
	switch r.Kind {
	case journal.Grant:
		both, at, ok := parseJoint(c.joint[:0], r)
		if c.joint = both; !ok {
			return 0, fmt.Errorf("%w: malformed record of a grant", ErrCorrupt)
		}
		if err := c.decoder.decodeClear(&e, both[:at]); err != nil {
			return 0, err
		}
		if _, err := c.reserve(&e); err != nil {
			return 0, err
		}
		e, clear = Effect{Kind: EffectDecision, Ord: e.Ord, Time: UnixMsec(r.Time)}, both[at:]
	case journal.Release:
		e.Kind = EffectRelease
	case journal.Part:
		e.Kind = EffectDecision
		var whole bool
		if clear, whole = c.parts.add(r); !whole {
			return g.mu.open.number, nil
		}
	}
	if err := c.decoder.decodeClear(&e, clear); err != nil {
		return 0, err
	}
	switch e.Kind {
	case EffectDecision:
		return c.decision(&e)
	case EffectReserve:
		return c.reserve(&e)
	}
	return g.Append(&e)
}

// reserve appends a reservation, and takes its totals from the ledger, as the grant
// did before its effect was applied.
func (c *recarrier) reserve(e *Effect) (frame uint64, err error) {
	state := func() ReservationState {
		_, state := c.g.mu.state.contact(e.Ord).Reservation(e.Reserve.ID)
		return state
	}
	before := state()
	if frame, err = c.g.Append(e); err != nil {
		return 0, err
	}
	if before != ReservationUnknown || state() != ReservationOpen {
		return frame, nil
	}
	for i := range e.Reserve.Keys {
		if k := &e.Reserve.Keys[i]; k.Total {
			c.g.store.totals.Force(k)
		}
	}
	return frame, nil
}

// decision appends a decision that was made in another frame, once.
func (c *recarrier) decision(e *Effect) (frame uint64, err error) {
	g, id := c.g, e.Decision.ID
	if c.start {
		frame, err := g.store.movedTo(id)
		if !errors.Is(err, ErrNotFound) {
			return frame, err
		}
	}
	if frame, err = g.Append(e); err != nil {
		return 0, fmt.Errorf("decision %x: %w", id, err)
	}
	if g.mu.moved == nil {
		g.mu.moved = map[DecisionID]uint64{}
	}
	g.mu.moved[id] = frame
	return frame, nil
}
