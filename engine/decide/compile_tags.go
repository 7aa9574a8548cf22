package decide

import (
	"tact/engine/rule"
	"tact/storage"
)

// TierTag is the name of the tag, in the dictionary of tags, that holds the level
// a model gives a person: no tag of a document or a caller has it, since theirs
// have no control characters.
func TierTag(tier string) string { return "\x00" + tier }

// TierOf returns the model whose levels a tag holds; false for every other tag.
func TierOf(tag string) (tier string, ok bool) {
	if len(tag) > 1 && tag[0] == 0 {
		return tag[1:], true
	}
	return "", false
}

// tagNames adds the tags and the models that rules may name.
func (c *compiler) tagNames(n *rule.Names) {
	for _, t := range c.set.Tags {
		tag := rule.Tag{ID: c.intern(&t.Meta, storage.DictTag, t.ID)}
		for _, v := range t.Values {
			if tag.Values == nil {
				tag.Values = make(map[string]storage.Name, len(t.Values))
			}
			tag.Values[v] = c.intern(&t.Meta, storage.DictTagValue, v)
		}
		for _, old := range t.Formerly {
			tag.Former = append(tag.Former, c.intern(&t.Meta, storage.DictTag, old))
			n.Renamed[old] = t.ID
		}
		n.Tags[t.ID] = tag
	}
	for _, t := range c.set.Tiers {
		tier := rule.Tier{ID: c.intern(&t.Meta, storage.DictTag, TierTag(t.ID))}
		for _, v := range t.Levels {
			tier.Levels = append(tier.Levels, rule.Level{
				Name: v, ID: c.intern(&t.Meta, storage.DictTagValue, v),
			})
		}
		n.Tiers[t.ID] = tier
	}
}
