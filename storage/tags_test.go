package storage

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// patchTags is the naive twin of what a patch does to tags and their history.
func (p *modelPerson) patchTags(in *Patch, at UnixMsec) {
	now := UnixSec(at / 1000)
	gone := func(t TagValue) bool { return t.Expires > 0 && t.Expires <= now }
	was := maps.Clone(p.tags)
	if in.TagsReplace {
		clear(p.tags)
	}
	if in.TagsExpire {
		maps.DeleteFunc(p.tags, func(_ Name, t TagValue) bool { return gone(t) })
	}
	for _, n := range in.TagsRemove {
		delete(p.tags, n)
	}
	for _, t := range in.TagsAdd {
		p.tags[t.ID] = t
	}
	for id := Name(1); id < 100; id++ {
		old, had := was[id]
		t, has := p.tags[id]
		kept := had && has && old.Value == t.Value && (!gone(old) || gone(t))
		if had && !kept {
			p.endTag(old, has, in, now)
		}
		if has && !kept {
			p.history = append(p.history, TagChange{
				Tag: id, Value: t.Value, Set: now, Source: t.Source,
			})
		}
	}
	ended := func(c TagChange) bool { return c.End > 0 }
	for len(p.history) > 64 {
		i := max(slices.IndexFunc(p.history, ended), 0)
		p.history = slices.Delete(p.history, i, i+1)
	}
}

func (p *modelPerson) endTag(old TagValue, replaced bool, in *Patch, now UnixSec) {
	end := TagChange{
		Tag: old.ID, Value: old.Value, Source: old.Source, End: now, By: in.TagSource,
	}
	switch {
	case old.Expires > 0 && old.Expires <= now:
		end.End, end.By, end.How = old.Expires, 0, TagExpired
	case in.TagsMerged:
		end.How = TagMerged
	case replaced:
		end.How = TagReplaced
	}
	for i := range p.history {
		if h := p.history[i]; h.Tag == old.ID && h.End == 0 {
			end.Set, end.Source = h.Set, h.Source
			end.End = max(end.End, h.Set)
			p.history[i] = end
			return
		}
	}
	p.history = append(p.history, end)
}

func (p *modelPerson) compareTags(f Profile) error {
	var history []TagChange
	f.EachTagChange(func(c TagChange) bool { history = append(history, c); return true })
	if !slices.Equal(history, p.history) {
		return fmt.Errorf("history of tags %+v, want %+v", history, p.history)
	}
	tags := map[Name]TagValue{}
	f.EachTag(func(t TagValue) bool { tags[t.ID] = t; return true })
	if !maps.Equal(tags, p.tags) {
		return fmt.Errorf("tags %v, want %v", tags, p.tags)
	}
	return nil
}

// compareEnds asks who holds each tag at several instants, and how many hold each
// value.
func compareEnds(t *testing.T, g *generator, s *state) {
	t.Helper()
	group := &Group{}
	group.mu.state = s
	for _, ahead := range []int64{0, -5000, 3000, 40_000} {
		at := g.now + UnixMsec(ahead)
		want := map[tagCountKey]int{}
		for n := Name(1); n < 31; n++ {
			held := group.TagBitmap(n, at)
			for o, p := range g.m.people {
				tag, has := p.tags[n]
				has = has && (tag.Expires == 0 || int64(at) < int64(tag.Expires)*1000)
				if got := held != nil && held.Contains(uint32(o)); got != has {
					t.Fatalf("tag %d of %d at %d: %v, want %v (%+v)", n, o, at, got, has, tag)
				}
				if has {
					want[tagCountKey{n, tag.Value}]++
				}
			}
		}
		got := map[tagCountKey]int{}
		group.TagCounts(at, func(tag, value Name, n int) { got[tagCountKey{tag, value}] = n })
		if !maps.Equal(got, want) {
			t.Fatalf("counts at %d: %v, want %v", at, got, want)
		}
	}
}

// An expiry list holds what a sorted set holds.
func TestExpiryListEqualsSet(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var l expiryList
	set := map[uint64]bool{}
	for i := range 40_000 {
		e := r.Uint64N(200)<<32 | r.Uint64N(40)
		if grow := r.IntN(20_000) > i-10_000; grow {
			l.add(e)
			set[e] = true
		} else if l.remove(e) != set[e] {
			t.Fatalf("remove of %x", e)
		} else {
			delete(set, e)
		}
		if i%1000 != 0 {
			continue
		}
		until := UnixSec(r.IntN(220))
		var got, want []uint64
		l.due(until)(func(o Ord, at UnixSec) bool {
			got = append(got, uint64(at)<<32|uint64(o))
			return true
		})
		for e := range set {
			if UnixSec(e>>32) <= until {
				want = append(want, e)
			}
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%d due at %d, want %d", len(got), until, len(want))
		}
		for _, b := range l.blocks {
			if len(b) == 0 || len(b) > expiryBlock {
				t.Fatalf("a block of %d", len(b))
			}
		}
	}
}

// A tag is held until its second and not from it on; the sweep takes it out in
// bounded passes, durably, and says in the history when it ended; a visitor stays
// one and nobody counts as seen.
func TestExpireTags(t *testing.T) {
	f := newFixture(t)
	const n = 5
	for i := range n {
		f.patch(i, &Patch{TagsAdd: []TagValue{
			{ID: 1, Expires: f.second(10), Source: SourceImport},
			{ID: 2},
			{ID: 3, Expires: f.second(99)},
		}})
	}
	held := func(after int, want uint64) {
		t.Helper()
		f.group.Lock()
		defer f.group.Unlock()
		var got uint64
		if b := f.group.TagBitmap(1, UnixMsec(f.second(after))*1000); b != nil {
			got = b.GetCardinality()
		}
		if got != want {
			t.Errorf("%d hold it after %d s, want %d", got, after, want)
		}
	}
	sweep := func(after, max, want int) {
		t.Helper()
		f.group.Lock()
		defer f.group.Unlock()
		if got, err := f.group.ExpireTags(f.second(after), max); err != nil || got != want {
			t.Errorf("sweep after %d s: %d, %v; want %d", after, got, err, want)
		}
	}
	held(9, n)
	held(10, 0)
	sweep(9, 10, 0)
	sweep(10, 3, 3)
	held(9, n-3) // what is swept is out, whatever instant is asked
	sweep(10, 3, 2)
	sweep(10, 3, 0)
	held(10, 0)
	f.reopen()
	held(9, 0)
	f.group.Lock()
	defer f.group.Unlock()
	var got []TagChange
	f.group.Profile(0).EachTagChange(func(c TagChange) bool { got = append(got, c); return true })
	want := []TagChange{
		{
			Tag: 1, Set: f.second(0), End: f.second(10), Source: SourceImport,
			How: TagExpired,
		},
		{Tag: 2, Set: f.second(0)},
		{Tag: 3, Set: f.second(0)},
	}
	if !slices.Equal(got, want) {
		t.Errorf("history %+v, want %+v", got, want)
	}
	if seen := f.group.Row(0).LastSeen; seen != f.second(0) {
		t.Errorf("seen at %d, want %d", seen, f.second(0))
	}
}

// A profile as it was stored before tags had a source and a history is whole; its
// tags come from nobody known.
func TestTagsOfAnOldStore(t *testing.T) {
	var d profileDraft
	d.tags = []TagValue{{ID: 7, Value: 3, Expires: 9}}
	old := d.append(nil) // no source, no history: the bytes of old
	if err := checkProfile(old); err != nil {
		t.Fatal(err)
	}
	p := Profile{old}
	p.EachTag(func(v TagValue) bool {
		if v != (TagValue{ID: 7, Value: 3, Expires: 9, Source: SourceUnknown}) {
			t.Errorf("tag %+v", v)
		}
		return true
	})
	p.EachTagChange(func(c TagChange) bool { t.Errorf("history %+v", c); return true })
	d = profileDraft{}
	d.load(p)
	if err := d.patch(&Patch{TagsRemove: []Name{7}, TagSource: SourceRule}, 5000); err != nil {
		t.Fatal(err)
	}
	var got []TagChange
	Profile{d.append(nil)}.EachTagChange(func(c TagChange) bool { got = append(got, c); return true })
	want := []TagChange{{Tag: 7, Value: 3, End: 5, By: SourceRule}}
	if !slices.Equal(got, want) {
		t.Errorf("history %+v, want %+v", got, want)
	}
}

// fixture is a store of one group, and people in it by ordinal.
type fixture struct {
	t     *testing.T
	fs    vfs.FS
	store *Store
	group *Group
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, fs: vfs.NewMem()}
	f.open()
	t.Cleanup(func() { mustClose(t, f.store) })
	return f
}

func (f *fixture) open() {
	o := testOptions(f.fs)
	o.Groups = 1
	f.store = mustOpen(f.t, f.fs, o)
	f.group = f.store.Group(0)
}

func (f *fixture) reopen() {
	mustCheck(f.t, f.store)
	mustClose(f.t, f.store)
	f.open()
	mustCheck(f.t, f.store)
}

// second is a second after the day's begin.
func (f *fixture) second(n int) UnixSec { return UnixSec(testDay/1000) + UnixSec(n) }

// patch makes the i-th person when there is none, and patches it.
func (f *fixture) patch(i int, p *Patch) {
	f.t.Helper()
	g, o, _ := addPerson(f.t, f.store, fmt.Sprint("user-", i))
	mustAppend(f.t, g, &Effect{Kind: EffectPatch, Ord: o, Time: testDay, Patch: p})
}
