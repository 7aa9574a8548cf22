package engine

import (
	"tact/engine/decide"
	"tact/engine/rule"
	"tact/storage"
)

// identify sets w.id: the canonical id the request leads to, or none.
func (e *Engine) identify(req *DecideRequest, out *Decision) error {
	w := &out.work
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
		w.id = append(w.id[:0], id...)
	case len(w.id) == 0:
		w.id, err = anonymousID(w.id, &req.Identities[0])
	}
	return err
}

// readPerson fills w.person and brings the predicate bits up to date.
func (e *Engine) readPerson(req *DecideRequest, w *decideWork) error {
	program := w.snap.Plan.Program
	w.person = decide.Person{HasID: len(w.id) > 0, Known: w.known, ID: w.id, Bits: &w.bits}
	home := w.snap.Plan.Workspace.Zone
	w.who = rule.Who{ID: w.id, Zone: home, Home: home, Now: w.now}
	if !w.known {
		if e.visitors.Load() >= int64(e.opts.MaxVisitors) {
			w.person.Full = true
		}
		w.bits = [8]uint64{}
		program.EvalUser(&w.who, 0, &w.bits)
		return nil
	}
	g := w.group
	row := g.Row(w.ord)
	w.refPerson = row.Person
	if row.BitsRev > program.Rev && req.Mode != ModePreview {
		return errStaleSnapshot
	}
	w.person.Contact = g.Contact(w.ord)
	if zone := e.zone(row.Zone); zone != nil {
		w.person.Zone, w.who.Zone = zone, zone
	}
	w.person.Profile = g.Profile(w.ord)
	w.who.Profile = w.person.Profile
	now := toSec(w.now)
	switch {
	case req.Mode == ModePreview || req.Now != 0:
		w.bits = [8]uint64{}
		w.readEvents(program)
		program.EvalUser(&w.who, 0, &w.bits)
	case row.BitsRev != program.Rev || row.Stirred || now >= row.NextChange:
		from := row.BitsRev
		if from == 0 {
			row.Bits = [8]uint64{}
		}
		w.readEvents(program)
		row.NextChange = program.EvalUser(&w.who, from, &row.Bits)
		row.BitsRev, row.Stirred = program.Rev, false
		w.person.Bits = &row.Bits
	default:
		w.person.Bits = &row.Bits
	}
	return nil
}

// readEvents gives the rules what the person did, where one of them asks.
func (w *decideWork) readEvents(program *rule.Program) {
	if program.ReadsEvents() {
		w.who.Tail, w.who.Activity = w.group.Tail(w.ord), w.group.Activity(w.ord)
	}
}
