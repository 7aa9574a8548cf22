package storage

import (
	"encoding/binary"
	"math"
	"slices"
)

// The body of an effect has a clear part and, for effects with personal
// content, a personal part that is sealed on disk. FORMAT.md draws both for
// every kind. Numbers are little-endian or unsigned varints; a text is its
// length as a varint, then its bytes; a list is its length as a varint, then
// its elements.

const (
	patchTagsReplace = 1 << iota
	patchBlacklist
	patchZone
	patchTagSources        // at the end: who removes u8, flags u8, the source u8 of each tag added
	patchTexts      = 0x40 // the text versions of the consents follow, one each
)

// alwaysPersonal says of which kinds an effect is nothing without a personal part.
func alwaysPersonal(k EffectKind) bool {
	return k == EffectCreate || k == EffectEvent || k == EffectErase
}

// hasPersonal says whether e has a personal part.
func hasPersonal(e *Effect) bool {
	switch e.Kind {
	case EffectPatch:
		p := e.Patch
		return len(p.Identities)+len(p.Attrs)+len(p.Addresses) > 0 || p.Locale != nil
	case EffectDecision:
		return len(e.Decision.Personal) > 0
	}
	return alwaysPersonal(e.Kind)
}

// appendClear appends the clear part of e's body.
func appendClear(b []byte, e *Effect) []byte {
	le := binary.LittleEndian
	switch e.Kind {
	case EffectCreate:
		c := &e.Create
		b = le.AppendUint32(b, uint32(c.Workspace))
		b = le.AppendUint16(b, uint16(c.Slot))
		b = le.AppendUint64(b, uint64(c.Person))
		b = le.AppendUint64(b, c.IDHash)
		b = appendBool(b, c.Visitor)
	case EffectPatch:
		b = appendPatchClear(b, e.Patch)
	case EffectReserve:
		b = appendReserve(b, &e.Reserve)
	case EffectConfirm, EffectRelease:
		b = appendReservationID(b, e.Resolve.ID)
		b = le.AppendUint16(b, e.Resolve.CountOn)
		b = le.AppendUint32(b, uint32(e.Resolve.At))
		if len(e.Resolve.Windows) > 0 || e.Resolve.Mark.set() {
			b = appendMark(appendWindows(b, e.Resolve.Windows), &e.Resolve.Mark)
		}
	case EffectUse:
		b = le.AppendUint32(b, uint32(e.Use.At))
		b = appendKeys(b, e.Use.Keys)
		if e.Use.Lost.Epoch != 0 || e.Use.Mark.set() {
			b = appendMark(appendReservationID(b, e.Use.Lost), &e.Use.Mark)
		}
	case EffectOutcome:
		b = appendOutcome(b, &e.Outcome)
	case EffectDecision:
		b = appendDecision(b, &e.Decision)
	case EffectClaim:
		b = appendClaim(b, &e.Claim)
	case EffectTime:
		b = le.AppendUint32(b, uint32(e.Floor))
		if e.Incident.Epoch != 0 {
			b = appendIncident(b, &e.Incident)
		}
	case EffectMember:
		b = appendMember(b, &e.Member)
	case EffectTrack:
		t := &e.Track
		b = binary.AppendUvarint(b, uint64(t.Segment))
		b = le.AppendUint64(append(b, byte(t.Phase)), t.Digest)
	case EffectBlock:
		b = appendBlock(b, &e.Block)
	case EffectBurn:
		b = appendBurn(b, &e.Burn)
	case EffectRefund:
		b = appendUnits(b, e.Refund)
	case EffectRollback:
		b = le.AppendUint32(b, uint32(e.Rollback.Blind))
		b = le.AppendUint64(b, uint64(e.Rollback.Person))
	case EffectCede:
		b = binary.AppendUvarint(b, uint64(len(e.Cede.Origins)))
		for _, p := range e.Cede.Origins {
			b = le.AppendUint64(b, uint64(p))
		}
	case EffectAbsorb:
		b = le.AppendUint64(b, uint64(e.Absorb.Origin))
		b = le.AppendUint32(b, uint32(e.Absorb.Until))
		b = appendText(b, e.Absorb.Part)
	}
	return b
}

func appendClaim(b []byte, c *ClaimEffect) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(c.Workspace))
	b = le.AppendUint16(b, uint16(c.Slot))
	b = append(b, c.Hash[:]...)
	b = le.AppendUint16(b, uint16(c.Target.Group))
	b = le.AppendUint32(b, uint32(c.Target.Ord))
	return le.AppendUint64(b, uint64(c.Target.Person))
}

// Flags of the bodies of an event and of an outcome, beside those of effect.go.
const (
	eventClamped = 1
	eventShift   = 2    // a shift follows
	outcomeShift = 0x80 // a shift follows
)

// appendPersonal appends the personal part of e's body.
func appendPersonal(b []byte, e *Effect) []byte {
	switch e.Kind {
	case EffectCreate:
		b = appendText(b, e.Create.ID)
	case EffectPatch:
		b = appendPatchPersonal(b, e.Patch)
	case EffectEvent:
		v := &e.Event
		b = binary.AppendUvarint(b, uint64(v.Event))
		b = binary.LittleEndian.AppendUint64(b, uint64(v.Occurred))
		var flags byte
		if v.Clamped {
			flags |= eventClamped
		}
		if v.Shift != 0 {
			flags |= eventShift
		}
		b = append(b, flags)
		b = appendText(b, v.EventID)
		b = appendAttrs(b, v.Indexed)
		b = appendText(b, v.Raw)
		if v.Shift != 0 {
			b = binary.AppendVarint(b, int64(v.Shift))
		}
	case EffectDecision:
		b = appendText(b, e.Decision.Personal)
	case EffectErase:
		b = appendErase(b, &e.Erase)
	}
	return b
}

func appendPatchClear(b []byte, p *Patch) []byte {
	var flags byte
	set := func(bit byte, on bool) {
		if on {
			flags |= bit
		}
	}
	set(patchTagsReplace, p.TagsReplace)
	set(patchBlacklist, p.Blacklist != nil)
	set(patchZone, p.Zone != nil)
	sources := patchSourced(p)
	set(patchTagSources, sources)
	texts := slices.ContainsFunc(p.Consents, func(c Consent) bool { return c.Text != 0 })
	set(patchTexts, texts)
	b = append(b, flags)
	b = appendNames(b, p.TagsRemove)
	b = binary.AppendUvarint(b, uint64(len(p.TagsAdd)))
	for _, t := range p.TagsAdd {
		b = binary.AppendUvarint(b, uint64(t.ID))
		b = binary.AppendUvarint(b, uint64(t.Value))
		b = binary.AppendUvarint(b, uint64(t.Expires))
	}
	b = appendNames(b, p.SegmentsAdd)
	b = appendNames(b, p.SegmentsRemove)
	b = binary.AppendUvarint(b, uint64(len(p.Consents)))
	for _, c := range p.Consents {
		b = binary.AppendUvarint(b, uint64(c.Purpose))
		b = append(b, c.Channel)
		b = appendBool(b, c.Granted)
		b = binary.LittleEndian.AppendUint64(b, uint64(c.At))
		b = binary.AppendUvarint(b, uint64(c.Source))
	}
	if p.Blacklist != nil {
		b = binary.LittleEndian.AppendUint16(b, *p.Blacklist)
	}
	if p.Zone != nil {
		b = binary.AppendUvarint(b, uint64(*p.Zone))
	}
	if sources {
		b = append(b, byte(p.TagSource))
		var how byte
		if p.TagsMerged {
			how |= patchMerged
		}
		if p.TagsExpire {
			how |= patchExpire
		}
		b = append(b, how)
		for i := range p.TagsAdd {
			b = append(b, byte(p.TagsAdd[i].Source))
		}
	}
	if texts {
		for _, c := range p.Consents {
			b = binary.AppendUvarint(b, uint64(c.Text))
		}
	}
	return b
}

// Flags of a patch's tags.
const (
	patchMerged = 1
	patchExpire = 2
)

// patchSourced says whether a patch tells more of its tags than their names.
func patchSourced(p *Patch) bool {
	return p.TagSource != 0 || p.TagsMerged || p.TagsExpire ||
		slices.ContainsFunc(p.TagsAdd, func(t TagValue) bool { return t.Source != 0 })
}

func appendPatchPersonal(b []byte, p *Patch) []byte {
	b = binary.AppendUvarint(b, uint64(len(p.Identities)))
	for _, id := range p.Identities {
		b = binary.AppendUvarint(b, uint64(id.Type))
		b = appendText(b, id.Value)
	}
	b = appendAttrs(b, p.Attrs)
	b = binary.AppendUvarint(b, uint64(len(p.Addresses)))
	for _, a := range p.Addresses {
		b = append(b, a.Channel)
		b = binary.AppendUvarint(b, uint64(len(a.Values)))
		for _, v := range a.Values {
			b = appendText(b, v)
		}
	}
	b = appendBool(b, p.Locale != nil)
	if p.Locale != nil {
		b = binary.AppendUvarint(b, uint64(*p.Locale))
	}
	return b
}

func appendAttrs(b []byte, attrs []AttrValue) []byte {
	b = binary.AppendUvarint(b, uint64(len(attrs)))
	for i := range attrs {
		a := &attrs[i]
		b = binary.AppendUvarint(b, uint64(a.ID))
		b = appendBool(b, a.Remove)
		if a.Remove {
			continue
		}
		b = append(b, byte(a.Value.Kind))
		switch a.Value.Kind {
		case KindString, KindList, KindSemver:
			b = appendText(b, a.Value.Bytes)
		default:
			b = binary.LittleEndian.AppendUint64(b, a.Value.Num)
		}
	}
	return b
}

func appendReserve(b []byte, r *ReserveEffect) []byte {
	b = appendReservationID(b, r.ID)
	b = binary.AppendUvarint(b, uint64(r.Offer))
	b = binary.AppendUvarint(b, uint64(r.Treatment))
	b = binary.AppendUvarint(b, uint64(r.Placement))
	b = append(b, r.Channel)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Granted))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Expires))
	b = binary.AppendUvarint(b, uint64(r.Grace))
	b = appendKeys(b, r.Keys)
	if r.Lease.Epoch != 0 {
		b = appendLease(b, &r.Lease)
	}
	if r.Drawn {
		b = append(b, 1)
	}
	return b
}

// appendMark appends the mark of a use; none appends nothing.
func appendMark(b []byte, m *UseMark) []byte {
	if !m.set() {
		return b
	}
	b = append(b, m.Decision[:]...)
	return binary.AppendUvarint(b, uint64(m.Offer))
}

func appendReservationID(b []byte, id ReservationID) []byte {
	b = binary.LittleEndian.AppendUint32(b, id.Epoch)
	return binary.LittleEndian.AppendUint64(b, id.Number)
}

func appendOutcome(b []byte, o *OutcomeEffect) []byte {
	b = binary.AppendUvarint(b, uint64(o.Outcome))
	b = binary.AppendUvarint(b, uint64(o.Event))
	b = binary.AppendUvarint(b, uint64(o.Offer))
	b = binary.AppendUvarint(b, uint64(o.Treatment))
	b = binary.AppendUvarint(b, uint64(o.Placement))
	flags := o.Flags &^ outcomeShift
	if o.Shift != 0 {
		flags |= outcomeShift
	}
	b = append(b, o.Channel, flags)
	b = appendNames(b, o.Variants)
	b = binary.LittleEndian.AppendUint64(b, uint64(o.Occurred))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(o.Value))
	if o.Shift != 0 {
		b = binary.AppendVarint(b, int64(o.Shift))
	}
	return b
}

func appendDecision(b []byte, d *DecisionEffect) []byte {
	b = append(b, d.ID[:]...)
	b = binary.LittleEndian.AppendUint64(b, d.Request)
	b = binary.LittleEndian.AppendUint32(b, d.Body)
	b = binary.LittleEndian.AppendUint32(b, uint32(d.Until))
	return appendDecisionRest(b, d)
}

// appendDecisionRest appends what a frame and the event log write alike.
func appendDecisionRest(b []byte, d *DecisionEffect) []byte {
	b = appendText(b, d.Record)
	b = binary.AppendUvarint(b, uint64(len(d.Counts)))
	for i := range d.Counts {
		c := &d.Counts[i]
		b = binary.AppendUvarint(b, uint64(c.Key.Offer))
		b = binary.AppendUvarint(b, uint64(c.Key.Treatment))
		b = binary.AppendUvarint(b, uint64(c.Key.Variant))
		b = binary.AppendUvarint(b, uint64(c.Key.What))
		b = binary.AppendUvarint(b, uint64(c.N))
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(c.Value))
	}
	if len(d.Kept) > 0 {
		b = binary.AppendUvarint(b, uint64(len(d.Kept)))
		for _, id := range d.Kept {
			b = appendReservationID(b, id)
		}
	}
	return b
}

func appendNames(b []byte, names []Name) []byte {
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

func appendText(b, text []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}
