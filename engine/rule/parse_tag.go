package rule

import (
	"slices"

	"tact/engine/definition"
)

// tag reads an atom about a tag: held, or of an enum tag its value.
func (p *parser) tag(at, value place) *node {
	name, ok := value.text("the name of a tag")
	if !ok {
		return nil
	}
	declared, ok := p.names.Tags[name]
	if now := p.names.Renamed[name]; !ok && now != "" {
		value.near(name, []string{now}, "the tag %q is %q now", brief(name), brief(now))
		return nil
	}
	if !ok {
		value.near(name, keys(p.names.Tags), "there is no tag %q", brief(name))
		return nil
	}
	l := leaf{
		subject: subjectTag, name: name, id: declared.ID, enum: len(declared.Values) > 0,
		former: declared.Former,
	}
	allowed := []string{"tag", "is", "is_not", "in", "not_in", "is_set"}
	at.close(allowed)
	all := &node{kind: nodeAll}
	for _, k := range at.node.Keys {
		if k.Name == "tag" || !slices.Contains(allowed, k.Name) {
			continue
		}
		in := place{p, k.Value, definition.JoinPath(at.path, k.Name)}
		n := p.tagComparison(in, k.Name, l, declared)
		if n == nil {
			return nil
		}
		all.subs = append(all.subs, n)
	}
	if len(all.subs) == 0 {
		return leafNode(l)
	}
	return only(all)
}

func (p *parser) tagComparison(at place, word string, l leaf, declared Tag) *node {
	if word == "is_set" {
		return p.isSet(at, l)
	}
	if !l.enum {
		at.fault("the tag %q is a label without values: it is held or not", brief(l.name))
		return nil
	}
	items := []place{at}
	l.op = opIs
	if word == "in" || word == "not_in" {
		var ok bool
		if items, ok = at.list("values of the tag"); !ok {
			return nil
		}
		l.op = opIn
	}
	for _, item := range items {
		resolved, ok := item.resolve()
		if !ok {
			return nil
		}
		text, ok := resolved.text("a value of the tag")
		if !ok {
			return nil
		}
		id, ok := declared.Values[text]
		if !ok {
			item.near(text, keys(declared.Values), "%q is no value of the tag %q", brief(text),
				brief(l.name))
			return nil
		}
		l.values = append(l.values, operand{text: text, value: id})
	}
	return signed(l, word == "is_not" || word == "not_in")
}

// tier reads an atom about the level that a model gives a person.
func (p *parser) tier(at, value place) *node {
	name, ok := value.text("the id of a tier")
	if !ok {
		return nil
	}
	declared, ok := p.names.Tiers[name]
	if !ok {
		value.near(name, keys(p.names.Tiers), "there is no tier %q", brief(name))
		return nil
	}
	allowed := []string{"is", "is_not", "in", "not_in", "gt", "gte", "lt", "lte", "is_set"}
	before := len(p.faults)
	at.close(append(slices.Clone(allowed), "tier"))
	l := leaf{subject: subjectTier, name: name, id: declared.ID, enum: true, levels: declared.Levels}
	all := &node{kind: nodeAll}
	for _, k := range at.node.Keys {
		if !slices.Contains(allowed, k.Name) {
			continue
		}
		n := p.tierComparison(place{p, k.Value, definition.JoinPath(at.path, k.Name)}, k.Name, l)
		if n == nil {
			return nil
		}
		all.subs = append(all.subs, n)
	}
	if len(all.subs) == 0 && len(p.faults) == before {
		at.fault("a comparison is missing, such as is, in, gte or is_set")
	}
	if len(p.faults) > before {
		return nil
	}
	return only(all)
}

func (p *parser) tierComparison(at place, word string, l leaf) *node {
	if word == "is_set" {
		return p.isSet(at, l)
	}
	items := []place{at}
	l.op, _ = ordering(word)
	switch word {
	case "is_not":
		l.op = opIs
	case "in", "not_in":
		var ok bool
		if items, ok = at.list("levels"); !ok {
			return nil
		}
		l.op = opIn
	}
	names := make([]string, len(l.levels))
	for i := range l.levels {
		names[i] = l.levels[i].Name
	}
	for _, item := range items {
		resolved, ok := item.resolve()
		if !ok {
			return nil
		}
		text, ok := resolved.text("a level")
		if !ok {
			return nil
		}
		i := slices.Index(names, text)
		if i < 0 {
			item.near(text, names, "%q is no level of the tier %q", brief(text), brief(l.name))
			return nil
		}
		l.values = append(l.values, operand{text: text, num: int64(i)})
	}
	return signed(l, word == "is_not" || word == "not_in")
}
