package decide

import (
	"fmt"
	"math"
	"slices"
	"time"

	"tact/engine/definition"
)

// counters are the dimensions a cap keeps for an offer; none when it does not bind.
func (m *model) counters(
	c *definition.Cap, o *definition.Offer, ch definition.Channel, placement string,
) []string {
	binds := (modelSelects(c.Offers, o) || slices.Contains(o.Caps, c.ID)) &&
		(len(c.Channels) == 0 || slices.Contains(c.Channels, ch)) &&
		(len(c.Placements) == 0 || slices.Contains(c.Placements, placement)) &&
		(len(c.Classes) == 0 || slices.Contains(c.Classes, o.Class)) &&
		!slices.Contains(c.Exempt, o.Class)
	if !binds {
		return nil
	}
	switch c.Per {
	case definition.PerOffer:
		return []string{o.ID}
	case definition.PerOfferGroup:
		var dims []string
		for i := range o.Group {
			if o.Group[i] == '/' {
				dims = append(dims, o.Group[:i])
			}
		}
		if o.Group != "" {
			dims = append(dims, o.Group)
		}
		return dims
	case definition.PerCampaign:
		if o.Campaign == "" {
			return nil
		}
		return []string{o.Campaign}
	case definition.PerChannel:
		return []string{ch.String()}
	case definition.PerPlacement:
		return []string{placement}
	}
	return []string{"all"}
}

// countersOf are the counters of a cap for one person: those of an identity or
// device stand apart.
func (m *model) countersOf(
	f *facts, c *definition.Cap, o *definition.Offer, ch definition.Channel, placement string,
) []string {
	dims := m.counters(c, o, ch, placement)
	key := uint32(0)
	switch c.Scope {
	case definition.ScopeIdentity:
		key = f.identity
	case definition.ScopeDevice:
		key = f.device
	default:
		return dims
	}
	if key == 0 {
		return nil
	}
	for i := range dims {
		dims[i] += fmt.Sprint("@", key)
	}
	return dims
}

// limit is the cap's limit for the person.
func (r *modelRun) limit(c *definition.Cap) int {
	x, ok := r.f.attrs[c.LimitFrom]
	if c.LimitFrom == "" || !ok {
		return c.Limit
	}
	return int(math.Floor(min(max(x, 0), float64(c.LimitMax))))
}

// suppressed finds a cap that rejections have closed.
func (r *modelRun) suppressed(
	p *definition.Placement, o *definition.Offer, now int64,
) (by string) {
	for _, c := range r.set.Caps {
		q := r.set.Workspace.QuietHours
		bound := o.Class == definition.Marketing ||
			o.Class == definition.Transactional && q != nil && slices.Contains(q.Classes, o.Class)
		if c.Suppress == nil || !bound || c.Window.Until != 0 && now >= c.Window.Until {
			continue
		}
		for _, dim := range r.countersOf(r.f, c, o, p.Channel, p.ID) {
			n, latest := 0, int64(0)
			for _, u := range r.uses {
				if u.cap == c.ID+"#suppress" && u.dim == dim {
					n, latest = n+1, max(latest, u.at)
				}
			}
			if n >= c.Suppress.After && now < latest+c.Suppress.For {
				return c.ID
			}
		}
	}
	return ""
}

// label numbers the calendar window that holds an instant in a zone.
func label(w *definition.Window, at int64, zone *time.Location) int {
	t := time.Unix(at, 0).In(zone)
	day := int(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400)
	n := 0
	switch w.Unit {
	case definition.UnitHour:
		n = day*24 + t.Hour()
	case definition.UnitDay:
		n = day
	case definition.UnitWeek:
		// Weeks between the first day of this week and of the week of 1 January 1970.
		first := day - (int(t.Weekday())-w.WeekStart+7)%7
		zero := 0 - (int(time.Thursday)-w.WeekStart+7)%7
		n = (first - zero) / 7
	case definition.UnitMonth:
		n = (t.Year()-1970)*12 + int(t.Month()) - 1
	case definition.UnitQuarter:
		n = (t.Year()-1970)*4 + (int(t.Month())-1)/3
	case definition.UnitYear:
		n = t.Year() - 1970
	}
	return n / w.Every
}

// inWindow tells whether a use at a time counts now, in one of the zones.
func (r *modelRun) inWindow(c *definition.Cap, at, now int64, zone string) bool {
	switch {
	case c.Window.Until != 0:
		return at >= c.Window.From
	case c.Window.Rolling > 0:
		return at > now-c.Window.Rolling
	case c.Window.Unit != definition.UnitNone:
		z, _ := time.LoadLocation(zone)
		return label(&c.Window, at, z) >= label(&c.Window, now, z)
	}
	return true
}

func (r *modelRun) capZones(c *definition.Cap) []string {
	switch {
	case c.Window.Zone == "UTC":
		return []string{"UTC"}
	case c.Window.Zone == "user" && c.Scope != definition.ScopeTotal:
		return r.zoneNames()
	}
	return []string{r.set.Workspace.Timezone}
}

// count is the number of uses of one counter now, in the zone where it is largest.
func (r *modelRun) count(
	c *definition.Cap, dim string, now int64, extra []modelUse, since func(int64) bool,
) int {
	most := 0
	for _, zone := range r.capZones(c) {
		n := 0
		for _, u := range slices.Concat(r.uses, extra) {
			live := u.grant < 0 || r.req.now/1000 < u.until && (r.own == nil || u.grant != r.own.grant)
			in := since == nil && r.inWindow(c, u.at, now, zone) || since != nil && since(u.at)
			if u.cap == c.ID && u.dim == dim && live && in {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// caps judges gate 5 at a time: the reason and the cap.
func (r *modelRun) caps(
	p *definition.Placement, o *definition.Offer, now int64, extra []modelUse,
) (reason, by string) {
	kind := func(c *definition.Cap) string {
		switch {
		case c.Scope == definition.ScopeTotal:
			return "capped_total"
		case c.Per == definition.PerAll, c.Per == definition.PerChannel, c.Per == definition.PerPlacement:
			return "capped_contact"
		}
		return "capped_user"
	}
	for _, want := range []string{"capped_user", "capped_contact", "capped_total", "min_gap"} {
		for _, c := range r.set.Caps {
			for _, dim := range r.countersOf(r.f, c, o, p.Channel, p.ID) {
				full := false
				switch {
				case c.Window.Until != 0 && now >= c.Window.Until:
				case want == "min_gap":
					full = c.MinGap > 0 && r.count(c, dim, now, extra, func(at int64) bool {
						return at > now-c.MinGap
					}) > 0
				case want != kind(c):
				case c.Scope == definition.ScopeTotal:
					mine := r.own != nil && modelHolds(c, p.Channel) && r.holds(r.own, c.ID, dim)
					full = c.Limit == 0 || r.req.full[c.ID+" "+dim] && !mine
				default:
					full = r.count(c, dim, now, extra, nil) >= r.limit(c)
				}
				if full {
					return want, c.ID
				}
			}
		}
	}
	return "", ""
}

// only judges one cap alone at a time.
func (r *modelRun) only(
	p *definition.Placement, o *definition.Offer, now int64, id string,
) (reason, by string) {
	set := *r.set
	set.Caps = []*definition.Cap{byID(r.set.Caps, id, func(c *definition.Cap) string { return c.ID })}
	alone := *r
	alone.model = &model{catalogue: &catalogue{set: &set}, uses: r.uses}
	if by = alone.suppressed(p, o, now); by != "" {
		return "suppressed", by
	}
	return alone.caps(p, o, now, nil)
}

// modelHolds tells whether a decision holds a use of the cap on a channel.
func modelHolds(c *definition.Cap, ch definition.Channel) bool {
	switch {
	case c.CountOn&definition.CountReactions != 0:
		return c.Scope == definition.ScopeTotal && c.Hold > 0
	case ch == definition.ChannelWeb:
		return c.CountOn&definition.CountImpression != 0
	}
	return c.CountOn&definition.CountContacts != 0
}
