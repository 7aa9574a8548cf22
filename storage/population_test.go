package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// testIndexes names indexes of every kind over the names that generator draws.
func testIndexes() *ViewAsk {
	ask := &ViewAsk{Events: true}
	add := func(k IndexKey) { ask.Indexes = append(ask.Indexes, IndexAsk{Key: k}) }
	for id := Name(1); id <= 6; id++ {
		for kind := KindBool; kind <= KindSemver; kind++ {
			add(IndexKey{Kind: IndexAttr, Type: kind, ID: id})
		}
		add(IndexKey{Kind: IndexTag, ID: id})
		add(IndexKey{Kind: IndexEvent, ID: id - 1})
		add(IndexKey{Kind: IndexOutcome, ID: id - 1})
	}
	return ask
}

// What apply keeps up is what building anew gives, whatever happens to people.
func TestPopulationIsKeptUp(t *testing.T) {
	for seed := range uint64(6) {
		g, s := newGenerator(seed), newState(3, stateOptions{})
		keys := testIndexes().keys()
		half := keys[:len(keys)/2]
		for step := range 3000 {
			switch step {
			case 10:
				for s.buildIndexes(half) {
				}
			case 1500:
				for s.buildIndexes(keys) {
				}
			}
			if err := s.apply(1, g.next()); err != nil {
				t.Fatal(err)
			}
			if step%300 == 0 {
				if err := s.check(); err != nil {
					t.Fatalf("seed %d, step %d: %v", seed, step, err)
				}
			}
		}
		if n := len(s.indexes.all); n != len(keys) {
			t.Fatalf("%d indexes, want %d", n, len(keys))
		}
	}
}

// Two questions that together need more than there is room for do not take each
// other's indexes: the second goes without, until the first has ended.
func TestPopulationPins(t *testing.T) {
	const people = 1_000_000
	p := newPopulation()
	keys := func(from int) (list []IndexKey) {
		for id := range 20 {
			list = append(list, IndexKey{Kind: IndexAttr, Type: KindFloat, ID: Name(from + id)})
		}
		return list
	}
	first, second := keys(1), keys(100)
	open := func(list []IndexKey) (n int) {
		for _, k := range list {
			if p.open(k, people, list) != nil {
				n++
			}
		}
		return n
	}
	if n := open(first); n != 20 {
		t.Fatalf("%d of the first", n)
	}
	held := p.pin(first, nil)
	if held = p.pin(first, held); len(held) != 20 || held[0].pins != 1 {
		t.Fatalf("%d are held, the first %d times", len(held), held[0].pins)
	}
	if n := open(second); n != 8 {
		t.Fatalf("%d of the second", n)
	}
	for _, x := range held {
		if p.all[x.key] != x {
			t.Fatalf("index %d was given up while it was built", x.key.ID)
		}
		x.pins--
	}
	if n := open(second); n != 20 {
		t.Fatalf("%d of the second, after the first", n)
	}
}

// A check finds an index that is not what the people have.
func TestPopulationCheckSees(t *testing.T) {
	for _, spoil := range []func(*popIndex, Ord){
		func(x *popIndex, o Ord) { x.has.Flip(uint64(o), uint64(o)+1) },
		func(x *popIndex, o Ord) {
			if x.slices[0] == nil {
				x.slices[0] = newSet()
			}
			x.slices[0].Flip(uint64(o), uint64(o)+1)
		},
		func(x *popIndex, o Ord) { x.odd.Flip(uint64(o), uint64(o)+1) },
	} {
		g, s := newGenerator(1), newState(3, stateOptions{})
		for range 500 {
			if err := s.apply(1, g.next()); err != nil {
				t.Fatal(err)
			}
		}
		keys := []IndexKey{{Kind: IndexAttr, Type: KindInt, ID: 3}}
		for s.buildIndexes(keys) {
		}
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		spoil(s.indexes.all[keys[0]], 3)
		if err := s.check(); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("the check says %v", err)
		}
	}
}

// Indexes never take more than their room: those asked for least recently go,
// and of what one question needs no more is made than fits.
func TestPopulationRoom(t *testing.T) {
	const people = 1_000_000
	p := newPopulation()
	room := int64(popFloor + popBytes*people)
	key := func(id int) IndexKey { return IndexKey{Kind: IndexAttr, Type: KindFloat, ID: Name(id)} }
	for id := range 100 {
		keep := []IndexKey{key(id), key(0)}
		if x := p.open(key(id), people, keep); x == nil {
			t.Fatalf("no room for index %d", id)
		}
		p.open(key(0), people, keep)
		if n := p.bytes(people); n > room {
			t.Fatalf("%d bytes, room for %d", n, room)
		}
	}
	if len(p.all) != 28 || p.all[key(0)] == nil || p.all[key(99)] == nil || p.all[key(50)] != nil {
		t.Fatalf("%d indexes are kept", len(p.all))
	}
	var keep []IndexKey
	for id := range 100 {
		keep = append(keep, key(200+id))
	}
	got := 0
	for _, k := range keep {
		if p.open(k, people, keep) != nil {
			got++
		}
	}
	if got != 28 || len(p.attrs) != 28 || p.bytes(people) > room {
		t.Fatalf("%d indexes for one question, %d attributes, %d bytes", got, len(p.attrs),
			p.bytes(people))
	}
}

// portrait is a person copied.
type portrait struct{ id, profile, tail, activity string }

func portraitOf(p *PersonView) portrait {
	return portrait{string(p.ID), string(p.Profile.b), string(p.Tail.b), string(p.Activity.b)}
}

// A view tells how people and sets were, whatever is changed since, also of
// people whose parts were sealed when it was opened.
func TestView(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, fs, testOptions(nil))
	for i := range 300 {
		g, o, _ := addPerson(t, s, fmt.Sprintf("p%d", i))
		change(t, g, o, i)
	}
	mustClose(t, s)
	s = mustOpen(t, fs, testOptions(nil))
	defer func() { mustClose(t, s) }()
	g := s.Group(0)
	ask := testIndexes()
	ask.Tags = []Name{1, 2}
	if err := g.BuildIndexes(context.Background(), ask); err != nil {
		t.Fatal(err)
	}
	v, later := g.OpenView(ask, 0), g.OpenView(ask, testDay)
	defer later.Close()
	all := v.Everyone.ToArray()
	collect := func(v *View) map[Ord]portrait {
		seen := map[Ord]portrait{}
		if err := v.Read(all, func(o Ord, p *PersonView) { seen[o] = portraitOf(p) }); err != nil {
			t.Fatal(err)
		}
		return seen
	}
	before := collect(v)
	v.Close()
	tag := later.Tag(1)
	sets := [][]uint32{all, tag.Held.ToArray(), tag.Ended.ToArray(), later.Index(0).Has.ToArray()}
	for i := range 900 {
		change(t, g, Ord(i%len(all)), i*7)
	}
	for i := range 50 {
		_, _, _ = addPerson(t, s, fmt.Sprintf("later%d", i))
	}
	for o, p := range collect(later) {
		if p != before[o] {
			t.Fatalf("ordinal %d is not what it was", o)
		}
	}
	for i, m := range [][]uint32{
		later.Everyone.ToArray(), tag.Held.ToArray(), tag.Ended.ToArray(), later.Index(0).Has.ToArray(),
	} {
		if !slices.Equal(m, sets[i]) {
			t.Fatalf("set %d is not what it was", i)
		}
	}
	mustCheck(t, s)
}

// change gives a person a tag, a value and an event.
func change(t *testing.T, g *Group, o Ord, n int) {
	t.Helper()
	tag := TagValue{ID: Name(1 + n%2), Value: Name(1 + n%3), Expires: UnixSec(n % 2)}
	mustAppend(t, g, &Effect{Kind: EffectPatch, Ord: o, Time: testDay, Patch: &Patch{
		TagsAdd: []TagValue{tag}, TagsRemove: []Name{Name(2 - n%2)},
		Attrs: []AttrValue{{ID: 1, Value: Value{Kind: KindBool, Num: uint64(n % 2)}}},
	}})
	mustAppend(t, g, &Effect{Kind: EffectEvent, Ord: o, Time: testDay, Event: EventEffect{
		Event: Name(1 + n%4), Occurred: testDay - UnixMsec(n),
	}})
}

// A view that has no room for what it must remember is lost, and says so; what is
// not asked for any more is not remembered.
func TestViewIsLost(t *testing.T) {
	s := mustOpen(t, vfs.NewMem(), testOptions(nil))
	defer func() { mustClose(t, s) }()
	for i := range 40 {
		g, o, _ := addPerson(t, s, fmt.Sprintf("p%d", i))
		change(t, g, o, i)
	}
	g := s.Group(0)
	ask := &ViewAsk{Events: true}
	v := g.OpenView(ask, testDay)
	v.mu.room = 1000
	all := v.Everyone.ToArray()
	for i := range all {
		change(t, g, Ord(i), i)
	}
	if err := v.Read(all, func(Ord, *PersonView) {}); !errors.Is(err, ErrViewLost) {
		t.Fatalf("read gives %v", err)
	}
	v.Close()
	v = g.OpenView(ask, testDay)
	rest := v.Everyone.Clone()
	rest.RemoveRange(3, 1<<32)
	v.Narrow(rest)
	if err := v.Read(all[:1], func(Ord, *PersonView) {}); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		change(t, g, Ord(i), i)
	}
	if len(v.mu.saved) != 2 {
		t.Fatalf("%d people are remembered, want the 2 that are still asked for", len(v.mu.saved))
	}
	v.Close()
	if len(g.mu.state.views) != 0 {
		t.Fatal("a closed view is still told of changes")
	}
}

// Without an open view, and with indexes of other things, a change costs no
// allocation for them.
func TestPopulationAllocatesNothing(t *testing.T) {
	p := newPopulation()
	p.open(IndexKey{Kind: IndexAttr, Type: KindInt, ID: 1}, 1, nil)
	p.open(IndexKey{Kind: IndexTag, ID: 1}, 1, nil)
	p.open(IndexKey{Kind: IndexEvent, ID: 1}, 1, nil)
	patch := &Patch{Attrs: []AttrValue{{ID: 2}, {ID: 1, Value: Value{Kind: KindInt, Num: 5}}}}
	profile, err := BuildProfile(patch, testDay)
	if err != nil {
		t.Fatal(err)
	}
	tags := []TagValue{{ID: 1, Value: 3}}
	work := func() {
		p.patching(patch, profile)
		p.patched(3, profile)
		p.retag(3, tags, tags)
		p.did(3, IndexEvent, 1)
		p.did(3, IndexOutcome, 1)
	}
	work()
	if n := testing.AllocsPerRun(100, work); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
