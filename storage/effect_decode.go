package storage

import (
	"fmt"
	"math"

	"tact/storage/journal"
)

// effectDecoder decodes bodies. The slices of the effect it fills are its own,
// valid until the next decode; byte slices alias the body.
type effectDecoder struct {
	in    effectReader
	units []BlockEffect
	patch Patch

	blacklist    uint16
	zone, locale Name

	identities     []Identity
	attrs          []AttrValue
	windows        []TotalKey
	tagsRemove     []Name
	tagsAdd        []TagValue
	segmentsAdd    []Name
	segmentsRemove []Name
	consents       []Consent
	addresses      []Address
	values         [][]byte
	keys           []HeldKey
	variants       []Name
	counts         []StatsCount
	kept           []ReservationID
	ords           []Ord
}

// decodeClear fills e, whose Kind is set, from the clear part of its body.
// Corrupt bytes are an error.
func (d *effectDecoder) decodeClear(e *Effect, part []byte) error {
	d.in = effectReader{b: part}
	switch e.Kind {
	case EffectCreate:
		c := &e.Create
		c.Workspace = WorkspaceID(d.in.u32())
		c.Slot = Slot(d.in.u16())
		c.Person = PersonID(d.in.u64())
		c.IDHash = d.in.u64()
		c.Visitor = d.in.flag()
		d.in.check(c.Slot < Slots)
	case EffectPatch:
		d.patchClear()
		e.Patch = &d.patch
	case EffectReserve:
		d.reserve(&e.Reserve)
	case EffectConfirm, EffectRelease:
		e.Resolve = ResolveEffect{ID: d.reservationID(), CountOn: d.in.u16(), At: d.seconds()}
		e.Resolve.Windows = d.totalWindows()
		e.Resolve.Mark = d.useMark()
	case EffectUse:
		e.Use.At = d.seconds()
		e.Use.Keys = d.heldKeys()
		e.Use.Lost, e.Use.Mark = ReservationID{}, UseMark{}
		if len(d.in.b) > 0 {
			e.Use.Lost = d.reservationID()
			d.in.check(e.Use.Lost.Epoch != 0 || len(d.in.b) > 0)
			e.Use.Mark = d.useMark()
		}
	case EffectOutcome:
		d.outcome(&e.Outcome)
	case EffectDecision:
		d.decision(&e.Decision)
	case EffectClaim:
		d.claim(&e.Claim)
	case EffectTime:
		e.Floor = d.seconds()
		d.incident(&e.Incident)
	case EffectMember:
		d.member(&e.Member)
	case EffectTrack:
		e.Track = TrackEffect{d.in.name(), TrackPhase(d.in.u8()), d.in.u64()}
	case EffectBlock:
		e.Block = d.block()
	case EffectBurn:
		d.burn(&e.Burn)
	case EffectRefund:
		e.Refund = d.unitList()
	case EffectRollback:
		e.Rollback = RollbackEffect{d.seconds(), PersonID(d.in.u64())}
	case EffectCede:
		e.Cede.Origins = nil
		for range d.in.count(8) {
			e.Cede.Origins = append(e.Cede.Origins, Origin(d.in.u64()))
		}
	case EffectAbsorb:
		e.Absorb = AbsorbEffect{Origin(d.in.u64()), d.seconds(), d.in.text()}
	case EffectEvent, EffectForget, EffectErase:
	default:
		return fmt.Errorf("%w: effect kind %d", ErrCorrupt, e.Kind)
	}
	if err := d.in.end(); err != nil {
		return fmt.Errorf("clear part of effect kind %d: %w", e.Kind, err)
	}
	return nil
}

func (d *effectDecoder) claim(c *ClaimEffect) {
	c.Workspace = WorkspaceID(d.in.u32())
	c.Slot = Slot(d.in.u16())
	copy(c.Hash[:], d.in.bytes(len(c.Hash)))
	c.Target = PersonRef{GroupID(d.in.u16()), Ord(d.in.u32()), PersonID(d.in.u64())}
	d.in.check(c.Slot < Slots)
}

// decodePersonal adds the personal part to what decodeClear read.
func (d *effectDecoder) decodePersonal(e *Effect, part []byte) error {
	d.in = effectReader{b: part}
	switch e.Kind {
	case EffectCreate:
		e.Create.ID = d.in.text()
	case EffectEvent:
		v := &e.Event
		v.Event = d.in.name()
		v.Occurred = UnixMsec(d.in.u64())
		flags := d.in.u8()
		v.Clamped = flags&eventClamped != 0
		d.in.check(flags&^(eventClamped|eventShift) == 0)
		v.EventID = d.in.text()
		v.Indexed = d.attributes()
		v.Raw = d.in.text()
		v.Shift = d.shift(flags&eventShift != 0)
	case EffectPatch:
		d.patchPersonal()
	case EffectDecision:
		e.Decision.Personal = d.in.text()
	case EffectErase:
		d.erase(&e.Erase)
	}
	if err := d.in.end(); err != nil {
		return fmt.Errorf("personal part of effect kind %d: %w", e.Kind, err)
	}
	return nil
}

func (d *effectDecoder) patchClear() {
	flags := d.in.u8()
	const known = patchTagsReplace | patchBlacklist | patchZone | patchTagSources | patchTexts
	d.in.check(flags&^known == 0)
	p := &d.patch
	*p = Patch{TagsReplace: flags&patchTagsReplace != 0}
	p.TagsRemove = d.names(&d.tagsRemove)
	d.tagsAdd = d.tagsAdd[:0]
	for range d.in.count(3) {
		d.tagsAdd = append(d.tagsAdd,
			TagValue{ID: d.in.name(), Value: d.in.name(), Expires: UnixSec(d.in.uvarint32())})
	}
	p.TagsAdd = orNil(d.tagsAdd)
	p.SegmentsAdd = d.names(&d.segmentsAdd)
	p.SegmentsRemove = d.names(&d.segmentsRemove)
	d.consents = d.consents[:0]
	for range d.in.count(12) {
		d.consents = append(d.consents, Consent{
			Purpose: d.in.name(), Channel: d.in.u8(), Granted: d.in.flag(),
			At: UnixMsec(d.in.u64()), Source: d.in.name(),
		})
	}
	p.Consents = orNil(d.consents)
	if flags&patchBlacklist != 0 {
		d.blacklist = d.in.u16()
		p.Blacklist = &d.blacklist
	}
	if flags&patchZone != 0 {
		d.zone = d.in.name()
		p.Zone = &d.zone
	}
	if flags&patchTagSources != 0 {
		p.TagSource = TagSource(d.in.u8())
		how := d.in.u8()
		p.TagsMerged, p.TagsExpire = how&patchMerged != 0, how&patchExpire != 0
		d.in.check(p.TagSource < sourceCount && how&^(patchMerged|patchExpire) == 0)
		for i := range p.TagsAdd {
			p.TagsAdd[i].Source = TagSource(d.in.u8())
			d.in.check(p.TagsAdd[i].Source < sourceCount)
		}
	}
	if flags&patchTexts != 0 {
		for i := range d.consents {
			d.consents[i].Text = d.in.name()
		}
	}
}

func (d *effectDecoder) patchPersonal() {
	p := &d.patch
	d.identities = d.identities[:0]
	for range d.in.count(2) {
		d.identities = append(d.identities, Identity{Type: d.in.name(), Value: d.in.text()})
	}
	p.Identities = orNil(d.identities)
	p.Attrs = d.attributes()
	d.addresses, d.values = d.addresses[:0], d.values[:0]
	for range d.in.count(2) {
		a := Address{Channel: d.in.u8()}
		from := len(d.values)
		for range d.in.count(1) {
			d.values = append(d.values, d.in.text())
		}
		a.Values = orNil(d.values[from:len(d.values):len(d.values)])
		d.addresses = append(d.addresses, a)
	}
	p.Addresses = orNil(d.addresses)
	if d.in.flag() {
		d.locale = d.in.name()
		p.Locale = &d.locale
	}
}

func (d *effectDecoder) attributes() []AttrValue {
	d.attrs = d.attrs[:0]
	for range d.in.count(2) {
		a := AttrValue{ID: d.in.name(), Remove: d.in.flag()}
		if !a.Remove {
			a.Value.Kind = ValueKind(d.in.u8())
			switch a.Value.Kind {
			case KindString, KindList, KindSemver:
				a.Value.Bytes = d.in.text()
			default:
				a.Value.Num = d.in.u64()
			}
			d.in.check(a.Value.Kind <= KindSemver)
		}
		d.attrs = append(d.attrs, a)
	}
	return orNil(d.attrs)
}

func (d *effectDecoder) reserve(r *ReserveEffect) {
	r.ID = d.reservationID()
	r.Offer, r.Treatment, r.Placement = d.in.name(), d.in.name(), d.in.name()
	r.Channel = d.in.u8()
	r.Granted, r.Expires = d.seconds(), d.seconds()
	r.Grace = d.in.uvarint32()
	r.Keys = d.heldKeys()
	r.Lease = journal.Lease{}
	if len(d.in.b) >= leaseSize {
		if b := d.in.bytes(leaseSize); b != nil {
			r.Lease = parseLease(b)
			d.in.check(r.Lease.Epoch != 0 && le32(b[12:]) == 0)
		}
	}
	if r.Drawn = len(d.in.b) > 0; r.Drawn {
		d.in.check(d.in.u8() == 1)
	}
}

func (d *effectDecoder) incident(in *journal.Incident) {
	*in = journal.Incident{}
	if len(d.in.b) == 0 {
		return
	}
	in.Epoch, in.Synced = d.in.u32(), journal.Msec(d.in.u64())
	in.High, in.Known = journal.Msec(d.in.u64()), d.in.u64()
	d.in.check(in.Epoch != 0)
}

// useMark reads a mark when one follows.
func (d *effectDecoder) useMark() (m UseMark) {
	if len(d.in.b) > 0 {
		copy(m.Decision[:], d.in.bytes(len(m.Decision)))
		m.Offer = d.in.name()
		d.in.check(m.set())
	}
	return m
}

func (d *effectDecoder) reservationID() ReservationID {
	return ReservationID{Epoch: d.in.u32(), Number: d.in.u64()}
}

func (d *effectDecoder) outcome(o *OutcomeEffect) {
	o.Outcome, o.Event, o.Offer = d.in.name(), d.in.name(), d.in.name()
	o.Treatment, o.Placement = d.in.name(), d.in.name()
	o.Channel, o.Flags = d.in.u8(), d.in.u8()
	o.Variants = d.names(&d.variants)
	o.Occurred = UnixMsec(d.in.u64())
	o.Value = math.Float64frombits(d.in.u64())
	o.Shift = d.shift(o.Flags&outcomeShift != 0)
	o.Flags &^= outcomeShift
}

// shift reads a shift when there is one; none is 0.
func (d *effectDecoder) shift(there bool) int32 {
	if !there {
		return 0
	}
	u := d.in.uvarint()
	v := int64(u>>1) ^ -int64(u&1)
	if v == 0 || v < -shiftMax || v > shiftMax {
		d.in.check(false)
		return 0
	}
	return int32(v)
}

func (d *effectDecoder) decision(v *DecisionEffect) {
	copy(v.ID[:], d.in.bytes(len(v.ID)))
	v.Request = d.in.u64()
	v.Body = d.in.u32()
	v.Until = d.seconds()
	d.decisionRest(v)
}

func (d *effectDecoder) decisionRest(v *DecisionEffect) {
	v.Record = d.in.text()
	d.counts = d.counts[:0]
	for range d.in.count(13) {
		key := StatsKey{d.in.name(), d.in.name(), d.in.name(), d.in.name()}
		n := d.in.uvarint32()
		d.counts = append(d.counts,
			StatsCount{Key: key, N: n, Value: math.Float64frombits(d.in.u64())})
	}
	v.Counts = orNil(d.counts)
	v.Personal, v.Kept = nil, nil
	if len(d.in.b) == 0 {
		return // none was kept, or a version that kept none
	}
	d.kept = d.kept[:0]
	for range d.in.count(12) {
		d.kept = append(d.kept, d.reservationID())
	}
	d.in.check(len(d.kept) > 0)
	v.Kept = d.kept
}

func (d *effectDecoder) names(into *[]Name) []Name {
	list := (*into)[:0]
	for range d.in.count(1) {
		list = append(list, d.in.name())
	}
	*into = list
	return orNil(list)
}

func (d *effectDecoder) seconds() UnixSec { return UnixSec(d.in.u32()) }

func orNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}
