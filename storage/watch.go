package storage

import "math/bits"

// MaxWatchers bounds the watchers of a group.
const MaxWatchers = 256

// WatchSet is a set of watchers by number.
type WatchSet [MaxWatchers / 64]uint64

// Add puts watcher i into the set.
func (w *WatchSet) Add(i int) { w[i/64] |= 1 << (i % 64) }

// Has tells whether watcher i is in the set.
func (w *WatchSet) Has(i int) bool { return w[i/64]&(1<<(i%64)) != 0 }

// Join adds the watchers of o.
func (w *WatchSet) Join(o *WatchSet) {
	for i := range w {
		w[i] |= o[i]
	}
}

// Without returns the watchers of w that are not in o.
func (w WatchSet) Without(o *WatchSet) WatchSet {
	for i := range w {
		w[i] &^= o[i]
	}
	return w
}

// Each calls f for every watcher of the set in rising order, until f returns
// false.
func (w *WatchSet) Each(f func(i int) bool) {
	for k, word := range w {
		for ; word != 0; word &= word - 1 {
			if !f(64*k + bits.TrailingZeros64(word)) {
				return
			}
		}
	}
}

// Empty tells whether nobody is in the set.
func (w *WatchSet) Empty() bool { return *w == WatchSet{} }

// A Watch says who wants to hear of which changes of people. It is immutable
// once it is given to a group. Names are dictionary ids.
type Watch struct {
	Attributes map[Name]WatchSet
	Tags       map[Name]WatchSet
	AnyTag     WatchSet // all of Tags together: a patch may replace every tag
	Segments   map[Name]WatchSet
	Events     map[Name]WatchSet // events, and outcomes by the name of their event
	AnyEvent   WatchSet          // every event that is no outcome
	Tail       WatchSet          // any event, when it pushes older ones out of the tail
	Consents   WatchSet
	Channels   WatchSet // blacklist and addresses
	Zone       WatchSet
	Any        WatchSet // every event, outcome and patch
	All        WatchSet // everybody: a visitor became a person who stays
}

// Touch says that what the watchers in Set ask of a person has changed.
type Touch struct {
	Ord Ord
	Set WatchSet
}

// Follow names the function that hears, at the end of a lock section, of what
// the section has changed. It is called with the group locked, and what it
// appends lies in the frame of what it hears of. It must be given before the
// store is used, and must not keep touched.
func (s *Store) Follow(f func(g *Group, touched []Touch)) { s.follow = f }

// SetWatch replaces the group's watch; nil: nobody wants to hear of anything.
// The group is locked.
func (g *Group) SetWatch(w *Watch) { g.mu.state.watch = w }

// tellLocked hands what was touched to the follower.
func (g *Group) tellLocked() {
	st := g.mu.state
	touched := st.touched
	st.touched = nil
	if g.store.follow != nil {
		g.store.follow(g, touched)
	}
	if g.mu.state == st {
		st.touched = touched[:0]
	}
}

// note records that watchers are to hear of a person.
func (s *state) note(o Ord, set *WatchSet) {
	if set.Empty() {
		return
	}
	if n := len(s.touched); n > 0 && s.touched[n-1].Ord == o {
		s.touched[n-1].Set.Join(set)
		return
	}
	s.touched = append(s.touched, Touch{o, *set})
}

func (s *state) noteEvent(o Ord, event Name, outcome bool) {
	w := s.watch
	if w == nil {
		return
	}
	set := w.Events[event]
	set.Join(&w.Any)
	if !outcome {
		set.Join(&w.AnyEvent)
	}
	if s.tailMoved {
		set.Join(&w.Tail)
	}
	s.note(o, &set)
}

func (s *state) notePatch(o Ord, p *Patch) {
	w := s.watch
	if w == nil {
		return
	}
	set := w.Any
	join := func(more WatchSet) { set.Join(&more) }
	for i := range p.Attrs {
		join(w.Attributes[p.Attrs[i].ID])
	}
	for i := range p.TagsAdd {
		join(w.Tags[p.TagsAdd[i].ID])
	}
	for _, n := range p.TagsRemove {
		join(w.Tags[n])
	}
	if p.TagsReplace || p.TagsExpire {
		join(w.AnyTag)
	}
	for _, n := range p.SegmentsAdd {
		join(w.Segments[n])
	}
	for _, n := range p.SegmentsRemove {
		join(w.Segments[n])
	}
	if len(p.Consents) > 0 {
		join(w.Consents)
	}
	if p.Blacklist != nil || len(p.Addresses) > 0 {
		join(w.Channels)
	}
	if p.Zone != nil {
		join(w.Zone)
	}
	s.note(o, &set)
}
