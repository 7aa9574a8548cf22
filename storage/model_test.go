package storage

import (
	"maps"
	"slices"
	"testing"
)

// A model is the naive twin of a state: maps and lists that keep everything.
type model struct {
	people   map[Ord]*modelPerson
	stats    map[StatsKey]statsRow
	dedup    map[uint64]uint32
	totals   map[TotalKey]int64 // confirmed
	burnt    map[TotalKey]int64 // of totals
	claims   map[[16]byte]PersonRef
	members  map[Name]map[Ord]bool // of tracked segments
	changes  []Change
	floor    UnixSec
	nextOrd  Ord
	reserved uint64
}

type modelPerson struct {
	id         string
	ws         WorkspaceID
	person     PersonID
	hash       uint64
	visitor    bool
	attrs      map[Name]Value
	tags       map[Name]TagValue
	history    []TagChange
	segments   map[Name]bool
	consents   []Consent // all that ever came, in order of arrival
	identities []Identity
	addresses  map[uint8][][]byte
	blacklist  uint16
	zone       Name
	locale     Name
	tail       []TailEvent    // newest first, cut as the state cuts
	all        []UnixMsec     // every event
	left       []activityEdit // the same, when one has left the tail, as they are summed up;
	recent     []activityEdit // else those that are in it, newest first
	open       []ReserveEffect
	confirmed  map[ReservationID]bool // some key was
	states     map[ReservationID]ReservationState
	requests   []DecisionEffect
	uses       map[CounterKey][]UnixSec // every confirmed use, in any order
}

func newModel() *model {
	return &model{
		people: map[Ord]*modelPerson{}, stats: map[StatsKey]statsRow{},
		dedup: map[uint64]uint32{}, totals: map[TotalKey]int64{}, burnt: map[TotalKey]int64{},
		claims: map[[16]byte]PersonRef{}, members: map[Name]map[Ord]bool{},
	}
}

func (m *model) apply(e *Effect) {
	if e.DedupKey != 0 {
		if _, known := m.dedup[e.DedupKey]; !known {
			m.dedup[e.DedupKey] = e.DedupBody
		}
	}
	p := m.people[e.Ord]
	switch e.Kind {
	case EffectCreate:
		m.people[e.Ord] = &modelPerson{
			id: string(e.Create.ID), ws: e.Create.Workspace, person: e.Create.Person,
			hash: e.Create.IDHash, visitor: e.Create.Visitor,
			attrs: map[Name]Value{}, tags: map[Name]TagValue{}, segments: map[Name]bool{},
			addresses: map[uint8][][]byte{}, confirmed: map[ReservationID]bool{},
			states: map[ReservationID]ReservationState{}, uses: map[CounterKey][]UnixSec{},
		}
		m.nextOrd++
	case EffectRefund:
		for _, u := range e.Refund {
			addTo(m.totals, u.Key, -max(min(u.Units, m.totals[u.Key]), 0))
		}
	case EffectBurn:
		for _, u := range e.Burn.Units {
			n := max(u.Units, -m.burnt[u.Key])
			addTo(m.burnt, u.Key, n)
			addTo(m.totals, u.Key, n)
		}
	case EffectTime:
		m.floor = max(m.floor, e.Floor)
	case EffectClaim:
		m.claims[e.Claim.Hash] = e.Claim.Target
	case EffectForget, EffectErase:
		if e.Kind == EffectErase && p != nil {
			p.sweep(m, secondOf(e.Time))
			for _, r := range p.open {
				for _, k := range r.Keys {
					if k.Total {
						m.totals[TotalKey{k.Key, k.Window}] += k.Units()
					}
				}
			}
		}
		if p != nil && (p.visitor || e.Kind == EffectErase) {
			delete(m.people, e.Ord)
			for n := range Name(5) {
				m.member(e.Time, &MemberEffect{
					Segment: n, Cause: CauseForgotten, At: e.Time, Ords: []Ord{e.Ord},
				})
			}
		}
	case EffectMember:
		m.member(e.Time, &e.Member)
	case EffectTrack:
		if t := &e.Track; t.Phase == TrackEnded {
			for o := range m.nextOrd {
				m.member(e.Time, &MemberEffect{
					Segment: t.Segment, Cause: CauseEnded, At: e.Time, Ords: []Ord{o},
				})
			}
			delete(m.members, t.Segment)
		} else if m.members[t.Segment] == nil {
			m.members[t.Segment] = map[Ord]bool{}
		}
	case EffectOutcome:
		o := &e.Outcome
		for _, v := range append([]Name{0}, o.Variants...) {
			m.addStats(StatsKey{o.Offer, o.Treatment, v, o.Outcome}, 1, o.Value)
		}
	case EffectDecision:
		for _, c := range e.Decision.Counts {
			m.addStats(c.Key, uint64(c.N), c.Value)
		}
	}
	if p != nil {
		p.apply(m, e)
	}
}

func (m *model) member(at UnixMsec, e *MemberEffect) {
	in := m.members[e.Segment]
	for _, o := range e.Ords {
		if in == nil || in[o] == e.Entered {
			continue
		}
		in[o] = e.Entered
		m.changes = append(m.changes, Change{
			uint64(len(m.changes) + 1), e.Segment, o, e.Entered, e.Cause, e.At, at,
		})
	}
}

func (m *model) addStats(k StatsKey, n uint64, v float64) {
	r := m.stats[k]
	m.stats[k] = statsRow{r.n + n, r.value + v}
}

func (p *modelPerson) apply(m *model, e *Effect) {
	now := secondOf(e.Time)
	switch e.Kind {
	case EffectPatch:
		p.patch(e.Patch, e.Time)
		p.visitor = p.visitor && e.Patch.TagsExpire
	case EffectEvent:
		p.event(e.Time, TailEvent{
			Occurred: e.Event.Occurred, Event: e.Event.Event, Clamped: e.Event.Clamped,
			n: len(e.Event.Indexed),
		})
		p.fact(activityEdit{
			key: activityKey{event: e.Event.Event}, occurred: e.Event.Occurred, now: e.Time,
			day: dayOf(e.Event.Occurred, e.Event.Shift), props: e.Event.Indexed,
		})
		p.visitor = false
	case EffectOutcome:
		o := e.Outcome
		p.event(e.Time, TailEvent{
			Occurred: o.Occurred, Event: o.Event, Item: o.Offer, Outcome: true,
			Treatment: o.Treatment, Placement: o.Placement, Channel: o.Channel, Worth: o.Value,
		})
		p.fact(activityEdit{
			key: activityKey{o.Event, o.Offer, true}, occurred: o.Occurred, now: e.Time,
			day: dayOf(o.Occurred, o.Shift),
		})
	case EffectReserve:
		p.sweep(m, now)
		if p.states[e.Reserve.ID] == ReservationUnknown {
			r := e.Reserve
			r.Keys = slices.Clone(r.Keys)
			p.open = append(p.open, r)
			p.states[r.ID] = ReservationOpen
		}
	case EffectConfirm:
		p.confirm(m, &e.Resolve)
		p.sweep(m, now)
	case EffectRelease:
		p.release(func(r *ReserveEffect) bool { return r.ID == e.Resolve.ID })
		p.sweep(m, now)
	case EffectUse:
		p.sweep(m, now)
		for _, k := range e.Use.Keys {
			p.use(m, k, e.Use.At)
		}
	case EffectDecision:
		if e.Decision.Request != 0 {
			p.sweep(m, now)
			p.requests = slices.DeleteFunc(p.requests, func(d DecisionEffect) bool {
				return d.Request == e.Decision.Request
			})
			p.requests = append(p.requests, e.Decision)
			p.requests = p.requests[max(0, len(p.requests)-4):]
		}
	}
}

func (p *modelPerson) patch(in *Patch, at UnixMsec) {
	for _, i := range in.Identities {
		if !slices.ContainsFunc(p.identities, func(h Identity) bool {
			return h.Type == i.Type && string(h.Value) == string(i.Value)
		}) {
			p.identities = append(p.identities, i)
		}
	}
	for _, a := range in.Attrs {
		if a.Remove {
			delete(p.attrs, a.ID)
		} else {
			p.attrs[a.ID] = a.Value
		}
	}
	p.patchTags(in, at)
	for _, n := range in.SegmentsRemove {
		delete(p.segments, n)
	}
	for _, n := range in.SegmentsAdd {
		p.segments[n] = true
	}
	p.consents = append(p.consents, in.Consents...)
	for _, a := range in.Addresses {
		p.addresses[a.Channel] = a.Values
	}
	if in.Blacklist != nil {
		p.blacklist = *in.Blacklist
	}
	if in.Zone != nil {
		p.zone = *in.Zone
	}
	if in.Locale != nil {
		p.locale = *in.Locale
	}
}

func (p *modelPerson) event(now UnixMsec, e TailEvent) {
	p.all = append(p.all, e.Occurred)
	p.tail = append([]TailEvent{e}, p.tail...)
	slices.SortStableFunc(p.tail, func(a, b TailEvent) int { return int(b.Occurred - a.Occurred) })
	p.tail = slices.DeleteFunc(p.tail, func(e TailEvent) bool { return e.Occurred <= now-TailAge })
	p.tail = p.tail[:min(len(p.tail), TailMax)]
}

// fact notes an event as what is summed up.
func (p *modelPerson) fact(f activityEdit) {
	if len(p.left) > 0 {
		p.left = append(p.left, f)
		return
	}
	all := append([]activityEdit{f}, p.recent...)
	slices.SortStableFunc(all, func(a, b activityEdit) int { return int(b.occurred - a.occurred) })
	if len(all) <= TailMax && all[len(all)-1].occurred > f.now-TailAge {
		p.recent = all
		return
	}
	p.left, p.recent = append(p.everything(), f), nil
}

// everything is every event in the order in which they are summed up.
func (p *modelPerson) everything() []activityEdit {
	all := slices.Clone(p.left)
	for _, f := range slices.Backward(p.recent) {
		all = append(all, f)
	}
	return all
}

func (p *modelPerson) live(r *ReserveEffect, t Instant) bool {
	at := int64(r.Expires) + int64(r.Grace)
	if r.Granted <= t.Floor {
		at = max(at, int64(t.Floor)+int64(r.Expires-r.Granted)+int64(r.Grace))
	}
	return int64(t.Now) < at
}

func (p *modelPerson) sweep(m *model, now UnixSec) {
	t := Instant{Now: now, Floor: m.floor}
	p.release(func(r *ReserveEffect) bool { return !p.live(r, t) })
	p.requests = slices.DeleteFunc(p.requests, func(d DecisionEffect) bool { return d.Until <= now })
}

func (p *modelPerson) release(which func(*ReserveEffect) bool) {
	p.open = slices.DeleteFunc(p.open, func(r ReserveEffect) bool {
		if !which(&r) {
			return false
		}
		p.states[r.ID] = ReservationReleased
		switch {
		case p.confirmed[r.ID] && len(r.Keys) == 0:
			p.states[r.ID] = ReservationConfirmed
		case p.confirmed[r.ID]:
			p.states[r.ID] = ReservationPartly
		}
		return true
	})
}

func (p *modelPerson) confirm(m *model, e *ResolveEffect) {
	for i := range p.open {
		r := &p.open[i]
		if r.ID != e.ID {
			continue
		}
		at := min(max(e.At, r.Granted), r.Expires)
		r.Keys = slices.DeleteFunc(r.Keys, func(k HeldKey) bool {
			if k.CountOn&e.CountOn == 0 {
				return false
			}
			i := slices.IndexFunc(e.Windows, func(w TotalKey) bool { return w.CounterKey == k.Key })
			if k.Total && i >= 0 {
				k.Window = min(k.Window, e.Windows[i].Window)
			}
			p.use(m, k, at)
			p.confirmed[r.ID] = true
			return true
		})
		if len(r.Keys) == 0 {
			p.release(func(r *ReserveEffect) bool { return r.ID == e.ID })
		}
		return
	}
}

func (p *modelPerson) use(m *model, k HeldKey, at UnixSec) {
	if k.Total {
		m.totals[TotalKey{k.Key, k.Window}] += k.Units()
		return
	}
	p.uses[k.Key] = append(p.uses[k.Key], at)
}

func (p *modelPerson) consent(purpose Name, channel uint8) (granted, known bool) {
	var at UnixMsec
	for _, c := range p.consents {
		if c.Purpose != purpose || c.Channel != channel {
			continue
		}
		switch {
		case !known || c.At > at:
			granted, known, at = c.Granted, true, c.At
		case c.At == at && !c.Granted:
			granted = false
		}
	}
	return granted, known
}

// modelLimit is the limit of every cap of the model.
const modelLimit = 5

// A state must agree with the naive model after every effect.
func TestStateEqualsModel(t *testing.T) {
	for seed := range uint64(3) {
		g, s := newGenerator(seed), newState(3, stateOptions{})
		for i := range 12_000 {
			e := g.next()
			if err := s.apply(uint64(i/5+1), e); err != nil {
				t.Fatalf("seed %d, effect %d of kind %d: %v", seed, i, e.Kind, err)
			}
			if e.Ord != NoOrd {
				if err := g.m.compare(s, e.Ord, secondOf(g.now)); err != nil {
					t.Fatalf("seed %d, effect %d of kind %d: %v", seed, i, e.Kind, err)
				}
			}
			if i%1000 == 999 {
				compareAll(t, g, s)
			}
		}
	}
}

func compareAll(t *testing.T, g *generator, s *state) {
	t.Helper()
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	for o := range g.m.nextOrd {
		if err := g.m.compare(s, o, secondOf(g.now)); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.m.compareMembers(s); err != nil {
		t.Fatal(err)
	}
	stats := map[StatsKey]statsRow{}
	s.stats.each(func(k StatsKey, r statsRow) { stats[k] = r })
	if !maps.Equal(stats, g.m.stats) || s.stats.rows != len(stats) {
		t.Fatal("statistics differ")
	}
	if !maps.Equal(s.share.confirmed, g.m.totals) {
		t.Fatalf("totals %v, want %v", s.share.confirmed, g.m.totals)
	}
	for hash, want := range g.m.claims {
		if got, ok := s.findIdentity(hash); !ok || got != want {
			t.Fatalf("identity: %v, want %v", got, want)
		}
	}
	for n := Name(1); n < 31; n++ {
		want := 0
		for o, p := range g.m.people {
			if _, ok := p.tags[n]; ok {
				want++
				if !s.tags.contains(n, o) {
					t.Fatalf("tag %d misses %d", n, o)
				}
			}
		}
		if s.tags.size(n) != want {
			t.Fatalf("tag %d has %d people, want %d", n, s.tags.size(n), want)
		}
	}
	compareEnds(t, g, s)
}
