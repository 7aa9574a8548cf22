package engine

import (
	"encoding/binary"
	"math"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// An accept or convert that takes units of totals marks each in the idempotency
// keys of its group, in the same frame: in which window, and what it cost. The
// outcome `refund` of the same item gives back exactly what is marked, to the window
// that it was counted in: a unit of yesterday belongs to yesterday. Marks are kept
// for seven days, as all idempotency keys; after that nothing is given back. An item
// is refunded once.

// Parts of a mark.
const (
	markWindow = 0x40 // the body is the window
	markCost   = 0x41 // the body is the cost in minor units
	markRefund = 0x42 // the item has been refunded
	markAgain  = 0x43 // and bought once more
)

// refundKey is the idempotency key that says that an item has been refunded.
func (b *Batch) refundKey(t *token) uint64 { return b.markKey(t, storage.CounterKey{}, markRefund) }

// markKey is the idempotency key of one part of a mark; never 0.
func (b *Batch) markKey(t *token, k storage.CounterKey, part byte) uint64 {
	b.text = append(b.appendItem(b.text[:0], t), part)
	b.text = binary.BigEndian.AppendUint32(b.text, uint32(k.Cap))
	b.text = binary.BigEndian.AppendUint32(b.text, k.Dim)
	return b.e.store.DedupHash(dedupContact, b.text)
}

// mark notes that an item has taken a unit of a total. A cost beyond 2^32 minor
// units is not noted, nor the use then: it is not given back.
func (b *Batch) mark(f *fact, k *storage.HeldKey) error {
	if k.Cost > math.MaxUint32 {
		return nil
	}
	parts := [...]struct {
		part byte
		body uint32
	}{{markWindow, k.Window}, {markCost, uint32(k.Cost)}}
	for _, p := range parts {
		if p.part == markCost && k.Cost == 0 {
			continue
		}
		b.stamp(storage.EffectUse, storage.NoOrd)
		b.effect.DedupKey, b.effect.DedupBody = b.markKey(f.token, k.Key, p.part), p.body
		b.effect.Use = storage.UseEffect{At: toSecUp(f.at)}
		if err := b.append(f.group); err != nil {
			return err
		}
	}
	return nil
}

// isPurchase tells whether what happened can be refunded.
func (f *fact) isPurchase() bool {
	return f.on&(definition.CountAccept|definition.CountConvert) != 0
}

// heldUnits are the totals that a confirm will count, in the windows that it counts
// them in.
func (b *Batch) heldUnits(f *fact, held storage.Held, holds bool) (taken []storage.HeldKey) {
	for i := 0; holds && f.isPurchase() && i < held.Len(); i++ {
		k := held.Key(i)
		if !k.Total || k.CountOn&uint16(f.on) == 0 ||
			b.snap.Plan.TotalEarly(k.Key.Cap, confirmedAt(f, held)) {
			continue
		}
		if w, ok := b.snap.Plan.TotalWindow(k.Key.Cap, confirmedAt(f, held)); ok && w < k.Window {
			k.Window = w
		}
		taken = append(taken, k)
	}
	return taken
}

// markAll notes what a purchase has taken of totals: held units that it confirmed,
// and b.keys.
func (b *Batch) markAll(f *fact, taken []storage.HeldKey) error {
	if !f.isPurchase() {
		return nil
	}
	for i := range b.keys {
		if b.keys[i].Total {
			taken = append(taken, b.keys[i])
		}
	}
	for i := range taken {
		if err := b.mark(f, &taken[i]); err != nil {
			return err
		}
	}
	return nil
}

// confirmedAt is when a use that a reservation holds happened: between the end of
// the second of the grant and the expiry.
func confirmedAt(f *fact, held storage.Held) storage.UnixMsec {
	at := max(f.at, storage.UnixMsec(held.Granted())*1000+999)
	return min(at, storage.UnixMsec(held.Expires())*1000)
}

// refund gives back what an item holds or has taken of totals. It reports a repeat
// when there is nothing, or when the item was refunded before.
func (b *Batch) refund(f *fact) (LineFlags, error) {
	var held storage.Held
	state := storage.ReservationUnknown
	if f.ord != storage.NoOrd {
		held, state = f.group.Contact(f.ord).Reservation(f.token.Reservation)
	}
	if state == storage.ReservationOpen && onlyStock(held) {
		b.stamp(storage.EffectRelease, f.ord)
		b.effect.Resolve = storage.ResolveEffect{ID: f.token.Reservation}
		return 0, b.append(f.group)
	}
	once := b.refundKey(f.token)
	of, ok := b.decideFact(f)
	if _, done := b.seen(f.group, once); done && !b.given || !ok {
		return FlagRepeat, nil
	}
	given, err := b.give(f, of, once)
	if err != nil || given || b.given {
		return 0, err
	}
	return FlagRepeat, nil
}

// give gives back what an item has taken of totals in the fact's group, where it counts,
// and remembers once; it tells whether there was anything.
func (b *Batch) give(f *fact, of decide.Fact, once uint64) (bool, error) {
	var units []storage.BlockEffect
	keys := b.refundable(of)
	for i := range keys {
		if u, ok := b.marked(f, &keys[i], &of); ok {
			units = append(units, u)
		}
	}
	if len(units) == 0 {
		return false, nil
	}
	b.stamp(storage.EffectRefund, storage.NoOrd)
	b.effect.DedupKey, b.effect.Refund = once, units
	return true, b.append(f.group)
}

// refundable sets b.keys to the counters that a purchase may have taken of, and returns
// them.
func (b *Batch) refundable(of decide.Fact) []storage.HeldKey {
	of.CountOn, of.Late = definition.CountAccept|definition.CountConvert, true
	b.keys = b.snap.Plan.AppendReactionKeys(b.keys[:0], of)
	return b.keys
}

// marked finds what an item has taken of one counter in the fact's group. Of a budget
// that spends values a refund with a value gives back no more than that.
func (b *Batch) marked(
	f *fact, k *storage.HeldKey, of *decide.Fact,
) (u storage.BlockEffect, ok bool) {
	i, known := b.snap.Plan.CapByCounter(k.Key.Cap)
	window, seen := f.group.SeenDedup(b.markKey(f.token, k.Key, markWindow))
	if !k.Total || !known || !seen {
		return u, false
	}
	c := b.snap.Plan.Caps[i].Def
	u = storage.BlockEffect{Key: storage.TotalKey{CounterKey: k.Key, Window: window}, Units: 1}
	if c.Currency != "" {
		cost, seen := f.group.SeenDedup(b.markKey(f.token, k.Key, markCost))
		if u.Units = int64(cost); !seen {
			return u, false
		}
	}
	if c.SpendsValue && of.HasValue {
		u.Units = min(u.Units, definition.WholeMinorUnits(of.Value, c.Currency))
	}
	return u, u.Units > 0
}
