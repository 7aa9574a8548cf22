package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

const groupFormat = 1

// appendGroupRecord begins a group's record: format u8 | watermark u64.
func appendGroupRecord(b []byte, watermark uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(b, groupFormat), watermark)
}

// sealRecord ends a stored record with its checksum.
func sealRecord(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, checkSum(b))
}

func parseGroupRecord(b []byte) (watermark uint64, meta []byte, err error) {
	body, err := checkedValue(b, groupFormat)
	if err == nil && len(body) < 9 {
		err = ErrCorrupt
	}
	if err != nil {
		return 0, nil, fmt.Errorf("group record: %w", err)
	}
	return binary.LittleEndian.Uint64(body[1:]), body[9:], nil
}

// loaded is a group as brought back from disk.
type loaded struct {
	state     *state
	watermark uint64 // rows reflect every frame up to it
	meta      uint64 // frame the group's record reflects
	last      uint64 // last frame
	hash      uint64 // of the last frame
}

// loadRoom is what loading a group needs beside its state. Whoever loads one group
// after the other has to grow it once.
type loadRoom struct {
	rows   rowLoad
	claims []claim
	dedup  dedupLoad
}

// loadGroup builds a group's state: its record, its rows, its identities, its
// idempotency keys, then the frames behind the watermark.
func (s *Store) loadGroup(g GroupID) (loaded, error) { return s.loadGroupIn(new(loadRoom), g) }

func (s *Store) loadGroupIn(room *loadRoom, g GroupID) (loaded, error) {
	snapshot := s.db.db.NewSnapshot()
	defer snapshot.Close()
	from := loader{view{snapshot}, s.man.groups, &s.opening, room}
	l := loaded{state: newState(g, stateOptions{})}
	value, err := from.get(appendGroupKey(nil, g))
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return l, err
	default:
		var meta []byte
		if l.watermark, meta, err = parseGroupRecord(value); err != nil {
			return l, err
		}
		if err := l.state.loadMeta(meta); err != nil {
			return l, err
		}
		l.meta = l.state.metaFrame
	}
	for _, load := range []func(GroupID, *state) error{
		from.loadRows, from.loadIdentities, from.loadDedups, from.loadMembers,
	} {
		if err := load(g, l.state); err != nil {
			return l, err
		}
	}
	if err := from.replay(g, &l); err != nil {
		return l, err
	}
	if l.last < l.meta || l.last < l.watermark {
		return l, fmt.Errorf("%w: rows are ahead of the last frame %d", ErrCorrupt, l.last)
	}
	return l, nil
}

// loader reads one group from one snapshot.
type loader struct {
	view
	groups  int
	opening *opening
	room    *loadRoom
}

// slotRange returns the slots of a group: lo and the first one behind.
func (in loader) slotRange(g GroupID) (lo, hi int) {
	per := Slots / in.groups
	return int(g) * per, (int(g) + 1) * per
}

// loadRows reads the rows and, in step, the keys of their people.
func (in loader) loadRows(g GroupID, st *state) error {
	lo, hi := in.slotRange(g)
	lower := binary.BigEndian.AppendUint16(nil, uint16(lo))
	upper := binary.BigEndian.AppendUint16(nil, uint16(hi))
	keys, err := in.from.NewIter(&pebble.IterOptions{
		LowerBound: append([]byte{prefixPersonKey}, lower...),
		UpperBound: append([]byte{prefixPersonKey}, upper...),
	})
	if err != nil {
		return readFault(err)
	}
	defer keys.Close()
	keys.First()
	st.beginRows(&in.room.rows)
	defer st.endRows()
	var parts int64
	defer func() { in.opening.parts.Add(parts) }()
	return in.scan(lower, upper, func(key, value []byte) error {
		k, ok := parseRowKey(key)
		if !ok {
			return fmt.Errorf("%w: row key %x", ErrCorrupt, key)
		}
		for keys.Valid() && bytes.Compare(keys.Key()[1:], key[:14]) < 0 {
			keys.Next()
		}
		var person [16]byte
		if keys.Valid() && bytes.Equal(keys.Key()[1:], key[:14]) {
			sealed, err := keys.ValueAndErr()
			if err != nil {
				return readFault(err)
			}
			if person, err = parsePersonKey(sealed); err != nil {
				return err
			}
		} else if err := keys.Error(); err != nil {
			return readFault(err)
		} else {
			return fmt.Errorf("%w: person %d of slot %d has no key", ErrCorrupt, k.person, k.slot)
		}
		if err := st.loadRow(k, value, person); err != nil {
			return fmt.Errorf("row %x: %w", key, err)
		}
		parts++
		return nil
	})
}

func (in loader) loadIdentities(g GroupID, st *state) error {
	lo, hi := in.slotRange(g)
	lower := binary.BigEndian.AppendUint16(nil, uint16(identitySlots|lo))
	upper := binary.BigEndian.AppendUint16(nil, uint16(identitySlots+hi))
	claims := in.room.claims[:0]
	err := in.scan(lower, upper, func(key, value []byte) error {
		if len(key) != 22 {
			return fmt.Errorf("%w: identity key %x", ErrCorrupt, key)
		}
		slot := Slot(binary.BigEndian.Uint16(key) &^ identitySlots)
		ws := WorkspaceID(binary.BigEndian.Uint32(key[2:]))
		c, err := parseIdentity(slot, ws, [16]byte(key[6:]), value)
		claims = append(claims, c)
		return err
	})
	in.room.claims = claims
	if err == nil {
		st.identities.enter(claims)
	}
	return err
}

func (in loader) loadDedups(g GroupID, st *state) error {
	prefix := appendDedupKey(nil, g, 0, 0)[:3]
	l := &in.room.dedup
	l.begin(st)
	st.dedup.expire(uint16(st.highWater() / dayMsec))
	err := in.scan(prefix, after(prefix), func(_, value []byte) error { return l.add(value) })
	if err != nil {
		return err
	}
	return l.finish()
}

// replayer applies the frames of one group to its state.
type replayer struct {
	loader
	state   *state
	decoder effectDecoder
	effect  Effect
	plain   []byte
}

// replay applies the frames behind the watermark and verifies their chain.
func (in loader) replay(g GroupID, l *loaded) error {
	r := replayer{loader: in, state: l.state}
	first := true
	lower := appendFrameKey(nil, g, l.watermark)
	return in.scan(lower, after(lower[:3]), func(key, value []byte) error {
		number := binary.BigEndian.Uint64(key[3:])
		h, records, err := parseFrame(value)
		switch {
		case err != nil:
		case h.number != number || h.group != g:
			err = fmt.Errorf("%w: it is frame %d of group %d", ErrCorrupt, h.number, h.group)
		case (!first || l.watermark == 0) && h.prev != l.hash:
			err = fmt.Errorf("%w: the frame before it is missing or another", ErrCorrupt)
		case first && l.watermark != 0 && number != l.watermark:
			err = fmt.Errorf("%w: frame %d is missing", ErrCorrupt, l.watermark)
		case number > l.watermark:
			in.opening.frames.Add(1)
			in.opening.effects.Add(int64(h.count))
			in.opening.bytes.Add(int64(len(value)))
			err = r.frame(&h, records)
		}
		if err != nil {
			return fmt.Errorf("frame %d: %w", number, err)
		}
		l.last, l.hash, first = number, frameHash(value), false
		return nil
	})
}

func (p *replayer) frame(h *frameHead, records []byte) error {
	for i := range int(h.count) {
		r, rest, err := h.next(records)
		if err != nil {
			return err
		}
		records = rest
		if err := p.record(h, i, &r); err != nil {
			return fmt.Errorf("effect %d: %w", i, err)
		}
	}
	if len(records) != 0 {
		return fmt.Errorf("%w: %d bytes behind the last effect", ErrCorrupt, len(records))
	}
	return nil
}

// record decodes one effect and applies it. A personal part is opened only when
// the person's row does not reflect it already.
func (p *replayer) record(h *frameHead, index int, r *record) error {
	r.begin(&p.effect)
	if err := p.decoder.decodeClear(&p.effect, r.clear); err != nil {
		return err
	}
	row := p.state.rows.at(r.ord)
	// A person below the next ordinal without a row was forgotten in a later frame.
	held := row == nil && r.kind != EffectCreate && r.ord < p.state.nextOrd ||
		row != nil && (row.Flags&RowGone != 0 ||
			row.Flags&rowLoaded != 0 && row.LastFrame >= h.number)
	if r.personal != nil && !held {
		key, err := p.key(r, row)
		if errors.Is(err, errPersonGone) {
			return p.state.leaveOut(h.number, &p.effect)
		}
		if err != nil {
			return err
		}
		bind := frameBind(h, index, r.kind)
		if p.plain, err = appendOpened(p.plain[:0], &key, r.personal, bind[:]); err != nil {
			return err
		}
		if err := p.decoder.decodePersonal(&p.effect, p.plain); err != nil {
			return err
		}
	}
	if err := p.state.apply(h.number, &p.effect); err != nil {
		return fmt.Errorf("%w: replay: %w", ErrCorrupt, err)
	}
	if p.effect.DedupKey != 0 && h.number > p.state.metaFrame {
		p.state.dedup.replayed(p.effect.Time)
	}
	return nil
}

// key returns the key that opens the personal part of r. A create's key comes
// from the table of keys, and goes into its effect.
func (p *replayer) key(r *record, row *Row) ([16]byte, error) {
	if r.kind != EffectCreate {
		if row == nil {
			return [16]byte{}, fmt.Errorf("%w: no person has ordinal %d", ErrCorrupt, r.ord)
		}
		return row.Key, nil
	}
	c := &p.effect.Create
	value, err := p.get(appendPersonKeyKey(nil, c.Slot, c.Workspace, c.Person))
	if err != nil {
		return [16]byte{}, fmt.Errorf("%w: key of person %d: %w", ErrCorrupt, c.Person, err)
	}
	c.Key, err = parsePersonKey(value)
	return c.Key, err
}
