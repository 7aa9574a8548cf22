package engine

import (
	"slices"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// take is one use taken from the ledger of totals by key index of the result,
// to be given back when the effect that carries it is not appended.
type take struct {
	key   storage.HeldKey
	index int32 // into Result.Keys
}

// takeTotals takes a unit of every total cap of the picks, all or none. In a
// dry run it only looks.
func (e *Engine) takeTotals(live bool, w *decideWork) bool {
	totals := e.store.Totals()
	for i := range w.result.Keys {
		k := &w.result.Keys[i]
		if !k.Total {
			continue
		}
		limit, since := w.snap.offerRule(k, w.now)
		ok := false
		if live {
			ok = totals.Take(k, since, limit)
		} else {
			ok = totals.UsedSince(k.Key, since) <= limit-k.Units()
		}
		if !ok {
			w.scarce(totals, k)
			w.giveBack(totals)
			w.snap.paced(&w.over, k, totals, w.now)
			return false
		}
		if live {
			w.takes = append(w.takes, take{*k, int32(i)})
		}
	}
	if full := e.soldOut(w); full != nil {
		w.giveBack(totals)
		w.full(totals, full)
		return false
	}
	return true
}

// soldOut looks for a pick whose stock is used up: a total cap on a reaction, or on a
// contact of other channels, takes nothing at the decision, but a full one is not
// offered.
func (e *Engine) soldOut(w *decideWork) *storage.HeldKey {
	for i := range w.result.Items {
		it := &w.result.Items[i]
		if !w.snap.stocked[it.Offer] || it.Fallback {
			continue
		}
		w.stock = w.snap.Plan.AppendUnheldTotals(w.stock[:0], decide.Fact{
			Offer: it.Offer, Placement: w.slots[it.Slot].Placement,
			Channel: definition.Channel(it.Channel), At: w.now,
		})
		for j := range w.stock {
			k := &w.stock[j]
			limit, since := w.snap.offerRule(k, w.now)
			if e.store.Totals().UsedSince(k.Key, since) > limit-k.Units() {
				w.snap.paced(&w.over, k, e.store.Totals(), w.now)
				return k
			}
		}
	}
	return nil
}

// scarce notes that a total has no more units than this try has taken.
func (w *decideWork) scarce(totals *storage.Totals, k *storage.HeldKey) {
	left := int64(0)
	for i := range w.takes {
		if t := &w.takes[i].key; t.Key == k.Key {
			left += t.Units()
		}
	}
	if left == 0 {
		w.full(totals, k)
		return
	}
	for i := range w.over.Scarce {
		if s := &w.over.Scarce[i]; s.Key == k.Key {
			s.Left = left
			return
		}
	}
	w.over.Scarce = append(w.over.Scarce, decide.ScarceTotal{Key: k.Key, Left: left})
}

// full notes that a total has no unit left, and when it has one again.
func (w *decideWork) full(totals *storage.Totals, k *storage.HeldKey) {
	w.over.AddFull(k.Key, k.Cost, w.snap.freeAt(totals, k, w.now))
}

func (w *decideWork) giveBack(totals *storage.Totals) {
	for i := range w.takes {
		totals.Give(&w.takes[i].key)
	}
	w.takes = w.takes[:0]
}

// carried notes that the keys [from, from+n) are in the frame: their units are
// given back by what becomes of the effect, and no longer by us.
func (w *decideWork) carried(from, n int32) {
	w.takes = slices.DeleteFunc(w.takes, func(t take) bool {
		return t.index >= from && t.index < from+n
	})
}
