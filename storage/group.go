package storage

import (
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"
)

// VisitorSeconds is how long a visitor without an event is kept after the last
// call.
const VisitorSeconds UnixSec = 24 * 3600

const (
	// A frame of 256 KiB costs one WAL record of eight blocks: larger ones do not
	// lower the cost of a sync, they only hold memory.
	frameSealBytes = 256 << 10
	// A decision id has 16 bits for the index.
	frameDecisionsMax = 1 << 16
	// Seal well before the index runs out: one lock section may still append.
	frameSealDecisions = 1 << 14
	frameBytesMax      = 64 << 20 // of one lock section
)

// A Group owns a contiguous range of slots: the rows of their people and the
// frames of their effects. Everything below mu is read and changed only between
// Lock and Unlock. What the package comment names is all that it is held across of I/O.
//
// All that is appended between one Lock and its Unlock lands in one frame: after
// a crash either all of it is there or none.
type Group struct {
	id      GroupID
	store   *Store
	durable atomic.Uint64 // highest frame known to be durable
	written atomic.Uint64 // the watermark on disk: rows reflect every frame up to it
	// unwritten is the size of the frames committed since the rows of the last cycle of
	// writing began to be taken.
	unwritten atomic.Int64
	dirty     atomic.Bool   // frames wait for the committer
	high      atomic.Int64  // newest time, UnixMsec
	bytes     atomic.Int64  // resident, as last counted
	born      atomic.Uint32 // people below it have a durable row or create
	waits     waitList
	// generation counts the states the group has had: a reload makes a new one.
	generation atomic.Uint32
	table      atomic.Pointer[indexTable] // of Ahead
	grant      grantScratch               // mu guards it

	mu struct {
		groupMutex
		state  *state
		open   *frame
		last   uint64   // the last sealed frame; numbers of dropped frames are left out
		sealed []*frame // oldest first
		spare  []*frame // empty, for the next seals
		fenced error    // nil while appends are taken
		random [512]byte
		left   int // unread bytes at the end of random
		// admitted: this lock section has appended, so what it appends next is not
		// refused half-way for want of disk.
		admitted bool
		visitor  Ord // where the next scan for expired visitors begins
		// moved says which frame holds a decision that the journal alone brought
		// here, in this epoch.
		moved map[DecisionID]uint64
	}
}

// Lock takes the group. While it is held the caller must not block, do I/O or
// lock another group.
func (g *Group) Lock() {
	g.mu.Lock()
	g.mu.admitted = false
	if f := g.mu.open; len(f.buf) >= frameSealBytes || f.decisions >= frameSealDecisions {
		g.sealLocked()
	}
}

// Unlock gives the group back. Views taken since Lock are no longer valid.
func (g *Group) Unlock() {
	if g.grant.open {
		g.putHeld()
	}
	if len(g.mu.state.touched) > 0 {
		g.tellLocked()
	}
	g.mu.Unlock()
}

// GroupID returns the number of the group.
func (g *Group) GroupID() GroupID { return g.id }

// The methods below need the lock.

// Find returns the person with a canonical id. hash is Store.IndexHash of it.
func (g *Group) Find(ws WorkspaceID, hash uint64, id []byte) (Ord, bool) {
	return g.mu.state.find(ws, hash, id)
}

// FindRow is Find for those who do not read the profile, which Find asks for ahead.
func (g *Group) FindRow(ws WorkspaceID, hash uint64, id []byte) (Ord, bool) {
	return g.mu.state.findRow(ws, hash, id)
}

// FindIdentity returns the person an identity of this group points at. hash is
// Store.IdentityHash. The claim is void when the person's profile does not list
// the identity.
func (g *Group) FindIdentity(hash [16]byte) (PersonRef, bool) {
	return g.mu.state.findIdentity(hash)
}

// Row returns the row of a person; it belongs to the group. nil: no such person.
func (g *Group) Row(o Ord) *Row { return g.mu.state.row(o) }

// Len returns the number of ordinals in use, those of people who are gone
// included.
func (g *Group) Len() int { return g.mu.state.len() }

// ID returns the canonical id of a person: a view.
func (g *Group) ID(o Ord) []byte { return g.mu.state.id(o) }

// Profile returns the profile of a person: a view.
func (g *Group) Profile(o Ord) Profile { return g.mu.state.profile(o) }

// Contact returns the caps' state of a person: a view.
func (g *Group) Contact(o Ord) Contact { return g.mu.state.contact(o) }

// Person returns what a decision reads of a person: the row, which belongs to the
// group, and views of the profile and the caps' state. The row is nil where Row is.
// Cost: one look at the row; the first look at a loaded person opens its profile.
func (g *Group) Person(o Ord) (*Row, Profile, Contact) { return g.mu.state.view(o) }

// Tail returns the latest events of a person: a view.
func (g *Group) Tail(o Ord) Tail { return g.mu.state.tail(o) }

// Activity returns what a person ever did, summed up: a view.
func (g *Group) Activity(o Ord) Activity { return g.mu.state.activity(o) }

// Holders yields the ordinals whose profile holds a tag, also one whose end has passed,
// rising. Nothing of the group may change meanwhile.
func (g *Group) Holders(tag Name) iter.Seq[Ord] { return g.mu.state.tags.each(tag) }

// SegmentBitmap returns the ordinals in a static segment; nil when nobody is. It
// belongs to the caller.
// Cost: a pass over a bit for each person, or 5 ns a member where there are few.
func (g *Group) SegmentBitmap(segment Name) *roaring.Bitmap {
	return g.mu.state.segments.set(segment)
}

// SegmentSize returns how many people are in a static segment.
func (g *Group) SegmentSize(segment Name) int { return g.mu.state.segments.size(segment) }

// SeenDedup returns the body hash stored with an idempotency key of the last
// seven days. key is Store.DedupHash.
func (g *Group) SeenDedup(key uint64) (body uint32, ok bool) {
	return g.mu.state.seenDedup(key)
}

// SeenOf returns the body hash stored with an idempotency key of a person of the last
// seven days; key is Store.DedupHash, and own what Row.DedupKey makes of it. Keys that
// a version without Row.DedupKey has entered are found too.
func (g *Group) SeenOf(own, key uint64) (body uint32, ok bool) {
	if body, ok = g.mu.state.seenDedup(own); !ok {
		body, ok = g.mu.state.dedup.findPlain(key)
	}
	return body, ok
}

// StatsRange calls f for every row of the statistics, in no order.
func (g *Group) StatsRange(f func(key StatsKey, n uint64, value float64)) {
	g.mu.state.statsRange(f)
}

// NextPerson returns the id and the ordinal that the next EffectCreate must
// carry.
func (g *Group) NextPerson() (PersonID, Ord) { return g.mu.state.nextPerson() }

// NextReservation returns a reservation id. Each call gives another one.
func (g *Group) NextReservation() ReservationID {
	return ReservationID{Epoch: g.store.epoch, Number: g.mu.state.nextReservation()}
}

// NewKey returns a fresh person key. When the random source fails the group is
// fenced and the key is zero: the append that would use it is refused.
func (g *Group) NewKey() (key [16]byte) {
	if g.mu.left < len(key) {
		if _, err := io.ReadFull(g.store.o.Rand, g.mu.random[:]); err != nil {
			g.fenceLocked(fmt.Errorf("%w: random source: %w", ErrFenced, err))
			return key
		}
		g.mu.left = len(g.mu.random)
	}
	from := len(g.mu.random) - g.mu.left
	copy(key[:], g.mu.random[from:])
	clear(g.mu.random[from : from+len(key)])
	g.mu.left -= len(key)
	return key
}

// NextDecision returns the id of the decision that the next EffectDecision of
// the open frame will record. It stays the same until that append.
func (g *Group) NextDecision(now UnixMsec) DecisionID {
	f := g.mu.open
	return makeDecisionID(now, g.id, g.store.epoch, f.number, f.decisions)
}

// makeDecisionID packs a decision id: time ms 48 | group 12 | epoch 16 |
// frame 36 | index 16, big-endian.
func makeDecisionID(now UnixMsec, g GroupID, epoch uint32, frame uint64, index int) DecisionID {
	var id DecisionID
	hi := uint64(now)<<16 | uint64(g&0xFFF)<<4 | uint64(epoch&0xFFFF)>>12
	lo := uint64(epoch&0xFFF)<<52 | frame&(1<<36-1)<<16 | uint64(index&0xFFFF)
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	return id
}

// Time returns when the decision was made, in milliseconds since 1970.
func (d DecisionID) Time() UnixMsec { return UnixMsec(binary.BigEndian.Uint64(d[:8]) >> 16) }

// Group returns the group that holds the decision's record.
func (d DecisionID) Group() GroupID {
	return GroupID(binary.BigEndian.Uint64(d[:8]) >> 4 & 0xFFF)
}

// Frame returns the frame that holds the decision's record.
func (d DecisionID) Frame() uint64 {
	return binary.BigEndian.Uint64(d[8:]) >> 16 & (1<<36 - 1)
}

func (d DecisionID) epoch() uint16 {
	return uint16(binary.BigEndian.Uint64(d[:8])&0xF)<<12 |
		uint16(binary.BigEndian.Uint64(d[8:])>>52)
}

// Append records an effect in the open frame and applies it to memory. It
// returns the frame, for Wait. Effects are durable only then: see Store.Wait;
// without it they are committed within Options.BoundedMax. e.Time is raised to
// the group's newest time when it lies before. Nothing has changed after an
// error: ErrFenced, ErrDiskFull, ErrMemoryCap (only for EffectCreate), ErrClosed,
// ErrLimit for too many decisions in one lock section, or a fault in e.
//
// It does not allocate for EffectReserve, EffectDecision and EffectUse once the
// buffers have grown.
func (g *Group) Append(e *Effect) (frame uint64, err error) {
	return g.appendClear(e, nil)
}

// appendClear is Append of an effect whose clear part is known; nil = it is not.
func (g *Group) appendClear(e *Effect, clear []byte) (frame uint64, err error) {
	if err := g.admit(e); err != nil {
		return 0, err
	}
	e.Time = max(e.Time, UnixMsec(g.high.Load()))
	key, err := g.sealKey(e)
	if err != nil {
		return 0, err
	}
	f := g.mu.open
	mark := f.mark()
	if err := f.append(e, key, clear); err != nil {
		return 0, err
	}
	if err := g.mu.state.apply(f.number, e); err != nil {
		f.rewind(mark)
		return 0, err
	}
	g.mu.admitted = true
	if g.high.Load() != int64(e.Time) { // to store waits for what was stored before
		g.high.Store(int64(e.Time))
	}
	if !g.dirty.Load() {
		g.dirty.Store(true)
		g.store.com.bounded.appended()
	}
	if e.Kind == EffectCreate {
		g.bytes.Store(g.mu.state.residentBytes())
	}
	return f.number, nil
}

// FitsEvent says whether Append would take an EffectEvent: nil, or its error. After
// nil it does so in the same lock section, when uses of the same person are appended
// before it. The group must be locked. Cost: as that of Append without the frame.
func (g *Group) FitsEvent(e *Effect) error {
	if err := g.admit(e); err != nil {
		return err
	}
	e.Time = max(e.Time, UnixMsec(g.high.Load()))
	if _, err := g.sealKey(e); err != nil {
		return err
	}
	return g.mu.state.fitsEvent(e)
}

// admit says whether the group takes e now.
func (g *Group) admit(e *Effect) error {
	switch {
	case g.mu.fenced != nil:
		return g.mu.fenced
	case g.store.dead.why.Load() != nil && !g.mu.admitted:
		return fmt.Errorf("%w: %w", ErrFenced, g.store.dead.err())
	case g.store.guard.full.Load() && !g.mu.admitted && !raisesFloor(e):
		return ErrDiskFull
	case e.Kind == EffectCreate && g.store.o.MemoryCap > 0:
		return g.store.admitPerson()
	case e.Kind == EffectDecision && g.mu.open.decisions >= frameDecisionsMax:
		return fmt.Errorf("%w: %d decisions in one lock section", ErrLimit, frameDecisionsMax)
	}
	return nil
}

// raisesFloor tells whether e raises the floor, which a start and a step of the clock do
// with the few bytes that are there.
func raisesFloor(e *Effect) bool { return e.Kind == EffectTime && e.Floor != 0 }

// admitPerson compares the resident bytes of all groups with the cap.
// Cost: one atomic load a group.
func (s *Store) admitPerson() error {
	var n int64
	for _, g := range s.groups {
		n += g.bytes.Load()
	}
	if n >= s.o.MemoryCap {
		return ErrMemoryCap
	}
	return nil
}

// sealKey checks where e belongs and returns the key that seals its personal
// part.
func (g *Group) sealKey(e *Effect) (*[16]byte, error) {
	if e.Kind == EffectClaim && g.store.GroupOf(e.Claim.Slot&(Slots-1)) != g {
		return nil, fmt.Errorf("%w: claim of slot %d in group %d", ErrInvalid, e.Claim.Slot, g.id)
	}
	if e.Kind == EffectCreate {
		if g.store.GroupOf(e.Create.Slot&(Slots-1)) != g {
			return nil, fmt.Errorf("%w: create in slot %d in group %d",
				ErrInvalid, e.Create.Slot, g.id)
		}
		if e.Create.Key == ([16]byte{}) {
			return nil, fmt.Errorf("%w: create without a key", ErrInvalid)
		}
		return &e.Create.Key, nil
	}
	if e.Ord == NoOrd {
		return nil, nil
	}
	if row := g.mu.state.row(e.Ord); row != nil {
		return &row.Key, nil
	}
	if int(e.Ord) >= g.mu.state.len() {
		return nil, fmt.Errorf("%w: no person has ordinal %d", ErrInvalid, e.Ord)
	}
	// The person is gone, and its key with it: nobody will open this part.
	key := g.NewKey()
	return &key, g.mu.fenced
}

// sealLocked ends the open frame, when it holds anything, and begins the next.
// It returns the number of the last sealed frame.
func (g *Group) sealLocked() uint64 {
	f := g.mu.open
	if f.count > 0 {
		g.mu.last = f.number
		f.people = g.mu.state.nextOrd
		g.mu.sealed = append(g.mu.sealed, f)
		g.openLocked(f.number + 1)
	}
	return g.mu.last
}

// openLocked begins a frame.
func (g *Group) openLocked(number uint64) {
	last := len(g.mu.spare) - 1
	if last < 0 {
		g.mu.open = newFrame(number)
		return
	}
	g.mu.open = g.mu.spare[last]
	g.mu.spare = g.mu.spare[:last]
	g.mu.open.number = number
}

// recycle takes a written frame back.
func (g *Group) recycle(f *frame) {
	if cap(f.buf) > frameKeepBytes {
		return
	}
	f.reset()
	g.mu.Lock()
	defer g.mu.Unlock()
	room := frameKeepBytes - cap(f.buf)
	for _, spare := range g.mu.spare {
		room -= cap(spare.buf)
	}
	if room >= 0 && len(g.mu.spare) < frameKeep {
		g.mu.spare = append(g.mu.spare, f)
	}
}

// fence refuses appends and wakes all who wait, with ErrUnknown.
func (g *Group) fence(why error) {
	g.mu.Lock()
	g.fenceLocked(why)
	g.mu.Unlock()
}

func (g *Group) fenceLocked(why error) {
	if g.mu.fenced == nil || why == ErrClosed {
		g.mu.fenced = why
	}
}

// ExpireVisitors appends an EffectForget for up to max visitors whose last call
// is a day old. It looks at no more than 4,096 rows, beginning where the last
// call stopped, and returns how many it appended.
func (g *Group) ExpireVisitors(now UnixSec, max int) (int, error) {
	var n int
	rows := g.mu.state.len()
	for range min(rows, 4096) {
		if n >= max {
			break
		}
		if int(g.mu.visitor) >= rows {
			g.mu.visitor = 0
		}
		o := g.mu.visitor
		row := g.mu.state.row(o)
		if row != nil && row.Flags&RowVisitor != 0 && row.Flags&RowGone == 0 &&
			row.LastSeen+VisitorSeconds <= now {
			e := Effect{Kind: EffectForget, Ord: o, Time: UnixMsec(now) * 1000}
			if _, err := g.Append(&e); err != nil {
				return n, err
			}
			n++
		}
		g.mu.visitor++
	}
	return n, nil
}
