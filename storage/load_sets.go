package storage

import (
	"math/bits"
	"slices"
)

const (
	// A set that names fewer than one in so many people is sorted; others are
	// counted out of a bit for everybody, which costs nothing a member.
	setSparse = 256
	// Names above get their members one by one: names are given in turn, from 1 on.
	setNames = 1 << 16
)

// A setLoad collects who carries which name while a group's rows are read, in the
// order of their keys, which is not the order of the sets. Adding them to the sets
// one by one takes ten times as long.
//
// The collected members take four bytes each, until the last group is read.
type setLoad struct {
	byName [][]uint32 // ordinals, as they come
	dense  []uint64
}

// add notes a member of a set of b.
func (l *setLoad) add(b *bitmaps, n Name, o Ord) {
	if n >= setNames {
		b.add(n, o)
		return
	}
	if int(n) >= len(l.byName) {
		l.byName = slices.Grow(l.byName, int(n)+1-len(l.byName))[:int(n)+1]
	}
	l.byName[n] = append(l.byName[n], uint32(o))
}

// finish makes the sets. ords is the first ordinal behind all members.
func (l *setLoad) finish(b *bitmaps, ords Ord) {
	for n, members := range l.byName {
		if len(members) == 0 {
			continue
		}
		if len(members) < int(ords)/setSparse {
			slices.Sort(members)
			b.fill(Name(n), members)
		} else {
			b.fillDense(Name(n), l.fill(members, ords))
		}
		l.byName[n] = members[:0]
	}
}

// fill returns a bit for each ordinal, set for the members.
func (l *setLoad) fill(members []uint32, ords Ord) []uint64 {
	words := (int(ords) + bits.UintSize - 1) / bits.UintSize
	if len(l.dense) < words {
		l.dense = make([]uint64, words)
	}
	clear(l.dense)
	for _, o := range members {
		l.dense[o/bits.UintSize] |= 1 << (o % bits.UintSize)
	}
	return l.dense[:words]
}

// tagLoad collects the tags of a group's people, and counts their values.
type tagLoad struct {
	sets setLoad
	last []tagRun // by name
}

// A tagRun is how many people in a row carry a tag with one value.
type tagRun struct {
	value Name
	n     int
}

// add notes that a person holds a tag, as state.hold does at once.
func (l *tagLoad) add(s *state, t *TagValue, o Ord) {
	l.sets.add(&s.tags, t.ID, o)
	s.ends.addEnd(t, o)
	if t.ID >= setNames {
		s.ends.counts[tagCountKey{t.ID, t.Value}]++
		return
	}
	if int(t.ID) >= len(l.last) {
		l.last = slices.Grow(l.last, int(t.ID)+1-len(l.last))[:int(t.ID)+1]
	}
	r := &l.last[t.ID]
	if r.value != t.Value {
		l.count(s, t.ID)
		r.value = t.Value
	}
	r.n++
}

// count adds the people in a row to the number of holders of the value.
func (l *tagLoad) count(s *state, tag Name) {
	if r := &l.last[tag]; r.n > 0 {
		s.ends.counts[tagCountKey{tag, r.value}] += r.n
		r.n = 0
	}
}

func (l *tagLoad) finish(s *state) {
	for n := range l.last {
		l.count(s, Name(n))
	}
	clear(l.last)
	l.sets.finish(&s.tags, s.nextOrd)
}
