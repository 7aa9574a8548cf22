package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/zeebo/xxh3"
)

// checksum returns a sum over the logical content of the group: every person
// with profile, tail and contact part, the identities, the statistics, the
// totals and the idempotency keys. Equal content gives equal sums however it
// lies in memory, sealed or open, and whatever the derived bits say. It opens
// sealed parts without keeping them open.
// Cost: one pass over everything; for tests, check and doctor.
func (s *state) checksum() (uint64, error) {
	// The parts are unordered, so their hashes are added up.
	var sum uint64
	var err error
	s.rows.each(func(o Ord, r *Row) bool {
		if r.Flags&RowGone != 0 {
			return true
		}
		var h uint64
		h, err = s.rowSum(o, r)
		sum += h
		return err == nil
	})
	if err != nil {
		return 0, err
	}
	var b []byte
	le := binary.LittleEndian
	s.stats.each(func(k StatsKey, r statsRow) {
		b = append(appendStatsKey(b[:0], k), 's')
		b = le.AppendUint64(le.AppendUint64(b, r.n), math.Float64bits(r.value))
		sum += xxh3.Hash(b)
	})
	for k, n := range s.share.confirmed {
		b = append(appendTotalKey(b[:0], k), 't')
		sum += xxh3.Hash(le.AppendUint64(b, uint64(n)))
	}
	sum += s.share.blocks.sum(xxh3.Hash)
	if s.blind != 0 {
		sum += xxh3.Hash(le.AppendUint32(append(b[:0], 'r'), uint32(s.blind)))
	}
	s.identities.each(func(c claim) {
		b = append(append(b[:0], c.hash[:]...), 'i')
		b = le.AppendUint64(b, uint64(c.target.Person))
		b = le.AppendUint32(le.AppendUint32(b, uint32(c.target.Ord)), uint32(c.target.Group))
		sum += xxh3.Hash(b)
	})
	s.dedup.each(func(key uint64, day uint16, body uint32) {
		b = le.AppendUint64(append(b[:0], 'd'), key)
		sum += xxh3.Hash(le.AppendUint32(le.AppendUint16(b, day), body))
	})
	return sum + s.members.sum(), nil
}

func (s *state) rowSum(o Ord, r *Row) (uint64, error) {
	le := binary.LittleEndian
	h := xxh3.New()
	part := func(b []byte) {
		var size [4]byte
		le.PutUint32(size[:], uint32(len(b)))
		_, _ = h.Write(size[:]) // a hash takes everything
		_, _ = h.Write(b)
	}
	head := le.AppendUint64(nil, uint64(r.Person))
	head = le.AppendUint32(head, uint32(o))
	head = le.AppendUint32(head, uint32(r.Workspace))
	head = le.AppendUint16(head, uint16(r.Slot))
	head = le.AppendUint16(head, r.Zone)
	head = le.AppendUint64(head, r.IDHash)
	head = le.AppendUint16(head, uint16(r.Flags&(RowVisitor|RowWithdrawn)))
	part(append(head, r.Key[:]...))
	if r.Flags&RowSealed != 0 {
		id, err := s.openedProfile(r)
		if err != nil {
			return 0, fmt.Errorf("profile of ordinal %d: %w", o, err)
		}
		part(id)
		part(s.scratch)
	} else {
		part(s.idOf(r))
		part(s.slab.get(r.profile))
	}
	tail, activity, err := s.openedHistory(r)
	if err != nil {
		return 0, fmt.Errorf("ordinal %d: %w", o, err)
	}
	part(tail)
	part(s.slab.get(r.contact))
	part(activity)
	return h.Sum64(), nil
}

// setCheck is what profiles say of the sets of their tags and segments.
type setCheck struct {
	tags, segments map[Name]int
	ends           tagIndex
}

func newSetCheck() setCheck {
	return setCheck{make(map[Name]int), make(map[Name]int), newTagIndex()}
}

// count notes what one profile says, of whom every set must have the person.
func (c *setCheck) count(s *state, p Profile, o Ord) (err error) {
	p.EachTag(func(t TagValue) bool {
		c.tags[t.ID]++
		c.ends.add(&t, o)
		err = errors.Join(err, s.tags.checkMember(t.ID, o))
		return true
	})
	p.EachSegment(func(n Name) bool {
		c.segments[n]++
		err = errors.Join(err, s.segments.checkMember(n, o))
		return true
	})
	return err
}

// compare says where the sets have anybody else.
func (c *setCheck) compare(s *state) error {
	if err := errors.Join(s.tags.check(c.tags), s.ends.differ(&c.ends)); err != nil {
		return fmt.Errorf("tags: %w", err)
	}
	if err := s.segments.check(c.segments); err != nil {
		return fmt.Errorf("segments: %w", err)
	}
	return nil
}

// check compares every part of the state with the others and returns the first
// fault: rows with the index, the bitmaps, the counters and the slab.
func (s *state) check() error {
	sets := newSetCheck()
	var people, visitors, dirty int
	var used int64
	var err error
	s.rows.each(func(o Ord, r *Row) bool {
		if r.Flags&rowDirty != 0 {
			dirty++
		}
		if o >= s.nextOrd || r.Person > s.person {
			err = fmt.Errorf("ordinal %d is past the last one: %w", o, ErrCorrupt)
			return false
		}
		if r.Flags&RowGone != 0 {
			return true
		}
		people++
		if r.Flags&RowVisitor != 0 {
			visitors++
		}
		if err = s.checkRow(o, r); err != nil {
			err = fmt.Errorf("ordinal %d: %w", o, err)
			return false
		}
		if err = sets.count(s, Profile{s.slab.get(r.profile)}, o); err != nil {
			return false
		}
		for _, ref := range [...]Ref{r.profile, r.tail, r.contact, r.activity, r.pending} {
			used += s.slab.size(ref)
		}
		return true
	})
	if err != nil {
		return err
	}
	if held := s.dedup.held(); held != s.dedup.used {
		return fmt.Errorf("idempotency keys: %d bytes, counted %d: %w", s.dedup.used, held, ErrCorrupt)
	}
	others := s.dedup.used + s.tags.used + s.segments.used
	if people != s.people || visitors != s.visitors || people != s.index.live ||
		dirty != s.dirtyCount() || used+others != s.slab.used {
		return fmt.Errorf("counters: %d people, %d visitors, %d in the index, %d dirty, %d bytes; "+
			"counted %d, %d, %d, %d: %w", s.people, s.visitors, s.index.live, s.dirtyCount(),
			s.slab.used-others, people, visitors, dirty, used, ErrCorrupt)
	}
	if err := sets.compare(s); err != nil {
		return err
	}
	if err := s.members.check(s.nextOrd); err != nil {
		return err
	}
	if err := s.checkPopulation(); err != nil {
		return err
	}
	if err := s.checkTimers(); err != nil {
		return err
	}
	return s.damage
}

// checkTimers proves that every open reservation with a use of a total is in the
// queue that gives it back, and that the queue is a heap. It may hold more: what has
// been resolved since.
func (s *state) checkTimers() error {
	type timer struct {
		ord Ord
		id  ReservationID
	}
	queued := make(map[timer]struct{}, len(s.held.heap))
	for i, e := range s.held.heap {
		if i > 0 && s.held.heap[(i-1)/2].at > e.at {
			return fmt.Errorf("queue of reservations is out of order: %w", ErrCorrupt)
		}
		queued[timer{e.ord, e.id}] = struct{}{}
	}
	var err error
	s.rows.each(func(o Ord, r *Row) bool {
		if r.Flags&RowGone != 0 {
			return true
		}
		s.contact(o).EachReservation(func(h Held) bool {
			if _, ok := queued[timer{o, h.ID()}]; !ok && h.hasTotal() {
				err = fmt.Errorf("reservation %v of ordinal %d has no timer: %w", h.ID(), o, ErrCorrupt)
			}
			return err == nil
		})
		return err == nil
	})
	return err
}

func (s *state) checkRow(o Ord, r *Row) error {
	found, ok := s.index.find(r.IDHash, func(x Ord) bool { return x == o })
	if !ok || found != o {
		return fmt.Errorf("not in the index: %w", ErrCorrupt)
	}
	if r.Flags&RowSealed == 0 {
		twin, ok := s.index.find(r.IDHash, func(x Ord) bool {
			other := s.rows.at(x)
			return x != o && other.IDHash == r.IDHash && other.Workspace == r.Workspace &&
				other.Flags&RowSealed == 0 && string(s.idOf(other)) == string(s.idOf(r))
		})
		if ok {
			return fmt.Errorf("ordinal %d has the same id: %w", twin, ErrCorrupt)
		}
		if err := checkProfile(s.slab.get(r.profile)); err != nil {
			return err
		}
	}
	p := Profile{s.slab.get(r.profile)}
	if uint16(p.Zone()) != r.Zone || p.withdrawn() != (r.Flags&RowWithdrawn != 0) {
		return fmt.Errorf("row and profile differ: %w", ErrCorrupt)
	}
	if err := s.checkHistory(r); err != nil {
		return err
	}
	c := Contact{s.slab.get(r.contact)}
	if err := checkContact(c.b); err != nil {
		return err
	}
	var err error
	c.EachRing(func(ring Ring) bool {
		for i := 1; i < ring.Len(); i++ {
			if ring.Time(i) < ring.Time(i-1) {
				err = fmt.Errorf("ring out of order: %w", ErrCorrupt)
			}
		}
		if ring.Len() > 0 && ring.Dropped() > ring.Time(0) {
			err = fmt.Errorf("ring lost a newer use: %w", ErrCorrupt)
		}
		return err == nil
	})
	return err
}
