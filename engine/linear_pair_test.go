package engine

import (
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"
	"github.com/zeebo/xxh3"
)

// The sequential specification of the counters of two people for one offer, whom
// merges unite and splits part again: docs/caps.md and storage.MergeContacts. Each
// has a counter as in linState; while they are united, that of the survivor holds
// what came from the other too, under its origin.

// linMove is how the last merge or split stands.
type linMove uint8

const (
	linSure   linMove = iota // it is durable
	linMerged                // nobody was answered that the merge was made
	linParted                // … the split
)

// linPair is the state of a pair. It is never changed in place.
type linPair struct {
	part   [2]linState
	united bool
	into   uint8 // the survivor, when united
	move   linMove
	lent   int // stand-ins that the last merge brought to the survivor
	key    string
}

func (p linPair) sealed() linPair {
	p.part[0], p.part[1] = p.part[0].sealed(), p.part[1].sealed()
	p.key = fmt.Sprintf("{%s} {%s} united %v into %d, move %d, %d lent", p.part[0].key,
		p.part[1].key, p.united, p.into, p.move, p.lent)
	return p
}

// step is the specification: every state that the operation may lead to.
func (p linPair) step(in linInput, out linOutput) []linPair {
	switch in.kind {
	case linMerge:
		return fewer(p.merge(in.side, out.unknown))
	case linSplit:
		return fewer(p.split(in.side, out.unknown))
	case linTime, linStop:
		p = p.certain()
		p.part[0] = linStep(p.part[0], in, out)[0]
		p.part[1] = linStep(p.part[1], in, out)[0]
		return []linPair{p}
	case linKill, linCut:
		all := p.certain().end(in)
		if p.move != linSure {
			all = append(all, p.undone().end(in)...)
		}
		return all
	}
	if p.united && in.side != p.into {
		return nil // what comes for the other is sent to the survivor
	}
	var all []linPair
	for _, s := range linStep(p.part[in.side], in, out) {
		p.part[in.side] = s
		if in.kind == linConfirm {
			p.part[1-in.side] = p.part[1-in.side].hears(s, in.id)
			p.part[0], p.part[1] = p.part[0].reported(in), p.part[1].reported(in)
		}
		all = append(all, p)
	}
	return all
}

// fewer adds the states in which a part has fewer stand-ins: how often moves double
// them, beside the one that each loss is owed, is not specified here.
func fewer(all []linPair) []linPair {
	for _, p := range all[:len(all):len(all)] {
		for a := range p.part[0].standIns + 1 {
			for b := range p.part[1].standIns + 1 {
				q := p
				q.part[0].standIns, q.part[1].standIns = a, b
				all = append(all, q)
			}
		}
	}
	return all
}

// certain is the state when the last merge or split is durable.
func (p linPair) certain() linPair {
	if p.united {
		other := &p.part[1-p.into]
		other.asked = nil // its live requests have ended
	}
	p.move, p.lent = linSure, 0
	return p
}

// undone is the state when the last merge or split has not been made after all.
func (p linPair) undone() linPair {
	switch p.move {
	case linMerged:
		lent := p.lent
		p = p.apart(false)
		p.part[1-p.into].standIns = lent
		p.part[p.into].standIns = max(0, p.part[p.into].standIns-lent)
	case linParted:
		standIns := p.part[p.into].standIns
		p = p.join()
		p.part[p.into].standIns = standIns
		p.part[1-p.into].asked = nil
	}
	p.move, p.lent = linSure, 0
	return p
}

// end is what an end of the process may leave. Whoever has been taken in has no lease
// and no grant that is not durable.
func (p linPair) end(in linInput) []linPair {
	first, second := []linState{p.part[0]}, []linState{p.part[1]}
	if !p.united || p.into == 0 {
		first = linStep(p.part[0], in, linOutput{})
	}
	if !p.united || p.into == 1 {
		second = linStep(p.part[1], in, linOutput{})
	}
	var all []linPair
	for _, a := range first {
		for _, b := range second {
			p.part = [2]linState{a, b}
			all = append(all, p)
		}
	}
	return all
}

// merge unites both in one of them. It waits until what was answered of both is
// durable. One that is made again changes nothing.
func (p linPair) merge(side uint8, unknown bool) []linPair {
	before := p
	if !p.united {
		p.into = side
		p.part[0], p.part[1] = p.part[0].safe(), p.part[1].safe()
		p.lent = p.part[1-side].standIns
		p = p.join()
		p.move = linMerged
	} else if p.into != side {
		return nil
	}
	if unknown {
		return []linPair{before, p}
	}
	return []linPair{p.certain()}
}

// split gives the other back what came from there.
func (p linPair) split(side uint8, unknown bool) []linPair {
	before := p
	if p.united {
		if p.into != side {
			return nil
		}
		p.part[0], p.part[1] = p.part[0].safe(), p.part[1].safe()
		p = p.certain().apart(true)
		p.move = linParted
	}
	p.into = side
	if unknown {
		return []linPair{before, p}
	}
	return []linPair{p.certain()}
}

// join moves everything to the one that p.into names.
func (p linPair) join() linPair {
	s, o := p.part[p.into].clone(), p.part[1-p.into].clone()
	for _, h := range o.held {
		h.of = true
		s.held = append(s.held, h)
	}
	for _, l := range o.lost {
		s.lost = append(s.lost, linLost{l.id, true})
	}
	s.learn(o)
	s.theirs, s.standIns = o.uses, s.standIns+o.standIns
	o.held, o.lost, o.uses, o.standIns = nil, nil, 0, 0
	p.part[p.into], p.part[1-p.into], p.united = s, o, true
	return p
}

// reported is the state after a confirm was asked for.
func (s linState) reported(in linInput) linState {
	if name := in.id + in.by; !slices.Contains(s.told, name) {
		s = s.clone()
		s.told = append(s.told, name)
	}
	return s
}

// hears is the state after the other one of the pair has confirmed something, or may have.
func (s linState) hears(of linState, id string) linState {
	switch {
	case !slices.Contains(of.done, id):
		return s
	case slices.ContainsFunc(of.seen, func(u linUse) bool { return u.held.id == id }):
		if s = s.clone(); !slices.Contains(s.near, id) {
			s.near = append(s.near, id)
		}
		return s
	}
	s = s.clone()
	s.learn(linState{done: []string{id}})
	return s
}

// learn adds what another person knows of reservations that are no more.
func (s *linState) learn(from linState) {
	for _, id := range from.done {
		if !slices.Contains(s.done, id) {
			s.done = append(s.done, id)
		}
	}
}

// apart is the contrary of join. After a split both know what was confirmed, and both
// have every stand-in.
func (p linPair) apart(split bool) linPair {
	s, o := p.part[p.into].clone(), p.part[1-p.into].clone()
	var held []linHeld
	for _, h := range s.held {
		if !h.of {
			held = append(held, h)
			continue
		}
		h.of = false
		o.held = append(o.held, h)
	}
	var lost []linLost
	for _, l := range s.lost {
		if !l.of {
			lost = append(lost, l)
			continue
		}
		o.lost = append(o.lost, linLost{l.id, false})
	}
	s.held, s.lost = held, lost
	o.uses, s.theirs = s.theirs, 0
	if split {
		o.standIns = s.standIns
		o.learn(s)
	}
	p.part[p.into], p.part[1-p.into], p.united = s, o, false
	return p
}

// linPairModel is the specification in the checker's form.
func linPairModel(limit int) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any {
			p := linPair{part: [2]linState{{limit: limit}, {limit: limit}}}
			return []any{p.sealed()}
		},
		Step: func(state, input, output any) []any {
			var out []any
			for _, p := range state.(linPair).step(input.(linInput), output.(linOutput)) {
				out = append(out, p.sealed())
			}
			return out
		},
		Equal:         func(a, b any) bool { return a.(linPair).key == b.(linPair).key },
		Hash:          func(state any) uint64 { return xxh3.HashString(state.(linPair).key) },
		DescribeState: func(state any) string { return state.(linPair).key },
	}
	return m.ToModel()
}
