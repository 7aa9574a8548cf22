package storage

import "fmt"

// eventAhead bounds how far an event may lie in the future of its frame.
const eventAhead = 24 * 3600 * 1000

// eventEdit checks an event and says how it changes a person's tail and activity.
func (s *state) eventEdit(e *Effect) (tailEdit, activityEdit, error) {
	for i := range e.Event.Indexed {
		if a := &e.Event.Indexed[i]; a.ID == 0 || !checkValue(a.Value) {
			return tailEdit{}, activityEdit{}, fmt.Errorf("%w: event property %d", ErrInvalid, a.ID)
		}
	}
	s.body = appendEventBody(s.body[:0], &e.Event)
	return tailEdit{e.Event.Occurred, e.Time, s.body}, activityEdit{
		key: activityKey{event: e.Event.Event}, occurred: e.Event.Occurred, now: e.Time,
		shift: e.Event.Shift, props: e.Event.Indexed,
	}, nil
}

// fitsEvent says what applyEvent would, and changes nothing but that sealed parts
// are opened. It asks for a chunk more, which another part of the person may take
// before the event.
func (s *state) fitsEvent(e *Effect) error {
	r := s.rows.at(e.Ord)
	if r == nil || r.Flags&RowGone != 0 {
		return nil
	}
	in, sum, err := s.eventEdit(e)
	if err != nil {
		return err
	}
	if err := s.drawEvent(r, in, &sum); err != nil {
		return err
	}
	if len(s.slab.chunks) >= slabChunks-2 {
		return ErrStateFull
	}
	return nil
}

func (s *state) applyEvent(frame uint64, r *Row, e *Effect) error {
	in, sum, err := s.eventEdit(e)
	if err != nil {
		return err
	}
	kept := r.keepsEvents()
	if err := s.addEvent(r, in, &sum); err != nil {
		return err
	}
	s.touch(frame, r, e.Ord, s.pend(r, kept, in, sum.shift))
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
	s.body = appendOutcomeBody(s.body[:0], o)
	in, kept := tailEdit{o.Occurred, e.Time, s.body}, r.keepsEvents()
	err := s.addEvent(r, in, &activityEdit{
		key: activityKey{o.Event, o.Offer, true}, occurred: o.Occurred, now: e.Time,
		shift: o.Shift,
	})
	if err != nil {
		return err
	}
	s.touch(frame, r, e.Ord, s.pend(r, kept, in, o.Shift))
	s.noteEvent(e.Ord, o.Event, true)
	s.indexes.did(e.Ord, IndexOutcome, o.Event)
	return nil
}

// addEvent adds an event to the tail and to the activity, to both or to none.
func (s *state) addEvent(r *Row, in tailEdit, sum *activityEdit) error {
	if err := s.drawEvent(r, in, sum); err != nil {
		return err
	}
	s.tailMoved = Tail{s.scratch}.Floor() != Tail{s.slab.get(r.tail)}.Floor()
	var err error
	if r.tail, err = s.slab.put(r.tail, s.scratch); err != nil {
		return err
	}
	if r.activity, err = s.slab.put(r.activity, s.sums); err != nil {
		return err // room has looked: this does not happen
	}
	r.Stirred = everyPage
	return nil
}

// drawEvent makes the tail and the activity with one more event, in scratch and
// sums, and looks for room for both.
func (s *state) drawEvent(r *Row, in tailEdit, sum *activityEdit) error {
	if in.occurred > in.now+eventAhead {
		return fmt.Errorf("%w: event %d ms after its frame", ErrInvalid, in.occurred-in.now)
	}
	if sum.shift < -shiftMax || sum.shift > shiftMax {
		return fmt.Errorf("%w: a zone %d s from UTC", ErrInvalid, sum.shift)
	}
	if r.Flags&(rowTailSealed|rowActivitySealed) != 0 {
		if err := s.openHistory(r); err != nil {
			return err
		}
	}
	tail := Tail{s.slab.get(r.tail)}
	var err error
	if s.scratch, err = appendTail(s.scratch[:0], tail, in); err != nil {
		return err
	}
	s.sums = s.sumUp(s.sums[:0], r, sum)
	return s.slab.room(len(s.scratch), len(s.sums))
}

// sumUp appends the person's activity with one more event to dst. A person of
// whom there is a tail only, kept before activities were, begins with what the
// tail still holds.
func (s *state) sumUp(dst []byte, r *Row, in *activityEdit) []byte {
	a, d := Activity{s.slab.get(r.activity)}, &s.sum
	if !a.Empty() {
		return d.add(dst, a, in)
	}
	tail := Tail{s.slab.get(r.tail)}
	d.old = startActivity(d.old[:0], tail.Floor())
	var props []AttrValue
	tail.Each(func(e TailEvent) bool {
		props = props[:0]
		e.EachProp(func(id Name, v Value) bool {
			props = append(props, AttrValue{ID: id, Value: v})
			return true
		})
		dst = d.add(dst[:0], Activity{d.old}, &activityEdit{
			key: activityKey{e.Event, e.Item, e.Outcome}, occurred: e.Occurred, now: in.now,
			shift: in.shift, props: props,
		})
		d.old = append(d.old[:0], dst...)
		return true
	})
	return d.add(dst[:0], Activity{d.old}, in)
}
