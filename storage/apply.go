package storage

import (
	"fmt"
	"math"
	"slices"
)

// apply changes the state by one effect of a frame. Frames come in rising
// order; the same call serves the live path and replay. What the loaded rows or
// the loaded meta hold already is skipped, part by part: the caller replays
// every effect of every frame behind the watermark and skips nothing itself.
//
// An effect of a person who is gone is a no-op. After an error nothing has
// changed: ErrInvalid, ErrTooLarge or ErrStateFull for a fault of the effect,
// ErrCorrupt when the person's sealed part does not open.
//
// Cost: no allocation for reserve, confirm, release, use, outcome and decision
// once buffers and rings have grown.
func (s *state) apply(frame uint64, e *Effect) error {
	s.edit.confirmed = s.edit.confirmed[:0]
	if e.DedupKey != 0 {
		if err := s.dedup.room(); err != nil {
			return err
		}
	}
	if err := s.applyPerson(frame, e); err != nil {
		return err
	}
	if frame > s.metaFrame {
		s.applyGroup(frame, e)
	}
	return nil
}

// applyPerson changes what belongs to one person.
func (s *state) applyPerson(frame uint64, e *Effect) error {
	switch e.Kind {
	case EffectCreate:
		return s.create(frame, e)
	case EffectTime, EffectBlock, EffectBurn, EffectRefund, EffectRollback:
		return nil
	case EffectMember, EffectTrack:
		return s.checkMember(e)
	case EffectClaim:
		if e.Claim.Slot >= Slots {
			return fmt.Errorf("%w: claim in slot %d", ErrInvalid, e.Claim.Slot)
		}
		return nil
	case EffectDecision, EffectOutcome:
		if e.Ord == NoOrd {
			return nil
		}
	case EffectUse:
		if e.Ord == NoOrd {
			return s.useTotals(e)
		}
	case EffectPatch, EffectEvent, EffectReserve, EffectConfirm, EffectRelease, EffectForget,
		EffectCede, EffectAbsorb, EffectErase:
	default:
		return fmt.Errorf("%w: kind %d", ErrInvalid, e.Kind)
	}
	r := s.rows.at(e.Ord)
	switch {
	case e.Ord >= s.nextOrd:
		return errPerson(e.Ord)
	case r == nil || r.Flags&RowGone != 0:
		return nil
	case r.Flags&rowLoaded != 0 && r.LastFrame >= frame:
		return nil
	}
	if len(s.views) > 0 && e.changesPerson() {
		s.preserve(e.Ord)
	}
	if len(s.verdicts.all) > 0 && e.changesPerson() {
		s.verdicts.changed(e.Ord)
	}
	if e.Kind != EffectDecision || len(e.Decision.Kept) > 0 {
		r.Flags &^= RowKept
	}
	if err := s.applyRow(frame, r, e); err != nil {
		return err
	}
	if e.Kind != EffectPatch || !e.Patch.TagsExpire {
		r.LastSeen = max(r.LastSeen, secondOf(e.Time))
	}
	return nil
}

// changesPerson says that an effect may change what rules read.
func (e *Effect) changesPerson() bool {
	switch e.Kind {
	case EffectPatch, EffectEvent, EffectOutcome, EffectForget, EffectErase:
		return true
	}
	return false
}

func (s *state) applyRow(frame uint64, r *Row, e *Effect) error {
	switch e.Kind {
	case EffectPatch:
		return s.applyPatch(frame, r, e)
	case EffectEvent:
		return s.applyEvent(frame, r, e)
	case EffectOutcome:
		return s.applyOutcome(frame, r, e)
	case EffectForget:
		if r.Flags&RowVisitor != 0 {
			s.forget(frame, r, e.Ord)
		}
		return nil
	case EffectErase:
		return s.erase(frame, r, e)
	case EffectDecision:
		if e.Decision.Request == 0 && len(e.Decision.Kept) == 0 {
			return nil
		}
	}
	return s.applyContact(frame, r, e)
}

// useTotals counts uses of totals that belong to nobody: a unit of stock taken by
// a person without a row. Keys of people are refused.
func (s *state) useTotals(e *Effect) error {
	if err := checkContactEffect(e); err != nil {
		return err
	}
	for _, k := range e.Use.Keys {
		if !k.Total {
			return fmt.Errorf("%w: use of a person's cap without a person", ErrInvalid)
		}
	}
	s.edit.confirmed = append(s.edit.confirmed, e.Use.Keys...)
	return nil
}

// applyGroup changes what belongs to the group. It cannot go wrong.
func (s *state) applyGroup(frame uint64, e *Effect) {
	s.high = max(s.high, e.Time)
	s.dedup.expire(uint16(s.high / dayMsec))
	if e.DedupKey != 0 {
		s.dedup.add(e.Time, e.DedupKey, e.DedupBody)
	}
	for i := range s.edit.confirmed {
		s.share.confirm(&s.edit.confirmed[i])
	}
	switch e.Kind {
	case EffectTime:
		if e.Floor != 0 {
			s.floors.raise(frame, e.Floor)
		}
		if e.Incident.Epoch != 0 {
			s.incidents.add(Incident{e.Incident, frame})
		}
	case EffectReserve:
		s.reserved = max(s.reserved, e.Reserve.ID.Number&(1<<48-1))
		s.share.blocks.drew(&e.Reserve)
	case EffectOutcome:
		s.stats.addOutcome(&e.Outcome)
	case EffectDecision:
		for i := range e.Decision.Counts {
			c := &e.Decision.Counts[i]
			s.stats.add(c.Key, uint64(c.N), c.Value)
		}
	case EffectClaim:
		c := claim{e.Claim.Workspace, e.Claim.Slot, e.Claim.Hash, e.Claim.Target}
		s.identities.put(c)
		s.claims = append(s.claims, c)
	case EffectMember:
		s.members.move(frame, e.Time, &e.Member)
	case EffectTrack:
		s.members.track(frame, e.Time, &e.Track)
	case EffectBlock:
		addTo(s.share.blocks.allowed, e.Block.Key, e.Block.Units)
	case EffectBurn:
		s.share.burn(&e.Burn)
	case EffectRefund:
		s.share.refund(e.Refund)
	case EffectRollback:
		s.blind, s.person = e.Rollback.Blind, max(s.person, e.Rollback.Person)
	case EffectForget, EffectErase:
		if s.row(e.Ord) == nil {
			s.members.forget(frame, e.Time, e.Ord)
		}
	}
}

func (s *state) create(frame uint64, e *Effect) error {
	c := &e.Create
	if r := s.rows.at(e.Ord); r != nil {
		if r.Flags&rowLoaded != 0 && r.LastFrame >= frame && r.Person == c.Person {
			return nil
		}
		return fmt.Errorf("%w: ordinal %d is taken", ErrInvalid, e.Ord)
	}
	if e.Ord > s.nextOrd || c.Person == 0 || c.Slot >= Slots ||
		len(c.ID) == 0 || len(c.ID) > idMax {
		return fmt.Errorf("%w: create of ordinal %d", ErrInvalid, e.Ord)
	}
	r, err := s.rows.place(e.Ord)
	if err != nil {
		return err
	}
	fresh := Row{
		Person: c.Person, LastFrame: frame, IDHash: c.IDHash, LastSeen: secondOf(e.Time),
		Workspace: c.Workspace, Slot: c.Slot, Key: c.Key,
	}
	if len(c.ID) <= idInline {
		fresh.idLen = uint8(copy(fresh.id[:], c.ID))
	} else {
		s.draft.load(Profile{})
		s.draft.id = c.ID
		s.scratch = s.draft.append(s.scratch[:0])
		if fresh.profile, err = s.slab.put(0, s.scratch); err != nil {
			return err
		}
	}
	if c.Visitor {
		fresh.Flags |= RowVisitor
		s.visitors++
	} else {
		s.indexes.join(e.Ord)
	}
	*r = fresh
	s.people++
	s.nextOrd = max(s.nextOrd, e.Ord+1)
	s.person = max(s.person, c.Person)
	s.index.add(c.IDHash, e.Ord, s.hashOf)
	if s.watch != nil && !c.Visitor {
		s.note(e.Ord, &s.watch.All)
	}
	s.mark(r, e.Ord, rowDirtyProfile)
	return nil
}

func (s *state) applyPatch(frame uint64, r *Row, e *Effect) error {
	if e.Patch == nil {
		return fmt.Errorf("%w: patch without content", ErrInvalid)
	}
	if err := checkPatch(e.Patch); err != nil {
		return err
	}
	if r.Flags&RowSealed != 0 {
		if err := s.openProfile(e.Ord, r); err != nil {
			return err
		}
	}
	d := &s.draft
	d.load(Profile{s.slab.get(r.profile)})
	if err := d.patch(e.Patch, e.Time); err != nil {
		return err
	}
	s.scratch = d.append(s.scratch[:0])
	if len(s.scratch) > maxProfile {
		return fmt.Errorf("profile of %d bytes: %w", len(s.scratch), ErrTooLarge)
	}
	unchanged := string(s.scratch) == string(s.slab.get(r.profile))
	if unchanged && (r.Flags&RowVisitor == 0 || e.Patch.TagsExpire) {
		return nil
	}
	if err := s.tags.room(); err != nil {
		return err
	}
	s.indexes.patching(e.Patch, Profile{s.slab.get(r.profile)})
	ref, err := s.slab.put(r.profile, s.scratch)
	if err != nil {
		return err
	}
	r.profile = ref
	s.indexes.patched(e.Ord, Profile{s.slab.get(ref)})
	r.Zone = uint16(d.zone)
	r.Flags &^= RowWithdrawn
	if d.withdrawn() {
		r.Flags |= RowWithdrawn
	}
	r.Changed = everyPage
	s.forgetListing(e.Ord)
	if !e.Patch.TagsExpire {
		s.settle(r, e.Ord)
	}
	s.rebit(e.Ord)
	s.notePatch(e.Ord, e.Patch)
	s.touch(frame, r, e.Ord, rowDirtyProfile)
	return nil
}

// rebit brings the bitmaps from the draft's old tags and segments to its new
// ones.
func (s *state) rebit(o Ord) {
	d := &s.draft
	for i := range d.oldTags {
		t := &d.oldTags[i]
		if at, kept := findTag(d.tags, t.ID); !kept {
			s.unhold(t, o)
		} else if now := &d.tags[at]; now.Value != t.Value || now.Expires != t.Expires {
			s.ends.remove(t, o)
			s.ends.add(now, o)
		}
	}
	for i := range d.tags {
		if _, had := findTag(d.oldTags, d.tags[i].ID); !had {
			s.hold(&d.tags[i], o)
		}
	}
	s.indexes.retag(o, d.oldTags, d.tags)
	for _, n := range d.oldSegments {
		if _, kept := slices.BinarySearch(d.segments, n); !kept {
			s.segments.remove(n, o)
		}
	}
	for _, n := range d.segments {
		s.segments.add(n, o)
	}
}

// forget takes a person out. The row stays as a mark until its parts are off
// the disk; the ordinal is not used again.
func (s *state) forget(frame uint64, r *Row, o Ord) {
	for h := range s.contact(o).held {
		for i := range h.Len() {
			if k := h.Key(i); k.Total {
				s.share.give(k)
			}
		}
	}
	s.takeOut(frame, r, o)
}

// takeOut is forget but for what the person holds of totals.
func (s *state) takeOut(frame uint64, r *Row, o Ord) {
	// The tags and segments lie in the clear part, so a sealed profile is fine.
	p := Profile{s.slab.get(r.profile)}
	p.EachTag(func(t TagValue) bool { s.unhold(&t, o); return true })
	p.EachSegment(func(n Name) bool { s.segments.remove(n, o); return true })
	for _, ref := range [...]Ref{r.profile, r.tail, r.contact, r.activity, r.pending} {
		clear(s.slab.get(ref))
		s.slab.drop(ref)
	}
	s.forgetListing(o)
	s.index.remove(r.IDHash, o)
	if r.Flags&RowVisitor != 0 {
		s.visitors--
	}
	s.indexes.leave(o)
	s.verdicts.changed(o)
	s.people--
	wasDirty := r.Flags & rowDirty
	*r = Row{
		Person: r.Person, IDHash: r.IDHash, Workspace: r.Workspace, Slot: r.Slot,
		Flags: RowGone | wasDirty, events: r.events,
	}
	s.touch(frame, r, o, rowDirty)
}

// settle makes a visitor a person who stays.
func (s *state) settle(r *Row, o Ord) {
	if r.Flags&RowVisitor != 0 {
		s.indexes.join(o)
		r.Flags &^= RowVisitor
		s.visitors--
		if s.watch != nil {
			s.note(o, &s.watch.All)
		}
	}
}

// touch records that frame changed parts of a row.
func (s *state) touch(frame uint64, r *Row, o Ord, parts RowFlags) {
	r.LastFrame = frame
	r.Flags &^= rowLoaded
	s.mark(r, o, parts)
}

// mark enters a row in the list of dirty rows. What is written whole makes the events
// beside it useless.
func (s *state) mark(r *Row, o Ord, parts RowFlags) {
	if parts&rowDirtyWhole != 0 && (r.events > 0 || r.pending != 0) {
		parts |= rowDirtyWhole | rowDirtyEvents
		if r.Flags&rowEventsSealed == 0 {
			s.slab.drop(r.pending)
			r.pending = 0
		}
	}
	if r.activity == 0 && r.Flags&RowGone == 0 {
		parts &^= rowDirtyActivity // there is none on disk
	}
	if r.Flags&rowDirty == 0 {
		s.dirty = append(s.dirty, o)
	}
	r.Flags |= parts
}

func (s *state) hashOf(o Ord) uint64 { return s.rows.at(o).IDHash }

// secondOf rounds a time down to a second.
func secondOf(t UnixMsec) UnixSec {
	return UnixSec(min(max(t/1000, 0), math.MaxUint32))
}
