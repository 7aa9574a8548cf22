package storage

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tact/storage/lossy"
)

// Effort scales a long test: see effort.
func Effort(t *testing.T, full int) int { return effort(t, full) }

// A Drill drives a store and keeps a log of all that it did, for tests of packages
// above this one: what a copy holds is compared with the log and the naive model.
type Drill struct {
	sim   *simulation
	clock atomic.Int64 // of all groups
	pairs []UnixMsec   // moments between the halves of a pair; written by one goroutine
}

// DrillMark is a moment at which nothing was under way.
type DrillMark struct {
	At   UnixMsec
	Ends []uint64 // by group: the last frame
}

// NewDrill makes a drill of a seed; it always does the same.
func NewDrill(seed uint64, groups int) *Drill {
	o := simOptions()
	o.Groups = groups
	d := &Drill{sim: newSimulation(seed, o)}
	for _, g := range d.sim.groups {
		d.clock.Store(max(d.clock.Load(), int64(g.gen.now)))
	}
	return d
}

// Options are those of the drill's store.
func (d *Drill) Options() Options { return d.sim.o }

// Open opens the drill's store and compares it with the log.
func (d *Drill) Open(fs *lossy.FS) (*Store, error) {
	s, _, err := d.sim.open(fs, 0)
	return s, err
}

// drillPair is the offer whose statistics say how many pairs a group holds.
const drillPair = 900_000

// Write runs two writers a group, n lock sections each, and one that appends to the
// first two groups together.
func (d *Drill) Write(s *Store, n int) error {
	stop := make(chan struct{})
	defer close(stop)
	errs := make([]error, 2*len(d.sim.groups)+1)
	var wg sync.WaitGroup
	for i := range errs[1:] {
		wg.Go(func() { errs[i+1] = d.write(s, i/2, n) })
	}
	wg.Go(func() {
		for range n / 2 {
			d.pair(s)
			time.Sleep(100 * time.Microsecond)
		}
	})
	wg.Wait()
	return errors.Join(errs...)
}

func (d *Drill) write(s *Store, group, n int) error {
	sim, g := d.sim.groups[group], s.groups[group]
	lo, hi := loader{groups: s.Groups()}.slotRange(g.id)
	for i := range n {
		g.Lock()
		var frame uint64
		for range 1 + i%4 {
			sim.gen.now = max(sim.gen.now, UnixMsec(d.clock.Load()))
			e := sim.gen.next()
			if e.Kind == EffectErase { // whoever is erased later is not in a restored store
				continue
			}
			e.Create.Slot = Slot(lo + int(e.Create.Slot)%(hi-lo))
			e.Claim.Slot = Slot(lo + int(e.Claim.Hash[0])%(hi-lo))
			e.Claim.Target.Group = g.id
			f, err := g.Append(e)
			if err != nil {
				g.Unlock()
				return fmt.Errorf("append of kind %d: %w", e.Kind, err)
			}
			sim.log = append(sim.log, simEffect{f, e})
			frame = f
			d.raise(e.Time)
		}
		g.Unlock()
		if i%5 < 4 {
			if err := s.Wait(g.id, frame, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Drill) raise(at UnixMsec) {
	for {
		now := d.clock.Load()
		if now >= int64(at) || d.clock.CompareAndSwap(now, int64(at)) {
			return
		}
	}
}

// pair appends the same outcome to two groups in one batch.
func (d *Drill) pair(s *Store) {
	s.Together(func() {
		for i := range 2 {
			g, sim := s.groups[i], d.sim.groups[i]
			e := &Effect{
				Kind: EffectOutcome, Ord: NoOrd, Time: UnixMsec(d.clock.Load()),
				Outcome: OutcomeEffect{Outcome: 1, Offer: drillPair, Value: 1},
			}
			g.Lock()
			frame, err := g.Append(e)
			if err == nil {
				sim.log = append(sim.log, simEffect{frame, e})
				sim.gen.m.apply(e)
			}
			g.Unlock()
			if i == 0 {
				d.pairs = append(d.pairs, e.Time)
				d.raise(e.Time + 700) // the other half happens later
			}
		}
	})
}

// Moments returns times between the halves of pairs.
func (d *Drill) Moments() []UnixMsec { return d.pairs }

// Mark waits until all is durable, notes where the store is, and lets time pass.
func (d *Drill) Mark(s *Store) (m DrillMark, err error) {
	for _, g := range s.groups {
		last := g.lastSealed()
		if err := s.Wait(g.id, last, 0); err != nil {
			return m, err
		}
		m.Ends = append(m.Ends, last)
	}
	m.At = s.HighWater()
	d.clock.Store(int64(m.At) + 5000)
	return m, nil
}

// Compare compares a restored store, right behind its opening, with the log up to
// where the store ends, and returns where that is. Pairs must be whole.
func (d *Drill) Compare(s *Store) (ends []uint64, err error) {
	var pairs [2]uint64
	for i, of := range d.sim.groups {
		group := s.groups[i]
		copied := &simGroup{gen: &generator{m: newModel(), now: of.gen.now}, log: slices.Clone(of.log)}
		copied.gen.m.reserved = of.gen.m.reserved
		last := group.durable.Load() - 1
		ends = append(ends, last)
		copied.logFloor(group)
		if err := copied.compare(group); err != nil {
			return ends, fmt.Errorf("group %d: %w", i, err)
		}
		group.Lock()
		group.StatsRange(func(k StatsKey, n uint64, _ float64) {
			if i < 2 && k.Offer == drillPair && k.Variant == 0 {
				pairs[i] = n
			}
		})
		group.Unlock()
	}
	if pairs[0] != pairs[1] {
		return ends, fmt.Errorf("%d halves of pairs here, %d there: a commit is torn", pairs[0], pairs[1])
	}
	return ends, nil
}

// LastBefore returns the last frame of a group of which nothing happened behind at.
func (d *Drill) LastBefore(group int, at UnixMsec) (last uint64) {
	late := uint64(1 << 62)
	for _, l := range d.sim.groups[group].log {
		if l.effect.Time > at {
			late = min(late, l.frame)
		}
	}
	for _, l := range d.sim.groups[group].log {
		if l.frame < late {
			last = max(last, l.frame)
		}
	}
	return last
}

// AppendNameKey appends the key of a name.
func AppendNameKey(dst []byte, kind DictKind, id Name) []byte { return appendNameKey(dst, kind, id) }

// NewProgress tells how far a long test is: see newProgress. The last call, with the
// goal, is always told.
func NewProgress(t *testing.T, name string, goal int) func(done, faults int) {
	p := newProgress(t, name, goal)
	return func(done, faults int) {
		if done == goal {
			p.end(done, faults)
		} else {
			p.at(done, faults)
		}
	}
}

// FirstSeed is the first seed of a long test: see firstSeed.
func FirstSeed(t *testing.T) uint64 { return firstSeed(t) }

// DrillPerson is somebody in a store.
type DrillPerson struct {
	Slot      Slot
	Workspace WorkspaceID
	ID        PersonID
	Group     GroupID
	Ord       Ord
}

// People returns everybody in a store.
func (d *Drill) People(s *Store) (all []DrillPerson) {
	for _, g := range s.groups {
		g.Lock()
		for o := range g.Len() {
			if row := g.Row(Ord(o)); row != nil {
				all = append(all, DrillPerson{row.Slot, row.Workspace, row.Person, g.id, Ord(o)})
			}
		}
		g.Unlock()
	}
	return all
}

// Erase erases somebody and waits until that is durable.
func (d *Drill) Erase(s *Store, p DrillPerson) error {
	g := s.groups[p.Group]
	g.Lock()
	_, frame, err := g.Erase(p.Ord, s.HighWater(), 0)
	g.Unlock()
	if err != nil {
		return err
	}
	return s.Wait(g.id, frame, 0)
}
