package storage

import (
	"fmt"
	"maps"
	"math/rand/v2"
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
	facts      []activityEdit // the same, in order of arrival
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

// compareMembers compares the tracked segments.
func (m *model) compareMembers(s *state) error {
	if len(s.members.sets) != len(m.members) || s.members.last != uint64(len(m.changes)) {
		return fmt.Errorf("%d tracked segments, %d changes; want %d, %d", len(s.members.sets),
			s.members.last, len(m.members), len(m.changes))
	}
	for n, want := range m.members {
		have := s.members.sets[n].bitmap
		for o, in := range want {
			if have.Contains(uint32(o)) != in {
				return fmt.Errorf("ordinal %d in segment %d: want %t", o, n, in)
			}
		}
		for _, o := range have.ToArray() {
			if !want[Ord(o)] {
				return fmt.Errorf("ordinal %d is in segment %d", o, n)
			}
		}
	}
	return nil
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
		p.facts = append(p.facts, activityEdit{
			key: activityKey{event: e.Event.Event}, occurred: e.Event.Occurred, now: e.Time,
			shift: e.Event.Shift, props: e.Event.Indexed,
		})
		p.visitor = false
	case EffectOutcome:
		o := e.Outcome
		p.event(e.Time, TailEvent{
			Occurred: o.Occurred, Event: o.Event, Item: o.Offer, Outcome: true,
			Treatment: o.Treatment, Placement: o.Placement, Channel: o.Channel, Worth: o.Value,
		})
		p.facts = append(p.facts, activityEdit{
			key: activityKey{o.Event, o.Offer, true}, occurred: o.Occurred, now: e.Time,
			shift: o.Shift,
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

// compare compares one person of the state with the model.
func (m *model) compare(s *state, o Ord, now UnixSec) error {
	p := m.people[o]
	if p == nil {
		if s.row(o) != nil {
			return fmt.Errorf("person %d should be gone", o)
		}
		return nil
	}
	if at, ok := s.find(p.ws, p.hash, []byte(p.id)); !ok || at != o {
		return fmt.Errorf("find of %q: %d, %t", p.id, at, ok)
	}
	if _, ok := s.find(p.ws+1, p.hash, []byte(p.id)); ok {
		return fmt.Errorf("find in another workspace")
	}
	if string(s.id(o)) != p.id || s.row(o).Person != p.person ||
		s.row(o).Flags&RowVisitor != 0 != p.visitor {
		return fmt.Errorf("row of %d: id %q, want %q", o, s.id(o), p.id)
	}
	if err := p.compareProfile(s.profile(o)); err != nil {
		return fmt.Errorf("profile of %d: %w", o, err)
	}
	if err := p.compareTail(s.tail(o)); err != nil {
		return fmt.Errorf("tail of %d: %w", o, err)
	}
	if err := p.compareActivity(s.activity(o)); err != nil {
		return fmt.Errorf("activity of %d: %w", o, err)
	}
	if err := p.compareContact(s.contact(o), Instant{Now: now, Floor: m.floor}); err != nil {
		return fmt.Errorf("contact of %d: %w", o, err)
	}
	return nil
}

func (p *modelPerson) compareProfile(f Profile) error {
	attrs := map[Name]Value{}
	f.EachAttr(func(n Name, v Value) bool { attrs[n] = v; return true })
	same := func(a, b Value) bool {
		return a.Kind == b.Kind && a.Num == b.Num && string(a.Bytes) == string(b.Bytes)
	}
	if !maps.EqualFunc(attrs, p.attrs, same) {
		return fmt.Errorf("attributes %v, want %v", attrs, p.attrs)
	}
	for n := Name(1); n < 40; n++ {
		v, ok := f.Attr(n)
		if w, want := p.attrs[n]; ok != want || !same(v, w) {
			return fmt.Errorf("attribute %d: %v, want %v", n, v, w)
		}
		var places AttrPlaces
		places[n%64] = uint16(len(attrs)) / 2 // where another one may be
		for range 2 {
			kind, num, text := f.AttrNear(n, &places)
			if w := p.attrs[n]; !same(Value{Kind: kind, Num: num, Bytes: text}, w) {
				return fmt.Errorf("attribute %d near %d: %v %v, want %v", n, places[n%64], kind, num, w)
			}
		}
		value, ok, expires := f.Tag(n)
		if t, want := p.tags[n]; ok != want || t.Value != value || t.Expires != expires {
			return fmt.Errorf("tag %d: %v %v, want %v", n, value, expires, t)
		}
		if f.Segment(n) != p.segments[n] {
			return fmt.Errorf("segment %d", n)
		}
	}
	for purpose := Name(1); purpose < 6; purpose++ {
		for channel := range uint8(MaxChannels) {
			granted, known, _ := f.Consent(purpose, channel)
			if g, k := p.consent(purpose, channel); g != granted || k != known {
				return fmt.Errorf("consent %d/%d: %t %t, want %t %t",
					purpose, channel, granted, known, g, k)
			}
		}
	}
	for channel := range uint8(MaxChannels) {
		if f.HasAddress(channel) != (len(p.addresses[channel]) > 0) ||
			f.Blacklisted(channel) != (p.blacklist>>channel&1 == 1) {
			return fmt.Errorf("channel %d", channel)
		}
		var have []string
		f.EachAddress(func(c uint8, v []byte) bool {
			if c == channel {
				have = append(have, string(v))
			}
			return true
		})
		if !slices.EqualFunc(have, p.addresses[channel], func(a string, b []byte) bool {
			return a == string(b)
		}) {
			return fmt.Errorf("addresses %q, want %q", have, p.addresses[channel])
		}
	}
	for _, i := range p.identities {
		if !f.HasIdentity(i.Type, i.Value) {
			return fmt.Errorf("identity %v", i)
		}
	}
	if f.Zone() != p.zone || f.Locale() != p.locale || f.Blacklist() != p.blacklist {
		return fmt.Errorf("zone %d, locale %d", f.Zone(), f.Locale())
	}
	return p.compareTags(f)
}

func (p *modelPerson) compareTail(t Tail) error {
	if t.Len() != len(p.tail) {
		return fmt.Errorf("%d events, want %d", t.Len(), len(p.tail))
	}
	i := 0
	var err error
	t.Each(func(e TailEvent) bool {
		e.props = nil
		want := p.tail[i]
		if fmt.Sprint(e) != fmt.Sprint(want) {
			err = fmt.Errorf("event %d: %+v, want %+v", i, e, want)
		}
		i++
		return err == nil
	})
	if err != nil || i != len(p.tail) {
		return fmt.Errorf("after %d of %d: %w", i, len(p.tail), err)
	}
	since := 0
	for _, at := range p.all {
		if at >= t.Floor() {
			since++
		}
	}
	kept := 0
	for _, e := range p.tail {
		if e.Occurred >= t.Floor() {
			kept++
		}
	}
	if since != kept {
		return fmt.Errorf("%d events since the floor, %d in the tail", since, kept)
	}
	return nil
}

func (p *modelPerson) compareContact(c Contact, t Instant) error {
	for cap := Name(1); cap < 6; cap++ {
		for dim := range uint32(3) {
			key := CounterKey{cap, dim}
			for _, w := range []UnixSec{1, 30, 600, 86400, 30 * 86400} {
				if err := p.compareCount(c, key, t.Now-w, t); err != nil {
					return fmt.Errorf("key %v window %d: %w", key, w, err)
				}
			}
		}
	}
	if c.opens() != len(p.open) || c.requests() != len(p.requests) {
		return fmt.Errorf("%d open, %d requests; want %d, %d", c.opens(), c.requests(),
			len(p.open), len(p.requests))
	}
	for _, r := range p.open {
		h, state := c.Reservation(r.ID)
		if state != ReservationOpen || h.Offer() != r.Offer || h.Len() != len(r.Keys) ||
			h.Granted() != r.Granted || h.Expires() != r.Expires || h.Grace() != r.Grace ||
			h.Channel() != r.Channel || h.Treatment() != r.Treatment ||
			h.Placement() != r.Placement {
			return fmt.Errorf("reservation %v", r)
		}
		for i := range r.Keys {
			if h.Key(i) != r.Keys[i] {
				return fmt.Errorf("key %v, want %v", h.Key(i), r.Keys[i])
			}
		}
	}
	for id, want := range p.states {
		if _, state := c.Reservation(id); state != want && state != ReservationUnknown {
			return fmt.Errorf("reservation %v is %d, want %d", id, state, want)
		}
	}
	for _, d := range p.requests {
		id, body, ok := c.Request(d.Request, t.Now)
		if ok != (d.Until > t.Now) || ok && (id != d.ID || body != d.Body) {
			return fmt.Errorf("request %d", d.Request)
		}
	}
	return nil
}

// modelLimit is the limit of every cap of the model.
const modelLimit = 5

func (p *modelPerson) compareCount(c Contact, key CounterKey, since UnixSec, t Instant) error {
	var times []UnixSec
	for _, at := range p.uses[key] {
		if at > since {
			times = append(times, at)
		}
	}
	pending := 0
	for i := range p.open {
		for _, k := range p.open[i].Keys {
			if k.Key == key && !k.Total && p.open[i].Expires > since && p.live(&p.open[i], t) {
				pending++
				times = append(times, p.open[i].Expires)
			}
		}
	}
	u := c.Count(key, since, t)
	if u.Pending != pending || u.N > len(times) || !u.Unknown && u.N != len(times) {
		return fmt.Errorf("usage %+v, want %d with %d pending", u, len(times), pending)
	}
	if (u.N >= modelLimit) != (len(times) >= modelLimit) {
		return fmt.Errorf("usage %+v, want %d of %d", u, len(times), modelLimit)
	}
	if len(times) > 0 && u.Latest != slices.Max(times) {
		return fmt.Errorf("latest %d, want %d", u.Latest, slices.Max(times))
	}
	if !u.Unknown && len(times) > 0 && u.Oldest != slices.Min(times) {
		return fmt.Errorf("oldest %d, want %d", u.Oldest, slices.Min(times))
	}
	slices.Sort(times)
	for k := 1; k <= min(len(times), modelLimit); k++ {
		if at := c.KthLatest(key, k, t); at != times[len(times)-k] {
			return fmt.Errorf("%d-th latest: %d, want %d", k, at, times[len(times)-k])
		}
	}
	return nil
}

// A generator draws effects that fit the model's state.
type generator struct {
	r   *rand.Rand
	m   *model
	now UnixMsec
}

func newGenerator(seed uint64) *generator {
	return &generator{r: rand.New(rand.NewPCG(seed, 7)), m: newModel(), now: 1_700_000_000_000}
}

// next draws the next effect and applies it to the model.
func (g *generator) next() *Effect {
	g.now += UnixMsec(g.r.IntN(4000))
	if g.r.IntN(300) == 0 {
		g.now += UnixMsec(g.r.IntN(40*24)) * 3600_000
	}
	e := g.draw()
	e.Time = g.now
	if g.r.IntN(10) == 0 {
		e.DedupKey, e.DedupBody = g.r.Uint64N(1000)+1, g.r.Uint32()
	}
	g.m.apply(e)
	return e
}

func (g *generator) draw() *Effect {
	if len(g.m.people) < 8 || len(g.m.people) < 120 && g.r.IntN(40) == 0 {
		return g.create()
	}
	o := Ord(g.r.IntN(int(g.m.nextOrd))) // also people who are gone
	switch n := g.r.IntN(100); {
	case n < 3:
		return &Effect{Kind: EffectPatch, Ord: o, Patch: &Patch{TagsExpire: true}}
	case n < 15:
		return &Effect{Kind: EffectPatch, Ord: o, Patch: g.patch()}
	case n < 30:
		return &Effect{Kind: EffectEvent, Ord: o, Event: g.event()}
	case n < 50:
		return &Effect{Kind: EffectReserve, Ord: o, Reserve: g.reserve()}
	case n < 62:
		return &Effect{Kind: EffectConfirm, Ord: o, Resolve: g.resolve(o)}
	case n < 67:
		return &Effect{Kind: EffectRelease, Ord: o, Resolve: g.resolve(o)}
	case n < 77:
		return &Effect{Kind: EffectUse, Ord: o, Use: UseEffect{
			At: secondOf(g.now) - UnixSec(g.r.IntN(2000)), Keys: g.keys(),
		}}
	case n < 85:
		return &Effect{Kind: EffectOutcome, Ord: o, Outcome: g.outcome()}
	case n < 91:
		return &Effect{Kind: EffectDecision, Ord: o, Decision: DecisionEffect{
			ID: DecisionID{1, byte(n), byte(g.r.Uint32())}, Request: g.r.Uint64N(6), Body: g.r.Uint32(),
			Until:  secondOf(g.now) + UnixSec(g.r.IntN(300)),
			Counts: []StatsCount{{Key: StatsKey{Offer: Name(g.r.IntN(9))}, N: 2, Value: 0.5}},
		}}
	case n < 94:
		return g.members()
	case n < 95:
		return g.leave(o)
	case n < 96:
		return &Effect{Kind: EffectTime, Ord: NoOrd}
	case n < 97:
		return g.blocks()
	}
	return &Effect{Kind: EffectClaim, Ord: NoOrd, Claim: ClaimEffect{
		Workspace: 1, Slot: Slot(g.r.IntN(Slots)), Hash: [16]byte{byte(g.r.IntN(200)), 9},
		Target: PersonRef{Group: 3, Ord: o, Person: PersonID(o) + 1},
	}}
}

// blocks draws an effect on blocks of totals.
func (g *generator) blocks() *Effect {
	unit := BlockEffect{
		TotalKey{CounterKey{Name(1 + g.r.IntN(5)), 0}, uint32(g.r.IntN(2))}, g.r.Int64N(40) - 10,
	}
	if g.r.IntN(3) == 0 {
		return &Effect{Kind: EffectRefund, Ord: NoOrd, Refund: []BlockEffect{unit}}
	}
	if g.r.IntN(2) == 0 {
		return &Effect{Kind: EffectBlock, Ord: NoOrd, Block: unit}
	}
	return &Effect{Kind: EffectBurn, Ord: NoOrd, Burn: BurnEffect{
		g.r.IntN(3) == 0, []BlockEffect{unit},
	}}
}

// members draws an effect on tracked segments.
func (g *generator) members() *Effect {
	segment := Name(1 + g.r.IntN(4))
	if g.r.IntN(4) == 0 {
		phase := TrackPhase(1 + g.r.IntN(3))
		return &Effect{Kind: EffectTrack, Ord: NoOrd, Track: TrackEffect{segment, phase, g.r.Uint64()}}
	}
	e := &Effect{Kind: EffectMember, Ord: NoOrd, Member: MemberEffect{
		Segment: segment, Entered: g.r.IntN(3) > 0, Cause: MemberCause(1 + g.r.IntN(4)), At: g.now - 7,
	}}
	for o := range g.m.nextOrd {
		if g.m.people[o] != nil && g.r.IntN(8) == 0 {
			e.Member.Ords = append(e.Member.Ords, o)
		}
	}
	if len(e.Member.Ords) == 0 {
		return &Effect{Kind: EffectTime, Ord: NoOrd}
	}
	return e
}

// leave draws an effect that takes a person out.
func (g *generator) leave(o Ord) *Effect {
	p := g.m.people[o]
	if p == nil || g.r.IntN(2) == 0 {
		return &Effect{Kind: EffectForget, Ord: o}
	}
	return &Effect{Kind: EffectErase, Ord: o, Erase: EraseEffect{
		Workspace: p.ws, Person: p.person, Hash: [16]byte{byte(o), 1}, Held: Holdings{3: 9},
	}}
}

func (g *generator) create() *Effect {
	o := g.m.nextOrd
	id := fmt.Appendf(nil, "user-%d", o)
	if g.r.IntN(4) == 0 {
		id = fmt.Appendf(id, "-%060d", o) // does not fit in the row
	}
	e := &Effect{Kind: EffectCreate, Ord: o, Create: CreateEffect{
		Workspace: 1 + 2*WorkspaceID(g.r.IntN(2)), Slot: Slot(g.r.IntN(Slots)),
		Person: PersonID(o) + 1, ID: id, IDHash: g.r.Uint64(), Visitor: g.r.IntN(3) == 0,
	}}
	if g.r.IntN(5) == 0 {
		e.Create.IDHash = uint64(o)%3<<32 | 5 // tags and buckets that collide
	}
	for i := range e.Create.Key {
		e.Create.Key[i] = byte(g.r.Uint32())
	}
	return e
}

func (g *generator) patch() *Patch {
	p := &Patch{TagsReplace: g.r.IntN(10) == 0}
	name := func(n int) Name { return Name(1 + g.r.IntN(n)) }
	some := func(f func()) {
		for range g.r.IntN(4) {
			f()
		}
	}
	some(func() {
		p.Attrs = append(p.Attrs, AttrValue{ID: name(30), Remove: g.r.IntN(4) == 0, Value: g.value()})
	})
	some(func() {
		t := TagValue{ID: name(30), Value: name(4), Source: TagSource(g.r.IntN(5))}
		if g.r.IntN(3) == 0 {
			t.Expires = secondOf(g.now) + UnixSec(g.r.IntN(40)) - 10
		}
		p.TagsAdd = append(p.TagsAdd, t)
	})
	p.TagSource, p.TagsMerged = TagSource(g.r.IntN(5)), g.r.IntN(9) == 0
	some(func() { p.TagsRemove = append(p.TagsRemove, name(30)) })
	some(func() { p.SegmentsAdd = append(p.SegmentsAdd, name(20)) })
	some(func() { p.SegmentsRemove = append(p.SegmentsRemove, name(20)) })
	some(func() {
		p.Consents = append(p.Consents, Consent{
			name(5), uint8(g.r.IntN(MaxChannels)), g.r.IntN(2) == 0, UnixMsec(g.r.IntN(50)), name(3),
			Name(g.r.IntN(3)),
		})
	})
	if g.r.IntN(8) == 0 {
		p.Identities = append(p.Identities, Identity{name(3), []byte{byte(g.r.IntN(20))}})
	}
	if g.r.IntN(4) == 0 {
		a := Address{Channel: uint8(g.r.IntN(4))}
		for range g.r.IntN(3) {
			a.Values = append(a.Values, fmt.Appendf(nil, "a%d@example.org", g.r.IntN(50)))
		}
		p.Addresses = append(p.Addresses, a)
	}
	if g.r.IntN(5) == 0 {
		v, z, l := uint16(g.r.Uint32()), Name(g.r.IntN(3)), Name(g.r.IntN(3))
		p.Blacklist, p.Zone, p.Locale = &v, &z, &l
	}
	return p
}

func (g *generator) value() Value {
	k := ValueKind(1 + g.r.IntN(8))
	switch k {
	case KindBool:
		return Value{Kind: k, Num: g.r.Uint64N(2)}
	case KindString, KindList, KindSemver:
		return Value{Kind: k, Bytes: make([]byte, g.r.IntN(40))}
	}
	return Value{Kind: k, Num: g.r.Uint64() >> g.r.IntN(64)}
}

func (g *generator) event() EventEffect {
	e := EventEffect{
		Event: Name(1 + g.r.IntN(9)), Clamped: g.r.IntN(9) == 0,
		Occurred: g.now - UnixMsec(g.r.IntN(100_000)),
	}
	if g.r.IntN(10) == 0 {
		e.Occurred -= TailAge - 50_000
	}
	if g.r.IntN(10) == 0 {
		e.Occurred -= UnixMsec(g.r.IntN(2*ActivityDays)) * dayMsec
	}
	e.Shift = int32(g.r.IntN(3)-1) * 8 * 3600
	for range g.r.IntN(3) {
		e.Indexed = append(e.Indexed, AttrValue{ID: Name(1 + g.r.IntN(9)), Value: g.value()})
	}
	return e
}

func (g *generator) keys() []HeldKey {
	var keys []HeldKey
	cost := uint64(g.r.IntN(3)) * 250
	for range 1 + g.r.IntN(3) {
		k := HeldKey{
			Key:     CounterKey{Name(1 + g.r.IntN(5)), uint32(g.r.IntN(3))},
			CountOn: 1 << g.r.IntN(3), Limit: modelLimit,
		}
		if g.r.IntN(4) == 0 {
			k.Total, k.Window = true, uint32(g.r.IntN(2))
			if g.r.IntN(2) == 0 {
				k.Cost = cost
			}
		}
		keys = append(keys, k)
	}
	return keys
}

func (g *generator) reserve() ReserveEffect {
	g.m.reserved++
	now := secondOf(g.now)
	return ReserveEffect{
		ID: ReservationID{1, g.m.reserved}, Offer: Name(g.r.IntN(9)), Treatment: 4, Placement: 5,
		Channel: 2, Granted: now, Expires: now + UnixSec(g.r.IntN(900)), Grace: 60, Keys: g.keys(),
	}
}

func (g *generator) resolve(o Ord) ResolveEffect {
	e := ResolveEffect{CountOn: uint16(1 + g.r.IntN(7)), At: secondOf(g.now)}
	e.ID = ReservationID{1, g.r.Uint64N(g.m.reserved + 1)}
	if p := g.m.people[o]; p != nil && len(p.open) > 0 && g.r.IntN(8) != 0 {
		r := p.open[g.r.IntN(len(p.open))]
		e.ID = r.ID
		for _, k := range r.Keys {
			if k.Total && g.r.IntN(2) == 0 {
				e.Windows = append(e.Windows, TotalKey{k.Key, k.Window + uint32(g.r.IntN(3)) - 1})
			}
		}
	}
	return e
}

func (g *generator) outcome() OutcomeEffect {
	return OutcomeEffect{
		Outcome: Name(1 + g.r.IntN(4)), Event: Name(1 + g.r.IntN(4)), Offer: Name(g.r.IntN(9)),
		Treatment: Name(g.r.IntN(9)), Placement: 3, Channel: 2, Variants: []Name{7, 8},
		Occurred: g.now - UnixMsec(g.r.IntN(60_000)), Value: g.r.Float64(),
		Shift: int32(g.r.IntN(2)) * 3600,
	}
}

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
	if !maps.Equal(s.stats.rows, g.m.stats) {
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
				if b := s.bitmap(n); b == nil || !b.Contains(uint32(o)) {
					t.Fatalf("tag %d misses %d", n, o)
				}
			}
		}
		if b := s.bitmap(n); b != nil && b.GetCardinality() != uint64(want) {
			t.Fatalf("tag %d has %d people, want %d", n, b.GetCardinality(), want)
		}
	}
	compareEnds(t, g, s)
}
