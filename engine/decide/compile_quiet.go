package decide

import (
	"cmp"
	"slices"
	"strings"

	"tact/engine/definition"
)

// quietHours compiles the workspace's own quiet hours and the documents.
func (c *compiler) quietHours() {
	p := c.plan
	everything := newBitset(len(p.Offers))
	for i := range p.Offers {
		everything.add(int32(i))
	}
	if q := c.set.Workspace.QuietHours; q != nil {
		// Marketing is always bound; transactional when it is named.
		p.Quiet = append(p.Quiet, Quiet{
			Hold: q.Hold, offers: everything, channels: channelBits(q.Channels),
			classes:   classBits(q.Classes)&^(1<<definition.Mandatory) | 1<<definition.Marketing,
			everybody: true, windows: q.Windows,
		})
	}
	docs := sorted(c.set.Quiet, func(d *definition.QuietRule) *definition.Meta { return &d.Meta })
	for _, d := range docs {
		if len(p.Quiet) == MaxQuiet {
			c.fault(&d.Meta, "", "more than %d sets of quiet hours", MaxQuiet)
			return
		}
		p.Quiet = append(p.Quiet, c.quietRule(d))
	}
}

func (c *compiler) quietRule(d *definition.QuietRule) Quiet {
	q := Quiet{
		ID: d.ID, Hold: d.Hold, offers: newBitset(len(c.plan.Offers)),
		channels: channelBits(d.Channels), classes: classBits(d.Classes),
		windows: d.Windows, hasOn: len(d.On) > 0,
		on: c.days(&d.Meta, "on", d.On), except: c.days(&d.Meta, "except", d.Except),
	}
	if len(q.windows) == 0 {
		q.windows = []definition.MinuteSpan{{From: 0, Until: dayMinutes}}
	}
	for i := range c.plan.Offers {
		if selects(&d.Offers, c.plan.Offers[i].Def) {
			q.offers.add(int32(i))
		}
	}
	if len(d.Placements) > 0 {
		q.placements = c.placementSet(&d.Meta, "applies_to.placements", d.Placements)
	}
	if q.everybody = d.Segment == ""; !q.everybody {
		c.quietSegment(d, &q)
	}
	return q
}

// quietSegment compiles whom a document binds.
func (c *compiler) quietSegment(d *definition.QuietRule, q *Quiet) {
	node := &definition.Node{Kind: definition.NodeMap, Pos: d.Pos, Keys: []definition.Key{{
		Name: "segment", Pos: d.Pos,
		Value: &definition.Node{Kind: definition.NodeString, Text: d.Segment, Pos: d.Pos},
	}}}
	tree := c.parse(&d.Meta, node, c.plan.Names, "segment")
	if tree == nil {
		return
	}
	q.segment = c.cond(&d.Meta, tree, "segment")
	if known := tree.Known(); !known.Empty() {
		q.known, q.hasKnown = c.cond(&d.Meta, known, "segment"), true
	}
}

// days gathers the days that names of calendars, or of their days, stand for.
func (c *compiler) days(m *definition.Meta, field string, names []string) daySet {
	var all daySet
	for _, name := range names {
		id, day, named := strings.Cut(name, "/")
		at := slices.IndexFunc(c.set.Calendars, func(d *definition.Calendar) bool {
			return d.ID == id
		})
		if at < 0 {
			c.fault(m, field, "there is no calendar %q", id)
			continue
		}
		for _, d := range c.set.Calendars[at].Days {
			if !named || d.ID == day {
				all = append(all, dayRange{d.From, d.Until})
			}
		}
	}
	slices.SortFunc(all, func(a, b dayRange) int { return cmp.Compare(a.from, b.from) })
	merged := all[:0]
	for _, d := range all {
		if n := len(merged); n > 0 && d.from <= merged[n-1].until {
			merged[n-1].until = max(merged[n-1].until, d.until)
			continue
		}
		merged = append(merged, d)
	}
	return merged
}

// quietOf returns the quiet hours that bind an offer at a placement: a bit per
// Plan.Quiet. Mandatory messages have none.
func (c *compiler) quietOf(offer int32, s *slab) (mask uint64) {
	class := c.plan.Offers[offer].Class
	if class == definition.Mandatory {
		return 0
	}
	for i := range c.plan.Quiet {
		q := &c.plan.Quiet[i]
		if q.offers.has(offer) && q.channels&(1<<s.channel) != 0 && q.classes&(1<<class) != 0 &&
			(q.placements == nil || q.placements.has(s.placement)) {
			mask |= 1 << i
		}
	}
	return mask
}
