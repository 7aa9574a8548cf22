package storage

import (
	"fmt"
	"slices"
)

// ReadDecision returns a copy of a decision record and the person it was made
// for, NoOrd for nobody. It waits until the record's frame is durable. Personal
// is nil when the person's key is gone. ErrNotFound: no such decision.
// Cost: one read of Pebble and a walk over one frame.
func (s *Store) ReadDecision(id DecisionID) (DecisionEffect, Ord, error) {
	g := s.Group(id.Group())
	if g == nil {
		return DecisionEffect{}, NoOrd, fmt.Errorf("%w: decision %x", ErrNotFound, id)
	}
	if s.closed.Load() {
		return DecisionEffect{}, NoOrd, ErrClosed
	}
	if err := s.Wait(g.id, id.Frame(), 0); err != nil {
		return DecisionEffect{}, NoOrd, fmt.Errorf("decision %x: %w", id, err)
	}
	d, ord, err := s.readDecision(g, id)
	if err != nil {
		return DecisionEffect{}, NoOrd, fmt.Errorf("decision %x: %w", id, err)
	}
	return d, ord, nil
}

func (s *Store) readDecision(g *Group, id DecisionID) (DecisionEffect, Ord, error) {
	value, err := s.db.get(appendFrameKey(nil, g.id, id.Frame()))
	if err != nil {
		return DecisionEffect{}, NoOrd, err
	}
	h, records, err := parseFrame(value)
	if err != nil {
		return DecisionEffect{}, NoOrd, err
	}
	if uint16(h.epoch) != id.epoch() {
		return DecisionEffect{}, NoOrd, ErrNotFound
	}
	left := id.index()
	for i := range int(h.count) {
		r, rest, err := h.next(records)
		if err != nil {
			return DecisionEffect{}, NoOrd, err
		}
		records = rest
		if r.kind != EffectDecision {
			continue
		}
		if left > 0 {
			left--
			continue
		}
		d, err := openDecision(g, &h, i, &r)
		if err == nil && d.ID != id {
			err = ErrNotFound
		}
		return d, r.ord, err
	}
	return DecisionEffect{}, NoOrd, ErrNotFound
}

func openDecision(g *Group, h *frameHead, index int, r *record) (DecisionEffect, error) {
	var e Effect
	var d effectDecoder
	r.begin(&e)
	if err := d.decodeClear(&e, r.clear); err != nil {
		return DecisionEffect{}, err
	}
	if key, ok := g.personKey(r.ord); ok && r.personal != nil {
		bind := frameBind(h, index, r.kind)
		plain, err := appendOpened(nil, &key, r.personal, bind[:])
		if err != nil {
			return DecisionEffect{}, err
		}
		if err := d.decodePersonal(&e, plain); err != nil {
			return DecisionEffect{}, err
		}
	}
	out := e.Decision
	out.Record = slices.Clone(out.Record)
	out.Personal = slices.Clone(out.Personal)
	out.Counts = slices.Clone(out.Counts)
	return out, nil
}

// personKey returns the key of a person who is still there.
func (g *Group) personKey(o Ord) (key [16]byte, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	row := g.mu.state.row(o)
	if row == nil {
		return key, false
	}
	return row.Key, true
}
