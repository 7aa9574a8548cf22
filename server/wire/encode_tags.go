package wire

import (
	"maps"
	"slices"

	"tact/engine"
)

func (w *writer) userTags(u *engine.UserView) {
	w.name("tags")
	w.open('[')
	for i := range u.Tags {
		t := &u.Tags[i]
		if t.Is == "" && t.Expires == 0 && t.Source == "" && t.Since == 0 {
			w.comma()
			*w = appendString(*w, t.Tag)
			continue
		}
		w.open('{')
		w.text("tag", t.Tag)
		w.text("is", t.Is)
		w.held(t)
		w.close('}')
	}
	w.close(']')
}

// held writes since when, until when and from whom a tag is held.
func (w *writer) held(t *engine.TagView) {
	if t.Expires != 0 {
		w.time("expires_at", int64(t.Expires)*1000)
	}
	if t.Since != 0 {
		w.time("since", int64(t.Since)*1000)
	}
	w.text("source", t.Source)
}

// userTiers writes the levels of models, when there are any.
func (w *writer) userTiers(u *engine.UserView) {
	if len(u.Tiers) == 0 {
		return
	}
	w.name("tiers")
	w.open('{')
	for i := range u.Tiers {
		w.text(u.Tiers[i].Tag, u.Tiers[i].Is)
	}
	w.close('}')
}

// tagHistory writes the history of tags, when there is any.
func (w *writer) tagHistory(u *engine.UserView) {
	if len(u.TagHistory) == 0 {
		return
	}
	objects(w, "tag_history", u.TagHistory, func(h *engine.TagChangeView) {
		w.text("tag", h.Tag)
		w.text("tier", h.Tier)
		w.text("is", h.Is)
		if h.Set != 0 {
			w.time("set_at", int64(h.Set)*1000)
		}
		w.text("source", h.Source)
		if h.Ended != 0 {
			w.time("ended_at", int64(h.Ended)*1000)
			w.text("ended", h.How)
			w.text("ended_by", h.By)
		}
	})
}

// AppendTagCounts appends {"tags": […]}, tiers behind the tags.
func AppendTagCounts(dst []byte, all []engine.TagCount) []byte {
	w := append(writer(dst), '{')
	w.name("tags")
	w.open('[')
	for i := range all {
		w.comma()
		w.tagCount(&all[i])
	}
	w.close(']')
	w.close('}')
	return w
}

// AppendTagCount appends one tag with its holders.
func AppendTagCount(dst []byte, c *engine.TagCount) []byte {
	w := writer(dst)
	w.tagCount(c)
	return w
}

func (w *writer) tagCount(c *engine.TagCount) {
	*w = append(*w, '{')
	w.text("tag", c.Tag)
	w.text("tier", c.Tier)
	w.text("namespace", c.Namespace)
	w.text("owner", c.Owner)
	if any, ok := c.Description[""]; ok {
		w.text("description", any)
	} else if len(c.Description) > 0 {
		w.name("description")
		w.open('{')
		for _, lang := range slices.Sorted(maps.Keys(c.Description)) {
			w.text(lang, c.Description[lang])
		}
		w.close('}')
	}
	w.bool("declared", c.Declared)
	if c.TTL > 0 {
		w.int("ttl_seconds", c.TTL)
	}
	if len(c.Formerly) > 0 {
		w.texts("formerly", c.Formerly)
	}
	w.int("holders", int64(c.Holders))
	if len(c.Values) > 0 {
		objects(w, "values", c.Values, func(v *engine.TagValueCount) {
			w.text("value", v.Value)
			w.int("holders", int64(v.Holders))
			if !v.Declared {
				w.bool("declared", false)
			}
		})
	}
	w.close('}')
}

// TagTally is what came of a bulk change of a tag. Errors names some of the
// rejected; the Field of each is its place in the request.
type TagTally struct {
	Applied, Duplicates, Rejected uint64
	Errors                        []LineError
}

// AppendTagTally appends {"applied", "duplicates", "rejected", "errors"}.
func AppendTagTally(dst []byte, t *TagTally) []byte {
	w := append(writer(dst), '{')
	w.int("applied", int64(t.Applied))
	w.int("duplicates", int64(t.Duplicates))
	w.int("rejected", int64(t.Rejected))
	objects(&w, "errors", t.Errors, func(e *LineError) {
		w.text("field", e.Field)
		w.text("code", e.Code)
		w.text("detail", e.Detail)
	})
	w.close('}')
	return w
}

// migrations writes what became of the values of attributes whose type a publish
// changed, when there are any.
func (w *writer) migrations(all []engine.Migration) {
	if len(all) == 0 {
		return
	}
	objects(w, "migrations", all, func(m *engine.Migration) {
		w.text("attribute", m.Attribute)
		w.text("from", m.From)
		w.text("to", m.To)
		w.int("kept", int64(m.Kept))
		w.int("lost", int64(m.Lost))
	})
}
