package storage

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// StoreStats is a snapshot of the store's counters.
type StoreStats struct {
	Bytes    StateBytes // resident, by part, all groups together
	People   int
	Visitors int
	Names    int // dictionary entries, all kinds

	Commits       uint64        // synced batches of this process
	Frames        uint64        // frames in them
	Late          uint64        // batches that passed Options.CommitMax
	Reloads       uint64        // groups rebuilt after a refused batch
	CommitMedian  time.Duration // of the last 1,024 batches
	CommitLongest time.Duration
	CommitCounts  [13]uint64 // of this process, by CommitBuckets
	CommitSum     time.Duration

	DurableLag uint64 // frames appended and not durable, all groups together
	FlushLag   int    // rows changed and not written, all groups together
	FlushRows  uint64 // rows written by this process

	DiskFree         uint64
	DiskFull         bool
	Corruptions      int64 // corrupt blocks Pebble has met
	BackgroundErrors int64
	WriteStalls      int64
	Epoch            uint32
	Journal          JournalStats
	Log              LogStats
	Dead             error // why the store takes no more appends; nil while it works
}

// Stats returns the counters. It locks each group for a moment.
func (s *Store) Stats() StoreStats {
	st := StoreStats{
		Commits: s.com.rounds.Load(), Frames: s.com.frames.Load(), Late: s.com.late.Load(),
		Reloads: s.com.reloads.Load(), FlushRows: s.flush.rows.Load(),
		DiskFree: s.guard.free.Load(), DiskFull: s.DiskFull(), Epoch: s.epoch,
		Corruptions:      s.db.faults.corrupt.Load(),
		BackgroundErrors: s.db.faults.errors.Load(),
		WriteStalls:      s.db.faults.stalls.Load(), Dead: s.dead.err(),
	}
	st.Journal = s.carry.stats()
	st.Log = s.logStats()
	st.CommitMedian, st.CommitLongest = s.com.times.summary()
	st.CommitCounts, st.CommitSum = s.com.times.histogram()
	for k := range s.dict.kinds {
		st.Names += len(s.NamesOf(DictKind(k)))
	}
	for _, g := range s.groups {
		g.mu.Lock()
		state := g.mu.state
		b := state.bytes()
		people, visitors := state.population()
		st.Journal.Charged += state.edit.charged
		st.Journal.Released += state.edit.released
		st.Journal.Taken += state.edit.taken
		st.FlushLag += state.dirtyCount()
		last := g.mu.last
		if g.mu.open.count > 0 {
			last = g.mu.open.number
		}
		g.mu.Unlock()
		st.Bytes.add(&b)
		st.People += people
		st.Visitors += visitors
		if d := g.durable.Load(); d < last {
			st.DurableLag += last - d
		}
	}
	return st
}

func (b *StateBytes) add(o *StateBytes) {
	b.Rows += o.Rows
	b.Pages += o.Pages
	b.Slab += o.Slab
	b.SlabUsed += o.SlabUsed
	b.Index += o.Index
	b.Identities += o.Identities
	b.Bitmaps += o.Bitmaps
	b.Population += o.Population
	b.Stats += o.Stats
	b.Dedup += o.Dedup
}

// Check compares everything with everything: in every group the rows with the
// index, the bitmaps and the counters; what a start would load from disk with
// what is resident; the chain of the frames; the event log with both.
// Appends wait meanwhile, group by group. It joins all faults.
// Cost: as a start, for each group while it is locked.
func (s *Store) Check() error {
	if s.closed.Load() {
		return ErrClosed
	}
	var errs []error
	for _, g := range s.groups {
		if err := s.checkGroup(g); err != nil {
			errs = append(errs, fmt.Errorf("group %d: %w", g.id, err))
		}
	}
	return errors.Join(append(errs, s.checkNames(), s.checkLog())...)
}

// checkLog compares the ends of the event log with those of the frames, and what
// was trimmed with both.
func (s *Store) checkLog() error {
	s.logs.turn.Lock()
	defer s.logs.turn.Unlock()
	for i, g := range s.groups {
		logged, last := s.logs.log.Logged(uint16(i)), g.durable.Load()
		trimmed, written := s.logs.trimmed[i], g.written.Load()
		if logged > last || trimmed > logged || trimmed > written {
			return fmt.Errorf("%w: group %d ends at frame %d, its rows at %d, the event log at %d, "+
				"trimmed below %d", ErrCorrupt, i, last, written, logged, trimmed)
		}
	}
	return nil
}

// checkGroup loads the group once more from disk and compares. The group stays
// locked from the moment its last frame is known until both sums are taken, and
// the committer is let through first so that the frame is durable.
func (s *Store) checkGroup(g *Group) error {
	for {
		g.mu.Lock()
		last := g.sealLocked()
		if g.durable.Load() >= last {
			break
		}
		g.mu.Unlock()
		if err := s.Wait(g.id, last, 0); err != nil {
			return fmt.Errorf("check: %w", err)
		}
	}
	defer g.mu.Unlock()
	if err := g.mu.state.check(); err != nil {
		return err
	}
	want, err := g.mu.state.checksum()
	if err != nil {
		return err
	}
	l, err := s.loadGroup(g.id)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if l.last != g.mu.last {
		return fmt.Errorf("%w: the log ends at frame %d, memory at %d", ErrCorrupt, l.last, g.mu.last)
	}
	if err := l.state.check(); err != nil {
		return fmt.Errorf("loaded: %w", err)
	}
	got, err := l.state.checksum()
	if err != nil {
		return fmt.Errorf("loaded: %w", err)
	}
	if got != want {
		return fmt.Errorf("%w: disk sums to %016x, memory to %016x", ErrCorrupt, got, want)
	}
	return nil
}

// checkNames compares the durable names with the resident ones.
func (s *Store) checkNames() error {
	defer s.HoldNames()()
	prefix := []byte{prefixName}
	return s.db.scan(prefix, after(prefix), func(key, value []byte) error {
		id := Name(binary.BigEndian.Uint32(key[2:]))
		name := s.NameOf(DictKind(key[1]), id)
		if !bytes.Equal(value, []byte(cmp.Or(name, nameGone))) {
			return fmt.Errorf("%w: name %d of dictionary %d", ErrCorrupt, id, key[1])
		}
		return nil
	})
}
