package engine

import (
	"bytes"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"tact/engine/definition"
	"tact/storage"
)

// Bounds of one line.
const (
	maxNameRunes  = 64 // names of attributes, tags, events, properties
	maxIdentities = 16 // of one line
)

// checkName enforces the shape of data names: UTF-8, 1–64 characters, no
// control characters.
func checkName(name []byte, field string) error {
	if n := utf8.RuneCount(name); n == 0 || n > maxNameRunes || !utf8.Valid(name) {
		return invalid("bad_name", field, "want 1 to 64 characters of UTF-8")
	}
	if control(name) {
		return invalid("bad_name", field, "control characters are not allowed")
	}
	if !norm.NFC.IsNormal(name) {
		return invalid("bad_name", field, "want Unicode normal form C")
	}
	return nil
}

// control tells whether text holds a control character (C0, DEL, C1).
func control(text []byte) bool {
	for _, c := range text {
		switch {
		case c < ' ' || c == 0x7f:
			return true
		case c >= utf8.RuneSelf:
			return bytes.ContainsFunc(text, unicode.IsControl)
		}
	}
	return false
}

// nameSource gives names their dictionary ids: the store's, or those of a check
// without a store.
type nameSource struct {
	lookup func(storage.DictKind, []byte) (storage.Name, bool)
	intern intern
	zone   func(string) (storage.Name, error)
	now    func() storage.UnixMsec
}

// resolver turns what a caller wrote into ids and typed values, under one
// snapshot. It changes nothing but the dictionary.
type resolver struct {
	names  *nameSource
	snap   *Snapshot
	patch  storage.Patch
	values values

	clamped bool // a time of the line lay in the future and was replaced
	replace bool // the line's tags replace all others
}

// undeclared mints the id of a name that no document declares, or refuses it.
func (r *resolver) undeclared(
	kind storage.DictKind, name []byte, field string,
) (storage.Name, error) {
	if kind == storage.DictTag && len(name) > 0 && name[0] == 0 { // levels of models
		return 0, checkName(name, field)
	}
	if r.snap.Set.Workspace.UndeclaredReject {
		return 0, invalid("undeclared", field, fmt.Sprintf("%q is not declared", name))
	}
	return r.mint(kind, name, field)
}

func (r *resolver) mint(kind storage.DictKind, name []byte, field string) (storage.Name, error) {
	if id, ok := r.names.lookup(kind, name); ok {
		return id, nil
	}
	if err := checkName(name, field); err != nil {
		return 0, err
	}
	id, err := r.names.intern(kind, string(name))
	return id, storeProblem(err)
}

// resolvePatch turns a line into r.patch, but for its identities. Nothing is
// applied.
func (r *resolver) resolvePatch(doc *UserDoc) error {
	p := &r.patch
	*p = storage.Patch{
		Identities: p.Identities[:0], Attrs: p.Attrs[:0], TagsRemove: p.TagsRemove[:0],
		TagsAdd: p.TagsAdd[:0], Consents: p.Consents[:0], Addresses: p.Addresses[:0],
	}
	r.values.buf, r.clamped = r.values.buf[:0], false
	steps := [...]func(*UserDoc) error{
		r.resolveAttributes, r.resolveTags, r.resolveTiers, r.resolveConsents, r.resolveChannels,
		r.resolvePlace,
	}
	for _, step := range steps {
		if err := step(doc); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) resolveAttributes(doc *UserDoc) error {
	for i := range doc.Attributes {
		a := &doc.Attributes[i]
		field := "attributes." + string(a.Name)
		schema, declared := r.snap.attributes[string(a.Name)]
		id := schema.id
		if !declared {
			var err error
			if id, err = r.undeclared(storage.DictAttribute, a.Name, field); err != nil {
				return err
			}
		}
		out := storage.AttrValue{ID: id, Remove: a.Value.Kind == RawNull}
		if !out.Remove {
			var problem *Problem
			if declared {
				out.Value, problem = r.values.typed(&a.Value, schema.typ, schema.values)
			} else {
				out.Value, problem = r.values.inferred(&a.Value)
			}
			if problem != nil {
				problem.Field = field
				return problem
			}
		}
		r.patch.Attrs = append(r.patch.Attrs, out)
	}
	return nil
}

func (r *resolver) resolveConsents(doc *UserDoc) error {
	now := r.names.now()
	for i := range doc.Consents {
		c := &doc.Consents[i]
		field := fmt.Sprintf("consents[%d]", i)
		ch, ok := definition.ChannelByName(string(c.Channel))
		if !ok {
			return invalid("unknown_channel", field+".channel", fmt.Sprintf("%q", c.Channel))
		}
		purpose, err := r.mint(storage.DictPurpose, c.Purpose, field+".purpose")
		if err != nil {
			return err
		}
		out := storage.Consent{Purpose: purpose, Channel: uint8(ch), Granted: c.Granted}
		var clamped bool
		out.At, clamped = clampEventTime(c.At, now)
		r.clamped = r.clamped || clamped
		if len(c.Source) > 0 {
			if out.Source, err = r.mint(storage.DictSource, c.Source, field+".source"); err != nil {
				return err
			}
		}
		if len(c.Text) > 0 {
			field += ".text_version"
			if out.Text, err = r.mint(storage.DictConsentText, c.Text, field); err != nil {
				return err
			}
			if out.Text > storage.MaxConsentText {
				return invalid("limit", field, "more than 65,535 different text versions")
			}
		}
		r.patch.Consents = append(r.patch.Consents, out)
	}
	return nil
}

// resolveChannels resolves the blacklist and the addresses.
func (r *resolver) resolveChannels(doc *UserDoc) error {
	if doc.HasBlacklist {
		var set uint16
		for i, name := range doc.Blacklist {
			ch, ok := definition.ChannelByName(string(name))
			if !ok {
				return invalid("unknown_channel", fmt.Sprintf("blacklist[%d]", i), fmt.Sprintf("%q", name))
			}
			set |= 1 << ch
		}
		r.patch.Blacklist = &set
	}
	for i := range doc.Addresses {
		a := &doc.Addresses[i]
		ch, ok := definition.ChannelByName(string(a.Channel))
		if !ok {
			return invalid("unknown_channel", "addresses."+string(a.Channel), "not a channel")
		}
		r.patch.Addresses = append(r.patch.Addresses, storage.Address{
			Channel: uint8(ch), Values: a.Values,
		})
	}
	return nil
}

// resolvePlace resolves time zone and locale.
func (r *resolver) resolvePlace(doc *UserDoc) error {
	if doc.HasTimezone {
		var zone storage.Name
		if len(doc.Timezone) > 0 {
			id, err := r.names.zone(string(doc.Timezone))
			if err != nil {
				return invalid("unknown_timezone", "timezone", err.Error())
			}
			zone = id
		}
		r.patch.Zone = &zone
	}
	if doc.HasLocale {
		var locale storage.Name
		if len(doc.Locale) > 0 {
			id, err := r.mint(storage.DictLocale, doc.Locale, "locale")
			if err != nil {
				return err
			}
			locale = id
		}
		r.patch.Locale = &locale
	}
	return nil
}

// resolveClaims hashes the identities of a line.
func (b *Batch) resolveClaims(doc *UserDoc) error {
	b.claims = b.claims[:0]
	if len(doc.Identities) > maxIdentities {
		return invalid("limit", "identities", "at most 16 a line")
	}
	for i := range doc.Identities {
		ref := &doc.Identities[i]
		field := fmt.Sprintf("identities[%d]", i)
		if len(ref.Value) == 0 || len(ref.Value) > maxUserID {
			return invalid("bad_id", field+".value", "want 1 to 128 bytes")
		}
		typ, err := b.mint(storage.DictIdentityType, ref.Type, field+".type")
		if err != nil {
			return err
		}
		value := normalised(ref)
		hash := b.e.store.IdentityHash(workspaceID, typ, value)
		b.claims = append(b.claims, claim{
			line: i, identity: storage.Identity{Type: typ, Value: value}, hash: hash,
			slot: storage.IdentitySlot(hash), stripe: int(hash[0]) % len(b.e.stripes.locks),
		})
		b.patch.Identities = append(b.patch.Identities, b.claims[i].identity)
	}
	return nil
}

// sortClaims brings the claims into the order in which their stripes are locked.
func (b *Batch) sortClaims() {
	slices.SortFunc(b.claims, func(x, y claim) int { return x.stripe - y.stripe })
}

// find returns where a person with a canonical id lives.
func (e *Engine) find(id []byte) (storage.PersonRef, bool) {
	g := e.store.GroupOf(e.store.SlotOf(workspaceID, id))
	hash := e.store.IndexHash(workspaceID, id)
	g.Lock()
	defer g.Unlock()
	ord, ok := g.Find(workspaceID, hash, id)
	if !ok {
		return storage.PersonRef{}, false
	}
	return storage.PersonRef{Group: g.GroupID(), Ord: ord, Person: g.Row(ord).Person}, true
}

// claimOwner returns the person who holds an identity: the one it points at,
// if that person's profile lists it.
func (e *Engine) claimOwner(c *claim) (storage.PersonRef, bool) {
	ig := e.store.GroupOf(c.slot)
	ig.Lock()
	ref, ok := ig.FindIdentity(c.hash)
	ig.Unlock()
	if !ok {
		return ref, false
	}
	g := e.store.Group(ref.Group)
	if g == nil {
		return ref, false
	}
	g.Lock()
	defer g.Unlock()
	row := g.Row(ref.Ord)
	if row == nil || row.Person != ref.Person || row.Flags&storage.RowGone != 0 {
		return ref, false
	}
	return ref, g.Profile(ref.Ord).HasIdentity(c.identity.Type, c.identity.Value)
}

// appendClaim points an identity at a person, unless it already does.
func (b *Batch) appendClaim(c *claim, ref storage.PersonRef) error {
	g := b.e.store.GroupOf(c.slot)
	g.Lock()
	defer g.Unlock()
	if old, ok := g.FindIdentity(c.hash); ok && old == ref {
		if frame := g.LastFrame(); frame > 0 { // it may not be durable yet
			b.frames[g.GroupID()] = max(b.frames[g.GroupID()], frame)
		}
		return nil
	}
	b.stamp(storage.EffectClaim, storage.NoOrd)
	b.effect.Claim = storage.ClaimEffect{
		Workspace: workspaceID, Slot: c.slot, Hash: c.hash, Target: ref,
	}
	return b.append(g)
}

// resolveIdentities returns the canonical id that a list of identities leads
// to, in the workspace's identity order: nil when none is known. conflict tells
// that two of them belong to two people. dst receives the id.
func (e *Engine) resolveIdentities(
	snap *Snapshot, refs []IdentityRef, dst []byte,
) (id []byte, conflict bool, err error) {
	best := -1
	var winner storage.PersonRef
	for i := range refs {
		typ, ok := e.store.LookupBytes(storage.DictIdentityType, refs[i].Type)
		if !ok {
			continue
		}
		value := normalised(&refs[i])
		c := claim{identity: storage.Identity{Type: typ, Value: value}}
		c.hash = e.store.IdentityHash(workspaceID, typ, value)
		c.slot = storage.IdentitySlot(c.hash)
		ref, ok := e.claimOwner(&c)
		if !ok {
			continue
		}
		rank := identityRank(snap.Set.Workspace.IdentityOrder, refs[i].Type)
		if best >= 0 && ref != winner {
			conflict = true
		}
		if best < 0 || rank < best {
			best, winner = rank, ref
		}
	}
	if best < 0 {
		return nil, false, nil
	}
	g := e.store.Group(winner.Group)
	g.Lock()
	defer g.Unlock()
	return append(dst, g.ID(winner.Ord)...), conflict, nil
}

// identityRank is the position of an identity type in the workspace's order;
// types that are not listed come last.
func identityRank(order []string, typ []byte) int {
	for i, t := range order {
		if t == string(typ) {
			return i
		}
	}
	return len(order)
}

// resolveEvent resolves an event's name and its indexed properties.
func (r *resolver) resolveEvent(doc *EventDoc) (storage.Name, []storage.AttrValue, error) {
	r.values.buf = r.values.buf[:0]
	r.patch.Attrs = r.patch.Attrs[:0]
	schema, declared := r.snap.events[string(doc.Event)]
	if !declared {
		id, err := r.undeclared(storage.DictEvent, doc.Event, "event")
		return id, nil, err
	}
	for i := range doc.Properties {
		p := &doc.Properties[i]
		if members := schema.lists[string(p.Name)]; members != nil && p.Value.Kind != RawNull {
			if err := r.resolveElements(p, members); err != nil {
				return 0, nil, err
			}
		}
		prop, ok := schema.indexed[string(p.Name)]
		if !ok || p.Value.Kind == RawNull {
			continue
		}
		v, problem := r.values.typed(&p.Value, prop.typ, nil)
		if problem != nil {
			problem.Field = "properties." + string(p.Name)
			return 0, nil, problem
		}
		r.patch.Attrs = append(r.patch.Attrs, storage.AttrValue{ID: prop.id, Value: v})
	}
	return schema.id, r.patch.Attrs, nil
}

// zone returns the location of a zone id, or nil.
func (e *Engine) zone(id uint16) *time.Location { return e.zones.at(storage.Name(id)) }
