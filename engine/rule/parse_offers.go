package rule

import (
	"slices"
	"strings"

	"tact/engine/definition"
	"tact/storage"
)

// offers reads the selector of an outcome: all, or {ids, groups, labels, not}. An
// offer is chosen that ids or groups name, where one of them stands, that has all
// labels, and that not does not choose.
func (p *parser) offers(at place, m *match) {
	if at.node.Kind == definition.NodeString && at.node.Text == "all" {
		return
	}
	var words []string
	chosen := p.chosen(at, &words, 1)
	m.offers, m.chosen = make([]storage.Name, 0, len(chosen)), strings.Join(words, ", ")
	for o := range chosen {
		m.offers = append(m.offers, o)
	}
	slices.Sort(m.offers)
}

// chosen returns the offers that a selector chooses, and appends what it says to
// words.
func (p *parser) chosen(at place, words *[]string, depth int) map[storage.Name]bool {
	if at.node.Kind == definition.NodeString && at.node.Text == "all" {
		*words = append(*words, "all")
		return p.offersWith(func(*OfferName) bool { return true })
	}
	if at.node.Kind != definition.NodeMap || len(at.node.Keys) == 0 || depth > MaxDepth {
		at.fault("all, or {ids: […], groups: […], labels: {…}, not: {…}}, is expected, not %s",
			describe(at.node))
		return nil
	}
	all := p.offersWith(func(*OfferName) bool { return true })
	var named map[storage.Name]bool
	for _, k := range at.node.Keys {
		part := place{p, k.Value, definition.JoinPath(at.path, k.Name)}
		switch k.Name {
		case "ids", "groups":
			if named == nil {
				named = map[storage.Name]bool{}
			}
			p.named(part, k.Name == "groups", named, words)
		case "labels":
			retain(all, p.labelled(part, words))
		case "not":
			var inner []string
			for o := range p.chosen(part, &inner, depth+1) {
				delete(all, o)
			}
			*words = append(*words, "not ("+strings.Join(inner, ", ")+")")
		default:
			unknown := place{p, &definition.Node{Pos: k.Pos}, part.path}
			unknown.near(k.Name, []string{"ids", "groups", "labels", "not"}, "unknown key %q",
				brief(k.Name))
		}
	}
	if named != nil {
		retain(all, named)
	}
	return all
}

// retain takes out of a set what another has not.
func retain(set, other map[storage.Name]bool) {
	for o := range set {
		if !other[o] {
			delete(set, o)
		}
	}
}

func (p *parser) offersWith(good func(*OfferName) bool) map[storage.Name]bool {
	set := map[storage.Name]bool{}
	for i := range p.names.Offers {
		if o := &p.names.Offers[i]; good(o) {
			set[o.Name] = true
		}
	}
	return set
}

// named adds the offers that ids or groups name.
func (p *parser) named(at place, groups bool, into map[storage.Name]bool, words *[]string) {
	items, ok := at.list("ids")
	if !ok {
		return
	}
	for _, item := range items {
		text, ok := item.text("an id")
		if !ok {
			continue
		}
		*words = append(*words, text)
		if !p.choose(into, text, groups) {
			item.near(text, p.offerWords(groups), "there is no offer%s %q",
				map[bool]string{true: " group"}[groups], brief(text))
		}
	}
}

// labelled returns the offers that have all of some labels.
func (p *parser) labelled(at place, words *[]string) map[storage.Name]bool {
	if at.node.Kind != definition.NodeMap || len(at.node.Keys) == 0 {
		at.fault("labels such as {season: autumn} are expected, not %s", describe(at.node))
		return nil
	}
	want := map[string]string{}
	for _, k := range at.node.Keys {
		if text, ok := (place{p, k.Value, definition.JoinPath(at.path, k.Name)}).text("a label"); ok {
			want[k.Name] = text
			*words = append(*words, k.Name+"="+text)
		}
	}
	return p.offersWith(func(o *OfferName) bool {
		for name, text := range want {
			if have, ok := o.Labels[name]; !ok || have != text {
				return false
			}
		}
		return true
	})
}

// choose adds the offers that an id or a group names.
func (p *parser) choose(chosen map[storage.Name]bool, text string, group bool) bool {
	found := false
	for i := range p.names.Offers {
		o := &p.names.Offers[i]
		if !group && o.ID == text || group && (o.Group == text ||
			strings.HasPrefix(o.Group, text+"/")) {
			chosen[o.Name], found = true, true
		}
	}
	return found
}

func (p *parser) offerWords(groups bool) []string {
	var all []string
	for i := range p.names.Offers {
		if groups {
			all = append(all, p.names.Offers[i].Group)
		} else {
			all = append(all, p.names.Offers[i].ID)
		}
	}
	return all
}
