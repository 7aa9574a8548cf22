package loadtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// runner carries one test from its first connection to its result.
type runner struct {
	o      Options
	target *target
	pool   *pool
	doc    *Result
	next   int64 // number of the first arrival of the next phase
	spent  time.Duration
	asked  int64
}

// Perform makes the load that o describes and gives its result. A result that must
// not be believed says so in Void; that is no error. A cancelled ctx ends the
// load early with what was measured.
//
// Errors: faults of o, ErrRemote, ErrUnreachable, and what the machine refuses.
// Cost: memory of a few MB and one goroutine a connection; while it runs,
// GOMAXPROCS is raised by the number of pacers, at least by two, so that a pacer
// that wakes finds a processor.
func Perform(ctx context.Context, o Options) (*Result, error) {
	if err := o.withDefaults(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	a, err := resolve(ctx, o.Address, o.AllowRemote)
	if err != nil {
		return nil, err
	}
	t, err := newTarget(o.Scenario, o.Seed, a, o.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + max(2, o.pacers(o.Rate)))
	defer runtime.GOMAXPROCS(before)
	r := &runner{o: o, target: t, pool: newPool(ctx, t, a, &o), doc: newResult(&o)}
	defer r.pool.close()
	if err := r.pool.connect(); err != nil {
		return nil, err
	}
	slow := startSlow(ctx, r.pool, o.Slow, o.SlowOver)
	err = r.mode(ctx)
	r.doc.Slow = slow.end()
	// What was measured before an interruption is worth showing.
	if err != nil && (ctx.Err() == nil || len(r.doc.Runs) == 0) {
		return nil, err
	}
	r.doc.conclude()
	return r.doc, nil
}

// measuredFirst is the number of the measured run's first arrival: the same in
// every process and however long the warm-up was.
const measuredFirst = 1 << 44

func (r *runner) mode(ctx context.Context) error {
	switch r.o.Mode {
	case Step, Search:
		return r.search(ctx)
	case Overload:
		return r.overload(ctx)
	}
	rate := r.o.Rate
	if r.o.Load > 0 {
		t, err := r.saturate(ctx, r.o.Step)
		if err != nil {
			return err
		}
		rate = r.o.Load * t.perSecond(t.issued)
		if n := rate * r.o.Duration.Seconds(); !(rate > 0) || n > float64(r.o.MaxRequests) {
			return fmt.Errorf("%w: %.0f arrivals at %.0f %% of the saturation: above the hard maximum %d",
				ErrOptions, n, 100*r.o.Load, r.o.MaxRequests)
		}
	}
	if err := r.warmUp(ctx, rate); err != nil {
		return err
	}
	if err := waitUntil(ctx, r.o.StartAt); err != nil {
		return err
	}
	r.next = measuredFirst
	if r.o.Floor != nil {
		return r.withFloor(ctx, rate)
	}
	ph := r.phase(r.pool, rate, r.o.Duration)
	ph.closed = r.o.Mode == Saturate
	ph.windows = int(min(max(r.o.Duration/time.Second, 5), 120))
	t, err := r.run(ctx, ph)
	if err != nil {
		return err
	}
	r.doc.add("measured", rate, t)
	if r.o.Mode == Soak {
		r.doc.Drift = drift(t)
	}
	return nil
}

// waitUntil waits for the common start of several processes.
func waitUntil(ctx context.Context, at time.Time) error {
	wait := time.NewTimer(max(time.Until(at), 0))
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// phase makes a phase of the test's own shape.
func (r *runner) phase(p *pool, rate float64, length time.Duration) *phase {
	s := schedule{
		rate: rate, arrivals: r.o.Arrivals, burst: r.o.Burst, length: length, seed: r.o.Seed,
	}
	ph := &phase{
		pool: p, schedule: s, share: r.o.Share, pacers: r.o.pacers(rate), first: r.next,
		bound: r.o.bound(), windows: 5, pids: r.o.ServerPIDs, limit: r.o.MaxRequests - r.asked,
		expect: []byte(r.o.Scenario.Expect),
	}
	// A phase asks other users than the ones before it. All shares leave the same
	// room, so that their numbers do not meet.
	r.next += int64(min(rate*1.5*length.Seconds(), 1<<40)) + 1_000_000
	return ph
}

// run runs a phase within the hard bounds of the whole test.
func (r *runner) run(ctx context.Context, ph *phase) (*tally, error) {
	ph.progress = r.o.Progress
	t, err := ph.run(ctx)
	if err != nil {
		return nil, err
	}
	r.spent, r.asked = r.spent+ph.schedule.length, r.asked+t.issued
	return t, nil
}

// room says whether another phase of the length fits into the hard bounds.
func (r *runner) room(rate float64, length time.Duration) bool {
	return r.spent+length <= r.o.MaxDuration &&
		float64(r.asked)+rate*length.Seconds() <= float64(r.o.MaxRequests)
}

// saturate measures in a closed loop what the server answers.
func (r *runner) saturate(ctx context.Context, length time.Duration) (*tally, error) {
	ph := r.phase(r.pool, r.o.Rate, length)
	ph.closed = true
	ph.schedule.burst = Burst{}
	t, err := r.run(ctx, ph)
	if err != nil {
		return nil, err
	}
	r.say("saturation: %.0f arrivals/s on %d connections", t.perSecond(t.issued), r.o.Connections)
	r.doc.add(labelSaturation, 0, t)
	return t, ctx.Err()
}

// Warm-up: windows of load until the median is flat.
const (
	warmUpWindow = 500 * time.Millisecond
	warmUpFlat   = 0.10 // greatest distance of a window's median from the middle one
	warmUpRow    = 3    // windows in a row that must be flat
)

// warmUp loads the server until its median latency is flat, or for the longest
// warm-up, and keeps what it saw apart from the measured run.
func (r *runner) warmUp(ctx context.Context, rate float64) error {
	if r.o.WarmUp < 0 {
		return nil
	}
	w := &WarmUp{Windows: []int64{}}
	for time.Duration(len(w.Windows))*warmUpWindow < r.o.WarmUp && !w.Flat && ctx.Err() == nil {
		ph := r.phase(r.pool, rate, warmUpWindow)
		ph.closed = r.o.Mode == Saturate
		ph.schedule.burst = Burst{}
		spent, progress := r.spent, r.o.Progress
		r.o.Progress = nil // the windows are too short to watch
		t, err := r.run(ctx, ph)
		r.o.Progress = progress
		if err != nil {
			return err
		}
		r.spent = spent // the bound is on what is measured
		w.Windows = append(w.Windows, t.latency.ValueAtQuantile(50))
		w.Failed += t.failures()
		w.Flat = flat(w.Windows)
	}
	r.doc.WarmUp = w
	r.say("warm-up: %v, flat: %v", time.Duration(len(w.Windows))*warmUpWindow, w.Flat)
	return ctx.Err()
}

// flat says whether the last windows' medians agree.
func flat(medians []int64) bool {
	if len(medians) < warmUpRow {
		return false
	}
	last := slices.Clone(medians[len(medians)-warmUpRow:])
	slices.Sort(last)
	middle := float64(last[warmUpRow/2])
	return float64(last[warmUpRow-1])-middle <= warmUpFlat*middle &&
		middle-float64(last[0]) <= warmUpFlat*middle
}

// drift compares the median p99 of the last quarter of the windows with the
// first: above 1, the server became slower.
func drift(t *tally) float64 {
	n := len(t.windows) / 4
	if n == 0 {
		return 1
	}
	middle := func(windows []window) float64 {
		var p99 []int64
		for _, w := range windows {
			p99 = append(p99, w.latency.ValueAtPercentile(99))
		}
		slices.Sort(p99)
		return float64(p99[len(p99)/2])
	}
	first := middle(t.windows[:n])
	if first == 0 {
		return 1
	}
	return middle(t.windows[len(t.windows)-n:]) / first
}

func (r *runner) say(format string, args ...any) {
	if r.o.Say != nil {
		r.o.Say(fmt.Sprintf(format, args...))
	}
}
