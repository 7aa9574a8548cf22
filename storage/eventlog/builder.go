package eventlog

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/zstd"
)

const (
	// BlockRecords and BlockBytes are when a Builder is Full: blocks of that size
	// compress as well as larger ones and are read back in milliseconds.
	BlockRecords = maxRecords
	BlockBytes   = 8 << 20
)

// Flags of a record.
const (
	flagText = 1 << iota
	flagRaw
	flagShape // Raw is coded by a shape
	flagPersonal
	flagLost
	flagOccurred
	flagDedup
	flagsKnown = 1<<iota - 1
)

// A Builder gathers the records of one block. One goroutine uses it; Reset readies
// it for the next.
type Builder struct {
	group  uint16
	stream Stream

	frames  []builderFrame
	entries []entry
	arena   []byte // of each record the clear part, the text, the raw, the personal part
}

type builderFrame struct {
	number uint64
	epoch  uint32
	count  uint32
}

type entry struct {
	time, occurred   int64
	typ, ord, config uint32
	clear, text      uint32 // lengths
	raw, personal    uint32
	kind             uint8
	lost             bool
	key              [16]byte
	dedup            uint64
	body             uint32
}

// Reset empties the builder.
func (b *Builder) Reset(group uint16, stream Stream) {
	clear(b.arena)
	clear(b.entries)
	*b = Builder{
		group: group, stream: stream,
		frames: b.frames[:0], entries: b.entries[:0], arena: b.arena[:0],
	}
}

// Frame begins a frame; its number must be above the last one's. Frames without
// records of the stream belong in too: a log knows which frames there were.
func (b *Builder) Frame(number uint64, epoch uint32) {
	b.frames = append(b.frames, builderFrame{number: number, epoch: epoch})
}

// Empty reports whether no frame has begun.
func (b *Builder) Empty() bool { return len(b.frames) == 0 }

// Full reports whether the block should be written: at a frame's end.
func (b *Builder) Full() bool {
	return len(b.entries) >= BlockRecords/2 || len(b.arena) >= BlockBytes ||
		len(b.frames) >= BlockRecords
}

// Fits reports whether a frame of so many records and bytes still has room.
func (b *Builder) Fits(records, bytes int) bool {
	return len(b.entries)+records <= BlockRecords && len(b.arena)+bytes <= maxColumnSize/2 &&
		len(b.frames) < BlockRecords
}

// Add copies a record of the frame begun last. key encrypts the personal part;
// nil: the key is gone, and so is that part. It does not allocate once the
// builder has grown.
func (b *Builder) Add(r *Record, key *[16]byte) error {
	size := len(r.Clear) + len(r.Text) + len(r.Raw) + len(r.Personal)
	if r.Kind > maxKind || len(b.frames) == 0 || len(b.entries) == BlockRecords ||
		len(b.arena)+size > maxColumnSize/2 {
		return fmt.Errorf("%w: %d records of %d bytes", ErrFull, len(b.entries), len(b.arena))
	}
	e := entry{
		time: r.Time, occurred: r.Occurred, typ: r.Type, ord: r.Ord, config: r.Config,
		clear: uint32(len(r.Clear)), kind: r.Kind, lost: r.Lost, dedup: r.Dedup, body: r.Body,
	}
	b.arena = append(b.arena, r.Clear...)
	switch {
	case key != nil:
		e.key = *key
		e.text, e.raw = uint32(len(r.Text)), uint32(len(r.Raw))
		e.personal = uint32(len(r.Personal))
		b.arena = append(append(append(b.arena, r.Text...), r.Raw...), r.Personal...)
	case r.personal():
		e.lost = true
	}
	b.entries = append(b.entries, e)
	b.frames[len(b.frames)-1].count++
	return nil
}

// A packer encodes builders; it keeps its buffers.
type packer struct {
	zip     *zstd.Encoder
	key     [16]byte // encrypts the tables
	random  io.Reader
	stream  keystream
	object  object
	columns [256][]byte
	body    []byte
	ords    []uint32
	sights  []sight
}

func newPacker(key *[16]byte, random io.Reader) (*packer, error) {
	// The fastest level leaves events 1 % larger than the next one, decisions no larger.
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(4<<20), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, fmt.Errorf("compressor: %w", err)
	}
	return &packer{zip: zip, key: *key, random: random}, nil
}

// pack appends the block of b to dst. prev is the chain hash of the block before.
func (p *packer) pack(dst []byte, b *Builder, prev uint64) ([]byte, header, error) {
	h := header{stream: b.stream, group: b.group, records: uint32(len(b.entries)), prev: prev}
	if _, err := io.ReadFull(p.random, h.nonce[:]); err != nil {
		return dst, h, fmt.Errorf("random source: %w", err)
	}
	p.stream.nonce = h.nonce
	for i := range p.columns {
		p.columns[i] = p.columns[i][:0]
	}
	h.first, h.last = b.frames[0].number, b.frames[len(b.frames)-1].number
	p.frames(b)
	p.plain(b, &h)
	p.personal(b)
	p.filter(b)
	p.body = p.body[:0]
	for id := range p.columns {
		if len(p.columns[id]) > 0 {
			p.column(&h, uint8(id))
		}
	}
	if len(h.columns) > maxColumns {
		return dst, h, fmt.Errorf("%w: %d columns", ErrFull, len(h.columns))
	}
	at := len(dst)
	dst = h.append(dst)
	h.size = len(dst) - at
	return append(dst, p.body...), h, nil
}

// frames writes number, epoch and records of each frame, as differences.
func (p *packer) frames(b *Builder) {
	col := p.columns[columnFrames]
	number, epoch := b.frames[0].number, uint32(0)
	for _, f := range b.frames {
		col = binary.AppendUvarint(col, f.number-number)
		col = appendVarint(col, int64(f.epoch)-int64(epoch))
		col = binary.AppendUvarint(col, uint64(f.count))
		number, epoch = f.number, f.epoch
	}
	p.columns[columnFrames] = col
}

// plain writes what is not personal, and what the header says of it.
func (p *packer) plain(b *Builder, h *header) {
	c := &p.columns
	var time int64
	var config uint32
	arena := b.arena
	if len(b.entries) > 0 {
		time = b.entries[0].time
		h.from, h.until = time, time
	}
	seen := map[uint32]struct{}{}
	for i := range b.entries {
		e := &b.entries[i]
		h.from, h.until = min(h.from, e.time), max(h.until, e.time)
		if len(seen) <= maxTypes {
			seen[e.typ] = struct{}{}
		}
		c[columnKinds] = append(c[columnKinds], e.kind)
		c[columnTypes] = binary.AppendUvarint(c[columnTypes], uint64(e.typ))
		c[columnOrds] = binary.AppendUvarint(c[columnOrds], uint64(e.ord+1))
		c[columnTimes] = appendVarint(c[columnTimes], e.time-time)
		c[columnConfigs] = appendVarint(c[columnConfigs], int64(e.config)-int64(config))
		if e.occurred != e.time {
			c[columnOccurred] = appendVarint(c[columnOccurred], e.time-e.occurred)
		}
		if e.dedup != 0 {
			col := binary.LittleEndian.AppendUint64(c[columnDedup], e.dedup)
			c[columnDedup] = binary.LittleEndian.AppendUint32(col, e.body)
		}
		time, config = e.time, e.config
		id := clearColumn + e.kind
		c[id] = appendText(c[id], arena[:e.clear])
		arena = arena[e.clear+e.text+e.raw+e.personal:]
	}
	if len(seen) <= maxTypes {
		for t := range seen {
			h.types = append(h.types, t)
		}
		slices.Sort(h.types)
	}
}

// personal makes the tables, then codes and encrypts what is said of each person.
func (p *packer) personal(b *Builder) {
	sights := min(sightsMost, 1<<bits.Len(uint(len(b.entries))))
	p.sights = append(p.sights[:0], make([]sight, sights)...)
	values, shapes := census{map[string]*share{}, p.sights}, census{seen: map[string]*share{}}
	b.each(func(_ int, e *entry, text, raw, _ []byte) {
		if e.text > 0 {
			values.addString(text, e.ord)
		}
		if e.raw == 0 || !p.object.parse(raw) {
			return
		}
		shapes.add(p.object.keys, e.ord)
		for _, v := range p.object.values {
			if v[0] == '"' {
				values.addString(v[1:len(v)-1], e.ord)
			}
		}
	})
	table, forms := values.table(), shapes.table()
	form := numbered(forms)
	code := coder{values: numbered(table)}
	c := &p.columns
	b.each(func(i int, e *entry, text, raw, personal []byte) {
		at := len(c[columnPersonal])
		flags := p.code(&code, form, e, [3][]byte{text, raw, personal})
		c[columnFlags] = append(c[columnFlags], flags)
		part := c[columnPersonal][at:]
		c[columnLengths] = binary.AppendUvarint(c[columnLengths], uint64(len(part)))
		p.stream.xor(&e.key, labelPerson, uint32(i), part)
	})
	if len(table) > 0 {
		c[columnValues] = appendTable(c[columnValues], table)
	}
	if len(forms) > 0 {
		c[columnShapes] = appendTable(c[columnShapes], forms)
	}
}

// each calls f with the personal parts of every record.
func (b *Builder) each(f func(i int, e *entry, text, raw, personal []byte)) {
	at := uint32(0)
	for i := range b.entries {
		e := &b.entries[i]
		text := at + e.clear
		raw := text + e.text
		personal := raw + e.raw
		at = personal + e.personal
		f(i, e, b.arena[text:raw], b.arena[raw:personal], b.arena[personal:at])
	}
}

// code appends the personal part of one record and returns its flags.
func (p *packer) code(code *coder, form map[string]uint32, e *entry, parts [3][]byte) (flags byte) {
	c := &p.columns
	dst := c[columnPersonal]
	if e.occurred != e.time {
		flags |= flagOccurred
	}
	if e.dedup != 0 {
		flags |= flagDedup
	}
	if e.lost {
		flags |= flagLost
	}
	if e.text > 0 {
		flags |= flagText
		dst = code.appendString(dst, parts[0])
	}
	if e.raw > 0 {
		flags |= flagRaw
		shape, ok := uint32(0), p.object.parse(parts[1])
		if ok {
			shape, ok = form[string(p.object.keys)]
		}
		if ok {
			flags |= flagShape
			c[columnShape] = binary.AppendUvarint(c[columnShape], uint64(shape))
			for _, v := range p.object.values {
				dst = code.appendValue(dst, v)
			}
		} else {
			dst = appendText(dst, parts[1])
		}
	}
	if e.personal > 0 {
		flags |= flagPersonal
		dst = append(dst, parts[2]...)
	}
	c[columnPersonal] = dst
	return flags
}

// column compresses and, when it is a table, encrypts one column.
func (p *packer) column(h *header, id uint8) {
	raw := p.columns[id]
	c := column{id: id, raw: uint32(len(raw))}
	at := len(p.body)
	if id != columnPersonal && id != columnFilter && len(raw) >= 16 {
		p.body = p.zip.EncodeAll(raw, p.body)
	}
	if n := len(p.body) - at; n == 0 || n >= len(raw) {
		p.body = append(p.body[:at], raw...)
	}
	stored := p.body[at:]
	if id == columnValues || id == columnShapes {
		p.stream.xor(&p.key, labelTables, uint32(id), stored)
	}
	c.stored, c.crc = uint32(len(stored)), checkSum(stored)
	h.columns = append(h.columns, c)
}
