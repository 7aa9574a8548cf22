package engine

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// requestLife is how long a request_id is remembered at least, in seconds.
const requestLife = 120

// hashKey is the 32-bit hash under which a record remembers a caller's own
// placement key (FNV-1a: only compared with keys of the same decision).
func hashKey(key []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range key {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

// commitPick appends what was picked: the visitor's row when one is needed, a
// reservation an item, uses counted on the decision, the decision record. The
// group is locked. When the store takes no more, the decision is made again
// without caps and goes out unrecorded, which the reply says.
func (e *Engine) commitPick(
	req *DecideRequest, w *decideWork, out *Decision, slot storage.Slot, hash uint64,
) error {
	w.held = w.held[:0]
	for range w.result.Items {
		w.held = append(w.held, storage.ReservationID{})
	}
	w.before = 0
	if w.known {
		w.before = w.group.Row(w.ord).LastFrame
	}
	err := e.appendPick(req, w, out, slot, hash)
	if err == nil {
		return nil
	}
	w.giveBack(e.store.Totals())
	switch {
	case errors.Is(err, storage.ErrTooLarge):
		out.Degraded = append(out.Degraded, "too_many_reservations")
	case errors.Is(err, storage.ErrDiskFull), errors.Is(err, storage.ErrFenced),
		errors.Is(err, storage.ErrMemoryCap):
		out.Degraded = append(out.Degraded, "not_recorded")
	default:
		return storeProblem(err)
	}
	e.releaseLocked(w)
	if w.known {
		w.person.Contact = w.group.Contact(w.ord)
	}
	e.pickUncounted(w, out)
	return nil
}

// unwritten says that a store error is one of room or of the disk, which lets a
// decision go on without being recorded.
func unwritten(err error) bool {
	for _, class := range [...]error{
		storage.ErrDiskFull, storage.ErrFenced, storage.ErrUnknown, storage.ErrMemoryCap,
		storage.ErrTooLarge, storage.ErrStateFull, storage.ErrLimit,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// decideUncounted decides for a person whose history could not be counted: as when
// nothing can be written, without any offer that has caps.
func (e *Engine) decideUncounted(req *DecideRequest, w *decideWork, out *Decision) error {
	if err := e.readPerson(req, w); err != nil {
		return err
	}
	if req.Explain != ExplainNone {
		w.noteByDay()
	}
	if !slices.Contains(out.Degraded, "not_recorded") {
		out.Degraded = append(out.Degraded, "not_recorded")
	}
	w.takes = w.takes[:0]
	e.pickUncounted(w, out)
	return nil
}

// pickUncounted picks without offers that have caps, and records nothing.
func (e *Engine) pickUncounted(w *decideWork, out *Decision) {
	w.over.NoReserve = true
	w.ticket, w.frame, out.HasID = storage.Ticket{}, 0, false
	w.held = w.held[:0]
	w.at = decide.Moment{Ms: w.now, Instant: e.instant(w.group, w.now)}
	w.snap.Plan.Pick(&w.request, &w.person, &w.at, &w.over, &w.result)
	for range w.result.Items {
		w.held = append(w.held, storage.ReservationID{})
	}
	e.collect(w)
}

func (e *Engine) appendPick(
	req *DecideRequest, w *decideWork, out *Decision, slot storage.Slot, hash uint64,
) error {
	e.countKeys(w)
	if !w.known && w.needsRow() {
		if err := e.makeVisitor(w, slot, hash); err != nil {
			return err
		}
	}
	last := len(w.result.Items) - 1
	for last > 0 && w.result.Items[last].KeyCount == 0 {
		last--
	}
	for i := range w.result.Items {
		if err := e.reserve(w, i, i == last); err != nil {
			return err
		}
	}
	return e.appendDecision(req, w, out)
}

// countKeys notes the uses that are known of the winners' counters, before this
// decision adds its own.
func (e *Engine) countKeys(w *decideWork) {
	w.record.Counts = w.record.Counts[:0]
	for i := range w.result.Keys {
		if k := &w.result.Keys[i]; !k.Total {
			n := w.person.Contact.Count(k.Key, 0, w.at.Instant).N
			w.record.Counts = append(w.record.Counts, recordCount{k.Key, n})
		}
	}
}

// needsRow tells whether a pick uses a cap of the person, or may when the person
// reacts to it.
func (w *decideWork) needsRow() bool {
	for i := range w.result.Items {
		it := &w.result.Items[i]
		if it.KeyCount > 0 || it.DecisionKeyCount > 0 ||
			(w.snap.reactive[it.Offer] && !it.Fallback) {
			return len(w.id) > 0 && !w.person.Full
		}
	}
	return false
}

// stamp readies w.effect for an effect on the person, but for the fields of its kind.
// Those of other kinds, which nobody reads, stay as they are: together they are long.
func (w *decideWork) stamp(kind storage.EffectKind) *storage.Effect {
	e := &w.effect
	e.Kind, e.Ord, e.Time, e.Config = kind, w.ord, w.now, w.snap.Revision
	e.DedupKey, e.DedupBody = 0, 0
	if !w.known {
		e.Ord = storage.NoOrd
	}
	return e
}

// append appends w.effect and notes its frame.
func (w *decideWork) append() error {
	frame, err := w.group.Append(&w.effect)
	if err == nil {
		w.frame = frame
	}
	return err
}

// makeVisitor makes the row of an unknown person: it expires 24 hours after the
// last call unless an event arrives.
func (e *Engine) makeVisitor(w *decideWork, slot storage.Slot, hash uint64) error {
	person, ord := w.group.NextPerson()
	w.known, w.ord, w.refPerson = true, ord, person
	w.stamp(storage.EffectCreate).Create = storage.CreateEffect{
		Workspace: workspaceID, Slot: slot, Person: person, ID: w.id, IDHash: hash,
		Key: w.group.NewKey(), Visitor: true,
	}
	if err := w.append(); err != nil {
		w.known = false
		return err
	}
	e.visitors.Add(1)
	return nil
}

// reserve appends the reservation and the uses of item i. The last reservation's record
// is put with that of the decision.
func (e *Engine) reserve(w *decideWork, i int, last bool) error {
	it := &w.result.Items[i]
	plan := w.snap.Plan
	if it.Kept.Number != 0 {
		// Who made it may still wait for it: nobody is told of it before it is durable.
		w.held[i] = it.Kept
		made := storage.Ticket{Frame: w.before, Cause: storage.WaitKept}
		if !e.store.Settled(w.group.GroupID(), made) {
			w.ticket = w.ticket.Join(made)
		}
	}
	if it.KeyCount > 0 {
		id := w.group.NextReservation()
		granted := toSec(w.now)
		// Field by field: the store sets the others, which are long.
		r := &w.stamp(storage.EffectReserve).Reserve
		r.ID, r.Offer = id, plan.Offers[it.Offer].Name
		r.Treatment = plan.Treatments[it.Treatment].Name
		r.Placement = plan.Placements[w.slots[it.Slot].Placement].Name
		r.Channel, r.Granted, r.Grace = it.Channel, granted, it.Grace
		r.Expires = toSecUp(w.now) + storage.UnixSec(it.Hold)
		r.Keys = w.result.Keys[it.FirstKey : it.FirstKey+it.KeyCount]
		var frame uint64
		var ticket storage.Ticket
		var err error
		if last {
			frame, err = w.group.Hold(&w.effect, e.mustWait(w, i))
		} else {
			frame, ticket, err = w.group.Reserve(&w.effect, e.mustWait(w, i))
		}
		if err != nil {
			return err
		}
		w.held[i], w.frame, w.ticket = id, frame, w.ticket.Join(ticket)
		w.carried(it.FirstKey, it.KeyCount)
	}
	if it.DecisionKeyCount > 0 {
		from := it.FirstDecisionKey
		w.stamp(storage.EffectUse).Use = storage.UseEffect{
			At: toSecUp(w.now), Keys: w.result.Keys[from : from+it.DecisionKeyCount],
			Mark: storage.UseMark{
				Decision: w.group.NextDecision(w.now), Offer: plan.Offers[it.Offer].Name,
			},
		}
		if err := w.append(); err != nil {
			return err
		}
		w.ticket = w.ticket.Join(storage.Ticket{Frame: w.frame, Cause: storage.WaitDecision})
		w.carried(from, it.DecisionKeyCount)
	}
	return nil
}

// mustWait tells why item i may not be answered before its reservation is durable,
// WaitNone where it may: on a page, by caps that count contacts or hold a total that
// is not near its limit. What reaches out waits, and so do uses counted on the decision.
func (e *Engine) mustWait(w *decideWork, i int) storage.WaitCause {
	it := &w.result.Items[i]
	switch {
	case !definition.Channel(it.Channel).Page():
		return storage.WaitOutbound
	case it.DecisionKeyCount != 0:
		return storage.WaitDecision
	}
	for j := it.FirstKey; j < it.FirstKey+it.KeyCount; j++ {
		if k := &w.result.Keys[j]; k.Total && e.nearLimit(w, k) {
			return storage.WaitTotal
		}
	}
	return storage.WaitNone
}

// appendDecision appends the decision record with its statistics.
func (e *Engine) appendDecision(req *DecideRequest, w *decideWork, out *Decision) error {
	e.fillRecord(req, w)
	w.bytes = w.record.append(w.bytes[:0])
	d := storage.DecisionEffect{
		ID: w.group.NextDecision(w.now), Record: w.bytes, Counts: e.countDecision(w),
	}
	w.again = w.again[:0]
	for i := range w.result.Items {
		if id := w.result.Items[i].Kept; id.Number != 0 {
			w.again = append(w.again, id)
		}
	}
	d.Kept = w.again
	if w.known {
		w.kept = w.appendKept(w.kept[:0])
		d.Personal = w.kept
		if len(req.RequestID) > 0 {
			d.Request = e.store.DedupHash(dedupRequest, req.RequestID)
			d.Body = req.BodyHash
			d.Until = toSecUp(w.now) + w.requestLife()
		}
	}
	w.stamp(storage.EffectDecision).Decision = d
	frame, ticket, err := w.group.Decide(&w.effect, w.ticket, w.holds())
	if err != nil {
		return err
	}
	w.frame, w.ticket = frame, ticket
	out.ID, out.HasID = d.ID, true
	return nil
}

// holds tells whether the decision holds a use.
func (w *decideWork) holds() bool {
	return slices.ContainsFunc(w.held, func(id storage.ReservationID) bool { return id.Number != 0 })
}

// requestLife is the life of the longest reservation, at least two minutes.
func (w *decideWork) requestLife() storage.UnixSec {
	life := storage.UnixSec(requestLife)
	for i := range w.result.Items {
		if it := &w.result.Items[i]; it.KeyCount > 0 || it.Kept.Number != 0 {
			life = max(life, storage.UnixSec(it.Hold+it.Grace))
		}
	}
	return life
}

// appendKept encodes the personal side of a record: the canonical id of the
// person (what an exposure belongs to), then the values the text used in the
// order of the items' sources:
//
//	id uvarint length, bytes | n × value
//	value = kind u8 (0 = missing) | uvarint length, bytes of a string, list or
//	        semver; else the number as uvarint
func (w *decideWork) appendKept(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(w.id)))
	dst = append(dst, w.id...)
	for i := range w.used {
		v := &w.used[i]
		if !v.Set {
			dst = append(dst, 0)
			continue
		}
		dst = append(dst, byte(v.Kind))
		switch v.Kind {
		case definition.TypeString, definition.TypeList, definition.TypeSemver:
			dst = binary.AppendUvarint(dst, uint64(len(v.Bytes)))
			dst = append(dst, v.Bytes...)
		default:
			dst = binary.AppendUvarint(dst, v.Num)
		}
	}
	return dst
}

// fillRecord gathers what the decision read and chose.
func (e *Engine) fillRecord(req *DecideRequest, w *decideWork) {
	r := &w.record
	plan := w.snap.Plan
	*r = record{
		Revision: w.snap.Revision, BodyHash: req.BodyHash, BitsRev: plan.Program.Rev,
		Identity: w.person.IdentityKey, Device: w.person.DeviceKey,
		More: r.More[:0], Request: w.words, Variants: r.Variants[:0],
		Capped: r.Capped[:0], Counts: r.Counts, Slots: r.Slots[:0], Items: r.Items[:0],
	}
	copy(r.UserWords[:], w.person.Bits)
	r.Pages = w.pages &^ 1
	for open := r.Pages; open != 0; open &= open - 1 {
		at := bits.TrailingZeros32(open) * rule.PageWords
		r.More = append(r.More, w.person.Bits[at:at+rule.PageWords]...)
	}
	if w.known {
		r.StateFrame = w.group.Row(w.ord).LastFrame
	}
	for _, a := range w.result.Assignments {
		r.Variants = append(r.Variants, a.Name)
	}
	for _, c := range w.result.Capped {
		if len(r.Capped) == maxRecordWords {
			break
		}
		r.Capped = append(r.Capped, recordCapped{
			plan.Caps[c.Cap].Name, plan.Offers[c.Offer].Name, c.Until,
		})
	}
	for i := range w.result.Slots {
		s := &w.result.Slots[i]
		slot := recordSlot{
			KeyHash:   hashKey(req.Placements[i].Key),
			Placement: plan.Placements[w.slots[i].Placement].Name,
			Kind:      uint8(s.Kind), Reason: uint8(s.Reason), Count: int(s.Count),
		}
		if s.Policy >= 0 {
			slot.Policy = plan.Policies[s.Policy].Name
		}
		r.Slots = append(r.Slots, slot)
		for j := s.First; j < s.First+s.Count; j++ {
			r.Items = append(r.Items, w.recordItem(int(j)))
		}
	}
}

func (w *decideWork) recordItem(i int) recordItem {
	it := &w.result.Items[i]
	plan := w.snap.Plan
	return recordItem{
		Offer: plan.Offers[it.Offer].Name, Treatment: plan.Treatments[it.Treatment].Name,
		Rank: it.Rank, Channel: it.Channel, Class: uint8(plan.Offers[it.Offer].Class),
		Score: it.Score, Propensity: it.Propensity, Probability: it.Probability,
		Life: it.Hold, Reservation: w.held[i],
	}
}

// countDecision builds the statistics a decision adds: per item over everybody
// and per variant that touched the decision; a placement left empty counts
// under no offer.
func (e *Engine) countDecision(w *decideWork) []storage.StatsCount {
	w.counts = w.counts[:0]
	plan := w.snap.Plan
	for i := range w.result.Slots {
		s := &w.result.Slots[i]
		if s.Kind == decide.SlotNone {
			w.count(storage.StatsKey{What: e.words.noDecision})
		}
		for j := s.First; j < s.First+s.Count; j++ {
			it := &w.result.Items[j]
			what := e.words.decision
			if it.Fallback {
				what = e.words.fallback
			}
			w.count(storage.StatsKey{
				Offer: plan.Offers[it.Offer].Name, Treatment: plan.Treatments[it.Treatment].Name,
				What: what,
			})
		}
	}
	w.served = len(w.counts)
	w.counts = append(w.counts, w.failures...)
	w.failures = w.failures[:0]
	return w.counts
}

func (w *decideWork) count(key storage.StatsKey) {
	w.counts = append(w.counts, storage.StatsCount{Key: key, N: 1})
	for _, a := range w.result.Assignments {
		key.Variant = a.Name
		w.counts = append(w.counts, storage.StatsCount{Key: key, N: 1})
	}
}

// renderItems writes every item's content into w.buf, outside the lock. Messages
// that do not render are taken out of their slots, what the try reserved is
// released, and false asks for another try.
func (e *Engine) renderItems(w *decideWork) bool {
	if w.keeping.ready {
		return true
	}
	excluded := len(w.over.Excluded)
	e.render(w)
	if len(w.over.Excluded) == excluded {
		e.fillKept(w)
		return true
	}
	e.counters.renderErrors.Inc()
	e.release(w, e.words.renderError)
	return false
}

// render writes the items' contents; those that do not render join the excluded.
func (e *Engine) render(w *decideWork) {
	w.buf, w.spans = w.buf[:0], w.spans[:0]
	next := 0
	for i := range w.result.Items {
		it := &w.result.Items[i]
		msg := &w.snap.messages[it.Treatment]
		values := w.used[next : next+len(msg.sources)]
		next += len(msg.sources)
		lo := len(w.buf)
		buf, err := msg.template.Append(w.buf, values, &w.scratch)
		if err != nil {
			bad := decide.Exclusion{Slot: it.Slot, Offer: it.Offer}
			w.over.Excluded = append(w.over.Excluded, bad)
		}
		w.buf = buf
		w.spans = append(w.spans, span{contentLo: lo, contentHi: len(buf)})
	}
}

// release gives back what this try reserved, and reports that it did. A late
// grant that has become durable meanwhile is kept: a retry of the request may
// have been answered with it. A reservation that cannot be released now is
// released by its expiry.
func (e *Engine) release(w *decideWork, why storage.Name) bool {
	if w.frame == 0 {
		return true // a dry run, or nothing that could be recorded
	}
	w.group.Lock()
	defer w.group.Unlock()
	if why == e.words.deadline && e.store.Settled(w.group.GroupID(), w.ticket) {
		return false
	}
	w.fail(why)
	e.releaseLocked(w)
	return true
}

func (e *Engine) releaseLocked(w *decideWork) {
	for i := range w.held {
		if w.held[i].Number == 0 {
			continue
		}
		if w.shared(i) {
			w.held[i] = storage.ReservationID{}
			continue
		}
		w.stamp(storage.EffectRelease).Resolve = storage.ResolveEffect{ID: w.held[i]}
		if _, err := w.group.Release(&w.effect); err != nil {
			e.log.Debug("reservation left to expire", "err", err)
		}
		w.held[i] = storage.ReservationID{}
	}
}

// shared tells whether item i's reservation is not this decision's alone: it was
// given again with it, or another decision was, meanwhile. Then it is not released.
func (w *decideWork) shared(i int) bool {
	if w.result.Items[i].Kept.Number != 0 {
		return true
	}
	held, state := w.group.Contact(w.ord).Reservation(w.held[i])
	return state == storage.ReservationOpen && held.Kept()
}

// fail notes that this try's rows did not come about: the next record of the
// same decision counts each of them once more under why, so that what was
// served is "decision" less "render_error" and "deadline".
func (w *decideWork) fail(why storage.Name) {
	for _, c := range w.counts[:w.served] {
		c.Key.What = why
		w.failures = append(w.failures, c)
	}
}

// settle waits until what the decision used is durable. When that takes longer
// than the request allows, what was reserved is released and the decision is
// made again without caps: false.
func (e *Engine) settle(w *decideWork, out *Decision) bool {
	if !w.ticket.Waits() {
		if !out.HasID || e.store.Behind() { // without an id nothing was recorded
			out.Durability = durabilityNone
		}
		return true
	}
	out.Durability = durabilityStrict
	e.counters.waited[w.ticket.Cause].Inc()
	if w.waits != nil {
		w.waits()
	}
	err := e.store.WaitTicket(w.group.GroupID(), w.ticket, e.remaining(w))
	if err == nil {
		return true
	}
	if !e.release(w, e.words.deadline) {
		return true // durable after all, a moment late
	}
	e.counters.lateGrants.Inc()
	w.over.NoReserve = true
	out.Durability = durabilityBounded
	out.Degraded = append(out.Degraded, "deadline")
	return false
}
