package engine

import (
	"tact/storage"
)

// Migration is an attribute whose type a publish changed, and what became of the
// values that people had.
type Migration struct {
	Attribute, From, To string
	Kept, Lost          uint64 // people who keep a value, and who lose theirs
}

// typeChange is an attribute that says how values of another type are migrated.
type typeChange struct {
	attributeSchema
	cast bool
}

// stale says whether a person's value is of another type than declared, and what
// becomes of it: ok is false when it is lost.
func (c *typeChange) stale(vs *values, p storage.Profile) (next storage.Value, ok, stale bool) {
	v, held := p.Attr(c.id)
	if !held || v.Kind == storage.ValueKind(c.typ) {
		return v, true, false
	}
	if !c.cast {
		return storage.Value{}, false, true
	}
	next, ok = vs.castValue(v, c.typ, c.values)
	return next, ok, true
}

// typeChanges are the attributes of a snapshot that say `migrate`.
func (s *Snapshot) typeChanges() []typeChange {
	var all []typeChange
	for _, a := range s.Set.Attributes {
		if a.Migrate != "" {
			all = append(all, typeChange{s.attributes[a.ID], a.Migrate == "cast"})
		}
	}
	return all
}

// countMigrations says, for each type that snap changes against previous, how many
// people keep their value and how many lose it. Groups are locked for 64 people at
// a time. Cost: a look at every profile, when some type changes.
func (e *Engine) countMigrations(previous, snap *Snapshot) []Migration {
	var out []Migration
	var changes []typeChange
	for _, a := range snap.Set.Attributes {
		old, ok := previous.attributes[a.ID]
		if ok && old.typ != a.Type {
			out = append(out, Migration{
				Attribute: a.ID, From: old.typ.String(), To: a.Type.String(),
			})
			changes = append(changes, typeChange{snap.attributes[a.ID], a.Migrate == "cast"})
		}
	}
	if len(changes) == 0 {
		return nil
	}
	var vs values
	e.eachProfile(func(p storage.Profile) {
		vs.buf = vs.buf[:0]
		for i := range changes {
			switch _, ok, stale := changes[i].stale(&vs, p); {
			case stale && ok:
				out[i].Kept++
			case stale:
				out[i].Lost++
			}
		}
	})
	return out
}

// eachProfile calls f for everybody's profile, 64 people under one lock.
func (e *Engine) eachProfile(f func(storage.Profile)) {
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		for at, more := storage.Ord(0), true; more; {
			g.Lock()
			end := min(at+sweepBlock, storage.Ord(g.Len()))
			for ; at < end; at++ {
				if g.Row(at) != nil {
					f(g.Profile(at))
				}
			}
			more = at < storage.Ord(g.Len())
			g.Unlock()
		}
	}
}

// migration is how far the sweep has come with the types of one revision.
type migration struct {
	revision uint32
	at       []storage.Ord // by group: the next person
}

// sweepTypes brings values of a type that changed to the new type, or takes them
// out, for a bounded number of people of each group. Until it has come by, such a
// value counts as missing. It begins anew with each revision and each start, and
// passes over what is done.
func (e *Engine) sweepTypes() {
	snap := e.snap.Load()
	changes := snap.typeChanges()
	if len(changes) == 0 {
		return
	}
	m := &e.migrating
	if m.revision != snap.Revision || m.at == nil {
		*m = migration{snap.Revision, make([]storage.Ord, e.store.Groups())}
	}
	var vs values
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		for range 4 * sweepBlocks {
			g.Lock()
			end := min(m.at[i]+sweepBlock, storage.Ord(g.Len()))
			for ; m.at[i] < end; m.at[i]++ {
				if err := e.migratePerson(g, m.at[i], changes, &vs); err != nil {
					e.log.Debug("values not migrated", "group", i, "err", err)
					break
				}
			}
			done := m.at[i] >= storage.Ord(g.Len()) || m.at[i] < end
			g.Unlock()
			if done {
				break
			}
		}
	}
}

func (e *Engine) migratePerson(
	g *storage.Group, o storage.Ord, changes []typeChange, vs *values,
) error {
	if g.Row(o) == nil {
		return nil
	}
	var patch storage.Patch
	vs.buf = vs.buf[:0]
	profile := g.Profile(o)
	for i := range changes {
		next, ok, stale := changes[i].stale(vs, profile)
		if stale {
			patch.Attrs = append(patch.Attrs, storage.AttrValue{
				ID: changes[i].id, Remove: !ok, Value: next,
			})
		}
	}
	if len(patch.Attrs) == 0 {
		return nil
	}
	_, err := g.Append(&storage.Effect{
		Kind: storage.EffectPatch, Ord: o, Time: e.clock.Now(), Patch: &patch,
	})
	return err
}
