package storage

import (
	"fmt"
	"iter"
	"slices"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"
)

// expiryBlock is the most entries of one block: an insert moves at most so many.
const expiryBlock = 512

// An expiryList holds who loses one tag when, in rising order: entries are
// expires << 32 | ord, in blocks none of which is empty.
type expiryList struct{ blocks [][]uint64 }

// find returns the block that holds or should hold e, and its place in it.
func (l *expiryList) find(e uint64) (block, at int, found bool) {
	block = sort.Search(len(l.blocks), func(i int) bool { return l.blocks[i][0] > e }) - 1
	if block < 0 {
		return 0, 0, false
	}
	at, found = slices.BinarySearch(l.blocks[block], e)
	return block, at, found
}

func (l *expiryList) add(e uint64) {
	if len(l.blocks) == 0 {
		l.blocks = append(l.blocks, []uint64{e})
		return
	}
	i, at, found := l.find(e)
	if found {
		return
	}
	b := slices.Insert(l.blocks[i], at, e)
	if len(b) > expiryBlock {
		half := slices.Clone(b[expiryBlock/2:])
		l.blocks = slices.Insert(l.blocks, i+1, half)
		b = b[: expiryBlock/2 : expiryBlock/2]
	}
	l.blocks[i] = b
}

func (l *expiryList) remove(e uint64) bool {
	if len(l.blocks) == 0 {
		return false
	}
	i, at, found := l.find(e)
	if !found {
		return false
	}
	if l.blocks[i] = slices.Delete(l.blocks[i], at, at+1); len(l.blocks[i]) == 0 {
		l.blocks = slices.Delete(l.blocks, i, i+1)
	}
	return true
}

// due yields the entries whose end is at or before until, in rising order.
func (l *expiryList) due(until UnixSec) iter.Seq2[Ord, UnixSec] {
	return func(yield func(Ord, UnixSec) bool) {
		for _, b := range l.blocks {
			for _, e := range b {
				if UnixSec(e>>32) > until || !yield(Ord(e), UnixSec(e>>32)) {
					return
				}
			}
		}
	}
}

// tagIndex is what a group knows of tags beside the bitmaps: the expiry calendar
// and the number of holders of every value. Derived from the profiles, as the
// bitmaps are.
type tagIndex struct {
	calendar map[Name]*expiryList
	order    []Name // of calendar, rising
	entries  int64
	counts   map[tagCountKey]int
}

type tagCountKey struct{ tag, value Name }

func newTagIndex() tagIndex {
	return tagIndex{calendar: make(map[Name]*expiryList), counts: make(map[tagCountKey]int)}
}

func expiryEntry(t *TagValue, o Ord) uint64 { return uint64(t.Expires)<<32 | uint64(o) }

func (x *tagIndex) add(t *TagValue, o Ord) {
	x.counts[tagCountKey{t.ID, t.Value}]++
	x.addEnd(t, o)
}

// addEnd enters when the tag ends, without counting its holder.
func (x *tagIndex) addEnd(t *TagValue, o Ord) {
	if t.Expires == 0 {
		return
	}
	l := x.calendar[t.ID]
	if l == nil {
		l = &expiryList{}
		x.calendar[t.ID] = l
		at, _ := slices.BinarySearch(x.order, t.ID)
		x.order = slices.Insert(x.order, at, t.ID)
	}
	l.add(expiryEntry(t, o))
	x.entries++
}

func (x *tagIndex) remove(t *TagValue, o Ord) {
	key := tagCountKey{t.ID, t.Value}
	if x.counts[key]--; x.counts[key] <= 0 {
		delete(x.counts, key)
	}
	l := x.calendar[t.ID]
	if t.Expires == 0 || l == nil || !l.remove(expiryEntry(t, o)) {
		return
	}
	if x.entries--; len(l.blocks) == 0 {
		delete(x.calendar, t.ID)
		at, _ := slices.BinarySearch(x.order, t.ID)
		x.order = slices.Delete(x.order, at, at+1)
	}
}

// bytes estimates the memory: 12 bytes an entry, a block being two thirds full.
func (x *tagIndex) bytes() int64 {
	return 12*x.entries + 64*int64(len(x.calendar)) + 32*int64(len(x.counts))
}

// differ says in which way the index is not what wanted holds.
func (x *tagIndex) differ(wanted *tagIndex) error {
	if x.entries != wanted.entries || len(x.counts) != len(wanted.counts) ||
		!slices.Equal(x.order, wanted.order) {
		return fmt.Errorf("%d ends of %d tags, %d counts; want %d of %d, %d: %w", x.entries,
			len(x.order), len(x.counts), wanted.entries, len(wanted.order), len(wanted.counts),
			ErrCorrupt)
	}
	for key, n := range wanted.counts {
		if x.counts[key] != n {
			return fmt.Errorf("tag %d has %d holders of value %d, want %d: %w", key.tag,
				x.counts[key], key.value, n, ErrCorrupt)
		}
	}
	for tag, l := range wanted.calendar {
		if !slices.Equal(slices.Concat(x.calendar[tag].blocks...), slices.Concat(l.blocks...)) {
			return fmt.Errorf("ends of tag %d differ from the profiles: %w", tag, ErrCorrupt)
		}
	}
	return nil
}

// hold enters a tag that a person holds; unhold takes it out.
func (s *state) hold(t *TagValue, o Ord) {
	s.tags.add(t.ID, o)
	s.ends.add(t, o)
}

func (s *state) unhold(t *TagValue, o Ord) {
	s.tags.remove(t.ID, o)
	s.ends.remove(t, o)
}

// ExpiringTags calls f for every person whose end of a tag lies at or before
// until, in rising order of the end, then of the ordinal, until f returns false.
// A person is named while the tag stands in the profile, which it does until
// ExpireTags has passed; so at every instant
//
//	who holds the tag at T = Holders(tag) less ExpiringTags(tag, T in seconds, rounded down)
//
// exactly, whatever the sweep has done. The group must be locked.
// Cost: a few nanoseconds a person named.
func (g *Group) ExpiringTags(tag Name, until UnixSec, f func(Ord, UnixSec) bool) {
	if l := g.mu.state.ends.calendar[tag]; l != nil {
		l.due(until)(f)
	}
}

// TagBitmap returns who holds a tag at an instant: Holders less those whose end
// has come. nil: nobody holds it. It belongs to the caller. The group must be locked.
// Cost: as SegmentBitmap.
func (g *Group) TagBitmap(tag Name, at UnixMsec) *roaring.Bitmap {
	held := g.mu.state.tags.set(tag)
	g.ExpiringTags(tag, secondOf(at), func(o Ord, _ UnixSec) bool {
		held.Remove(uint32(o))
		return true
	})
	return held
}

// TagCounts calls f with the number of holders of every tag and value at an
// instant, in no order; the value of a label is 0. The group must be locked.
// Cost: one call a tag and value; a look at the profile of everybody whose end
// has come and who was not swept yet.
func (g *Group) TagCounts(at UnixMsec, f func(tag, value Name, n int)) {
	gone := make(map[tagCountKey]int)
	for _, tag := range g.mu.state.ends.order {
		g.ExpiringTags(tag, secondOf(at), func(o Ord, _ UnixSec) bool {
			value, _, _ := Profile{g.mu.state.slab.get(g.mu.state.rows.at(o).profile)}.Tag(tag)
			gone[tagCountKey{tag, value}]++
			return true
		})
	}
	for key, n := range g.mu.state.ends.counts {
		if n -= gone[key]; n > 0 {
			f(key.tag, key.value, n)
		}
	}
}

// ExpireTags appends, for up to max people who hold a tag whose end has come, an
// EffectPatch that takes all such tags of the person out, and returns how many it
// appended. Equal groups and times give equal effects. What it has not reached
// yet is not held either: see ExpiringTags. The group must be locked.
// Cost: one patch of a profile for each person, and a look at each tag with an
// end.
func (g *Group) ExpireTags(now UnixSec, max int) (int, error) {
	var due []Ord
	for _, tag := range g.mu.state.ends.order {
		g.ExpiringTags(tag, now, func(o Ord, _ UnixSec) bool {
			due = append(due, o)
			return len(due) < max
		})
		if len(due) >= max {
			break
		}
	}
	slices.Sort(due)
	due = slices.Compact(due)
	patch := Patch{TagsExpire: true}
	for i, o := range due {
		e := Effect{Kind: EffectPatch, Ord: o, Time: UnixMsec(now) * 1000, Patch: &patch}
		if _, err := g.Append(&e); err != nil {
			return i, err
		}
	}
	return len(due), nil
}
