package engine

import (
	"context"
	"fmt"

	"tact/storage"
)

// staticSegment is the name of a published segment that is filled by hand: a
// ProblemMissing says that there is none of that id, a ProblemConflict that it
// has a rule.
func (s *Snapshot) staticSegment(segment string) (storage.Name, error) {
	if err := s.publishedSegment(segment); err != nil {
		return 0, err
	}
	id, static := s.segments[segment]
	if !static {
		return 0, &Problem{
			Class: ProblemConflict, Code: "dynamic_segment", Field: "segment",
			Detail: fmt.Sprintf("segment %q has a rule: its members are those for whom it holds", segment),
		}
	}
	return id, nil
}

// SegmentMembers adds people to a static segment and takes people out. Ids that
// nobody has, or a visitor, are refused with the whole call, so that nothing is
// half applied.
// Memberships of one call become durable together.
func (b *Batch) SegmentMembers(segment []byte, add, remove [][]byte) LineResult {
	id, err := b.snap.staticSegment(string(segment))
	if err != nil {
		return rejected(err)
	}
	lists := [...]struct {
		name string
		ids  [][]byte
	}{{"add", add}, {"remove", remove}}
	for _, list := range lists {
		for i, user := range list.ids {
			if !b.e.knows(user) {
				return rejected(&Problem{
					Class: ProblemMissing, Code: "user_not_found",
					Field:  fmt.Sprintf("%s[%d]", list.name, i),
					Detail: fmt.Sprintf("no user %q", user),
				})
			}
		}
	}
	// A fill under way must not be mixed with, and one that was written down comes
	// first.
	b.e.fills.mu.Lock()
	defer b.e.fills.mu.Unlock()
	if err := b.e.endFills(context.Background()); err != nil {
		return rejected(err)
	}
	var result LineResult
	b.e.store.Together(func() {
		for _, list := range lists {
			for _, user := range list.ids {
				if err := b.member(id, user, list.name == "add"); err != nil {
					result = rejected(err)
					return
				}
			}
		}
	})
	return result
}

// knows tells whether a person, no visitor, has a canonical id.
func (e *Engine) knows(user []byte) bool {
	s := e.store
	g := s.GroupOf(s.SlotOf(workspaceID, user))
	g.Lock()
	defer g.Unlock()
	ord, ok := g.Find(workspaceID, s.IndexHash(workspaceID, user), user)
	return ok && isPerson(g, ord)
}

// member changes one membership. A person who has gone since is skipped.
func (b *Batch) member(segment storage.Name, user []byte, in bool) error {
	s := b.e.store
	g := s.GroupOf(s.SlotOf(workspaceID, user))
	g.Lock()
	defer g.Unlock()
	ord, ok := g.Find(workspaceID, s.IndexHash(workspaceID, user), user)
	if !ok || !isPerson(g, ord) {
		return nil
	}
	b.patch = storage.Patch{}
	if in {
		b.patch.SegmentsAdd = []storage.Name{segment}
	} else {
		b.patch.SegmentsRemove = []storage.Name{segment}
	}
	b.stamp(storage.EffectPatch, ord)
	b.effect.Patch = &b.patch
	r := b.finish(&found{group: g, ord: ord})
	return r.Err
}
