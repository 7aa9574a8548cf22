package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"time"

	"tact/bench/synth"
	"tact/engine"
)

// How a round of decisions is sized.
const (
	rounds         = 7
	decisionsRound = 200_000
	askedFor       = 1 << 16 // distinct requests of a cold round
)

func cancelNever() context.Context { return context.Background() }

// placements are those of the catalogue, without the one whose offers use a cap.
const freePlacements = 15

// requests makes live requests of people drawn at random.
func (o *options) requests(n, people int) []engine.DecideRequest {
	random := rand.New(rand.NewPCG(1, 2))
	out := make([]engine.DecideRequest, n)
	for i := range out {
		out[i].UserID = synth.AppendUserID(nil, random.IntN(people))
		out[i].Placements = []engine.PlacementAsk{{
			Key: []byte("p"), PlacementID: placementID(random, o.caps),
		}}
	}
	return out
}

// placementID draws a placement; with caps one in sixteen uses a cap.
func placementID(random *rand.Rand, caps bool) []byte {
	if caps && random.IntN(freePlacements+1) == 0 {
		return []byte(synth.CapPlacement)
	}
	return strconv.AppendInt([]byte("place_"), int64(1+random.IntN(freePlacements)), 10)
}

// dry makes the requests dry runs: no record is written, so that nothing works
// in the background and allocations are those of the decision alone.
func dry(set []engine.DecideRequest) []engine.DecideRequest {
	for i := range set {
		set[i].Mode = engine.ModeDryRun
	}
	return set
}

// inProcess measures the start and decisions without HTTP.
func (o *options) inProcess(t *table) (err error) {
	began := time.Now()
	e, err := o.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	var d engine.Decision
	first := o.requests(1, o.users)
	if err := e.Decide(&first[0], &d); err != nil {
		return fmt.Errorf("the first decision: %w", err)
	}
	t.add(figure{
		Name: "start-up to the first decision", Value: time.Since(began).Seconds(), Unit: "s",
		Conditions: fmt.Sprintf("%d users, files in the page cache", o.users),
	})
	conditions := fmt.Sprintf("%d users, %d offers, 16 placements", o.users, o.offers)
	if o.caps {
		conditions += ", ten caps, one live decision in 16 waits for the disk"
	}
	stop, err := o.profile()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, kind := range []struct {
		name string
		set  []engine.DecideRequest
	}{
		{"dry run, cold", dry(o.requests(askedFor, o.users))},
		{"dry run, hot", dry(o.requests(1, o.users))},
		{"live with its record, cold", o.requests(askedFor, o.users)},
		{"live with its record, hot", o.requests(1, o.users)},
	} {
		ns, allocations, err := decideRounds(e, kind.set)
		if err != nil {
			return err
		}
		t.add(figure{
			Name: "Decide, " + kind.name, Value: ns[0], Unit: "ns",
			Spread: fmt.Sprintf("rounds %.0f to %.0f", ns[0], ns[len(ns)-1]), Conditions: conditions,
		})
		t.add(figure{
			Name: "Decide, " + kind.name + ", allocations", Value: allocations, Unit: "a decision",
			Conditions: "whole process, background work included", count: true,
		})
	}
	return nil
}

// profile writes a CPU profile of the decisions when one is asked for.
func (o *options) profile() (stop func() error, err error) {
	if o.cpuProfile == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(o.cpuProfile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// decideRounds gives the nanoseconds of each round, sorted, and the least
// allocations a decision.
func decideRounds(e *engine.Engine, set []engine.DecideRequest) ([]float64, float64, error) {
	var d engine.Decision
	var ns []float64
	least := -1.0
	for i := range set { // grows every buffer
		if err := e.Decide(&set[i], &d); err != nil {
			return nil, 0, fmt.Errorf("decide: %w", err)
		}
	}
	for range rounds {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		for i := range decisionsRound {
			if err := e.Decide(&set[i%len(set)], &d); err != nil {
				return nil, 0, fmt.Errorf("decide: %w", err)
			}
		}
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		ns = append(ns, float64(took.Nanoseconds())/decisionsRound)
		a := float64(after.Mallocs-before.Mallocs) / decisionsRound
		if least < 0 || a < least {
			least = a
		}
	}
	slices.Sort(ns)
	return ns, least, nil
}
