package storage

import (
	"fmt"
	"math/rand/v2"
)

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
