package engine

import (
	"math/bits"

	"tact/engine/decide"
	"tact/engine/rule"
	"tact/storage"
)

// identify sets w.id: the canonical id the request leads to, or none.
func (e *Engine) identify(req *DecideRequest, out *Decision) error {
	w := &out.work
	w.led = false
	if len(req.UserID) > 0 {
		if err := checkUserID(req.UserID, "user.user_id"); err != nil {
			return err
		}
		w.id = append(w.id, req.UserID...)
	}
	if len(req.Identities) == 0 {
		return nil
	}
	return e.identifyMore(req, out)
}

// hashID sets where the person with a canonical id is looked up.
func (e *Engine) hashID(w *decideWork, id []byte) {
	w.hash, w.slot = e.store.IndexHash(workspaceID, id), e.store.SlotOf(workspaceID, id)
}

// lookAhead is hashID for a request that names the person by nothing else: the look-up
// begins while the request is read.
func (e *Engine) lookAhead(w *decideWork, id []byte) {
	e.hashID(w, id)
	w.hashed = true
	e.store.GroupOf(w.slot).Ahead(w.hash)
}

// identifyMore follows identities: where a known user_id stands beside them it
// decides, as identity_order puts it first; else the first known identity does;
// else the person is new and named by the user_id or the first identity.
func (e *Engine) identifyMore(req *DecideRequest, out *Decision) error {
	w := &out.work
	var ref storage.PersonRef
	known := false
	if len(w.id) > 0 {
		ref, known = e.find(w.id)
	}
	w.erasures = e.erasures.Load()
	id, conflict, err := e.resolveIdentities(w.snap, req.Identities, nil)
	if err != nil {
		return err
	}
	if known && id != nil {
		other, ok := e.find(id)
		conflict = conflict || (ok && other != ref)
	}
	if conflict {
		out.Degraded = append(out.Degraded, "identity_conflict")
	}
	switch {
	case known:
	case id != nil:
		w.id, w.led = append(w.id[:0], id...), true
	case len(w.id) == 0:
		w.id, err = anonymousID(w.id, &req.Identities[0])
	}
	return err
}

// stillLed says what to do when the person that was meant has been erased meanwhile:
// identities are followed anew, and whoever was read from the store is nobody now.
func (e *Engine) stillLed(req *DecideRequest, w *decideWork) error {
	switch {
	case w.known:
	case req.onlyKnown:
		return &Problem{
			Class: ProblemMissing, Code: "user_not_found", Field: "user_id",
			Detail: "the person is not there any more",
		}
	case w.led && e.erasures.Load() != w.erasures:
		return errStaleSnapshot
	}
	return nil
}

// readPerson fills w.person and brings the pages of predicate bits in w.pages up
// to date.
func (e *Engine) readPerson(req *DecideRequest, w *decideWork) error {
	w.person = decide.Person{}
	w.person.HasID, w.person.Known, w.person.ID = len(w.id) > 0, w.known, w.id
	if w.snap.scoped {
		w.person.IdentityKey, w.person.DeviceKey = e.scopes(req.UserID, req.Identities)
	}
	home := w.snap.Plan.Workspace.Zone
	w.who = rule.Who{}
	w.who.ID, w.who.Zone, w.who.Home, w.who.Now = w.id, home, home, w.now
	w.who.Scratch = &w.scratchTail
	if !w.known {
		if e.visitors.Load() >= int64(e.opts.MaxVisitors) {
			w.person.Full = true
		}
		w.readClock()
		w.judgeAnew()
		w.person.Listed = e.listed(w)
		return nil
	}
	row, profile, contact := w.group.Person(w.ord)
	w.refPerson = row.Person
	w.person.Contact = contact
	if zone := e.zone(row.Zone); zone != nil {
		w.person.Zone, w.who.Zone = zone, zone
	}
	w.readClock()
	w.person.Profile, w.who.Profile = profile, profile
	w.person.Listed = e.listed(w)
	if req.Mode == ModePreview || req.Now != 0 {
		w.judgeAnew()
		return nil
	}
	return w.refresh(row)
}

// readClock judges what rules ask of a date or a time of the request on the clock
// of the person.
func (w *decideWork) readClock() {
	w.snap.Plan.Program.EvalClock(&w.who, w.context, w.words)
}

// judgeAnew computes the pages that the request reads and keeps none of them.
func (w *decideWork) judgeAnew() {
	program := w.snap.Plan.Program
	w.sizeBits(program)
	for open := w.pages; open != 0; open &= open - 1 {
		k := bits.TrailingZeros32(open)
		w.spare.Rev = 0
		w.readEvents(program, k)
		program.EvalPage(&w.who, k, &w.spare, 0)
		copy(w.bits[k*rule.PageWords:], w.spare.Bits[:])
	}
}

// refresh brings the pages that the request reads up to date in the group. A page
// that a newer snapshot computed is not read: the decision begins again.
func (w *decideWork) refresh(row *storage.Row) error {
	program, now := w.snap.Plan.Program, toSec(w.now)
	one := w.pages == 1 && program.Pages() == 1
	if !one {
		w.sizeBits(program)
	}
	for open := w.pages; open != 0; open &= open - 1 {
		k := bits.TrailingZeros32(open)
		page, mark := &row.Page, uint32(1)<<k
		if k != 0 {
			page = w.group.Page(w.ord, k)
		}
		if page == nil { // no memory to keep it
			page, w.spare.Rev = &w.spare, 0
		}
		if page.Rev > program.Rev {
			return errStaleSnapshot
		}
		var doubt rule.Doubt
		if row.Changed&mark != 0 {
			doubt |= rule.DoubtPerson
		}
		if row.Stirred&mark != 0 {
			doubt |= rule.DoubtEvents
		}
		if !program.Fresh(k, page, doubt, now) {
			w.readEvents(program, k)
			program.EvalPage(&w.who, k, page, doubt)
		}
		if page != &w.spare {
			row.Changed, row.Stirred = row.Changed&^mark, row.Stirred&^mark
		}
		if one {
			w.person.Bits = page.Bits[:]
			return nil
		}
		copy(w.bits[k*rule.PageWords:], page.Bits[:])
	}
	return nil
}

// sizeBits makes room for the words of all pages.
func (w *decideWork) sizeBits(program *rule.Program) {
	n := program.Pages() * rule.PageWords
	if cap(w.bits) < n {
		w.bits = make([]uint64, n)
	}
	w.bits = w.bits[:n]
	w.person.Bits = w.bits
}

// readEvents gives the rules what the person did, where one of them asks.
func (w *decideWork) readEvents(program *rule.Program, k int) {
	if w.known && program.ReadsEvents(k) {
		w.who.Tail, w.who.Activity = w.group.Tail(w.ord), w.group.Activity(w.ord)
	}
}

// noteByDay fills w.byDay of the pages that the request reads. The group is locked.
func (w *decideWork) noteByDay() {
	w.byDay = w.byDay[:0]
	program := w.snap.Plan.Program
	if !w.known || w.group.Tail(w.ord).Floor() == 0 {
		return
	}
	n := program.Pages() * rule.PageWords
	if cap(w.byDayBits) < n {
		w.byDayBits = make([]uint64, n)
	}
	w.byDayBits = w.byDayBits[:n]
	clear(w.byDayBits)
	var page [rule.PageWords]uint64
	for open := w.pages; open != 0; open &= open - 1 {
		k := bits.TrailingZeros32(open)
		if k < program.Pages() && program.ReadsEvents(k) {
			w.readEvents(program, k)
			program.ByDay(&w.who, k, &page)
			copy(w.byDayBits[k*rule.PageWords:], page[:])
		}
	}
	w.byDay = rule.MakeRow(w.byDay, w.byDayBits, w.pages, nil)
}

// scopes returns what caps of scope identity and device count by: keyed hashes of
// the first identity that was named, else of the user_id, and of the first one of
// type device. 0 = none was named.
func (e *Engine) scopes(userID []byte, identities []IdentityRef) (identity, device uint32) {
	for i := range identities {
		ref := &identities[i]
		if key := e.scope(ref); identity == 0 {
			identity = key
		}
		if device == 0 && string(ref.Type) == "device" {
			device = e.scope(ref)
		}
	}
	if identity == 0 && len(userID) > 0 {
		identity = e.scope(&IdentityRef{Type: []byte("user_id"), Value: userID})
	}
	return identity, device
}

func (e *Engine) scope(ref *IdentityRef) uint32 {
	var room [2 * maxUserID]byte
	text := append(append(append(room[:0], ref.Type...), 0), normalised(ref)...)
	return max(uint32(e.store.DedupHash(dedupScope, text)), 1)
}
