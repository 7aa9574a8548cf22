package engine

import (
	"cmp"
	"slices"

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
	Limit    int64
	Planned  int64 // what the plan of the pacing gives by now; the limit without it
}

// Totals returns the counters of the total caps that are in force, by cap and
// then by what they count. Counters without a use are not there.
func (e *Engine) Totals() []TotalView {
	snap, now := e.snap.Load(), e.clock.Now()
	var out []TotalView
	at := make(map[storage.CounterKey]int) // a counter is the sum of its windows
	for _, c := range e.store.TotalCounts() {
		i, ok := snap.Plan.CapByCounter(c.Key.Cap)
		if _, since := snap.Plan.TotalRule(c.Key.Cap, now); !ok || c.Key.Window < since ||
			snap.Plan.Caps[i].Scope != definition.ScopeTotal {
			continue
		}
		if k, ok := at[c.Key.CounterKey]; ok {
			out[k].Spent, out[k].Held = out[k].Spent+c.Confirmed, out[k].Held+c.Held
			continue
		}
		at[c.Key.CounterKey] = len(out)
		out = append(out, TotalView{
			CapID: snap.Plan.Caps[i].ID, Of: e.dimensionOf(snap.Plan.Caps[i].Per, c.Key.Dim),
			Spent: c.Confirmed, Held: c.Held, Limit: snap.totalLimit(c.Key.Cap),
			Planned: snap.planned(c.Key.Cap, now), Currency: snap.Plan.Caps[i].Def.Currency,
		})
	}
	slices.SortFunc(out, func(a, b TotalView) int {
		return cmp.Or(cmp.Compare(a.CapID, b.CapID), cmp.Compare(a.Of, b.Of))
	})
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
