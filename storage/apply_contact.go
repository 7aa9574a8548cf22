package storage

import "fmt"

// applyContact applies the effects of caps and of request ids. What has run out
// by the time of the effect is dropped with it, after a confirm or release has
// had its turn: one that comes late but before the drop still finds its
// reservation.
func (s *state) applyContact(frame uint64, r *Row, e *Effect) error {
	if err := checkContactEffect(e); err != nil {
		return err
	}
	t := Instant{
		Now: secondOf(e.Time), Floor: s.floors.in(frame), incidents: s.incidents.in(frame),
	}
	if e.Kind == EffectReserve {
		if done, err := s.addReservation(r, &e.Reserve, t); done {
			if err == nil {
				s.queueHeld(e.Ord, &e.Reserve)
				s.touch(frame, r, e.Ord, rowDirtyContact)
			}
			return err
		}
	}
	d := &s.edit
	old := s.slab.get(r.contact)
	d.load(Contact{old})
	d.self = PersonRef{Group: s.group, Person: r.Person}.Origin()
	switch e.Kind {
	case EffectConfirm:
		d.confirm(&e.Resolve)
	case EffectRelease:
		d.releaseID(e.Resolve.ID)
	}
	d.sweep(t)
	if err := d.change(e, t); err != nil {
		return err
	}
	s.scratch = d.append(s.scratch[:0])
	if string(s.scratch) == string(old) {
		return nil
	}
	room := 0
	if d.lease.Epoch != 0 {
		room = contactRoom
	}
	ref, err := s.slab.putRoomy(r.contact, s.scratch, room)
	if err != nil {
		d.confirmed = d.confirmed[:0]
		return err
	}
	r.contact = ref
	for _, k := range d.given {
		s.share.give(k)
	}
	for i := range d.moved {
		s.share.move(&d.moved[i])
	}
	switch e.Kind {
	case EffectReserve:
		s.queueHeld(e.Ord, &e.Reserve)
	case EffectAbsorb:
		for h := range (Contact{e.Absorb.Part}).held {
			if h.hasTotal() {
				s.held.push(heldEntry{uint64(h.Expires()) + uint64(h.Grace()), e.Ord, h.ID()})
			}
		}
	}
	s.touch(frame, r, e.Ord, rowDirtyContact)
	return nil
}

// change makes the change that an effect is about, after what had run out has left.
func (d *contactDraft) change(e *Effect, t Instant) error {
	switch e.Kind {
	case EffectReserve:
		if err := d.reserve(&e.Reserve); err != nil {
			return err
		}
		d.renew(&e.Reserve.Lease, t)
	case EffectUse:
		counted, on := false, uint16(0)
		for _, k := range e.Use.Keys {
			if k.Total {
				d.confirmed = append(d.confirmed, k)
			} else {
				d.use(k, e.Use.At)
				counted, on = true, on|k.CountOn
			}
			if e.Use.Lost.Epoch != 0 {
				d.takeStandIn(e.Use.Lost.Epoch, k.Key, t)
			}
		}
		if counted {
			d.mark(e.Use.At, on, &e.Use.Mark)
		}
	case EffectDecision:
		if e.Decision.Request != 0 {
			d.answer(&e.Decision)
		}
		d.keep(e.Decision.Kept)
	case EffectCede:
		d.cede(e.Cede.Origins, t)
	case EffectAbsorb:
		if err := d.absorb(Contact{e.Absorb.Part}, &e.Absorb, t); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) queueHeld(o Ord, e *ReserveEffect) {
	for i := range e.Keys {
		if e.Keys[i].Total {
			s.held.push(heldEntry{uint64(e.Expires) + uint64(e.Grace), o, e.ID})
			return
		}
	}
}

func checkContactEffect(e *Effect) error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrInvalid, what) }
	switch e.Kind {
	case EffectReserve:
		v := &e.Reserve
		switch {
		case v.ID == ReservationID{}:
			return bad("reservation without an id")
		case v.Granted == 0 || v.Expires < v.Granted:
			return bad("reservation that expires before its grant")
		case len(v.Keys) > MaxHeldKeys:
			return bad("reservation with too many keys")
		}
	case EffectUse:
		if e.Use.At == 0 || len(e.Use.Keys) > MaxHeldKeys {
			return bad("use without a time or with too many keys")
		}
	case EffectConfirm:
		if e.Resolve.At == 0 {
			return bad("confirm without a time")
		}
	case EffectAbsorb:
		if checkContact(e.Absorb.Part) != nil {
			return bad("a ceded part that is none")
		}
	}
	return nil
}
