package engine

import (
	"fmt"
	"math"
	"slices"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// tagSchema is a declared tag, or the tag that holds the level of a model.
type tagSchema struct {
	id     storage.Name
	former []storage.Name          // tags that became this one
	values map[string]storage.Name // empty: a label
	ttl    int64
}

// indexTags builds the tables of tags and models that ingest reads.
func (s *Snapshot) indexTags(m *minter) {
	s.tags = make(map[string]tagSchema, len(s.Set.Tags))
	s.renamed = make(map[string]string)
	for _, t := range s.Set.Tags {
		schema := tagSchema{id: m.id(storage.DictTag, t.ID), ttl: t.TTL}
		schema.values = make(map[string]storage.Name, len(t.Values))
		for _, v := range t.Values {
			schema.values[v] = m.id(storage.DictTagValue, v)
		}
		for _, old := range t.Formerly {
			id := m.id(storage.DictTag, old)
			schema.former = append(schema.former, id)
			s.renamed[old] = t.ID
			s.moving = append(s.moving, movingTag{id, schema})
		}
		s.tags[t.ID] = schema
	}
	s.tiers = make(map[string]tagSchema, len(s.Set.Tiers))
	for _, t := range s.Set.Tiers {
		schema := tagSchema{id: m.id(storage.DictTag, decide.TierTag(t.ID))}
		schema.values = make(map[string]storage.Name, len(t.Levels))
		for _, v := range t.Levels {
			schema.values[v] = m.id(storage.DictTagValue, v)
		}
		s.tiers[t.ID] = schema
	}
}

// tag finds a tag by the name a caller gives, which may be one that it had.
func (s *Snapshot) tag(name []byte) (tagSchema, bool) {
	schema, ok := s.tags[string(name)]
	if !ok {
		schema, ok = s.tags[s.renamed[string(name)]]
	}
	return schema, ok
}

// tagSources are the words for storage.TagSource, from SourceManual on.
func tagSources() []string { return []string{"manual", "rule", "import", "model"} }

// tagSource reads a source; an empty one is manual.
func tagSource(text []byte, field string) (storage.TagSource, error) {
	if len(text) == 0 {
		return storage.SourceManual, nil
	}
	i := slices.Index(tagSources(), string(text))
	if i < 0 {
		return 0, invalid("unknown_value", field, fmt.Sprintf(
			"%q is none of manual, rule, import, model%s", text,
			suggestion(string(text), tagSources())))
	}
	return storage.SourceManual + storage.TagSource(i), nil
}

func sourceWord(s storage.TagSource) string {
	if s == storage.SourceUnknown {
		return ""
	}
	return tagSources()[s-storage.SourceManual]
}

func (r *resolver) resolveTags(doc *UserDoc) error {
	source, err := tagSource(doc.Source, "source")
	if err != nil {
		return err
	}
	r.patch.TagSource, r.replace = source, doc.TagsSet
	for i := range doc.Tags {
		t := &doc.Tags[i]
		field := fmt.Sprintf("tags[%d]", i)
		schema, declared := r.snap.tag(t.Name)
		if !declared {
			id, err := r.undeclared(storage.DictTag, t.Name, field)
			if err != nil {
				return err
			}
			schema = tagSchema{id: id}
		}
		out, err := r.tagValue(t, &schema, declared, field)
		if err != nil {
			return err
		}
		if len(t.Source) == 0 {
			out.Source = source
		}
		r.patch.TagsRemove = append(r.patch.TagsRemove, schema.former...)
		r.patch.TagsAdd = append(r.patch.TagsAdd, out)
	}
	for _, name := range doc.TagsRemove {
		if schema, ok := r.snap.tag(name); ok {
			r.patch.TagsRemove = append(append(r.patch.TagsRemove, schema.id), schema.former...)
		} else if id, ok := r.names.lookup(storage.DictTag, name); ok && name[0] != 0 {
			r.patch.TagsRemove = append(r.patch.TagsRemove, id)
		}
	}
	return nil
}

// tagValue resolves one tag of a line.
func (r *resolver) tagValue(t *TagDoc, schema *tagSchema, declared bool, field string) (
	out storage.TagValue, err error,
) {
	out.ID = schema.id
	if out.Source, err = tagSource(t.Source, field+".source"); err != nil {
		return out, err
	}
	if out.Expires, err = r.tagEnd(t, schema.ttl, field); err != nil {
		return out, err
	}
	switch {
	case len(t.Is) == 0 && len(schema.values) > 0:
		return out, invalid("wrong_type", field, "an enum tag needs a value: {tag, is}")
	case len(t.Is) > 0 && declared && len(schema.values) == 0:
		return out, invalid("wrong_type", field, "a label tag takes no value")
	case len(t.Is) > 0 && declared:
		v, ok := schema.values[string(t.Is)]
		if !ok {
			return out, invalid("unknown_value", field,
				fmt.Sprintf("%q is not a value of this tag", t.Is))
		}
		out.Value = v
	case len(t.Is) > 0:
		if out.Value, err = r.mint(storage.DictTagValue, t.Is, field); err != nil {
			return out, err
		}
	}
	return out, nil
}

// tagEnd says when the tag ends: by what the line says, else by the ttl of its
// document, in seconds rounded down; 0 = never.
func (r *resolver) tagEnd(t *TagDoc, ttl int64, field string) (storage.UnixSec, error) {
	now := r.names.now()
	switch {
	case len(t.TTL) > 0 && t.ExpiresAt != 0:
		return 0, invalid("wrong_type", memberOf(field, "ttl"), "ttl and expires_at exclude each other")
	case t.ExpiresAt != 0:
		if t.ExpiresAt/1000 <= now/1000 || t.ExpiresAt/1000 > math.MaxUint32 {
			return 0, invalid("out_of_range", memberOf(field, "expires_at"), "must lie ahead, before 2106")
		}
		return toSec(t.ExpiresAt), nil
	case len(t.TTL) > 0:
		seconds, ok := definition.ParseDuration(string(t.TTL))
		if !ok {
			return 0, invalid("wrong_type", memberOf(field, "ttl"),
				"want a whole number and s, m, h, d or w, up to ten years, such as 30d")
		}
		ttl = seconds
	}
	if ttl == 0 {
		return 0, nil
	}
	return storage.UnixSec(int64(now)/1000 + ttl), nil
}

// memberOf names a member of a field; of none, a column.
func memberOf(field, member string) string {
	if field == "" {
		return member
	}
	return field + "." + member
}

// dropTags removes every tag that the person holds but the levels of models: what
// tags_set begins with. The person's group is locked.
func (b *Batch) dropTags(p storage.Profile) {
	p.EachTag(func(t storage.TagValue) bool {
		if _, tier := b.e.tagNamed(t.ID); tier == "" {
			b.patch.TagsRemove = append(b.patch.TagsRemove, t.ID)
		}
		return true
	})
}

// resolveTiers resolves the levels of models.
func (r *resolver) resolveTiers(doc *UserDoc) error {
	for i := range doc.Tiers {
		t := &doc.Tiers[i]
		field := "tiers." + string(t.Tier)
		schema, ok := r.snap.tiers[string(t.Tier)]
		if !ok {
			return invalid("unknown_tier", field, fmt.Sprintf("no tier %q is published", t.Tier))
		}
		if len(t.Level) == 0 {
			r.patch.TagsRemove = append(r.patch.TagsRemove, schema.id)
			continue
		}
		level, ok := schema.values[string(t.Level)]
		if !ok {
			return invalid("unknown_value", field, fmt.Sprintf("%q is no level of this tier", t.Level))
		}
		r.patch.TagsAdd = append(r.patch.TagsAdd, storage.TagValue{
			ID: schema.id, Value: level, Source: r.patch.TagSource,
		})
	}
	return nil
}

// tagNamed returns the name of a tag, or the model whose levels the tag holds.
func (e *Engine) tagNamed(id storage.Name) (tag, tier string) {
	name := e.store.NameOf(storage.DictTag, id)
	if tier, ok := decide.TierOf(name); ok {
		return "", tier
	}
	return name, ""
}

// viewTags fills in the tags that are held at an instant, the levels of models and
// the history, newest first.
func (e *Engine) viewTags(v *UserView, p storage.Profile, now storage.UnixMsec) {
	name := e.store.NameOf
	since := make(map[storage.Name]storage.UnixSec)
	p.EachTagChange(func(c storage.TagChange) bool {
		out := TagChangeView{
			Is: name(storage.DictTagValue, c.Value), Set: c.Set, Ended: c.End,
			Source: sourceWord(c.Source),
		}
		out.Tag, out.Tier = e.tagNamed(c.Tag)
		if c.End != 0 {
			out.How = [...]string{"cleared", "expired", "replaced", "merged"}[c.How]
			out.By = sourceWord(c.By)
		} else {
			since[c.Tag] = c.Set
		}
		v.TagHistory = append(v.TagHistory, out)
		return true
	})
	p.EachTag(func(t storage.TagValue) bool {
		if t.Expires != 0 && storage.UnixMsec(t.Expires)*1000 <= now {
			return true
		}
		out := TagView{
			Is: name(storage.DictTagValue, t.Value), Expires: t.Expires,
			Source: sourceWord(t.Source), Since: since[t.ID],
		}
		tag, tier := e.tagNamed(t.ID)
		if out.Tag = tag; tier != "" {
			out.Tag = tier
			v.Tiers = append(v.Tiers, out)
			return true
		}
		v.Tags = append(v.Tags, out)
		return true
	})
	for i := range v.TagHistory { // what the sweep has not reached yet
		h := &v.TagHistory[i]
		if h.Ended != 0 {
			continue
		}
		held := func(t TagView) bool { return t.Is == h.Is && t.Tag == h.Tag+h.Tier }
		if !slices.ContainsFunc(v.Tags, held) && !slices.ContainsFunc(v.Tiers, held) {
			h.How = "expired"
			h.Ended = e.endOf(p, h)
		}
	}
	slices.Reverse(v.TagHistory)
}

// endOf is when a tag that the profile still lists ran out.
func (e *Engine) endOf(p storage.Profile, h *TagChangeView) storage.UnixSec {
	full := h.Tag
	if h.Tier != "" {
		full = decide.TierTag(h.Tier)
	}
	id, _ := e.store.Lookup(storage.DictTag, full)
	_, _, end := p.Tag(id)
	return end
}
