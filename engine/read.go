package engine

import (
	"cmp"
	"fmt"
	"slices"

	"tact/engine/definition"
	"tact/storage"
)

// User reads a person back. It errors with a ProblemMissing for an unknown id.
func (e *Engine) User(id []byte) (*UserView, error) { return e.UserOf(PersonRef{UserID: id}) }

// PersonRef names a person: by user id, or else by an identity that leads to them.
type PersonRef struct {
	UserID   []byte
	Identity IdentityRef
}

// canonicalOf returns the canonical id of whom p names. By a user id nobody need be
// there; an identity that leads to nobody is a ProblemMissing.
func (e *Engine) canonicalOf(p PersonRef) ([]byte, error) {
	if len(p.Identity.Type) == 0 {
		return p.UserID, checkUserID(p.UserID, "user_id")
	}
	id, _, err := e.resolveIdentities(e.snap.Load(), []IdentityRef{p.Identity}, nil)
	if err == nil && id == nil {
		err = &Problem{
			Class: ProblemMissing, Code: "user_not_found", Field: "identity",
			Detail: fmt.Sprintf("no user has the %s %q", p.Identity.Type, p.Identity.Value),
		}
	}
	return id, err
}

// UserOf is User of whoever p names. UserID of the view is empty when the person is
// known by an identity alone.
func (e *Engine) UserOf(p PersonRef) (*UserView, error) {
	id, err := e.canonicalOf(p)
	if err != nil {
		return nil, err
	}
	g := e.store.GroupOf(e.store.SlotOf(workspaceID, id))
	hash := e.store.IndexHash(workspaceID, id)
	g.Lock()
	defer g.Unlock()
	ord, ok := g.Find(workspaceID, hash, id)
	if !ok {
		return nil, &Problem{
			Class: ProblemMissing, Code: "user_not_found", Field: "user_id",
			Detail: fmt.Sprintf("no user %q", id),
		}
	}
	return e.viewUser(g, ord, id), nil
}

// userIDOf is the user id in a canonical id, "" of a person known by an identity alone.
func userIDOf(id []byte) string {
	if len(id) > 0 && id[0] == 0 {
		return ""
	}
	return string(id)
}

// viewUser reads a person back; the group is locked.
func (e *Engine) viewUser(g *storage.Group, ord storage.Ord, id []byte) *UserView {
	row, profile := g.Row(ord), g.Profile(ord)
	v := &UserView{
		UserID: userIDOf(id), Visitor: row.Flags&storage.RowVisitor != 0,
		Timezone: e.store.NameOf(storage.DictZone, profile.Zone()),
		Locale:   e.store.NameOf(storage.DictLocale, profile.Locale()),
	}
	e.viewProfile(v, profile)
	e.viewLists(v, profile)
	e.viewTail(v, g.Tail(ord))
	return v
}

func (e *Engine) viewProfile(v *UserView, p storage.Profile) {
	name := e.store.NameOf
	p.EachIdentity(func(i storage.Identity) bool {
		v.Identities = append(v.Identities, IdentityView{
			name(storage.DictIdentityType, i.Type), string(i.Value),
		})
		return true
	})
	p.EachAttr(func(id storage.Name, value storage.Value) bool {
		value.Bytes = slices.Clone(value.Bytes)
		v.Attributes = append(v.Attributes, AttributeView{name(storage.DictAttribute, id), value})
		return true
	})
	e.viewTags(v, p, e.clock.Now())
	p.EachSegment(func(s storage.Name) bool {
		v.Segments = append(v.Segments, name(storage.DictSegment, s))
		return true
	})
	p.EachConsent(func(c storage.Consent) bool {
		v.Consents = append(v.Consents, ConsentView{
			Purpose: name(storage.DictPurpose, c.Purpose),
			Channel: definition.Channel(c.Channel).String(),
			Source:  name(storage.DictSource, c.Source), Granted: c.Granted, At: c.At,
			Text: name(storage.DictConsentText, c.Text),
		})
		return true
	})
	for ch := range definition.ChannelCount {
		if p.Blacklisted(uint8(ch)) {
			v.Blacklist = append(v.Blacklist, ch.String())
		}
	}
	p.EachAddress(func(channel uint8, value []byte) bool {
		ch := definition.Channel(channel).String()
		if n := len(v.Addresses); n == 0 || v.Addresses[n-1].Channel != ch {
			v.Addresses = append(v.Addresses, AddressView{Channel: ch})
		}
		last := &v.Addresses[len(v.Addresses)-1]
		last.Values = append(last.Values, string(value))
		return true
	})
}

func (e *Engine) viewTail(v *UserView, tail storage.Tail) {
	name := e.store.NameOf
	tail.Each(func(t storage.TailEvent) bool {
		ev := EventView{
			Event: name(storage.DictEvent, t.Event), Occurred: t.Occurred, Clamped: t.Clamped,
			Offer: name(storage.DictOffer, t.Item),
		}
		t.EachProp(func(id storage.Name, value storage.Value) bool {
			value.Bytes = slices.Clone(value.Bytes)
			ev.Props = append(ev.Props, AttributeView{name(storage.DictProperty, id), value})
			return true
		})
		v.Events = append(v.Events, ev)
		return true
	})
}

// Stats returns the statistics of all groups, summed per row, sorted by offer,
// treatment, variant and what was counted. Cost: all rows of all groups.
func (e *Engine) Stats() []StatsRow {
	type sum struct {
		n     uint64
		value float64
	}
	sums := make(map[storage.StatsKey]sum)
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		g.Lock()
		g.StatsRange(func(k storage.StatsKey, n uint64, value float64) {
			s := sums[k]
			sums[k] = sum{s.n + n, s.value + value}
		})
		g.Unlock()
	}
	name := e.store.NameOf
	rows := make([]StatsRow, 0, len(sums))
	for k, s := range sums {
		rows = append(rows, StatsRow{
			OfferID: name(storage.DictOffer, k.Offer), TreatmentID: e.treatmentID(k.Treatment),
			Variant: name(storage.DictVariant, k.Variant), What: name(storage.DictOutcome, k.What),
			N: s.n, Value: s.value,
		})
	}
	slices.SortFunc(rows, func(a, b StatsRow) int {
		return cmp.Or(cmp.Compare(a.OfferID, b.OfferID), cmp.Compare(a.TreatmentID, b.TreatmentID),
			cmp.Compare(a.Variant, b.Variant), cmp.Compare(a.What, b.What))
	})
	return rows
}

// treatmentID returns the treatment's id inside its offer: the dictionary holds
// "offer/treatment", and neither part holds a slash.
func (e *Engine) treatmentID(name storage.Name) string {
	full := e.store.NameOf(storage.DictTreatment, name)
	for i := range full {
		if full[i] == '/' {
			return full[i+1:]
		}
	}
	return full
}
