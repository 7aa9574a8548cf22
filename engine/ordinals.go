package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"

	"github.com/RoaringBitmap/roaring/v2"

	"tact/storage"
)

// ordinalMapVersion goes up when ordinals come to mean other people; they are
// never used again, so it has not yet.
const ordinalMapVersion = 1

// OrdinalMap names what ordinals mean: the store, and the version of its map. A
// bitmap may come back only to the map it was made by.
func (e *Engine) OrdinalMap() string {
	id := e.store.StoreID()
	return fmt.Sprintf("%s.%d", hex.EncodeToString(id[:8]), ordinalMapVersion)
}

// Ordinal is the number of the person at p in bitmaps: group << 32 | ordinal in
// the group.
func (p PeoplePos) Ordinal() uint64 { return uint64(p.Group)<<32 | uint64(p.Ord) }

// PosOf is the place of an ordinal.
func PosOf(ordinal uint64) (PeoplePos, bool) {
	p := PeoplePos{Group: storage.GroupID(ordinal >> 32), Ord: storage.Ord(ordinal)}
	return p, p.Ordinal() == ordinal
}

// AppendRoaring appends the people as one 64-bit bitmap of their ordinals, in
// the portable format of Roaring, and gives the CRC-32C of what it appended:
//
//	n u64 | n × (group u32 | 32-bit bitmap, portable)      little-endian
//
// Groups without people are left out. Source: RoaringFormatSpec, "Extension for
// 64-bit implementations".
func (p *People) AppendRoaring(dst []byte) (_ []byte, crc uint32, err error) {
	from := len(dst)
	var n uint64
	for i := range p.Groups {
		if !p.Groups[i].Ords.IsEmpty() {
			n++
		}
	}
	out := bytes.NewBuffer(binary.LittleEndian.AppendUint64(dst, n))
	for i := range p.Groups {
		g := &p.Groups[i]
		if g.Ords.IsEmpty() {
			continue
		}
		var key [4]byte
		binary.LittleEndian.PutUint32(key[:], uint32(g.Group))
		out.Write(key[:])
		if _, err := g.Ords.WriteTo(out); err != nil {
			return dst, 0, fmt.Errorf("write the bitmap of group %d: %w", g.Group, err)
		}
	}
	dst = out.Bytes()
	return dst, crc32.Checksum(dst[from:], crc32.MakeTable(crc32.Castagnoli)), nil
}

// OrdinalList is a bitmap that came from outside: 64-bit portable Roaring, its
// CRC-32C, and the map that it was made by.
type OrdinalList struct {
	Map   []byte
	CRC32 uint32
	Data  []byte
}

// ReadOrdinals checks a bitmap from outside and gives its ordinals: whether at one
// of them is a visitor, or nobody any more, is for its reader to ask. It copies:
// data is not kept. A *Problem names what is wrong, as a member of field: another
// map, a CRC that does not fit, a container that is broken or has not as many
// ordinals as it says, an ordinal that nobody ever had. Memory is bounded by
// len(Data).
func (e *Engine) ReadOrdinals(l *OrdinalList, field string) (*People, error) {
	if string(l.Map) != e.OrdinalMap() {
		return nil, &Problem{
			Class: ProblemConflict, Code: "other_ordinals", Field: field + ".ordinals",
			Detail: fmt.Sprintf("the ordinals of this store are %s", e.OrdinalMap()),
		}
	}
	if crc := crc32.Checksum(l.Data, crc32.MakeTable(crc32.Castagnoli)); crc != l.CRC32 {
		return nil, invalid("bad_crc", field+".crc32c",
			fmt.Sprintf("the bytes have %08x, not %08x", crc, l.CRC32))
	}
	p := &People{At: e.clock.Now(), Revision: e.Revision()}
	for i := range e.store.Groups() {
		p.Groups = append(p.Groups, GroupPeople{Group: storage.GroupID(i), Ords: roaring.New()})
	}
	if detail := e.fillOrdinals(p, l.Data); detail != "" {
		return nil, invalid("bad_bitmap", field+".roaring", detail)
	}
	return p, nil
}

// fillOrdinals reads the bitmaps of the groups; it says what is wrong with them.
func (e *Engine) fillOrdinals(p *People, data []byte) string {
	in := bytes.NewReader(data)
	var n uint64
	if binary.Read(in, binary.LittleEndian, &n) != nil || n > uint64(len(p.Groups)) {
		return "not a 64-bit bitmap in the portable format, or of more groups than there are"
	}
	next := uint32(0)
	for range n {
		var group uint32
		if binary.Read(in, binary.LittleEndian, &group) != nil {
			return "the bitmap ends too early"
		}
		if group < next || int(group) >= len(p.Groups) {
			return fmt.Sprintf("group %d is not there, or out of order", group)
		}
		next = group + 1
		text := data[len(data)-in.Len():]
		ords, detail := readBitmap(in)
		if detail != "" {
			return detail
		}
		g := e.store.Group(storage.GroupID(group))
		g.Lock()
		people := g.Len()
		g.Unlock()
		if !ords.IsEmpty() && int(ords.Maximum()) >= people {
			return fmt.Sprintf("group %d has no ordinal %d", group, ords.Maximum())
		}
		if !countsFit(text, ords) {
			return fmt.Sprintf("a container of group %d has not as many ordinals as it says", group)
		}
		p.Groups[group].Ords = ords
	}
	if in.Len() > 0 {
		return "there are bytes behind the bitmap"
	}
	return ""
}

// readBitmap reads one 32-bit bitmap and checks all of its containers.
func readBitmap(in *bytes.Reader) (b *roaring.Bitmap, detail string) {
	defer func() {
		// The library slices what it reads by counts it has not yet checked.
		if v := recover(); v != nil {
			b, detail = nil, "the bitmap is broken"
		}
	}()
	b = roaring.New()
	if _, err := b.ReadFrom(in); err != nil {
		return nil, "the bitmap is broken: " + err.Error()
	}
	if err := b.Validate(); err != nil {
		return nil, "the bitmap is broken: " + err.Error()
	}
	return b, ""
}

// countsFit says whether each container of a bitmap has as many ordinals as the
// header of its text says: of a run container the library does not ask.
// Source: RoaringFormatSpec, "Cookie header" and "Descriptive header".
func countsFit(text []byte, b *roaring.Bitmap) bool {
	const withRuns = 12347
	if len(text) < 8 {
		return b.IsEmpty()
	}
	cookie := binary.LittleEndian.Uint32(text)
	n, at := int(binary.LittleEndian.Uint32(text[4:])), 8
	if cookie&0xffff == withRuns {
		n = int(cookie>>16) + 1
		at = 4 + (n+7)/8
	}
	if n > 1<<16 || len(text) < at+4*n {
		return false
	}
	it := b.ManyIterator()
	var block [4096]uint32
	found := make([]int, n)
	i := 0
	for k := it.NextMany(block[:]); k > 0; k = it.NextMany(block[:]) {
		for _, o := range block[:k] {
			for i < n && binary.LittleEndian.Uint16(text[at+4*i:]) != uint16(o>>16) {
				i++
			}
			if i == n {
				return false
			}
			found[i]++
		}
	}
	for i := range found {
		if found[i] != int(binary.LittleEndian.Uint16(text[at+4*i+2:]))+1 {
			return false
		}
	}
	return true
}
