package loadtest

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// The search finds an injected capacity from both sides, to its precision, and
// never calls a rate good that did not pass.
func TestClimb(t *testing.T) {
	f := func(capacity, start, within float64, most int) {
		t.Helper()
		probes, highest := 0, 0.0
		c := climb{start, 1.3, within, true}
		found, err := c.run(func(rate float64) (verdict, bool, error) {
			probes++
			if rate <= capacity {
				highest = max(highest, rate)
				return passed, true, nil
			}
			return failed, true, nil
		})
		best, end := found.best, found.end
		if err != nil || best != highest || best > capacity || best < capacity/(1+within) {
			t.Errorf("best %v of %v (%s), highest that passed %v: %v", best, capacity, end, highest, err)
		}
		if probes > most {
			t.Errorf("capacity %v: %d probes", capacity, probes)
		}
	}
	f(10_000, 3000, 0.03, 12)
	f(10_000, 3000, 0.001, 20)
	f(10_000, 10_000, 0.03, 12)
	f(777, 3000, 0.03, 16)
	f(1e6, 100, 0.05, 45)
}

func TestClimbEnds(t *testing.T) {
	f := func(c climb, v verdict, ok bool, best float64, end string) {
		t.Helper()
		found, err := c.run(func(float64) (verdict, bool, error) { return v, ok, nil })
		got, why := found.best, found.end
		if found.void != (v == voided) {
			t.Errorf("%s: void is %v", v, found.void)
		}
		if err != nil || math.Abs(got-best) > 1e-9*best || !strings.Contains(why, end) {
			t.Errorf("best %v (%s), want %v (%s): %v", got, why, best, end, err)
		}
	}
	c := climb{1000, 1.3, 0.03, true}
	f(c, failed, true, 0, "no rate passed")
	f(c, voided, true, 0, "void")
	f(c, passed, false, 0, "hard maximum")
	f(c, passed, true, 1000*math.Pow(1.3, mostSteps-1), "lower bound")
	c.bisect = false
	f(c, failed, true, 0, "no rate passed")
	fault := errors.New("x")
	if _, err := c.run(func(float64) (verdict, bool, error) { return "", false, fault }); err != fault {
		t.Errorf("error %v", err)
	}
}

// healthy is a tally in which nothing is wrong.
func healthy() *tally {
	t := newTally()
	t.windows, t.open = newWindows(stepWindows), make([]int64, stepWindows)
	t.span, t.took, t.stolen = time.Second, time.Second, 0
	for i := range 1000 {
		d := time.Duration(i+1) * time.Microsecond
		record(t.latency, d)
		record(t.lateness, 10*time.Microsecond)
		_ = t.windows[i%stepWindows].latency.RecordValue(int64(d))
	}
	t.intended, t.issued, t.answered, t.good = 1000, 1000, 1000, 1000
	t.status[200] = 1000
	return t
}

func TestJudge(t *testing.T) {
	f := func(want verdict, change func(t *tally)) {
		t.Helper()
		y := healthy()
		change(y)
		if got, why := y.judge(SLO{99, 2 * time.Millisecond}, 16); got != want {
			t.Errorf("%s (%s), want %s", got, why, want)
		}
	}
	slow := func(t *tally, windows int) {
		for i := range windows {
			for range 10 {
				_ = t.windows[i].latency.RecordValue(int64(time.Second))
			}
		}
	}
	f(passed, func(*tally) {})
	f(passed, func(t *tally) { slow(t, 1) })
	f(failed, func(t *tally) { slow(t, 2) })
	f(passed, func(t *tally) { t.windows[0].failed = 100 })
	f(failed, func(t *tally) { t.windows[0].failed, t.windows[3].failed = 1, 1 })
	f(passed, func(t *tally) { t.open = []int64{0, 10, 12, 9, 14} })
	f(failed, func(t *tally) { t.open = []int64{0, 10, 20, 30, 40} })
	f(voided, func(t *tally) { t.stolen = 0.11 })
}

// A generator that starves, or whose machine was taken away, voids its result.
func TestHealthVoids(t *testing.T) {
	f := func(want string, change func(t *tally)) {
		t.Helper()
		y := healthy()
		change(y)
		faults := y.faults()
		if want == "" && len(faults) == 0 {
			return
		}
		if len(faults) != 1 || want == "" || !strings.Contains(faults[0], want) {
			t.Errorf("faults %q, want %q", faults, want)
		}
	}
	f("", func(*tally) {})
	f("", func(t *tally) { t.stolen = 0.10 })
	f("", func(t *tally) { t.issued = 990 })
	f("", func(t *tally) { t.stolen = -1 })
	f("other machines took", func(t *tally) { t.stolen = 0.101 })
	f("did not keep up", func(t *tally) { t.issued = 989 })
	f("did not keep up", func(t *tally) { t.took = 1100 * time.Millisecond })
	late := func(bound time.Duration) func(t *tally) {
		return func(t *tally) {
			t.bound = bound
			for range 20 {
				record(t.lateness, 150*time.Microsecond)
			}
		}
	}
	f("sent late", late(0))
	f("", late(2*time.Millisecond))
	f("sent late", late(time.Millisecond))
	f("", func(t *tally) { // the closed loop has no rate to keep
		t.closed, t.intended, t.lateness = true, 5000, newHistogram()
	})
	f("nothing was asked", func(t *tally) { t.answered, t.latency = 0, newHistogram() })
}

func TestKneeAndFlatAndDrift(t *testing.T) {
	at := func(rate float64, p99 int64) *Run {
		return &Run{Rate: rate, Latency: Distribution{P99: p99}, Verdict: "passed"}
	}
	curve := []*Run{at(800, 400), at(300, 100), at(600, 120), {Latency: Distribution{P99: 9000}}}
	// p99 at 300/s is 100; 200 is met between 600 (120) and 800 (400).
	if got, want := knee(curve, 1000), 600+200*80.0/280; math.Abs(got-want) > 1e-9 {
		t.Errorf("knee %v, want %v", got, want)
	}
	if got := knee(curve[1:3], 1000); got != 0 {
		t.Errorf("knee %v of a flat curve", got)
	}
	if !flat([]int64{900, 100, 105, 95}) || flat([]int64{100, 105, 120}) || flat([]int64{100, 100}) {
		t.Error("flat")
	}
	y := newTally()
	y.windows = newWindows(8)
	for i := range y.windows {
		_ = y.windows[i].latency.RecordValue(int64(1000 * (1 + i/4)))
	}
	if got := drift(y); math.Abs(got-2) > 0.01 {
		t.Errorf("drift %v, want 2", got)
	}
	y = newTally()
	y.windows, y.span = newWindows(10), 10*time.Second
	for i := range y.windows {
		_ = y.windows[i].latency.RecordValue(1000)
	}
	if got := y.recovery(time.Millisecond); got != 0 {
		t.Errorf("recovery %v", got)
	}
	y.windows[3].failed = 1
	if got := y.recovery(time.Millisecond); got != 4*time.Second {
		t.Errorf("recovery %v, want 4 s", got)
	}
}

// A server that answers one request in 2 ms, one after another, holds about
// 500/s: the search ends within a wide margin of it, or says that the machine
// did not let it measure.
func TestSearchFindsInjectedCapacity(t *testing.T) {
	turn := make(chan struct{}, 1)
	address := serve(t, func(ctx *fasthttp.RequestCtx) {
		turn <- struct{}{}
		time.Sleep(2 * time.Millisecond)
		<-turn
		fine(ctx)
	})
	o := quick(address)
	o.Mode, o.Rate, o.SLO, o.Within = Search, 100, SLO{90, 60 * time.Millisecond}, 0.3
	o.Growth, o.Connections = 2, 32
	r := perform(t, o)
	s := r.Search
	if s == nil || s.Saturation < 50 || s.Saturation > 600 {
		t.Fatalf("%+v", s)
	}
	for _, run := range r.Runs {
		if run.Verdict == string(passed) && run.Rate > 1000 {
			t.Errorf("%v/s passed with a capacity of 500/s", run.Rate)
		}
	}
	if s.Void != (len(r.Void) > 0) {
		t.Errorf("void %v, result %q", s.Void, r.Void)
	}
	if s.Void {
		t.Skipf("not measured: %s", s.End)
	}
	if s.Best > 1000 {
		t.Errorf("best %v (%s)", s.Best, s.End)
	}
}

// Beyond its capacity a server that refuses keeps its goodput.
func TestOverload(t *testing.T) {
	slots := make(chan struct{}, 4)
	address := serve(t, func(ctx *fasthttp.RequestCtx) {
		select {
		case slots <- struct{}{}:
			time.Sleep(10 * time.Millisecond)
			<-slots
			fine(ctx)
		default:
			ctx.SetStatusCode(429)
		}
	})
	o := quick(address)
	o.Mode, o.Capacity, o.Multiple, o.Connections = Overload, 200, []float64{0.25, 5}, 64
	r := perform(t, o)
	if r.Overload == nil || len(r.Overload.Rows) != 2 {
		t.Fatalf("%+v", r.Overload)
	}
	low, high := r.Overload.Rows[0], r.Overload.Rows[1]
	if low.Refused > 2 || high.Refused < 20 || high.NeverAnswered != 0 || high.Goodput < 20 {
		t.Errorf("%+v", r.Overload.Rows)
	}
}
