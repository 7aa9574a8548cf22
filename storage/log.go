package storage

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tact/storage/eventlog"
)

const (
	folderLog = "log"
	// A block of this many bytes of frames compresses as well as a larger one; all
	// groups together keep some 32 MiB of frames that are in no block yet.
	logBlockBytes = 2 << 20
	// Frames that are older than this go into a block however few they are.
	logBlockAge = time.Hour
	logDay      = 24 * time.Hour
	// logKeepEffects and logKeepDecisions are how long the streams are kept.
	logKeepEffects   = 90 * logDay
	logKeepDecisions = 30 * logDay
	// A pass takes a group in bites, so that its state is durable now and then.
	logBite = 64 << 20
	// logKeyChunk people's keys are read in one lock section.
	logKeyChunk = 256
)

// The logger moves durable frames into the event log, and trims them.
//
// Laws:
//  1. A frame leaves Pebble only when the rows reflect it (its number is below the
//     watermark) and it lies in a block that is synced and named by a log state
//     written before the trim, in the same or an earlier batch. The frame of the
//     watermark itself stays: replay begins with it.
//  2. The log state and the trim are written in Pebble's order, so whatever a crash
//     leaves of the two, every frame is in Pebble or named by the state.
//  3. A file leaves after the state that no longer names it is synced.
//
// Only the logger's goroutine, and Check with turn held, touch the fields below
// turn.
type logger struct {
	log     *eventlog.Log
	pending []atomic.Int64 // by group: bytes of frames in no block
	since   []atomic.Int64 // unix ms when the oldest of them was committed
	passes  atomic.Uint64
	frames  atomic.Uint64 // moved
	records atomic.Uint64
	bytes   atomic.Uint64 // of moved frames
	busy    atomic.Int64  // nanoseconds spent
	held    atomic.Int64  // bytes of frames since the last copy that was kept
	kept    keptAll

	view sync.RWMutex // held shared while a scan takes its snapshot, else by a trim

	turn     sync.Mutex
	hold     frameHold
	trimmed  []uint64 // by group: frames below are gone, as far as this process knows
	builders [eventlog.Streams]eventlog.Builder
	codec    logCodec
	keys     []personKeyAt
	work     logEffect
	found    []record
	retire   time.Time // when the next look at what is too old is due
}

// personKeyAt is the key of the person of one record.
type personKeyAt struct {
	key [16]byte
	ok  bool
}

// errLogBite ends the walk over a group's frames for this pass.
var errLogBite = errors.New("enough frames for one pass")

// openLog opens the event log as Pebble says it is. The groups are loaded.
func (s *Store) openLog() error {
	n := len(s.groups)
	l := &s.logs
	l.pending, l.since = make([]atomic.Int64, n), make([]atomic.Int64, n)
	l.trimmed = make([]uint64, n)
	l.codec.store = s
	l.kept.open(s.groups, cmp.Or(s.o.hooks.keptFrames, keptFramesMost))
	value, err := s.db.get([]byte{prefixNode, nodeLog})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	id := s.man.id
	l.log, err = eventlog.Open(s.o.FS, s.o.FS.PathJoin(s.dir, folderLog), eventlog.Options{
		StoreID: id, Key: s.logKey(), Groups: n, SegmentBytes: s.o.LogSegment, Random: s.o.Rand,
		SegmentAge: [eventlog.Streams]int64{logSpan(s.o.KeepEffects), logSpan(s.o.KeepDecisions)},
	}, value)
	if err != nil {
		return logFault(err)
	}
	if err := s.loadHold(); err != nil {
		return err
	}
	now := int64(s.o.Now())
	for i, g := range s.groups {
		logged, last := l.log.Logged(uint16(i)), g.durable.Load()
		if logged > last {
			return fmt.Errorf("%w: the event log has frame %d of group %d, which ends at %d",
				ErrCorrupt, logged, i, last)
		}
		if logged == last {
			continue
		}
		lower, upper := appendFrameKey(nil, g.id, logged+1), appendFrameKey(nil, g.id, last+1)
		size, err := s.db.db.EstimateDiskUsage(lower, upper)
		if err != nil {
			return readFault(err)
		}
		l.pending[i].Store(int64(max(size, 1)))
		l.since[i].Store(now)
	}
	return nil
}

// logKey is the key of the tables of the event log's blocks.
func (s *Store) logKey() [16]byte {
	return s.IdentityHash(0, 0, []byte("tact event log"))
}

// logFault gives an error of the event log the class it has here.
func logFault(err error) error {
	switch {
	case errors.Is(err, eventlog.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case errors.Is(err, eventlog.ErrNewerFormat):
		return fmt.Errorf("%w: %w", ErrNewerFormat, err)
	}
	return err
}

// logCommitted tells the logger of a frame that is durable now.
func (s *Store) logCommitted(g GroupID, bytes int) {
	s.logs.held.Add(int64(bytes))
	if s.logs.pending[g].Add(int64(bytes)) == int64(bytes) {
		s.logs.since[g].Store(int64(s.o.Now()))
	}
}

// logLoop runs a pass whenever enough frames wait.
func (s *Store) logLoop() {
	s.repeat(s.o.LogEvery, func() {
		start := time.Now()
		if err := s.logTick(start); err != nil {
			s.db.faults.Errorf("event log: %v", err)
		}
		s.logs.busy.Add(int64(time.Since(start)))
	})
}

// logTick moves what is due, trims, and lets go of what is too old.
func (s *Store) logTick(now time.Time) error {
	l := &s.logs
	l.turn.Lock()
	defer l.turn.Unlock()
	wall := int64(s.o.Now())
	var due []*Group
	for i, g := range s.groups {
		waiting := l.pending[i].Load()
		if waiting >= s.o.LogBlock ||
			waiting > 0 && wall-l.since[i].Load() >= s.o.LogAge.Milliseconds() {
			due = append(due, g)
		}
	}
	retire := !now.Before(l.retire)
	var err error
	if len(due) > 0 || retire {
		err = s.logPass(due, retire)
	}
	if retire && err == nil {
		l.retire = now.Add(time.Minute)
	}
	return errors.Join(err, s.trimFrames())
}

// logPass writes blocks of the frames of groups, and what is kept of the log.
func (s *Store) logPass(groups []*Group, retire bool) error {
	p := s.logs.log.Begin()
	defer func() {
		for _, g := range groups {
			s.logs.kept.settle(g.id, s.logs.log.Logged(uint16(g.id)))
		}
	}()
	settled := make([]int64, len(groups))
	moved := 0
	for i, g := range groups {
		n, bytes, err := s.logGroup(p, g)
		if err != nil {
			return errors.Join(fmt.Errorf("group %d: %w", g.id, err), p.Abort())
		}
		settled[i] = bytes
		moved += n
	}
	gone, held := 0, 0
	if retire {
		gone, held = p.Retire(s.logKeep())
	}
	if moved == 0 && gone == 0 {
		return nil
	}
	if err := p.Sync(); err != nil {
		s.die(err) // a sync that failed is never tried again
		return errors.Join(err, p.Abort())
	}
	b := s.db.db.NewBatch()
	defer b.Close()
	err := b.Set([]byte{prefixNode, nodeLog}, p.State(), nil)
	if err == nil {
		if gone > 0 {
			err = s.db.commitSynced(b)
		} else {
			err = s.db.write(b)
		}
	}
	if err != nil {
		// It may be there or not: only a new start knows what the log holds.
		err = fmt.Errorf("write the log's state: %w", err)
		s.die(err)
		return errors.Join(err, p.Abort())
	}
	if held > 0 {
		s.o.Logger.Info("event log: oldest segments are gone", "segments", held)
	}
	s.logs.passes.Add(1)
	for i, g := range groups {
		if s.logs.pending[g.id].Add(-settled[i]) > 0 {
			s.logs.since[g.id].Store(int64(s.o.Now()))
		}
	}
	return p.Commit()
}

// logSpan is how long a file of the event log is written to, in ms, where what is in it
// is kept so long: a tenth of it.
func logSpan(keep time.Duration) int64 { return max(0, keep.Milliseconds()/10) }

// logKeep says how much of each stream is kept now: the bytes are shared out as
// the streams are long.
func (s *Store) logKeep() (keep [eventlog.Streams]eventlog.Keep) {
	days := [eventlog.Streams]time.Duration{s.o.KeepEffects, s.o.KeepDecisions}
	now := max(int64(s.o.Now()), int64(s.HighWater()))
	stats := s.logs.log.Stats()
	var total uint64
	for i := range stats {
		total += stats[i].Bytes
	}
	quota := s.o.LogBytes
	if quota == 0 {
		if _, disk, ok := s.space(); ok {
			quota = int64(disk / 4)
		}
	}
	for i := range keep {
		if days[i] > 0 {
			keep[i].Since = now - days[i].Milliseconds()
		}
		if quota > 0 && total > uint64(quota) {
			share := float64(stats[i].Bytes) / float64(total)
			keep[i].Bytes = max(1, int64(float64(quota)*share))
		}
	}
	return keep
}

// logGroup adds blocks of a group's durable frames, some logBite bytes of them, to
// a pass. It returns how many frames it took and what they count in pending.
func (s *Store) logGroup(p *eventlog.Pass, g *Group) (frames int, settled int64, err error) {
	l := &s.logs
	settled = l.pending[g.id].Load() // before durable: it never counts frames behind that
	last := g.durable.Load()
	from := l.log.Logged(uint16(g.id)) + 1
	if from > last {
		return 0, settled, nil
	}
	for stream := range l.builders {
		l.builders[stream].Reset(uint16(g.id), eventlog.Stream(stream))
	}
	w := logMove{pass: p, group: g, upTo: from - 1}
	err = s.logFrames(&w, from, last)
	switch {
	case errors.Is(err, errLogBite):
		settled = min(settled, w.bytes)
	case err != nil:
		return 0, 0, err
	}
	for stream := range l.builders {
		if b := &l.builders[stream]; !b.Empty() {
			if err := p.Add(b); err != nil {
				return 0, 0, err
			}
		}
	}
	p.Logged(uint16(g.id), w.upTo)
	l.frames.Add(uint64(w.frames))
	l.bytes.Add(uint64(w.bytes))
	return w.frames, settled, nil
}

// logMove is how far a pass got with the frames of a group.
type logMove struct {
	pass   *eventlog.Pass
	group  *Group
	upTo   uint64 // the last frame that was taken
	frames int
	bytes  int64
}

// logFrames walks over the durable frames from..last of a group: those that are kept in
// memory are behind those that are not.
func (s *Store) logFrames(w *logMove, from, last uint64) error {
	kept := s.logs.kept.view(w.group.id, last)
	if from < kept.since {
		lower := appendFrameKey(nil, w.group.id, from)
		upper := appendFrameKey(nil, w.group.id, min(last+1, kept.since))
		err := s.db.scan(lower, upper, func(key, value []byte) error {
			h, records, err := parseFrame(value)
			if err != nil {
				return fmt.Errorf("frame %d: %w", binary.BigEndian.Uint64(key[3:]), err)
			}
			return s.logNext(w, &h, records, false)
		})
		if err != nil {
			return err
		}
	}
	for i := range kept.list {
		if k := &kept.list[i]; k.head.number >= from {
			if err := s.logNext(w, &k.head, kept.records(k), true); err != nil {
				return err
			}
		}
	}
	return nil
}

// logNext takes the next frame, unless the pass has enough.
func (s *Store) logNext(w *logMove, h *frameHead, records []byte, clear bool) error {
	if w.bytes >= cmp.Or(s.o.hooks.logBite, logBite) {
		return errLogBite
	}
	if err := s.logFrame(w, h, records, clear); err != nil {
		return fmt.Errorf("frame %d: %w", h.number, err)
	}
	w.upTo, w.frames, w.bytes = h.number, w.frames+1, w.bytes+int64(len(records))
	return nil
}

// logFrame adds one frame to the builders; full ones go into blocks first. clear: the
// records are as they lay in memory.
func (s *Store) logFrame(w *logMove, h *frameHead, records []byte, clear bool) error {
	l, p, g := &s.logs, w.pass, w.group
	if err := l.takeFrame(h, records); err != nil {
		return err
	}
	l.work.clear = clear
	if last := l.findKeys(g); last > g.durable.Load() && s.Wait(g.id, last, 0) != nil {
		return errLogBite // who went may come back: this frame has time
	}
	for stream := range l.builders {
		b := &l.builders[stream]
		if b.Full() || !b.Empty() && !b.Fits(int(h.count), len(records)) {
			if err := p.Add(b); err != nil {
				return err
			}
			b.Reset(uint16(g.id), eventlog.Stream(stream))
		}
		b.Frame(h.number, h.epoch)
	}
	decisions := 0
	for i := range l.found {
		if err := s.logRecord(p, h, i, &decisions); err != nil {
			return fmt.Errorf("effect %d: %w", i, err)
		}
	}
	l.records.Add(uint64(len(l.found)))
	return nil
}

// takeFrame parses the records of a frame.
func (l *logger) takeFrame(h *frameHead, records []byte) error {
	l.found = l.found[:0]
	for range int(h.count) {
		r, rest, err := h.next(records)
		if err != nil {
			return err
		}
		records = rest
		l.found = append(l.found, r)
	}
	if len(records) != 0 {
		return fmt.Errorf("%w: %d bytes behind the last effect", ErrCorrupt, len(records))
	}
	return nil
}

// findKeys reads the keys of the people that the frame tells of. Where one is gone it
// returns the last frame that anything was done in: only when that is durable is it
// sure that the person is gone, else a loss of power may bring the person back.
func (l *logger) findKeys(g *Group) (last uint64) {
	l.keys = l.keys[:0]
	for at := 0; at < len(l.found); {
		g.mu.Lock()
		for n := 0; n < logKeyChunk && at < len(l.found); at++ {
			var k personKeyAt
			if r := &l.found[at]; r.personal != nil {
				n++
				if row := g.mu.state.row(r.ord); row != nil {
					k.key, k.ok = row.Key, true
				} else {
					last = g.lastFrame()
				}
			}
			l.keys = append(l.keys, k)
		}
		g.mu.Unlock()
	}
	return last
}

// lastFrame is the last frame that anything was done in. The group is locked.
func (g *Group) lastFrame() uint64 {
	if f := g.mu.open; f.count > 0 {
		return f.number
	}
	return g.mu.open.number - 1
}

// logRecord adds one effect to its stream.
func (s *Store) logRecord(p *eventlog.Pass, h *frameHead, i int, decisions *int) error {
	l := &s.logs
	r, k := &l.found[i], &l.keys[i]
	w := &l.work
	*w = logEffect{plain: w.plain[:0], index: *decisions, clear: w.clear}
	if err := s.openRecord(h, i, r, k, w); err != nil {
		return err
	}
	stream := eventlog.Effects
	if r.kind == EffectDecision {
		stream = eventlog.Decisions
		*decisions++
	}
	var rec eventlog.Record
	l.codec.record(&rec, h, r, w)
	key := &k.key
	if !k.ok {
		key = nil
	}
	b := &l.builders[stream]
	err := b.Add(&rec, key)
	if errors.Is(err, eventlog.ErrFull) { // one lock section of many mebibytes
		if err = p.Add(b); err == nil {
			b.Reset(uint16(h.group), stream)
			b.Frame(h.number, h.epoch)
			err = b.Add(&rec, key)
		}
	}
	return err
}

// openRecord decodes one effect of a frame, as far as its person's key is there.
func (s *Store) openRecord(h *frameHead, i int, r *record, k *personKeyAt, w *logEffect) error {
	r.begin(&w.effect)
	d := &s.logs.codec.decoder
	if err := d.decodeClear(&w.effect, r.clear); err != nil {
		return err
	}
	if r.personal == nil {
		return nil
	}
	if w.lost = !k.ok; w.lost {
		return nil
	}
	if w.clear {
		plain, err := r.plain(&k.key)
		if err != nil {
			return err
		}
		w.plain = append(w.plain, plain...)
		return d.decodePersonal(&w.effect, w.plain)
	}
	bind := frameBind(h, i, r.kind)
	var err error
	if w.plain, err = appendOpened(w.plain, &k.key, r.personal, bind[:]); err != nil {
		return err
	}
	return d.decodePersonal(&w.effect, w.plain)
}

// trimFrames deletes the frames that rows and log hold.
func (s *Store) trimFrames() error {
	l := &s.logs
	if err := s.letGo(); err != nil {
		return err
	}
	b := s.db.db.NewBatch()
	defer b.Close()
	bounds := make([]uint64, len(s.groups))
	for i, g := range s.groups {
		bound := l.holdBound(i, min(l.log.Logged(uint16(i)), g.written.Load()))
		if bound <= l.trimmed[i] {
			continue
		}
		bounds[i] = bound
		from, to := appendFrameKey(nil, g.id, l.trimmed[i]), appendFrameKey(nil, g.id, bound)
		if err := b.DeleteRange(from, to, nil); err != nil {
			return fmt.Errorf("trim frames: %w", err)
		}
	}
	if b.Empty() {
		return nil
	}
	l.view.Lock()
	defer l.view.Unlock()
	if err := s.db.write(b); err != nil {
		return fmt.Errorf("trim frames: %w", err)
	}
	for i, bound := range bounds {
		l.trimmed[i] = max(l.trimmed[i], bound)
	}
	return nil
}
