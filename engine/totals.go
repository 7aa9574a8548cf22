package engine

import (
	"cmp"
	"slices"
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// TotalView is one counter of a total cap in its present window, or in its
// lifetime.
type TotalView struct {
	CapID string
	Of    string // the offer, group, campaign, channel or placement; "" for all
	// Currency is that of a budget in money, whose figures are in its minor units;
	// "": they are uses.
	Currency string
	Spent    int64 // what happened
	Held     int64 // what open reservations hold
	Burnt    int64 // of Spent, what a loss of power may have taken: see feedTotals
	Limit    int64
	Planned  int64 // what the plan of the pacing gives by now; the limit without it
}

const (
	// feedEvery is how often blocks of totals are looked after: a block lasts a
	// second, and a new one is asked for when half of it is drawn.
	feedEvery = 100 * time.Millisecond
	// oneByOne is how many uses before its limit a total waits for the disk with
	// each: a loss of power must not take the last units of a stock.
	oneByOne = 32
)

// feedTotals lets decisions that use totals be answered before they are durable:
// each counter that is in demand has a durable block of what it used in the last
// second, but for the last 32 uses before its limit. What is left of a block after
// a loss of power is burnt: see storage.BurnEffect.
func (e *Engine) feedTotals() {
	snap, now := e.snap.Load(), e.clock.Now()
	if snap == nil {
		return
	}
	err := e.store.FeedTotals(now, func(k storage.TotalKey) int64 {
		i, ok := snap.Plan.CapByCounter(k.Cap)
		if !ok {
			return 0
		}
		limit, since := snap.Plan.TotalRule(k.Cap, now)
		return limit - e.store.Totals().UsedSince(k.CounterKey, since) -
			oneByOne*snap.Plan.GreatestCost(i)
	})
	if err != nil {
		e.log.Debug("blocks of totals are not renewed", "err", err)
	}
}

// nearLimit tells whether a total is so near its limit that its uses wait.
func (e *Engine) nearLimit(w *decideWork, k *storage.HeldKey) bool {
	limit, since := w.snap.Plan.TotalRule(k.Key.Cap, w.now)
	return limit-e.store.Totals().UsedSince(k.Key, since) < oneByOne*k.Units()
}

// Totals returns the counters of the total caps that are in force, by cap and
// then by what they count. Counters without a use are not there.
func (e *Engine) Totals() []TotalView {
	all := e.totalsOf(e.snap.Load())
	out := make([]TotalView, 0, len(all))
	for _, v := range all {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b TotalView) int {
		return cmp.Or(cmp.Compare(a.CapID, b.CapID), cmp.Compare(a.Of, b.Of))
	})
	return out
}

// totalsOf is every counter of a total in its present window: the sum of what may
// still count in it. No group may be locked.
func (e *Engine) totalsOf(snap *Snapshot) map[storage.CounterKey]TotalView {
	now := e.clock.Now()
	out := make(map[storage.CounterKey]TotalView)
	for _, c := range e.store.TotalCounts() {
		i, ok := snap.Plan.CapByCounter(c.Key.Cap)
		if _, since := snap.Plan.TotalRule(c.Key.Cap, now); !ok || c.Key.Window < since ||
			snap.Plan.Caps[i].Scope != definition.ScopeTotal {
			continue
		}
		v, ok := out[c.Key.CounterKey]
		if !ok {
			v = TotalView{
				CapID: snap.Plan.Caps[i].ID, Of: e.dimensionOf(snap.Plan.Caps[i].Per, c.Key.Dim),
				Limit: snap.totalLimit(c.Key.Cap), Planned: snap.planned(c.Key.Cap, now),
				Currency: snap.Plan.Caps[i].Def.Currency,
			}
		}
		v.Spent, v.Held, v.Burnt = v.Spent+c.Confirmed, v.Held+c.Held, v.Burnt+c.Burnt
		out[c.Key.CounterKey] = v
	}
	return out
}

// dimensionOf names what a counter counts.
func (e *Engine) dimensionOf(per definition.CapPer, dim uint32) string {
	name := storage.Name(dim)
	switch per {
	case definition.PerOffer:
		return e.store.NameOf(storage.DictOffer, name)
	case definition.PerOfferGroup:
		return e.store.NameOf(storage.DictOfferGroup, name)
	case definition.PerCampaign:
		return e.store.NameOf(storage.DictCampaign, name)
	case definition.PerPlacement:
		return e.store.NameOf(storage.DictPlacement, name)
	case definition.PerChannel:
		return definition.Channel(dim - 1).String()
	}
	return ""
}
