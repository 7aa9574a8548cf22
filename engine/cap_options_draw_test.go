package engine

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// randomOptCap draws every option of a cap.
func randomOptCap(r *rand.Rand, id string, now int64) *optCap {
	c := &optCap{
		id: id, scope: pick(r, "person", "person", "person", "identity", "device", "total"),
		per:     pick(r, "all", "offer", "offer_group", "offer_group", "campaign", "channel", "placement"),
		limit:   pick(r, 1, 1, 2, 3, 0+r.IntN(5)),
		countOn: pick(r, contactSets()...),
		grace:   pick(r, int64(300), 300, 60),
	}
	if r.IntN(2) == 0 {
		c.countOn = pick(r, []string{"decision"}, []string{"click"}, []string{"order", "accept"},
			[]string{"accept"}, []string{"dismiss", "complaint"}, []string{"order"})
	}
	c.offers = pick(r, nil, nil, nil, []string{"a", "b", "m"}, []string{"a", "m"}, []string{"b", "t"})
	c.channels = pick(r, nil, nil, nil, []string{"sms"}, []string{"web"})
	c.placements = pick(r, nil, nil, nil, []string{"spot", "text"})
	c.classes = pick(r, nil, nil, nil, []string{"marketing"}, []string{"marketing", "mandatory"})
	c.exempt = pick(r, nil, nil, []string{"mandatory"}, []string{"transactional", "mandatory"})
	c.zone = pick(r, "user", "user", "workspace", "UTC")
	switch r.IntN(8) {
	case 0: // a lifetime
	case 1:
		c.from = now + r.Int64N(3*86400) - 86400
		c.until = c.from + 1 + r.Int64N(3*86400)
	case 2, 3:
		c.rolling = pick(r, int64(90), 3600, 86400, 7*86400)
	default:
		c.unit, c.every = pick(r, "hour", "day", "day", "week", "month"), pick(r, 1, 1, 2, 3)
		c.weekStart = pick(r, time.Monday, time.Sunday, time.Wednesday)
	}
	if c.scope == "total" { // those of rolling windows count in cells
		if c.zone == "user" {
			c.zone = "workspace"
		}
		if c.rolling > 0 {
			c.rolling, c.unit, c.every = 0, "day", 1
		}
		if c.kind() == "reaction" {
			c.countOn, c.limit = c.countOn[:1], 1+r.IntN(2)
			c.hold = pick(r, int64(0), 900)
			c.offers, c.placements, c.exempt = nil, nil, nil
		}
		return c
	}
	if c.kind() == "contact" {
		c.hold = pick(r, int64(0), 0, 120, 7200)
	}
	if r.IntN(3) == 0 {
		c.byAttribute, c.most = true, max(c.limit, 3)
	}
	if r.IntN(3) == 0 {
		c.gap = pick(r, int64(600), 3600, 2*86400)
	}
	if r.IntN(3) == 0 {
		c.after, c.life = 1+r.IntN(2), pick(r, int64(3600), 3*86400)
		c.of = pick(r, []string{"dismiss"}, []string{"dismiss", "complaint"})
	}
	c.history = c.scope == "person" && c.kind() != "decision" && r.IntN(4) == 0 &&
		(c.unit != "" && (c.unit != "month" || c.every < 3) || c.rolling > 0)
	return c
}

func contactSets() [][]string {
	return [][]string{
		{"impression"},
		{"impression", "send"},
		{"send"},
		{"delivered"},
		{"send", "delivered"},
		{"impression", "delivered"},
	}
}

// yaml writes the cap as a document.
func (c *optCap) yaml() string {
	list := func(of []string) string { return "[" + strings.Join(of, ", ") + "]" }
	var b strings.Builder
	fmt.Fprintf(&b, "---\nkind: cap\nid: %s\nscope: %s\nper: %s\ncount_on: %s\nconfirm_grace: %ds\n",
		c.id, c.scope, c.per, list(c.countOn), c.grace)
	var to []string
	if c.offers != nil {
		to = append(to, "offers: {ids: "+list(c.offers)+"}")
	}
	if c.channels != nil {
		to = append(to, "channels: "+list(c.channels))
	}
	if c.placements != nil {
		to = append(to, "placements: "+list(c.placements))
	}
	if c.classes != nil {
		to = append(to, "message_classes: "+list(c.classes))
	}
	if to != nil {
		fmt.Fprintf(&b, "applies_to: {%s}\n", strings.Join(to, ", "))
	}
	if c.exempt != nil {
		fmt.Fprintf(&b, "exempt: %s\n", list(c.exempt))
	}
	at := func(sec int64) string { return time.Unix(sec, 0).UTC().Format(time.RFC3339) }
	switch {
	case c.until > 0:
		fmt.Fprintf(&b, "window: {between: [\"%s\", \"%s\"]}\n", at(c.from), at(c.until))
	case c.rolling > 0:
		fmt.Fprintf(&b, "window: {rolling: %ds}\n", c.rolling)
	case c.unit == "week":
		fmt.Fprintf(&b, "window: {calendar: week, every: %d, zone: %s, week_start: %s}\n", c.every,
			c.zone, strings.ToLower(c.weekStart.String()))
	case c.unit != "":
		fmt.Fprintf(&b, "window: {calendar: %s, every: %d, zone: %s}\n", c.unit, c.every, c.zone)
	default:
		b.WriteString("window: lifetime\n")
	}
	if c.byAttribute {
		fmt.Fprintf(&b, "limit: {attribute: allowed, default: %d, max: %d}\n", c.limit, c.most)
	} else {
		fmt.Fprintf(&b, "limit: %d\n", c.limit)
	}
	if c.gap > 0 {
		fmt.Fprintf(&b, "min_gap: %ds\n", c.gap)
	}
	if c.after > 0 {
		fmt.Fprintf(&b, "suppress: {after: %d, of: %s, for: %ds}\n", c.after, list(c.of), c.life)
	}
	if c.hold > 0 {
		fmt.Fprintf(&b, "hold: %ds\n", c.hold)
	}
	if c.history {
		b.WriteString("counts_from: history\n")
	}
	return b.String()
}
