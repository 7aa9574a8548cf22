package engine

import (
	"errors"

	"tact/storage"
)

// movingTag is a tag of an earlier revision and the one that it became.
type movingTag struct {
	from storage.Name
	to   tagSchema
}

// Bounds of one pass over the tags.
const (
	sweepBlock  = 64 // people patched in one lock section: about 0.2 ms
	sweepBlocks = 16 // sections of a group in one pass
)

// sweepTags takes tags whose time ran out out of the profiles, and moves the
// holders of tags that became another tag. Decisions and counts do not wait for
// it: they take no ended tag for held, and a holder of the former tag for one of
// the new. Each pass does a bounded part; what it did is durable with the frames
// it is in, and what a crash loses is done again.
func (e *Engine) sweepTags() {
	snap := e.snap.Load()
	now := toSec(e.clock.Now())
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		for range sweepBlocks {
			g.Lock()
			expired, err := g.ExpireTags(now, sweepBlock)
			moved, err2 := e.moveTags(g, snap, sweepBlock-expired)
			g.Unlock()
			if err := errors.Join(err, err2); err != nil {
				e.log.Debug("tags not swept", "group", i, "err", err)
				break
			}
			if expired+moved < sweepBlock {
				break
			}
		}
	}
}

// moveTags gives up to max holders of former tags the tag it became, with the
// source, the value and the end it had, unless they hold that already.
func (e *Engine) moveTags(g *storage.Group, snap *Snapshot, max int) (int, error) {
	n := 0
	var some [sweepBlock]storage.Ord
	for _, m := range snap.moving {
		held := some[:0]
		for o := range g.Holders(m.from) {
			if n+len(held) >= max {
				break
			}
			held = append(held, o)
		}
		for _, o := range held {
			if err := e.moveTag(g, o, &m, snap.Revision); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

func (e *Engine) moveTag(g *storage.Group, o storage.Ord, m *movingTag, rev uint32) error {
	now := e.clock.Now()
	patch := storage.Patch{TagsRemove: []storage.Name{m.from}, TagsMerged: true}
	var old, held storage.TagValue
	g.Profile(o).EachTag(func(t storage.TagValue) bool {
		switch t.ID {
		case m.from:
			old = t
		case m.to.id:
			held = t
		}
		return true
	})
	live := func(t storage.TagValue) bool {
		return t.ID != 0 && (t.Expires == 0 || storage.UnixMsec(t.Expires)*1000 > now)
	}
	if live(old) && !live(held) && m.to.takes(&old) {
		old.ID = m.to.id
		patch.TagsAdd = []storage.TagValue{old}
	}
	_, err := g.Append(&storage.Effect{
		Kind: storage.EffectPatch, Ord: o, Time: now, Config: rev, Patch: &patch,
	})
	return err
}

// takes makes the value of a former tag one of the new: a label has none, of an
// enum tag it must be one of its values.
func (s *tagSchema) takes(t *storage.TagValue) bool {
	if len(s.values) == 0 {
		t.Value = 0
		return true
	}
	for _, v := range s.values {
		if v == t.Value {
			return true
		}
	}
	return false
}
