package storage

import (
	"encoding/binary"
	"slices"
)

// Nobody needs sums of events that all lie in the tail. So the events of a person wait
// there until the first one leaves it, or comes too late for it: then all are summed up at
// once, and from then on each as it comes. Of people who do not have more events than a
// tail holds nothing is kept twice, and an event changes the tail alone.
//
// Laws, each with a test:
//  1. The activity of a view is what it would be had each event been summed up: in order
//     of time those that lay in the tail when the first one left it, then as they came.
//  2. All events of a tail wait, its floor is 0, and there is no activity; or none waits.
//
// An event that the tail cannot say the day of, since its zone is more than a day from UTC,
// does not wait.

// drawHistory makes the tail with one more event, in drawn, and the activity that goes with
// it; false, and the activity as it was, empty, when all wait. What is returned is valid
// until the next call, and as long as the tail and in are.
//
// A person of whom there is a tail only, kept before activities were, begins with what
// the tail holds.
func (s *state) drawHistory(tail Tail, sums []byte, in *tailEdit) (
	_ []byte, summed bool, err error,
) {
	s.began = len(sums) == 0 && tail.summed()
	if s.began || len(sums) > 0 {
		in.body[0] &^= tailWaits
	}
	if err := s.drawn.add(tail, in); err != nil {
		return nil, false, err
	}
	switch {
	case len(sums) > 0:
	case s.began:
		sums = s.sumTail(tail, in.now, in.shift)
	case s.drawn.left == 0 && in.body[0]&tailWaits != 0:
		return sums, false, nil
	default:
		sums = s.whole.sumAll(tail)
		in.body[0] &^= tailWaits
		s.drawn.settle()
	}
	return s.sumUp(sums, in.occurred, in.now, clipDay(in.occurred, in.shift), in.body), true, nil
}

// summed reports whether the newest event of a tail is summed up, so that an activity
// lies beside it, unless none was kept then.
func (t Tail) summed() bool {
	c := tailCursor{b: t.b}
	return c.next() && c.body[0]&tailWaits == 0
}

// sumTail sums up the events of a tail, which is complete since its floor.
func (s *state) sumTail(t Tail, now UnixMsec, shift int32) []byte {
	s.sums = startActivity(s.sums[:0], t.Floor())
	old := s.sums
	for c := (tailCursor{b: t.b}); c.next(); {
		if c.body[0]&tailWaits == 0 {
			old = s.sumUp(old, c.occurred, now, clipDay(c.occurred, shift), c.body)
		}
	}
	return old
}

// sumUp returns the activity old, empty when there is none, with the event of a tail's
// body. It is valid until the next but one call.
func (s *state) sumUp(old []byte, occurred, now UnixMsec, day int32, body []byte) []byte {
	s.sums, s.sumsOther = s.sumsOther, s.sums // old may lie in one of them
	if len(old) == 0 {
		s.start = startActivity(s.start[:0], 0)
		old = s.start
	}
	in := activityEdit{occurred: occurred, now: now, day: day}
	s.sumProps = in.read(body, s.sumProps[:0])
	s.sums = s.sum.add(s.sums[:0], Activity{b: old}, &in)
	return s.sums
}

// read fills in what the body of a tail's event says, its properties from props.
func (in *activityEdit) read(body []byte, props []AttrValue) []AttrValue {
	e, _, _ := parseTailHead(body)
	in.key = activityKey{e.Event, e.Item, e.Outcome}
	e.EachProp(func(id Name, v Value) bool {
		props = append(props, AttrValue{ID: id, Value: v})
		return true
	})
	in.props = props
	return props
}

// A wholeActivity sums up the events of a tail that wait, for one view after the other.
type wholeActivity struct {
	draft  activityDraft
	made   uint64 // of the last view
	b      []byte
	holds  uint64 // the view that b is of; 0: of none
	only   Name   // and the only event that it has; 0: all there are
	events [TailMax]waitingEvent
	props  []AttrValue
}

type waitingEvent struct {
	key      activityKey
	occurred UnixMsec
	body     []byte
}

// view is an activity with its tail.
func (w *wholeActivity) view(sums []byte, tail Tail) Activity {
	if len(sums) > 0 || tail.Len() == 0 || tail.summed() {
		return Activity{b: sums}
	}
	w.made++
	return Activity{tail: tail, sums: w, made: w.made}
}

// of returns the activity of a view, entries of one event alone unless only is 0.
func (w *wholeActivity) of(a *Activity, only Name) []byte {
	if w.holds != a.made || w.only != 0 && w.only != only {
		w.sum(a.tail, only)
		w.holds, w.only = a.made, only
	}
	return w.b
}

// sumAll returns the activity of the events of a tail, which all wait; nil: there are none.
func (w *wholeActivity) sumAll(t Tail) []byte {
	if t.Len() == 0 {
		return nil
	}
	w.holds = 0
	w.sum(t, 0)
	return w.b
}

// sum fills b. There are never more entries, or bytes, than an activity may have.
func (w *wholeActivity) sum(t Tail, only Name) {
	keys := 0
	w.b = startActivity(w.b[:0], 0)
	for events := w.waiting(t, only); len(events) > 0; keys++ {
		n := 1
		for n < len(events) && events[n].key == events[0].key {
			n++
		}
		w.entry(events[:n])
		events = events[n:]
	}
	binary.LittleEndian.PutUint16(w.b[8:], uint16(keys))
}

// waiting returns the events of a tail that wait, of one alone unless only is 0, by key
// and then the oldest first.
func (w *wholeActivity) waiting(t Tail, only Name) []waitingEvent {
	n := len(w.events)
	for c := (tailCursor{b: t.b}); c.next(); {
		if c.body[0]&tailWaits == 0 {
			continue
		}
		if event, _ := tailNumber(c.body, 1); only != 0 && event != uint64(only) {
			continue
		}
		n--
		e, _, _ := parseTailHead(c.body)
		w.events[n] = waitingEvent{
			activityKey{e.Event, e.Item, e.Outcome}, c.occurred, c.body,
		}
	}
	slices.SortStableFunc(w.events[n:], func(a, b waitingEvent) int {
		switch {
		case a.key.less(b.key):
			return -1
		case b.key.less(a.key):
			return 1
		}
		return 0
	})
	return w.events[n:]
}

// entry appends the entry of events of one key.
func (w *wholeActivity) entry(events []waitingEvent) {
	for i := range events {
		e := &events[i]
		day, _ := waitsFor(e.body, e.occurred)
		in := activityEdit{occurred: e.occurred, now: e.occurred, day: day}
		w.props = in.read(e.body, w.props[:0])
		if i == 0 {
			w.draft.load(nil, &in)
		}
		w.draft.count(&in)
	}
	w.b = w.draft.append(w.b)
}
