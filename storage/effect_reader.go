package storage

import (
	"encoding/binary"
	"fmt"
	"math"
)

// effectReader reads the primitives. After the first fault every read gives
// zero and end reports it.
type effectReader struct {
	b   []byte
	bad bool
}

func (r *effectReader) check(ok bool) {
	if !ok {
		r.bad, r.b = true, nil
	}
}

// end reports a fault, or bytes that nobody read.
func (r *effectReader) end() error {
	if r.bad || len(r.b) != 0 {
		return fmt.Errorf("%w: malformed bytes", ErrCorrupt)
	}
	return nil
}

func (r *effectReader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.check(false)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *effectReader) u8() uint8 {
	if v := r.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *effectReader) u16() uint16 {
	if v := r.bytes(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (r *effectReader) u32() uint32 {
	if v := r.bytes(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *effectReader) u64() uint64 {
	if v := r.bytes(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (r *effectReader) flag() bool {
	v := r.u8()
	r.check(v <= 1)
	return v == 1
}

func (r *effectReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.check(false)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *effectReader) uvarint32() uint32 {
	v := r.uvarint()
	r.check(v <= math.MaxUint32)
	return uint32(v)
}

func (r *effectReader) name() Name { return Name(r.uvarint32()) }

// count reads the length of a list whose elements take at least size bytes, so
// that corrupt bytes cannot ask for more memory than they are long.
func (r *effectReader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.check(false)
		return 0
	}
	return int(n)
}

// text reads a length and as many bytes; an empty text is nil.
func (r *effectReader) text() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.check(false)
		return nil
	}
	if n == 0 {
		return nil
	}
	return r.bytes(int(n))
}
