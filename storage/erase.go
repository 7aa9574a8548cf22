package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Erasure: a person is taken out of memory, rows, indexes and bitmaps by one effect,
// and the key that seals what else lies on disk is thrown away, see purge.go. Beside
// the frame of the effect, in the same batch, the ledger gets an entry, which stays:
//
//	0x31 | hash 16 | group u16 | person u64 → format u8 | frame u64 | at ms u64 |
//	     purged ms u64 | workspace u32 | slot u16 | list of counts uvarint |
//	     from format 2: events, decisions, changes of the log uvarint | crc
//	0x32 | group u16 | person u64 → the key of the entry, whose purge is due, a list
//	     of (dictionary u8, name uvarint): those that may be nobody's now, and the
//	     ordinal u32; older versions wrote none
//
// all numbers of keys big-endian, of values little-endian.

const (
	erasedFormat = 2
	erasedUntold = 1 // nobody has counted what the log held
)

// Holdings counts what is held of one person, by kind. The order of the kinds is
// stored; new ones are added at the end.
type Holdings [HoldingKinds]uint32

// Kinds of Holdings.
const (
	HeldIdentities   = iota // identities
	HeldAttributes          // attributes
	HeldAddresses           // addresses, all channels
	HeldTags                // tags
	HeldSegments            // static segments the person is in
	HeldTracked             // tracked segments the person is in
	HeldConsents            // entries of the consent history
	HeldEvents              // events of the tail
	HeldSums                // events and outcomes that are summed up by day
	HeldReservations        // open reservations
	HeldUses                // counters of caps with confirmed uses
	HeldRequests            // live request ids
	HoldingKinds
)

// LogHoldings counts what the log, event log and frames, held of a person when their
// key was thrown away, and what nobody can read any more.
type LogHoldings struct {
	Counted   bool
	Events    uint32 // events and outcomes
	Decisions uint32
	Changes   uint32 // all else: profile, reservations, uses
}

// Erasure is an entry of the ledger of erasures: who was erased, by a keyed hash, and
// what was held of them. Purged is when no file of the store held the person's key any
// more, 0 = not yet.
type Erasure struct {
	Hash      [16]byte
	Workspace WorkspaceID
	Slot      Slot
	Group     GroupID
	Person    PersonID
	Frame     uint64
	At        UnixMsec
	Purged    UnixMsec
	Held      Holdings
	Logged    LogHoldings // counted by the purge
}

// erasedType keeps hashes of erased ids apart from those of identities: names of
// identity types are dictionary ids, which never come this high.
const erasedType Name = 0xFFFFFE00

// ErasureHash returns the keyed hash that the ledger of erasures names an id by.
// It does not allocate.
func (s *Store) ErasureHash(ws WorkspaceID, id []byte) [16]byte {
	return s.IdentityHash(ws, erasedType, id)
}

// Holdings counts what is held of a person. The group must be locked.
// Cost: linear in the person's data and in the tracked segments.
func (g *Group) Holdings(o Ord) (h Holdings) {
	st := g.mu.state
	p := st.profile(o)
	count := func(kind int) bool { h[kind]++; return true }
	p.EachIdentity(func(Identity) bool { return count(HeldIdentities) })
	p.EachAttr(func(Name, Value) bool { return count(HeldAttributes) })
	p.EachAddress(func(uint8, []byte) bool { return count(HeldAddresses) })
	h[HeldTags], h[HeldSegments] = uint32(p.tags()), uint32(p.segments())
	h[HeldConsents] = uint32(p.consents())
	for _, set := range st.members.sets {
		if set.bitmap.Contains(uint32(o)) {
			h[HeldTracked]++
		}
	}
	h[HeldEvents] = uint32(st.tail(o).Len())
	for c := st.activity(o).Cursor(); c.Next(); {
		h[HeldSums]++
	}
	c := st.contact(o)
	h[HeldReservations], h[HeldUses] = uint32(c.opens()), uint32(c.rings())
	h[HeldRequests] = uint32(c.requests())
	return h
}

// Erase appends the erasure of a person: from then on there is no such person. What
// open reservations hold of totals and can still happen counts as used. The caller
// takes out the identities, in the same Together. Errors are those of Append; the
// group must be locked.
func (g *Group) Erase(o Ord, now UnixMsec, config uint32) (e Erasure, frame uint64, err error) {
	row := g.mu.state.row(o)
	if row == nil {
		return e, 0, errPerson(o)
	}
	id := g.ID(o)
	if id == nil {
		return e, 0, fmt.Errorf("erase ordinal %d: %w", o, orCorrupt(g.mu.state.damaged()))
	}
	e = Erasure{
		Hash: g.store.ErasureHash(row.Workspace, id), Workspace: row.Workspace, Slot: row.Slot,
		Group: g.id, Person: row.Person, Held: g.Holdings(o),
	}
	effect := Effect{Kind: EffectErase, Ord: o, Time: now, Config: config}
	effect.Erase = EraseEffect{
		row.Workspace, row.Slot, row.Person, e.Hash, e.Held, ownNames(g.Profile(o)),
	}
	frame, err = g.Append(&effect)
	e.Frame, e.At = frame, effect.Time
	return e, frame, err
}

// erase takes a person out for good. Uses of totals that are held and may still be
// reported count as used: whoever reports them is nobody by then.
func (s *state) erase(frame uint64, r *Row, e *Effect) error {
	t := Instant{
		Now: secondOf(e.Time), Floor: s.floors.in(frame), incidents: s.incidents.in(frame),
	}
	for h := range s.contact(e.Ord).held {
		live := h.Live(t)
		for i := range h.Len() {
			switch k := h.Key(i); {
			case k.Total && live:
				s.edit.confirmed = append(s.edit.confirmed, k)
			case k.Total:
				s.share.give(k)
			}
		}
	}
	s.takeOut(frame, r, e.Ord)
	return nil
}

// namesMax is about how many names of one person are looked at in a purge.
const namesMax = 1024

// ownNames are the names that a profile holds in which callers may say anything: the
// sources and the text versions of consents.
func ownNames(p Profile) (out []NameRef) {
	p.EachConsent(func(c Consent) bool {
		for _, n := range [...]NameRef{{DictSource, c.Source}, {DictConsentText, c.Text}} {
			if n.ID != 0 && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
		return len(out) < namesMax
	})
	return out
}

// appendErase appends workspace u32 | slot u16 | person u64 | hash 16 | list of
// counts uvarint | list of (dictionary u8, name uvarint).
func appendErase(b []byte, e *EraseEffect) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(e.Workspace))
	b = le.AppendUint16(b, uint16(e.Slot))
	b = le.AppendUint64(b, uint64(e.Person))
	return appendNameRefs(appendHoldings(append(b, e.Hash[:]...), &e.Held), e.Names)
}

func appendNameRefs(b []byte, names []NameRef) []byte {
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = binary.AppendUvarint(append(b, byte(n.Kind)), uint64(n.ID))
	}
	return b
}

// readNameRefs reads a list of names; bytes that end before it hold none.
func readNameRefs(in *effectReader) (names []NameRef) {
	if len(in.b) == 0 {
		return nil
	}
	for range in.count(2) {
		names = append(names, NameRef{DictKind(in.u8()), in.name()})
	}
	return names
}

func (d *effectDecoder) erase(e *EraseEffect) {
	e.Workspace, e.Slot = WorkspaceID(d.in.u32()), Slot(d.in.u16())
	e.Person = PersonID(d.in.u64())
	copy(e.Hash[:], d.in.bytes(len(e.Hash)))
	e.Held, e.Names = readHoldings(&d.in), readNameRefs(&d.in)
	d.in.check(e.Slot < Slots && e.Person != 0)
}

func appendHoldings(b []byte, h *Holdings) []byte {
	b = binary.AppendUvarint(b, HoldingKinds)
	for _, n := range h {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

// readHoldings reads what appendHoldings of this version or an older one wrote.
func readHoldings(in *effectReader) (h Holdings) {
	n := in.count(1)
	in.check(n <= HoldingKinds)
	for i := range min(n, HoldingKinds) {
		h[i] = in.uvarint32()
	}
	return h
}

// fillErasure writes the entry of an erasure into the batch of its frame.
func (s *Store) fillErasure(b *pebble.Batch, r *record, frame uint64) error {
	var d effectDecoder
	e := Effect{Kind: EffectErase}
	if err := d.decodePersonal(&e, r.personal[personalKey:]); err != nil {
		return err
	}
	out := Erasure{
		Hash: e.Erase.Hash, Workspace: e.Erase.Workspace, Slot: e.Erase.Slot,
		Group: s.GroupOf(e.Erase.Slot).id, Person: e.Erase.Person, Frame: frame, At: r.time,
		Held: e.Erase.Held,
	}
	key := out.appendKey(nil)
	key = key[:len(key):len(key)]
	s.purge.added.Add(1)
	return errors.Join(b.Set(key, out.append(nil), nil),
		b.Set(appendPurgeKey(nil, out.Group, out.Person),
			binary.LittleEndian.AppendUint32(appendNameRefs(key, e.Erase.Names), uint32(r.ord)), nil))
}

const erasedKeyBytes = 1 + 16 + 2 + 8

func (e *Erasure) appendKey(dst []byte) []byte {
	dst = append(append(dst, prefixErased), e.Hash[:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(e.Group))
	return binary.BigEndian.AppendUint64(dst, uint64(e.Person))
}

func appendPurgeKey(dst []byte, g GroupID, p PersonID) []byte {
	dst = binary.BigEndian.AppendUint16(append(dst, prefixPurge), uint16(g))
	return binary.BigEndian.AppendUint64(dst, uint64(p))
}

func (e *Erasure) append(b []byte) []byte {
	le, format := binary.LittleEndian, byte(erasedUntold)
	if e.Logged.Counted {
		format = erasedFormat
	}
	b = le.AppendUint64(append(b, format), e.Frame)
	b = le.AppendUint64(b, uint64(e.At))
	b = le.AppendUint64(b, uint64(e.Purged))
	b = le.AppendUint32(b, uint32(e.Workspace))
	b = le.AppendUint16(b, uint16(e.Slot))
	b = appendHoldings(b, &e.Held)
	if l := &e.Logged; l.Counted {
		for _, n := range [...]uint32{l.Events, l.Decisions, l.Changes} {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return sealRecord(b)
}

func parseErasure(key, value []byte) (e Erasure, err error) {
	body, err := checkedValue(value, erasedFormat)
	if err != nil {
		return e, fmt.Errorf("ledger of erasures: %w", err)
	}
	in := effectReader{b: body[1:]}
	e = Erasure{
		Frame: in.u64(), At: UnixMsec(in.u64()), Purged: UnixMsec(in.u64()),
		Workspace: WorkspaceID(in.u32()), Slot: Slot(in.u16()), Held: readHoldings(&in),
	}
	if body[0] > erasedUntold {
		e.Logged = LogHoldings{true, in.uvarint32(), in.uvarint32(), in.uvarint32()}
	}
	if err := in.end(); err != nil || len(key) != erasedKeyBytes || e.Slot >= Slots {
		return e, fmt.Errorf("ledger of erasures: %w", orCorrupt(err))
	}
	copy(e.Hash[:], key[1:])
	e.Group = GroupID(binary.BigEndian.Uint16(key[17:]))
	e.Person = PersonID(binary.BigEndian.Uint64(key[19:]))
	return e, nil
}

// Erasures calls f for every entry of the ledger, in rising order of the hashes, until
// f returns false. It is what a copy of the store that is older must forget too.
// Entries whose frame is not durable yet are not there.
func (s *Store) Erasures(f func(Erasure) bool) error {
	return s.scanErasures([]byte{prefixErased}, []byte{prefixErased}, f)
}

// ErasuresBehind is Erasures from behind an entry on: what was read piece by piece is
// read whole, but for what came meanwhile.
func (s *Store) ErasuresBehind(last *Erasure, f func(Erasure) bool) error {
	return s.scanErasures(append(last.appendKey(nil), 0), []byte{prefixErased}, f)
}

// ErasuresOf calls f for every erasure of one id, in the order of the people that it
// named, which is that of time.
func (s *Store) ErasuresOf(hash [16]byte, f func(Erasure) bool) error {
	prefix := append([]byte{prefixErased}, hash[:]...)
	return s.scanErasures(prefix, prefix, f)
}

// errStopScan ends a scan.
var errStopScan = errors.New("enough")

func (s *Store) scanErasures(from, prefix []byte, f func(Erasure) bool) error {
	if s.closed.Load() {
		return ErrClosed
	}
	err := s.db.scan(from, after(prefix), func(key, value []byte) error {
		e, err := parseErasure(key, value)
		if err == nil && !f(e) {
			err = errStopScan
		}
		return err
	})
	if errors.Is(err, errStopScan) {
		return nil
	}
	return err
}
