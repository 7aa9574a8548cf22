package storage

import (
	"encoding/binary"
	"slices"
)

// Events are summed up when they leave the tail, so that of people who have not more of
// them than a tail holds nothing is kept twice, and an event changes the tail alone.
//
// Laws, each with a test:
//  1. An activity with the events of the tail that wait is what it would be had each been
//     summed up in the order in which they leave it.
//  2. An event waits in the tail, or is summed up: never both, never neither.
//  3. The floor of a tail rises with the first event that is summed up: a tail with a
//     floor and events that wait has an activity beside it.

// sumLeft returns the activity old with the events that left the tail and were not
// summed up yet, and with the event in where it cannot wait; false, and old, when there
// are none. before is the tail before. What is returned is valid until the next call, and
// as long as d and old are.
//
// A person of whom there is a tail only, kept before activities were, begins with what
// the tail holds.
func (s *state) sumLeft(old []byte, before Tail, d *tailDraft, in *tailEdit) ([]byte, bool) {
	summed := false
	if s.began = len(old) == 0 && before.summed(); s.began {
		old, summed = s.sumTail(before, in.now, in.shift), true
	}
	if _, waits := waitsFor(in.body, in.occurred); !waits {
		day := clipDay(in.occurred, in.shift)
		old, summed = s.sumUp(old, in.occurred, in.now, day, in.body), true
	}
	for i := len(d.left) - 1; i >= 0; i-- {
		l := &d.left[i]
		if day, waits := waitsFor(l.body, l.occurred); waits {
			old, summed = s.sumUp(old, l.occurred, in.now, day, l.body), true
		}
	}
	return old, summed
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

// A wholeActivity sums up the events of a tail that wait, beside those that do not, for
// one view after the other.
type wholeActivity struct {
	draft  activityDraft
	made   uint64 // of the last view
	b      []byte
	holds  uint64 // the view that b is of,
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
	if !tail.waits() {
		return Activity{b: sums}
	}
	w.made++
	return Activity{b: sums, tail: tail, sums: w, made: w.made}
}

// of returns the activity of a view, entries of one event alone unless only is 0. Limits
// of ActivityKeys, and of bytes, hold of what is kept alone.
func (w *wholeActivity) of(a *Activity, only Name) []byte {
	if w.holds == a.made && (w.only == 0 || w.only == only) {
		return w.b
	}
	old := a.b
	dst := startActivity(w.b[:0], 0)
	if len(old) > 0 {
		copy(dst, old[:8])
		old = old[activityHeader:]
	}
	keys := 0
	for events := w.waiting(a.tail, only); len(events) > 0; keys++ {
		key := events[0].key
		n := 1
		for n < len(events) && events[n].key == key {
			n++
		}
		var entry []byte
		for len(old) > 0 {
			size, head := binary.Uvarint(old)
			body := old[head : head+int(size)]
			have := entryKey(body)
			if key.less(have) {
				break
			}
			rest := old[head+int(size):]
			if have == key {
				entry, old = body, rest
				break
			}
			if only == 0 || only == have.event {
				dst = append(dst, old[:len(old)-len(rest)]...)
				keys++
			}
			old = rest
		}
		dst = w.entry(dst, entry, events[:n])
		events = events[n:]
	}
	for len(old) > 0 {
		size, head := binary.Uvarint(old)
		if only == 0 || only == entryKey(old[head:]).event {
			dst = append(dst, old[:head+int(size)]...)
			keys++
		}
		old = old[head+int(size):]
	}
	binary.LittleEndian.PutUint16(dst[8:], uint16(keys))
	w.b, w.holds, w.only = dst, a.made, only
	return dst
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

// entry appends an entry, nil when there is none, with events of its key.
func (w *wholeActivity) entry(dst, entry []byte, events []waitingEvent) []byte {
	for i := range events {
		e := &events[i]
		day, _ := waitsFor(e.body, e.occurred)
		in := activityEdit{occurred: e.occurred, now: e.occurred, day: day}
		w.props = in.read(e.body, w.props[:0])
		if i == 0 {
			w.draft.load(entry, &in)
		}
		w.draft.count(&in)
	}
	return w.draft.append(dst)
}
