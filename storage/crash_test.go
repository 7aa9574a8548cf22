package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
	"tact/storage/seeds"
)

// A simulation runs writers against a store on a file system that forgets what
// was not synced, cuts the power at a random moment, opens what is left, and
// compares it with the log of what was appended: everything that Wait answered
// is there, what is there is a prefix, and it sums to what a replay in memory
// sums to.
type simulation struct {
	seed   uint64
	rng    *rand.Rand
	o      Options
	epoch  uint32
	groups []*simGroup
}

// simGroup is the log of one group. The group's lock guards it, but for acked.
type simGroup struct {
	gen    *generator
	log    []simEffect
	starts uint64 // newest frame of a start that was cut

	mu    sync.Mutex
	acked uint64 // highest frame that Wait answered
}

type simEffect struct {
	frame  uint64
	effect *Effect
}

func newSimulation(seed uint64, o Options) *simulation {
	// Of the frames on their way into the log all, some or none are kept in memory.
	o.hooks.keptFrames = [...]int64{0, 2 << 10, -1}[seed%3]
	sim := &simulation{seed: seed, rng: rand.New(rand.NewPCG(seed, 3)), o: o}
	for g := range o.Groups {
		sim.groups = append(sim.groups, &simGroup{gen: newGenerator(seed*64 + uint64(g))})
	}
	return sim
}

func simOptions() Options {
	o := testOptions(nil)
	o.FlushEvery = 2 * time.Millisecond
	o.BoundedMax = 2 * time.Millisecond
	o.LogEvery, o.LogBlock, o.LogSegment = 2*time.Millisecond, 512, 4<<10
	o.PurgeEvery = 3 * time.Millisecond
	o.KeepEffects, o.KeepDecisions = -1, -1
	o.Now = func() UnixMsec { return 1_700_000_000_000 } // where generators begin
	o.hooks.memTable = 256 << 10
	return o
}

// open opens fs, crashing up to nested times during recovery, each time at some
// operation of the file system, and verifies.
func (sim *simulation) open(fs *lossy.FS, nested int) (*Store, *lossy.FS, error) {
	for range nested {
		var once sync.Once
		var cut *lossy.FS
		take := func() { once.Do(func() { cut = sim.crash(fs) }) }
		o := sim.o
		o.FS = injectFS{fs, &injection{mode: injectCut, index: 1 + sim.rng.Int64N(400), cut: take}}
		s, err := Open("store", o)
		if err != nil {
			return nil, nil, fmt.Errorf("nested open: %w", err)
		}
		take() // it was never that far: crash behind the open
		if err := s.Close(); err != nil {
			return nil, nil, err
		}
		fs = cut
	}
	o := sim.o
	o.FS = fs
	s, err := Open("store", o)
	if err != nil {
		return nil, nil, fmt.Errorf("open: %w", err)
	}
	return s, fs, sim.verify(s)
}

func (sim *simulation) crash(fs *lossy.FS) *lossy.FS {
	percent := []int{0, 10, 50, 90}[sim.rng.IntN(4)]
	return fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(sim.seed, sim.rng.Uint64())),
	})
}

// logFloor adds the effect that Open appends.
func (g *simGroup) logFloor(group *Group) {
	at := UnixMsec(group.high.Load())
	e := &Effect{Kind: EffectTime, Ord: NoOrd, Time: at, Floor: UnixSec(at / 1000)}
	g.cut(group.durable.Load() - 1)
	g.log = append(g.log, simEffect{group.durable.Load(), e})
	g.gen.m.apply(e)
	g.logBurn(group)
	g.acked = group.durable.Load()
}

// logBurn adds the end of the blocks of the epoch before, with what was burnt of
// them, as the group says: TestBlocksOverCrashes says how much that may be.
func (g *simGroup) logBurn(group *Group) {
	m := newModel()
	allowed := make(map[TotalKey]int64)
	for _, l := range g.log {
		m.apply(l.effect)
		switch e := l.effect; {
		case e.Kind == EffectBlock:
			addTo(allowed, e.Block.Key, e.Block.Units)
		case e.Kind == EffectBurn && e.Burn.Ends:
			clear(allowed)
		}
	}
	burn := &Effect{Kind: EffectBurn, Ord: NoOrd, Burn: BurnEffect{Ends: true}}
	group.Lock()
	for k, n := range group.mu.state.share.blocks.burnt {
		if n > m.burnt[k] {
			burn.Burn.Units = append(burn.Burn.Units, BlockEffect{k, n - m.burnt[k]})
		}
	}
	group.Unlock()
	if len(allowed)+len(burn.Burn.Units) == 0 {
		return
	}
	burn.Time = UnixMsec(group.high.Load())
	g.log = append(g.log, simEffect{group.durable.Load(), burn})
	g.gen.m.apply(burn)
}

// cut takes out of the log what was lost.
func (g *simGroup) cut(last uint64) {
	for len(g.log) > 0 && g.log[len(g.log)-1].frame > last {
		g.log = g.log[:len(g.log)-1]
	}
}

// verify compares an opened store with the logs, and cuts the logs to it.
func (sim *simulation) verify(s *Store) error {
	if s.Epoch() <= sim.epoch {
		return fmt.Errorf("epoch %d after %d", s.Epoch(), sim.epoch)
	}
	before := sim.epoch
	sim.epoch = s.Epoch()
	for i, g := range sim.groups {
		if err := g.verify(s.groups[i], before); err != nil {
			return fmt.Errorf("group %d: %w", i, err)
		}
		if err := g.compareChanges(s, s.groups[i].id); err != nil {
			return fmt.Errorf("group %d: %w", i, err)
		}
		if sim.o.hooks.ackEarly != nil {
			continue // it is noticed at once there: leave it to the power cut
		}
		if err := g.compareLog(s, s.groups[i]); err != nil {
			return fmt.Errorf("group %d: event log: %w", i, err)
		}
	}
	if err := s.VerifyLog(); err != nil {
		return err
	}
	if sim.o.hooks.ackEarly != nil {
		return nil // Check would notice at once: leave it to the power cut
	}
	return s.Check()
}

func (g *simGroup) verify(group *Group, epoch uint32) error {
	last := group.durable.Load() - 1 // Open has appended one frame
	if last < g.acked {
		return fmt.Errorf("frame %d was answered, the log ends at %d", g.acked, last)
	}
	if err := g.logStarts(group, last, epoch); err != nil {
		return err
	}
	g.logFloor(group)
	return g.compare(group)
}

// logStarts adds the frames of starts that were cut: nobody knows of them but the
// disk. They hold the time, and what was burnt of the blocks of the epoch before.
// epoch is that of the frames in the log.
func (g *simGroup) logStarts(group *Group, last uint64, epoch uint32) error {
	return group.store.ScanLog(&LogQuery{}, func(e *LogEntry) error {
		if e.Group != group.id || e.Epoch <= epoch || e.Frame > last || e.Frame <= g.acked {
			return nil
		}
		if e.Effect.Kind != EffectTime && e.Effect.Kind != EffectBurn {
			return fmt.Errorf("frame %d, which nobody wrote, holds an effect of kind %d",
				e.Frame, e.Effect.Kind)
		}
		copied := e.Effect
		copied.Burn.Units = slices.Clone(copied.Burn.Units)
		if n := len(g.log); n > 0 && g.log[n-1].frame == e.Frame && g.starts == e.Frame {
			g.log = append(g.log, simEffect{e.Frame, &copied})
			return nil
		}
		g.cut(e.Frame - 1) // frames of that number and above were lost
		g.log, g.starts = append(g.log, simEffect{e.Frame, &copied}), e.Frame
		return nil
	})
}

// compare replays the log in memory, into a state and into the naive model, and
// compares both with the group.
func (g *simGroup) compare(group *Group) error {
	reference := newState(group.id, stateOptions{})
	m := newModel()
	m.reserved = g.gen.m.reserved
	for _, l := range g.log {
		if err := reference.apply(l.frame, l.effect); err != nil {
			return fmt.Errorf("reference: %w", err)
		}
		m.apply(l.effect)
	}
	g.gen.m = m
	want, err := reference.checksum()
	if err != nil {
		return err
	}
	group.Lock()
	defer group.Unlock()
	got, err := group.mu.state.checksum()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("state sums to %016x, the replayed log to %016x", got, want)
	}
	if err := m.compareMembers(group.mu.state); err != nil {
		return err
	}
	for o := range m.nextOrd {
		if err := m.compare(group.mu.state, o, secondOf(g.gen.now)); err != nil {
			return err
		}
	}
	return nil
}

// compareChanges reads the changes of membership back, a few at a time. Those that
// the flusher has just taken come a moment later: seed 644 of a long run. When the oldest
// leave meanwhile, the reading begins anew: seed 3110 of another.
func (g *simGroup) compareChanges(s *Store, id GroupID) error {
	var got []Change
	before, newest := s.KeptChanges(id)
	for tries := 0; before+uint64(len(got)) < newest && tries < 10_000; {
		more, err := s.ReadChanges(id, before+uint64(len(got)), 37, nil)
		switch {
		case errors.Is(err, ErrChangesGone):
			tries++
			got = nil
			before, newest = s.KeptChanges(id)
			continue
		case err != nil:
			return err
		}
		if len(more) == 0 {
			tries++
			time.Sleep(time.Millisecond)
		}
		got = append(got, more...)
	}
	if want := g.gen.m.changes[before:]; !slices.Equal(got, want) {
		return fmt.Errorf("%d changes of membership were read, want %d", len(got), len(want))
	}
	return nil
}

// write appends what the generator draws, n lock sections of up to four effects,
// and waits for most of them.
func (g *simGroup) write(s *Store, group *Group, n int, stop <-chan struct{}) error {
	lo, hi := loader{groups: s.Groups()}.slotRange(group.id)
	for i := range n {
		select {
		case <-stop:
			return nil
		default:
		}
		group.Lock()
		var frame uint64
		for range 1 + i%4 {
			e := g.gen.next()
			e.Create.Slot = Slot(lo + int(e.Create.Slot)%(hi-lo))
			e.Claim.Slot = Slot(lo + int(e.Claim.Hash[0])%(hi-lo)) // one slot an identity
			if row := group.Row(e.Ord); row != nil {
				e.Erase.Slot = row.Slot
			}
			f, err := group.Append(e)
			if err != nil {
				group.Unlock()
				return fmt.Errorf("append of kind %d: %w", e.Kind, err)
			}
			g.log = append(g.log, simEffect{f, e})
			frame = f
		}
		group.Unlock()
		if i%5 == 4 {
			runtime.Gosched()
			continue
		}
		if err := s.Wait(group.id, frame, 0); err != nil {
			return err
		}
		g.mu.Lock()
		g.acked = max(g.acked, frame)
		g.mu.Unlock()
	}
	return nil
}

// life runs writers and cuts the power; it returns what is left of the disk.
func (sim *simulation) life(s *Store, fs *lossy.FS) (*lossy.FS, error) {
	stop := make(chan struct{})
	n := 1 + sim.rng.IntN(60)
	errs := make(chan error, 2*len(sim.groups))
	for i, g := range sim.groups {
		for range 2 {
			go func() { errs <- g.write(s, s.groups[i], n, stop) }()
		}
	}
	if sim.rng.IntN(4) > 0 {
		time.Sleep(time.Duration(sim.rng.IntN(4000)) * time.Microsecond)
	} else {
		for range cap(errs) {
			if err := <-errs; err != nil {
				return nil, err
			}
		}
		errs = nil
	}
	acked := make([]uint64, len(sim.groups)) // before the clone, or alarms are false
	for i, g := range sim.groups {
		g.mu.Lock()
		acked[i] = g.acked
		g.mu.Unlock()
	}
	cut := sim.crash(fs)
	close(stop)
	for range cap(errs) {
		if err := <-errs; err != nil {
			return nil, err
		}
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	for i, g := range sim.groups {
		g.acked = acked[i]
	}
	return cut, nil
}

func (sim *simulation) run() error {
	fs := lossy.New()
	for life := range 3 {
		nested := 0
		if sim.rng.IntN(3) == 0 {
			nested = 1 + sim.rng.IntN(3)
		}
		s, at, err := sim.open(fs, nested)
		if err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		if fs, err = sim.life(s, at); err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
	}
	s, _, err := sim.open(fs, 0)
	if err != nil {
		return fmt.Errorf("last open: %w", err)
	}
	return s.Close()
}

// effort scales the simulations: TACT_EFFORT=1 runs them all, go test 1 %.
func effort(t *testing.T, full int) int {
	t.Helper()
	share := 0.01
	if v := os.Getenv("TACT_EFFORT"); v != "" {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			t.Fatal(err)
		}
		share = f
	}
	return max(1, int(float64(full)*share))
}

// firstSeed lets a run begin elsewhere, or repeat one seed: TACT_SEED=n.
func firstSeed(t *testing.T) uint64 {
	t.Helper()
	v := os.Getenv("TACT_SEED")
	if v == "" {
		return 1
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TACT_EFFORT=1 runs 10,000 seeds.
func TestPowerLoss(t *testing.T) {
	run := seeds.Run{
		Name: "storage power loss", Full: 10_000, Few: 100, First: 1,
		Workers: runtime.GOMAXPROCS(0),
	}
	run.Play(t, func(seed uint64) (uint64, error) {
		return 1, newSimulation(seed, simOptions()).run()
	})
}

// play plays seeds of a world that fails its test by itself: full of them times
// TACT_EFFORT, by default 1 %.
func play(
	t *testing.T, name string, full uint64, counts func() string, f func(seed uint64),
) seeds.Result {
	t.Helper()
	run := seeds.Run{Name: name, Full: full, Few: full / 100, First: 1, Counts: counts}
	return run.Play(t, func(seed uint64) (uint64, error) {
		f(seed)
		return 1, nil
	})
}

// Answering before the sync is the bug that the simulation must find.
func TestPowerLossFindsEarlyAck(t *testing.T) {
	for seed := range uint64(50) {
		o := simOptions()
		o.hooks.ackEarly = func() { time.Sleep(time.Millisecond) }
		if err := newSimulation(seed, o).run(); err != nil {
			t.Logf("seed %d: %v", seed, err)
			return
		}
	}
	t.Fatal("50 seeds did not notice answers before the sync")
}

// Refused commits, restarts and flushes in any order: what the store holds is
// always what the log of the frames that were not dropped gives.
func TestStoreEqualsModelAcrossReloads(t *testing.T) {
	for seed := range uint64(3) {
		var refuse atomic.Bool
		o := simOptions()
		o.Groups = 1
		o.hooks.commit = func(frames int) error {
			if frames > 0 && refuse.Swap(false) {
				return errors.New("planted")
			}
			return nil
		}
		sim := newSimulation(seed, o)
		g := sim.groups[0]
		fs := lossy.New()
		for restart := range 3 {
			s, _, err := sim.open(fs, 0)
			if err != nil {
				t.Fatalf("seed %d, start %d: %v", seed, restart, err)
			}
			for range 25 {
				refuse.Store(sim.rng.IntN(3) == 0)
				err := g.write(s, s.groups[0], 1+sim.rng.IntN(8), nil)
				switch {
				case err == nil:
					continue
				case !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrFenced):
					t.Fatalf("seed %d: %v", seed, err)
				}
				eventually(t, "the group is open again", func() bool {
					return s.Wait(0, s.groups[0].lastSealed(), time.Millisecond) == nil
				})
				g.cut(s.Durable(0))
				if err := g.compare(s.groups[0]); err != nil {
					t.Fatalf("seed %d, after a reload: %v", seed, err)
				}
			}
			mustCheck(t, s)
			mustClose(t, s)
		}
	}
}

// lastSealed seals the open frame; a fenced group gives a frame that never was.
func (g *Group) lastSealed() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.fenced != nil {
		return 1 << 60
	}
	return g.sealLocked()
}
