package definition

import (
	"slices"
	"strings"
)

// Difference is what one set has and another has not, document by document, by
// kind/id, in rising order.
type Difference struct {
	Added   []string
	Changed []string // what they say, not how it is written: comments, order of keys, files
	Removed []string
	Same    int // how many documents stay as they are
}

// Diff compares two sets, of which either may have faults: what could not be read
// of it is not in it. Cost: linear in the documents.
func Diff(before, after *Set) Difference {
	var d Difference
	old := make(map[string]*Node)
	for _, m := range before.metas() {
		old[m.Kind+"/"+m.ID] = m.Whole()
	}
	seen := make(map[string]bool)
	for _, m := range after.metas() {
		name := m.Kind + "/" + m.ID
		was, there := old[name]
		switch {
		case seen[name]: // a fault of the set: it has two
		case !there:
			d.Added = append(d.Added, name)
		case sameNode(was, m.Whole()):
			d.Same++
		default:
			d.Changed = append(d.Changed, name)
		}
		seen[name] = true
	}
	for name := range old {
		if !seen[name] {
			d.Removed = append(d.Removed, name)
		}
	}
	for _, names := range [...][]string{d.Added, d.Changed, d.Removed} {
		slices.Sort(names)
	}
	return d
}

// sameNode tells whether two values say the same, whatever the order of keys.
func sameNode(a, b *Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Kind != b.Kind || a.Bool != b.Bool || a.Text != b.Text || len(a.Keys) != len(b.Keys) {
		return false
	}
	for i := range a.Keys {
		if !sameNode(a.Keys[i].Value, b.Get(a.Keys[i].Name)) {
			return false
		}
	}
	return slices.EqualFunc(a.List, b.List, sameNode)
}

// asYAML gives a file the shape that LoadDir reads: a name that ends in .yaml or
// .yml, and YAML in it. The documents of a JSON file are written one below the
// other.
func asYAML(f File) (File, error) {
	switch {
	case strings.HasSuffix(f.Name, ".yaml"), strings.HasSuffix(f.Name, ".yml"):
		return f, nil
	case !strings.HasSuffix(f.Name, ".json"):
		return File{Name: f.Name + ".yaml", Content: f.Content}, nil
	}
	docs, err := documentsFromJSON(f)
	if err != nil {
		return f, err
	}
	out := File{Name: f.Name + ".yaml"}
	for i, n := range docs {
		if i > 0 {
			out.Content = append(out.Content, "---\n"...)
		}
		out.Content = append(n.AppendJSON(out.Content), '\n')
	}
	return out, nil
}
