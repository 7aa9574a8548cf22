package storage

import (
	"fmt"
)

// stateOptions says how a state is made.
type stateOptions struct {
	// Dedup days kept; 0 = dedupDays.
	dedupDays int
}

// A state is the resident data of one group: rows, the slab their variable
// parts lie in, the indexes, the sets of tags and segments, the statistics, the idempotency
// keys and the group's share of the totals.
//
// Laws, each with a test:
//  1. apply is pure: equal state and effects give an equal checksum. It reads no
//     clock and draws nothing at random.
//  2. apply changes all or nothing: after an error the state is as before.
//  3. Writing rows and meta out and loading them gives the same checksum, also
//     while the loaded parts are still sealed.
//  4. Replaying frames over loaded rows skips exactly what the rows and the meta
//     already hold.
//
// The group's lock guards it. Of what grows with people nothing but the bitmaps that
// questions ask for, those of tracked segments, the calendar of tags and the maps of
// statistics and totals has pointers.
type state struct {
	group      GroupID
	rows       rowTable
	pages      [MaxPages - 1]pageTable // of the predicate bits, from page 1 on
	slab       slab
	index      index
	identities identityIndex
	tags       bitmaps
	ends       tagIndex
	segments   bitmaps
	members    memberships
	indexes    population
	verdicts   verdicts
	stats      statsTable
	dedup      dedupTable
	share      totalsShare
	held       heldQueue

	people   int // rows that are not gone
	visitors int
	nextOrd  Ord
	person   PersonID // last minted
	reserved uint64   // last reservation number, without the group
	high     UnixMsec
	floors   floors

	incidents incidents
	blind     UnixSec // see Store.Blind

	// Frames up to metaFrame are in what loadMeta read.
	metaFrame uint64

	dirty     []Ord // rows with a dirty part; dirtyHead are taken
	dirtyHead int
	claims    []claim  // identities to be written
	damage    error    // first part that did not open
	views     []*View  // open ones
	listings  []uint64 // by ordinal: see Listing

	watch   *Watch  // what somebody wants to hear of; nil: nothing
	touched []Touch // in this lock section
	// tailMoved: the last event moved the floor of its person's tail.
	tailMoved bool

	loading *rowLoad // between beginRows and endRows
	draft   profileDraft
	edit    contactDraft
	newest  uint64 // of the last reservation: the one before it, see Contact.settled
	sum     activityDraft
	drawn   tailDraft
	whole   wholeActivity
	// What events are summed up in, one after the other.
	sums, sumsOther, start []byte
	sumProps               []AttrValue
	began                  bool // the last one began the activity with a whole tail
	events                 eventsDraft
	scratch                []byte
	body                   []byte
}

// newState returns an empty state.
func newState(g GroupID, o stateOptions) *state {
	s := &state{group: g}
	if o.dedupDays == 0 {
		o.dedupDays = dedupDays
	}
	s.dedup.slab, s.dedup.days = &s.slab, o.dedupDays
	s.share.confirmed = make(map[TotalKey]int64)
	s.share.blocks = newBlockShare()
	s.tags, s.segments = newBitmaps(&s.slab), newBitmaps(&s.slab)
	s.ends = newTagIndex()
	s.indexes = newPopulation()
	s.members = newMemberships()
	return s
}

// find returns the person with a canonical id. hash is Store.IndexHash of it.
// Cost: two cold cache lines one behind the other, the profile's with the second, no
// allocation; the first look at a loaded person opens its profile.
func (s *state) find(ws WorkspaceID, hash uint64, id []byte) (Ord, bool) {
	at := s.index.first(hash)
	for {
		o, hint, next, ok := s.index.next(hash, at)
		if !ok {
			return 0, false
		}
		s.fetch(o, hint)
		if s.is(o, ws, hash, id) {
			return o, true
		}
		at = next
	}
}

// findRow is find for those who do not read the profile, and so do not wait for it.
// Cost: two cold cache lines, no allocation.
func (s *state) findRow(ws WorkspaceID, hash uint64, id []byte) (Ord, bool) {
	at := s.index.first(hash)
	for {
		o, _, next, ok := s.index.next(hash, at)
		if !ok || s.is(o, ws, hash, id) {
			return o, ok
		}
		at = next
	}
}

// is reports whether a person has the canonical id.
func (s *state) is(o Ord, ws WorkspaceID, hash uint64, id []byte) bool {
	r := s.rows.at(o)
	if r.IDHash != hash || r.Workspace != ws {
		return false
	}
	if r.Flags&RowSealed != 0 && s.openProfile(o, r) != nil {
		// The 64 bits of the secret hash agree; the damage is reported by
		// damaged, and a second person must not be made for this id.
		return true
	}
	return string(s.idOf(r)) == string(id)
}

// findIdentity returns the person an identity points at.
func (s *state) findIdentity(hash [16]byte) (PersonRef, bool) {
	return s.identities.find(hash)
}

// row returns the row of a person; nil when there is none or it is gone.
func (s *state) row(o Ord) *Row {
	r := s.rows.at(o)
	if r == nil || r.Flags&RowGone != 0 {
		return nil
	}
	return r
}

// len returns the number of ordinals ever given.
func (s *state) len() int { return int(s.nextOrd) }

// population returns the number of people and how many of them are visitors.
func (s *state) population() (people, visitors int) { return s.people, s.visitors }

// id returns the canonical id of a person: a view.
func (s *state) id(o Ord) []byte {
	r := s.opened(o)
	if r == nil {
		return nil
	}
	return s.idOf(r)
}

// profile returns the profile of a person: a view.
func (s *state) profile(o Ord) Profile {
	r := s.opened(o)
	if r == nil || r.Flags&RowSealed != 0 {
		return Profile{}
	}
	return Profile{s.slab.get(r.profile)}
}

// view returns the row of a person and views of its profile and its caps' part.
func (s *state) view(o Ord) (*Row, Profile, Contact) {
	r := s.opened(o)
	switch {
	case r == nil:
		return nil, Profile{}, Contact{}
	case r.Flags&RowSealed != 0:
		return r, Profile{}, Contact{s.slab.get(r.contact)}
	}
	return r, Profile{s.slab.get(r.profile)}, Contact{s.slab.get(r.contact)}
}

// contact returns the caps' part of a person: a view.
func (s *state) contact(o Ord) Contact {
	r := s.row(o)
	if r == nil {
		return Contact{}
	}
	return Contact{s.slab.get(r.contact)}
}

// tail returns the latest events of a person: a view.
func (s *state) tail(o Ord) Tail {
	r := s.row(o)
	if r == nil || r.Flags&(rowTailSealed|rowActivitySealed) != 0 && s.openHistory(r) != nil {
		return Tail{}
	}
	return Tail{s.slab.get(r.tail)}
}

// activity returns what a person ever did, summed up: a view.
func (s *state) activity(o Ord) Activity {
	r := s.row(o)
	if r == nil || r.Flags&(rowTailSealed|rowActivitySealed) != 0 && s.openHistory(r) != nil {
		return Activity{}
	}
	return s.whole.view(s.slab.get(r.activity), Tail{s.slab.get(r.tail)})
}

// seenDedup returns the body hash stored with an idempotency key.
func (s *state) seenDedup(key uint64) (body uint32, ok bool) { return s.dedup.find(key) }

// statsRange calls f for every row of the statistics, in no order.
func (s *state) statsRange(f func(key StatsKey, n uint64, value float64)) {
	s.stats.each(func(k StatsKey, r statsRow) { f(k, r.n, r.value) })
}

// nextPerson returns what the next EffectCreate must carry. It is the same until
// that effect.
func (s *state) nextPerson() (PersonID, Ord) { return s.person + 1, s.nextOrd }

// nextReservation returns a number no other call has returned: the group in the
// top 16 bits, a counter below.
func (s *state) nextReservation() uint64 {
	s.reserved++
	return uint64(s.group)<<48 | s.reserved
}

// highWater returns the newest time of an effect.
func (s *state) highWater() UnixMsec { return s.high }

// floor returns the floor in force: see Instant.
func (s *state) floor() UnixSec { return s.floors.latest() }

// damaged returns the first fault met when a part was opened; nil = none.
func (s *state) damaged() error { return s.damage }

// residentBytes returns the memory of the whole state.
// Cost: O(1) but for the bitmaps, which are counted at each patch.
func (s *state) residentBytes() int64 {
	b := s.bytes()
	return b.Sum()
}

// StateBytes is the resident memory of a group by part.
type StateBytes struct {
	Rows       int64
	Pages      int64 // predicate bits from page 1 on
	Slab       int64 // chunks held, less what others have of them; SlabUsed of it in live blocks
	SlabUsed   int64
	Index      int64
	Identities int64
	Bitmaps    int64 // sets of tags and segments: blocks; bitmaps of those estimated
	Population int64 // indexes of the population, estimated from above
	Stats      int64
	Dedup      int64
}

// Sum is all parts together.
func (b *StateBytes) Sum() int64 {
	return b.Rows + b.Pages + b.Slab + b.Index + b.Identities + b.Bitmaps + b.Population + b.Stats +
		b.Dedup
}

func (s *state) bytes() StateBytes {
	b := StateBytes{
		Rows:       int64(s.rows.held)*rowChunk*192 + int64(len(s.listings))*8,
		Pages:      s.pageBytes(),
		Index:      s.index.bytes(),
		Identities: s.identities.bytes(),
		Bitmaps: s.tags.bytes() + s.segments.bytes() + s.members.bytes() +
			s.ends.bytes(),
		Population: s.indexes.bytes(s.people) + s.verdicts.bytes(),
		Stats:      s.stats.bytes() + int64(len(s.share.confirmed))*48,
		Dedup:      s.dedup.bytes(),
	}
	b.Slab, b.SlabUsed = s.slab.bytes()
	others := s.dedup.used + s.tags.used + s.segments.used
	b.Slab, b.SlabUsed = b.Slab-others, b.SlabUsed-others
	return b
}

// attachTotals adds the group's share, confirmed and held, to the ledger and
// keeps the ledger up to date from now on. Replay happens before it.
func (s *state) attachTotals(t *Totals) {
	s.eachTotal(func(k TotalKey, n int64) { t.add(k, n) })
	s.share.ledger = t
}

// detachTotals takes the group's share out of the ledger. When a group is
// reloaded, the new state is attached first and the old one detached then, so
// that the ledger is never below the truth.
func (s *state) detachTotals() {
	t := s.share.ledger
	if t == nil {
		return
	}
	s.share.ledger = nil
	s.eachTotal(func(k TotalKey, n int64) { t.add(k, -n) })
}

func (s *state) eachTotal(f func(TotalKey, int64)) {
	for k, n := range s.share.confirmed {
		f(k, n)
	}
	s.rows.each(func(_ Ord, r *Row) bool {
		for h := range (Contact{s.slab.get(r.contact)}).held {
			for i := range h.Len() {
				if k := h.Key(i); k.Total {
					f(TotalKey{k.Key, k.Window}, k.Units())
				}
			}
		}
		return true
	})
}

// expiredHolds appends to dst up to max open reservations with a total key that
// no longer live at now, so that their units can be released although their
// person never comes back. The caller resolves them; one that it does not is
// named again a second later.
// Cost: logarithmic in the open reservations with a total key, for each.
func (s *state) expiredHolds(dst []heldEntry, now UnixSec, max int) []heldEntry {
	for range max {
		e, ok := s.held.due(now)
		if !ok {
			break
		}
		h, state := s.contact(e.ord).Reservation(e.id)
		if state != ReservationOpen || !h.hasTotal() {
			continue
		}
		if at := h.releaseAt(s.floor()); at > uint64(now) {
			s.held.push(heldEntry{at, e.ord, e.id})
			continue
		}
		dst = append(dst, e)
		s.held.push(heldEntry{uint64(now) + 1, e.ord, e.id})
	}
	return dst
}

// opened returns the row of a person with its profile open, or as it is when it
// does not open; nil when there is no such person.
func (s *state) opened(o Ord) *Row {
	r := s.row(o)
	if r == nil {
		return nil
	}
	if r.Flags&RowSealed != 0 {
		// On a fault the row stays sealed and damage holds the reason.
		_ = s.openProfile(o, r)
	}
	return r
}

func (s *state) idOf(r *Row) []byte {
	switch {
	case r.Flags&RowSealed != 0:
		return nil
	case r.idLen > 0:
		return r.inlineID()
	default:
		return Profile{s.slab.get(r.profile)}.longID()
	}
}

// openProfile opens the personal part of a loaded row and keeps it open.
// Cost: one opening of the part, once a person after a start.
func (s *state) openProfile(o Ord, r *Row) error {
	id, err := s.openedProfile(r)
	if err != nil {
		return s.damagedBy(fmt.Errorf("profile of ordinal %d: %w", o, err))
	}
	ref, err := s.slab.put(r.profile, s.scratch)
	if err != nil {
		return s.damagedBy(err)
	}
	if len(id) <= idInline {
		r.idLen = uint8(len(id))
		copy(r.id[:], id)
	}
	r.profile = ref
	r.Flags &^= RowSealed
	return nil
}

// openedProfile leaves the open form of a sealed profile in s.scratch and
// returns the canonical id, which lies in s.body. The open form holds no id that
// fits in the row, and is empty when nothing else is in it.
func (s *state) openedProfile(r *Row) (id []byte, err error) {
	sealed := s.slab.get(r.profile)
	split := int(le32(sealed))
	bind := rowBind(r.Workspace, r.Person, RowProfile)
	s.body, err = appendOpened(s.body[:0], &r.Key, sealed[split:], bind[:])
	if err != nil {
		return nil, err
	}
	if err := checkPersonal(s.body); err != nil {
		return nil, err
	}
	id, rest := s.body[1:1+int(s.body[0])], s.body[1+int(s.body[0]):]
	if len(id) == 0 {
		return nil, fmt.Errorf("no id: %w", ErrCorrupt)
	}
	s.scratch = append(s.scratch[:0], sealed[:split]...)
	if len(id) > idInline {
		s.scratch = append(s.scratch, s.body...)
		return id, nil
	}
	s.scratch = append(append(s.scratch, 0), rest...)
	if profileEmpty(s.scratch) {
		s.scratch = s.scratch[:0]
	}
	return id, nil
}

func (s *state) damagedBy(err error) error {
	if s.damage == nil {
		s.damage = err
	}
	return err
}

// errPerson reports an effect of a person the group never had.
func errPerson(o Ord) error { return fmt.Errorf("%w: no person has ordinal %d", ErrInvalid, o) }
