package storage

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"tact/storage/eventlog"
)

// LogQuery says which effects ScanLog yields. The zero value: all but decisions.
type LogQuery struct {
	Decisions   bool         // the decisions in place of the other effects
	From, Until UnixMsec     // of Effect.Time, half-open; 0 = no bound
	Types       []Name       // of events, and of outcomes by the name of their event; none = any
	Kinds       []EffectKind // none = any
	Person      *PersonRef   // only of this person; Person.Person is not looked at
	Personal    bool         // read the personal parts too

	among eventlog.Ords // only of these people; nil: anybody's

	behind, upTo []uint64 // by group: frames behind the one, up to the other; nil: all
}

// wants reports whether a frame is one that is asked for.
func (q *LogQuery) wants(g GroupID, frame uint64) bool {
	return q.upTo == nil || frame > q.behind[g] && frame <= q.upTo[g]
}

// LogEntry is one effect that ScanLog yields. It is valid during the call.
type LogEntry struct {
	Group  GroupID
	Frame  uint64
	Epoch  uint32 // of the store, when it was written
	Effect Effect
	// Lost: the personal part cannot be read: its person is gone. Its fields are
	// empty, the type of an event may be.
	Lost bool
}

// ScanLog calls f for every durable effect that q asks for, as far back as the
// event log is kept; those of one group in the order of their frames. It ends at
// the first error of f. Without Personal the personal fields are empty. Cost: some
// 0.2 µs an effect looked at, 1 µs with its personal part; blocks of other times,
// types and people are not read.
func (s *Store) ScanLog(q *LogQuery, f func(*LogEntry) error) error {
	if s.closed.Load() {
		return ErrClosed
	}
	in := eventlog.Query{From: int64(q.From), Until: int64(q.Until), Personal: q.Personal}
	if q.Decisions {
		in.Stream = eventlog.Decisions
	}
	for _, t := range q.Types {
		in.Types = append(in.Types, uint32(t))
	}
	slices.Sort(in.Types)
	for _, k := range q.Kinds {
		in.Kinds |= 1 << k
	}
	if q.Person != nil {
		in.Person, in.Group, in.Ord = true, uint16(q.Person.Group), uint32(q.Person.Ord)
	}
	in.Among, in.Behind = q.among, q.behind
	w := logWalk{s: s, q: q, in: &in, f: f, codec: logCodec{store: s}}
	s.logs.view.RLock()
	w.logged = make([]uint64, len(s.groups))
	for i := range w.logged {
		w.logged[i] = s.logs.log.Logged(uint16(i))
	}
	snapshot := s.db.db.NewSnapshot()
	s.logs.view.RUnlock()
	defer snapshot.Close()
	if err := s.logs.log.Scan(&in, s.logKeyOf, w.record); err != nil {
		return logFault(err)
	}
	for i, g := range s.groups {
		if q.Person != nil && q.Person.Group != GroupID(i) ||
			q.among != nil && len(q.among[uint16(i)]) == 0 {
			continue
		}
		if err := w.frames(view{snapshot}, g); err != nil {
			return err
		}
	}
	return nil
}

// logWalk is one ScanLog.
type logWalk struct {
	s      *Store
	q      *LogQuery
	in     *eventlog.Query
	f      func(*LogEntry) error
	codec  logCodec
	logged []uint64 // by group: frames up to it come from the log, the others from Pebble
	entry  LogEntry
	plain  []byte
}

// record yields a record of the log.
func (w *logWalk) record(r *eventlog.Record) error {
	if r.Frame > w.logged[r.Group] || !w.q.wants(GroupID(r.Group), r.Frame) {
		return nil
	}
	if w.s.closed.Load() {
		return ErrClosed
	}
	w.entry.Group, w.entry.Frame, w.entry.Lost = GroupID(r.Group), r.Frame, r.Lost
	w.entry.Epoch = r.Epoch
	if err := w.codec.effect(r, &w.entry.Effect); err != nil {
		return fmt.Errorf("event log: group %d frame %d: %w", r.Group, r.Frame, err)
	}
	return w.f(&w.entry)
}

// frames yields what lies in no block yet.
func (w *logWalk) frames(db view, g *Group) error {
	from := w.logged[g.id]
	if w.q.behind != nil {
		from = max(from, w.q.behind[g.id])
	}
	lower := appendFrameKey(nil, g.id, from+1)
	return db.scan(lower, after(lower[:3]), func(_, value []byte) error {
		h, records, err := parseFrame(value)
		if err == nil && !w.q.wants(g.id, h.number) {
			return nil
		}
		if w.s.closed.Load() { // since f was last called
			return ErrClosed
		}
		for i := 0; err == nil && i < int(h.count); i++ {
			var r record
			if r, records, err = h.next(records); err == nil {
				err = w.frameRecord(g, &h, i, &r)
			}
		}
		return err
	})
}

func (w *logWalk) frameRecord(g *Group, h *frameHead, i int, r *record) error {
	q, e := w.q, &w.entry
	if (r.kind == EffectDecision) != q.Decisions || r.time < q.From ||
		q.Until != 0 && r.time >= q.Until || q.Person != nil && r.ord != q.Person.Ord ||
		len(q.Kinds) > 0 && !slices.Contains(q.Kinds, r.kind) {
		return nil
	}
	if q.among != nil {
		if _, ok := slices.BinarySearch(q.among[uint16(g.id)], uint32(r.ord)); !ok {
			return nil
		}
	}
	e.Group, e.Frame, e.Epoch, e.Lost = g.id, h.number, h.epoch, false
	r.begin(&e.Effect)
	if err := w.codec.decoder.decodeClear(&e.Effect, r.clear); err != nil {
		return err
	}
	// The type of an event lies in its personal part.
	if r.personal != nil && (q.Personal || r.kind == EffectEvent) {
		if key, ok := g.personKey(r.ord); !ok {
			e.Lost = true
		} else if err := w.open(h, i, r, &key); err != nil {
			return err
		}
	}
	if len(q.Types) > 0 && !slices.Contains(q.Types, logType(&e.Effect)) {
		return nil
	}
	return w.f(e)
}

func (w *logWalk) open(h *frameHead, i int, r *record, key *[16]byte) (err error) {
	bind := frameBind(h, i, r.kind)
	if w.plain, err = appendOpened(w.plain[:0], key, r.personal, bind[:]); err != nil {
		return err
	}
	if err := w.codec.decoder.decodePersonal(&w.entry.Effect, w.plain); err != nil {
		return err
	}
	if v := &w.entry.Effect.Event; !w.q.Personal {
		v.EventID, v.Indexed, v.Raw = nil, nil, nil
	}
	return nil
}

// logType is what the event log calls an effect's type.
func logType(e *Effect) Name {
	switch e.Kind {
	case EffectEvent:
		return e.Event.Event
	case EffectOutcome:
		return e.Outcome.Event
	}
	return 0
}

// logKeyOf gives the event log the keys of people who are there.
func (s *Store) logKeyOf(group uint16, ord uint32) ([16]byte, bool) {
	return s.groups[group].personKey(Ord(ord))
}

// inLog reports whether the event log has a frame of the group.
func (s *Store) inLog(g *Group, number uint64) (bool, error) {
	if number > s.logs.log.Logged(uint16(g.id)) {
		return false, nil
	}
	nothing := func(*eventlog.Record) error { return nil }
	found, err := s.logs.log.Find(eventlog.Effects, uint16(g.id), number, nothing, noLogKeys)
	return found, logFault(err)
}

func noLogKeys(uint16, uint32) (key [16]byte, ok bool) { return key, false }

// errLogFound ends a search.
var errLogFound = errors.New("found")

// loggedDecision reads a decision whose frame was trimmed.
func (s *Store) loggedDecision(g *Group, id DecisionID, frame uint64) (
	DecisionEffect, Ord, error,
) {
	var out DecisionEffect
	ord := NoOrd
	codec := logCodec{store: s}
	_, err := s.logs.log.Find(eventlog.Decisions, uint16(g.id), frame,
		func(r *eventlog.Record) error {
			var e Effect
			if err := codec.effect(r, &e); err != nil || e.Decision.ID != id {
				return err
			}
			out, ord = e.Decision.keep(), e.Ord
			return errLogFound
		}, s.logKeyOf)
	switch {
	case errors.Is(err, errLogFound):
		return out, ord, nil
	case err != nil:
		return out, ord, logFault(err)
	}
	return out, ord, ErrNotFound
}

// LogStreamStats are the figures of one stream of the event log.
type LogStreamStats struct {
	Segments, Blocks    int
	Bytes, Records      uint64
	Oldest, Newest      UnixMsec // 0: nothing is there
	GoneDays, GoneBytes uint64   // files that have left, for their age and for the log's bytes
	GoneUntil           UnixMsec // of the newest record that has left; 0: none has
}

// LogStats are the figures of the event log.
type LogStats struct {
	Effects, Decisions LogStreamStats
	Pending            int64  // bytes of frames in no block yet, about
	Passes             uint64 // of this process, as are those below
	Frames, Records    uint64 // moved
	FrameBytes         uint64 // of moved frames
	BusySeconds        float64
}

func (s *Store) logStats() (st LogStats) {
	l := &s.logs
	for i, from := range l.log.Stats() {
		to := &st.Effects
		if eventlog.Stream(i) == eventlog.Decisions {
			to = &st.Decisions
		}
		*to = LogStreamStats{
			from.Segments, from.Blocks, from.Bytes, from.Records, UnixMsec(from.From),
			UnixMsec(from.Until), from.GoneDays, from.GoneSize, UnixMsec(from.GoneUntil),
		}
	}
	for i := range l.pending {
		st.Pending += l.pending[i].Load()
	}
	st.Passes, st.Frames, st.Records = l.passes.Load(), l.frames.Load(), l.records.Load()
	st.FrameBytes = l.bytes.Load()
	st.BusySeconds = math.Round(float64(l.busy.Load())/1e6) / 1e3
	return st
}

// VerifyLog reads every byte of the event log. Cost: reading it.
func (s *Store) VerifyLog() error {
	if s.closed.Load() {
		return ErrClosed
	}
	return logFault(s.logs.log.Verify())
}

// FlushLog moves all durable frames into the event log at once, and trims what the
// rows hold.
func (s *Store) FlushLog() error {
	l := &s.logs
	l.turn.Lock()
	defer l.turn.Unlock()
	err := s.logPass(s.groups, false)
	return cmp.Or(err, s.trimFrames())
}
