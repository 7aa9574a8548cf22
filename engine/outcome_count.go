package engine

import (
	"slices"
	"strings"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// fact is something that happened to one item, on its way to the caps.
type fact struct {
	group *storage.Group // locked
	ord   storage.Ord    // NoOrd: a person without a row
	token *token
	on    definition.CountOn
	at    storage.UnixMsec // between the decision and now
	lost  bool             // its reservation was answered and lost with a machine
	doc   *OutcomeDoc
	// marked is the time of a use of the person that its confirm has marked; 0: of none.
	marked storage.UnixSec

	custom storage.Name // DictEvent, with CountCustom
}

// mark says which decision the fact belongs to; an event belongs to none.
func (f *fact) mark() storage.UseMark {
	if f.token == nil {
		return storage.UseMark{}
	}
	return storage.UseMark{Decision: f.token.Decision, Offer: f.token.Offer}
}

// counted tells what caps count of an outcome: a declared event that some cap
// counts may be reported as an outcome of an item too.
func (b *Batch) counted(outcome []byte) (definition.CountOn, storage.Name) {
	if on := outcomeOf(outcome); on != 0 {
		return on, 0
	}
	if event, ok := b.snap.counted[string(outcome)]; ok {
		return definition.CountCustom, event
	}
	return 0, 0
}

// decideFact is the fact as the plan sees it; false when its offer is gone.
func (b *Batch) decideFact(f *fact) (decide.Fact, bool) {
	offer, placement, ok := b.placeOf(f.token)
	out := decide.Fact{
		Offer: offer, Placement: placement, Channel: definition.Channel(f.token.Channel),
		CountOn: f.on, Custom: f.custom, At: f.at,
		IdentityKey: f.token.Identity, DeviceKey: f.token.Device,
		Value: f.doc.Value, HasValue: f.doc.HasValue,
	}
	if f.ord != storage.NoOrd {
		out.Zone = b.e.zone(f.group.Row(f.ord).Zone)
	}
	return out, ok
}

// confirm appends the confirm of the fact's reservation. once, when not 0, is
// remembered with it. What a total held that begins only later is given back with it.
func (b *Batch) confirm(f *fact, held storage.Held, once uint64) error {
	b.stamp(storage.EffectConfirm, f.ord)
	b.effect.DedupKey = once
	b.effect.Resolve = storage.ResolveEffect{
		ID: f.token.Reservation, CountOn: uint16(f.on),
		At: min(max(toSecUp(f.at), held.Granted()), held.Expires()), Mark: f.mark(),
	}
	at := confirmedAt(f, held)
	b.windows, b.early = b.windows[:0], b.early[:0]
	for i := range held.Len() {
		k := held.Key(i)
		if k.CountOn&uint16(f.on) == 0 {
			continue
		}
		if !k.Total {
			f.marked = b.effect.Resolve.At
			continue
		}
		key := storage.TotalKey{CounterKey: k.Key, Window: k.Window}
		if w, ok := b.snap.Plan.TotalWindow(k.Key.Cap, at); ok && w < k.Window {
			key.Window = w
			b.windows = append(b.windows, key)
		}
		if b.snap.Plan.TotalEarly(k.Key.Cap, at) {
			b.early = append(b.early, storage.BlockEffect{Key: key, Units: k.Units()})
		}
	}
	b.effect.Resolve.Windows = b.windows
	if err := b.append(f.group); err != nil || len(b.early) == 0 {
		return err
	}
	b.stamp(storage.EffectRefund, storage.NoOrd)
	b.effect.Refund = b.early
	return b.append(f.group)
}

// contact applies an impression, send or delivery: it confirms the reservation, and
// counts the use as ungranted in the caps that count it and hold nothing of it, or that
// did before the reservation had gone. A contact of an item is counted once, and once in
// each cap that counts several kinds of contact.
func (b *Batch) contact(f *fact) (LineFlags, error) {
	if f.token.Reservation.Number == 0 && !b.binds(f) {
		return 0, nil
	}
	var held storage.Held
	state, live := storage.ReservationUnknown, false
	if f.ord != storage.NoOrd {
		held, state = f.group.Contact(f.ord).Reservation(f.token.Reservation)
		live = state == storage.ReservationOpen &&
			held.Live(b.e.instant(f.group, b.e.clock.Now()))
	}
	once := b.onceKey(f)
	// Two people who were one for a while may have been shown it both: each counts it.
	if _, ok := b.seen(f.group, once); ok && !(live && holdsContact(held, f.on)) {
		b.e.counters.repeats.Inc()
		return FlagRepeat, nil
	}
	switch {
	case f.ord == storage.NoOrd:
		return b.gone(f, once)
	case live:
		return b.inTime(f, held, once)
	}
	if state == storage.ReservationConfirmed && (b.forgotten(f) || !b.unheld(f, nil)) {
		if f.on != definition.CountImpression {
			return 0, nil // no cap counts this contact
		}
		b.e.counters.repeats.Inc()
		return FlagRepeat, nil
	}
	// It may never have held one: no cap counted it at the decision, and one does now.
	// One that is there and lives no more was given back in the counting, and goes with
	// the effect of the use.
	f.lost = state != storage.ReservationOpen && f.group.LostReservation(f.token.Reservation)
	return b.gone(f, once)
}

// inTime applies a contact while its reservation lives. A cap that holds nothing of it
// counts it too: one that counts what does not happen on such a channel, or was published
// since.
func (b *Batch) inTime(f *fact, held storage.Held, once uint64) (flags LineFlags, err error) {
	more := b.unheld(f, &held)
	if holdsContact(held, f.on) {
		err = b.confirm(f, held, once)
	} else if more {
		flags = FlagLate
	}
	if err != nil || !more {
		return 0, err
	}
	b.e.counters.late.Inc()
	return flags, b.ungranted(f, once)
}

// unheld sets b.keys to the counters that count the contact, of which the reservation
// that is held (nil: none) holds nothing, and that did not count the item yet by another
// kind of contact; it tells whether there are any.
func (b *Batch) unheld(f *fact, held *storage.Held) bool {
	of, ok := b.decideFact(f)
	if !ok {
		return false
	}
	b.contactKeys(f, of)
	if held != nil {
		b.dropHeld(*held)
	}
	if len(b.keys) > 0 {
		b.dropCounted(b.reported(f))
	}
	return len(b.keys) > 0
}

// dropHeld takes the counters that a reservation holds out of b.keys.
func (b *Batch) dropHeld(held storage.Held) {
	b.keys = slices.DeleteFunc(b.keys, func(k storage.HeldKey) bool {
		return held.Holds(k.Key, k.Total)
	})
}

// dropCounted takes the counters that count one of some kinds of contact out of b.keys.
func (b *Batch) dropCounted(seen definition.CountOn) {
	b.keys = slices.DeleteFunc(b.keys, func(k storage.HeldKey) bool {
		return definition.CountOn(k.CountOn)&seen != 0
	})
}

// binds tells whether a cap counts the contact, whatever the decision held: one that was
// published since, or whose window of two times has begun since.
func (b *Batch) binds(f *fact) bool {
	of, ok := b.decideFact(f)
	if !ok {
		return false
	}
	b.contactKeys(f, of)
	return len(b.keys) > 0
}

// contactKeys sets b.keys to the counters of a contact that no reservation holds. Of a
// person without a row only totals count.
func (b *Batch) contactKeys(f *fact, of decide.Fact) {
	b.keys = b.snap.Plan.AppendContactKeys(b.keys[:0], of)
	if f.ord == storage.NoOrd {
		b.keys = slices.DeleteFunc(b.keys, func(k storage.HeldKey) bool { return !k.Total })
	}
}

// gone counts a contact whose reservation has gone in the caps that did not count the
// item yet by another kind of contact.
func (b *Batch) gone(f *fact, once uint64) (LineFlags, error) {
	of, ok := b.decideFact(f)
	if !ok {
		b.e.counters.late.Inc()
		return FlagLate, nil
	}
	seen := b.reported(f)
	b.contactKeys(f, of)
	all := len(b.keys)
	b.dropCounted(seen)
	switch {
	case len(b.keys) == 0 && all > 0 && f.on == definition.CountImpression:
		b.e.counters.repeats.Inc()
		return FlagRepeat, nil
	case len(b.keys) == 0 && all > 0:
		return 0, nil
	case f.lost:
		b.e.counters.lost.Inc()
		return 0, b.ungranted(f, once)
	}
	b.e.counters.late.Inc()
	return FlagLate, b.ungranted(f, once)
}

// onceLife is how long the key of a contact that was counted is known.
const onceLife = 7 * 24 * 3600 * 1000

// reported returns the kinds of contact of the fact's item that were counted: by their
// keys for seven days, and behind that by the mark of a use that a counter still keeps,
// which also knows the fact's own kind.
func (b *Batch) reported(f *fact) (seen definition.CountOn) {
	other := *f
	for _, other.on = range contactKinds() {
		if other.on == f.on {
			continue
		}
		if _, ok := b.seen(f.group, b.onceKey(&other)); ok {
			seen |= other.on
		}
	}
	if f.ord == storage.NoOrd || !b.forgotten(f) {
		return seen
	}
	mark := f.mark()
	f.group.Contact(f.ord).EachMark(func(_ storage.UnixSec, on uint16, m storage.UseMark) bool {
		if m == mark {
			seen |= definition.CountOn(on) & definition.CountContacts
		}
		return true
	})
	return seen
}

// forgotten tells whether the keys of what was counted of the fact's item may be gone.
func (b *Batch) forgotten(f *fact) bool {
	return decidedAt(&f.token.Decision)+onceLife <= b.e.clock.Now()
}

// holdsContact tells whether an open reservation still holds a key that this
// contact confirms.
func holdsContact(held storage.Held, on definition.CountOn) bool {
	for i := range held.Len() {
		if held.Key(i).CountOn&uint16(on) != 0 {
			return true
		}
	}
	return false
}

// holdsReaction tells whether an open reservation holds keys that a reaction
// confirms. Keys of declared events do not say of which: one that is held beside
// those of another event is left to run out, and the use is taken now.
func (b *Batch) holdsReaction(held storage.Held, f *fact) bool {
	if f.on != definition.CountCustom {
		return holdsContact(held, f.on)
	}
	some := false
	for i := range held.Len() {
		k := held.Key(i)
		if k.CountOn&uint16(f.on) == 0 {
			continue
		}
		cap, ok := b.snap.Plan.CapByCounter(k.Key.Cap)
		if !ok || !b.snap.Plan.Caps[cap].CountsEvent(f.custom) {
			return false
		}
		some = true
	}
	return some
}

// ungranted counts b.keys, of a contact whose reservation has gone: it happened, so it
// is a use, whatever the caps say (facts are counted).
func (b *Batch) ungranted(f *fact, once uint64) error {
	for i := range b.keys {
		if k := &b.keys[i]; k.Total {
			b.e.store.Totals().Force(k)
		}
	}
	if err := b.use(f, once); err != nil {
		b.giveStock(len(b.keys))
		return err
	}
	if f.lost {
		b.giveBurnt()
	}
	return nil
}

// giveBurnt gives back what was burnt in the place of b.keys.
func (b *Batch) giveBurnt() {
	for i := range b.keys {
		if k := &b.keys[i]; k.Total {
			b.e.store.Totals().GiveBurnt(k)
		}
	}
}

// placeOf maps a token's names to indices of the snapshot.
func (b *Batch) placeOf(t *token) (offer, placement int32, ok bool) {
	offer, ok = b.snap.Plan.OfferByName(t.Offer)
	if !ok {
		return 0, 0, false
	}
	placement, ok = b.snap.Plan.PlacementByName(t.Placement)
	if !ok {
		placement = -1
	}
	return offer, placement, true
}

// reaction counts a click, accept, convert … The accept of an offer with stock
// takes a unit, or is refused. An item is accepted once: a further accept of it, under
// another event_id, counts nothing and is a repeat. Of a person without a row only
// totals count.
func (b *Batch) reaction(f *fact) (LineFlags, error) {
	of, ok := b.decideFact(f)
	if !ok {
		return 0, nil
	}
	if of.Value < 0 && b.snap.Plan.SpendsValue(of) {
		return 0, invalid("out_of_range", "value", "a budget in money spends it: want at least 0")
	}
	once, counted := b.reacted(f)
	if counted && f.on == definition.CountAccept {
		return FlagRepeat, nil
	}
	var held storage.Held
	state := storage.ReservationUnknown
	if f.ord != storage.NoOrd {
		held, state = f.group.Contact(f.ord).Reservation(f.token.Reservation)
	}
	// A total with `hold` is confirmed once; a unit that was given back, or never
	// held, is taken now.
	holds := state == storage.ReservationOpen && b.holdsReaction(held, f)
	of.Late = !counted
	b.keys = b.snap.Plan.AppendReactionKeys(b.keys[:0], of)
	if holds {
		b.dropHeld(held)
	}
	if f.ord == storage.NoOrd {
		b.keys = slices.DeleteFunc(b.keys, func(k storage.HeldKey) bool { return !k.Total })
	}
	lost := f.ord != storage.NoOrd && state == storage.ReservationUnknown &&
		f.group.LostReservation(f.token.Reservation)
	if err := b.takeStock(lost); err != nil {
		return 0, err
	}
	refused := f.on == definition.CountReject && state == storage.ReservationOpen && onlyStock(held)
	taken := b.heldUnits(f, held, holds)
	var err error
	if holds {
		err = b.confirm(f, held, once) // a unit that the decision holds (`hold` of a total cap)
	}
	if err == nil {
		err = b.use(f, once)
	}
	if err != nil {
		b.giveStock(len(b.keys))
		return 0, err
	}
	if lost {
		b.giveBurnt()
	}
	if err := b.markAll(f, taken); err != nil {
		return 0, err
	}
	if refused { // nobody waits for the rest of the reservation's life
		b.stamp(storage.EffectRelease, f.ord)
		b.effect.Resolve = storage.ResolveEffect{ID: f.token.Reservation}
		err = b.append(f.group)
	}
	return 0, err
}

// reacted tells whether the same reaction to the item was counted before, and the key
// that says so from now on. A purchase that was refunded may be made once more.
func (b *Batch) reacted(f *fact) (once uint64, counted bool) {
	once = b.onceKey(f)
	if _, counted = b.seen(f.group, once); !counted || !f.isPurchase() {
		return once, counted
	}
	if _, refunded := b.seen(f.group, b.refundKey(f.token)); !refunded {
		return once, true
	}
	once = b.markKey(f.token, storage.CounterKey{Dim: uint32(f.on)}, markAgain)
	_, counted = b.seen(f.group, once)
	return once, counted
}

// onlyStock tells whether all that a reservation still holds is units of totals
// that a reaction other than a refusal would use. A contact that has not been
// reported keeps its use: what was refused was seen.
func onlyStock(held storage.Held) bool {
	for i := range held.Len() {
		k := held.Key(i)
		on := definition.CountOn(k.CountOn)
		if !k.Total || on&definition.CountContacts != 0 || on&definition.CountReject != 0 {
			return false
		}
	}
	return held.Len() > 0
}

// takeStock takes a unit of every total among b.keys, all or none. lost: the
// decision may have held them in a reservation that a loss of power took; what was
// burnt for it is theirs.
func (b *Batch) takeStock(lost bool) error {
	for i := range b.keys {
		k := &b.keys[i]
		switch {
		case !k.Total:
			continue
		case lost && b.e.store.Totals().BurntFor(k):
			b.e.store.Totals().Force(k)
			continue
		}
		limit, since := b.snap.Plan.TotalRule(k.Key.Cap, b.e.clock.Now())
		if b.e.store.Totals().Take(k, since, limit) {
			continue
		}
		b.giveStock(i)
		id, _, _ := strings.Cut(b.e.store.NameOf(storage.DictCap, k.Key.Cap), "#")
		return &Problem{
			Class: ProblemConflict, Code: "capped_total", Field: "outcome",
			Detail: "the stock of cap " + id + " is used up",
		}
	}
	return nil
}

// giveStock gives the totals among the first n keys back.
func (b *Batch) giveStock(n int) {
	for i := range b.keys[:n] {
		if k := &b.keys[i]; k.Total {
			b.e.store.Totals().Give(k)
		}
	}
}

// use counts b.keys at once. Totals among them have been taken by the caller.
// once, when not 0, is remembered with the effect.
func (b *Batch) use(f *fact, once uint64) error {
	if len(b.keys) == 0 {
		return nil
	}
	b.stamp(storage.EffectUse, f.ord)
	b.effect.DedupKey = once
	b.effect.Use = storage.UseEffect{At: toSecUp(f.at), Keys: b.keys, Mark: f.mark()}
	if b.effect.Use.At == f.marked {
		b.effect.Use.Mark = storage.UseMark{} // one mark of a moment tells of all counters
	}
	if f.lost {
		b.effect.Use.Lost = f.token.Reservation
	}
	return b.append(f.group)
}
