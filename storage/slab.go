package storage

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// Ref locates a block of a slab in units of slabUnit bytes. 0 is no block.
type Ref uint32

const (
	slabUnit      = 16
	slabChunk     = 1 << 20
	slabChunkUnit = slabChunk / slabUnit
	slabChunks    = 1 << 32 / slabChunkUnit
	slabHeader    = 4         // u32: length of the content, above it the block's class
	slabLength    = 1<<24 - 1 // bits of the length
	slabClasses   = 112
	// slabMax is the longest content of a block: one chunk less the reserved
	// first unit and the header.
	slabMax = slabChunk - slabUnit - slabHeader
)

// ErrTooLarge reports that a part of a person is longer than storage takes.
var ErrTooLarge = errors.New("the person's data is too large")

// ErrStateFull reports that a group has used up its addresses: 64 GiB of
// slabs or 2^28 people.
var ErrStateFull = errors.New("the group is full")

// A slab holds byte strings of 0 to slabMax bytes in pointer-free chunks of
// 1 MiB. A block is a u32, its class << 24 and the length of its content, and the
// content, rounded up to one of 112 size classes: every multiple of 16 bytes to 256,
// then eight steps a doubling, so that at most a ninth of a block is empty, but for
// the room that widen and putRoomy leave. Freed blocks are linked through their own
// first bytes, one list a class.
//
// The owner of the slab guards it. Views are valid until the next put or drop
// of the same block.
type slab struct {
	chunks [][]byte
	arena  arena[[slabChunk]byte]
	free   [slabClasses]Ref
	next   uint32 // unit inside the last chunk that was never handed out
	used   int64  // bytes of live blocks, rounded up to their class
}

// get returns the content of a block; nil for Ref 0.
func (s *slab) get(r Ref) []byte {
	if r == 0 {
		return nil
	}
	b := s.at(r)
	n := binary.LittleEndian.Uint32(b) & slabLength
	return b[slabHeader : slabHeader+n : slabHeader+n]
}

// class returns the class of a block.
func (s *slab) class(r Ref) int { return int(binary.LittleEndian.Uint32(s.at(r)) >> 24) }

// size returns the bytes that a block takes; 0 for Ref 0.
func (s *slab) size(r Ref) int64 {
	if r == 0 {
		return 0
	}
	return int64(classUnits(s.class(r))) * slabUnit
}

func setBlock(b []byte, class, size int) {
	binary.LittleEndian.PutUint32(b, uint32(class)<<24|uint32(size))
}

// put stores content in place of the block old, which may be 0, and returns the
// block that now holds it. It writes in place when the class stays the same.
// Content must not lie in the slab. Empty content frees old and returns 0.
func (s *slab) put(old Ref, content []byte) (Ref, error) { return s.putRoomy(old, content, 0) }

// putRoomy is put that stays in a block which has at most so many bytes of room, and
// what the class adds, behind the content. It leaves none where there was none.
func (s *slab) putRoomy(old Ref, content []byte, room int) (Ref, error) {
	if len(content) > slabMax {
		return old, ErrTooLarge
	}
	if len(content) == 0 {
		s.drop(old)
		return 0, nil
	}
	class := slabClass(len(content))
	if have := s.classOf(old); have < class || have > slabClass(len(content)+room) {
		r, err := s.take(class)
		if err != nil {
			return old, err
		}
		s.drop(old)
		old = r
	} else {
		class = have
	}
	b := s.at(old)
	setBlock(b, class, len(content))
	copy(b[slabHeader:], content)
	return old, nil
}

// classOf is the class of a block, -1 of none.
func (s *slab) classOf(r Ref) int {
	if r == 0 {
		return -1
	}
	return s.class(r)
}

// grow makes the block old, which may be 0, longer by n bytes and returns the block
// that now holds it, and its content, of which the last n bytes are the caller's to
// write.
func (s *slab) grow(old Ref, n int) (Ref, []byte, error) {
	return s.widen(old, len(s.get(old)), n, 0)
}

// widen opens a gap of n bytes at an offset of a block's content and returns the block
// that now holds it, and its content; what lies in the gap is for the caller to write.
// It works in place when the block has room; else it takes one that has so many bytes
// of room behind the content. Nothing has changed after an error.
func (s *slab) widen(old Ref, at, n, room int) (Ref, []byte, error) {
	content := s.get(old)
	size := len(content) + n
	if size > slabMax {
		return old, nil, ErrTooLarge
	}
	ref, class := old, s.classOf(old)
	if class < 0 || classRoom(class) < size {
		class = slabClass(min(size+room, slabMax))
		var err error
		if ref, err = s.take(class); err != nil {
			return old, nil, err
		}
	}
	b := s.at(ref)
	into := b[slabHeader : slabHeader+size : slabHeader+size]
	copy(into[at+n:], content[at:])
	if ref != old {
		copy(into, content[:at])
		s.drop(old)
	}
	setBlock(b, class, size)
	return ref, into, nil
}

// classRoom is the longest content of a block of a class.
func classRoom(class int) int { return int(classUnits(class))*slabUnit - slabHeader }

// room reports, before two puts of these lengths, whether both will succeed.
func (s *slab) room(a, b int) error {
	if a > slabMax || b > slabMax {
		return ErrTooLarge
	}
	units := classUnits(slabClass(a)) + classUnits(slabClass(b))
	if len(s.chunks) < slabChunks-1 || s.next+units <= slabChunkUnit {
		return nil
	}
	return ErrStateFull
}

// spare returns nil when there is room for what is not a person's: the last two chunks
// are for people.
func (s *slab) spare() error {
	if len(s.chunks) >= slabChunks-2 {
		return ErrStateFull
	}
	return nil
}

// drop frees a block; 0 is a no-op.
func (s *slab) drop(r Ref) {
	if r == 0 {
		return
	}
	class := s.class(r)
	s.used -= int64(classUnits(class)) * slabUnit
	s.release(r, class)
}

// bytes returns the memory held and the part of it in live blocks.
func (s *slab) bytes() (held, used int64) {
	return int64(len(s.chunks)) * slabChunk, s.used
}

func (s *slab) take(class int) (Ref, error) {
	units := classUnits(class)
	if r := s.free[class]; r != 0 {
		s.free[class] = Ref(binary.LittleEndian.Uint32(s.at(r)))
		s.used += int64(units) * slabUnit
		return r, nil
	}
	if len(s.chunks) == 0 || s.next+units > slabChunkUnit {
		if len(s.chunks) >= slabChunks {
			return 0, ErrStateFull
		}
		s.shred()
		s.chunks = append(s.chunks, s.arena.next(len(s.chunks))[:])
		s.next = 0
		if len(s.chunks) == 1 {
			s.next = 1 // Ref 0 means none
		}
	}
	r := Ref(uint32(len(s.chunks)-1)*slabChunkUnit + s.next)
	s.next += units
	s.used += int64(units) * slabUnit
	return r, nil
}

// shred gives the unused end of the last chunk to the free lists.
func (s *slab) shred() {
	if len(s.chunks) == 0 {
		return
	}
	for class := slabClasses - 1; class >= 0; class-- {
		units := classUnits(class)
		for s.next+units <= slabChunkUnit {
			s.release(Ref(uint32(len(s.chunks)-1)*slabChunkUnit+s.next), class)
			s.next += units
		}
	}
}

func (s *slab) release(r Ref, class int) {
	binary.LittleEndian.PutUint32(s.at(r), uint32(s.free[class]))
	s.free[class] = r
}

func (s *slab) at(r Ref) []byte {
	return s.chunks[r/slabChunkUnit][uint32(r)%slabChunkUnit*slabUnit:]
}

// slabClass returns the smallest class that holds n bytes of content.
func slabClass(n int) int {
	units := uint32(n+slabHeader+slabUnit-1) / slabUnit
	if units <= 16 {
		return int(units) - 1
	}
	e := bits.Len32(units-1) - 4
	return 16 + (e-1)*8 + int((units-1)>>e) - 8
}

// classUnits returns the size of a class in units.
func classUnits(class int) uint32 {
	if class < 16 {
		return uint32(class) + 1
	}
	e := (class-16)/8 + 1
	return (uint32(class-16)%8 + 9) << e
}
