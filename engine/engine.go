package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"tact/engine/definition"
	"tact/storage"
	"tact/storage/docs"
)

// Options says how to open an engine. The zero value works; immutable after Open.
type Options struct {
	Storage     storage.Options // MemoryCap 0 = three quarters of the machine's memory
	Read        Reading         // the machine's clocks; nil = the real ones
	BackupDir   string          // where StartBackup may write; "" = nowhere
	AcceptClock bool            // adopt a wall clock that is more than 30 days ahead of the store
	MaxVisitors int             // rows of unknown people kept at a time; default 10 % of capacity
	MaxViews    int             // answers kept for cursors; default 1,024
	ViewBytes   int64           // of them together; default 256 MiB
	Logger      *slog.Logger
}

// Bounds of the conductor.
const (
	defaultTimeout = 20 * time.Millisecond // of a decision's wait for durability
	maxTimeout     = time.Second
	maxPicks       = 64 // tries of one decision: render errors, a late disk
	maxTotalPicks  = 64 // looks for a pick whose totals are not full
	tickEvery      = time.Second
	startWait      = 10 * time.Second // for the first frames of an epoch

	// bytesPerUser sizes the capacity that MemoryCap allows.
	bytesPerUser       = 1100
	defaultMaxVisitors = 100_000 // without a MemoryCap
)

// Engine conducts: it alone composes the parts, commits effects and runs loops.
// All methods may be called from any goroutine.
type Engine struct {
	opts   Options
	log    *slog.Logger
	store  *storage.Store
	docs   *docs.Store
	clock  *clock
	sealer *sealer
	snap   atomic.Pointer[Snapshot]
	zones  zones
	words  words
	names  nameSource

	reader     definition.Reader
	publish    sync.Mutex // one publish at a time
	old        sync.Map   // revision number → *Snapshot, for previews and replays
	stripes    stripes
	forgetting sync.Mutex    // one throws keys out of backups at a time
	erasing    sync.RWMutex  // held shared by a line with identities, else by an erasure
	erasures   atomic.Uint64 // raised before a person is gone
	track      tracking
	traffic    traffic
	fills      fills
	visitors   atomic.Int64

	migrating migration // the loop's
	counters  counters
	backups   backups
	tallies   []groupTally // by group
	kept      []kept       // by group
	serials   atomic.Uint64
	lines     [lineKinds]lineTally
	views     views

	stop context.CancelFunc
	done sync.WaitGroup
}

// words are the dictionary ids of the names that statistics use.
type words struct {
	decision, noDecision, fallback, renderError, deadline storage.Name
}

// Open opens the store under dir, brings back the last published revision and
// starts the loops. It serves nothing before everything acknowledged earlier is
// in memory again.
func Open(dir string, o Options) (*Engine, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Storage.Logger == nil {
		o.Storage.Logger = o.Logger
	}
	var mono func() int64
	if o.Read == nil {
		o.Read, mono = machineReading()
	}
	if o.Storage.Now == nil {
		o.Storage.Now = func() storage.UnixMsec {
			wall, _ := o.Read()
			return storage.UnixMsec(wall)
		}
	}
	if o.Storage.MemoryCap == 0 {
		o.Storage.MemoryCap = memoryTotal() / 4 * 3
	}
	if o.MaxVisitors == 0 {
		o.MaxVisitors = defaultMaxVisitors
		if o.Storage.MemoryCap > 0 {
			o.MaxVisitors = int(o.Storage.MemoryCap / bytesPerUser / 10)
		}
	}
	if o.MaxViews == 0 {
		o.MaxViews = defaultMaxViews
	}
	if o.ViewBytes == 0 {
		o.ViewBytes = defaultViewBytes
	}
	store, err := storage.Open(dir, o.Storage)
	if err != nil {
		return nil, err
	}
	e := &Engine{opts: o, log: o.Logger, store: store}
	e.track.groups = make([]groupTracking, store.Groups())
	store.Follow(e.follow)
	e.tallies = make([]groupTally, store.Groups())
	e.kept = make([]kept, store.Groups())
	if err := e.start(mono); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return e, nil
}

// start brings everything above the store to life. mono is the monotonic clock of
// Options.Read where it can be read alone.
func (e *Engine) start(mono func() int64) (err error) {
	e.clock = newClock(e.opts.Read, e.store.HighWater(), e.opts.AcceptClock)
	e.clock.mono = mono
	e.names = nameSource{
		lookup: e.store.LookupBytes, intern: e.store.Intern, now: e.clock.Now,
		zone: func(name string) (storage.Name, error) { return e.zones.intern(e.store, name) },
	}
	if e.sealer, err = newSealer(e.store.Keys().TokenKey); err != nil {
		return fmt.Errorf("token key: %w", err)
	}
	if err := e.internWords(); err != nil {
		return err
	}
	if err := e.zones.load(e.store); err != nil {
		return err
	}
	e.docs = docs.Open(e.store)
	if err := e.restoreSnapshot(); err != nil {
		return err
	}
	if err := e.resumeTraffic(); err != nil {
		return err
	}
	if err := e.resumeGrowth(); err != nil {
		return fmt.Errorf("read the counts of segments: %w", err)
	}
	if err := e.raiseFloor(); err != nil {
		return err
	}
	e.countVisitors()
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	e.backups.begin = func(f func(context.Context)) { e.done.Go(func() { f(ctx) }) }
	if e.opts.BackupDir != "" {
		e.done.Go(func() { e.forgetLoop(ctx) })
	}
	e.done.Go(func() { e.loop(ctx) })
	e.fills.pending = true // perhaps: the loop, or the first change by hand, looks
	e.done.Go(func() { e.fillLoop(ctx) })
	e.done.Go(func() { e.trackLoop(ctx) })
	e.done.Go(func() { e.growthLoop(ctx) })
	return nil
}

func (e *Engine) internWords() error {
	m := &minter{mint: e.store.Intern}
	e.words = words{
		decision:    m.id(storage.DictOutcome, "decision"),
		noDecision:  m.id(storage.DictOutcome, "no_decision"),
		fallback:    m.id(storage.DictOutcome, "fallback"),
		renderError: m.id(storage.DictOutcome, "render_error"),
		deadline:    m.id(storage.DictOutcome, "deadline"),
	}
	return m.err
}

// raiseFloor makes every reservation that is open now outlive what just
// happened to the clock (a start, an adopted step). It returns when
// that is durable.
func (e *Engine) raiseFloor() error {
	now := e.clock.Now()
	frames := make([]uint64, e.store.Groups())
	for i := range frames {
		g := e.store.Group(storage.GroupID(i))
		effect := storage.Effect{
			Kind: storage.EffectTime, Ord: storage.NoOrd, Time: now, Floor: toSec(now),
		}
		g.Lock()
		frame, err := g.Append(&effect)
		g.Unlock()
		if err != nil {
			return fmt.Errorf("mark the start of the epoch: %w", err)
		}
		frames[i] = frame
	}
	for i, frame := range frames {
		if err := e.store.Wait(storage.GroupID(i), frame, startWait); err != nil {
			return fmt.Errorf("mark the start of the epoch: %w", err)
		}
	}
	return nil
}

// toSec rounds down to seconds: the time at which windows are judged.
func toSec(ms storage.UnixMsec) storage.UnixSec { return storage.UnixSec(ms / 1000) }

// toSecUp rounds up to seconds: the time of a use, so that a rolling window
// errs by less than a second towards less contact.
func toSecUp(ms storage.UnixMsec) storage.UnixSec {
	return storage.UnixSec((max(ms, 1) + 999) / 1000)
}

// Close stops the loops and closes the store. Calls under way must have
// returned before.
func (e *Engine) Close() error {
	e.stop()
	e.done.Wait()
	if err := e.endTraffic(); err != nil {
		e.log.Warn("the traffic of this hour is not stored", "err", err)
	}
	return e.store.Close()
}

// loop follows the wall clock and forgets visitors, until ctx ends.
func (e *Engine) loop(ctx context.Context) {
	tick, feed := time.NewTicker(tickEvery), time.NewTicker(feedEvery)
	defer tick.Stop()
	defer feed.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.tick()
			e.sweepTags()
			e.sweepTypes()
		case <-feed.C:
			e.feedTotals()
		}
	}
}

// every calls f once a period until ctx ends; a call that takes longer leaves the
// periods out that pass meanwhile.
func every(ctx context.Context, period time.Duration, f func()) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

// maxExpiries bounds what one tick expires in one group.
const maxExpiries = 256

// tick runs what must happen now and then: it follows the wall clock, forgets
// visitors whose day is over, and gives units of totals back whose reservation
// has expired. Its cost is bounded: it looks at 4,096 rows a group.
func (e *Engine) tick() {
	if step := e.clock.pending(); step > 0 {
		if err := e.raiseFloor(); err != nil {
			e.log.Warn("clock step not adopted", "step", step, "err", err)
		} else {
			e.clock.adopt(step)
			e.log.Info("clock step adopted", "step", step)
		}
	}
	e.views.sweep(e.clock.Now())
	e.learnTraffic()
	e.feedTotals()
	now := toSec(e.clock.Now())
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		g.Lock()
		n, err := g.ExpireVisitors(now, maxExpiries)
		_, err2 := g.ExpireHolds(now, maxExpiries)
		g.Unlock()
		e.visitors.Add(int64(-n))
		if err := errors.Join(err, err2); err != nil {
			e.log.Debug("nothing expired", "group", i, "err", err)
		}
	}
}

// countVisitors counts the visitor rows that came back with the store.
func (e *Engine) countVisitors() {
	var n int64
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		g.Lock()
		for o := range g.Len() {
			row := g.Row(storage.Ord(o))
			if row != nil && row.Flags&(storage.RowVisitor|storage.RowGone) == storage.RowVisitor {
				n++
			}
		}
		g.Unlock()
	}
	e.visitors.Store(n)
}

// Ready tells whether the engine should be sent traffic, and if not, why.
func (e *Engine) Ready() (bool, []string) {
	var why []string
	if err := e.store.Err(); err != nil {
		why = append(why, "store: "+err.Error())
	}
	if e.clock.Skewed() {
		why = append(why, "clock: the wall clock is further ahead of server time than may be "+
			"adopted; restart with --accept-clock if it is right")
	}
	return len(why) == 0, why
}

// Notes tells what an operator should know of a server that is ready: that every
// grant waits for the disk although a ring was asked for, and that this start
// followed a loss.
func (e *Engine) Notes() []string {
	j := e.store.Stats().Journal
	var notes []string
	if f := e.store.PurgeFault(); f != nil {
		notes = append(notes, fmt.Sprintf("purge: damage keeps the keys of erased people (%d or more) "+
			"on the disk, which nobody reads any more: %s; see: tact doctor", f.People,
			storage.DamageText(f.Err)))
	}
	switch {
	case j.Dead:
		notes = append(notes, "journal: stopped after a fault of the disk; every grant waits for "+
			"its frame until the next start")
	case j.Asked && !j.Ring && j.Fault != "":
		notes = append(notes, "ring: none, every grant waits: "+j.Fault)
	case j.Asked && !j.Ring:
		notes = append(notes, "ring: the journal is full, every grant waits until it is not")
	case j.Asked && j.Unlocked != "":
		notes = append(notes, "ring: not locked in memory: "+j.Unlocked)
	}
	if j.Incident {
		notes = append(notes, "incident: this start followed a loss, people in session have one "+
			"stand-in for the life of a reservation: "+j.Why)
	}
	if blind := e.store.Blind(); blind != 0 {
		notes = append(notes, "caps: protected, windows that began before "+
			time.Unix(int64(blind), 0).UTC().Format(time.RFC3339)+" are full, since this is an older "+
			"copy of the store; --caps lift ends it")
	}
	return notes
}

// Now returns server time.
func (e *Engine) Now() storage.UnixMsec { return e.clock.Now() }
