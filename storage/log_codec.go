package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"tact/storage/eventlog"
)

// In the event log an effect has the clear part of its frame, but for
//
//	event:    flags u8 (1 clamped, 2 shift, 4 indexed) | shift varint? |
//	          list of (property uvarint, kind u8)?
//	decision: flags u8 (1 id, 2 request, 4 until) | id 16, or its time ms above the
//	          effect's varint | request u64, body u32? | until, s above the effect's
//	          time varint? | the rest as in a frame
//
// A create has its id as the record's text; an event its id as the text, its
// properties raw and, where they cannot be had from these again, its indexed ones
// as personal bytes. Other personal parts are those of the frame. A decision id
// that does not stand there is made of its time, group, epoch, frame and its index
// among the decisions of the frame.
const (
	logClamped = 1 << iota
	logShift
	logIndexed
)

const (
	logExplicitID = 1 << iota
	logRequest
	logUntil
)

// logCodec turns effects into records of the event log and back. One goroutine
// uses it.
type logCodec struct {
	store    *Store
	clear    []byte
	personal []byte
	decoder  effectDecoder
}

// record fills rec, but for its place, from an effect and the parts that its frame
// holds. index counts the decisions of the frame. Its slices are views.
func (c *logCodec) record(rec *eventlog.Record, h *frameHead, r *record, d *logEffect) {
	e := &d.effect
	*rec = eventlog.Record{
		Kind: uint8(r.kind), Ord: uint32(r.ord), Config: r.config, Time: int64(r.time),
		Occurred: int64(r.time), Clear: r.clear, Dedup: r.key, Body: r.body, Lost: d.lost,
	}
	if r.ord == NoOrd {
		rec.Ord = eventlog.NoOrd
	}
	switch e.Kind {
	case EffectCreate:
		rec.Text = e.Create.ID
	case EffectEvent:
		c.event(rec, e, d.lost)
	case EffectOutcome:
		rec.Type, rec.Occurred = uint32(e.Outcome.Event), int64(e.Outcome.Occurred)
	case EffectDecision:
		made := makeDecisionID(e.Decision.ID.Time(), h.group, h.epoch, h.number, d.index)
		c.clear = appendLogDecision(c.clear[:0], e, made)
		rec.Clear, rec.Personal = c.clear, e.Decision.Personal
	default:
		rec.Personal = d.plain
	}
}

// logEffect is an effect on its way from a frame into the log.
type logEffect struct {
	effect Effect
	plain  []byte // its personal part
	lost   bool   // which nobody can open any more
	index  int    // among the decisions of its frame
	clear  bool   // the frame lay in memory
}

func (c *logCodec) event(rec *eventlog.Record, e *Effect, lost bool) {
	v := &e.Event
	c.clear, c.personal = append(c.clear[:0], 0), c.personal[:0]
	if lost {
		rec.Clear = c.clear
		return
	}
	rec.Type, rec.Occurred = uint32(v.Event), int64(v.Occurred)
	rec.Text, rec.Raw = v.EventID, v.Raw
	if v.Clamped {
		c.clear[0] |= logClamped
	}
	if v.Shift != 0 {
		c.clear[0] |= logShift
		c.clear = binary.AppendVarint(c.clear, int64(v.Shift))
	}
	switch {
	case len(v.Indexed) == 0:
	case c.derivable(v):
		c.clear[0] |= logIndexed
		c.clear = binary.AppendUvarint(c.clear, uint64(len(v.Indexed)))
		for i := range v.Indexed {
			c.clear = binary.AppendUvarint(c.clear, uint64(v.Indexed[i].ID))
			c.clear = append(c.clear, byte(v.Indexed[i].Value.Kind))
		}
	default:
		c.personal = appendAttrs(c.personal, v.Indexed)
		rec.Personal = c.personal
	}
	rec.Clear = c.clear
}

// derivable reports whether the indexed properties can be had from the raw ones.
func (c *logCodec) derivable(v *EventEffect) bool {
	for i := range v.Indexed {
		a := &v.Indexed[i]
		got, ok := c.derive(v.Raw, a.ID, a.Value.Kind)
		if !ok || a.Remove || got.Num != a.Value.Num || !bytes.Equal(got.Bytes, a.Value.Bytes) {
			return false
		}
	}
	return true
}

// derive reads one property out of the raw ones.
func (c *logCodec) derive(raw []byte, id Name, kind ValueKind) (v Value, ok bool) {
	name := c.store.NameOf(DictProperty, id)
	text, ok := eventlog.Property(raw, []byte(name))
	if !ok {
		return v, false
	}
	v.Kind = kind
	switch kind {
	case KindBool:
		v.Num = uint64(len("false") - len(text))
		return v, string(text) == "true" || string(text) == "false"
	case KindInt:
		n, err := strconv.ParseInt(string(text), 10, 64)
		v.Num = uint64(n)
		return v, err == nil
	case KindFloat:
		f, err := strconv.ParseFloat(string(text), 64)
		v.Num = math.Float64bits(f)
		return v, err == nil
	case KindString, KindSemver:
		if len(text) < 2 || text[0] != '"' || bytes.IndexByte(text, '\\') >= 0 {
			return v, false
		}
		v.Bytes = text[1 : len(text)-1]
		return v, true
	}
	return v, false
}

// appendLogDecision appends the clear part of a decision; made is the id that a
// reader would make.
func appendLogDecision(b []byte, e *Effect, made DecisionID) []byte {
	d := &e.Decision
	at := len(b)
	b = append(b, 0)
	if d.ID == made {
		b = binary.AppendVarint(b, int64(d.ID.Time()-e.Time))
	} else {
		b[at] |= logExplicitID
		b = append(b, d.ID[:]...)
	}
	if d.Request != 0 || d.Body != 0 {
		b[at] |= logRequest
		b = binary.LittleEndian.AppendUint64(b, d.Request)
		b = binary.LittleEndian.AppendUint32(b, d.Body)
	}
	if d.Until != 0 {
		b[at] |= logUntil
		b = binary.AppendVarint(b, int64(d.Until)-int64(e.Time/1000))
	}
	return appendDecisionRest(b, d)
}

// effect turns a record back. What e holds is valid until the next call, and as
// long as the record. Bytes that are no effect are ErrCorrupt.
func (c *logCodec) effect(rec *eventlog.Record, e *Effect) error {
	*e = Effect{
		Kind: EffectKind(rec.Kind), Ord: Ord(rec.Ord), Time: UnixMsec(rec.Time),
		Config: rec.Config, DedupKey: rec.Dedup, DedupBody: rec.Body,
	}
	d := &c.decoder
	var err error
	switch e.Kind {
	case EffectEvent:
		return c.eventOf(rec, e)
	case EffectDecision:
		return c.decisionOf(rec, e)
	case EffectCreate:
		err = d.decodeClear(e, rec.Clear)
		e.Create.ID = rec.Text
	default:
		if e.Kind < EffectCreate || e.Kind > effectLast {
			return fmt.Errorf("%w: effect of kind %d", ErrCorrupt, e.Kind)
		}
		err = d.decodeClear(e, rec.Clear)
		if err == nil && len(rec.Personal) > 0 {
			err = d.decodePersonal(e, rec.Personal)
		}
	}
	return err
}

func (c *logCodec) eventOf(rec *eventlog.Record, e *Effect) error {
	v, in := &e.Event, &c.decoder.in
	*in = effectReader{b: rec.Clear}
	flags := in.u8()
	in.check(flags&^(logClamped|logShift|logIndexed) == 0)
	v.Event, v.Occurred, v.EventID = Name(rec.Type), UnixMsec(rec.Occurred), rec.Text
	v.Raw, v.Clamped = rec.Raw, flags&logClamped != 0
	v.Shift = c.decoder.shift(flags&logShift != 0)
	if flags&logIndexed != 0 {
		list := c.decoder.attrs[:0]
		for range in.count(2) {
			a := AttrValue{ID: in.name(), Value: Value{Kind: ValueKind(in.u8())}}
			if rec.Raw != nil && !in.bad {
				got, ok := c.derive(rec.Raw, a.ID, a.Value.Kind)
				in.check(ok)
				a.Value = got
				list = append(list, a)
			}
		}
		c.decoder.attrs, v.Indexed = list, orNil(list)
	}
	if err := in.end(); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	if len(rec.Personal) > 0 {
		*in = effectReader{b: rec.Personal}
		v.Indexed = c.decoder.attributes()
		if err := in.end(); err != nil {
			return fmt.Errorf("indexed properties of an event: %w", err)
		}
	}
	return nil
}

func (c *logCodec) decisionOf(rec *eventlog.Record, e *Effect) error {
	v, in := &e.Decision, &c.decoder.in
	*in = effectReader{b: rec.Clear}
	flags := in.u8()
	in.check(flags&^(logExplicitID|logRequest|logUntil) == 0)
	if flags&logExplicitID != 0 {
		copy(v.ID[:], in.bytes(len(v.ID)))
	} else {
		v.ID = makeDecisionID(e.Time+UnixMsec(varintOf(in)), GroupID(rec.Group), rec.Epoch,
			rec.Frame, int(rec.Index))
	}
	if flags&logRequest != 0 {
		v.Request, v.Body = in.u64(), in.u32()
	}
	if flags&logUntil != 0 {
		v.Until = UnixSec(int64(e.Time/1000) + varintOf(in))
	}
	c.decoder.decisionRest(v)
	v.Personal = rec.Personal
	if err := in.end(); err != nil {
		return fmt.Errorf("decision: %w", err)
	}
	return nil
}

func varintOf(in *effectReader) int64 {
	v := in.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// keep copies what d aliases.
func (d *DecisionEffect) keep() DecisionEffect {
	out := *d
	out.Record, out.Personal = slices.Clone(d.Record), slices.Clone(d.Personal)
	out.Counts, out.Kept = slices.Clone(d.Counts), slices.Clone(d.Kept)
	return out
}
