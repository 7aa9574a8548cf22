package engine

import (
	"fmt"
	"slices"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/engine/rule"
)

// slotContext takes the placement and the channel out of the context of a query
// about people, which has no slot that would tell them. A placement tells its
// channel too.
func (s *Snapshot) slotContext(all []NamedValue) (
	rest []NamedValue, slot []rule.ContextValue, err error,
) {
	var placement, channel *RawValue
	for i := range all {
		switch c := &all[i]; rule.SlotKey(string(c.Name)) {
		case rule.PlacementKey:
			placement = &c.Value
		case rule.ChannelKey:
			channel = &c.Value
		default:
			rest = append(rest, *c)
		}
	}
	told := "" // the channel of the placement
	if placement != nil && placement.Kind != RawNull {
		at, problem := s.slotPlacement(placement)
		if problem != nil {
			return nil, nil, problem
		}
		told = at.Channel.String()
		slot = rule.SlotContext(at.ID, at.Channel)
	}
	if channel == nil || channel.Kind == RawNull {
		return rest, slot, nil
	}
	name, problem := slotChannel(channel)
	switch {
	case problem != nil:
		return nil, nil, problem
	case told == "":
		slot = append(slot, rule.SlotValue(rule.ChannelKey, name))
	case told != name:
		return nil, nil, invalid("unknown_channel", "context.channel",
			fmt.Sprintf("the placement is on channel %s", told))
	}
	return rest, slot, nil
}

func (s *Snapshot) slotPlacement(v *RawValue) (*decide.Placement, error) {
	if v.Kind != RawString {
		return nil, invalid("wrong_type", "context.placement", "the id of a placement is expected")
	}
	at, ok := s.Plan.PlacementByID(v.Text)
	if !ok {
		w := decideWork{snap: s}
		return nil, w.unknown("placement", "context.placement", v.Text)
	}
	return &s.Plan.Placements[at], nil
}

func slotChannel(v *RawValue) (string, error) {
	if v.Kind != RawString {
		return "", invalid("wrong_type", "context.channel", "the name of a channel is expected")
	}
	var names []string
	for ch := range definition.ChannelCount {
		names = append(names, ch.String())
	}
	if !slices.Contains(names, string(v.Text)) {
		return "", invalid("unknown_channel", "context.channel", fmt.Sprintf(
			"there is no channel %q%s", v.Text, suggestion(string(v.Text), names)))
	}
	return string(v.Text), nil
}

// slotsOf returns what the slots tell in which a question looks at its offers.
func (s *Snapshot) slotsOf(q *decide.Question) [][]rule.ContextValue {
	var slots [][]rule.ContextValue
	seen := map[int32]bool{}
	for _, offer := range q.Offers {
		s.Plan.EachPlace(q, offer, func(placement int32) {
			if p := &s.Plan.Placements[placement]; !seen[placement] {
				seen[placement] = true
				slots = append(slots, rule.SlotContext(p.ID, p.Channel))
			}
		})
	}
	return slots
}
