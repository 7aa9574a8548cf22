package bench

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"tact/loadtest/machine"
)

// side does work n times. It reports how many operations that was in all, which
// lets a side whose work comes in lumps say what it did.
type side func(n int) (ops float64, err error)

// clockKind says which processor time a side is charged.
type clockKind uint8

const (
	clockThread  clockKind = iota // of the calling thread: the side starts no other
	clockProcess                  // of this process: the side works with several threads
	clockWall                     // wall time: for what waits
	clockChild                    // of other processes, one for each side
	clockOwn                      // what the sides themselves add to trial.spent
)

// trial is one workload made ready: what is measured and what it is compared with.
type trial struct {
	figure    Figure
	own       side
	reference side // nil: the figure stands alone
	// perRef is how many operations of the reference one of ours is compared with;
	// 0 counts as 1.
	perRef float64
	clock  clockKind
	// scale turns seconds an operation into the unit, 0 counts as 1e9 (nanoseconds).
	scale float64
	// warm operations are done before the first pair, so that buffers have grown.
	warm int
	// gather runs after the pairs, for conditions known only then.
	gather func(f *Figure)
	// between runs before each turn, outside every clock.
	between func() error
	// child is the process whose time each side is charged, with clockChild.
	child struct{ own, reference int }
	spent *time.Duration // with clockOwn
	// fixed: each turn is a single call, because the work is large.
	fixed bool
}

// mostStolen is the share of the processors from which a figure does not count.
const mostStolen = 0.10

// fewestPairs are taken however long they take.
const fewestPairs = 3

// measure alternates both sides and fills the trial's figure. With patience, which is
// 0 for as long as it takes, there are fewer pairs when the time is over.
func (o *Options) measure(
	ctx context.Context, t *trial, patience time.Duration,
) (err error) {
	f, began := &t.figure, time.Now()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := o.warmUp(t); err != nil {
		return err
	}
	own, err := o.calibrate(t, t.own)
	if err != nil {
		return err
	}
	reference := 0
	if t.reference != nil {
		if reference, err = o.calibrate(t, t.reference); err != nil {
			return err
		}
	}
	stop, err := o.profile(f)
	if err != nil {
		return err
	}
	defer func() {
		if e := stop(); err == nil {
			err = e
		}
	}()
	before, _ := machine.Now() // without it nothing is known to be stolen
	switched := switches()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	gcs := memory.NumGC
	least := math.Inf(1)
	for i := range o.Pairs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if patience > 0 && i >= fewestPairs && time.Since(began) > patience {
			t.note("pairs", fmt.Sprintf("%d of %d, then the time was over", i, o.Pairs))
			break
		}
		p, allocs, err := t.pair(i, own, reference)
		if err != nil {
			return err
		}
		least = min(least, allocs)
		f.Pairs = append(f.Pairs, p)
	}
	runtime.ReadMemStats(&memory)
	f.GCs = memory.NumGC - gcs
	f.Switches = switches() - switched
	f.Allocs = &least
	after, _ := machine.Now()
	f.Stolen, _, _ = after.Since(before)
	if f.Stolen > mostStolen {
		f.Missing = fmt.Sprintf("%.0f %% of the processors were taken by others", 100*f.Stolen)
	}
	if t.gather != nil {
		t.gather(f)
	}
	return nil
}

// note adds a condition to the figure.
func (t *trial) note(name, text string) {
	if t.figure.Conditions == nil {
		t.figure.Conditions = map[string]string{}
	}
	t.figure.Conditions[name] = text
}

// pair takes both sides in turn; the i-th pair begins with the other one than the
// pair before, so that neither always has the warmer machine.
func (t *trial) pair(i, own, reference int) (p Pair, allocs float64, err error) {
	turns := []func() error{
		func() (err error) {
			p.Own, p.OwnWall, allocs, err = t.turn(t.own, own, t.child.own)
			return err
		},
		func() (err error) {
			if t.reference != nil {
				p.Reference, p.ReferenceWall, _, err = t.turn(t.reference, reference, t.child.reference)
			}
			return err
		},
	}
	if i%2 == 1 {
		turns[0], turns[1] = turns[1], turns[0]
	}
	for _, turn := range turns {
		if err := turn(); err != nil {
			return p, 0, err
		}
	}
	if t.perRef > 0 {
		p.Reference, p.ReferenceWall = p.Reference*t.perRef, p.ReferenceWall*t.perRef
	}
	return p, allocs, nil
}

// warmUpTurns bounds the warm-up, in turns' lengths.
const warmUpTurns = 20

// warmUp does the operations that come before the first pair, as many as are
// done in the time of twenty turns.
func (o *Options) warmUp(t *trial) error {
	const step = 256
	began := time.Now()
	for done := 0; done < t.warm; done += step {
		if time.Since(began) > warmUpTurns*o.Window {
			t.note("warm-up", fmt.Sprintf("%d of %d operations", done, t.warm))
			return nil
		}
		if _, err := t.own(min(step, t.warm-done)); err != nil {
			return err
		}
	}
	return nil
}

// turn runs a side once: time an operation by its clock and by the wall, and
// allocations an operation of the whole process.
func (t *trial) turn(s side, n, pid int) (clock, wall, allocs float64, err error) {
	if t.between != nil {
		if err := t.between(); err != nil {
			return 0, 0, 0, err
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	busy, began := t.now(pid), time.Now()
	ops, err := s(n)
	took, used := time.Since(began), t.now(pid)-busy
	runtime.ReadMemStats(&after)
	if err != nil {
		return 0, 0, 0, err
	}
	if ops <= 0 {
		return 0, 0, 0, fmt.Errorf("%s: nothing was done in a turn", t.figure.Name)
	}
	scale := t.scale
	if scale == 0 {
		scale = 1e9
	}
	if t.clock == clockWall {
		used = took
	}
	return used.Seconds() * scale / ops, took.Seconds() * scale / ops,
		float64(after.Mallocs-before.Mallocs) / ops, nil
}

func (t *trial) now(pid int) time.Duration {
	switch t.clock {
	case clockThread:
		return threadTime()
	case clockChild:
		return childTime(pid)
	case clockOwn:
		return *t.spent
	}
	return processTime()
}

// calibrate finds how often a side works in one turn of Options.Window.
func (o *Options) calibrate(t *trial, s side) (int, error) {
	if t.fixed {
		return 1, nil
	}
	for n := 1; ; n *= 4 {
		began := time.Now()
		if _, err := s(n); err != nil {
			return 0, err
		}
		if took := time.Since(began); took >= o.Window/8 || n > 1<<28 {
			return max(int(float64(n)*float64(o.Window)/float64(max(took, 1))), 1), nil
		}
	}
}

// profile takes a processor profile of a figure's turns when a folder for them
// is given.
func (o *Options) profile(f *Figure) (stop func() error, err error) {
	if o.Profiles == "" {
		return func() error { return nil }, nil
	}
	name := strings.NewReplacer("/", "-", " ", "-").Replace(f.Name) + ".pprof"
	file, err := os.Create(filepath.Join(o.Profiles, name))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		_ = file.Close()
		return nil, err
	}
	f.Profile = name
	return func() error {
		pprof.StopCPUProfile()
		return file.Close()
	}, nil
}
