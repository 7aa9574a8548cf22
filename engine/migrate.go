package engine

import (
	"fmt"
	"maps"
	"slices"

	"tact/engine/definition"
)

// changedTypes refuses a publish that gives a name another type, since values of
// the old one are stored; an attribute may say with `migrate` what becomes of them.
// Names that the set no longer declares are not judged.
func changedTypes(previous *Snapshot, set *definition.Set) []definition.Fault {
	var faults []definition.Fault
	refuse := func(m *definition.Meta, field, from, to string) {
		way := "give it another name"
		if m.Kind == "attribute" {
			way = "say migrate: cast or migrate: drop"
		}
		faults = append(faults, definition.Fault{
			Pos: m.Pos, Field: field, Doc: m.Kind + "/" + m.ID,
			Message: "the type changes from " + from + " to " + to + ": " + way,
		})
	}
	for _, a := range set.Attributes {
		if old, ok := previous.attributes[a.ID]; ok && old.typ != a.Type && a.Migrate == "" {
			refuse(&a.Meta, "type", old.typ.String(), a.Type.String())
		}
	}
	kind := func(values int) string {
		if values == 0 {
			return "label"
		}
		return "enum"
	}
	for _, t := range set.Tags {
		old, ok := previous.tags[t.ID]
		if from, to := kind(len(old.values)), kind(len(t.Values)); ok && from != to {
			refuse(&t.Meta, "values", from, to)
		}
		faults = append(faults, foreignTags(previous, t)...)
	}
	for _, ev := range set.Events {
		for i := range ev.Properties {
			p := &ev.Properties[i]
			old, ok := previous.events[ev.ID].indexed[p.Name]
			if ok && p.Indexed && old.typ != p.Type {
				refuse(&ev.Meta, "properties."+p.Name, old.typ.String(), p.Type.String())
			}
		}
	}
	return faults
}

// foreignTags refuses to make a tag of one that is another kind, or has values
// that this one has not: their holders would lose them.
func foreignTags(previous *Snapshot, t *definition.Tag) []definition.Fault {
	var faults []definition.Fault
	refuse := func(format string, args ...any) {
		faults = append(faults, definition.Fault{
			Pos: t.Pos, Field: "formerly", Doc: "tag/" + t.ID, Message: fmt.Sprintf(format, args...),
		})
	}
	for _, name := range t.Formerly {
		old, ok := previous.tags[name]
		switch {
		case !ok:
		case len(old.values) == 0 != (len(t.Values) == 0):
			refuse("of %q and %q one is a label and one has values", name, t.ID)
		default:
			for _, v := range slices.Sorted(maps.Keys(old.values)) {
				if !slices.Contains(t.Values, v) {
					refuse("the tag %q has the value %q, which %q has not", name, v, t.ID)
				}
			}
		}
	}
	return faults
}
