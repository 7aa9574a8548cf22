package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

const (
	// popBlock is how many people are read under one lock when an index is built,
	// popOpens how many sealed parts are opened: about 50 µs either way.
	popBlock = 256
	popOpens = 32
)

// BuildIndexes makes the indexes that ask names and the group has not, reading
// everybody once in blocks; the group must not be locked. What is built stays
// when ctx ends before, and the next call goes on. An index for which there is no
// room is left out.
//
// Cost: about 0.2 µs a person and index, and once after a start the opening of
// the person's sealed parts (about 1 µs each).
func (g *Group) BuildIndexes(ctx context.Context, ask *ViewAsk) error {
	keys := ask.keys()
	var held []*popIndex
	defer func() {
		g.Lock()
		defer g.Unlock()
		for _, x := range held {
			x.pins--
		}
	}()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		g.Lock()
		more := g.mu.state.buildIndexes(keys)
		held = g.mu.state.indexes.pin(keys, held)
		g.Unlock()
		if !more {
			return nil
		}
		runtime.Gosched()
	}
}

// pin keeps the indexes of keys from being given up: those that held has not yet.
func (p *population) pin(keys []IndexKey, held []*popIndex) []*popIndex {
	for _, k := range keys {
		if x := p.all[k]; x != nil && !slices.Contains(held, x) {
			x.pins++
			held = append(held, x)
		}
	}
	return held
}

// buildIndexes reads one block; it says whether there is more to read.
func (s *state) buildIndexes(keys []IndexKey) bool {
	var open []*popIndex
	from := s.nextOrd
	for _, k := range keys {
		x := s.indexes.open(k, s.people, keys)
		if x == nil || x.complete {
			continue
		}
		if x.next >= s.nextOrd {
			x.complete = true
			continue
		}
		open = append(open, x)
		from = min(from, x.next)
	}
	opens := 0
	for o := from; len(open) > 0 && o < min(from+popBlock, s.nextOrd) && opens < popOpens; o++ {
		r := s.row(o)
		for _, x := range open {
			if x.next != o {
				continue
			}
			x.next++
			if r != nil {
				opens += s.indexPerson(x, o, r)
			}
		}
	}
	return len(open) > 0
}

// indexPerson enters one person in one index. It returns how many parts it had
// to open.
func (s *state) indexPerson(x *popIndex, o Ord, r *Row) (opens int) {
	sealed := func(flags RowFlags) int {
		if r.Flags&flags != 0 {
			return 1
		}
		return 0
	}
	switch x.key.Kind {
	case IndexEveryone:
		if r.Flags&RowVisitor == 0 {
			enter(x.has, o)
		}
	case IndexTag:
		if !s.tags.contains(x.key.ID, o) {
			return 0
		}
		value, ok, _ := (Profile{s.slab.get(r.profile)}).Tag(x.key.ID)
		if ok { // it lies in the clear part
			x.change(o, popCell{}, x.tagCell(value, true))
		}
	case IndexAttr:
		if r.profile == 0 {
			return 0
		}
		opens = sealed(RowSealed)
		v, ok := s.profile(o).Attr(x.key.ID)
		x.change(o, popCell{}, x.cell(v, ok, true))
	default:
		opens = sealed(rowTailSealed) + sealed(rowActivitySealed)
		if s.everDid(x, o) {
			enter(x.has, o)
		}
	}
	return opens
}

// everDid looks for an event of the index in the tail and in the activity.
func (s *state) everDid(x *popIndex, o Ord) bool {
	outcome := x.key.Kind == IndexOutcome
	for c := s.tail(o).Cursor(); c.Next(); {
		if c.Outcome == outcome && (x.key.ID == 0 || c.Event == x.key.ID) {
			return true
		}
	}
	r := s.row(o)
	if r == nil || r.Flags&rowActivitySealed != 0 {
		return false // it did not open
	}
	for c := (Activity{b: s.slab.get(r.activity)}).Cursor(); c.Next(); {
		if c.Outcome == outcome && (x.key.ID == 0 || c.Event == x.key.ID) {
			return true
		}
	}
	return false
}

// checkPopulation compares every index that is complete with one that is built
// anew.
func (s *state) checkPopulation() error {
	for k, x := range s.indexes.all {
		if !x.complete {
			continue
		}
		anew := newPopulation()
		fresh := anew.open(k, math.MaxInt32, nil)
		for o := range s.nextOrd {
			if r := s.row(o); r != nil {
				s.indexPerson(fresh, o, r)
			}
		}
		if err := x.differs(fresh); err != nil {
			return fmt.Errorf("index %d of %d: %w: %w", k.Kind, k.ID, err, ErrCorrupt)
		}
	}
	return nil
}

// differs compares two indexes by what they say: values have other codes in
// each, and the one kept up longer may have met more values, and said of people
// that they had events that are not remembered any more.
func (x *popIndex) differs(fresh *popIndex) error {
	if roaring.AndNot(fresh.has, x.has).GetCardinality() != 0 ||
		x.key.Kind < IndexEvent && !x.has.Equals(fresh.has) {
		return errors.New("who has a value")
	}
	for code, value := range fresh.values {
		set, ok := x.codes[value]
		if !ok {
			set = math.MaxUint16
		} else if x.sets[set].Equals(fresh.sets[code]) {
			continue
		}
		if len(x.values) < popValues && len(fresh.values) < popValues || ok {
			return fmt.Errorf("who has the value %q", value)
		}
	}
	if x.key.Type.numeric() && !x.odd.Equals(fresh.odd) {
		return errors.New("who has no number")
	}
	for i := range x.slices {
		a, b := x.slices[i], fresh.slices[i]
		if a == nil {
			a = newSet()
		}
		if b == nil {
			b = newSet()
		}
		if !a.Equals(b) {
			return fmt.Errorf("bit %d", i)
		}
	}
	return nil
}
