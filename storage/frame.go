package storage

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"
)

// ErrInvalid reports an effect that cannot be recorded: a fault of the caller.
var ErrInvalid = errors.New("invalid effect")

const (
	frameMagic  = 0x5403 // 'T', format 3
	frameSecond = 0x5402 // format 2, whose parts are sealed with AES
	frameFirst  = 0x5401 // format 1, which has no round
	frameHeader = 48
	frameCRC    = 4
	// effectBytesMax bounds one effect: the largest accepted body is 64 KiB, a
	// bulk line 1 MiB.
	effectBytesMax = 4 << 20
	personalKey    = 16
)

// Flags of a recorded effect.
const (
	recordPerson   = 1 << iota // an ordinal follows
	recordConfig               // a config revision other than the frame's follows
	recordDedup                // an idempotency key and body hash follow
	recordPersonal             // a personal part ends the record
	recordFlags    = recordPerson | recordConfig | recordDedup | recordPersonal
)

// A frame is the effects of one group between two seals. In memory buf holds
// the records one after the other, a personal part being
//
//	person key 16 | plain bytes
//
// which the committer seals, off the group's lock; see appendFrame.
type frame struct {
	number    uint64
	time      UnixMsec // of the first effect; the others carry what is added
	config    uint32   // of the first effect
	count     int
	decisions int
	people    Ord // next ordinal when it was sealed
	buf       []byte
	clear     int // where the clear part of the last record begins in buf
	clearEnd  int
	erases    bool // somebody, unless that was taken back
}

// A group keeps frameKeep written frames that have frameKeepBytes in all, so that
// appends do not allocate.
const (
	frameKeep      = 4
	frameKeepBytes = 4 << 20
)

func newFrame(number uint64) *frame {
	return &frame{number: number, buf: make([]byte, 0, 4096)}
}

// reset empties a written frame; what it held is wiped.
func (f *frame) reset() {
	clear(f.buf)
	*f = frame{buf: f.buf[:0]}
}

type frameMark struct{ size, count, decisions int }

func (f *frame) mark() frameMark { return frameMark{len(f.buf), f.count, f.decisions} }

func (f *frame) rewind(m frameMark) {
	clear(f.buf[m.size:])
	f.buf, f.count, f.decisions = f.buf[:m.size], m.count, m.decisions
}

// append records e:
//
//	kind u8 | flags u8 | ord u32? | time since the frame's, ms uvarint |
//	config u32? | dedup key u64, body u32? |
//	clear length u32 | clear part | personal length u32, personal part?
//
// key seals the personal part; clear is the clear part where the caller has it, else
// nil. The frame is unchanged after an error.
func (f *frame) append(e *Effect, key *[16]byte, clear []byte) error {
	if e.Kind < EffectCreate || e.Kind > effectLast || e.Kind == EffectPatch && e.Patch == nil {
		return fmt.Errorf("%w: kind %d", ErrInvalid, e.Kind)
	}
	if f.count == 0 {
		f.time, f.config = e.Time, e.Config
	}
	mark := f.mark()
	le := binary.LittleEndian
	var flags byte
	b := append(f.buf, byte(e.Kind), 0)
	if e.Ord != NoOrd {
		flags |= recordPerson
		b = le.AppendUint32(b, uint32(e.Ord))
	}
	b = binary.AppendUvarint(b, uint64(e.Time-f.time))
	if e.Config != f.config {
		flags |= recordConfig
		b = le.AppendUint32(b, e.Config)
	}
	if e.DedupKey != 0 {
		flags |= recordDedup
		b = le.AppendUint64(b, e.DedupKey)
		b = le.AppendUint32(b, e.DedupBody)
	}
	at := len(b)
	if b = append(b, 0, 0, 0, 0); clear != nil {
		b = append(b, clear...)
	} else {
		b = appendClear(b, e)
	}
	le.PutUint32(b[at:], uint32(len(b)-at-4))
	f.clear, f.clearEnd = at+4, len(b)
	if hasPersonal(e) {
		flags |= recordPersonal
		at = len(b)
		b = append(b, 0, 0, 0, 0)
		if key != nil {
			b = append(b, key[:]...)
		}
		b = appendPersonal(b, e)
		le.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	b[mark.size+1] = flags
	f.buf = b
	var fault error
	switch {
	case flags&recordPersonal != 0 && key == nil:
		fault = fmt.Errorf("%w: kind %d without a person", ErrInvalid, e.Kind)
	case len(b)-mark.size > effectBytesMax:
		fault = fmt.Errorf("%w: kind %d of %d bytes", ErrInvalid, e.Kind, len(b)-mark.size)
	case len(b) > frameBytesMax:
		fault = fmt.Errorf("%w: %d bytes in one lock section", ErrLimit, len(b))
	}
	if fault != nil {
		f.rewind(mark)
		return fault
	}
	f.count++
	f.erases = f.erases || e.Kind == EffectErase
	if e.Kind == EffectDecision {
		f.decisions++
	}
	return nil
}

// lastClear returns the clear part of the last record: a view until the next append.
func (f *frame) lastClear() []byte { return f.buf[f.clear:f.clearEnd] }

// A record is one parsed effect whose body is not decoded yet. Its slices alias
// the frame.
type record struct {
	kind     EffectKind
	flags    byte
	ord      Ord
	time     UnixMsec
	config   uint32
	key      uint64
	body     uint32
	clear    []byte
	personal []byte
}

// next parses the record at the front of b and returns what follows it.
func (f *frameHead) next(b []byte) (r record, rest []byte, err error) {
	in := effectReader{b: b}
	r.kind, r.flags = EffectKind(in.u8()), in.u8()
	in.check(r.kind >= EffectCreate && r.kind <= effectLast && r.flags&^recordFlags == 0)
	r.ord = NoOrd
	if r.flags&recordPerson != 0 {
		r.ord = Ord(in.u32())
		in.check(r.ord != NoOrd)
	}
	after := in.uvarint()
	in.check(after < 1<<42)
	r.time, r.config = f.time+UnixMsec(after), f.config
	if r.flags&recordConfig != 0 {
		r.config = in.u32()
	}
	if r.flags&recordDedup != 0 {
		r.key, r.body = in.u64(), in.u32()
		in.check(r.key != 0)
	}
	r.clear = in.bytes(int(in.u32()))
	if r.flags&recordPersonal != 0 {
		r.personal = in.bytes(int(in.u32()))
		in.check(len(r.personal) > 0)
	}
	in.check(r.personal != nil || !alwaysPersonal(r.kind))
	if in.bad {
		return record{}, nil, fmt.Errorf("%w: malformed record", ErrCorrupt)
	}
	return r, in.b, nil
}

// begin fills e with what does not belong to the body.
func (r *record) begin(e *Effect) {
	*e = Effect{
		Kind: r.kind, Ord: r.ord, Time: r.time, Config: r.config,
		DedupKey: r.key, DedupBody: r.body,
	}
}

// frameHead is the fixed part of a frame on disk.
type frameHead struct {
	group  GroupID
	epoch  uint32
	number uint64
	prev   uint64 // frameHash of the frame before, 0 for the first
	time   UnixMsec
	config uint32
	count  uint32
	round  uint64 // of the committer, in the epoch: frames of one batch have the same; 0 in format 1
}

// frameHash chains frames: it is xxh3-64 of the whole value.
func frameHash(value []byte) uint64 { return xxh3.Hash(value) }

// appendFrame appends f as it lies on disk, all numbers little-endian:
//
//	magic u16 | group u16 | epoch u32 | number u64 | previous hash u64 |
//	time ms u64 | config u32 | count u32 | round u64 | records | CRC32C u32
//
// Personal parts are sealed with the key that precedes them. tell is called for every
// record that has a key of its own beside the frame: those of people who are created or
// erased and of decisions made in another frame.
func appendFrame(dst []byte, h *frameHead, f *frame, seal *sealer,
	tell func(r *record),
) ([]byte, error) {
	start := len(dst)
	le := binary.LittleEndian
	dst = le.AppendUint16(dst, frameMagic)
	dst = le.AppendUint16(dst, uint16(h.group))
	dst = le.AppendUint32(dst, h.epoch)
	dst = le.AppendUint64(dst, h.number)
	dst = le.AppendUint64(dst, h.prev)
	dst = le.AppendUint64(dst, uint64(h.time))
	dst = le.AppendUint32(dst, h.config)
	dst = le.AppendUint32(dst, h.count)
	dst = le.AppendUint64(dst, h.round)
	rest := f.buf
	for i := range f.count {
		r, after, err := h.next(rest)
		if err != nil {
			return dst[:start], err
		}
		size := len(rest) - len(after) // of the record in memory
		if r.kind == EffectCreate || r.kind == EffectErase ||
			r.kind == EffectDecision && !h.made(decisionOf(&r)) {
			tell(&r)
		}
		if r.flags&recordPersonal == 0 {
			dst = append(dst, rest[:size]...)
			rest = after
			continue
		}
		key := (*[16]byte)(r.personal[:personalKey])
		dst = append(dst, rest[:size-len(r.personal)-4]...)
		bind := frameBind(h, i, r.kind)
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		dst, err = seal.append(dst, key, r.personal[personalKey:], bind[:])
		if err != nil {
			return dst[:start], err
		}
		le.PutUint32(dst[at:], uint32(len(dst)-at-4))
		rest = after
	}
	return le.AppendUint32(dst, checkSum(dst[start:])), nil
}

// createOf reads a create as it lies in memory: its clear part, which has a fixed
// shape, and the key of the person.
func createOf(r *record) CreateEffect {
	in := effectReader{b: r.clear}
	return CreateEffect{
		Workspace: WorkspaceID(in.u32()), Slot: Slot(in.u16()), Person: PersonID(in.u64()),
		Key: [personalKey]byte(r.personal),
	}
}

// decisionOf returns the id of a decision.
func decisionOf(r *record) (id DecisionID) {
	copy(id[:], r.clear)
	return id
}

// made tells whether a decision was made in the frame, and so can be found by its
// id alone.
func (f *frameHead) made(id DecisionID) bool {
	return id.Frame() == f.number&(1<<36-1) && id.epoch() == uint16(f.epoch)
}

// frameBind ties a sealed part to its place:
// group u16 | epoch u32 | number u64 | index u32 | kind u8, big-endian.
func frameBind(h *frameHead, index int, kind EffectKind) (bind [19]byte) {
	be := binary.BigEndian
	be.PutUint16(bind[0:], uint16(h.group))
	be.PutUint32(bind[2:], h.epoch)
	be.PutUint64(bind[6:], h.number)
	be.PutUint32(bind[14:], uint32(index))
	bind[18] = byte(kind)
	return bind
}

// parseFrame verifies the bytes of a frame and returns its head and records.
func parseFrame(value []byte) (h frameHead, records []byte, err error) {
	if len(value) < frameHeader-8+frameCRC {
		return h, nil, fmt.Errorf("%w: frame of %d bytes", ErrCorrupt, len(value))
	}
	le := binary.LittleEndian
	end := len(value) - frameCRC
	if checkSum(value[:end]) != le.Uint32(value[end:]) {
		return h, nil, fmt.Errorf("%w: frame fails its checksum", ErrCorrupt)
	}
	magic := le.Uint16(value)
	if magic != frameMagic && magic != frameSecond && magic != frameFirst {
		if magic>>8 == frameMagic>>8 {
			return h, nil, fmt.Errorf("%w: frame format %d", ErrNewerFormat, magic&0xFF)
		}
		return h, nil, fmt.Errorf("%w: not a frame", ErrCorrupt)
	}
	h = frameHead{
		group:  GroupID(le.Uint16(value[2:])),
		epoch:  le.Uint32(value[4:]),
		number: le.Uint64(value[8:]),
		prev:   le.Uint64(value[16:]),
		time:   UnixMsec(le.Uint64(value[24:])),
		config: le.Uint32(value[32:]),
		count:  le.Uint32(value[36:]),
	}
	if magic == frameFirst {
		return h, value[frameHeader-8 : end], nil
	}
	if end < frameHeader {
		return h, nil, fmt.Errorf("%w: frame of %d bytes", ErrCorrupt, len(value))
	}
	h.round = le.Uint64(value[40:])
	return h, value[frameHeader:end], nil
}
