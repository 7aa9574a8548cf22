package storage

import (
	"fmt"
	"time"

	"tact/storage/journal"
)

// A Ticket says what a reply has to wait for: see Store.WaitTicket. The zero
// Ticket waits for nothing.
type Ticket struct {
	Frame  uint64    // a frame of the group; 0 = none
	Record uint64    // a record of the journal; 0 = none
	Cause  WaitCause // why it waits
}

// Waits reports whether there is anything to wait for.
func (t Ticket) Waits() bool { return t.Frame|t.Record != 0 }

// Join returns what both wait for. The cause is that of t, if it waits.
func (t Ticket) Join(o Ticket) Ticket {
	if !t.Waits() {
		return o
	}
	return Ticket{max(t.Frame, o.Frame), max(t.Record, o.Record), t.Cause}
}

const (
	// A reservation that lives longer is not answered before it is durable: its
	// stand-in would take a use away for as long.
	atOnceLifeMax = 3600 // seconds
	// The counters of one record that are compared; more wait.
	atOnceKeysMax = 32
)

// grantScratch is the memory of Reserve, kept for the next.
type grantScratch struct {
	record  journal.Record
	ask     journal.Ask
	payload []byte
	part    []byte // of a decision

	// A reservation that is appended, and whose record is not put yet: see Hold.
	open     bool
	ticket   Ticket // of one that needs no record, else none
	why      WaitCause
	from, to int // its clear part in the open frame
}

// Reserve appends an EffectReserve and puts it into the journal. The ticket says
// what the answer waits for: nothing when why is WaitNone and the journal's laws
// allow an answer before the record is durable. WaitNone says that every counter
// of the reservation counts on a contact and that nothing else of the decision
// has to be durable. e.Reserve.Lease is set here. Errors are those of Append.
//
// One with keys of totals is answered before its record is durable only when blocks
// cover them: see Store.FeedTotals. A reservation of a person whose row is not
// durable yet waits for its frame: the journal has no use for it.
//
// The group must be locked. It does not allocate once buffers have grown.
func (g *Group) Reserve(e *Effect, why WaitCause) (frame uint64, t Ticket, err error) {
	if frame, err = g.Hold(e, why); err != nil {
		return 0, Ticket{}, err
	}
	return frame, g.putHeld(), nil
}

// Hold is Reserve but for the record: Decide, in the same lock section, puts one
// record for both, and its ticket says what the answer waits for. Where no decision
// of the person follows, the reservation's own record is put when the group is
// unlocked, or before the next of the group.
func (g *Group) Hold(e *Effect, why WaitCause) (frame uint64, err error) {
	g.putHeld()
	e.Reserve.Lease, e.Reserve.Drawn = journal.Lease{}, false
	s := &g.grant
	j := g.store.carry.j
	row := g.carried(e)
	if j == nil || row == nil {
		if frame, err = g.Append(e); err == nil {
			s.open, s.ticket = true, Ticket{Frame: frame, Cause: WaitPerson}
		}
		return frame, err
	}
	r, a := &s.record, &s.ask
	g.describe(e, row, r)
	*a = journal.Ask{Lease: Contact{g.mu.state.slab.get(row.contact)}.lease()}
	if why == WaitNone {
		why = g.lease(e)
	}
	if why == WaitNone && e.Reserve.hasTotal() {
		if e.Reserve.Drawn = g.store.totals.draw(e.Reserve.Keys); !e.Reserve.Drawn {
			why = WaitTotal
		}
	}
	if frame, err = g.appendHeld(e); err != nil {
		if e.Reserve.Drawn {
			g.store.totals.undraw(e.Reserve.Keys)
		}
		return 0, err
	}
	s.open, s.why, s.ticket = true, why, Ticket{}
	s.from, s.to = g.mu.open.clear, g.mu.open.clearEnd
	if s.to-s.from > journal.MaxPayload {
		s.ticket = Ticket{Frame: frame, Cause: WaitSize}
		return frame, nil
	}
	r.Frame, r.Time = frame, journal.Msec(e.Time)
	if a.AtOnce = why == WaitNone; a.AtOnce {
		a.Several = e.Reserve.several()
		a.Behind = g.mu.state.behind(e, j.Durable(uint16(g.id)))
	}
	return frame, nil
}

// appendHeld appends a reservation, without its lease where that makes it too long
// for a record.
func (g *Group) appendHeld(e *Effect) (frame uint64, err error) {
	s := &g.grant
	if !s.ask.Carries {
		return g.Append(e)
	}
	s.payload = appendClear(s.payload[:0], e)
	if len(s.payload) > journal.MaxPayload {
		e.Reserve.Lease, s.ask.Carries = journal.Lease{}, false
		return g.Append(e)
	}
	return g.appendClear(e, s.payload)
}

// putHeld puts the record of the reservation that Hold has left, and returns what its
// answer waits for; none is left, nothing.
func (g *Group) putHeld() Ticket {
	s := &g.grant
	if !s.open {
		return Ticket{}
	}
	s.open = false
	if s.ticket.Waits() {
		return s.ticket
	}
	s.record.Payload = g.mu.open.buf[s.from:s.to]
	return g.put()
}

// put puts the record of a reservation.
func (g *Group) put() Ticket {
	s := &g.grant
	number, atOnce := g.store.carry.j.Put(&s.record, &s.ask)
	if atOnce {
		return Ticket{}
	}
	if s.ask.Why != journal.CauseNone {
		s.why = WaitCause(s.ask.Why)
	}
	if number == 0 {
		return Ticket{Frame: s.record.Frame, Cause: s.why}
	}
	return Ticket{Record: number, Cause: s.why}
}

// lease lets the record carry a lease when the owner's has to be begun, renewed or
// made to cover more. It returns what stands against an answer at once.
func (g *Group) lease(e *Effect) WaitCause {
	s := &g.grant
	life, grace := uint32(e.Reserve.Expires-e.Reserve.Granted), e.Reserve.Grace
	if !g.store.carry.j.Fast() {
		return WaitClosed
	}
	if life > atOnceLifeMax || grace > atOnceLifeMax {
		return WaitLong
	}
	lease, carries := g.store.carry.j.Renew(s.ask.Lease, &s.record, life, grace)
	if carries {
		e.Reserve.Lease, s.ask.Carries = lease, true
	}
	switch {
	case !s.ask.Lease.Covers(life, grace):
		return WaitLease
	case len(e.Reserve.Keys) > atOnceKeysMax:
		return WaitLong
	}
	return WaitNone
}

// Decide appends an EffectDecision. held joins the tickets of the reservations
// that Reserve made in the same lock section, holds says that there are any, of Hold
// too; the result is what the answer waits for. Such a decision goes into the journal
// too, so that what is known of a reservation after a loss is known of its decision: a
// request that is sent again is answered with it, and an outcome finds it.
// Decisions that hold nothing are in their frame only. Errors are those of Append.
//
// The group must be locked. It does not allocate once buffers have grown.
func (g *Group) Decide(e *Effect, held Ticket, holds bool) (frame uint64, t Ticket, err error) {
	if frame, err = g.Append(e); err != nil {
		return 0, held, err
	}
	j := g.store.carry.j
	number, why, joined := uint64(0), WaitNone, held.Frame == 0 && g.joinHeld(e)
	if joined {
		held = held.Join(g.put())
		number = g.grant.record.Number
	} else {
		held = held.Join(g.putHeld())
	}
	switch {
	case held.Frame != 0:
		// A reservation that is given again may lie in an earlier frame: with this one
		// all of it is durable.
		return frame, Ticket{Frame: frame, Cause: held.Cause}, nil
	case !holds || j == nil:
		return frame, held, nil
	case !joined:
		number, why = g.carryDecision(e, frame, g.mu.open.lastClear())
	}
	switch {
	case number == 0:
		return frame, held.Join(Ticket{Frame: frame, Cause: why}), nil
	case held.Record == 0 && (e.Decision.Request == 0 || j.Fast()):
		return frame, Ticket{}, nil // nobody can ask again, or the ring has it
	}
	return frame, held.Join(Ticket{Record: number, Cause: WaitClosed}), nil
}

// carried returns the row of the owner of e, nil where a record would be of no use.
func (g *Group) carried(e *Effect) *Row {
	if e.Ord == NoOrd || uint32(e.Ord) >= g.born.Load() {
		return nil
	}
	return g.mu.state.row(e.Ord)
}

func (e *ReserveEffect) hasTotal() bool {
	for i := range e.Keys {
		if e.Keys[i].Total {
			return true
		}
	}
	return false
}

// describe fills in what a record says of its owner, whose row it is.
func (g *Group) describe(e *Effect, row *Row, r *journal.Record) {
	// Field by field: the others are for Put to fill in.
	r.Kind, r.Group, r.Ord = journal.Reserve, uint16(g.id), uint32(e.Ord)
	r.Person = uint64(row.Person)
	r.Time = journal.Msec(max(int64(e.Time), g.high.Load()))
	r.Frame, r.ID, r.Expires, r.Payload = 0, 0, 0, nil
	switch e.Kind {
	case EffectRelease:
		r.Kind = journal.Release
		return
	case EffectDecision:
		r.Kind = journal.Part
		return
	}
	r.ID, r.Expires = e.Reserve.ID.Number, uint32(e.Reserve.Expires)
}

// several reports whether a reservation takes several uses of one counter.
func (e *ReserveEffect) several() bool {
	for i := range e.Keys {
		for k := range i {
			if e.Keys[i].Key == e.Keys[k].Key {
				return true
			}
		}
	}
	return false
}

// Release appends an EffectRelease, and tells the journal: a kill alone does not
// bring the uses back. The group must be locked.
func (g *Group) Release(e *Effect) (frame uint64, err error) {
	g.putHeld()
	if frame, err = g.Append(e); err != nil {
		return 0, err
	}
	j := g.store.carry.j
	row := g.carried(e)
	if j == nil || row == nil {
		return frame, nil
	}
	s := &g.grant
	g.describe(e, row, &s.record)
	s.record.Frame, s.record.Payload = frame, g.mu.open.lastClear()
	s.ask = journal.Ask{}
	j.Put(&s.record, &s.ask)
	return frame, nil
}

// Hasten sets off what makes a ticket's record or frame durable, so that it is under
// way when WaitTicket is called. It does not block.
func (s *Store) Hasten(t Ticket) {
	switch {
	case t.Frame != 0:
		s.com.kickOff()
	case t.Record != 0:
		s.carry.j.Hasten()
	}
}

// WaitTicket returns when what a ticket names is durable: nil; else as Wait.
func (s *Store) WaitTicket(id GroupID, t Ticket, timeout time.Duration) error {
	if !t.Waits() {
		return nil
	}
	if timeout <= 0 {
		timeout = s.o.CommitMax
	}
	if t.Frame != 0 {
		// Records of the same decision lie in that frame or in an earlier one.
		return s.Wait(id, t.Frame, timeout)
	}
	switch err := s.carry.j.Wait(t.Record, timeout); err {
	case nil:
		return nil
	case journal.ErrDead:
		return s.waitStopped(id, timeout)
	default:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
}

// waitStopped waits for the frames instead of a journal that has stopped.
func (s *Store) waitStopped(id GroupID, timeout time.Duration) error {
	g := s.groups[id]
	g.Lock()
	frame := g.LastFrame()
	g.Unlock()
	return s.Wait(id, frame, timeout)
}

// Settled reports whether what a ticket names is known to be durable.
func (s *Store) Settled(id GroupID, t Ticket) bool {
	if t.Frame != 0 {
		return s.Durable(id) >= t.Frame
	}
	return t.Record == 0 || s.carry.j.Synced() >= t.Record
}
