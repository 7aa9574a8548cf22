package decide

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"tact/engine/definition"
	"tact/engine/experiment"
)

// model decides slowly and plainly from definitions, names and lists of uses.
// It shares no code with Pick but the two hashes that are laws of their own.
type model struct {
	*catalogue
	uses []modelUse
	open []modelOpen // reservations, oldest first
}

// modelOpen is a reservation that was made; its uses say whether it is still open.
type modelOpen struct {
	grant            int
	placement, offer string
	expires          int64
}

// modelUse is one use of one counter of the person.
type modelUse struct {
	cap, dim string
	at       int64
	grant    int // of a pending use: index of the grant; -1 = confirmed
	until    int64
}

type modelAsk struct {
	placement, policy string // policy "": the placement's
	count             int
	allow, block      []string
	noAllow           bool
}

type modelRequest struct {
	slots   []modelAsk
	dedupe  Dedupe
	now     int64           // ms
	full    map[string]bool // "cap dim" of full totals
	stopped map[string]bool
	exclude map[string]bool // "slot offer"
	noHold  bool
}

type modelItem struct {
	slot             int
	offer, treatment string
	score            float64
	fallback         bool
	held, used       []string // "cap dim"
	hold             int64
	kept             bool // given again, with the reservation of grant
	grant            int
}

type modelResult struct {
	items   []modelItem
	reasons []string          // per slot, "" when filled
	trace   map[string]string // "slot offer" → reason
}

// modelRun is one decision.
type modelRun struct {
	*model
	f     *facts
	req   *modelRequest
	out   *modelResult
	extra []modelUse // of this request
	own   *modelOpen // judged as if it were not there
}

func (m *model) decide(f *facts, req *modelRequest) *modelResult {
	r := &modelRun{model: m, f: f, req: req, out: &modelResult{trace: map[string]string{}}}
	for i := range req.slots {
		r.slot(i)
	}
	return r.out
}

func byID[T any](docs []*T, id string, of func(*T) string) *T {
	for _, d := range docs {
		if of(d) == id {
			return d
		}
	}
	return nil
}

func (m *model) offerOf(id string) *definition.Offer {
	return byID(m.set.Offers, id, func(o *definition.Offer) string { return o.ID })
}

func (m *model) placementOf(id string) *definition.Placement {
	return byID(m.set.Placements, id, func(o *definition.Placement) string { return o.ID })
}

func (m *model) policyOf(id string) *definition.Policy {
	return byID(m.set.Policies, id, func(o *definition.Policy) string { return o.ID })
}

func modelSelects(s definition.Selector, o *definition.Offer) bool {
	ok := true
	if len(s.IDs)+len(s.Groups) > 0 {
		ok = false
		for _, id := range s.IDs {
			ok = ok || id == o.ID
		}
		for _, g := range s.Groups {
			ok = ok || strings.HasPrefix(o.Group+"/", g+"/")
		}
	}
	for k, v := range s.Labels {
		ok = ok && o.Labels[k] == v
	}
	return ok && (s.Not == nil || !modelSelects(*s.Not, o))
}

// variants are the person's variants, by id of the experiment.
func (r *modelRun) variants() []definition.Variant {
	var out []definition.Variant
	for _, e := range r.set.Experiments {
		draw, _ := experiment.Compile(e, experiment.Identity{Salt: e.ID, LayerSalt: e.Layer})
		if a := r.wants[e.ID]; r.f.id == "" || a != nil && !a.holds(r.f) {
			continue
		}
		if v, ok := draw.Assign([]byte(r.f.id)); ok {
			out = append(out, e.Variants[v])
		}
	}
	return out
}

func (r *modelRun) slot(i int) {
	ask := r.req.slots[i]
	p := r.placementOf(ask.placement)
	r.f.slot = p
	policy := ask.policy
	if policy == "" {
		policy = p.Policy
		for _, v := range r.variants() {
			if c, ok := v.Placements[p.ID]; ok {
				policy = c.Policy
				break
			}
		}
	}
	pol := r.policyOf(policy)
	var candidates []*definition.Offer
	for _, o := range r.set.Offers {
		if modelSelects(pol.Candidates, o) {
			candidates = append(candidates, o)
		}
	}
	count := ask.count
	if count == 0 {
		count = p.Count
	}
	beforeItems, beforeExtra := slices.Clone(r.out.items), slices.Clone(r.extra)
	r.keep(i, p, pol, candidates, count)
	kept := len(r.out.items) - len(beforeItems)
	for range count - kept {
		best := r.best(i, p, pol, candidates)
		if best == nil {
			break
		}
		r.take(i, p, pol, best)
	}
	if kept > 0 {
		slices.SortStableFunc(r.out.items[len(beforeItems):], func(a, b modelItem) int {
			return r.compare(p, pol, r.offerOf(a.offer), r.offerOf(b.offer))
		})
	}
	got := len(r.out.items) - len(beforeItems)
	mine := slices.Clone(r.out.items[len(beforeItems):])
	reason, depth := "inactive", -1
	for _, o := range candidates {
		key := fmt.Sprint(i, " ", o.ID)
		if slices.ContainsFunc(mine, func(it modelItem) bool { return it.offer == o.ID }) {
			r.out.trace[key] = ""
			continue
		}
		why := r.refuse(i, p, o, beforeItems, beforeExtra)
		if why == "" && got < count {
			why = r.refuse(i, p, o, r.out.items, r.extra)
		}
		if why == "" {
			why = "lost_arbitration"
		}
		r.out.trace[key] = why
		if d := modelDepth(why); d > depth {
			reason, depth = why, d
		}
	}
	if got > 0 {
		r.out.reasons = append(r.out.reasons, "")
		return
	}
	if pol.Fallback != "" {
		o := r.offerOf(pol.Fallback)
		why := r.refuseFallback(i, p, pol, o)
		if why == "" {
			r.out.items = append(r.out.items, modelItem{
				slot: i, offer: o.ID, treatment: r.treatment(p, o), fallback: true,
			})
			r.out.reasons = append(r.out.reasons, "")
			return
		}
		if depth < 0 {
			reason = why
		}
	}
	r.out.reasons = append(r.out.reasons, reason)
}

// modelDepth is the order of the gates in docs/decision.md.
func modelDepth(reason string) int {
	order := []string{
		"inactive", "not_started", "expired", "channel_mismatch", "placement_mismatch",
		"blocked_by_request", "holdout", "experiment_excluded", "ineligible", "not_applicable",
		"not_suitable", "consent_missing", "blacklisted", "quiet_hours", "timezone_unknown",
		"suppressed", "user_not_found", "capped_user", "capped_contact", "capped_total", "min_gap",
		"duplicate_in_request", "lost_arbitration", "no_treatment", "deadline", "render_error",
	}
	return slices.Index(order, reason)
}

// treatment is the treatment the person would see, or "".
func (r *modelRun) treatment(p *definition.Placement, o *definition.Offer) string {
	fits := func(t *definition.Treatment) bool {
		return t.Channel == p.Channel &&
			(len(t.Placements) == 0 || slices.Contains(t.Placements, p.ID))
	}
	for _, v := range r.variants() {
		for _, t := range o.Treatments {
			if c := v.Offers[o.ID]; c.Treatment == t.ID && fits(t) {
				return t.ID
			}
		}
	}
	for _, t := range o.Treatments {
		if fits(t) {
			return t.ID
		}
	}
	return ""
}

func (r *modelRun) catalogue2(i int, p *definition.Placement, o *definition.Offer) string {
	ask := r.req.slots[i]
	switch {
	case r.req.stopped[o.ID]:
		return "inactive"
	case o.StartMs != 0 && r.req.now < o.StartMs:
		return "not_started"
	case o.EndMs != 0 && r.req.now >= o.EndMs:
		return "expired"
	case r.treatment(p, o) == "":
		for _, t := range o.Treatments {
			if t.Channel == p.Channel {
				return "placement_mismatch"
			}
		}
		return "channel_mismatch"
	case ask.allow != nil && !slices.Contains(ask.allow, o.ID), ask.noAllow,
		slices.Contains(ask.block, o.ID):
		return "blocked_by_request"
	}
	return ""
}

func (r *modelRun) heldOut(o *definition.Offer) bool {
	for _, h := range r.set.Holdouts {
		draw, _ := experiment.CompileHoldout(h, experiment.Identity{Salt: h.ID})
		binds := o.Class == definition.Marketing && slices.Contains(h.Classes, o.Class) ||
			o.Class == definition.Transactional && o.HoldoutCovers
		if r.f.id != "" && binds && modelSelects(h.Covers, o) && draw.Holds([]byte(r.f.id)) {
			return true
		}
	}
	return false
}

func (r *modelRun) excluded(o *definition.Offer) bool {
	for _, v := range r.variants() {
		if v.Offers[o.ID].Exclude {
			return true
		}
	}
	return false
}

// refuse walks the gates; "" = the offer may be picked.
func (r *modelRun) refuse(
	i int, p *definition.Placement, o *definition.Offer, items []modelItem, extra []modelUse,
) string {
	if why := r.catalogue2(i, p, o); why != "" {
		return why
	}
	if r.heldOut(o) {
		return "holdout"
	}
	if r.excluded(o) {
		return "experiment_excluded"
	}
	for k, a := range r.rules[o.ID] {
		if a != nil && !a.holds(r.f) {
			return []string{"ineligible", "not_applicable", "not_suitable"}[k]
		}
	}
	switch {
	case !r.consent(p, o):
		return "consent_missing"
	case o.Class != definition.Mandatory && (r.f.blacklist[p.Channel] || r.f.listed[p.Channel]):
		return "blacklisted"
	}
	if why := r.quiet(p, o); why != "" {
		return why
	}
	if r.suppressed(p, o, r.req.now/1000) != "" {
		return "suppressed"
	}
	some := false
	for _, c := range r.set.Caps {
		if len(r.counters(c, o, p.Channel, p.ID)) == 0 {
			continue
		}
		some = true
		written := modelHolds(c, p.Channel) || c.CountOn&definition.CountDecision != 0
		if r.f.id == "" && (c.Scope != definition.ScopeTotal || written) ||
			c.Scope == definition.ScopeIdentity && r.f.identity == 0 ||
			c.Scope == definition.ScopeDevice && r.f.device == 0 {
			return "user_not_found"
		}
	}
	if why, _ := r.caps(p, o, r.req.now/1000, extra); why != "" {
		return why
	}
	for _, it := range items {
		group := r.offerOf(it.offer).Group
		switch {
		case it.offer == o.ID && (it.slot == i || r.req.dedupe != DedupeNone),
			r.req.dedupe == DedupeOfferGroup && group != "" && group == o.Group:
			return "duplicate_in_request"
		}
	}
	switch {
	case p.Channel != definition.ChannelWeb && !r.f.addresses[p.Channel]:
		return "no_treatment"
	case r.req.noHold && some:
		return "deadline"
	case r.req.exclude[fmt.Sprint(i, " ", o.ID)]:
		return "render_error"
	}
	return ""
}

func (r *modelRun) refuseFallback(
	i int, p *definition.Placement, pol *definition.Policy, o *definition.Offer,
) string {
	if why := r.catalogue2(i, p, o); why != "" {
		return why
	}
	open := pol.Universal && p.Channel == definition.ChannelWeb
	switch {
	case !open && r.heldOut(o):
		return "holdout"
	case !open && r.excluded(o):
		return "experiment_excluded"
	case !open && !r.consent(p, o):
		return "consent_missing"
	case o.Class != definition.Mandatory && (r.f.blacklist[p.Channel] || r.f.listed[p.Channel]):
		return "blacklisted"
	}
	if why := r.quiet(p, o); why != "" {
		return why
	}
	switch {
	case p.Channel != definition.ChannelWeb && !r.f.addresses[p.Channel]:
		return "no_treatment"
	case r.req.exclude[fmt.Sprint(i, " ", o.ID)]:
		return "render_error"
	}
	return ""
}

// score is the product of the four factors.
func (r *modelRun) score(pol *definition.Policy, o *definition.Offer) float64 {
	read := func(op definition.Operand, most float64) float64 {
		if op.Attribute == "" {
			return op.Const
		}
		x, ok := r.f.attrs[op.Attribute]
		if !ok || x < 0 || x > most {
			return 0
		}
		return x
	}
	lever := o.Lever
	for _, v := range slices.Backward(r.variants()) {
		if l := v.Offers[o.ID].Lever; l != nil {
			lever = *l
		}
	}
	s := math.Pow(read(o.Propensity, 1), pol.Propensity)
	s *= math.Pow(read(o.Context, math.MaxFloat64), pol.Context)
	s *= math.Pow(o.Value, pol.Value)
	return s * math.Pow(lever, pol.Lever)
}

func (r *modelRun) best(
	i int, p *definition.Placement, pol *definition.Policy, candidates []*definition.Offer,
) *definition.Offer {
	var open []*definition.Offer
	for _, o := range candidates {
		if r.refuse(i, p, o, r.out.items, r.extra) == "" {
			open = append(open, o)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return slices.MinFunc(open, func(a, b *definition.Offer) int {
		return r.compare(p, pol, a, b)
	})
}

// compare puts the offer that ranks higher first.
func (r *modelRun) compare(
	p *definition.Placement, pol *definition.Policy, a, b *definition.Offer,
) int {
	hash := func(o *definition.Offer) uint64 {
		seed := experiment.Seed("tact/v1/tie/" + pol.ID + "/" + p.ID + "/" + o.ID)
		return xxh3.HashSeed([]byte(r.f.id), seed)
	}
	place := func(o *definition.Offer) int {
		if at := slices.Index(pol.Order, o.ID); at >= 0 {
			return at
		}
		return len(pol.Order)
	}
	if pol.By == definition.RankOrder {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a.ID, b.ID))
	}
	return cmp.Or(cmp.Compare(r.score(pol, b), r.score(pol, a)), cmp.Compare(hash(b), hash(a)),
		cmp.Compare(a.ID, b.ID))
}

// holds tells whether a reservation still holds a use of a counter.
func (r *modelRun) holds(o *modelOpen, cap, dim string) bool {
	return slices.ContainsFunc(r.uses, func(u modelUse) bool {
		return u.grant == o.grant && r.req.now/1000 < u.until &&
			(cap == "" || u.cap == cap && u.dim == dim)
	})
}

// keep gives the slot what open reservations of the placement hold.
func (r *modelRun) keep(
	i int, p *definition.Placement, pol *definition.Policy, candidates []*definition.Offer, count int,
) {
	for n := range r.open {
		open := &r.open[n]
		o := r.offerOf(open.offer)
		taken := slices.ContainsFunc(r.out.items, func(it modelItem) bool {
			return it.kept && it.grant == open.grant
		})
		mine := 0
		for _, it := range r.out.items {
			if it.slot == i {
				mine++
			}
		}
		if !p.Sticky || r.req.noHold || taken || mine == count || open.placement != p.ID ||
			!slices.Contains(candidates, o) || open.expires*1000 <= r.req.now || !r.holds(open, "", "") {
			continue
		}
		covered := true
		for _, c := range r.set.Caps {
			for _, dim := range r.countersOf(r.f, c, o, p.Channel, p.ID) {
				covered = covered && (!modelHolds(c, p.Channel) || r.holds(open, c.ID, dim))
			}
		}
		r.own = open
		passes := covered && r.refuse(i, p, o, r.out.items, r.extra) == ""
		r.own = nil
		if !passes {
			continue
		}
		extra := len(r.extra)
		r.take(i, p, pol, o)
		it := &r.out.items[len(r.out.items)-1]
		r.extra = slices.DeleteFunc(r.extra, func(u modelUse) bool {
			extra--
			return extra < 0 && u.at > r.req.now/1000 // what it holds already
		})
		it.held, it.kept, it.grant = nil, true, open.grant
		it.hold = open.expires - (r.req.now+999)/1000
	}
}

// take adds a pick with what it counts.
func (r *modelRun) take(
	i int, p *definition.Placement, pol *definition.Policy, o *definition.Offer,
) {
	it := modelItem{slot: i, offer: o.ID, treatment: r.treatment(p, o)}
	if pol.By == definition.RankProduct {
		it.score = r.score(pol, o)
	}
	normal := int64(86400)
	if p.Channel == definition.ChannelWeb {
		normal = 600
	}
	it.hold = math.MaxInt64
	for _, c := range r.set.Caps {
		for range r.counters(c, o, p.Channel, p.ID) {
			if modelHolds(c, p.Channel) {
				it.hold = min(it.hold, cmp.Or(c.Hold, normal))
			}
		}
	}
	if it.hold == math.MaxInt64 {
		it.hold = normal
	}
	now := r.req.now / 1000
	for _, c := range r.set.Caps {
		for _, dim := range r.countersOf(r.f, c, o, p.Channel, p.ID) {
			use := modelUse{cap: c.ID, dim: dim, at: now, grant: -1}
			switch {
			case modelHolds(c, p.Channel):
				if c.Scope == definition.ScopeTotal && now+it.hold+1 < c.Window.From {
					continue // its contact comes before its window begins
				}
				it.held = append(it.held, c.ID+" "+dim)
				use.at = now + it.hold
			case c.CountOn&definition.CountDecision != 0:
				if c.Scope == definition.ScopeTotal && now < c.Window.From {
					continue // before its window begins
				}
				it.used = append(it.used, c.ID+" "+dim)
			default:
				continue
			}
			if c.Scope != definition.ScopeTotal {
				r.extra = append(r.extra, use)
			}
		}
	}
	r.out.items = append(r.out.items, it)
}
