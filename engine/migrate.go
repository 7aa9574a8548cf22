package engine

import (
	"tact/engine/definition"
)

// changedTypes refuses a publish that gives a name another type: values of the
// old one are stored, and no migration is supported yet. Names that the set no
// longer declares are not judged.
func changedTypes(previous *Snapshot, set *definition.Set) []definition.Fault {
	var faults []definition.Fault
	refuse := func(m *definition.Meta, field, from, to string) {
		faults = append(faults, definition.Fault{
			Pos: m.Pos, Field: field, Doc: m.Kind + "/" + m.ID,
			Message: "the type changes from " + from + " to " + to + ": migrate is not supported yet",
		})
	}
	for _, a := range set.Attributes {
		if old, ok := previous.attributes[a.ID]; ok && old.typ != a.Type {
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
