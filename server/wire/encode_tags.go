package wire

import "tact/engine"

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
	w.name("tag_history")
	w.open('[')
	for i := range u.TagHistory {
		h := &u.TagHistory[i]
		w.open('{')
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
		w.close('}')
	}
	w.close(']')
}
