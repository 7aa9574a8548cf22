package engine

import (
	"errors"
	"time"

	"tact/engine/content"
	"tact/engine/decide"
	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// decideWork is the scratch of one decision: it lives inside the Decision that
// the caller reuses, so that a steady stream of decisions allocates nothing.
type decideWork struct {
	snap    *Snapshot
	request decide.Request
	slots   []decide.SlotRequest
	offers  []int32 // allow and block lists
	words   []uint64
	context []rule.ContextValue
	who     rule.Who
	person  decide.Person
	at      decide.Moment
	over    decide.Overlay
	result  decide.Result
	bits    []uint64 // of the person, page after page
	pages   uint32   // of bits that are read
	spare   storage.BitPage
	values  values
	id      []byte
	hash    uint64       // of id, where it is looked up,
	slot    storage.Slot // and this; by the one who set hashed
	hashed  bool
	now     storage.UnixMsec
	start   storage.UnixMsec // when the request arrived
	timeout time.Duration

	group     *storage.Group
	ord       storage.Ord
	known     bool
	led       bool             // identities led to the person
	erasures  uint64           // of the engine, before they did
	refPerson storage.PersonID // of a known person
	frame     uint64           // of the effects appended; 0 = none
	ticket    storage.Ticket   // what the reply must wait for
	waits     func()           // DecideRequest.Waits
	effect    storage.Effect
	record    record
	bytes     []byte                  // the record
	kept      []byte                  // personal values the text used
	again     []storage.ReservationID // kept by this decision
	before    uint64                  // the last frame that changed the person before it
	counts    []storage.StatsCount

	served   int                  // rows of counts that say what this try gives
	failures []storage.StatsCount // of tries that did not come about
	takes    []take
	stock    []storage.HeldKey       // counters of stock looked at
	held     []storage.ReservationID // by item; Number 0 = none

	used    []content.Value // values the text needs, all items together
	text    []byte          // their bytes
	scratch content.Scratch
	places  storage.AttrPlaces
	askedOf *decide.Plan
	asked   [16]int32 // placements of it that were asked for last, + 1, by their ids' last byte

	scratchTail rule.Scratch
	// byDay is a row of the bits whose windows were answered by calendar day, for
	// explanations; empty where none was.
	byDay     []uint64
	byDayBits []uint64

	keeping keeping

	buf   []byte // contents and tokens of the reply
	spans []span // by item
	token tokenScratch
}

// span is where an item's content and token lie in buf.
type span struct{ contentLo, contentHi, tokenLo, tokenHi int }

// errStaleSnapshot: the person's bits were computed by a newer snapshot than
// the one in hand; begin again with the current one.
var errStaleSnapshot = errors.New("a newer revision has been published")

// Decide answers one request. out is reused; see Decision for how long its
// slices live. It errors with *Problem for faults of the caller; an answer
// without an offer is not an error.
//
// Path: snapshot, names → indices, lock the person's group, predicate bits,
// decide.Pick, totals, effects into the open frame, unlock, render, wait when a
// cap was used. It waits for the disk only then, and allocates nothing once
// out's buffers have grown.
func (e *Engine) Decide(req *DecideRequest, out *Decision) error {
	w := &out.work
	for {
		snap, err := e.snapshotFor(req)
		if err != nil {
			return err
		}
		out.reset(snap)
		if len(req.UserID) > 0 && len(req.Identities) == 0 {
			e.lookAhead(w, req.UserID)
		}
		w.start = e.clock.Now()
		w.now = w.start
		if req.Now != 0 {
			w.now = req.Now
		}
		if err := e.prepare(req, w, out); err != nil {
			return err
		}
		err = e.decideOnce(req, out)
		if err != errStaleSnapshot {
			return err
		}
	}
}

// reset empties out for a decision under snap.
func (d *Decision) reset(snap *Snapshot) {
	d.ID, d.HasID, d.Replayed = storage.DecisionID{}, false, false
	d.Durability = durabilityBounded
	d.Revision = snap.Revision
	d.Slots, d.Items = d.Slots[:0], d.Items[:0]
	d.Assignments, d.Capped = d.Assignments[:0], d.Capped[:0]
	d.Degraded, d.Trace = d.Degraded[:0], d.Trace[:0]
	w := &d.work
	w.snap, w.group, w.known, w.waits = snap, nil, false, nil
	w.slots, w.offers = w.slots[:0], w.offers[:0]
	w.context, w.values.buf = w.context[:0], w.values.buf[:0]
	w.over.Reset()
	w.held, w.frame, w.counts, w.served = w.held[:0], 0, w.counts[:0], 0
	w.buf, w.id, w.failures = w.buf[:0], w.id[:0], w.failures[:0]
	w.byDay, w.hashed = w.byDay[:0], false
}

// How durable a reply is when it leaves.
const (
	durabilityStrict  = "strict"
	durabilityBounded = "bounded(50ms)"
	// A dry run writes nothing, nor does a decision on a full disk; and while the disk
	// is late nobody knows when what was written will be durable.
	durabilityNone = "none"
)

// snapshotFor returns the snapshot a request is decided on.
func (e *Engine) snapshotFor(req *DecideRequest) (*Snapshot, error) {
	if req.Mode != ModePreview || req.Revision == 0 {
		return e.snap.Load(), nil
	}
	return e.snapshotAt(req.Revision)
}

// decideOnce finds the person and decides, with further tries when a total is
// full, a message does not render or the disk is late.
func (e *Engine) decideOnce(req *DecideRequest, out *Decision) error {
	if err := e.identify(req, out); err != nil {
		return err
	}
	return e.decideFrom(req, out, 0)
}

// decideFrom makes the tries of a decision from one on, for the person named.
func (e *Engine) decideFrom(req *DecideRequest, out *Decision, from int) error {
	w := &out.work
	for try := from; try < maxPicks; try++ {
		state, err := e.attempt(req, out, try == 0)
		if err != nil || state == attemptAnswered {
			return err
		}
		if state == attemptRendered && e.settle(w, out) {
			e.conclude(req, out)
			return nil
		}
	}
	return &Problem{
		Class: ProblemBusy, Code: "error", Detail: "no try of this decision could be completed",
	}
}

// conclude makes the reply of a decision that is settled.
func (e *Engine) conclude(req *DecideRequest, out *Decision) {
	e.tokens(&out.work, out)
	e.reply(req, out)
	e.tallyDecision(&out.work, req.Mode == ModeLive)
}

// attempt is how far one try of a decision came.
type attempt uint8

const (
	attemptAgain    attempt = iota // nothing is held: another try is due
	attemptRendered                // decided and rendered: it waits to be settled
	attemptAnswered                // out is the reply: an earlier one, given again
)

// attempt makes one try: everything but the wait for what it used.
func (e *Engine) attempt(req *DecideRequest, out *Decision, first bool) (attempt, error) {
	w := &out.work
	var released storage.DecisionID
	for {
		replay, err := e.pickLocked(req, out, first, released)
		if err != nil {
			return attemptAgain, err
		}
		if replay == (storage.DecisionID{}) {
			break
		}
		if err = e.replay(req, replay, out); err != errReleased {
			return attemptAnswered, err
		}
		// The replay went back to the revision and the time of the first answer.
		// Whoever decides the request anew meanwhile is repeated in turn.
		released = replay
		w.snap, w.now = e.snap.Load(), w.start
		out.reset(w.snap)
		if err = e.prepare(req, w, out); err != nil {
			return attemptAgain, err
		}
		if err = e.identify(req, out); err != nil {
			return attemptAgain, err
		}
	}
	e.store.Hasten(w.ticket)
	if !e.renderItems(w) {
		return attemptAgain, nil
	}
	return attemptRendered, nil
}

// pickLocked decides under the lock of the person's group, and appends what was
// decided. It returns the decision to replay when the request was answered
// before, which only the first try asks: later ones would find their own. A
// decision that was released is not replayed.
func (e *Engine) pickLocked(
	req *DecideRequest, out *Decision, first bool, released storage.DecisionID,
) (storage.DecisionID, error) {
	w := &out.work
	if !w.hashed {
		e.hashID(w, w.id)
	}
	hash, slot := w.hash, w.slot
	g := e.store.GroupOf(slot)
	w.group, w.frame, w.ticket = g, 0, storage.Ticket{}
	g.Lock()
	defer g.Unlock()
	w.known = false
	if len(w.id) > 0 {
		w.ord, w.known = g.Find(workspaceID, hash, w.id)
	}
	if err := e.stillLed(req, w); err != nil {
		return storage.DecisionID{}, err
	}
	if first && req.Mode == ModeLive && len(req.RequestID) > 0 && w.known {
		id, err := e.answered(req, w)
		if err != nil || id != (storage.DecisionID{}) && id != released {
			return id, err
		}
	}
	w.pages = w.snap.Plan.Pages(w.slots)
	if w.known && req.Mode == ModeLive && len(w.snap.Plan.History()) > 0 {
		if err := e.seedHistory(w.snap, g, w.ord, w.appendEffect); err != nil {
			if !unwritten(err) {
				return storage.DecisionID{}, storeProblem(err)
			}
			// What the person's history holds is not known: no cap is counted on.
			return storage.DecisionID{}, e.decideUncounted(req, w, out)
		}
	}
	if err := e.readPerson(req, w); err != nil {
		return storage.DecisionID{}, err
	}
	if req.Explain != ExplainNone {
		w.noteByDay()
	}
	e.answer(req, w, first)
	if req.Mode == ModeLive {
		if err := e.commitPick(req, w, out, slot, hash); err != nil {
			return storage.DecisionID{}, err
		}
	}
	return storage.DecisionID{}, nil
}

// answer fills w.result and the values its messages need: with an answer that is kept,
// which only the first try asks for, or anew.
func (e *Engine) answer(req *DecideRequest, w *decideWork, first bool) {
	live := req.Mode == ModeLive
	if first && e.recall(req, w) {
		if stamp := w.keeping.stamp; live || !w.keeping.at.filled {
			e.collect(w)
			w.keeping.stamp = stamp
		}
		w.keptMessages()
		return
	}
	if first && w.keeping.able {
		e.kept[w.group.GroupID()].judged++
	}
	e.pick(live, w)
	if e.collect(w); first && !req.batched { // a batch seldom names anybody twice
		e.keepAnswer(w)
	}
}

// answered looks the request id up among the person's live ones.
func (e *Engine) answered(req *DecideRequest, w *decideWork) (storage.DecisionID, error) {
	key := e.store.DedupHash(dedupRequest, req.RequestID)
	id, body, ok := w.group.Contact(w.ord).Request(key, toSec(w.now))
	if !ok {
		return storage.DecisionID{}, nil
	}
	if body != req.BodyHash {
		return id, &Problem{
			Class: ProblemConflict, Code: "id_reused", Field: "request_id",
			Detail: "the same request_id was sent before with another body",
		}
	}
	return id, nil
}

// pick runs Pick until every total it wants could be taken; a refused total is
// marked full for the next try.
func (e *Engine) pick(live bool, w *decideWork) {
	w.at.Ms = w.now
	w.group.SetInstant(&w.at.Instant, toSec(w.now))
	for range maxTotalPicks {
		w.snap.Plan.Pick(&w.request, &w.person, &w.at, &w.over, &w.result)
		w.takes = w.takes[:0]
		if e.takeTotals(live, w) {
			return
		}
	}
	// Totals that fill up faster than they can be asked: decide without caps.
	w.over.NoReserve = true
	w.snap.Plan.Pick(&w.request, &w.person, &w.at, &w.over, &w.result)
}

// instant is the moment at which a group's reservations are judged.
func (e *Engine) instant(g *storage.Group, now storage.UnixMsec) storage.Instant {
	return g.Instant(toSec(now))
}

// collect copies, under the lock, the values that the picks' messages need.
func (e *Engine) collect(w *decideWork) {
	w.used, w.text = w.used[:0], w.text[:0]
	w.keeping.stamp, w.keeping.ready = 0, false
	w.scratch.Zone = w.who.Zone
	for i := range w.result.Items {
		sources := w.snap.messages[w.result.Items[i].Treatment].sources
		for k := range sources {
			w.used = append(w.used, content.Value{})
			e.lookup(w, &sources[k], &w.used[len(w.used)-1])
		}
	}
}

// lookup finds one value a message uses; v is unset and stays so when there is none.
func (e *Engine) lookup(w *decideWork, src *content.Source, v *content.Value) {
	switch src.Space {
	case content.SpaceUserID:
		v.Set, v.Kind, v.Bytes = true, definition.TypeString, w.keep(shownID(w.id))
	case content.SpaceUserLocale:
		if id := w.person.Profile.Locale(); id != 0 {
			lo := len(w.text)
			w.text = append(w.text, e.store.NameOf(storage.DictLocale, id)...)
			v.Set, v.Kind, v.Bytes = true, definition.TypeString, w.textFrom(lo)
		}
	case content.SpaceUserAttr:
		kind, num, text := w.person.Profile.AttrNear(storage.Name(src.ID), &w.places)
		if kind != storage.KindNone {
			v.Set, v.Kind, v.Num, v.Bytes = true, definition.AttrType(kind), num, w.keep(text)
		}
	case content.SpaceContext:
		for i := range w.context {
			if c := &w.context[i]; c.Key == storage.Name(src.ID) {
				v.Set, v.Kind, v.Num = true, definition.AttrType(c.Value.Kind), c.Value.Num
				v.Bytes = w.keep(c.Value.Bytes)
				return
			}
		}
	}
}

// keep copies a text out of the person's state.
func (w *decideWork) keep(text []byte) []byte {
	if len(text) == 0 {
		return nil
	}
	lo := len(w.text)
	w.text = append(w.text, text...)
	return w.textFrom(lo)
}

// textFrom is the kept text from a place on. It stays as it is when the memory
// behind it moves.
func (w *decideWork) textFrom(lo int) []byte { return w.text[lo:len(w.text):len(w.text)] }

// shownID is a canonical id as replies show it. People known by one identity
// only have no user_id: they are reached by that identity.
func shownID(id []byte) []byte {
	if len(id) > 0 && id[0] == 0 {
		return nil
	}
	return id
}
