// Package seeds plays the seeds of a long test, and says how far it has come.
//
// Laws:
//  1. What is reported has happened: a run that is cut short tells what it achieved,
//     and never its goal alone.
//  2. A seed that fails is named with the command that plays it again.
//  3. A run never outlives its test: it ends before the deadline of -timeout, at the
//     budget of TACT_TIME, and at the first interrupt, after the seeds in hand.
//
// The environment says how long a run is:
//
//	TACT_EFFORT=0.1   a tenth of the full length; unset: the short length
//	TACT_SEED=70001   begin there; without TACT_EFFORT play this seed alone
//	TACT_TIME=20m     end after this time, whatever is left
//	TACT_REPORT=file  append every line of progress to a file too
//
// Only tests import it. It costs a clock reading a seed.
package seeds

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// every is the time between two lines of progress; spare is left of the test's
// deadline for the seeds in hand.
const (
	every = 10 * time.Second
	spare = 30 * time.Second
)

const interrupted = "interrupted"

// errEnded is the fault of a seed that ended its test by itself.
var errEnded = errors.New("it ended the test")

// T is the test that plays: a *testing.T.
type T interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Failed() bool
	Name() string
	Deadline() (time.Time, bool)
}

// A Run is what a test plays.
type Run struct {
	Name    string // of the simulation, in reports
	Unit    string // what Full and Few count; "" is seeds
	Full    uint64 // length at TACT_EFFORT=1
	Few     uint64 // length without TACT_EFFORT
	First   uint64 // first seed without TACT_SEED
	Workers int    // seeds at a time; 0 is 1
	// Counts tells what has happened in the seeds so far, for reports; nil = nothing.
	// It is called from any goroutine, by one at a time.
	Counts func() string
}

// Result is what a run came to.
type Result struct {
	Seeds, Units uint64
	Whole        bool // the goal was reached without a fault
}

// play is a run under way.
type play struct {
	Run
	t     T
	f     func(seed uint64) (units uint64, err error)
	first uint64
	goal  uint64
	begun time.Time
	stop  time.Time // zero = never
	broke chan os.Signal

	mu     sync.Mutex
	next   uint64 // seeds begun
	seeds  uint64 // and ended
	units  uint64
	faults int
	why    string // it was cut short
	told   time.Time
}

// Play calls f with one seed after the other, Workers at a time, until the goal is
// reached, f has failed, or the run is cut short. f returns how many units the seed
// has achieved; for a run of seeds that is 1. A fault fails the test, and so does an
// interrupt; a budget that is used up does not. One worker plays in the goroutine of
// the test, and its f may end the test by itself.
func (r Run) Play(t T, f func(seed uint64) (units uint64, err error)) Result {
	t.Helper()
	p := &play{Run: r, t: t, f: f, begun: time.Now(), broke: make(chan os.Signal, 1)}
	p.told = p.begun
	if err := p.plan(); err != nil {
		t.Errorf("%v", err)
		return Result{}
	}
	signal.Notify(p.broke, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(p.broke)
	defer p.end()
	if p.Workers <= 1 {
		p.work()
	} else {
		var all sync.WaitGroup
		for range p.Workers {
			all.Go(p.work)
		}
		all.Wait()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return Result{
		Seeds: p.seeds, Units: p.units, Whole: p.units >= p.goal && p.faults == 0 && !t.Failed(),
	}
}

// end tells what was achieved, also when f has ended the test.
func (p *play) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next > p.seeds {
		p.faultLocked(p.first+p.next-1, errEnded)
	}
	p.tellLocked()
	if p.why == interrupted {
		p.t.Errorf("%s", interrupted)
	}
}

// plan reads the environment.
func (p *play) plan() error {
	p.first, p.goal, p.Unit = p.First, p.Few, cmp.Or(p.Unit, "seeds")
	effort := os.Getenv("TACT_EFFORT")
	if effort != "" {
		x, err := strconv.ParseFloat(effort, 64)
		if err != nil || x < 0 {
			return fmt.Errorf("TACT_EFFORT=%s: want a share, as 0.1", effort)
		}
		p.goal = max(uint64(float64(p.Full)*x), 1)
	}
	if v := os.Getenv("TACT_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return fmt.Errorf("TACT_SEED=%s: want a number", v)
		}
		p.first = n
		if effort == "" {
			p.goal, p.Workers = 1, 1
		}
	}
	if at, ok := p.t.Deadline(); ok {
		p.stop = at.Add(-spare)
	}
	if v := os.Getenv("TACT_TIME"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("TACT_TIME=%s: want a duration, as 20m", v)
		}
		if at := p.begun.Add(d); p.stop.IsZero() || at.Before(p.stop) {
			p.stop = at
		}
	}
	return nil
}

// work plays seeds until there are none.
func (p *play) work() {
	for {
		seed, ok := p.take()
		if !ok {
			return
		}
		units, err := p.f(seed)
		p.done(seed, units, err)
	}
}

// take gives the next seed to play.
func (p *play) take() (seed uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.broke:
		p.why = interrupted
	default:
	}
	// Of seeds it is known how many are in hand; of other units it is not.
	inHand := uint64(0)
	if p.Unit == "seeds" {
		inHand = p.next - p.seeds
	}
	switch {
	case p.units+inHand >= p.goal, p.faults > 0, p.why != "", p.t.Failed():
		return 0, false
	case !p.stop.IsZero() && time.Now().After(p.stop):
		p.why = "cut short, its time is over"
		return 0, false
	}
	p.next++
	return p.first + p.next - 1, true
}

func (p *play) done(seed, units uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seeds, p.units = p.seeds+1, p.units+units
	if err != nil {
		p.faultLocked(seed, err)
	}
	if time.Since(p.told) > every {
		p.tellLocked()
	}
}

func (p *play) faultLocked(seed uint64, err error) {
	p.faults++
	p.t.Errorf("seed %d: %v\nagain: TACT_SEED=%d go test -run '^%s$'", seed, err, seed, p.t.Name())
}

// tellLocked writes a line of progress.
func (p *play) tellLocked() {
	p.told = time.Now()
	line := fmt.Sprintf("%s: %d of %d %s done, first seed %d, %d faults, %.0f s", p.Name, p.units,
		p.goal, p.Unit, p.first, p.faults, time.Since(p.begun).Seconds())
	if p.Unit != "seeds" {
		line += fmt.Sprintf(", %d seeds", p.seeds)
	}
	if p.why != "" && p.units < p.goal {
		line += ", " + p.why
	}
	if p.Counts != nil {
		line += ": " + p.Counts()
	}
	p.t.Logf("%s", line)
	path := os.Getenv("TACT_REPORT")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(line + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		p.t.Errorf("TACT_REPORT: %v", err)
	}
}
