package storage

import "fmt"

// eventAhead bounds how far an event may lie in the future of its frame.
const eventAhead = 24 * 3600 * 1000

// eventEdit checks an event and says how it changes a person's tail.
func (s *state) eventEdit(e *Effect) (tailEdit, error) {
	for i := range e.Event.Indexed {
		if a := &e.Event.Indexed[i]; a.ID == 0 || !checkValue(a.Value) {
			return tailEdit{}, fmt.Errorf("%w: event property %d", ErrInvalid, a.ID)
		}
	}
	s.body = waiting(appendEventBody(s.body[:0], &e.Event), e.Event.Occurred, e.Event.Shift)
	return tailEdit{e.Event.Occurred, e.Time, e.Event.Shift, s.body}, nil
}

// fitsEvent says what applyEvent would, and changes nothing but that sealed parts
// are opened. It asks for a chunk more, which another part of the person may take
// before the event.
func (s *state) fitsEvent(e *Effect) error {
	r := s.rows.at(e.Ord)
	if r == nil || r.Flags&RowGone != 0 {
		return nil
	}
	in, err := s.eventEdit(e)
	if err != nil {
		return err
	}
	if _, _, err := s.drawEvent(r, &in); err != nil {
		return err
	}
	if len(s.slab.chunks) >= slabChunks-2 {
		return ErrStateFull
	}
	return nil
}

func (s *state) applyEvent(frame uint64, r *Row, e *Effect) error {
	in, err := s.eventEdit(e)
	if err != nil {
		return err
	}
	kept := r.keepsEvents()
	if err := s.addEvent(r, &in); err != nil {
		return err
	}
	s.touch(frame, r, e.Ord, s.pend(r, kept && !s.began, &in))
	s.noteEvent(e.Ord, e.Event.Event, false)
	s.indexes.did(e.Ord, IndexEvent, e.Event.Event)
	if r.Flags&RowVisitor != 0 {
		s.settle(r, e.Ord)
		s.touch(frame, r, e.Ord, rowDirtyProfile)
	}
	return nil
}

func (s *state) applyOutcome(frame uint64, r *Row, e *Effect) error {
	o := &e.Outcome
	s.body = waiting(appendOutcomeBody(s.body[:0], o), o.Occurred, o.Shift)
	in, kept := tailEdit{o.Occurred, e.Time, o.Shift, s.body}, r.keepsEvents()
	if err := s.addEvent(r, &in); err != nil {
		return err
	}
	s.touch(frame, r, e.Ord, s.pend(r, kept && !s.began, &in))
	s.noteEvent(e.Ord, o.Event, true)
	s.indexes.did(e.Ord, IndexOutcome, o.Event)
	return nil
}

// addEvent adds an event to the tail and, unless it waits there, to the activity, or does
// nothing.
func (s *state) addEvent(r *Row, in *tailEdit) error {
	sums, summed, err := s.drawEvent(r, in)
	if err != nil {
		return err
	}
	s.tailMoved = Tail{s.drawn.b}.Floor() != Tail{s.slab.get(r.tail)}.Floor()
	if r.tail, err = s.slab.put(r.tail, s.drawn.b); err != nil {
		return err
	}
	if summed {
		if r.activity, err = s.slab.put(r.activity, sums); err != nil {
			return err // room has looked: this does not happen
		}
	}
	r.Stirred = everyPage
	return nil
}

// drawEvent is drawHistory of a person, once the event was looked at. It looks for room
// for both.
func (s *state) drawEvent(r *Row, in *tailEdit) (sums []byte, summed bool, err error) {
	if in.occurred > in.now+eventAhead {
		return nil, false, fmt.Errorf("%w: event %d ms after its frame", ErrInvalid, in.occurred-in.now)
	}
	if in.shift < -shiftMax || in.shift > shiftMax {
		return nil, false, fmt.Errorf("%w: a zone %d s from UTC", ErrInvalid, in.shift)
	}
	if r.Flags&(rowTailSealed|rowActivitySealed) != 0 {
		if err := s.openHistory(r); err != nil {
			return nil, false, err
		}
	}
	sums, summed, err = s.drawHistory(Tail{s.slab.get(r.tail)}, s.slab.get(r.activity), in)
	if err != nil {
		return nil, false, err
	}
	return sums, summed, s.slab.room(len(s.drawn.b), len(sums))
}
