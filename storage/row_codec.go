package storage

import (
	"encoding/binary"
	"fmt"
)

// A stored part of a row is, in little-endian:
//
//	format u8 | flags u8 | kind u8 | 0 u8 | ord u32 | last frame u64 | last seen u32 |
//	0 u32 | content | CRC32C u32
//
// with the content
//
//	profile: id hash u64 | clear part | sealed personal part
//	tail:    sealed tail
//	activity: sealed activity; without one nothing has left the tail yet, or the person
//	          was stored before it was kept
//	contact: as in memory
//	events:  sealed events, drawn in row_events.go; the last frame is the newest of theirs
//
// The id is always in the personal part on disk, in memory only when it does
// not fit in the row. Sealed parts are kept as loaded and opened at first use.
const (
	// Format 1 has no parts of events and no hundredths; up to 2 no word of a tag is left
	// out, nor anything of the history of tags, and no float lies in a cell; up to 3 parts
	// are sealed with AES.
	rowFormat     = 4
	rowHeader     = 24
	rowDiskFlags  = rowDiskVisitor
	rowDiskIDHash = 8

	rowDiskVisitor = 1
)

// rowPart says what appendRow found.
type rowPart uint8

const (
	rowPartKept   rowPart = iota + 1 // not dirty: what is on disk stays
	rowPartGone                      // nothing is left: delete it
	rowPartStored                    // appended: write it
)

// dirtyCount returns the number of rows with a dirty part.
func (s *state) dirtyCount() int { return len(s.dirty) - s.dirtyHead }

// takeDirty appends to dst up to max rows with a dirty part, those dirty for
// longest first. The caller passes each to appendRow, with every kind.
func (s *state) takeDirty(dst []Ord, max int) []Ord {
	n := min(max, s.dirtyCount())
	dst = append(dst, s.dirty[s.dirtyHead:s.dirtyHead+n]...)
	s.dirtyHead += n
	if 2*s.dirtyHead >= len(s.dirty) {
		s.dirty = s.dirty[:copy(s.dirty, s.dirty[s.dirtyHead:])]
		s.dirtyHead = 0
	}
	return dst
}

// appendRow appends the stored form of one part of a row that takeDirty
// returned, when that part is dirty, and takes its dirty mark away. seal seals
// it. A part that was never opened is written as it was loaded.
// Cost: one sealing for a profile or tail that is open.
func (s *state) appendRow(dst []byte, o Ord, kind RowKind, seal *sealer) (
	[]byte, rowPart, error,
) {
	r := s.rows.at(o)
	switch {
	case r == nil:
		return dst, rowPartKept, nil
	case kind >= RowEvents:
		return s.appendEvents(dst, o, kind, seal)
	case r.Flags&rowEventsSealed != 0 && r.Flags&rowDirtyWhole != 0:
		if err := s.openHistory(r); err != nil {
			return dst, 0, fmt.Errorf("row of ordinal %d: %w", o, err)
		}
		if r.activity != 0 { // the parts may have begun it
			r.Flags |= rowDirtyActivity
		}
	}
	mark, ref, sealed := rowDirtyContact, r.contact, false
	switch kind {
	case RowProfile:
		mark, ref, sealed = rowDirtyProfile, r.profile, r.Flags&RowSealed != 0
	case RowTail:
		mark, ref, sealed = rowDirtyTail, r.tail, r.Flags&rowTailSealed != 0
	case RowActivity:
		mark, ref, sealed = rowDirtyActivity, r.activity, r.Flags&rowActivitySealed != 0
	}
	switch {
	case r.Flags&mark == 0:
		return dst, rowPartKept, nil
	case r.Flags&RowGone != 0, kind != RowProfile && ref == 0:
		r.Flags &^= mark
		return dst, rowPartGone, nil
	}
	at, part := len(dst), s.slab.get(ref)
	dst = appendRowHeader(dst, r, o, kind)
	var err error
	switch {
	case kind == RowProfile && !sealed:
		dst, err = s.appendSealedProfile(dst, r, part, seal)
	case (kind == RowTail || kind == RowActivity) && !sealed:
		bind := rowBind(r.Workspace, r.Person, kind)
		dst, err = seal.append(dst, &r.Key, part, bind[:])
	default:
		dst = append(dst, part...)
	}
	if err != nil {
		return dst[:at], 0, fmt.Errorf("row of ordinal %d: %w", o, err)
	}
	r.Flags &^= mark
	return binary.LittleEndian.AppendUint32(dst, checkSum(dst[at:])), rowPartStored, nil
}

func appendRowHeader(dst []byte, r *Row, o Ord, kind RowKind) []byte {
	le := binary.LittleEndian
	var flags byte
	if r.Flags&RowVisitor != 0 {
		flags |= rowDiskVisitor
	}
	dst = append(dst, rowFormat, flags, byte(kind), 0)
	dst = le.AppendUint32(dst, uint32(o))
	dst = le.AppendUint64(dst, r.LastFrame)
	dst = le.AppendUint32(dst, uint32(r.LastSeen))
	dst = le.AppendUint32(dst, 0)
	if kind == RowProfile {
		dst = le.AppendUint64(dst, r.IDHash)
	}
	return dst
}

func (s *state) appendSealedProfile(dst []byte, r *Row, part []byte, seal *sealer) (
	[]byte, error,
) {
	if len(part) == 0 {
		// An empty profile in full, so that what follows has one shape.
		part = (&profileDraft{}).appendPersonal((&profileDraft{}).appendClear(s.scratch[:0]))
	}
	split := le32(part)
	personal := part[split:]
	s.body = s.body[:0]
	if r.idLen > 0 {
		s.body = append(append(s.body, r.idLen), r.inlineID()...)
		personal = personal[1:]
	}
	s.body = append(s.body, personal...)
	bind := rowBind(r.Workspace, r.Person, RowProfile)
	return seal.append(append(dst, part[:split]...), &r.Key, s.body, bind[:])
}

// A storedRow is a parsed stored part.
type storedRow struct {
	ord      Ord
	frame    uint64
	seen     UnixSec
	visitor  bool
	idHash   uint64 // profile only
	contents []byte
}

// parseRow takes a stored part apart and checks everything that is not sealed.
func parseRow(kind RowKind, value []byte) (p storedRow, err error) {
	b, err := checkedValue(value, rowFormat)
	if err != nil {
		return p, err
	}
	if len(b) < rowHeader || b[1]&^rowDiskFlags != 0 || RowKind(b[2]) != kind || b[3] != 0 ||
		le32(b[20:]) != 0 {
		return p, fmt.Errorf("header: %w", ErrCorrupt)
	}
	p = storedRow{
		ord: Ord(le32(b[4:])), frame: le64(b[8:]), seen: UnixSec(le32(b[16:])),
		visitor: b[1]&rowDiskVisitor != 0, contents: b[rowHeader:],
	}
	if p.ord >= maxOrds {
		return p, fmt.Errorf("ordinal %d: %w", p.ord, ErrCorrupt)
	}
	switch kind {
	case RowProfile:
		if len(p.contents) < rowDiskIDHash {
			return p, fmt.Errorf("length: %w", ErrCorrupt)
		}
		p.idHash, p.contents = le64(p.contents), p.contents[rowDiskIDHash:]
		if err := checkProfileClear(p.contents); err != nil {
			return p, err
		}
		if len(p.contents)-int(le32(p.contents)) < sealExtra {
			return p, fmt.Errorf("sealed part: %w", ErrCorrupt)
		}
	case RowTail, RowActivity:
		if len(p.contents) < sealExtra {
			return p, fmt.Errorf("sealed part: %w", ErrCorrupt)
		}
	case RowContact:
		if len(p.contents) == 0 {
			return p, fmt.Errorf("length: %w", ErrCorrupt)
		}
		if err := checkContact(p.contents); err != nil {
			return p, err
		}
	default:
		if !kind.known() {
			return p, fmt.Errorf("kind %d: %w", kind, ErrCorrupt)
		}
		if len(p.contents) < sealExtra {
			return p, fmt.Errorf("sealed part: %w", ErrCorrupt)
		}
	}
	return p, nil
}

// rowLoad is what a state collects while its rows are read. It may be used for one
// state after the other.
type rowLoad struct {
	tags     tagLoad
	segments setLoad
	whole    wholeLoad
}

// beginRows comes before the first loadRow, endRows after the last one: people are not
// found by their ids before.
func (s *state) beginRows(l *rowLoad) { s.loading = l }

func (s *state) endRows() {
	s.loading.tags.finish(s)
	s.loading.segments.finish(&s.segments, s.nextOrd)
	s.loading = nil
	s.index.reserve(s.people)
	s.rows.each(func(o Ord, r *Row) bool {
		s.index.insert(r.IDHash, o, r.profile)
		return true
	})
}

// loadRow enters one part of a person read from disk. Parts come in the order
// of their keys, the profile first; the group's meta was loaded before. key
// opens the sealed parts, later.
func (s *state) loadRow(at rowKey, value []byte, key [16]byte) error {
	p, err := parseRow(at.kind, value)
	if err != nil {
		return fmt.Errorf("row of person %d, part %d: %w", at.person, at.kind, err)
	}
	if at.person == 0 || at.slot >= Slots {
		return fmt.Errorf("row of person %d in slot %d: %w", at.person, at.slot, ErrCorrupt)
	}
	if at.kind == RowProfile {
		return s.loadProfile(at, p, key)
	}
	r := s.rows.at(p.ord)
	if r == nil || r.Person != at.person || r.Workspace != at.ws {
		return fmt.Errorf("row of person %d: no profile under ordinal %d: %w",
			at.person, p.ord, ErrCorrupt)
	}
	if at.kind >= RowEvents {
		return s.loadEvents(at, r, &p)
	}
	if at.kind == RowTail && r.tail != 0 || at.kind == RowContact && r.contact != 0 ||
		at.kind == RowActivity && r.activity != 0 {
		return fmt.Errorf("row of person %d: part %d comes twice: %w",
			at.person, at.kind, ErrCorrupt)
	}
	ref, err := s.slab.put(0, p.contents)
	if err != nil {
		return fmt.Errorf("row of person %d: %w", at.person, err)
	}
	r.LastFrame, r.LastSeen = max(r.LastFrame, p.frame), max(r.LastSeen, p.seen)
	switch at.kind {
	case RowTail:
		s.loading.whole = wholeLoad{at.person, p.frame}
		r.tail = ref
		r.Flags |= rowTailSealed
		return nil
	case RowActivity:
		s.loading.whole = wholeLoad{at.person, p.frame}
		r.activity = ref
		r.Flags |= rowActivitySealed
		return nil
	}
	r.contact = ref
	for h := range (Contact{s.slab.get(ref)}).held {
		if h.hasTotal() {
			s.held.push(heldEntry{uint64(h.Expires()) + uint64(h.Grace()), p.ord, h.ID()})
		}
	}
	return nil
}

func (s *state) loadProfile(at rowKey, p storedRow, key [16]byte) error {
	if s.rows.at(p.ord) != nil {
		return fmt.Errorf("row of person %d: ordinal %d is taken: %w",
			at.person, p.ord, ErrCorrupt)
	}
	r, err := s.rows.place(p.ord)
	if err != nil {
		return fmt.Errorf("row of person %d: %w", at.person, err)
	}
	ref, err := s.slab.put(0, p.contents)
	if err != nil {
		return fmt.Errorf("row of person %d: %w", at.person, err)
	}
	*r = Row{
		Person: at.person, LastFrame: p.frame, IDHash: p.idHash, LastSeen: p.seen,
		Workspace: at.ws, Slot: at.slot, Key: key, profile: ref,
		Flags: RowSealed | rowLoaded,
	}
	if p.visitor {
		r.Flags |= RowVisitor
		s.visitors++
	}
	// Everything read here lies in the clear part.
	clear := Profile{s.slab.get(ref)}
	r.Zone = uint16(clear.Zone())
	if clear.withdrawn() {
		r.Flags |= RowWithdrawn
	}
	l := s.loading
	clear.EachTag(func(t TagValue) bool { l.tags.add(s, &t, p.ord); return true })
	clear.EachSegment(func(n Name) bool { l.segments.add(&s.segments, n, p.ord); return true })
	s.people++
	s.nextOrd = max(s.nextOrd, p.ord+1)
	s.person = max(s.person, at.person)
	return nil
}

// withdrawn reports whether some consent in force is a withdrawal.
func (p Profile) withdrawn() bool {
	for i := range p.consents() {
		c := p.consent(i)
		if c.Granted {
			continue
		}
		if granted, _, _ := p.Consent(c.Purpose, c.Channel); !granted {
			return true
		}
	}
	return false
}
