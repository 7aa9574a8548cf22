package engine

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
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
	b.away, b.given = b.away[:0], false
	if b.keysAway(g, &t) {
		g.Unlock()
		b.lookAway(g, doc, &t)
		err := b.refundAway(g, doc, &t)
		g.Lock()
		if err != nil {
			return rejected(err)
		}
	}
	if old, ok := b.seen(g, key); ok {
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
func (b *Batch) onceKey(f *fact) uint64 {
	t := f.token
	b.text = b.text[:0]
	if t.Reservation.Number == 0 {
		b.text = b.appendItem(b.text, t)
	} else {
		b.text = binary.BigEndian.AppendUint32(b.text, t.Reservation.Epoch)
		b.text = binary.BigEndian.AppendUint64(b.text, t.Reservation.Number)
	}
	b.text = append(b.text, byte(f.on))
	if high := byte(f.on >> 8); high != 0 {
		b.text = append(b.text, high)
	}
	if f.custom != 0 {
		b.text = binary.BigEndian.AppendUint32(b.text, uint32(f.custom))
	}
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
		case countOn&definition.CountContacts != 0 &&
			(ord != storage.NoOrd || t.Reservation.Number == 0):
			flags, err = b.contact(&f)
		case string(doc.Outcome) == outcomeRefund:
			flags, err = b.refund(&f)
		case countOn&definition.CountReactions != 0:
			flags, err = b.reaction(&f)
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
