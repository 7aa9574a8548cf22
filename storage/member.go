package storage

import (
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// MemberCause says why a person entered or left a tracked segment. The number is
// stored; it never changes.
type MemberCause uint8

// Causes of a change of membership.
const (
	CauseChange    MemberCause = iota + 1 // something came to be known of the person
	CauseTime                             // time alone
	CausePublish                          // the segment's rule changed
	CauseBackfill                         // was in it when the tracking began
	CauseForgotten                        // the person is gone
	CauseEnded                            // the tracking ended: everybody leaves
)

// TrackPhase says how far the tracking of a segment is. The number is stored; it
// never changes.
type TrackPhase uint8

// Phases of a tracked segment in one group.
const (
	TrackEnded    TrackPhase = iota + 1 // its members are not kept any more
	TrackBuilding                       // some people have not been judged by its rule yet
	TrackWhole
	TrackChanged // some people have not been judged by its new rule yet
)

// MaxMemberOrds bounds the people of one MemberEffect.
const MaxMemberOrds = 1 << 16

// MemberEffect moves people of the group into or out of a tracked segment. Who
// is there already is left alone: a change is recorded once.
type MemberEffect struct {
	Segment Name
	Entered bool
	Cause   MemberCause
	At      UnixMsec // from when on it is so; at most the effect's time
	Ords    []Ord    // rising
}

// TrackEffect begins, completes or ends the tracking of a segment in the group.
// Beginning again keeps the members.
type TrackEffect struct {
	Segment Name
	Phase   TrackPhase
	Digest  uint64 // of what the segment says; the caller's
}

// TrackView is what the group knows of a tracked segment.
type TrackView struct {
	Phase   TrackPhase
	Digest  uint64
	Members int
}

// memberships are the members of the tracked segments of one group, and the
// latest changes of them. They belong to the group and not to the rows: replay
// skips what the group's record reflects.
//
// Changes are numbered from 1 without a gap; a change is one person entering or
// leaving one segment. The flusher writes the changes of every pass into a log,
// and now and then the bitmaps that have changed since; see member_codec.go.
type memberships struct {
	sets    map[Name]*memberSet
	members int64  // of all sets
	last    uint64 // number of the last change
	log     []memberEntry
	ords    []Ord  // of log, one entry after the other
	taken   uint64 // last change that the flusher took
	saved   uint64 // the bitmaps on disk reflect the changes up to it
	passes  int    // since the bitmaps were written
	ended   []Name // tracking ended since the bitmaps were written
	force   bool   // the bitmaps are to be written with the next pass
	spans   []changeSpan
	lost    uint64 // changes up to it were dropped for their age or their number
}

// memberSet is one tracked segment.
type memberSet struct {
	bitmap *roaring.Bitmap
	phase  TrackPhase
	digest uint64
	dirty  map[uint16]struct{} // containers (the upper 16 bits) that changed since saved
}

// memberEntry is a run of changes that one effect made.
type memberEntry struct {
	first    uint64 // number of its first change
	frame    uint64
	segment  Name
	entered  bool
	cause    MemberCause
	at, time UnixMsec
	from, n  int // in memberships.ords
}

// changeSpan is a stretch of the log on disk.
type changeSpan struct {
	first uint64
	until UnixMsec // time of its newest change
	bytes uint32
}

func newMemberships() memberships { return memberships{sets: make(map[Name]*memberSet)} }

// checkMember says what is wrong with an effect on members.
func (s *state) checkMember(e *Effect) error {
	if e.Kind == EffectTrack {
		if t := &e.Track; t.Segment == 0 || t.Phase < TrackEnded || t.Phase > TrackChanged {
			return fmt.Errorf("%w: tracking of segment %d", ErrInvalid, t.Segment)
		}
		return nil
	}
	m := &e.Member
	if m.Segment == 0 || m.Cause < CauseChange || m.Cause > CauseEnded ||
		len(m.Ords) == 0 || len(m.Ords) > MaxMemberOrds || m.At > e.Time || m.At < 0 {
		return fmt.Errorf("%w: members of segment %d", ErrInvalid, m.Segment)
	}
	for i, o := range m.Ords {
		if o >= s.nextOrd || i > 0 && o <= m.Ords[i-1] {
			return fmt.Errorf("%w: member %d of segment %d", ErrInvalid, o, m.Segment)
		}
	}
	return nil
}

// track applies a TrackEffect.
func (m *memberships) track(frame uint64, time UnixMsec, e *TrackEffect) {
	m.force = true
	set := m.sets[e.Segment]
	if e.Phase == TrackEnded {
		if set != nil {
			m.empty(frame, time, e.Segment)
			delete(m.sets, e.Segment)
			m.ended = append(m.ended, e.Segment)
		}
		return
	}
	if set == nil {
		set = &memberSet{bitmap: roaring.New(), dirty: make(map[uint16]struct{})}
		m.sets[e.Segment] = set
	}
	set.phase, set.digest = e.Phase, e.Digest
}

// empty takes everybody out of a segment.
func (m *memberships) empty(frame uint64, time UnixMsec, segment Name) {
	members := m.sets[segment].bitmap.ToArray()
	all := make([]Ord, len(members))
	for i, o := range members {
		all[i] = Ord(o)
	}
	m.move(frame, time, &MemberEffect{Segment: segment, Cause: CauseEnded, At: time, Ords: all})
}

// move applies a MemberEffect.
func (m *memberships) move(frame uint64, time UnixMsec, e *MemberEffect) {
	set := m.sets[e.Segment]
	if set == nil {
		return // its tracking has ended
	}
	from := len(m.ords)
	for _, o := range e.Ords {
		if set.flip(o, e.Entered) {
			m.ords = append(m.ords, o)
		}
	}
	n := len(m.ords) - from
	if n == 0 {
		return
	}
	if e.Entered {
		m.members += int64(n)
	} else {
		m.members -= int64(n)
	}
	m.log = append(m.log, memberEntry{
		first: m.last + 1, frame: frame, segment: e.Segment, entered: e.Entered, cause: e.Cause,
		at: e.At, time: time, from: from, n: n,
	})
	m.last += uint64(n)
}

// forget takes a person who is gone out of every segment, in their order.
func (m *memberships) forget(frame uint64, time UnixMsec, o Ord) {
	var out []Name
	for n, set := range m.sets {
		if set.bitmap.Contains(uint32(o)) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	for _, n := range out {
		m.move(frame, time, &MemberEffect{
			Segment: n, Cause: CauseForgotten, At: time, Ords: []Ord{o},
		})
	}
}

// flip puts o in or takes it out; false when it was so already.
func (s *memberSet) flip(o Ord, in bool) bool {
	changed := false
	if in {
		changed = s.bitmap.CheckedAdd(uint32(o))
	} else {
		changed = s.bitmap.CheckedRemove(uint32(o))
	}
	if changed {
		s.dirty[uint16(o>>16)] = struct{}{}
	}
	return changed
}

func (m *memberships) bytes() int64 {
	return 2*m.members + 256*int64(len(m.sets)) + 72*int64(cap(m.log)) + 4*int64(cap(m.ords)) +
		24*int64(cap(m.spans))
}

// The methods below need the lock.

// Tracked returns what the group knows of a segment; false: it is not tracked.
func (g *Group) Tracked(segment Name) (TrackView, bool) {
	set := g.mu.state.members.sets[segment]
	if set == nil {
		return TrackView{}, false
	}
	return TrackView{set.phase, set.digest, int(set.bitmap.GetCardinality())}, true
}

// AppendTracked appends the segments that the group tracks to dst, rising.
func (g *Group) AppendTracked(dst []Name) []Name {
	from := len(dst)
	for n := range g.mu.state.members.sets {
		dst = append(dst, n)
	}
	slices.Sort(dst[from:])
	return dst
}

// MemberBitmap returns the ordinals in a tracked segment; nil: it is not
// tracked. It must not be changed.
func (g *Group) MemberBitmap(segment Name) *roaring.Bitmap {
	if set := g.mu.state.members.sets[segment]; set != nil {
		return set.bitmap
	}
	return nil
}

// Generation counts the states that the group has had: a reload, after a commit
// that was refused, makes a new one.
func (g *Group) Generation() uint32 { return g.generation.Load() }
