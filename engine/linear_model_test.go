package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
	"github.com/zeebo/xxh3"
)

// The sequential specification of one counter, for the linearizability checker:
// what one atomic counter with reservations would answer. Ends of the process are
// operations too: they say what may be gone.

// linKind is the kind of an operation on a counter.
type linKind uint8

const (
	linDecide  linKind = iota // ask for an item
	linConfirm                // report an impression
	linHold                   // a grant that was not safe in time …
	linGive                   // … and was given back: it held for a moment
	linTime                   // all reservations run out
	linStop                   // a clean end
	linKill                   // kill -9: the ring is kept, or nothing was answered before it was durable
	linCut                    // a power cut
	linMerge                  // a person takes the other one of the pair in
	linSplit                  // and gives the other back what came from there
	linForget                 // requests that a person remembered may be decided anew
	linFound                  // what a loss took of another counter of the person may have come
)

// linInput and linOutput are the two sides of an operation.
type linInput struct {
	kind    linKind
	request string // of a decision; "" = none
	id      string // reservation of a confirm
	by      string // whose token it was confirmed with
	sticky  bool   // a decision is answered with the reservation that is open, if there is one
	side    uint8  // of a pair: whose row is asked; the survivor of a merge or split
}

type linOutput struct {
	unknown  bool   // nobody saw the answer
	id       string // reservation of the item; "" = none was given
	replayed bool
	strict   bool // durable when it was answered
	late     bool
	twice    bool // a duplicate of an earlier report
}

// linHeld is one reservation that holds a use.
type linHeld struct {
	id      string // "?" + request, or "?": nobody knows it yet
	request string
	strict  bool
	of      bool // it came from the other one of the pair, in a merge
}

// linLost is a reservation that was answered, and is gone with the power.
type linLost struct {
	id string
	of bool // as of linHeld
}

// linAsked is a request that is remembered, or after a loss may be; id "" = with no
// item.
type linAsked struct {
	request, id string
	maybe       bool
	kept        bool // it was answered with a reservation that was open
}

// linState is the state of one counter. It is never changed in place.
type linState struct {
	limit    int
	uses     int // confirmed
	theirs   int // confirmed by the other one of the pair before a merge
	standIns int
	given    int // released in this life: a loss may bring them back
	held     []linHeld
	asked    []linAsked
	lost     []linLost
	done     []string // confirmed, by the other one of the pair too
	near     []string // maybe confirmed by the other one: nobody was answered
	told     []string // tokens that were reported, maybe in vain
	seen     []linUse // of these, those that nobody was answered: a loss may undo them
	key      string   // all of it as text
}

// linUse is a confirm that nobody was answered, with what it took: others have seen
// that it was there, as a sticky placement does that goes on to another item.
type linUse struct {
	held    linHeld
	was     byte // 'h' a reservation that was held, 'l' a lost one, 'x' one that had run out
	standIn bool // a stand-in went with it
	again   bool // it was confirmed before, by the other one of the pair
}

func (s linState) clone() linState {
	s.held, s.asked = slices.Clone(s.held), slices.Clone(s.asked)
	s.lost, s.done, s.seen = slices.Clone(s.lost), slices.Clone(s.done), slices.Clone(s.seen)
	s.near, s.told = slices.Clone(s.near), slices.Clone(s.told)
	return s
}

func (s linState) used() int { return s.uses + s.theirs + s.standIns + len(s.held) }

func (s linState) findLost(id string) int {
	return slices.IndexFunc(s.lost, func(l linLost) bool { return l.id == id })
}

func (s linState) findHeld(id string) int {
	return slices.IndexFunc(s.held, func(h linHeld) bool { return h.id == id })
}

func (s linState) findAsked(request string) int {
	return slices.IndexFunc(s.asked, func(a linAsked) bool { return request != "" && a.request == request })
}

// hold returns the state with one more reservation.
func (s linState) hold(id, request string, strict bool) linState {
	s = s.clone()
	s.held = append(s.held, linHeld{id: id, request: request, strict: strict})
	if request != "" {
		s.asked = append(s.asked, linAsked{request: request, id: id})
	}
	return s
}

// keep returns the state after a decision that was answered with an open reservation.
// Nobody may have seen the answer that granted it, and so nobody knew its id.
func (s linState) keep(at int, in linInput, out linOutput) linState {
	s = s.clone()
	h := &s.held[at]
	was := h.id
	if !out.unknown {
		h.id, h.strict = out.id, h.strict || out.strict
	}
	for i := range s.asked {
		if a := &s.asked[i]; a.id == was {
			a.id = h.id
		}
	}
	if in.request != "" {
		s.asked = append(s.asked, linAsked{
			request: in.request, id: h.id, kept: true, maybe: out.unknown,
		})
	}
	return s
}

// sealed returns the state in its one form, with its text.
func (s linState) sealed() linState {
	s = s.clone()
	slices.SortFunc(s.held, func(a, b linHeld) int { return cmp.Compare(a.id+a.request, b.id+b.request) })
	slices.SortFunc(s.asked, func(a, b linAsked) int { return cmp.Compare(a.request, b.request) })
	slices.SortFunc(s.lost, func(a, b linLost) int { return cmp.Compare(a.id, b.id) })
	slices.Sort(s.done)
	slices.Sort(s.near)
	slices.Sort(s.told)
	slices.SortFunc(s.seen, func(a, b linUse) int { return cmp.Compare(a.held.id, b.held.id) })
	s.key = fmt.Sprintf("%d uses %d theirs %d stand-ins %d given held %v asked %v lost %v "+
		"done %v seen %v near %v told %v",
		s.uses, s.theirs, s.standIns, s.given, s.held, s.asked, s.lost, s.done, s.seen, s.near, s.told)
	return s
}

// linStep is the specification: every state that the operation may lead to.
func linStep(s linState, in linInput, out linOutput) []linState {
	switch in.kind {
	case linDecide:
		return s.decide(in, out)
	case linConfirm:
		return s.confirm(in, out)
	case linHold:
		if s.used() < s.limit {
			return []linState{s.hold(in.id, "", false)}
		}
	case linGive:
		if at := s.findHeld(in.id); at >= 0 {
			s = s.clone()
			s.held = slices.Delete(s.held, at, at+1)
			s.given++
			return []linState{s}
		}
	case linTime:
		s = s.clone()
		s.held, s.asked, s.standIns, s.given = nil, nil, 0, 0
		for i := range s.seen {
			s.seen[i].was = 'x'
		}
		return []linState{s}
	case linFound: // a stand-in is a person's, not a counter's
		if s.standIns > 0 {
			x := s.clone()
			x.standIns--
			return []linState{s, x}
		}
		return []linState{s}
	case linForget:
		s = s.clone()
		for i := range s.asked {
			s.asked[i].maybe = s.asked[i].maybe || strings.HasSuffix(s.asked[i].request, in.id)
		}
		return []linState{s}
	case linStop:
		return []linState{s.safe()}
	case linKill:
		return s.safeAll(s.doubt())
	case linCut:
		return s.safeAll(s.cut())
	}
	return nil
}

// decide: a request that is remembered gets its answer again; another is given an
// item if and only if there is room.
func (s linState) decide(in linInput, out linOutput) []linState {
	at := s.findAsked(in.request)
	if at < 0 {
		return s.fresh(in, out)
	}
	var all []linState
	if out.unknown {
		all = []linState{s}
	} else if out.replayed || !s.asked[at].maybe {
		all = s.repeat(at, out)
	}
	if s.asked[at].maybe && !out.replayed {
		x := s.clone()
		x.asked = slices.Delete(x.asked, at, at+1)
		all = append(all, x.fresh(in, out)...)
	}
	return all
}

func (s linState) fresh(in linInput, out linOutput) []linState {
	room := s.used() < s.limit
	// It is given again where it would pass if it were not there: people who were
	// united may have more uses than the limit.
	if in.sticky && len(s.held) > 0 && s.used() <= s.limit {
		return s.sticky(in, out)
	}
	switch {
	case out.unknown:
		return []linState{s, s.answer(in.request, room)}
	case out.replayed:
		return nil
	case out.id == "" && !room:
		return []linState{s.answer(in.request, false)}
	case out.id != "" && room:
		return []linState{s.hold(out.id, in.request, out.strict)}
	}
	return nil
}

// sticky: an open reservation is given again, and no other use is taken.
func (s linState) sticky(in linInput, out linOutput) []linState {
	var all []linState
	if out.unknown {
		all = append(all, s)
	}
	for i, h := range s.held {
		if out.unknown || !out.replayed && (h.id == out.id || h.id[0] == '?' && out.id != "") {
			all = append(all, s.keep(i, in, out))
		}
	}
	return all
}

// answer is what a decision does that nobody knows the answer of.
func (s linState) answer(request string, room bool) linState {
	if room {
		return s.hold("?"+request, request, false)
	}
	s = s.clone()
	if request != "" {
		s.asked = append(s.asked, linAsked{request: request})
	}
	return s
}

func (s linState) repeat(at int, out linOutput) []linState {
	switch id := s.asked[at].id; {
	case id == out.id:
		s = s.clone()
		s.asked[at].maybe = false
		return []linState{s}
	case id == "" || id[0] != '?' || out.id == "":
		return nil
	}
	s = s.clone() // the first time somebody sees it
	name := s.asked[at].id
	s.asked[at].maybe = false
	if i := s.findHeld(name); i >= 0 {
		s.held[i].id = out.id
	}
	for i := range s.asked { // those that were answered with the same reservation
		if s.asked[i].id == name {
			s.asked[i].id = out.id
		}
	}
	return []linState{s}
}

// confirm: the use of a reservation that is held, or that a power cut took, is in
// time; one that has run out is late; nothing is counted twice. A reservation that two
// were shown while they were one, and that one has reported since they are two, is the
// other's to confirm still.
func (s linState) confirm(in linInput, out linOutput) []linState {
	again := slices.Contains(s.done, in.id)
	if again && s.findHeld(in.id) < 0 {
		switch {
		case out.unknown:
			return []linState{s}
		case out.twice: // it has waited for the one that it repeats
			s = s.clone()
			s.seen = slices.DeleteFunc(s.seen, func(u linUse) bool { return u.held.id == in.id })
			return []linState{s}
		}
		return nil
	}
	if out.twice {
		known := again || slices.Contains(s.near, in.id)
		if known && (s.findHeld(in.id) < 0 || slices.Contains(s.told, in.id+in.by)) {
			return []linState{s}
		}
		return nil
	}
	next := s.clone()
	next.uses++
	if !again {
		next.done = append(next.done, in.id)
	}
	late := false
	took := linUse{held: linHeld{id: in.id}, was: 'x', again: again}
	if at := s.findHeld(in.id); at >= 0 {
		took.held, took.was = s.held[at], 'h'
		next.held = slices.Delete(next.held, at, at+1)
	} else if at := s.findLost(in.id); at >= 0 {
		took.was, took.standIn, took.held.of = 'l', s.standIns > 0, s.lost[at].of
		next.lost = slices.Delete(next.lost, at, at+1)
		next.standIns = max(0, next.standIns-1)
	} else {
		late = true
	}
	switch {
	case out.unknown:
		next.seen = append(next.seen, took)
		return []linState{s, next}
	case out.late == late:
		return []linState{next}
	}
	return nil
}

// safe is the state when everything that is there is durable.
func (s linState) safe() linState {
	s = s.clone()
	s.given, s.seen = 0, nil
	for i := range s.held {
		s.held[i].strict = true
	}
	return s
}

func (s linState) safeAll(all []linState) []linState {
	for i := range all {
		all[i] = all[i].safe()
	}
	return all
}

// doubt returns what an end of the process may leave of what nobody was answered:
// grants and confirms may be gone, what was given back may be held again, and a decision that
// holds nothing may be forgotten.
func (s linState) doubt() []linState {
	s = s.clone()
	for i := range s.asked {
		a := &s.asked[i]
		a.maybe = a.maybe || a.id == "" || a.id[0] == '?' && !s.isStrict(a.id)
	}
	all := []linState{s}
	fork := func(f func(x *linState)) {
		for _, x := range all[:len(all):len(all)] {
			x = x.clone()
			f(&x)
			all = append(all, x)
		}
		all = distinct(all)
	}
	for _, u := range s.seen {
		fork(func(x *linState) { x.undo(u) })
	}
	for range s.given {
		fork(func(x *linState) { x.held = append(x.held, linHeld{id: "?"}) })
	}
	for _, h := range s.held {
		if h.id[0] == '?' && !h.strict {
			fork(func(x *linState) { x.drop(h) })
		}
	}
	return all
}

func (s *linState) isStrict(id string) bool {
	at := s.findHeld(id)
	return at >= 0 && s.held[at].strict
}

// undo takes a confirm that nobody was answered out.
func (s *linState) undo(u linUse) {
	s.uses--
	if !u.again {
		s.done = slices.DeleteFunc(s.done, func(id string) bool { return id == u.held.id })
	}
	switch u.was {
	case 'h':
		s.held = append(s.held, u.held)
	case 'l':
		s.lost = append(s.lost, linLost{u.held.id, u.held.of})
		if u.standIn {
			s.standIns++
		}
	}
}

// drop takes a grant that nobody was answered out, with its request.
func (s *linState) drop(h linHeld) {
	if at := slices.Index(s.held, h); at >= 0 {
		s.held = slices.Delete(s.held, at, at+1)
	}
	if at := s.findAsked(h.request); at >= 0 {
		s.asked = slices.Delete(s.asked, at, at+1)
	}
}

// cut returns what a power cut may leave: of what was answered before it was
// durable at most one reservation is gone, and then a stand-in is there; the
// request of any may be forgotten.
func (s linState) cut() []linState {
	all := s.doubt()
	var out []linState
	for _, x := range all {
		for _, h := range x.held {
			if at := x.findAsked(h.request); at >= 0 && !h.strict {
				x.asked[at].maybe = true
			}
		}
		for i := range x.asked { // its own record is another one than the reservation's
			x.asked[i].maybe = x.asked[i].maybe || x.asked[i].kept
		}
		charged := x.clone()
		charged.standIns++ // the lease was open, and nothing was lost
		out = append(out, x, charged)
		for i, h := range x.held {
			if h.strict || h.id[0] == '?' {
				continue
			}
			gone := charged.clone()
			gone.held = slices.Delete(gone.held, i, i+1)
			gone.lost = append(gone.lost, linLost{h.id, h.of})
			out = append(out, gone)
		}
	}
	return distinct(out)
}

func distinct(all []linState) []linState {
	seen := map[string]bool{}
	for i := range all {
		all[i] = all[i].sealed()
	}
	return slices.DeleteFunc(all, func(s linState) bool {
		defer func() { seen[s.key] = true }()
		return seen[s.key]
	})
}

// linModel is the specification in the checker's form.
func linModel(limit int) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{linState{limit: limit}.sealed()} },
		Step: func(state, input, output any) []any {
			var out []any
			for _, s := range linStep(state.(linState), input.(linInput), output.(linOutput)) {
				out = append(out, s.sealed())
			}
			return out
		},
		Equal:         func(a, b any) bool { return a.(linState).key == b.(linState).key },
		Hash:          func(state any) uint64 { return xxh3.HashString(state.(linState).key) },
		DescribeState: func(state any) string { return state.(linState).key },
	}
	return m.ToModel()
}
