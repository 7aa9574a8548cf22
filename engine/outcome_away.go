package engine

import (
	"tact/engine/definition"
	"tact/storage"
)

// What happened to an item is known by idempotency keys, which lie in the group of the
// person who had it then. When people are united or split, the keys stay where they are:
// for some days an outcome of either looks through all groups.

// awayKey is an idempotency key of another group.
type awayKey struct {
	key  uint64
	body uint32
}

// seen is Group.SeenDedup of g, and of what lookAway has found.
func (b *Batch) seen(g *storage.Group, key uint64) (body uint32, ok bool) {
	if body, ok = g.SeenDedup(key); ok {
		return body, true
	}
	for i := range b.away {
		if b.away[i].key == key {
			return b.away[i].body, true
		}
	}
	return 0, false
}

// keysAway tells whether other groups may know what happened to an item. g is locked.
func (b *Batch) keysAway(g *storage.Group, t *token) bool {
	ord := b.personOf(g, t)
	return ord != storage.NoOrd && g.Contact(ord).KeysAway(toSecUp(b.e.clock.Now()))
}

// lookAway finds the keys that an outcome may meet in groups other than g. No group is
// locked, and none gets a key of the item meanwhile but g: what comes for a person is
// sent to one group at a time.
// Cost: each group is locked for some cache lines a key.
func (b *Batch) lookAway(g *storage.Group, doc *OutcomeDoc, t *token) {
	keys := b.keysOf(doc, t)
	for i := range b.e.store.Groups() {
		other := b.e.store.Group(storage.GroupID(i))
		if other == g {
			continue
		}
		other.Lock()
		for _, key := range keys {
			if body, ok := other.SeenDedup(key); ok {
				b.away = append(b.away, awayKey{key, body})
			}
		}
		other.Unlock()
	}
}

// keysOf returns the idempotency keys that tell what happened to an item before an
// outcome of it.
func (b *Batch) keysOf(doc *OutcomeDoc, t *token) []uint64 {
	keys := []uint64{b.outcomeKey(doc, t)}
	f := fact{ord: storage.NoOrd, token: t, doc: doc}
	f.on, f.custom = b.counted(doc.Outcome)
	switch {
	case f.on&definition.CountContacts != 0:
		for _, f.on = range contactKinds() {
			keys = append(keys, b.onceKey(&f))
		}
	case string(doc.Outcome) == outcomeRefund:
		keys = append(keys, b.refundKey(t))
	case f.on&definition.CountReactions != 0:
		keys = append(keys, b.onceKey(&f), b.refundKey(t),
			b.markKey(t, storage.CounterKey{Dim: uint32(f.on)}, markAgain))
	}
	return keys
}

// refundAway gives back what an item has taken of totals in groups other than g: a unit
// is given back where it counts, in a frame of that group. Whoever asks again after a
// crash between that and the outcome's own finds it done. No group is locked.
func (b *Batch) refundAway(g *storage.Group, doc *OutcomeDoc, t *token) error {
	if string(doc.Outcome) != outcomeRefund {
		return nil
	}
	f := fact{ord: storage.NoOrd, token: t, doc: doc}
	of, ok := b.decideFact(&f)
	once := b.refundKey(t)
	g.Lock()
	_, done := b.seen(g, once)
	if !done {
		_, done = b.seen(g, b.outcomeKey(doc, t))
	}
	g.Unlock()
	if done || !ok {
		return nil
	}
	for i := range b.e.store.Groups() {
		if f.group = b.e.store.Group(storage.GroupID(i)); f.group == g {
			continue
		}
		f.group.Lock()
		given, err := b.give(&f, of, once)
		f.group.Unlock()
		if b.given = b.given || given; err != nil {
			return err
		}
	}
	return nil
}

// contactKinds are the kinds of contact that caps count.
func contactKinds() [3]definition.CountOn {
	return [...]definition.CountOn{
		definition.CountImpression, definition.CountSend, definition.CountDelivered,
	}
}
