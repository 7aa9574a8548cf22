package engine

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"tact/storage"
)

// TagChange is a tag made ready to be set or cleared for many people.
type TagChange struct {
	schema   tagSchema
	declared bool
	doc      TagDoc
	value    storage.TagValue
}

// dedupTag is the kind of the idempotency keys of tags set in bulk.
const dedupTag uint8 = 16

// TagChange resolves a tag that is to be set or cleared for many people by this
// batch: its name as of now, and what is said of all of them. A published tag is
// asked for: a *Problem of class missing otherwise. With clear the tag's value and
// end do not matter and must be absent.
func (b *Batch) TagChange(doc *TagDoc, clear bool) (*TagChange, error) {
	schema, ok := b.snap.tag(doc.Name)
	if !ok {
		return nil, &Problem{
			Class: ProblemMissing, Code: "unknown_tag", Field: "tag",
			Detail: fmt.Sprintf("no tag %q is published%s", doc.Name,
				suggestion(string(doc.Name), slices.Collect(maps.Keys(b.snap.tags)))),
		}
	}
	c := &TagChange{schema: schema, declared: true, doc: *doc}
	if clear {
		source, err := tagSource(doc.Source, "source")
		c.value = storage.TagValue{ID: schema.id, Source: source}
		return c, err
	}
	if len(doc.Is) == 0 && len(schema.values) > 0 { // each line says it
		return c, nil
	}
	value, err := b.tagValue(doc, &c.schema, true, "tag")
	c.value = value
	return c, err
}

// TagLine is one person of a bulk change. Is and ExpiresAt go before what the
// change says; Key, when not empty, makes the line idempotent for seven days.
type TagLine struct {
	UserID    []byte
	Clear     bool
	Is        []byte
	ExpiresAt storage.UnixMsec
	Key       []byte
	BodyHash  uint32
}

// Tag sets or clears a tag of one person who exists: nobody is made by it, nor of a
// visitor.
func (b *Batch) Tag(c *TagChange, line *TagLine) LineResult {
	if err := checkUserID(line.UserID, "user_id"); err != nil {
		return rejected(err)
	}
	value, err := b.lineValue(c, line)
	if err != nil {
		return rejected(err)
	}
	s := b.e.store
	g := s.GroupOf(s.SlotOf(workspaceID, line.UserID))
	hash := s.IndexHash(workspaceID, line.UserID)
	var key uint64
	if len(line.Key) > 0 {
		b.text = append(append(append(b.text[:0], line.UserID...), 0), line.Key...)
		key = s.DedupHash(dedupTag, b.text)
	}
	g.Lock()
	defer g.Unlock()
	ord, ok := g.Find(workspaceID, hash, line.UserID)
	if !ok || !isPerson(g, ord) {
		return rejected(&Problem{
			Class: ProblemMissing, Code: "user_not_found", Field: "user_id",
			Detail: fmt.Sprintf("no user %q", line.UserID),
		})
	}
	return b.tagLocked(g, ord, c, tagEffect{value, line.Clear, key, line.BodyHash})
}

// lineValue is the value that a line sets: that of the change unless it says
// otherwise.
func (b *Batch) lineValue(c *TagChange, line *TagLine) (storage.TagValue, error) {
	switch {
	case line.Clear && (len(line.Is) > 0 || line.ExpiresAt != 0):
		return c.value, invalid("wrong_type", "is", "what is cleared has no value and no end")
	case line.Clear || len(line.Is) == 0 && line.ExpiresAt == 0 && c.value.ID != 0:
		return c.value, nil
	}
	doc := c.doc
	if len(line.Is) > 0 {
		doc.Is = line.Is
	}
	if line.ExpiresAt != 0 {
		doc.ExpiresAt, doc.TTL = line.ExpiresAt, nil
	}
	value, err := b.tagValue(&doc, &c.schema, true, "")
	if p, ok := err.(*Problem); ok && p.Field == "" {
		p.Field = "is"
	}
	return value, err
}

// tagEffect is one change on its way to a person.
type tagEffect struct {
	value storage.TagValue
	clear bool
	key   uint64
	body  uint32
}

// tagLocked appends the change of one person; the group is locked.
func (b *Batch) tagLocked(
	g *storage.Group, ord storage.Ord, c *TagChange, e tagEffect,
) LineResult {
	if e.key != 0 {
		if old, seen := g.SeenDedup(e.key); seen {
			return *b.duplicate(g, old == e.body)
		}
	}
	remove := b.patch.TagsRemove[:0]
	add := b.patch.TagsAdd[:0]
	remove = append(remove, c.schema.former...)
	if e.clear {
		remove = append(remove, c.schema.id)
	} else {
		add = append(add, e.value)
	}
	b.patch = storage.Patch{TagsRemove: remove, TagsAdd: add, TagSource: e.value.Source}
	b.stamp(storage.EffectPatch, ord)
	b.effect.DedupKey, b.effect.DedupBody, b.effect.Patch = e.key, e.body, &b.patch
	return b.finish(&found{group: g, ord: ord})
}

// TagTally counts what came of a bulk change.
type TagTally struct{ Applied, Duplicate, Gone uint64 }

// TagPeople sets or clears a tag for people named by ordinal, block by block, so
// that no decision waits for more than 64 of them, and commits every 1,024.
// Whoever is gone, or a visitor, is counted. After an error, which says that a part may not be
// durable, the same call with the same key goes on where it ended.
func (b *Batch) TagPeople(c *TagChange, who *People, line *TagLine, wait time.Duration) (
	tally TagTally, err error,
) {
	value, err := b.lineValue(c, line)
	if err != nil {
		return tally, err
	}
	var ords [sweepBlock]uint32
	pending := 0
	for i := range who.Groups {
		g := b.e.store.Group(who.Groups[i].Group)
		for it := who.Groups[i].Ords.ManyIterator(); ; {
			n := it.NextMany(ords[:])
			if n == 0 {
				break
			}
			if err := b.tagBlock(g, ords[:n], c, tagBlock{value, line, &tally}); err != nil {
				return tally, err
			}
			if pending += n; pending >= 16*sweepBlock {
				if err := b.Commit(wait); err != nil {
					return tally, err
				}
				pending = 0
			}
		}
	}
	return tally, b.Commit(wait)
}

// tagBlock is what one block of people shares.
type tagBlock struct {
	value storage.TagValue
	line  *TagLine
	tally *TagTally
}

func (b *Batch) tagBlock(g *storage.Group, ords []uint32, c *TagChange, t tagBlock) error {
	g.Lock()
	defer g.Unlock()
	for _, o := range ords {
		ord := storage.Ord(o)
		if !isPerson(g, ord) {
			t.tally.Gone++
			continue
		}
		e := tagEffect{value: t.value, clear: t.line.Clear, body: t.line.BodyHash}
		if len(t.line.Key) > 0 {
			b.text = append(append(append(b.text[:0], g.ID(ord)...), 0), t.line.Key...)
			e.key = b.e.store.DedupHash(dedupTag, b.text)
		}
		switch r := b.tagLocked(g, ord, c, e); {
		case r.Err != nil:
			return r.Err
		case r.Status == LineDuplicate:
			t.tally.Duplicate++
		default:
			t.tally.Applied++
		}
	}
	return nil
}
