package storage

import (
	"encoding/binary"
	"fmt"

	"tact/storage/invariant"
)

// A tail and an activity are some kilobytes, an event is some tens of bytes. So an event
// of somebody whose tail and activity lie on disk is written as a part of its own beside
// them; when rowEventsMax such parts are there, both are written whole once more, and
// the parts deleted in the same batch. A part holds what came between two writings of
// its person, sealed:
//
//	events × (time varint | time less occurred varint | shift varint | length uvarint | body)
//
// with the body as in a tail, the time that of the effect, and the shift the seconds by
// which the zone of its day is ahead of UTC.
//
// Laws, each with a test:
//  1. Tail and activity as written, with the events of the parts added in their order,
//     are byte for byte those in memory.
//  2. The parts of a person have the kinds from RowEvents on without a gap, and their
//     last frames rise from that of the whole parts.
const (
	// rowEventsMax is how many parts of events lie beside a tail at most. A start reads
	// them and whoever opens the tail adds them to it, about 1 µs each. Written are, an
	// event of a person with 1.9 KB of history: 1.9 KB without any parts, 0.48 with four,
	// 0.32 with eight, 0.23 with sixteen.
	rowEventsMax = 8
	// rowEventsFrom is the size of a tail and an activity, in bytes, from which on they
	// are not written whole for each event: with headers, keys and seals two parts of
	// nothing have 140 bytes, one of an event some 100.
	rowEventsFrom = 128
	// A part is bounded by a quarter of tail and activity together, or by
	// rowEventsLeast where that is more.
	rowEventsShare = 4
	rowEventsLeast = 64
)

// known reports whether rows of the kind are written.
func (k RowKind) known() bool {
	return k >= RowProfile && k <= RowActivity || k >= RowEvents && k < RowEvents+rowEventsMax
}

// rowKinds calls f for every kind of part, in the order of their keys.
func rowKinds(f func(RowKind) bool) {
	for k := RowProfile; k <= RowActivity; k++ {
		if !f(k) {
			return
		}
	}
	for k := RowEvents; k < RowEvents+rowEventsMax; k++ {
		if !f(k) {
			return
		}
	}
}

// eventsDraft is the scratch of what is opened or kept for the disk.
type eventsDraft struct {
	plain []byte
	tail  []byte
	sums  []byte // the activity
}

// keepsEvents reports whether the next event may be written as a part of its own: what
// it adds to lies on disk, and there is room for another part. An event that begins
// the activity of somebody stored before there were any is not: without that on disk too,
// nothing would tell from when on it is complete.
func (r *Row) keepsEvents() bool {
	return r.Flags&rowDirtyWhole == 0 && r.tail != 0 && r.events < rowEventsMax
}

// pend keeps an event that was added to the tail for the next writing of the row, and
// returns what of the row is to be marked: without kept, and when the part would become
// too large, tail and activity.
func (s *state) pend(r *Row, kept bool, in *tailEdit) RowFlags {
	whole := len(s.slab.get(r.tail)) + len(s.slab.get(r.activity))
	if kept && whole >= rowEventsFrom {
		b := append(s.events.plain[:0], s.slab.get(r.pending)...)
		b = binary.AppendVarint(b, int64(in.now))
		b = binary.AppendVarint(b, int64(in.now-in.occurred))
		b = binary.AppendVarint(b, int64(in.shift))
		b = append(binary.AppendUvarint(b, uint64(len(in.body))), in.body...)
		s.events.plain = b
		if len(b) <= max(whole/rowEventsShare, rowEventsLeast) {
			if ref, err := s.slab.put(r.pending, b); err == nil {
				r.pending = ref
				return rowDirtyEvents
			}
		}
	}
	return rowDirtyWhole
}

// appendEvents is appendRow of a part of events: the pending ones become the next part,
// or the parts are of no use any more and gone.
func (s *state) appendEvents(dst []byte, o Ord, kind RowKind, seal *sealer) (
	[]byte, rowPart, error,
) {
	r, n := s.rows.at(o), uint8(kind-RowEvents)
	switch {
	case r.Flags&rowDirtyEvents == 0:
		return dst, rowPartKept, nil
	case r.pending == 0:
		if n+1 >= r.events { // the last one, if there is any
			r.Flags &^= rowDirtyEvents
		}
		if n >= r.events {
			return dst, rowPartKept, nil
		}
		if n+1 == r.events {
			r.events = 0
		}
		return dst, rowPartGone, nil
	case n != r.events:
		return dst, rowPartKept, nil
	}
	invariant.Check(r.Flags&rowEventsSealed == 0, "events on disk are written once more")
	at, bind := len(dst), rowBind(r.Workspace, r.Person, kind)
	dst = appendRowHeader(dst, r, o, kind)
	dst, err := seal.append(dst, &r.Key, s.slab.get(r.pending), bind[:])
	if err != nil {
		return dst[:at], 0, fmt.Errorf("events of ordinal %d: %w", o, err)
	}
	s.slab.drop(r.pending)
	r.pending = 0
	r.events++
	r.Flags &^= rowDirtyEvents
	return binary.LittleEndian.AppendUint32(dst, checkSum(dst[at:])), rowPartStored, nil
}

// wholeLoad is the tail, activity, or part of events, read last.
type wholeLoad struct {
	person PersonID
	frame  uint64
}

// loadEvents enters a part of events read from disk, behind those before it.
func (s *state) loadEvents(at rowKey, r *Row, p *storedRow) error {
	w := &s.loading.whole
	switch {
	case r.tail == 0 || w.person != at.person:
		return fmt.Errorf("row of person %d: events without what they add to: %w",
			at.person, ErrCorrupt)
	case RowEvents+RowKind(r.events) != at.kind || p.frame <= w.frame:
		return fmt.Errorf("row of person %d: part %d of frame %d follows %d parts up to %d: %w",
			at.person, at.kind, p.frame, r.events, w.frame, ErrCorrupt)
	}
	b := append(s.events.plain[:0], s.slab.get(r.pending)...)
	b = append(binary.AppendUvarint(b, uint64(len(p.contents))), p.contents...)
	s.events.plain = b
	ref, err := s.slab.put(r.pending, b)
	if err != nil {
		return fmt.Errorf("row of person %d: %w", at.person, err)
	}
	r.pending, w.frame = ref, p.frame
	r.events++
	r.Flags |= rowEventsSealed
	r.LastFrame, r.LastSeen = max(r.LastFrame, p.frame), max(r.LastSeen, p.seen)
	return nil
}

// openHistory opens the tail and the activity of a loaded row, with the events that lie
// beside them, and keeps them open.
// Cost: an opening of each part and an addition for each event beside them, once a
// person after a start.
func (s *state) openHistory(r *Row) error {
	tail, sums, err := s.openedHistory(r)
	if err != nil {
		return s.damagedBy(err)
	}
	if err := s.slab.room(len(tail), len(sums)); err != nil {
		return s.damagedBy(err)
	}
	if r.Flags&rowTailSealed != 0 {
		if r.tail, err = s.slab.put(r.tail, tail); err != nil {
			return s.damagedBy(err)
		}
	}
	if r.Flags&(rowActivitySealed|rowEventsSealed) != 0 && len(sums) > 0 {
		if r.activity, err = s.slab.put(r.activity, sums); err != nil {
			return s.damagedBy(err)
		}
	}
	if r.Flags&rowEventsSealed != 0 {
		s.slab.drop(r.pending)
		r.pending = 0
	}
	r.Flags &^= rowTailSealed | rowActivitySealed | rowEventsSealed
	return nil
}

// openedHistory returns the tail and the activity of a person as they are when open,
// and changes nothing. They are valid until the next call, or change of the person.
func (s *state) openedHistory(r *Row) (tail, sums []byte, err error) {
	d := &s.events
	tail, sums = s.slab.get(r.tail), s.slab.get(r.activity)
	if r.Flags&rowTailSealed != 0 {
		bind := rowBind(r.Workspace, r.Person, RowTail)
		d.tail, err = appendOpened(d.tail[:0], &r.Key, tail, bind[:])
		if err == nil {
			err = checkTail(d.tail)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("tail of person %d: %w", r.Person, err)
		}
		tail = d.tail
	}
	if r.Flags&rowActivitySealed != 0 {
		bind := rowBind(r.Workspace, r.Person, RowActivity)
		d.sums, err = appendOpened(d.sums[:0], &r.Key, sums, bind[:])
		if err == nil {
			err = checkActivity(d.sums)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("activity of person %d: %w", r.Person, err)
		}
		sums = d.sums
	}
	if err := checkSummed(Tail{tail}, sums, r.events); err != nil {
		return nil, nil, fmt.Errorf("activity of person %d: %w", r.Person, err)
	}
	if r.Flags&rowEventsSealed == 0 {
		return tail, sums, nil
	}
	d.sums = append(d.sums[:0], sums...)
	for in, kind := (reader{b: s.slab.get(r.pending)}), RowEvents; len(in.b) > 0; kind++ {
		bind := rowBind(r.Workspace, r.Person, kind)
		part := in.take(int(in.uvarint()))
		d.plain, err = appendOpened(d.plain[:0], &r.Key, part, bind[:])
		if err == nil {
			err = s.addEvents()
		}
		if err != nil {
			return nil, nil, fmt.Errorf("events of person %d: %w", r.Person, err)
		}
	}
	return d.tail, d.sums, nil
}

// checkSummed checks law 2 of activity_whole.go of what was written. Without an activity
// were those of whom none was kept yet, beside whom there are no parts of events.
func checkSummed(t Tail, sums []byte, parts uint8) error {
	waiting := 0
	for c := (tailCursor{b: t.b}); c.next(); {
		if c.body[0]&tailWaits != 0 {
			waiting++
		}
	}
	switch {
	case len(sums) > 0 && len(t.b) == 0:
		return fmt.Errorf("the tail is missing: %w", ErrCorrupt)
	case len(sums) > 0 && waiting > 0:
		return fmt.Errorf("events of the tail are summed up and wait: %w", ErrCorrupt)
	case len(sums) > 0 || t.Len() == 0:
	case waiting == 0 && parts > 0, waiting > 0 && (waiting < t.Len() || t.Floor() != 0):
		return fmt.Errorf("it is missing: %w", ErrCorrupt)
	}
	return nil
}

// addEvents adds the events in plain to the tail and the activity of the draft.
func (s *state) addEvents() error {
	d := &s.events
	return eachEvent(d.plain, func(in *tailEdit) error {
		sums, _, err := s.drawHistory(Tail{d.tail}, d.sums, in)
		if err != nil {
			return err
		}
		d.sums = append(d.sums[:0], sums...)
		d.tail = append(d.tail[:0], s.drawn.b...)
		return nil
	})
}

// eachEvent calls f for every event of a part.
func eachEvent(b []byte, f func(in *tailEdit) error) error {
	for r := (reader{b: b}); len(r.b) > 0; {
		now := r.varint()
		before, shift := r.varint(), r.varint()
		size := r.uvarint()
		if size > tailEntryMax {
			return fmt.Errorf("an event of %d bytes: %w", size, ErrCorrupt)
		}
		body := r.take(int(size))
		occurred := now - before
		_, ok := parseTailBody(body)
		if r.bad || !ok || occurred > now+eventAhead || shift < -shiftMax || shift > shiftMax {
			return fmt.Errorf("an event: %w", ErrCorrupt)
		}
		in := tailEdit{UnixMsec(occurred), UnixMsec(now), int32(shift), body}
		if err := f(&in); err != nil {
			return err
		}
	}
	return nil
}

// checkHistory compares the flags of tail, activity and events with what is there.
func (s *state) checkHistory(r *Row) error {
	if r.Flags&rowEventsSealed != 0 {
		if r.Flags&rowTailSealed == 0 || r.Flags&rowActivitySealed == 0 && r.activity != 0 ||
			r.events == 0 || r.Flags&rowDirtyEvents != 0 {
			return fmt.Errorf("events are sealed, and not what they add to: %w", ErrCorrupt)
		}
		return nil
	}
	if r.Flags&rowTailSealed == 0 {
		if err := checkTail(s.slab.get(r.tail)); err != nil {
			return err
		}
	}
	if r.Flags&rowActivitySealed == 0 {
		if err := checkActivity(s.slab.get(r.activity)); err != nil {
			return err
		}
	}
	if r.pending == 0 {
		return nil
	}
	if r.Flags&rowDirtyEvents == 0 || r.Flags&rowDirtyWhole != 0 || r.events >= rowEventsMax {
		return fmt.Errorf("events wait and are not to be written: %w", ErrCorrupt)
	}
	none := func(*tailEdit) error { return nil }
	return eachEvent(s.slab.get(r.pending), none)
}
