package storage

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Limits of a profile. Passing one gives ErrTooLarge and changes nothing.
const (
	MaxAttrs      = 512
	MaxTags       = 4096
	MaxSegments   = 8192
	MaxIdentities = 64
	MaxAddresses  = 64  // over all channels
	MaxChannels   = 16  // a channel is 0..15
	MaxText       = 512 // bytes of an identity or an address
	// MaxConsents is the length of the consent history. Older entries leave
	// first, but never one that is in force.
	MaxConsents = 32
	maxConsents = 512    // entries in force
	maxProfile  = 256000 // bytes of the whole part
)

// Profile is a view of one person's profile, packed and sorted by dictionary
// id. It is valid until the group is unlocked or the next Append of this
// person. The zero Profile is empty. Integers are little-endian. The clear
// part:
//
//	personal at u32 | zone u32 | blacklist u16 | addressed u16 |
//	tags u16 | segments u16 | consents u16 | short u16
//	tags ×     id and source u32 | value u32? | expires u32?    rising ids
//	segments × id u32                                           rising ids
//	consents × purpose u32 | source u32 | at i64 | channel u8 | granted u8 | text u16
//	                                                            rising at, then arrival
//
// and the personal part, sealed on disk:
//
//	id length u8 | id                     the id only when it is longer than the row's room
//	locale u32 | attributes u16 | identities u16 | addresses u16 | heap bytes u32
//	attributes × id and kind u32 | cell u32                     rising ids
//	heap
//	identities × type uvarint | uvarint length, value           in order of arrival
//	addresses  × channel u8 | uvarint length, value             rising channels
//	section?   as drawn in tag_history.go
//
// A tag's first word is id | source << 24. short is how many of its words are left
// out: 1 when no tag of the person ends, 2 when none has a value either; a part of row
// format 2 or before leaves none out.
// An attribute's first word is id << 8 | kind; with attrInline set the cell is
// the value as a signed 32-bit number, of a float in hundredths (from row format 3
// on), else the value's offset in the heap: 8 bytes for numbers, uvarint length and
// bytes for the rest.
type Profile struct{ b []byte }

const (
	profileHeader  = 20
	tagSize        = 12 // of a tag that no word is left out of
	tagShort       = 2  // the most words that may be left out
	segmentSize    = 4
	consentSize    = 20
	personalHeader = 14
	attrSize       = 8
	attrInline     = 0x80
)

// Zone returns the person's time zone; 0 = unknown.
func (p Profile) Zone() Name {
	if len(p.b) == 0 {
		return 0
	}
	return Name(le32(p.b[4:]))
}

// Locale returns the person's locale; 0 = unknown.
func (p Profile) Locale() Name {
	if len(p.b) == 0 {
		return 0
	}
	return Name(le32(p.personal()))
}

// Blacklist returns the set of blocked channels, bit per channel.
func (p Profile) Blacklist() uint16 {
	if len(p.b) == 0 {
		return 0
	}
	return le16(p.b[8:])
}

// Blacklisted reports whether the channel is blocked for this person.
func (p Profile) Blacklisted(channel uint8) bool {
	return p.Blacklist()&(1<<channel) != 0
}

// HasAddress reports whether the person has an address on the channel.
func (p Profile) HasAddress(channel uint8) bool {
	return len(p.b) != 0 && le16(p.b[10:])&(1<<channel) != 0
}

// Tag looks up a tag: the value of an enum tag and when the tag ends, 0 =
// never. A tag whose end has passed is still found: the caller compares.
// Cost: a binary search, no allocation.
func (p Profile) Tag(id Name) (value Name, ok bool, expires UnixSec) {
	lo, hi := 0, p.tags()
	for lo < hi {
		mid := (lo + hi) / 2
		switch at := p.TagID(mid); {
		case at == id:
			t := p.TagAt(mid)
			return t.Value, true, t.Expires
		case at < id:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, false, 0
}

// Segment reports whether the person is in a static segment.
// Cost: a binary search, no allocation.
func (p Profile) Segment(id Name) bool {
	lo, hi := 0, p.segments()
	for lo < hi {
		mid := (lo + hi) / 2
		switch at := p.segment(mid); {
		case at == id:
			return true
		case at < id:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return false
}

// Consent returns the consent in force for a purpose on a channel: the entry
// with the newest time; of two with the same time the withdrawal.
// Cost: linear in the history, no allocation.
func (p Profile) Consent(purpose Name, channel uint8) (granted, known bool, at UnixMsec) {
	for i := range p.consents() {
		c := p.consent(i)
		if c.Purpose != purpose || c.Channel != channel {
			continue
		}
		if !known || c.At > at {
			granted, known, at = c.Granted, true, c.At
		} else if c.At == at {
			granted = granted && c.Granted
		}
	}
	return granted, known, at
}

// Attr looks up an attribute. Value.Bytes is a view.
// Cost: a binary search, no allocation.
func (p Profile) Attr(id Name) (Value, bool) {
	b := p.body()
	if at, ok := bodySearch(b, id); ok {
		return attrAt(b, at).Value, true
	}
	return Value{}, false
}

// EachAttr calls f for every attribute in rising ids until f returns false.
func (p Profile) EachAttr(f func(Name, Value) bool) {
	b := p.body()
	for i := range bodyAttrs(b) {
		if a := attrAt(b, i); !f(a.ID, a.Value) {
			return
		}
	}
}

// EachTag calls f for every tag in rising ids until f returns false.
func (p Profile) EachTag(f func(TagValue) bool) {
	for i := range p.tags() {
		if !f(p.TagAt(i)) {
			return
		}
	}
}

// EachSegment calls f for every static segment in rising ids until f returns
// false.
func (p Profile) EachSegment(f func(Name) bool) {
	for i := range p.segments() {
		if !f(p.segment(i)) {
			return
		}
	}
}

// EachConsent calls f for the consent history in rising time until f returns
// false.
func (p Profile) EachConsent(f func(Consent) bool) {
	for i := range p.consents() {
		if !f(p.consent(i)) {
			return
		}
	}
}

// EachIdentity calls f for every identity in order of arrival until f returns
// false.
func (p Profile) EachIdentity(f func(Identity) bool) {
	b := p.body()
	if len(b) == 0 {
		return
	}
	r := reader{b: b[bodyHeapEnd(b):]}
	for range le16(b[6:]) {
		if !f(Identity{Type: r.name(), Value: r.text()}) {
			return
		}
	}
}

// HasIdentity reports whether the person has the identity.
func (p Profile) HasIdentity(typ Name, value []byte) bool {
	found := false
	p.EachIdentity(func(i Identity) bool {
		found = i.Type == typ && string(i.Value) == string(value)
		return !found
	})
	return found
}

// EachAddress calls f for every address in rising channels, in the given order
// inside a channel, until f returns false.
func (p Profile) EachAddress(f func(channel uint8, value []byte) bool) {
	b := p.body()
	if len(b) == 0 {
		return
	}
	r := reader{b: b[bodyHeapEnd(b):]}
	for range le16(b[6:]) {
		r.name()
		r.text()
	}
	for range le16(b[8:]) {
		if !f(r.byte(), r.text()) {
			return
		}
	}
}

// longID returns the canonical id when it does not fit in the row.
func (p Profile) longID() []byte {
	if len(p.b) == 0 {
		return nil
	}
	b := p.b[le32(p.b):]
	return b[1 : 1+int(b[0])]
}

// personal returns the personal part behind the id.
func (p Profile) personal() []byte {
	b := p.b[le32(p.b):]
	return b[1+int(b[0]):]
}

func (p Profile) body() []byte {
	if len(p.b) == 0 {
		return nil
	}
	return p.personal()
}

func (p Profile) tags() int {
	if len(p.b) == 0 {
		return 0
	}
	return int(le16(p.b[12:]))
}

// tagBytes returns the length of one tag. The profile is not empty.
func (p Profile) tagBytes() int { return tagSize - 4*int(le16(p.b[18:])) }

func (p Profile) tag(i int) []byte { return p.b[profileHeader+i*p.tagBytes():] }

// afterTags returns where the tags end.
func (p Profile) afterTags() int { return profileHeader + p.tags()*p.tagBytes() }

func (p Profile) segments() int {
	if len(p.b) == 0 {
		return 0
	}
	return int(le16(p.b[14:]))
}

func (p Profile) segment(i int) Name {
	return Name(le32(p.b[p.afterTags()+i*segmentSize:]))
}

func (p Profile) consents() int {
	if len(p.b) == 0 {
		return 0
	}
	return int(le16(p.b[16:]))
}

func (p Profile) consent(i int) Consent {
	at := p.afterTags() + p.segments()*segmentSize + i*consentSize
	b := p.b[at : at+consentSize]
	return Consent{
		Purpose: Name(le32(b)),
		Source:  Name(le32(b[4:])),
		At:      UnixMsec(le64(b[8:])),
		Channel: b[16],
		Granted: b[17] != 0,
		Text:    Name(le16(b[18:])),
	}
}

// bodySearch finds the place of an attribute.
func bodySearch(b []byte, id Name) (at int, ok bool) {
	lo, hi := 0, bodyAttrs(b)
	for lo < hi {
		mid := (lo + hi) / 2
		switch at := Name(le32(b[personalHeader+mid*attrSize:]) >> 8); {
		case at == id:
			return mid, true
		case at < id:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, false
}

func bodyAttrs(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return int(le16(b[4:]))
}

func bodyHeapEnd(b []byte) int {
	return personalHeader + bodyAttrs(b)*attrSize + int(le32(b[10:]))
}

// attrAt returns the i-th attribute of a personal part.
func attrAt(b []byte, i int) AttrValue {
	word := le32(b[personalHeader+i*attrSize:])
	cell := le32(b[personalHeader+i*attrSize+4:])
	a := AttrValue{ID: Name(word >> 8), Value: Value{Kind: ValueKind(word & 0x7F)}}
	if word&attrInline != 0 {
		a.Value.Num = inlineNumber(a.Value.Kind, cell)
		return a
	}
	heap := b[personalHeader+bodyAttrs(b)*attrSize : bodyHeapEnd(b)]
	switch a.Value.Kind {
	case KindString, KindSemver, KindList:
		r := reader{b: heap[cell:]}
		a.Value.Bytes = r.text()
	default:
		a.Value.Num = le64(heap[cell:])
	}
	return a
}

// inlineNumber returns Value.Num of an attribute whose value is its cell.
func inlineNumber(kind ValueKind, cell uint32) uint64 {
	if kind == KindFloat {
		return math.Float64bits(float64(int32(cell)) / 100)
	}
	return uint64(int64(int32(cell)))
}

// checkProfile reports whether b is a whole open profile part, so that a
// Profile over it never reads outside it.
func checkProfile(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := checkProfileClear(b); err != nil {
		return err
	}
	return checkPersonal(b[le32(b):])
}

// checkProfileClear checks the clear part in front of b, whatever follows it.
func checkProfileClear(b []byte) error {
	bad := func(what string) error { return fmt.Errorf("profile: %s: %w", what, ErrCorrupt) }
	if len(b) < profileHeader || le16(b[18:]) > tagShort {
		return bad("header")
	}
	p := Profile{b}
	size := p.afterTags() + p.segments()*segmentSize + p.consents()*consentSize
	if int64(le32(b)) != int64(size) || size > len(b) {
		return bad("clear length")
	}
	last := Name(0)
	for i := range p.tags() {
		t := p.TagAt(i)
		if t.ID <= last || t.Source >= sourceCount {
			return bad("tag")
		}
		last = t.ID
	}
	for i := 1; i < p.segments(); i++ {
		if p.segment(i) <= p.segment(i-1) {
			return bad("order of segments")
		}
	}
	for i := range p.consents() {
		if c := p.consent(i); c.Channel >= MaxChannels {
			return bad("channel of a consent")
		}
		if i > 0 && p.consent(i).At < p.consent(i-1).At {
			return bad("order of consents")
		}
	}
	return nil
}

func checkPersonal(b []byte) error {
	bad := func(what string) error { return fmt.Errorf("profile: %s: %w", what, ErrCorrupt) }
	if len(b) < 1 || len(b) < 1+int(b[0])+personalHeader || b[0] > idMax {
		return bad("personal header")
	}
	b = b[1+int(b[0]):]
	if int64(personalHeader)+int64(bodyAttrs(b))*attrSize+int64(le32(b[10:])) > int64(len(b)) {
		return bad("heap")
	}
	heap := b[personalHeader+bodyAttrs(b)*attrSize : bodyHeapEnd(b)]
	last := -1
	for i := range bodyAttrs(b) {
		word := le32(b[personalHeader+i*attrSize:])
		cell := le32(b[personalHeader+i*attrSize+4:])
		if int(word>>8) <= last || !checkCell(heap, word, cell) {
			return bad("attribute")
		}
		last = int(word >> 8)
	}
	r := reader{b: b[bodyHeapEnd(b):]}
	for range le16(b[6:]) {
		r.name()
		r.text()
	}
	for range le16(b[8:]) {
		if r.byte() >= MaxChannels {
			return bad("channel of an address")
		}
		r.text()
	}
	if r.bad {
		return bad("identities and addresses")
	}
	return checkSections(r.b)
}

func checkCell(heap []byte, word, cell uint32) bool {
	kind := ValueKind(word & 0x7F)
	if kind < KindBool || kind > KindSemver {
		return false
	}
	text := kind == KindString || kind == KindList || kind == KindSemver
	if word&attrInline != 0 {
		return !text
	}
	if int64(cell) > int64(len(heap)) {
		return false
	}
	if text {
		r := reader{b: heap[cell:]}
		r.text()
		return !r.bad
	}
	return int(cell)+8 <= len(heap)
}

// attrCell appends what does not fit in the cell to heap.
func attrCell(heap []byte, a AttrValue) (word, cell uint32, out []byte) {
	word = uint32(a.ID)<<8 | uint32(a.Value.Kind)
	switch a.Value.Kind {
	case KindString, KindList, KindSemver:
		cell = uint32(len(heap))
		heap = binary.AppendUvarint(heap, uint64(len(a.Value.Bytes)))
		return word, cell, append(heap, a.Value.Bytes...)
	case KindBool, KindInt, KindDate, KindTime:
		if n := int64(a.Value.Num); n >= math.MinInt32 && n <= math.MaxInt32 {
			return word | attrInline, uint32(n), heap
		}
	case KindFloat:
		n, ok := hundredths(math.Float64frombits(a.Value.Num))
		if a.Value.Num == 0 || ok && n >= math.MinInt32 && n <= math.MaxInt32 {
			return word | attrInline, uint32(n), heap
		}
	}
	return word, uint32(len(heap)), binary.LittleEndian.AppendUint64(heap, a.Value.Num)
}
