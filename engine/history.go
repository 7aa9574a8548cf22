package engine

import (
	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// seedHistory counts, for every cap `counts_from: history` that has not counted
// this person yet, the uses that the person's event tail holds, and marks since
// when they are complete. It is called before anything changes the person, so it
// sees the tail as the publish found it: what happens later is counted as it
// happens. The group is locked.
//
// An outcome that was reported twice under two ids stands twice in the tail and
// counts twice, which errs to less contact.
// Cost: a look at the contact part for each such cap; once for each person the
// tail and an effect for each use.
func (e *Engine) seedHistory(
	snap *Snapshot, g *storage.Group, ord storage.Ord, add func(*storage.Effect) error,
) error {
	for _, i := range snap.Plan.History() {
		c := &snap.Plan.Caps[i]
		now := e.clock.Now()
		if g.Contact(ord).Count(c.HistoryMark(), 0, e.instant(g, now).Certain()).N > 0 {
			continue
		}
		s := seeding{e: e, snap: snap, cap: c, now: now, zone: int(g.Row(ord).Zone)}
		tail := g.Tail(ord)
		tail.Each(s.see)
		floor := toSecUp(tail.Floor()) + 1
		s.uses = append(s.uses, storage.UseEffect{
			At: floor, Keys: []storage.HeldKey{{Key: c.HistoryMark()}},
		})
		for j := range s.uses {
			effect := storage.Effect{
				Kind: storage.EffectUse, Ord: ord, Time: now, Config: snap.Revision, Use: s.uses[j],
			}
			if err := add(&effect); err != nil {
				return err
			}
		}
	}
	return nil
}

// seeding gathers the uses of one cap in one tail. They are appended after the
// tail has been read: an effect may move the person's parts.
type seeding struct {
	e    *Engine
	snap *Snapshot
	cap  *decide.Cap
	now  storage.UnixMsec
	zone int
	uses []storage.UseEffect
}

func (s *seeding) see(ev storage.TailEvent) bool {
	what, ok := s.snap.tails[ev.Event]
	if !ok {
		return true
	}
	plan := s.snap.Plan
	f := decide.Fact{
		Offer: -1, Placement: -1, CountOn: what.on, Custom: what.custom, Late: true,
		At: min(ev.Occurred, s.now), Zone: s.e.zone(uint16(s.zone)),
	}
	var keys []storage.HeldKey
	switch {
	case !ev.Outcome:
		keys = plan.AppendEventKeys(nil, f)
	default:
		if f.Offer, ok = plan.OfferByName(ev.Item); !ok {
			return true
		}
		if f.Placement, ok = plan.PlacementByName(ev.Placement); !ok {
			f.Placement = -1
		}
		f.Channel = definition.Channel(ev.Channel)
		if f.CountOn&definition.CountContacts != 0 {
			keys = plan.AppendContactKeys(nil, f)
		} else {
			keys = plan.AppendReactionKeys(nil, f)
		}
	}
	mine := keys[:0]
	for _, k := range keys {
		if !k.Total && s.cap.Owns(k.Key) {
			mine = append(mine, k)
		}
	}
	if len(mine) > 0 {
		s.uses = append(s.uses, storage.UseEffect{At: max(toSecUp(f.At), 1), Keys: mine})
	}
	return true
}

// seed counts what history holds before a line of the batch changes the person.
func (b *Batch) seed(g *storage.Group, ord storage.Ord) error {
	return b.e.seedHistory(b.snap, g, ord, func(effect *storage.Effect) error {
		frame, err := g.Append(effect)
		if err != nil {
			return storeProblem(err)
		}
		b.frames[g.GroupID()] = frame
		return nil
	})
}

// appendEffect appends an effect of the decision that is not w.effect.
func (w *decideWork) appendEffect(effect *storage.Effect) error {
	frame, err := w.group.Append(effect)
	if err == nil {
		w.frame = frame
	}
	return err
}
