package engine

import (
	"fmt"
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// rawOf is the RawValue of a document's value.
func rawOf(n *definition.Node) RawValue {
	switch n.Kind {
	case definition.NodeNull:
		return RawValue{}
	case definition.NodeBool:
		return RawValue{Kind: RawBool, Bool: n.Bool}
	case definition.NodeInt, definition.NodeFloat:
		return RawValue{Kind: RawNumber, Text: []byte(n.Text)}
	case definition.NodeString:
		return RawValue{Kind: RawString, Text: []byte(n.Text)}
	case definition.NodeList:
		v := RawValue{Kind: RawList}
		for _, item := range n.List {
			if item.Kind != definition.NodeString {
				return RawValue{Kind: RawOther}
			}
			v.List = append(v.List, []byte(item.Text))
		}
		return v
	}
	return RawValue{Kind: RawOther}
}

// docReader reads the user of a test; the first fault stays.
type docReader struct{ err error }

func (r *docReader) fault(n *definition.Node, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: user: %s", n.Pos, fmt.Sprintf(format, args...))
	}
}

func (r *docReader) text(n *definition.Node) []byte {
	if n == nil {
		return nil
	}
	if n.Kind != definition.NodeString {
		r.fault(n, "want a string")
		return nil
	}
	return []byte(n.Text)
}

func (r *docReader) texts(n *definition.Node) [][]byte {
	if n.Kind != definition.NodeList {
		r.fault(n, "want a list of strings")
		return nil
	}
	out := make([][]byte, 0, len(n.List))
	for _, item := range n.List {
		out = append(out, r.text(item))
	}
	return out
}

// userDocOf reads the `user` of a test: the shape of POST /v1/users plus id.
func userDocOf(n *definition.Node) (*UserDoc, error) {
	doc := &UserDoc{}
	if n == nil {
		return doc, nil
	}
	r := &docReader{}
	for _, k := range n.Keys {
		r.member(doc, k)
	}
	return doc, r.err
}

func (r *docReader) member(doc *UserDoc, k definition.Key) {
	switch k.Name {
	case "id", "user_id":
		doc.UserID = r.text(k.Value)
	case "attributes":
		for _, a := range k.Value.Keys {
			doc.Attributes = append(doc.Attributes, NamedValue{[]byte(a.Name), rawOf(a.Value)})
		}
	case "tags":
		for _, t := range k.Value.List {
			if t.Kind == definition.NodeString {
				doc.Tags = append(doc.Tags, TagDoc{Name: []byte(t.Text)})
				continue
			}
			doc.Tags = append(doc.Tags, TagDoc{r.text(t.Get("tag")), r.text(t.Get("is"))})
		}
	case "segments": // read by testRun.person
	case "consents":
		for _, c := range k.Value.List {
			doc.Consents = append(doc.Consents, r.consent(c))
		}
	case "blacklist":
		doc.HasBlacklist, doc.Blacklist = true, r.texts(k.Value)
	case "addresses":
		for _, a := range k.Value.Keys {
			address := AddressDoc{Channel: []byte(a.Name)}
			if a.Value.Kind == definition.NodeList {
				address.Values = r.texts(a.Value)
			} else {
				address.Values = [][]byte{r.text(a.Value)}
			}
			doc.Addresses = append(doc.Addresses, address)
		}
	case "timezone":
		doc.HasTimezone, doc.Timezone = true, r.text(k.Value)
	case "locale":
		doc.HasLocale, doc.Locale = true, r.text(k.Value)
	case "events":
		if len(k.Value.List) > 0 {
			r.fault(k.Value, "events of a test's user are not supported yet")
		}
	case "identities":
	default:
		r.fault(k.Value, "unknown field %q", k.Name)
	}
}

func (r *docReader) consent(n *definition.Node) ConsentDoc {
	c := ConsentDoc{
		Purpose: r.text(n.Get("purpose")), Channel: r.text(n.Get("channel")),
		Source: r.text(n.Get("source")),
	}
	if g := n.Get("granted"); g != nil {
		c.Granted = g.Bool
	}
	if at := r.text(n.Get("at")); len(at) > 0 {
		t, err := time.Parse(time.RFC3339Nano, string(at))
		if err != nil {
			r.fault(n, "bad time %q", at)
		}
		c.At = storage.UnixMsec(t.UnixMilli())
	}
	return c
}
