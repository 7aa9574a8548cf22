package loadtest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// ErrMerge reports results that are not the shares of one test.
var ErrMerge = errors.New("not shares of one test")

// Merge adds the results of processes that shared one test: counts and
// histograms are the sums. The merged result is void if a share of it is, or if
// a share is missing.
//
// Errors: ErrMerge when plans differ or a share comes twice.
func Merge(results []*Result) (*Result, error) {
	if len(results) == 0 {
		return nil, fmt.Errorf("%w: none given", ErrMerge)
	}
	first := results[0]
	merged := *first
	merged.Runs, merged.Shares, merged.Void = []*Run{}, nil, []string{}
	merged.WarmUp, merged.Slow, merged.Drift = nil, nil, 0
	sum := newTally()
	rate := 0.0
	var void []string
	for i, r := range results {
		run, err := r.shared(first)
		if err != nil {
			return nil, fmt.Errorf("result %d: %w", i+1, err)
		}
		share := r.Shares[0]
		if slices.Contains(merged.Shares, share) {
			return nil, fmt.Errorf("%w: share %d/%d comes twice", ErrMerge, share.Index, share.Of)
		}
		merged.Shares = append(merged.Shares, share)
		t, err := run.tally()
		if err != nil {
			return nil, fmt.Errorf("result %d: %w", i+1, err)
		}
		sum.merge(t, true)
		rate = run.Rate
		for _, why := range run.Void {
			void = append(void, fmt.Sprintf("share %d/%d: %s", share.Index, share.Of, why))
		}
		if r.Started.Before(merged.Started) {
			merged.Started = r.Started
		}
	}
	run := merged.add("measured", rate, sum)
	run.Void = append(void, run.Void...)
	if n := merged.Shares[0].Of; len(merged.Shares) < n {
		run.Void = append(run.Void, fmt.Sprintf("%d of %d shares are missing",
			n-len(merged.Shares), n))
	}
	slices.SortFunc(merged.Shares, func(a, b Share) int { return a.Index - b.Index })
	if merged.Plan.Mode == Soak {
		merged.Drift = drift(sum)
	}
	merged.conclude()
	return &merged, nil
}

// shared gives the one run of a share, if it is of the same test as another.
func (r *Result) shared(other *Result) (*Run, error) {
	switch {
	case len(r.Shares) != 1 || r.Shares[0].validate() != nil || r.Shares[0].Of == 0:
		return nil, fmt.Errorf("%w: it has no share", ErrMerge)
	case r.Shares[0].Of != other.Shares[0].Of:
		return nil, fmt.Errorf("%w: of %d and of %d shares", ErrMerge, r.Shares[0].Of,
			other.Shares[0].Of)
	case len(r.Runs) != 1:
		return nil, fmt.Errorf("%w: %d runs", ErrMerge, len(r.Runs))
	case !reflect.DeepEqual(r.Plan, other.Plan):
		return nil, fmt.Errorf("%w: plans differ", ErrMerge)
	}
	return r.Runs[0], nil
}
