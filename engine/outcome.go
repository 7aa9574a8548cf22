package engine

import (
	"encoding/hex"
	"errors"
	"fmt"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// tokenLife is how long a tracking token is accepted.
const tokenLife = 90 * 24 * 3600 * 1000

// outcomeOf maps the name of an outcome to what caps count, 0 for outcomes no
// cap counts. Unknown names are custom outcomes: they are kept in statistics.
func outcomeOf(name []byte) definition.CountOn {
	switch string(name) {
	case "impression":
		return definition.CountImpression
	case "send":
		return definition.CountSend
	case "delivered":
		return definition.CountDelivered
	case "click":
		return definition.CountClick
	case "accept":
		return definition.CountAccept
	case "reject":
		return definition.CountReject
	case "convert":
		return definition.CountConvert
	case "dismiss":
		return definition.CountDismiss
	}
	return 0
}

// Outcome applies one line of POST /v1/outcomes: it moves the use of the item's
// reservation from held to confirmed, counts reactions, and adds to the
// statistics and to the person's tail. It is idempotent by event_id, or, when
// there is none, by the item and the outcome's name.
func (b *Batch) Outcome(doc *OutcomeDoc) LineResult {
	if err := checkName(doc.Outcome, "outcome"); err != nil {
		return rejected(err)
	}
	var t token
	if err := b.locate(doc, &t); err != nil {
		return rejected(err)
	}
	now := b.e.clock.Now()
	if decidedAt(&t.Decision)+tokenLife < now {
		return rejected(&Problem{
			Class: ProblemGone, Code: "token_expired", Field: "tracking_token",
			Detail: "outcomes are accepted for 90 days",
		})
	}
	names, err := b.outcomeNames(doc)
	if err != nil {
		return rejected(err)
	}
	key := b.outcomeKey(doc, &t)
	g := b.e.store.Group(t.Person.Group)
	if g == nil {
		return rejected(errUnknownDecision(doc))
	}
	g.Lock()
	defer g.Unlock()
	if old, ok := g.SeenDedup(key); ok {
		return *duplicate(old == doc.BodyHash)
	}
	return b.applyOutcome(g, doc, &t, names, key)
}

// outcomeWords are the dictionary ids of one outcome.
type outcomeWords struct{ outcome, event storage.Name }

func (b *Batch) outcomeNames(doc *OutcomeDoc) (n outcomeWords, err error) {
	if n.outcome, err = b.mint(storage.DictOutcome, doc.Outcome, "outcome"); err != nil {
		return n, err
	}
	b.text = append(append(b.text[:0], decide.OutcomeEvent...), doc.Outcome...)
	n.event, err = b.mint(storage.DictEvent, b.text, "outcome")
	return n, err
}

// outcomeKey is the idempotency key of an outcome; never 0.
func (b *Batch) outcomeKey(doc *OutcomeDoc, t *token) uint64 {
	b.text = append(b.text[:0], t.Decision[:]...)
	b.text = append(b.text, byte(t.Offer), byte(t.Offer>>8), byte(t.Offer>>16), byte(t.Offer>>24))
	if len(doc.EventID) > 0 {
		b.text = append(append(b.text[:0], 1), doc.EventID...)
	} else {
		b.text = append(append(b.text, 0), doc.Outcome...)
	}
	return b.e.store.DedupHash(dedupOutcome, b.text)
}

func errUnknownDecision(doc *OutcomeDoc) *Problem {
	field := "tracking_token"
	if len(doc.Token) == 0 {
		field = "decision_id"
	}
	return &Problem{
		Class: ProblemMissing, Code: "unknown_decision", Field: field, Detail: "no such decision here",
	}
}

// locate fills t from the token, or from the decision's record.
func (b *Batch) locate(doc *OutcomeDoc, t *token) error {
	if len(doc.Token) > 0 {
		if err := b.e.sealer.Open(doc.Token, t, &b.token); err != nil {
			return invalid("bad_token", "tracking_token", err.Error())
		}
		return nil
	}
	if len(doc.DecisionID) == 0 {
		return invalid("missing_field", "tracking_token", "want a tracking_token or a decision_id")
	}
	if n, err := hex.Decode(t.Decision[:], doc.DecisionID[:min(len(doc.DecisionID), 32)]); err != nil ||
		n != len(t.Decision) || len(doc.DecisionID) != 32 {
		return invalid("bad_id", "decision_id", "want 32 hexadecimal digits")
	}
	stored, ord, err := b.e.store.ReadDecision(t.Decision)
	if errors.Is(err, storage.ErrNotFound) {
		return errUnknownDecision(doc)
	}
	if err != nil {
		return storeProblem(err)
	}
	var r record
	if err := r.decode(stored.Record); err != nil {
		return err
	}
	t.Person = storage.PersonRef{Group: t.Decision.Group(), Ord: ord}
	return b.choose(doc, &r, t)
}

// choose finds the item of a record that an outcome is about: by the caller's
// placement key and the offer where there are several.
func (b *Batch) choose(doc *OutcomeDoc, r *record, t *token) error {
	for _, v := range r.Variants[:min(len(r.Variants), tokenMaxVariants)] {
		t.Variants[t.NVariants] = v
		t.NVariants++
	}
	if len(r.Items) == 0 {
		return nil // a decision without an item: counts for its variants
	}
	found, next := 0, 0
	for _, s := range r.Slots {
		for _, it := range r.Items[next : next+s.Count] {
			offer := b.e.store.NameOf(storage.DictOffer, it.Offer)
			if (len(doc.Placement) > 0 && hashKey(doc.Placement) != s.KeyHash) ||
				(len(doc.OfferID) > 0 && string(doc.OfferID) != offer) {
				continue
			}
			found++
			t.Offer, t.Treatment, t.Placement = it.Offer, it.Treatment, s.Placement
			t.Channel, t.Class, t.Life = it.Channel, it.Class, it.Life
			t.Reservation = it.Reservation
		}
		next += s.Count
	}
	switch {
	case found == 0:
		return invalid("unknown_item", "offer_id", "the decision holds no such item")
	case found > 1:
		return invalid("ambiguous", "placement",
			fmt.Sprintf("the decision holds %d items: name placement and offer_id", found))
	}
	return nil
}

// applyOutcome appends everything an outcome changes; the group is locked.
func (b *Batch) applyOutcome(
	g *storage.Group, doc *OutcomeDoc, t *token, names outcomeWords, key uint64,
) LineResult {
	ord := b.personOf(g, t)
	countOn := outcomeOf(doc.Outcome)
	var flags LineFlags
	var err error
	if ord != storage.NoOrd && t.Offer != 0 {
		switch {
		case countOn&definition.CountContacts != 0:
			flags, err = b.contact(g, ord, doc, t, countOn)
		case countOn&definition.CountReactions != 0:
			err = b.reaction(g, ord, t, countOn)
		}
	}
	if err != nil {
		return rejected(err)
	}
	b.stamp(storage.EffectOutcome, ord)
	b.effect.DedupKey, b.effect.DedupBody = key, doc.BodyHash
	at, clamped := clampEventTime(doc.OccurredAt, b.effect.Time)
	b.effect.Outcome = storage.OutcomeEffect{
		Outcome: names.outcome, Event: names.event, Offer: t.Offer, Treatment: t.Treatment,
		Placement: t.Placement, Channel: t.Channel, Variants: t.Variants[:t.NVariants],
		Occurred: at, Value: doc.Value, Shift: b.snap.shift(at),
	}
	if flags&FlagLate != 0 {
		b.effect.Outcome.Flags |= storage.OutcomeLate
	}
	if flags&FlagRepeat != 0 {
		b.effect.Outcome.Flags |= storage.OutcomeRepeat
	}
	if err := b.append(g); err != nil {
		return rejected(err)
	}
	if clamped {
		flags |= FlagClockClamped
	}
	return LineResult{Flags: flags}
}

// personOf returns the ordinal of the token's person, or NoOrd when the person
// had no row or has been forgotten: the outcome then counts in statistics only.
func (b *Batch) personOf(g *storage.Group, t *token) storage.Ord {
	if t.Person.Ord == storage.NoOrd {
		return storage.NoOrd
	}
	row := g.Row(t.Person.Ord)
	if row == nil || row.Flags&storage.RowGone != 0 ||
		(t.Person.Person != 0 && row.Person != t.Person.Person) {
		return storage.NoOrd
	}
	return t.Person.Ord
}

// contact applies an impression, send or delivery: it confirms the reservation,
// or, when that has gone, counts the use as ungranted.
func (b *Batch) contact(
	g *storage.Group, ord storage.Ord, doc *OutcomeDoc, t *token, on definition.CountOn,
) (LineFlags, error) {
	if t.Reservation.Number == 0 {
		return 0, nil // no cap counted it at the decision
	}
	now := b.e.clock.Now()
	at, _ := clampEventTime(doc.OccurredAt, now)
	held, state := g.Contact(ord).Reservation(t.Reservation)
	switch state {
	case storage.ReservationOpen:
		if !holdsContact(held, on) {
			return FlagRepeat, nil
		}
		b.stamp(storage.EffectConfirm, ord)
		b.effect.Resolve = storage.ResolveEffect{
			ID: t.Reservation, CountOn: uint16(on),
			At: min(max(toSecUp(at), held.Granted()), held.Expires()),
		}
		if !held.Live(b.e.instant(g, now)) {
			// Its use was given back already, if only in the counting.
			b.e.counters.late.Inc()
			return FlagLate, b.append(g)
		}
		return 0, b.append(g)
	case storage.ReservationConfirmed:
		b.e.counters.repeats.Inc()
		return FlagRepeat, nil
	}
	b.e.counters.late.Inc()
	return FlagLate, b.ungranted(g, ord, t, on, at)
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

// ungranted counts a contact whose reservation has gone: it happened, so it is
// a use, whatever the caps say (PRODUCT "Caps": facts are counted).
func (b *Batch) ungranted(
	g *storage.Group, ord storage.Ord, t *token, on definition.CountOn, at storage.UnixMsec,
) error {
	offer, placement, ok := b.placeOf(t)
	if !ok {
		return nil
	}
	now := b.e.clock.Now()
	b.keys = b.snap.Plan.AppendContactKeys(b.keys[:0], decide.Fact{
		Offer: offer, Placement: placement, Channel: definition.Channel(t.Channel), CountOn: on,
		At: at, Late: true,
	})
	totals := b.e.store.Totals()
	for i := range b.keys {
		if k := &b.keys[i]; k.Total {
			totals.Force(k.Key, k.Window)
		}
	}
	return b.use(g, ord, min(at, now))
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
// takes a unit, or is refused.
func (b *Batch) reaction(
	g *storage.Group, ord storage.Ord, t *token, on definition.CountOn,
) error {
	offer, placement, ok := b.placeOf(t)
	if !ok {
		return nil
	}
	now := b.e.clock.Now()
	held, state := g.Contact(ord).Reservation(t.Reservation)
	if state == storage.ReservationOpen && holdsContact(held, on) {
		// A unit of stock that the decision holds (`hold` of a total cap).
		at := min(max(toSecUp(now), held.Granted()), held.Expires())
		b.stamp(storage.EffectConfirm, ord)
		b.effect.Resolve = storage.ResolveEffect{ID: t.Reservation, CountOn: uint16(on), At: at}
		if err := b.append(g); err != nil {
			return err
		}
	}
	gone := state != storage.ReservationOpen && state != storage.ReservationConfirmed
	b.keys = b.snap.Plan.AppendReactionKeys(b.keys[:0], decide.Fact{
		Offer: offer, Placement: placement, Channel: definition.Channel(t.Channel), CountOn: on,
		At: now, Late: gone,
	})
	totals := b.e.store.Totals()
	for i := range b.keys {
		k := &b.keys[i]
		if !k.Total || totals.Take(k.Key, k.Window, b.snap.totalLimit(k.Key.Cap)) {
			continue
		}
		for _, t := range b.keys[:i] {
			if t.Total {
				totals.Give(t.Key, t.Window)
			}
		}
		return &Problem{
			Class: ProblemConflict, Code: "capped_total", Field: "outcome",
			Detail: "the stock of cap " + b.e.store.NameOf(storage.DictCap, k.Key.Cap) + " is used up",
		}
	}
	return b.use(g, ord, now)
}

// use counts b.keys at once. Totals among them have been taken by the caller.
func (b *Batch) use(g *storage.Group, ord storage.Ord, at storage.UnixMsec) error {
	if len(b.keys) == 0 {
		return nil
	}
	b.stamp(storage.EffectUse, ord)
	b.effect.Use = storage.UseEffect{At: toSecUp(at), Keys: b.keys}
	return b.append(g)
}
