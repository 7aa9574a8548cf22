package storage

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"tact/storage/invariant"
)

const (
	// 64 rows seal in about 0.1 ms, which is how long a block holds the lock.
	flushBlockRows = 64
	// A batch of a pass holds a few MiB at most; a longer queue takes more passes.
	flushPassRows = 8192
	// A meta of this size may be written once in FlushEvery; a larger one less
	// often, so that statistics do not become the main load of the disk.
	flushMetaBytes = 256 << 10
	flushMetaMax   = 30 // times FlushEvery
	// When all that was dirty is written, so many passes are left out, or fewer once
	// frames of this size, over all groups, are behind the rows: whoever changes several
	// times meanwhile is written once, and a start after a crash has at most those frames
	// to apply, and what came while the rows were written.
	flushRest      = 9 // times FlushEvery
	flushRestBytes = 64 << 20
)

// The flusher writes rows behind: at every pass it takes the dirty rows of a
// group, in blocks so that the lock is never held long, and writes them with the
// group's own parts in ONE Pebble batch, without a sync of its own.
//
// Laws:
//  1. A row is encoded only while the open frame is empty, so its last frame is a
//     sealed one; and a batch is written only when the frames it reflects are
//     durable. A row on disk is never ahead of the log.
//  2. The group's parts (statistics, totals, idempotency keys, identities, next
//     ids) are encoded last, so no row on disk is ahead of them: what replay
//     skips for the group it may skip for the person too.
//  3. The watermark is the last frame sealed when the queue of dirty rows, as it
//     was then, began to be written; it moves when all of them are. Replay begins
//     behind it.
//  4. What of rows and parts of events lies on disk is what the memory of their group
//     takes it to be: a pass is written before a reload reads, or not at all.
//
// Only the flusher's goroutine, and Close after it, touch the fields, but for disk.
type flusher struct {
	disk   sync.Mutex // held while a pass is written, and while a group is reloaded
	passes atomic.Uint64
	rows   atomic.Uint64
	groups []flushGroup
	ords   []Ord
	seal   sealer
	key    []byte
	value  []byte
	hurry  atomic.Bool // somebody waits for the rows: nothing is left out
}

// flushGroup is the flusher's memory of one group.
type flushGroup struct {
	generation uint32 // of the group's state, when the cycle began
	watermark  uint64 // on disk
	cycle      uint64 // becomes the watermark when left is 0
	left       int    // rows of the cycle still to be written; 0: no cycle
	meta       uint64 // frame that the meta on disk reflects
	skip       int    // passes to be left out for the size of the meta
	rest       int    // passes to be left out since all is written
	day        uint16 // idempotency blocks of older days are gone
}

// flushLoop runs a pass over all groups every FlushEvery, but for those it leaves out,
// the first at once when the start has replayed frames.
func (s *Store) flushLoop() {
	s.flushReplayed()
	bound := int64(flushRestBytes / len(s.groups))
	s.repeat(s.o.FlushEvery, func() {
		hurry := s.flush.hurry.Swap(false)
		for i, g := range s.groups {
			f := &s.flush.groups[i]
			if f.skip > 0 {
				f.skip--
				continue
			}
			if f.rest > 0 && !hurry && g.unwritten.Load() < bound {
				f.rest--
				continue
			}
			if err := s.flushPass(g, flushPassRows); err != nil {
				s.db.faults.Errorf("flush of group %d: %v", g.id, err)
			}
		}
	})
}

// flushReplayed writes all rows that the start has made dirty again, without the
// pauses: a process that is killed once a second would replay them at every start, and
// more each time. Each start begins with another group.
func (s *Store) flushReplayed() {
	if s.opening.effects.Load() == 0 {
		return
	}
	n := len(s.groups)
	for i := range n {
		g := s.groups[(int(s.epoch)+i)%n]
		for more := true; more; more = s.flush.groups[g.id].left > 0 {
			select {
			case <-s.stop:
				return
			case <-s.dead.ch:
				return
			default:
			}
			if err := s.flushPass(g, flushPassRows); err != nil {
				s.db.faults.Errorf("flush of group %d: %v", g.id, err)
				break
			}
		}
	}
}

// repeat runs f until the store stops or dies, with a pause before each call.
func (s *Store) repeat(pause time.Duration, f func()) {
	defer s.loops.Done()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-s.dead.ch:
			return
		case <-timer.C:
		}
		f()
		timer.Reset(pause)
	}
}

// flushPass writes up to max dirty rows of a group and its own parts.
func (s *Store) flushPass(g *Group, max int) error {
	f := &s.flush.groups[g.id]
	b := s.db.db.NewBatch()
	defer b.Close()
	pass, err := s.encodePass(g, f, b, max)
	if err != nil || pass.empty {
		return err
	}
	if stale, err := s.awaitPass(g, &pass); stale || err != nil {
		return err
	}
	if s.o.hooks.rows != nil {
		s.o.hooks.rows(g)
	}
	if stale, err := s.writePass(g, b, &pass); stale || err != nil {
		return err
	}
	f.watermark, f.meta = pass.watermark, pass.frame
	g.written.Store(pass.watermark)
	f.skip, f.rest = min(pass.metaBytes/flushMetaBytes, flushMetaMax), 0
	if f.left == 0 {
		f.rest = flushRest
	}
	s.flush.passes.Add(1)
	s.flush.rows.Add(uint64(pass.rows))
	return nil
}

// writePass writes a pass, unless the group was reloaded after it was encoded. A reload
// that comes later finds it on disk.
func (s *Store) writePass(g *Group, b *pebble.Batch, pass *flushPassInfo) (stale bool, err error) {
	s.flush.disk.Lock()
	defer s.flush.disk.Unlock()
	if g.generation.Load() != pass.generation {
		return true, nil
	}
	if err := s.db.write(b); err != nil {
		return false, fmt.Errorf("write rows: %w", err)
	}
	return false, nil
}

// flushPassInfo is what one pass encoded.
type flushPassInfo struct {
	generation uint32
	frame      uint64 // last sealed frame: all that is encoded reflects at most it
	watermark  uint64
	rows       int
	metaBytes  int
	empty      bool
}

// encodePass fills b.
func (s *Store) encodePass(g *Group, f *flushGroup, b *pebble.Batch, max int) (
	pass flushPassInfo, err error,
) {
	for {
		g.mu.Lock()
		pass.frame = g.sealLocked()
		generation := g.generation.Load()
		if f.generation != generation {
			f.generation, f.left = generation, 0
			f.meta = 0
		}
		if pass.frame == f.meta && f.left == 0 {
			g.mu.Unlock()
			pass.empty = true
			return pass, nil
		}
		if f.left == 0 {
			f.cycle, f.left = pass.frame, g.mu.state.dirtyCount()
			g.unwritten.Store(0)
		}
		pass.generation = generation
		s.flush.ords = g.mu.state.takeDirty(s.flush.ords[:0],
			min(flushBlockRows, max-pass.rows, f.left))
		for _, o := range s.flush.ords {
			if err = s.encodeRow(g, b, o); err != nil {
				break
			}
		}
		pass.rows += len(s.flush.ords)
		f.left -= len(s.flush.ords)
		last := err != nil || f.left == 0 || pass.rows >= max
		if last && err == nil {
			pass.watermark = f.watermark
			if f.left == 0 {
				pass.watermark = f.cycle
			}
			pass.metaBytes, err = s.encodeMeta(g, f, b, &pass)
		}
		g.mu.Unlock()
		if err != nil {
			// The marks of the taken rows are gone: without them the watermark
			// must never move again.
			err = fmt.Errorf("%w: rows cannot be written: %w", ErrFenced, err)
			s.die(err)
			return pass, err
		}
		if last {
			return pass, nil
		}
	}
}

// encodeRow puts the dirty parts of one person into b.
func (s *Store) encodeRow(g *Group, b *pebble.Batch, o Ord) error {
	st := g.mu.state
	row := st.rows.at(o)
	if row == nil {
		return nil
	}
	invariant.Check(row.LastFrame <= g.mu.last, "a row to be written is ahead of the sealed frames")
	for kind := range rowKinds {
		value, state, err := st.appendRow(s.flush.value[:0], o, kind, &s.flush.seal)
		if err != nil {
			return err
		}
		s.flush.value = value
		if state == rowPartKept {
			continue
		}
		s.flush.key = AppendKey(s.flush.key[:0], row.Slot, row.Workspace, row.Person, kind)
		if state == rowPartGone {
			err = b.Delete(s.flush.key, nil)
		} else {
			err = b.Set(s.flush.key, value, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// encodeMeta puts the group's own parts into b. The group's record is
//
//	format u8 | watermark u64 | state's meta | CRC32C u32
func (s *Store) encodeMeta(g *Group, f *flushGroup, b *pebble.Batch, pass *flushPassInfo) (
	int, error,
) {
	st := g.mu.state
	s.flush.value = appendGroupRecord(s.flush.value[:0], pass.watermark)
	s.flush.value = st.appendMeta(s.flush.value, pass.frame)
	s.flush.value = sealRecord(s.flush.value)
	s.flush.key = appendGroupKey(s.flush.key[:0], g.id)
	size := len(s.flush.value)
	err := b.Set(s.flush.key, s.flush.value, nil)
	for _, c := range st.takeClaims() {
		s.flush.key = appendIdentityKey(s.flush.key[:0], c.slot, c.ws, c.hash)
		if c.target.Person == 0 {
			err = errors.Join(err, b.Delete(s.flush.key, nil))
			continue
		}
		s.flush.value = appendIdentityRow(s.flush.value[:0], c.target)
		err = errors.Join(err, b.Set(s.flush.key, s.flush.value, nil))
	}
	for _, block := range st.takeDedup() {
		// A pass has a frame of its own, which makes the key its own.
		s.flush.key = appendDedupKey(s.flush.key[:0], g.id, block.day, uint32(pass.frame))
		err = errors.Join(err, b.Set(s.flush.key, block.value, nil))
	}
	err = errors.Join(err, s.encodeMembers(g, b))
	if since := dedupSince(st.highWater()); since > f.day {
		from := appendDedupKey(nil, g.id, 0, 0)
		to := appendDedupKey(nil, g.id, since, 0)
		err = errors.Join(err, b.DeleteRange(from, to, nil))
		f.day = since
	}
	return size, err
}

// awaitPass waits until the frames of a pass are durable. The pass is stale when
// the group was reloaded meanwhile: its dirty rows were marked anew then.
// Otherwise it must be written, however long that takes: its marks are taken.
func (s *Store) awaitPass(g *Group, pass *flushPassInfo) (stale bool, err error) {
	for {
		err := s.Wait(g.id, pass.frame, s.o.CommitMax)
		switch {
		case g.generation.Load() != pass.generation:
			return true, nil
		case err == nil:
			return false, nil
		case s.dead.err() != nil:
			return true, s.dead.err()
		case errors.Is(err, ErrClosed):
			return true, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// flushAll writes everything that is dirty; the loops have ended.
func (s *Store) flushAll() error {
	var errs []error
	for i, g := range s.groups {
		f := &s.flush.groups[i]
		for range maxOrds / flushPassRows {
			if err := s.flushPass(g, flushPassRows); err != nil {
				errs = append(errs, err)
				break
			}
			if f.left == 0 && g.settled(f.meta) {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// settled reports whether nothing is dirty behind frame.
func (g *Group) settled(frame uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.open.count == 0 && g.mu.last == frame && g.mu.state.dirtyCount() == 0
}
