package engine

import (
	"tact/engine/rule"
	"tact/storage"
)

// sampled is how many people are judged at a publish to see for how many each
// condition holds: enough to tell one in ten from one in a hundred, and a
// millisecond for a thousand conditions.
const sampled = 256

// shares judges some people, spread evenly over the groups, by every condition of
// a program and returns the share each holds for, by bit; nil when there is nobody.
// Plans are indexed by it: it decides how fast an answer comes and never what it
// is. A group is locked for one person at a time.
func (e *Engine) shares(program *rule.Program) []float32 {
	s := sample{
		program: program, bits: make([]uint64, program.Pages()*rule.PageWords),
		held: make([]float32, len(program.UserAtoms)),
	}
	groups := e.store.Groups()
	each := max(sampled/groups, 1)
	for i := range groups {
		g := e.store.Group(storage.GroupID(i))
		for k := range each {
			s.person(e, g, k, each)
		}
	}
	if s.people == 0 {
		return nil
	}
	for i := range s.held {
		s.held[i] /= float32(s.people)
	}
	return s.held
}

// sample counts for whom conditions hold.
type sample struct {
	program *rule.Program
	who     rule.Who
	scratch rule.Scratch
	bits    []uint64
	held    []float32
	people  int
}

// person judges the k-th of n people spread over a group.
func (s *sample) person(e *Engine, g *storage.Group, k, n int) {
	g.Lock()
	defer g.Unlock()
	ord := storage.Ord(g.Len() * k / n)
	row := g.Row(ord)
	if row == nil {
		return
	}
	s.who = rule.Who{
		ID: g.ID(ord), Profile: g.Profile(ord), Now: e.clock.Now(), Zone: e.zone(row.Zone),
		Tail: g.Tail(ord), Activity: g.Activity(ord), Scratch: &s.scratch,
	}
	s.program.EvalUser(&s.who, 0, s.bits)
	s.people++
	for i := range s.held {
		if s.bits[i/64]>>(i%64)&1 != 0 {
			s.held[i]++
		}
	}
}
