package bench

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"tact/engine"
)

// noSession says why a share of decisions in an open session is not given.
const noSession = "none: dry runs, which open no session"

// loader takes events in, batch after batch, until stop is called, which returns what
// went wrong.
func (w *world) loader() (stop func() error) {
	source := w.newEvents(3)
	var end atomic.Bool
	var loader sync.WaitGroup
	var failed error
	loader.Go(func() {
		for !end.Load() && failed == nil {
			_, failed = w.ingest(source, ingestBatch)
		}
	})
	return func() error {
		end.Store(true)
		loader.Wait()
		return failed
	}
}

// underIngest measures decisions, by thread time, with and without a batch loader
// beside them.
func underIngest(w *world) (*trial, error) {
	d := decideTrial{shown: catalogue{offers: 1000, placements: 16}}
	if err := w.publish(d.shown); err != nil {
		return nil, err
	}
	set := d.requests(w, w.cold())
	quiet := decider(w.engine, set)
	t := &trial{clock: clockThread, warm: 2 * w.cold(), figure: Figure{
		Unit: "ns", Reference: "the same without ingest",
		Conditions: map[string]string{"people": strconv.Itoa(w.options.Users), "loaders": "1"},
	}}
	t.own = func(n int) (float64, error) {
		stop := w.loader()
		ops, err := quiet(n)
		return ops, errors.Join(err, stop())
	}
	t.reference = quiet
	return t, nil
}

// latenciesMax bounds the decisions of one turn whose times are kept: 16 MiB.
const latenciesMax = 4 << 20

// latencyUnderIngest measures the p99 of decisions by the wall, one after the other from
// one caller that is not bound to a thread, with and without a batch loader beside it.
func latencyUnderIngest(w *world) (*trial, error) {
	d := decideTrial{shown: catalogue{offers: 1000, placements: 16}}
	if err := w.publish(d.shown); err != nil {
		return nil, err
	}
	caller := timedCaller{
		engine: w.engine, set: d.requests(w, w.cold()), times: make([]uint32, 0, latenciesMax),
		window: w.options.Window,
	}
	var with, without percentiles
	t := &trial{
		clock: clockOwn, spent: &caller.p99, scale: 1e6, fixed: true, warm: 1,
		figure: Figure{
			Unit: "µs", Reference: "the same without ingest",
			Target: &Target{"P12: p99 ≤ 1.5 × idle", 1.5},
			Conditions: map[string]string{
				"people": strconv.Itoa(w.options.Users), "loaders": "1", "callers": "1",
				"counted": "the p99 of each turn, by the wall", "in an open session": noSession,
			},
		},
	}
	if _, err := decider(w.engine, caller.set)(len(caller.set)); err != nil {
		return nil, err
	}
	t.own = func(int) (float64, error) {
		stop := w.loader()
		err := caller.turn(&with)
		return 1, errors.Join(err, stop())
	}
	t.reference = func(int) (float64, error) { return 1, caller.turn(&without) }
	t.gather = func(f *Figure) {
		f.Conditions["medians of the turns, µs"] = fmt.Sprintf("with ingest %s; without %s",
			&with, &without)
	}
	return t, nil
}

// timedCaller makes decisions and takes the time of each.
type timedCaller struct {
	engine *engine.Engine
	set    []engine.DecideRequest
	at     int
	times  []uint32 // of the turn, ns
	window time.Duration
	p99    time.Duration // of all turns added up
}

// turn decides for the length of a window.
func (c *timedCaller) turn(all *percentiles) error {
	done := make(chan error)
	go func() { done <- c.decide() }()
	if err := <-done; err != nil {
		return err
	}
	slices.Sort(c.times)
	for i, share := range percentileShares() {
		at := c.times[min(len(c.times)-1, int(share*float64(len(c.times))))]
		all[i] = append(all[i], time.Duration(at))
	}
	c.p99 += all[1][len(all[1])-1]
	return nil
}

func (c *timedCaller) decide() error {
	c.times = c.times[:0]
	d := new(engine.Decision)
	began := time.Now()
	for now := began; now.Sub(began) < c.window && len(c.times) < latenciesMax; {
		if err := c.engine.Decide(&c.set[c.at], d); err != nil {
			return err
		}
		if c.at++; c.at == len(c.set) {
			c.at = 0
		}
		end := time.Now()
		c.times = append(c.times, uint32(min(end.Sub(now), 1<<32-1)))
		now = end
	}
	return nil
}

// percentiles are those of percentileShares, one a turn.
type percentiles [3][]time.Duration

func percentileShares() [3]float64 { return [...]float64{0.5, 0.99, 0.999} }

// String gives the middle of the turns of each.
func (p *percentiles) String() string {
	var middle [len(p)]float64
	for i, turns := range p {
		sorted := slices.Sorted(slices.Values(turns))
		middle[i] = float64(sorted[len(sorted)/2]) / 1e3
	}
	return fmt.Sprintf("p50 %.2f, p99 %.2f, p99.9 %.2f", middle[0], middle[1], middle[2])
}
