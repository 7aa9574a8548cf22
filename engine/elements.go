package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"tact/engine/definition"
	"tact/storage"
)

// memberSchema is a property of the elements of a list: of items[].price the
// member price.
type memberSchema struct {
	member string
	propertySchema
}

// resolveElements takes the declared members out of a list of objects. Each becomes
// a list of texts: what the elements that have the member say, in their order. An
// element that says null, or has no such member, says nothing.
func (r *resolver) resolveElements(p *NamedValue, members []memberSchema) error {
	field := "properties." + string(p.Name)
	if p.Value.Kind == RawList && len(p.Value.List) == 0 {
		return nil
	}
	if p.Value.Kind != RawOther {
		return invalid("wrong_type", field, "want a list of objects, got "+p.Value.Kind.String())
	}
	var elements []map[string]json.RawMessage
	if err := json.Unmarshal(p.Value.Text, &elements); err != nil {
		return invalid("wrong_type", field, "want a list of objects")
	}
	if len(elements) > maxListItems {
		return invalid("wrong_type", field, fmt.Sprintf("a list holds at most %d elements",
			maxListItems))
	}
	for i := range members {
		m := &members[i]
		list := make([][]byte, 0, len(elements))
		for j, e := range elements {
			raw, ok := e[m.member]
			if !ok || string(raw) == "null" {
				continue
			}
			text, ok := memberText(raw, m.typ)
			if !ok {
				return invalid("wrong_type", fmt.Sprintf("%s[%d].%s", field, j, m.member),
					"want "+m.typ.String())
			}
			list = append(list, text)
		}
		if len(list) == 0 {
			continue
		}
		v, problem := r.values.listValue(list)
		if problem != nil {
			problem.Field = field
			return problem
		}
		r.patch.Attrs = append(r.patch.Attrs, storage.AttrValue{ID: m.id, Value: v})
	}
	return nil
}

// memberText is what a member says, as a rule reads it; false for another type.
func memberText(raw []byte, typ definition.AttrType) ([]byte, bool) {
	raw = bytes.TrimSpace(raw)
	switch typ {
	case definition.TypeString:
		var text string
		err := json.Unmarshal(raw, &text)
		return []byte(text), err == nil
	case definition.TypeBool:
		return raw, string(raw) == "true" || string(raw) == "false"
	case definition.TypeInt:
		v, problem := intValue(&RawValue{Kind: RawNumber, Text: raw})
		return strconv.AppendInt(nil, int64(v.Num), 10), problem == nil
	case definition.TypeFloat:
		_, problem := floatValue(&RawValue{Kind: RawNumber, Text: raw})
		return raw, problem == nil
	}
	return nil, false
}
