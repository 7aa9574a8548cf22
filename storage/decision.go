package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ReadDecision returns a copy of a decision record and the person it was made
// for, NoOrd for nobody. It waits until the record's frame is durable. Personal
// is nil when the person's key is gone, and when only the journal brought the
// decision over the end of the process. ErrNotFound: no such decision, or it is
// older than Options.KeepDecisions. Cost: one read of Pebble and a walk over one
// frame, of a decision that was brought over by the journal up to two reads more;
// for a decision whose frame lies in the event log, the reading of a block, some
// milliseconds.
func (s *Store) ReadDecision(id DecisionID) (DecisionEffect, Ord, error) {
	g := s.Group(id.Group())
	if g == nil {
		return DecisionEffect{}, NoOrd, fmt.Errorf("%w: decision %x", ErrNotFound, id)
	}
	if s.closed.Load() {
		return DecisionEffect{}, NoOrd, ErrClosed
	}
	d, ord, err := s.findDecision(g, id)
	if err != nil {
		return DecisionEffect{}, NoOrd, fmt.Errorf("decision %x: %w", id, err)
	}
	return d, ord, nil
}

// findDecision looks where the decision was made, then where it has moved to.
func (s *Store) findDecision(g *Group, id DecisionID) (DecisionEffect, Ord, error) {
	g.mu.Lock()
	frame, moved := g.mu.moved[id]
	g.mu.Unlock()
	if !moved {
		frame = id.Frame()
	}
	if moved || id.epoch() == uint16(s.epoch) {
		if err := s.Wait(g.id, frame, 0); err != nil {
			return DecisionEffect{}, NoOrd, err
		}
	}
	d, ord, err := s.readDecision(g, id, frame)
	if moved || !errors.Is(err, ErrNotFound) {
		return d, ord, err
	}
	if frame, err = s.movedTo(id); err != nil {
		return DecisionEffect{}, NoOrd, err
	}
	return s.readDecision(g, id, frame)
}

const movedFormat = 1

// appendMoved appends format u8 | frame u64 | crc: the frame that holds a
// decision which was made in another one.
func appendMoved(b []byte, frame uint64) []byte {
	return sealRecord(binary.LittleEndian.AppendUint64(append(b, movedFormat), frame))
}

func parseMoved(b []byte) (frame uint64, err error) {
	body, err := checkedValue(b, movedFormat)
	if err == nil && len(body) != 9 {
		err = ErrCorrupt
	}
	if err != nil {
		return 0, fmt.Errorf("moved decision: %w", err)
	}
	return le64(body[1:]), nil
}

// movedTo returns the durable frame that a decision was moved to; ErrNotFound: it
// was not.
func (s *Store) movedTo(id DecisionID) (frame uint64, err error) {
	value, err := s.db.get(appendMovedKey(nil, id))
	if err != nil {
		return 0, err
	}
	return parseMoved(value)
}

func (s *Store) readDecision(
	g *Group, id DecisionID, frame uint64,
) (DecisionEffect, Ord, error) {
	value, err := s.db.get(appendFrameKey(nil, g.id, frame))
	if errors.Is(err, ErrNotFound) {
		return s.loggedDecision(g, id, frame)
	}
	if err != nil {
		return DecisionEffect{}, NoOrd, err
	}
	h, records, err := parseFrame(value)
	if err != nil {
		return DecisionEffect{}, NoOrd, err
	}
	for i := range int(h.count) {
		r, rest, err := h.next(records)
		if err != nil {
			return DecisionEffect{}, NoOrd, err
		}
		records = rest
		if r.kind == EffectDecision && decisionOf(&r) == id {
			d, err := openDecision(g, &h, i, &r)
			return d, r.ord, err
		}
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
	return e.Decision.keep(), nil
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
