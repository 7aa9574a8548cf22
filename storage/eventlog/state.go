package eventlog

import (
	"encoding/binary"
	"fmt"
	"slices"
)

const stateFormat = 1

// maxSegments bounds what a state may name.
const maxSegments = 1 << 20

// State names all that is in the log. It is kept by the caller, durable before
// the frames it covers are dropped. Little-endian:
//
//	format u8 | next segment u64 | streams u8 × (retired by days u64 | by bytes u64 |
//	until ms i64) | groups u16 × last frame u64 | segments u32 × (number u64 |
//	stream u8 | bytes u64 | records u64 | blocks u32 | last hash u64 |
//	first ms i64 | last ms i64) | CRC32C u32
//
// Hash is xxh3-64 of the header of the segment's last block.
type state struct {
	next     uint64
	retired  [Streams]retired
	logged   []uint64 // by group: frames up to it are in the log
	segments []segment
}

// retired counts what has left a stream.
type retired struct {
	byDays, byBytes uint64 // segments
	until           int64  // ms of the newest record among them
}

// segment is one file of one stream.
type segment struct {
	number      uint64
	stream      Stream
	size        int64 // bytes that count, of the file
	records     uint64
	blocks      uint32
	hash        uint64
	from, until int64 // ms
}

func (s *state) clone() state {
	c := *s
	c.logged, c.segments = slices.Clone(s.logged), slices.Clone(s.segments)
	return c
}

func (s *state) append(dst []byte) []byte {
	le, at := binary.LittleEndian, len(dst)
	dst = le.AppendUint64(append(dst, stateFormat), s.next)
	dst = append(dst, byte(Streams))
	for _, r := range s.retired {
		dst = le.AppendUint64(le.AppendUint64(dst, r.byDays), r.byBytes)
		dst = le.AppendUint64(dst, uint64(r.until))
	}
	dst = le.AppendUint16(dst, uint16(len(s.logged)))
	for _, frame := range s.logged {
		dst = le.AppendUint64(dst, frame)
	}
	dst = le.AppendUint32(dst, uint32(len(s.segments)))
	for i := range s.segments {
		g := &s.segments[i]
		dst = append(le.AppendUint64(dst, g.number), byte(g.stream))
		dst = le.AppendUint64(le.AppendUint64(dst, uint64(g.size)), g.records)
		dst = le.AppendUint64(le.AppendUint32(dst, g.blocks), g.hash)
		dst = le.AppendUint64(le.AppendUint64(dst, uint64(g.from)), uint64(g.until))
	}
	return le.AppendUint32(dst, checkSum(dst[at:]))
}

func parseState(b []byte) (s state, err error) {
	if len(b) < 5 || checkSum(b[:len(b)-4]) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return s, fmt.Errorf("%w: the state fails its checksum", ErrCorrupt)
	}
	if b[0] > stateFormat {
		return s, fmt.Errorf("%w: state format %d", ErrNewerFormat, b[0])
	}
	in := reader{b: b[:len(b)-4]}
	format := in.u8()
	s.next = in.u64()
	if in.u8() != byte(Streams) || format != stateFormat {
		in.fail()
	}
	for i := range s.retired {
		s.retired[i] = retired{in.u64(), in.u64(), int64(in.u64())}
	}
	for range in.u16() {
		s.logged = append(s.logged, in.u64())
	}
	n := in.u32()
	if n > maxSegments {
		in.fail()
		n = 0
	}
	for last := uint64(0); n > 0 && !in.bad; n-- {
		g := segment{
			number: in.u64(), stream: Stream(in.u8()), size: int64(in.u64()), records: in.u64(),
			blocks: in.u32(), hash: in.u64(), from: int64(in.u64()), until: int64(in.u64()),
		}
		if g.number <= last || g.number >= s.next || g.stream >= Streams || g.size < segmentHeader {
			in.fail()
		}
		last = g.number
		s.segments = append(s.segments, g)
	}
	if in.bad || len(in.b) != 0 {
		return state{}, fmt.Errorf("%w: malformed state", ErrCorrupt)
	}
	return s, nil
}

// File is one file of a log, as far as it counts.
type File struct {
	Name  string
	Bytes int64
}

// Contents returns the files that stateBytes, of Pass.State, names, oldest first,
// and by group the last frame that lies in them; nil names none.
func Contents(stateBytes []byte) (files []File, logged []uint64, err error) {
	if stateBytes == nil {
		return nil, nil, nil
	}
	s, err := parseState(stateBytes)
	if err != nil {
		return nil, nil, err
	}
	for i := range s.segments {
		g := &s.segments[i]
		files = append(files, File{segmentName(g.stream, g.number), g.size})
	}
	return files, s.logged, nil
}
