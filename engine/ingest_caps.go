package engine

import (
	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// countFitting is countEvent of the event in b.effect, if that fits, which is the
// caller's to append.
func (b *Batch) countFitting(p *found, event storage.Name, doc *EventDoc) error {
	if err := p.group.FitsEvent(&b.effect); err != nil {
		return storeProblem(err)
	}
	own := b.effect
	err := b.countEvent(p, event, doc)
	b.effect = own
	return err
}

// countEvent counts an event in the caps that count it, or are closed by it. Its
// properties offer_id and placement_id, where they name published ones, say to
// which item it belongs. The uses come before the event, which the caller has found
// to fit, in one lock section and so in one frame: both are there or none. The group
// is locked.
func (b *Batch) countEvent(p *found, event storage.Name, doc *EventDoc) error {
	now := b.e.clock.Now()
	at, _ := clampEventTime(doc.OccurredAt, now)
	of := decide.Fact{
		Offer: -1, Placement: -1, CountOn: definition.CountCustom, Custom: event,
		At: min(at, now), Zone: b.e.zone(p.group.Row(p.ord).Zone),
	}
	plan := b.snap.Plan
	for i := range doc.Properties {
		v := &doc.Properties[i]
		if v.Value.Kind != RawString {
			continue
		}
		switch string(v.Name) {
		case "offer_id":
			if offer, ok := plan.OfferByID(v.Value.Text); ok {
				of.Offer = offer
			}
		case "placement_id":
			if placement, ok := plan.PlacementByID(v.Value.Text); ok {
				of.Placement, of.Channel = placement, plan.Placements[placement].Channel
			}
		}
	}
	if of.Offer >= 0 && of.Placement < 0 {
		of.Channel = plan.Treatments[plan.Offers[of.Offer].FirstTreatment].Channel
	}
	if b.snap.scoped {
		of.IdentityKey, of.DeviceKey = b.e.scopes(doc.UserID, doc.Identities)
	}
	b.keys = plan.AppendEventKeys(b.keys[:0], of)
	if err := b.takeStock(false); err != nil {
		// An event is a fact: it is counted whatever the limit.
		for i := range b.keys {
			if k := &b.keys[i]; k.Total {
				b.e.store.Totals().Force(k)
			}
		}
	}
	f := fact{group: p.group, ord: p.ord, at: of.At}
	if err := b.use(&f, 0); err != nil {
		b.giveStock(len(b.keys))
		return err
	}
	return nil
}
