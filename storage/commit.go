package storage

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// The committer makes frames durable: one goroutine a node takes the sealed and
// the open frames of all groups that have any, writes them as one batch, waits
// for its sync, and wakes those who wait. While one batch syncs, the next
// gathers: n concurrent calls of Wait need far fewer syncs than n.
//
// A batch has three outcomes. Synced: the frames are durable. Refused before it
// reached Pebble: nothing of it is there, so the groups drop what memory is
// ahead, by reloading from Pebble. Late (Options.CommitMax): all groups are
// fenced and all who wait are told ErrUnknown; when the sync ends well after
// all, the fence is lifted. An error from Pebble itself ends the store: a failed
// sync is never tried again.
type committer struct {
	kick    chan struct{} // capacity 1
	jobs    chan *pebble.Batch
	results chan error
	waiters waiterPool
	bounded bounded

	// Below: only the committer goroutine.
	parts  []part
	names  []dictEntry
	chain  []uint64 // frameHash of the last frame of each group on disk
	value  []byte
	key    []byte
	seal   sealer
	hashes []uint64 // of parts

	rounds  atomic.Uint64 // synced batches
	frames  atomic.Uint64
	late    atomic.Uint64
	reloads atomic.Uint64
	times   latencyRing
}

// part is one frame of a batch.
type part struct {
	group *Group
	frame *frame
}

var (
	// errRefused marks a batch that never reached Pebble.
	errRefused = errors.New("batch refused")
	// errLate marks the fence that a late commit brings and its end lifts.
	errLate = errors.New("a commit is late")
)

const latencyWindow = 1024

// CommitBuckets are the upper bounds of StoreStats.CommitCounts, in microseconds:
// dense where disks answer. One more count is of what took longer.
func CommitBuckets() [12]int64 {
	return [...]int64{100, 200, 300, 500, 750, 1e3, 2e3, 5e3, 10e3, 50e3, 250e3, 1e6}
}

// latencyRing keeps the latest commit times in microseconds, and counts all.
type latencyRing struct {
	mu     sync.Mutex
	n      int
	last   [latencyWindow]uint32
	counts [13]uint64 // by CommitBuckets, the last one without a bound
	sum    time.Duration
}

func (l *latencyRing) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[l.n%latencyWindow] = uint32(min(d.Microseconds(), 1<<32-1))
	l.n++
	l.sum += d
	i := 0
	for _, bound := range CommitBuckets() {
		if d.Microseconds() <= bound {
			break
		}
		i++
	}
	l.counts[i]++
}

// histogram returns how many commits took how long, and what they took together.
func (l *latencyRing) histogram() (counts [13]uint64, sum time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts, l.sum
}

// summary returns the median and the longest commit of the window.
func (l *latencyRing) summary() (median, longest time.Duration) {
	l.mu.Lock()
	times := slices.Clone(l.last[:min(l.n, latencyWindow)])
	l.mu.Unlock()
	if len(times) == 0 {
		return 0, 0
	}
	slices.Sort(times)
	us := func(v uint32) time.Duration { return time.Duration(v) * time.Microsecond }
	return us(times[len(times)/2]), us(times[len(times)-1])
}

func (c *committer) kickOff() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// commitLoop runs until the store stops or dies. The last round takes what is
// still open.
func (s *Store) commitLoop() {
	defer s.loops.Done()
	tick := time.NewTicker(max(s.o.BoundedMax/2, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.com.kick:
		case <-tick.C:
		case <-s.dead.ch:
			s.fenceAll(fmt.Errorf("%w: %w", ErrFenced, s.dead.err()))
			return
		case <-s.stop:
			s.commitRound()
			for _, g := range s.groups {
				g.waits.fail(ErrClosed)
			}
			return
		}
		s.commitRound()
	}
}

// syncLoop hands batches to Pebble, so that the committer can be late.
func (s *Store) syncLoop() {
	for b := range s.com.jobs {
		s.com.results <- s.db.commitSynced(b)
	}
}

// commitRound commits all that is pending; a no-op when nothing is.
func (s *Store) commitRound() {
	s.gather()
	if len(s.com.parts) == 0 && len(s.com.names) == 0 {
		s.com.bounded.settled()
		return
	}
	start := time.Now()
	b := s.db.db.NewBatch()
	err := s.fill(b)
	if err == nil && s.o.hooks.ackEarly != nil {
		s.acknowledge()
		s.o.hooks.ackEarly()
	}
	late := false
	if err == nil {
		late, err = s.sync(b)
	}
	switch {
	case err == nil:
		s.succeed(time.Since(start))
		if late {
			s.unfence()
		}
		_ = b.Close() // of a committed batch: only gives its buffer back
	case errors.Is(err, errRefused):
		s.o.Logger.Error("commit refused", "error", err)
		_ = b.Close()
		s.refuse(err)
		s.com.bounded.settled()
	default:
		s.die(fmt.Errorf("commit: %w", err))
		s.fenceAll(fmt.Errorf("%w: %w", ErrFenced, s.dead.err()))
	}
	clear(s.com.parts)
	clear(s.com.names)
	s.com.parts, s.com.names = s.com.parts[:0], s.com.names[:0]
}

// gather takes the frames first and the pending names second.
func (s *Store) gather() {
	c := &s.com
	c.parts = c.parts[:0]
	c.bounded.taken()
	s.gate.Lock()
	defer s.gate.Unlock()
	for _, g := range s.groups {
		if !g.dirty.Load() {
			continue
		}
		g.mu.Lock()
		g.dirty.Store(false)
		g.sealLocked()
		for _, f := range g.mu.sealed {
			c.parts = append(c.parts, part{g, f})
		}
		clear(g.mu.sealed)
		g.mu.sealed = g.mu.sealed[:0]
		g.mu.Unlock()
	}
	c.names = s.dict.takePending(c.names[:0])
}

// fill writes the frames, the keys of new people and the names into b.
func (s *Store) fill(b *pebble.Batch) error {
	c := &s.com
	if hook := s.o.hooks.commit; hook != nil {
		if err := hook(len(c.parts)); err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
	}
	for _, n := range c.names {
		c.key = appendNameKey(c.key[:0], n.kind, n.id)
		if err := b.Set(c.key, []byte(n.name), nil); err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
	}
	c.hashes = c.hashes[:0]
	for i, p := range c.parts {
		prev := c.chain[p.group.id]
		if i > 0 && c.parts[i-1].group == p.group {
			prev = c.hashes[i-1]
		}
		if err := s.fillFrame(b, p, prev); err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		c.hashes = append(c.hashes, frameHash(c.value))
	}
	if err := s.fillJournal(b); err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return nil
}

// headOf is the head of a frame of this round, but for the hash of the one before.
func (s *Store) headOf(p part) frameHead {
	return frameHead{
		group: p.group.id, epoch: s.epoch, number: p.frame.number,
		time: p.frame.time, config: p.frame.config, count: uint32(p.frame.count),
		round: s.com.rounds.Load() + 1,
	}
}

func (s *Store) fillFrame(b *pebble.Batch, p part, prev uint64) error {
	c := &s.com
	head := s.headOf(p)
	head.prev = prev
	var fault error
	var err error
	c.value, err = appendFrame(c.value[:0], &head, p.frame, &c.seal, func(r *record) {
		if err := s.fillBeside(b, r, p.frame.number); err != nil {
			fault = err
		}
	})
	if err := errors.Join(err, fault); err != nil {
		return err
	}
	c.key = appendFrameKey(c.key[:0], p.group.id, p.frame.number)
	return b.Set(c.key, c.value, nil)
}

// fillBeside writes what stands beside a frame: the key of a new person, the entry
// of an erased one in the ledger, and where a decision lies that was made in another
// frame.
func (s *Store) fillBeside(b *pebble.Batch, r *record, frame uint64) error {
	c := &s.com
	if r.kind == EffectErase {
		return s.fillErasure(b, r, frame)
	}
	if r.kind == EffectDecision {
		c.key = appendMovedKey(c.key[:0], decisionOf(r))
		return b.Set(c.key, appendMoved(nil, frame), nil)
	}
	e := createOf(r)
	var value [17]byte
	value[0] = personKeyPlain
	copy(value[1:], e.Key[:])
	c.key = appendPersonKeyKey(c.key[:0], e.Slot, e.Workspace, e.Person)
	return b.Set(c.key, value[:], nil)
}

// sync hands b to Pebble and waits. When the deadline passes it fences all
// groups and goes on waiting: only Pebble knows how the batch ends.
func (s *Store) sync(b *pebble.Batch) (late bool, err error) {
	select {
	case s.com.jobs <- b:
	case <-s.dead.ch:
		return false, s.dead.err()
	}
	timer := time.NewTimer(s.o.CommitMax)
	defer timer.Stop()
	slow := time.NewTimer(s.o.BoundedMax - s.com.bounded.age())
	defer slow.Stop()
	for {
		select {
		case err := <-s.com.results:
			if err == nil && s.o.hooks.synced != nil {
				s.o.hooks.synced()
			}
			return late, err
		case <-s.dead.ch:
			return late, s.dead.err()
		case <-slow.C:
			s.com.bounded.behind.Store(true)
		case <-timer.C:
			late = true
			s.com.late.Add(1)
			s.o.Logger.Error("commit is late: groups are fenced", "after", s.o.CommitMax)
			s.fenceAll(fmt.Errorf("%w: %w: it takes longer than %v", ErrFenced, errLate, s.o.CommitMax))
		}
	}
}

// acknowledge marks the frames of the batch as durable and wakes.
func (s *Store) acknowledge() {
	for i, p := range s.com.parts {
		p.group.durable.Store(p.frame.number)
		p.group.born.Store(uint32(p.frame.people))
		if i+1 == len(s.com.parts) || s.com.parts[i+1].group != p.group {
			p.group.waits.wake(p.frame.number)
		}
	}
}

func (s *Store) succeed(took time.Duration) {
	c := &s.com
	for i, p := range c.parts {
		c.chain[p.group.id] = c.hashes[i]
	}
	for _, p := range c.parts {
		head := s.headOf(p)
		s.logs.kept.keep(&head, p.frame)
	}
	s.acknowledge()
	c.bounded.settled()
	s.settleJournal()
	for _, p := range c.parts {
		s.logCommitted(p.group.id, len(p.frame.buf))
		p.group.unwritten.Add(int64(len(p.frame.buf)))
		p.group.recycle(p.frame)
	}
	c.rounds.Add(1)
	c.frames.Add(uint64(len(c.parts)))
	c.times.add(took)
}

// fenceAll refuses appends to all groups and tells all who wait ErrUnknown.
func (s *Store) fenceAll(why error) {
	for _, g := range s.groups {
		g.fence(why)
		g.waits.fail(why)
	}
}

// unfence lifts the fence of a late commit: nothing was lost. Groups that are
// fenced for another reason stay so.
func (s *Store) unfence() {
	for _, g := range s.groups {
		g.mu.Lock()
		late := errors.Is(g.mu.fenced, errLate)
		g.mu.Unlock()
		if late {
			g.lift(1, 0)
		}
	}
	s.o.Logger.Info("late commit has ended well: groups are open again")
}

// lift ends the group's fence unless the store is closed or dead.
func (g *Group) lift(lostLo, lostHi uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.fenced != ErrClosed && g.store.dead.err() == nil {
		g.mu.fenced = nil
		g.waits.restore(lostLo, lostHi)
	}
}

// refuse drops the memory that is ahead of a batch that never reached Pebble:
// its groups are reloaded from rows and frames.
func (s *Store) refuse(why error) {
	s.dict.giveBack(s.com.names)
	var last *Group
	for _, p := range s.com.parts {
		if p.group == last {
			continue
		}
		last = p.group
		fenced := fmt.Errorf("%w: group %d: %w", ErrFenced, last.id, why)
		last.fence(fenced)
		last.waits.fail(fenced)
	}
	last = nil
	for _, p := range s.com.parts {
		if p.group == last {
			continue
		}
		last = p.group
		s.com.reloads.Add(1)
		if err := s.reload(last); err != nil {
			s.o.Logger.Error("group stays fenced", "group", last.id, "error", err)
			fenced := fmt.Errorf("%w: group %d cannot be reloaded: %w", ErrFenced, last.id, err)
			last.refence(fenced)
		}
	}
}

// refence replaces the reason of a fence.
func (g *Group) refence(why error) {
	g.mu.Lock()
	if g.mu.fenced != ErrClosed {
		g.mu.fenced = why
	}
	g.mu.Unlock()
	g.waits.fail(why)
}

// reload brings a group back from Pebble and opens it again. The numbers of the
// dropped frames, people and reservations are not used a second time in this
// epoch: somebody may still hold them.
func (s *Store) reload(g *Group) error {
	s.flush.disk.Lock()
	defer s.flush.disk.Unlock()
	l, err := s.loadGroup(g.id)
	if err != nil {
		return err
	}
	s.com.chain[g.id] = l.hash
	g.mu.Lock()
	old := g.mu.state
	l.state.person = max(l.state.person, old.person)
	l.state.reserved = max(l.state.reserved, old.reserved)
	l.state.watch = old.watch
	l.state.attachTotals(s.totals)
	old.detachTotals()
	dropped := g.mu.open.number
	g.mu.state, g.mu.last, g.mu.visitor = l.state, l.last, 0
	g.show(l.state)
	clear(g.mu.sealed)
	g.mu.sealed = g.mu.sealed[:0]
	g.openLocked(dropped + 1)
	g.born.Store(uint32(l.state.nextOrd))
	g.dirty.Store(false)
	g.bytes.Store(l.state.residentBytes())
	g.generation.Add(1)
	g.durable.Store(l.last)
	err = s.reloadJournal(g)
	g.mu.Unlock()
	if err != nil {
		return err
	}
	g.lift(l.last+1, dropped)
	return nil
}
