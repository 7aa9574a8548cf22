package eventlog

import (
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"
)

// unpacker reads blocks back; it keeps its buffers. One goroutine uses it.
type unpacker struct {
	zip    *zstd.Decoder
	key    [16]byte
	stream keystream
	cur    cursor
	buf    [256][]byte
	stored []byte
}

func newUnpacker(key *[16]byte) (*unpacker, error) {
	zip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxColumnSize))
	if err != nil {
		return nil, fmt.Errorf("decompressor: %w", err)
	}
	return &unpacker{zip: zip, key: *key}, nil
}

// fetch reads n stored bytes at an offset behind the header.
type fetch func(dst []byte, at int64) error

// column returns the raw bytes of a column, nil when the block has none.
func (u *unpacker) column(h *header, id uint8, read fetch) ([]byte, error) {
	c, at, ok := h.column(id)
	if !ok {
		return nil, nil
	}
	if cap(u.stored) < int(c.stored) {
		u.stored = make([]byte, c.stored)
	}
	stored := u.stored[:c.stored]
	if err := read(stored, at); err != nil {
		return nil, err
	}
	if checkSum(stored) != c.crc {
		return nil, fmt.Errorf("%w: column %d fails its checksum", ErrCorrupt, id)
	}
	if id == columnValues || id == columnShapes {
		u.stream.xor(&u.key, labelTables, uint32(id), stored)
	}
	if c.stored == c.raw {
		u.buf[id] = append(u.buf[id][:0], stored...)
		return u.buf[id], nil
	}
	out, err := u.zip.DecodeAll(stored, u.buf[id][:0])
	if err != nil || len(out) != int(c.raw) {
		return nil, fmt.Errorf("%w: column %d of %d bytes: %w", ErrCorrupt, id, c.raw, err)
	}
	u.buf[id] = out
	return out, nil
}

// cursor walks the records of one block.
type cursor struct {
	u        *unpacker
	h        *header
	personal bool // whether it reads the personal parts

	frames, types, ords, times, occurred, configs, shape, lengths, dedup reader
	kinds, flags                                                         []byte
	clear                                                                [maxKind + 1]reader
	parts                                                                reader
	shapes                                                               [][]byte
	code                                                                 decoder
	text                                                                 []byte

	at     uint32 // records read
	left   uint32 // records left of the frame
	index  uint32
	frame  uint64
	epoch  uint32
	time   int64
	config uint32
	first  bool
}

// open readies a cursor over a block; it is valid until the next open.
func (u *unpacker) open(h *header, personal bool, read fetch) (*cursor, error) {
	c := &u.cur
	text := c.text
	*c = cursor{u: u, h: h, personal: personal, time: h.from, frame: h.first, first: true}
	c.text = text[:0]
	u.stream.nonce = h.nonce
	for _, col := range h.columns {
		if col.id == columnFilter || !personal && (col.id == columnPersonal ||
			col.id == columnValues || col.id == columnShapes) {
			continue
		}
		b, err := u.column(h, col.id, read)
		if err != nil {
			return nil, err
		}
		if !c.set(col.id, b) {
			return nil, fmt.Errorf("%w: column %d", ErrCorrupt, col.id)
		}
	}
	if len(c.kinds) != int(h.records) || len(c.flags) != int(h.records) {
		return nil, fmt.Errorf("%w: %d kinds of %d records", ErrCorrupt, len(c.kinds), h.records)
	}
	return c, nil
}

func (c *cursor) set(id uint8, b []byte) bool {
	in, ok := reader{b: b}, true
	switch id {
	case columnFrames:
		c.frames = in
	case columnKinds:
		c.kinds = b
	case columnTypes:
		c.types = in
	case columnOrds:
		c.ords = in
	case columnTimes:
		c.times = in
	case columnOccurred:
		c.occurred = in
	case columnConfigs:
		c.configs = in
	case columnFlags:
		c.flags = b
	case columnShape:
		c.shape = in
	case columnLengths:
		c.lengths = in
	case columnDedup:
		c.dedup = in
	case columnPersonal:
		c.parts = in
	case columnValues:
		c.code.values, ok = parseTable(b)
	case columnShapes:
		c.shapes, ok = parseTable(b)
	default:
		if ok = id >= clearColumn && id <= clearColumn+maxKind; ok {
			c.clear[id-clearColumn] = in
		}
	}
	return ok
}

// nextFrame enters the next frame; false: there is none.
func (c *cursor) nextFrame() bool {
	if len(c.frames.b) == 0 {
		return false
	}
	step := c.frames.uvarint()
	if step == 0 && !c.first || c.first && step != 0 || step > c.h.last-c.frame {
		c.frames.fail()
	}
	c.first = false
	c.frame += step
	c.epoch += uint32(c.frames.varint())
	c.left, c.index = c.frames.u32v(), 0
	if c.frames.bad || c.left > c.h.records-c.at {
		c.frames.fail()
		c.left = 0
		return false
	}
	return true
}

// next fills r with the next record, but for its personal part, which open reads;
// part is its bytes. False: the block has ended, well or with an error.
func (c *cursor) next(r *Record) (part []byte, more bool, err error) {
	for c.left == 0 {
		if !c.nextFrame() {
			return nil, false, c.end()
		}
	}
	kind, flags := c.kinds[c.at], c.flags[c.at]
	if kind > maxKind || flags&^flagsKnown != 0 {
		return nil, false, c.corrupt()
	}
	c.time += c.times.varint()
	c.config += uint32(c.configs.varint())
	*r = Record{
		Group: c.h.group, Frame: c.frame, Epoch: c.epoch, Index: c.index, Kind: kind,
		Type: c.types.u32v(), Ord: c.ords.u32v() - 1, Config: c.config,
		Time: c.time, Occurred: c.time, Clear: c.clear[kind].text(), Lost: flags&flagLost != 0,
	}
	if flags&flagOccurred != 0 {
		r.Occurred -= c.occurred.varint()
	}
	if flags&flagDedup != 0 {
		r.Dedup, r.Body = c.dedup.u64(), c.dedup.u32()
	}
	n := c.lengths.uvarint()
	if c.personal {
		part = c.parts.take(n)
	}
	c.at++
	c.left--
	c.index++
	if c.times.bad || c.configs.bad || c.types.bad || c.ords.bad || c.occurred.bad ||
		c.clear[kind].bad || c.lengths.bad || c.parts.bad || c.dedup.bad {
		return nil, false, c.corrupt()
	}
	return part, true, nil
}

// speaks reports whether the record read last has a personal part, and it is read.
func (c *cursor) speaks() bool {
	return c.personal && c.flags[c.at-1]&(flagText|flagRaw|flagPersonal) != 0
}

// shapeOf returns the shape of the record read last, nil when it has none. It must
// be called once for each record, read or not.
func (c *cursor) shapeOf() (shape []byte, err error) {
	if c.flags[c.at-1]&flagShape == 0 {
		return nil, nil
	}
	i := c.shape.u32v()
	switch {
	case c.shape.bad:
		return nil, c.corrupt()
	case !c.personal:
		return nil, nil
	case i >= uint32(len(c.shapes)):
		return nil, c.corrupt()
	}
	return c.shapes[i], nil
}

// open decrypts and decodes the personal part of r, the record read last. Part is
// changed.
func (c *cursor) open(r *Record, part, shape []byte, key *[16]byte) error {
	c.u.stream.xor(key, labelPerson, c.at-1, part)
	flags := c.flags[c.at-1]
	c.code.in = reader{b: part}
	c.text = c.text[:0]
	if flags&flagText != 0 {
		c.text = c.code.string(c.text)
	}
	text := len(c.text)
	switch {
	case flags&flagShape != 0:
		c.text = c.code.object(c.text, shape)
	case flags&flagRaw != 0:
		c.text = append(c.text, c.code.in.text()...)
	}
	r.Text, r.Raw = c.text[:text:text], c.text[text:]
	r.Personal = c.code.in.b
	if c.code.in.bad || len(r.Personal) > 0 != (flags&flagPersonal != 0) {
		return c.corrupt()
	}
	return nil
}

// end checks that the columns end with the records.
func (c *cursor) end() error {
	left := len(c.times.b) + len(c.types.b) + len(c.ords.b) + len(c.occurred.b) +
		len(c.configs.b) + len(c.lengths.b) + len(c.parts.b) + len(c.shape.b) + len(c.frames.b) +
		len(c.dedup.b)
	for i := range c.clear {
		left += len(c.clear[i].b)
	}
	if left != 0 || c.frames.bad || c.at != c.h.records || c.frame != c.h.last {
		return c.corrupt()
	}
	return nil
}

func (c *cursor) corrupt() error {
	return fmt.Errorf("%w: record %d of a block of group %d, frames %d to %d",
		ErrCorrupt, min(c.at, math.MaxUint32), c.h.group, c.h.first, c.h.last)
}
