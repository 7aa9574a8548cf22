package loadtest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// verdict is what one step of a search came to.
type verdict string

const (
	passed verdict = "passed"
	failed verdict = "failed"
	voided verdict = "void" // the generator or the machine, not the server
)

// Rules of a step.
const (
	stepWindows   = 5
	windowsToMeet = 4     // of stepWindows must meet the SLO
	failuresInSLO = 0.001 // greatest share of requests without a 2xx in such a window
	queueGrowth   = 1.1   // requests under way at the end over those at the start
	startOfSearch = 0.3   // of the saturation
	kneeOfP99     = 2.0   // times the p99 at startOfSearch
	mostSteps     = 60
	voidsInARow   = 3 // void steps of one rate that end a search
)

// judge says whether a step held the SLO: in four of five windows, with next to
// no failures, and without a queue that grows.
func (t *tally) judge(s SLO, connections int) (v verdict, why string) {
	if faults := t.faults(); len(faults) > 0 {
		return voided, faults[0]
	}
	met := 0
	for _, w := range t.windows {
		n := w.latency.TotalCount()
		if n > 0 && float64(w.failed) <= failuresInSLO*float64(n) &&
			w.latency.ValueAtPercentile(s.Percentile) < int64(s.Below) {
			met++
		}
	}
	if met*stepWindows < windowsToMeet*len(t.windows) {
		return failed, fmt.Sprintf("%s held in %d of %d windows", s, met, len(t.windows))
	}
	// The first window starts with nothing under way; the noise of a few
	// connections is no queue.
	if n := len(t.open); n > 2 {
		start, end := float64(t.open[1]), float64(t.open[n-1])
		if end > queueGrowth*start+float64(connections)/4+8 {
			return failed, fmt.Sprintf("the queue grew from %.0f to %.0f", start, end)
		}
	}
	return passed, ""
}

// climb says how a search goes: up from start by growth until a step fails, then
// between the two by bisection of their logarithms. Bisect false ends at the
// first failure.
type climb struct {
	start, growth, within float64
	bisect                bool
}

// found is what a climb came to: the highest rate that passed, 0 for none, and
// why it ended. void says that steps could not be measured, so that best is no
// more than a lower bound.
type found struct {
	best float64
	end  string
	void bool
}

// run probes rates. probe gives ok = false when there is no room for a step.
func (c climb) run(
	probe func(rate float64) (v verdict, ok bool, err error),
) (f found, err error) {
	best := 0.0
	lowest := math.Inf(1) // that failed
	rate := c.start
	voids := 0
	for range mostSteps {
		v, ok, err := probe(rate)
		switch {
		case err != nil:
			return found{best, "cut short: a lower bound", true}, err
		case !ok:
			return found{best, "the hard maximum of time or requests was reached: a lower bound", false}, nil
		case v == voided:
			if voids++; voids == voidsInARow {
				return found{best, fmt.Sprintf("steps at %.0f/s were void: a lower bound", rate), true}, nil
			}
			continue
		case v == passed:
			best = rate
		default:
			lowest = rate
		}
		voids = 0
		switch {
		case math.IsInf(lowest, 1):
			rate *= c.growth
		case !c.bisect && best > 0:
			return found{best, "the next step failed", false}, nil
		case best == 0:
			if rate /= c.growth * c.growth; rate < c.start/1000 || rate < 1 {
				return found{0, "no rate passed", false}, nil
			}
		case lowest/best <= 1+c.within:
			return found{best, fmt.Sprintf("%.0f/s failed", lowest), false}, nil
		default:
			rate = math.Sqrt(best * lowest)
		}
	}
	return found{best, fmt.Sprintf("%d steps were made: a lower bound", mostSteps), false}, nil
}

// search finds the curve of latency over rate, and for mode search the highest
// rate under the SLO.
func (r *runner) search(ctx context.Context) error {
	if err := r.warmUp(ctx, max(r.o.Rate, 100)); err != nil {
		return err
	}
	sat, err := r.saturate(ctx, r.o.Step)
	if err != nil {
		return err
	}
	s := &SearchResult{SLO: r.o.SLO.String(), Saturation: sat.perSecond(sat.good2xx())}
	r.doc.Search = s
	if s.Saturation == 0 {
		s.End = noneGood
		return nil // the result says that it is void
	}
	c := climb{r.o.Rate, r.o.Growth, r.o.Within, r.o.Mode == Search}
	if c.start == 0 {
		c.start = max(startOfSearch*s.Saturation, 1)
	}
	f, err := c.run(func(rate float64) (verdict, bool, error) {
		if !r.room(rate, r.o.Step) {
			return "", false, nil
		}
		ph := r.phase(r.pool, rate, r.o.Step)
		ph.windows = stepWindows
		t, err := r.run(ctx, ph)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return "", false, err
		}
		v, why := t.judge(r.o.SLO, r.o.Connections)
		run := r.doc.add(fmt.Sprintf("%.0f/s", rate), rate, t)
		run.Verdict, run.Why = string(v), why
		r.say("%8.0f/s  p50 %-9s p99 %-9s p99.9 %-9s %s %s", rate, short(run.Latency.P50),
			short(run.Latency.P99), short(run.Latency.P999), v, why)
		return v, true, nil
	})
	s.Best, s.End, s.Void = f.best, f.end, f.void
	s.Knee = knee(r.doc.Runs, s.Saturation)
	if s.Saturation > 0 {
		s.OfSaturation = s.Best / s.Saturation
	}
	r.say("highest rate under %s: %.0f/s (%.0f %% of saturation); %s", s.SLO, s.Best,
		100*s.OfSaturation, s.End)
	return err
}

// knee is the rate at which p99 is twice that of the step nearest to 30 % of the
// saturation, between steps by straight lines; 0 where no step is that slow.
// Void steps and saturation itself do not count.
func knee(runs []*Run, saturation float64) float64 {
	var curve []*Run
	for _, run := range runs {
		if run.Rate > 0 && run.Verdict != string(voided) {
			curve = append(curve, run)
		}
	}
	if len(curve) == 0 {
		return 0
	}
	slices.SortFunc(curve, func(a, b *Run) int {
		switch {
		case a.Rate < b.Rate:
			return -1
		case a.Rate > b.Rate:
			return 1
		}
		return 0
	})
	base := 0
	distance := func(run *Run) float64 { return math.Abs(run.Rate - startOfSearch*saturation) }
	for i, run := range curve {
		if distance(run) < distance(curve[base]) {
			base = i
		}
	}
	limit := kneeOfP99 * float64(curve[base].Latency.P99)
	for i := base + 1; i < len(curve); i++ {
		lo, hi := float64(curve[i-1].Latency.P99), float64(curve[i].Latency.P99)
		if hi >= limit {
			return curve[i-1].Rate + (curve[i].Rate-curve[i-1].Rate)*max(limit-lo, 0)/max(hi-lo, 1)
		}
	}
	return 0
}

// Overload: what follows each multiple.
const (
	recoveryLoad    = 0.5 // of the capacity
	recoveryWindows = 50
	recoveryFailed  = 0.01 // share of failures in a window that has recovered
)

// overload measures goodput at multiples of the capacity and how long the server
// needs afterwards.
func (r *runner) overload(ctx context.Context) error {
	if err := r.warmUp(ctx, max(r.o.Rate, 100)); err != nil {
		return err
	}
	capacity := r.o.Capacity
	if capacity == 0 {
		t, err := r.saturate(ctx, r.o.Step)
		if err != nil {
			return err
		}
		if capacity = t.perSecond(t.good2xx()); capacity == 0 {
			r.doc.Overload = &OverloadResult{End: noneGood}
			return nil // the result says that it is void
		}
	}
	r.doc.Overload = &OverloadResult{Capacity: capacity}
	for _, times := range r.o.Multiple {
		if !r.room(times*capacity, 2*r.o.Step) {
			r.doc.Overload.End = "the hard maximum of time or requests was reached"
			break
		}
		t, err := r.run(ctx, r.phase(r.pool, times*capacity, r.o.Step))
		if err != nil {
			return err
		}
		// Goodput and recovery count what came within the bound: that is what a late
		// generator could spoil.
		t.bound = r.o.bound()
		r.doc.add(fmt.Sprintf("%g× capacity", times), times*capacity, t)
		ph := r.phase(r.pool, recoveryLoad*capacity, r.o.Step)
		ph.windows = recoveryWindows
		after, err := r.run(ctx, ph)
		if err != nil {
			return err
		}
		after.bound = r.o.bound()
		r.doc.add(fmt.Sprintf("after %g×", times), recoveryLoad*capacity, after)
		row := OverloadRow{
			Times: times, Goodput: t.perSecond(t.good), Refused: t.refused.TotalCount(),
			NeverAnswered: t.timeouts + t.broken, RecoveryNanos: int64(after.recovery(ph.bound)),
		}
		row.OfCapacity = row.Goodput / (capacity * min(times, 1))
		row.Recovered = row.RecoveryNanos < int64(r.o.Step)
		r.doc.Overload.Rows = append(r.doc.Overload.Rows, row)
		r.say("%5.4g× capacity: goodput %.0f/s = %.0f %%, recovered in %s", times, row.Goodput,
			100*row.OfCapacity, short(row.RecoveryNanos))
		if ctx.Err() != nil {
			r.doc.Overload.End = "cut short"
			return ctx.Err()
		}
	}
	return nil
}

// noneGood ends what needs to know how much the server can answer.
const noneGood = "no reply of the saturation was good"

// recovery is the end of the last window that was not as it should be: with p99
// above the bound, or with failures.
func (t *tally) recovery(bound time.Duration) time.Duration {
	last := -1
	for i, w := range t.windows {
		n := w.latency.TotalCount() + w.failed
		if n > 0 && (float64(w.failed) > recoveryFailed*float64(n) ||
			w.latency.ValueAtPercentile(99) > int64(bound)) {
			last = i
		}
	}
	return t.span * time.Duration(last+1) / time.Duration(max(len(t.windows), 1))
}

// good2xx counts the replies of status 2xx, however late.
func (t *tally) good2xx() int64 {
	n := int64(0)
	for status, count := range t.status {
		if status >= 200 && status <= 299 {
			n += count
		}
	}
	return n
}
