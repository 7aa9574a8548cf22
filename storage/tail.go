package storage

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// Limits of the tail of one person.
const (
	// TailMax is the number of events kept.
	TailMax = 64
	// TailAge is how long an event is kept, in milliseconds: 90 days.
	TailAge = 90 * 24 * 3600 * 1000
	// tailEntryMax bounds the bytes of one event.
	tailEntryMax = 8 << 10
)

// Tail is a view of the latest events of a person, newest first by the time
// they happened, then by arrival. It is valid until the group is unlocked or
// the next Append of this person:
//
//	floor i64 little-endian | n u8 | n × entry
//	entry = length of the rest of the body uvarint | time uvarint | body
//	time  = milliseconds before the entry in front; of the first: unix
//	        milliseconds, zig-zag
//	body  = flags u8 | event uvarint | [item uvarint] |
//	        [treatment uvarint | placement uvarint | channel u8 | value 8 bytes] |
//	        [count uvarint | count × (property uvarint | kind u8 | value)]
//
// with the value of a property as in appendValue. From row format 3 on an event with
// one property has no count. The two bits of tailWaits, from row format 4 on, say that
// the event is not summed up in the activity yet, and on which day it will be: the one
// in UTC less 1, that one, or it and 1; 0: it is summed up.
type Tail struct{ b []byte }

const (
	tailHeader = 9

	tailItem    = 1  // body flags: an item follows
	tailOutcome = 2  // the entry is an outcome
	tailProps   = 4  // indexed properties follow
	tailClamped = 8  // the time is the receipt time
	tailOneProp = 16 // one indexed property follows, without their count
	tailWaits   = 96 // the event waits to be summed up: 1 to 3, times tailWait
	tailWait    = 32
	tailFlags   = tailItem | tailOutcome | tailProps | tailClamped | tailOneProp | tailWaits
)

// TailEvent is one event of a tail. Treatment, Placement, Channel and Worth are
// set for outcomes only.
type TailEvent struct {
	Occurred  UnixMsec
	Event     Name // DictEvent
	Item      Name // the offer of an outcome; 0 = none
	Outcome   bool
	Clamped   bool // the caller's time lay in the future
	Channel   uint8
	Treatment Name
	Placement Name
	Worth     float64 // the outcome's value

	props []byte
	n     int
}

// Len returns the number of events.
func (t Tail) Len() int {
	if len(t.b) == 0 {
		return 0
	}
	return int(t.b[8])
}

// Floor returns the time from which on the tail is complete: every event with
// Occurred ≥ Floor is in it. 0 = every event there ever was.
func (t Tail) Floor() UnixMsec {
	if len(t.b) == 0 {
		return 0
	}
	return UnixMsec(le64(t.b))
}

// Each calls f for every event, newest first, until f returns false.
// Cost: linear, no allocation.
func (t Tail) Each(f func(TailEvent) bool) {
	c := tailCursor{b: t.b}
	for c.next() {
		e, ok := parseTailBody(c.body)
		if !ok {
			return
		}
		e.Occurred = c.occurred
		if !f(e) {
			return
		}
	}
}

// A TailCursor walks over a tail, newest first. It reads no more of an event
// than is asked for.
type TailCursor struct {
	TailEvent
	c tailCursor
}

// Cursor begins a walk over the tail. Cost: a few nanoseconds an event, no
// allocation.
func (t Tail) Cursor() TailCursor { return TailCursor{c: tailCursor{b: t.b}} }

// Next goes to the next event; false at the end.
func (c *TailCursor) Next() bool {
	if !c.c.next() {
		return false
	}
	e, _, ok := parseTailHead(c.c.body)
	c.TailEvent = e
	c.Occurred = c.c.occurred
	return ok
}

// Prop returns an indexed property of the event.
func (e TailEvent) Prop(id Name) (Value, bool) {
	var out Value
	found := false
	e.EachProp(func(n Name, v Value) bool {
		if n == id {
			out, found = v, true
		}
		return !found
	})
	return out, found
}

// EachProp calls f for every indexed property in the order given, until f
// returns false.
func (e TailEvent) EachProp(f func(Name, Value) bool) {
	b := e.props
	for range e.n {
		id, v, rest, ok := parseProp(b)
		if !ok || !f(id, v) {
			return
		}
		b = rest
	}
}

// A tailCursor walks the entries of a tail.
type tailCursor struct {
	b        []byte // the whole tail
	at       int    // offset of the next entry; 0 = not started
	i        int
	occurred UnixMsec
	body     []byte
}

func (c *tailCursor) next() bool {
	if c.at == 0 {
		if len(c.b) < tailHeader {
			return false
		}
		c.at = tailHeader
	}
	if c.i >= int(c.b[8]) {
		return false
	}
	size, n := tailNumber(c.b, c.at)
	if n <= 0 || size > tailEntryMax {
		return false
	}
	at := c.at + n
	if c.i == 0 {
		v, n := binary.Varint(c.b[at:])
		if n <= 0 {
			return false
		}
		c.occurred, at = UnixMsec(v), at+n
	} else {
		v, n := tailNumber(c.b, at)
		if n <= 0 || v > math.MaxInt64 || c.occurred-UnixMsec(v) > c.occurred {
			return false
		}
		c.occurred, at = c.occurred-UnixMsec(v), at+n
	}
	if int(size) > len(c.b)-at {
		return false
	}
	c.body = c.b[at : at+int(size)]
	c.at = at + int(size)
	c.i++
	return true
}

// skip goes on over events younger than oldest, up to the one before number most, as next
// does, while their sizes are of one byte and not the last bytes of the tail; body is no
// longer that of the event that c stands on. Cost: half of next's.
func (c *tailCursor) skip(most int, oldest UnixMsec) {
	b, at, i, occurred := c.b, c.at, c.i, c.occurred
	for n := min(most, int(b[8])); i < n && len(b)-at > 8; i++ {
		size, w := int(b[at]), binary.LittleEndian.Uint64(b[at+1:])
		ends := ^w & 0x8080808080808080
		next := at + 2 + bits.TrailingZeros64(ends)/8 + size
		if size >= 0x80 || ends == 0 || next > len(b) {
			break
		}
		before := occurred - UnixMsec(shortNumber(w, ends))
		if before <= oldest {
			break
		}
		at, occurred = next, before
	}
	c.at, c.i, c.occurred = at, i, occurred
}

// tailNumber is binary.Uvarint of b[at:], quicker for numbers of up to 56 bits that do not
// end the slice: all of their bytes are looked at together.
func tailNumber(b []byte, at int) (v uint64, n int) {
	if len(b)-at < 8 {
		return binary.Uvarint(b[at:])
	}
	w := binary.LittleEndian.Uint64(b[at:])
	ends := ^w & 0x8080808080808080
	if ends == 0 {
		return binary.Uvarint(b[at:])
	}
	return shortNumber(w, ends), bits.TrailingZeros64(ends)/8 + 1
}

// shortNumber is the number that ends at the first of the bytes of w without a mark, which
// ends tells of.
func shortNumber(w, ends uint64) uint64 {
	w &= ends ^ (ends - 1)
	w = w&0x007F007F007F007F | w&0x7F007F007F007F00>>1
	w = w&0x00003FFF00003FFF | w&0x3FFF00003FFF0000>>2
	return w&0x0FFFFFFF | w>>4&^0x0FFFFFFF
}

// parseTailHead reads everything in front of the properties.
func parseTailHead(b []byte) (e TailEvent, r reader, ok bool) {
	if len(b) == 0 || b[0]&^tailFlags != 0 {
		return e, r, false
	}
	flags := b[0]
	e.Outcome, e.Clamped = flags&tailOutcome != 0, flags&tailClamped != 0
	r = reader{b: b[1:]}
	e.Event = r.name()
	if flags&tailItem != 0 {
		e.Item = r.name()
	}
	if e.Outcome {
		e.Treatment, e.Placement = r.name(), r.name()
		e.Channel = r.byte()
		e.Worth = math.Float64frombits(r.u64())
	}
	switch flags & (tailProps | tailOneProp) {
	case 0:
	case tailOneProp:
		e.n, e.props = 1, r.b
	case tailProps:
		n := r.uvarint()
		if n > uint64(len(r.b)) {
			return e, r, false
		}
		e.n, e.props = int(n), r.b
	default:
		return e, r, false
	}
	return e, r, !r.bad
}

func parseTailBody(b []byte) (e TailEvent, ok bool) {
	e, r, ok := parseTailHead(b)
	for range e.n {
		if !ok {
			break
		}
		_, _, r.b, ok = parseProp(r.b)
	}
	return e, ok && len(r.b) == 0
}

func parseProp(b []byte) (Name, Value, []byte, bool) {
	r := reader{b: b}
	id := r.name()
	v := r.value()
	return id, v, r.b, !r.bad
}

// checkTail reports whether b is a tail.
func checkTail(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if len(b) < tailHeader || b[8] > TailMax {
		return fmt.Errorf("tail: header: %w", ErrCorrupt)
	}
	c := tailCursor{b: b, at: tailHeader}
	for c.next() {
		if _, ok := parseTailBody(c.body); !ok {
			return fmt.Errorf("tail: entry %d: %w", c.i-1, ErrCorrupt)
		}
	}
	if c.i != int(b[8]) || c.at != len(b) {
		return fmt.Errorf("tail: entry %d or length: %w", c.i, ErrCorrupt)
	}
	return nil
}

// A tailEdit is one event to be put into a tail.
type tailEdit struct {
	occurred UnixMsec
	now      UnixMsec // the frame's time: events of TailAge before it are dropped
	shift    int32    // seconds by which the zone of the event's day is ahead of UTC
	body     []byte
}

// A tailDraft is a tail with one more event.
type tailDraft struct {
	b    []byte
	left int // events that are not in it any more, or came too late for it
}

// add makes the tail old with one more event. An event older than TailAge, or than a
// full tail, is left out and raises the floor.
func (d *tailDraft) add(old Tail, in *tailEdit) error {
	d.b, d.left = d.b[:0], 0
	if len(in.body) > tailEntryMax {
		return fmt.Errorf("event of %d bytes: %w", len(in.body), ErrTooLarge)
	}
	if !d.addNewest(old, in) {
		d.addBetween(old, in)
	}
	return nil
}

// waiting returns a body that says that its event is not summed up yet, where the body
// can say on which day that is to be.
func waiting(body []byte, occurred UnixMsec, shift int32) []byte {
	ahead := clipDay(occurred, shift) - clipDay(occurred, 0)
	if ahead >= -1 && ahead <= 1 {
		body[0] |= byte(ahead+2) * tailWait
	}
	return body
}

// waitsFor reports whether the event of a body is not summed up yet, and the day that it
// will be counted on.
func waitsFor(body []byte, occurred UnixMsec) (day int32, ok bool) {
	w := body[0] & tailWaits / tailWait
	return clipDay(occurred, 0) + int32(w) - 2, w != 0
}

// settle says of all events that they do not wait.
func (d *tailDraft) settle() {
	for c := (tailCursor{b: d.b}); c.next(); {
		c.body[0] &^= tailWaits
	}
}

// addNewest is add of an event that is the newest, as most are: what stays of the tail
// behind its first event is copied in one piece. It is false, and nothing was done, when
// the event is not the newest, or nothing of the tail stays.
// Cost: the two numbers in front of each event are read, and all is copied once.
func (d *tailDraft) addNewest(old Tail, in *tailEdit) bool {
	c, oldest := tailCursor{b: old.b}, in.now-TailAge
	if !c.next() || in.occurred < c.occurred || c.occurred <= oldest {
		return false
	}
	first, body, from := c.occurred, c.body, c.at
	floor := old.Floor()
	c.skip(TailMax-1, oldest)
	end, n := c.at, c.i+1
	for c.next() {
		if n == TailMax || c.occurred <= oldest {
			floor = max(floor, c.occurred+1)
			break
		}
		end = c.at
		n++
	}
	d.left = old.Len() + 1 - n
	dst := binary.LittleEndian.AppendUint64(d.b, uint64(floor))
	dst = append(dst, byte(n))
	dst = binary.AppendUvarint(dst, uint64(len(in.body)))
	dst = binary.AppendVarint(dst, int64(in.occurred))
	dst = append(dst, in.body...)
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	dst = binary.AppendUvarint(dst, uint64(in.occurred-first))
	dst = append(dst, body...)
	d.b = append(dst, old.b[from:end]...)
	return true
}

// addBetween is add of an event anywhere: every event is written anew.
func (d *tailDraft) addBetween(old Tail, in *tailEdit) {
	w := tailWriter{d: d, floor: old.Floor(), oldest: in.now - TailAge}
	d.b = append(d.b, make([]byte, tailHeader)...)
	c := tailCursor{b: old.b}
	placed := false
	for c.next() {
		if !placed && in.occurred >= c.occurred {
			w.add(in.occurred, in.body)
			placed = true
		}
		w.add(c.occurred, c.body)
	}
	if !placed {
		w.add(in.occurred, in.body)
	}
	binary.LittleEndian.PutUint64(d.b, uint64(w.floor))
	d.b[8] = byte(w.n)
}

type tailWriter struct {
	d      *tailDraft
	n      int
	last   UnixMsec
	floor  UnixMsec
	oldest UnixMsec // events at or before it are dropped
}

func (w *tailWriter) add(occurred UnixMsec, body []byte) {
	if w.n == TailMax || occurred <= w.oldest {
		w.floor = max(w.floor, occurred+1)
		w.d.left++
		return
	}
	dst := binary.AppendUvarint(w.d.b, uint64(len(body)))
	if w.n == 0 {
		dst = binary.AppendVarint(dst, int64(occurred))
	} else {
		dst = binary.AppendUvarint(dst, uint64(w.last-occurred))
	}
	w.d.b = append(dst, body...)
	w.last = occurred
	w.n++
}

// appendEventBody appends the body of a behaviour event.
func appendEventBody(dst []byte, e *EventEffect) []byte {
	var flags byte
	switch len(e.Indexed) {
	case 0:
	case 1:
		flags |= tailOneProp
	default:
		flags |= tailProps
	}
	if e.Clamped {
		flags |= tailClamped
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(e.Event))
	if flags&tailProps != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(e.Indexed)))
	}
	for i := range e.Indexed {
		dst = binary.AppendUvarint(dst, uint64(e.Indexed[i].ID))
		dst = appendValue(dst, e.Indexed[i].Value)
	}
	return dst
}

// appendOutcomeBody appends the body of an outcome.
func appendOutcomeBody(dst []byte, e *OutcomeEffect) []byte {
	flags := byte(tailOutcome)
	if e.Offer != 0 {
		flags |= tailItem
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(e.Event))
	if e.Offer != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Offer))
	}
	dst = binary.AppendUvarint(dst, uint64(e.Treatment))
	dst = binary.AppendUvarint(dst, uint64(e.Placement))
	dst = append(dst, e.Channel)
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(e.Value))
}
