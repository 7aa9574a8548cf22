package eventlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/zeebo/xxh3"
)

const (
	blockMagic  = 0x6B6C6274 // "tblk"
	blockFormat = 1
	// headerFixed is magic, format, stream, group and the header's own length:
	// what must be read before the rest can be.
	headerFixed   = 12
	headerMax     = 16 << 10
	maxTypes      = 1024    // distinct types that a header lists
	maxRecords    = 1 << 16 // of a block
	maxColumns    = 64
	maxColumnSize = 64 << 20
	maxKind       = 0x7F
)

// Ids of columns; clearColumn + kind is the clear parts of one kind.
const (
	columnFrames = iota + 1
	columnKinds
	columnTypes
	columnOrds
	columnTimes
	columnOccurred
	columnConfigs
	columnFlags
	columnShape
	columnLengths
	columnPersonal
	columnValues
	columnShapes
	columnFilter
	columnDedup
	clearColumn = 0x40
)

// header is the front of a block. All numbers are little-endian:
//
//	magic u32 | format u8 | stream u8 | group u16 | header bytes u32 |
//	records u32 | first frame u64 | last frame u64 | first ms i64 | last ms i64 |
//	random 8 | previous u64 | types: list of uvarint, rising by what is added |
//	columns u8 × (id u8 | raw bytes u32 | stored bytes u32 | CRC32C u32) | CRC32C u32
//
// The columns follow in their order. Previous is xxh3-64 of the header of the
// block before it in the segment, 0 for the first. No types: any.
type header struct {
	stream      Stream
	group       uint16
	records     uint32
	first, last uint64
	from, until int64
	nonce       [8]byte
	prev        uint64
	types       []uint32
	columns     []column
	size        int // of the header
}

type column struct {
	id          uint8
	raw, stored uint32
	crc         uint32
}

func checkSum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// chainHash is what the next block calls previous.
func chainHash(header []byte) uint64 { return xxh3.Hash(header) }

// body returns the bytes of all columns.
func (h *header) body() int64 {
	n := int64(0)
	for _, c := range h.columns {
		n += int64(c.stored)
	}
	return n
}

// column returns the column with an id and its offset behind the header.
func (h *header) column(id uint8) (c column, at int64, ok bool) {
	for _, c := range h.columns {
		if c.id == id {
			return c, at, true
		}
		at += int64(c.stored)
	}
	return column{}, 0, false
}

// has reports whether the block may hold a record of the type.
func (h *header) has(typ uint32) bool {
	if len(h.types) == 0 {
		return true
	}
	_, ok := slices.BinarySearch(h.types, typ)
	return ok
}

func (h *header) append(dst []byte) []byte {
	le, at := binary.LittleEndian, len(dst)
	dst = le.AppendUint32(dst, blockMagic)
	dst = append(dst, blockFormat, byte(h.stream))
	dst = le.AppendUint16(dst, h.group)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, h.records)
	dst = le.AppendUint64(dst, h.first)
	dst = le.AppendUint64(dst, h.last)
	dst = le.AppendUint64(dst, uint64(h.from))
	dst = le.AppendUint64(dst, uint64(h.until))
	dst = append(dst, h.nonce[:]...)
	dst = le.AppendUint64(dst, h.prev)
	dst = binary.AppendUvarint(dst, uint64(len(h.types)))
	last := uint32(0)
	for _, t := range h.types {
		dst = binary.AppendUvarint(dst, uint64(t-last))
		last = t
	}
	dst = append(dst, byte(len(h.columns)))
	for _, c := range h.columns {
		dst = append(dst, c.id)
		dst = le.AppendUint32(dst, c.raw)
		dst = le.AppendUint32(dst, c.stored)
		dst = le.AppendUint32(dst, c.crc)
	}
	le.PutUint32(dst[at+8:], uint32(len(dst)-at+4))
	return le.AppendUint32(dst, checkSum(dst[at:]))
}

// headerSize returns the length of the header that begins with fixed.
func headerSize(fixed []byte) (int, error) {
	in := reader{b: fixed}
	magic, format := in.u32(), in.u8()
	in.take(3)
	size := in.u32()
	switch {
	case in.bad || magic != blockMagic:
		return 0, fmt.Errorf("%w: no block begins here", ErrCorrupt)
	case format > blockFormat:
		return 0, fmt.Errorf("%w: block format %d", ErrNewerFormat, format)
	case format != blockFormat || size < headerFixed+4 || size > headerMax:
		return 0, fmt.Errorf("%w: block header of %d bytes", ErrCorrupt, size)
	}
	return int(size), nil
}

// parseHeader reads a whole header, of headerSize bytes.
func parseHeader(b []byte) (h header, err error) {
	size, err := headerSize(b)
	if err != nil {
		return h, err
	}
	if size != len(b) || checkSum(b[:size-4]) != binary.LittleEndian.Uint32(b[size-4:]) {
		return h, fmt.Errorf("%w: block header fails its checksum", ErrCorrupt)
	}
	in := reader{b: b[5 : size-4]}
	h.stream, h.group, h.size = Stream(in.u8()), in.u16(), size
	in.take(4)
	h.records, h.first, h.last = in.u32(), in.u64(), in.u64()
	h.from, h.until = int64(in.u64()), int64(in.u64())
	copy(h.nonce[:], in.take(8))
	h.prev = in.u64()
	types := in.uvarint()
	if types > maxTypes {
		in.fail()
		types = 0
	}
	last := uint64(0)
	for range types {
		last += in.uvarint()
		if last > math.MaxUint32 {
			in.fail()
		}
		h.types = append(h.types, uint32(last))
	}
	columns := in.u8()
	for range columns {
		c := column{in.u8(), in.u32(), in.u32(), in.u32()}
		if c.raw > maxColumnSize || c.stored > c.raw {
			in.fail()
		}
		h.columns = append(h.columns, c)
	}
	if in.bad || len(in.b) != 0 || h.stream >= Streams || h.records > maxRecords ||
		columns > maxColumns || h.last < h.first {
		return header{}, fmt.Errorf("%w: malformed block header", ErrCorrupt)
	}
	return h, nil
}
