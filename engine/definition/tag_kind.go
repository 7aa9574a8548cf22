package definition

import (
	"strings"
	"unicode/utf8"
)

// tagName puts the namespace of a tag before its name: brand/vip.
func (o *object) tagName(name string) string {
	const most = 64 // characters, as of every name of data
	f, ok := o.get("namespace")
	if !ok {
		return name
	}
	space := f.id()
	if space == "" || name == "" {
		return name
	}
	if name = space + "/" + name; utf8.RuneCountInString(name) > most {
		f.fault("with its namespace the name of a tag has at most %d characters", most)
	}
	return name
}

func (o *object) tag(m Meta) *Tag {
	t := &Tag{Meta: m}
	if o.node.Get("namespace") != nil {
		t.Namespace, _, _ = strings.Cut(m.ID, "/")
	}
	if f, ok := o.get("values"); ok {
		t.Values = f.values()
	}
	if f, ok := o.get("ttl"); ok {
		t.TTL = f.duration()
	}
	if f, ok := o.get("formerly"); ok {
		t.Formerly = f.unique(field.dataName)
		if f.node.Kind == NodeList && len(f.node.List) == 0 {
			f.fault("an empty list of names: leave the key out")
		}
		f.onceATag(t)
	}
	return t
}

// onceATag checks that the names a tag had are no tag any more, and that one tag
// took each over.
func (f field) onceATag(t *Tag) {
	if f.r.formerly == nil {
		f.r.formerly = make(map[string]*Tag)
	}
	for _, name := range t.Formerly {
		if other := f.r.formerly[name]; other != nil {
			f.fault("the tag %q became %q already, at %s", name, other.ID, other.Pos)
			continue
		}
		f.r.formerly[name] = t
	}
	f.afterAll(func(r *reading) {
		for _, name := range t.Formerly {
			if at, ok := r.known[docKey{"tag", name}]; ok {
				f.fault("the tag %q is still defined, at %s", name, at)
			}
		}
	})
}

func (o *object) tier(m Meta) *Tier {
	t := &Tier{Meta: m}
	if f, ok := o.need("levels"); ok {
		t.Levels = f.values()
	}
	return t
}
