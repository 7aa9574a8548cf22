package engine

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

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
	return b.countLine(lineOutcome, b.outcome(doc))
}

func (b *Batch) outcome(doc *OutcomeDoc) LineResult {
	if err := checkName(doc.Outcome, "outcome"); err != nil {
		return rejected(err)
	}
	if p := unknownOutcome(doc.Outcome); p != nil {
		return rejected(p)
	}
	if outcomeOf(doc.Outcome) == 0 && b.snap.Set.Workspace.UndeclaredReject {
		return rejected(invalid("undeclared", "outcome",
			fmt.Sprintf("%q is not a known outcome, and this workspace rejects others", doc.Outcome)))
	}
	if err := checkOutcome(doc); err != nil {
		return rejected(err)
	}
	var t token
	if err := b.locate(doc, &t); err != nil {
		return rejected(err)
	}
	if len(doc.OfferID) > 0 && b.e.store.NameOf(storage.DictOffer, t.Offer) != string(doc.OfferID) {
		return rejected(invalid("unknown_item", "offer_id", "the token is of another offer"))
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
		return *b.duplicate(g, old == doc.BodyHash || len(doc.EventID) == 0)
	}
	return b.applyOutcome(g, doc, &t, names, key)
}

// unknownOutcome refuses a name that is nearly one of those that caps count: a
// slip would leave the use to expire in silence. Other names are custom outcomes.
func unknownOutcome(name []byte) *Problem {
	if outcomeOf(name) != 0 || string(name) == outcomeRefund {
		return nil
	}
	known := []string{
		"impression", "send", "delivered", "click", "accept", "reject", "convert", "dismiss",
	}
	near := definition.Suggest(strings.ToLower(string(name)), known)
	if near == "" {
		return nil
	}
	return invalid("unknown_outcome", "outcome", fmt.Sprintf("%q; did you mean %q?", name, near))
}

// outcomeRefund gives back what an accept took of totals.
const outcomeRefund = "refund"

// maxWorth bounds the value of one outcome, so that sums stay finite.
const maxWorth = 1e12

func checkOutcome(doc *OutcomeDoc) error {
	if math.Abs(doc.Value) > maxWorth {
		return invalid("out_of_range", "value", "want at most 1e12 either side of 0")
	}
	if len(doc.EventID) > 0 {
		return checkUserID(doc.EventID, "event_id")
	}
	return nil
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

// outcomeKey is the idempotency key of an outcome: the item with its event_id,
// or else with the outcome's name; never 0.
func (b *Batch) outcomeKey(doc *OutcomeDoc, t *token) uint64 {
	b.text = b.appendItem(b.text[:0], t)
	if len(doc.EventID) > 0 {
		b.text = append(append(b.text, 1), doc.EventID...)
	} else {
		b.text = append(append(b.text, 0), doc.Outcome...)
	}
	return b.e.store.DedupHash(dedupOutcome, b.text)
}

// appendItem appends what names one item of one decision.
func (b *Batch) appendItem(dst []byte, t *token) []byte {
	dst = append(dst, t.Decision[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(t.Offer))
	dst = binary.BigEndian.AppendUint32(dst, uint32(t.Placement))
	return binary.BigEndian.AppendUint64(dst, t.Reservation.Number)
}

// onceKey marks that a contact of an item was counted, so that another report of it
// under another event_id, or of another decision that was answered with the same
// reservation, is a repeat. Known for seven days; never 0.
func (b *Batch) onceKey(t *token, on definition.CountOn) uint64 {
	b.text = b.text[:0]
	if t.Reservation.Number == 0 {
		b.text = b.appendItem(b.text, t)
	} else {
		b.text = binary.BigEndian.AppendUint32(b.text, t.Reservation.Epoch)
		b.text = binary.BigEndian.AppendUint64(b.text, t.Reservation.Number)
	}
	b.text = append(b.text, byte(on))
	return b.e.store.DedupHash(dedupContact, b.text)
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
	digits := doc.DecisionID[:min(len(doc.DecisionID), 2*len(t.Decision))]
	n, err := hex.Decode(t.Decision[:], digits)
	if err != nil || n != len(t.Decision) || len(doc.DecisionID) != len(digits) {
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
	t.Identity, t.Device = r.Identity, r.Device
	return b.choose(doc, &r, t)
}

// choose finds the item of a record that an outcome is about: by the caller's
// placement key and the offer where there are several.
func (b *Batch) choose(doc *OutcomeDoc, r *record, t *token) error {
	for _, v := range r.Variants[:min(len(r.Variants), t.maxVariants())] {
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
	countOn, custom := b.counted(doc.Outcome)
	var flags LineFlags
	var err error
	if ord != storage.NoOrd {
		err = b.seed(g, ord)
	}
	if err == nil && t.Offer != 0 && !t.Fallback {
		now := b.e.clock.Now()
		f := fact{group: g, ord: ord, token: t, on: countOn, custom: custom, doc: doc}
		f.at, _ = clampEventTime(doc.OccurredAt, now)
		f.at = min(max(f.at, decidedAt(&t.Decision)), now)
		switch {
		case countOn&definition.CountContacts != 0 && ord != storage.NoOrd:
			flags, err = b.contact(&f)
		case string(doc.Outcome) == outcomeRefund:
			flags, err = b.refund(&f)
		case countOn&definition.CountReactions != 0:
			err = b.reaction(&f)
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

// fact is something that happened to one item, on its way to the caps.
type fact struct {
	group *storage.Group // locked
	ord   storage.Ord    // NoOrd: a person without a row
	token *token
	on    definition.CountOn
	at    storage.UnixMsec // between the decision and now
	lost  bool             // its reservation was answered and lost with a machine
	doc   *OutcomeDoc

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
// remembered with it.
func (b *Batch) confirm(f *fact, held storage.Held, once uint64) error {
	b.stamp(storage.EffectConfirm, f.ord)
	b.effect.DedupKey = once
	b.effect.Resolve = storage.ResolveEffect{
		ID: f.token.Reservation, CountOn: uint16(f.on),
		At: min(max(toSecUp(f.at), held.Granted()), held.Expires()), Mark: f.mark(),
	}
	at := confirmedAt(f, held)
	b.windows = b.windows[:0]
	for i := range held.Len() {
		k := held.Key(i)
		if !k.Total || k.CountOn&uint16(f.on) == 0 {
			continue
		}
		if w, ok := b.snap.Plan.TotalWindow(k.Key.Cap, at); ok && w < k.Window {
			b.windows = append(b.windows, storage.TotalKey{CounterKey: k.Key, Window: w})
		}
	}
	b.effect.Resolve.Windows = b.windows
	return b.append(f.group)
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
func (b *Batch) contact(f *fact) (LineFlags, error) {
	if f.token.Reservation.Number == 0 {
		return 0, nil // no cap counted it at the decision
	}
	once := b.onceKey(f.token, f.on)
	if _, ok := f.group.SeenDedup(once); ok {
		b.e.counters.repeats.Inc()
		return FlagRepeat, nil
	}
	held, state := f.group.Contact(f.ord).Reservation(f.token.Reservation)
	switch {
	case state == storage.ReservationConfirmed && f.on == definition.CountImpression:
		b.e.counters.repeats.Inc()
		return FlagRepeat, nil
	case state == storage.ReservationConfirmed,
		state == storage.ReservationOpen && !holdsContact(held, f.on):
		return 0, nil // no cap counts this contact
	case state == storage.ReservationOpen && held.Live(b.e.instant(f.group, b.e.clock.Now())):
		return 0, b.confirm(f, held, once)
	case state == storage.ReservationOpen:
		// Its use was given back already, if only in the counting.
		b.e.counters.late.Inc()
		return FlagLate, b.confirm(f, held, once)
	}
	if f.group.LostReservation(f.token.Reservation) {
		b.e.counters.lost.Inc()
		f.lost = true
		return 0, b.ungranted(f, once)
	}
	b.e.counters.late.Inc()
	return FlagLate, b.ungranted(f, once)
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
// a use, whatever the caps say (facts are counted).
func (b *Batch) ungranted(f *fact, once uint64) error {
	of, ok := b.decideFact(f)
	if !ok {
		return nil
	}
	b.keys = b.snap.Plan.AppendContactKeys(b.keys[:0], of)
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
// takes a unit, or is refused. Of a person without a row only totals count.
func (b *Batch) reaction(f *fact) error {
	of, ok := b.decideFact(f)
	if !ok {
		return nil
	}
	if of.Value < 0 && b.snap.Plan.SpendsValue(of) {
		return invalid("out_of_range", "value", "a budget in money spends it: want at least 0")
	}
	var held storage.Held
	state := storage.ReservationUnknown
	if f.ord != storage.NoOrd {
		held, state = f.group.Contact(f.ord).Reservation(f.token.Reservation)
	}
	// A total with `hold` is confirmed once; a unit that was given back, or never
	// held, is taken now.
	once := b.onceKey(f.token, f.on)
	_, counted := f.group.SeenDedup(once)
	holds := state == storage.ReservationOpen && holdsContact(held, f.on)
	of.Late = !holds && !counted
	b.keys = b.snap.Plan.AppendReactionKeys(b.keys[:0], of)
	if f.ord == storage.NoOrd {
		b.keys = slices.DeleteFunc(b.keys, func(k storage.HeldKey) bool { return !k.Total })
	}
	lost := f.ord != storage.NoOrd && state == storage.ReservationUnknown &&
		f.group.LostReservation(f.token.Reservation)
	if err := b.takeStock(lost); err != nil {
		return err
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
		return err
	}
	if lost {
		b.giveBurnt()
	}
	if err := b.markAll(f, taken); err != nil {
		return err
	}
	if refused { // nobody waits for the rest of the reservation's life
		b.stamp(storage.EffectRelease, f.ord)
		b.effect.Resolve = storage.ResolveEffect{ID: f.token.Reservation}
		err = b.append(f.group)
	}
	return err
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
	if f.lost {
		b.effect.Use.Lost = f.token.Reservation
	}
	return b.append(f.group)
}
