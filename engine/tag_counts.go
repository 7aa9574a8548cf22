package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"tact/storage"
)

// TagCount is a tag with its holders at one time.
type TagCount struct {
	Tag         string // its full name; for a tier "", with Tier
	Tier        string
	Namespace   string
	Owner       string
	Description map[string]string // by language; "" for every language
	Declared    bool
	TTL         int64 // seconds; 0 = for ever
	Formerly    []string
	Holders     uint64
	// Values of an enum tag or tier: in the order of its document, behind them by
	// name those that are held and not in it (any more).
	Values []TagValueCount
}

// TagValueCount is the holders of one value.
type TagValueCount struct {
	Value    string
	Holders  uint64
	Declared bool // the document of the tag or tier has it
}

// TagCounts returns every tag and tier that is declared or held, by name, tags
// first, with who holds it now: exact at one server time, group by group. Holders
// of a tag that became another are counted with that one. Cost: a call a tag and
// value in each group.
func (e *Engine) TagCounts() []TagCount {
	snap := e.snap.Load()
	counts := make(map[[2]storage.Name]uint64)
	now := e.clock.Now()
	into := make(map[storage.Name]storage.Name)
	for _, m := range snap.moving {
		into[m.from] = m.to.id
	}
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		g.Lock()
		g.TagCounts(now, func(tag, value storage.Name, n int) {
			counts[[2]storage.Name{tag, value}] += uint64(n)
		})
		countOnce(g, snap.moving, now, counts)
		g.Unlock()
	}
	byTag := make(map[storage.Name]map[storage.Name]uint64)
	for key, n := range counts {
		tag := cmp.Or(into[key[0]], key[0])
		if byTag[tag] == nil {
			byTag[tag] = make(map[storage.Name]uint64)
		}
		byTag[tag][key[1]] += n
	}
	var out []TagCount
	for _, t := range snap.Set.Tags {
		schema := snap.tags[t.ID]
		c := TagCount{
			Tag: t.ID, Namespace: t.Namespace, Owner: t.Owner, Declared: true, TTL: t.TTL,
			Description: maps.Clone(t.Description.By), Formerly: t.Formerly,
		}
		if t.Description.Any != "" {
			c.Description = map[string]string{"": t.Description.Any}
		}
		out = append(out, e.fillCount(c, t.Values, &schema, byTag[schema.id]))
		delete(byTag, schema.id)
	}
	for _, t := range snap.Set.Tiers {
		schema := snap.tiers[t.ID]
		c := TagCount{Tier: t.ID, Owner: t.Owner, Declared: true}
		out = append(out, e.fillCount(c, t.Levels, &schema, byTag[schema.id]))
		delete(byTag, schema.id)
	}
	for id, values := range byTag {
		var c TagCount
		c.Tag, c.Tier = e.tagNamed(id)
		for _, n := range values {
			c.Holders += n
		}
		c.Values = e.undeclared(nil, values)
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b TagCount) int {
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Tag, b.Tag))
	})
	return out
}

// countOnce takes out of counts the former tags of those who hold what it became
// as well, or an earlier one of its former tags: of several the first counts.
func countOnce(
	g *storage.Group, moving []movingTag, now storage.UnixMsec,
	counts map[[2]storage.Name]uint64,
) {
	holders := make(map[storage.Name]*roaring.Bitmap) // so far, by what a tag became
	for _, m := range moving {
		old := g.TagBitmap(m.from, now)
		if old == nil {
			continue
		}
		held := holders[m.to.id]
		if held == nil {
			if held = g.TagBitmap(m.to.id, now); held == nil {
				held = roaring.New()
			}
		}
		for it := roaring.And(old, held).Iterator(); it.HasNext(); {
			value, _, _ := g.Profile(storage.Ord(it.Next())).Tag(m.from)
			counts[[2]storage.Name{m.from, value}]--
		}
		holders[m.to.id] = roaring.Or(held, old)
	}
}

// fillCount adds the holders of a declared tag or tier: all of them, also those
// of a value that a later document of the tag no longer has.
func (e *Engine) fillCount(
	c TagCount, values []string, schema *tagSchema, held map[storage.Name]uint64,
) TagCount {
	rest := maps.Clone(held)
	for _, n := range held {
		c.Holders += n
	}
	for _, v := range values {
		id := schema.values[v]
		c.Values = append(c.Values, TagValueCount{Value: v, Holders: held[id], Declared: true})
		delete(rest, id)
	}
	if len(values) > 0 {
		c.Values = e.undeclared(c.Values, rest)
	}
	return c
}

// undeclared appends the values that are held, by name.
func (e *Engine) undeclared(
	dst []TagValueCount, held map[storage.Name]uint64,
) []TagValueCount {
	from := len(dst)
	for v, n := range held {
		if v != 0 && n > 0 {
			dst = append(dst, TagValueCount{Value: e.store.NameOf(storage.DictTagValue, v), Holders: n})
		}
	}
	slices.SortFunc(dst[from:], func(a, b TagValueCount) int { return cmp.Compare(a.Value, b.Value) })
	return dst
}

// TagCount returns one tag of TagCounts by its name, also one that it had. It
// errors with a ProblemMissing where nobody declares or holds it.
func (e *Engine) TagCount(name []byte) (TagCount, error) {
	all := e.TagCounts()
	now := cmp.Or(e.snap.Load().renamed[string(name)], string(name))
	names := make([]string, 0, len(all))
	for i := range all {
		if all[i].Tier == "" && all[i].Tag == now {
			return all[i], nil
		}
		names = append(names, all[i].Tag)
	}
	return TagCount{}, &Problem{
		Class: ProblemMissing, Code: "unknown_tag", Field: "tag",
		Detail: fmt.Sprintf("no tag %q%s", name, suggestion(string(name), names)),
	}
}
