package storage

import (
	"errors"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// ErrViewLost reports that a view cannot tell any more how its group was: more
// was changed than it has room to remember, or the group was loaded anew.
var ErrViewLost = errors.New("the view is lost")

// viewBytes bounds what one view remembers of people who are changed.
const viewBytes = 32 << 20

// ViewAsk names what a view is to hold.
type ViewAsk struct {
	Tags     []Name
	Segments []Name
	Indexes  []IndexAsk
	Events   bool // Read tells tails and activities
	Verdicts []VerdictAsk
}

// IndexAsk names an index. Match says which values of an index of values are
// wanted, spelled as stored: the text of strings and versions, the packed elements
// of a list, one byte of a bool, the DictTagValue of a tag big-endian. nil: all.
type IndexAsk struct {
	Key   IndexKey
	Match func(value string) bool
}

func (a *ViewAsk) keys() []IndexKey {
	keys := []IndexKey{{Kind: IndexEveryone}}
	for i := range a.Indexes {
		if k := a.Indexes[i].Key; !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// A View is a group as it was after one frame, while the group goes on: the sets
// that were asked for, shared and copied by whoever changes them, and each person,
// of whom the first change after the view was opened keeps the state before it.
// It belongs to one goroutine, and must be closed. Sets must not be changed.
type View struct {
	Position uint64          // the frame
	Everyone *roaring.Bitmap // who is no visitor

	group    *Group
	state    *state
	end      Ord // the first person that came later
	events   bool
	tags     map[Name]TagView
	segments map[Name]*roaring.Bitmap
	indexes  []IndexView
	verdicts []VerdictView
	at       UnixMsec

	// Guarded by the group's lock, with the part of the state that it describes.
	mu struct {
		rest  *roaring.Bitmap // only these are still asked for; nil: everybody
		done  Ord             // those before it are not
		saved map[Ord]savedPerson
		arena []byte
		room  int // of the arena
		lost  bool
	}
}

// TagView is who holds a tag at the instant of a view: those of Held that are not
// in Ended, whose end has come.
type TagView struct{ Held, Ended *roaring.Bitmap }

func (s *state) tagView(n Name, at UnixMsec) TagView {
	v := TagView{Held: share(s.tags.ask(n)), Ended: roaring.New()}
	if l := s.ends.calendar[n]; l != nil {
		for o := range l.due(secondOf(at)) {
			v.Ended.Add(uint32(o))
		}
	}
	return v
}

// IndexView is one index in a view. Sets[i] are the people with Values[i]; it is
// nil for a value that was not wanted.
type IndexView struct {
	Key    IndexKey
	Has    *roaring.Bitmap // some value of the type is there; of an event: they had it
	Odd    *roaring.Bitmap // of Has: who has a value without a set, or none of the type after all
	Values []string
	Sets   []*roaring.Bitmap
	slices [popSlices]*roaring.Bitmap
}

// savedPerson says where in the arena the parts of a person end.
type savedPerson struct {
	from, id, profile, tail, activity uint32
	zone                              uint16
}

// PersonView is one person at the position of a view. It is valid during the
// call it is passed to.
type PersonView struct {
	ID       []byte
	Zone     uint16 // DictZone name; 0 = none
	Profile  Profile
	Tail     Tail
	Activity Activity
}

// OpenView opens a view in which tags are held as they are at an instant; the
// group must not be locked. An index that is not built is not in it. Cost under
// the lock: about 0.3 µs a set, and a few nanoseconds for everybody whose end of
// a tag lies between the last sweep and the instant.
func (g *Group) OpenView(ask *ViewAsk, at UnixMsec) *View {
	masks, of := g.matches(ask)
	g.askSets(ask)
	g.Lock()
	defer g.Unlock()
	s := g.mu.state
	v := &View{
		Position: g.Seal(), group: g, state: s, end: s.nextOrd, events: ask.Events,
		tags: map[Name]TagView{}, segments: map[Name]*roaring.Bitmap{}, at: at,
	}
	for i := range ask.Verdicts {
		v.verdicts = append(v.verdicts, s.verdictView(ask.Verdicts[i].Key, at))
	}
	for _, n := range ask.Tags {
		v.tags[n] = s.tagView(n, at)
	}
	for _, n := range ask.Segments {
		v.segments[n] = share(s.segments.ask(n))
	}
	s.tags.trim()
	s.segments.trim()
	for i := range ask.Indexes {
		x := s.indexes.all[ask.Indexes[i].Key]
		switch {
		case x == nil || !x.complete:
			v.indexes = append(v.indexes, IndexView{})
		case x != of[i]: // made anew meanwhile: its values have other codes
			v.indexes = append(v.indexes, x.view(nil))
		default:
			v.indexes = append(v.indexes, x.view(masks[i]))
		}
	}
	if x := s.indexes.all[IndexKey{Kind: IndexEveryone}]; x != nil && x.complete {
		v.Everyone = share(x.has)
	} else {
		v.Everyone = s.everyone()
	}
	v.mu.room = viewBytes
	s.views = append(s.views, v)
	return v
}

// askSets makes bitmaps of the sets that are asked for, one in a lock section: each of
// those that were not asked for lately takes a pass over a bit for each person.
func (g *Group) askSets(ask *ViewAsk) {
	one := func(of func(*state) *bitmaps, n Name) {
		g.Lock()
		defer g.Unlock()
		of(g.mu.state).ask(n)
	}
	for _, n := range ask.Tags {
		one(func(s *state) *bitmaps { return &s.tags }, n)
	}
	for _, n := range ask.Segments {
		one(func(s *state) *bitmaps { return &s.segments }, n)
	}
}

// matches says, index by index, which of the values there are now are wanted.
// It asks outside of the lock. of names the indexes whose values they are.
func (g *Group) matches(ask *ViewAsk) (masks [][]bool, of []*popIndex) {
	values := make([][]string, len(ask.Indexes))
	of = make([]*popIndex, len(ask.Indexes))
	g.Lock()
	for i := range ask.Indexes {
		if x := g.mu.state.indexes.all[ask.Indexes[i].Key]; x != nil {
			values[i], of[i] = x.values, x
		}
	}
	g.Unlock()
	masks = make([][]bool, len(values))
	for i, list := range values {
		masks[i] = make([]bool, len(list))
		for k, value := range list {
			masks[i][k] = ask.Indexes[i].Match == nil || ask.Indexes[i].Match(value)
		}
	}
	return masks, of
}

// share returns a set that stays as it is: its containers are copied by whoever
// changes them. nil gives an empty set.
func share(m *roaring.Bitmap) *roaring.Bitmap {
	if m == nil {
		return roaring.New()
	}
	return m.Clone()
}

// view shares the sets of an index: those of values that mask names, and of
// values newer than the mask.
func (x *popIndex) view(mask []bool) IndexView {
	v := IndexView{Key: x.key, Has: share(x.has), Odd: share(x.odd), Values: x.values}
	v.Sets = make([]*roaring.Bitmap, len(x.sets))
	for i, m := range x.sets {
		if i >= len(mask) || mask[i] {
			v.Sets[i] = share(m)
		}
	}
	for i, m := range x.slices {
		if m != nil {
			v.slices[i] = share(m)
		}
	}
	return v
}

// everyone lists the people row by row.
func (s *state) everyone() *roaring.Bitmap {
	m := roaring.New()
	s.rows.each(func(o Ord, r *Row) bool {
		if r.Flags&(RowGone|RowVisitor) == 0 {
			m.Add(uint32(o))
		}
		return true
	})
	return m
}

// Tag returns who holds a tag.
func (v *View) Tag(n Name) TagView { return v.tags[n] }

// Segment returns who is in a static segment.
func (v *View) Segment(n Name) *roaring.Bitmap { return v.segments[n] }

// Index returns the i-th index that was asked for; nil when it is not built.
func (v *View) Index(i int) *IndexView {
	if v.indexes[i].Has == nil {
		return nil
	}
	return &v.indexes[i]
}

// Narrow says that only these people will still be read.
func (v *View) Narrow(rest *roaring.Bitmap) {
	v.group.Lock()
	defer v.group.Unlock()
	v.mu.rest = rest
}

// Close ends the view: nothing is remembered for it any more.
func (v *View) Close() {
	v.group.Lock()
	defer v.group.Unlock()
	v.state.views = slices.DeleteFunc(v.state.views, func(other *View) bool { return other == v })
}

// Read calls f for people, in rising order, as they were at the position of the
// view, with the group locked: f must not block. It errors with ErrViewLost.
// Ordinals rise from call to call.
func (v *View) Read(ords []uint32, f func(Ord, *PersonView)) error {
	g := v.group
	g.Lock()
	defer g.Unlock()
	if v.mu.lost || g.mu.state != v.state {
		return ErrViewLost
	}
	var p PersonView
	for _, o := range ords {
		v.read(Ord(o), &p)
		f(Ord(o), &p)
		v.mu.done = Ord(o) + 1
	}
	return nil
}

func (v *View) read(o Ord, p *PersonView) {
	if at, ok := v.mu.saved[o]; ok {
		b := v.mu.arena
		p.ID, p.Zone = b[at.from:at.id:at.id], at.zone
		p.Profile.b = b[at.id:at.profile:at.profile]
		p.Tail.b = b[at.profile:at.tail:at.tail]
		p.Activity = v.state.whole.view(b[at.tail:at.activity:at.activity], p.Tail)
		return
	}
	s := v.state
	*p = PersonView{ID: s.id(o), Profile: s.profile(o)}
	if r := s.row(o); r != nil {
		p.Zone = r.Zone
	}
	if v.events {
		p.Tail, p.Activity = s.tail(o), s.activity(o)
	}
}

// preserve lets every open view remember a person who is about to be changed.
func (s *state) preserve(o Ord) {
	for _, v := range s.views {
		v.save(o)
	}
}

func (v *View) save(o Ord) {
	if v.mu.lost || o < v.mu.done || o >= v.end {
		return
	}
	if _, saved := v.mu.saved[o]; saved {
		return
	}
	if v.mu.rest != nil && !v.mu.rest.Contains(uint32(o)) {
		return
	}
	var p PersonView
	v.read(o, &p)
	b := v.mu.arena
	if len(b)+len(p.ID)+len(p.Profile.b)+len(p.Tail.b)+len(p.Activity.b) > v.mu.room {
		v.mu.lost, v.mu.saved, v.mu.arena = true, nil, nil
		return
	}
	at := savedPerson{from: uint32(len(b)), zone: p.Zone}
	b = append(b, p.ID...)
	at.id = uint32(len(b))
	b = append(b, p.Profile.b...)
	at.profile = uint32(len(b))
	b = append(b, p.Tail.b...)
	at.tail = uint32(len(b))
	b = append(b, p.Activity.b...)
	at.activity = uint32(len(b))
	if v.mu.saved == nil {
		v.mu.saved = map[Ord]savedPerson{}
	}
	v.mu.saved[o], v.mu.arena = at, b
}

// Between returns who of within has a number whose rank lies in [lo, hi], for
// sure, and who has perhaps: sure is part of perhaps, and is the same set where
// the index tells exactly. Ranks are whole numbers, days of dates, milliseconds
// of times, and of floats what FloatRank says.
// Cost: an operation on sets for every bit that the values use.
func (x *IndexView) Between(within *roaring.Bitmap, lo, hi int64) (sure, perhaps *roaring.Bitmap) {
	if lo > hi {
		return roaring.New(), roaring.New()
	}
	kind := x.Key.Type
	numbers := roaring.And(within, x.Has)
	numbers.AndNot(x.Odd)
	may, must := keysBetween(kind, lo, hi)
	perhaps = x.between(numbers, int32(may.lo), int32(may.hi))
	switch {
	case must == may:
		return perhaps, perhaps
	case must.lo > must.hi:
		return roaring.New(), perhaps
	}
	return x.between(perhaps, int32(must.lo), int32(must.hi)), perhaps
}

// between returns who of set has a key in [lo, hi]. set stays as it is.
func (x *IndexView) between(set *roaring.Bitmap, lo, hi int32) *roaring.Bitmap {
	out := set
	if lo != math.MinInt32 {
		out = x.atLeast(set, lo)
	}
	if hi != math.MaxInt32 {
		out = roaring.AndNot(out, x.atLeast(set, hi+1))
	}
	return out
}

// atLeast returns who of set has a key ≥ k, one operation a bit from the lowest
// on: with a 1 in k only those with a 1 are left, with a 0 those with a 1 come
// back. Keys are in two's complement: the highest bit counts the other way round.
//
// Source: after P. O'Neil and D. Quass, Improved Query Performance with Variant
// Indexes, SIGMOD 1997.
func (x *IndexView) atLeast(set *roaring.Bitmap, k int32) *roaring.Bitmap {
	const sign = popSlices - 1
	out, whole := set, true // whole: out is all of set and not ours
	for i := range sign {
		slice, one := x.slices[i], uint32(k)>>i&1 == 1
		switch {
		case one && slice == nil:
			out, whole = roaring.New(), false
		case one && whole:
			out, whole = roaring.And(out, slice), false
		case one:
			out.And(slice)
		case !whole && slice != nil:
			out.Or(slice)
		}
	}
	negative := x.slices[sign]
	switch {
	case negative == nil && k < 0:
		return set.Clone()
	case negative == nil:
		return roaring.And(out, set)
	case k < 0:
		return roaring.Or(roaring.And(out, set), roaring.AndNot(set, negative))
	}
	return roaring.AndNot(roaring.And(out, set), negative)
}
