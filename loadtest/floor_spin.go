package loadtest

import (
	"math"
	"time"
)

// spinner uses the processor for a known time: so many steps of a generator of
// random numbers (xorshift64), by the quickest of a few stretches of them. It takes
// that much processor time whatever else the machine does.
type spinner struct{ steps int }

const (
	spinStretch   = 100_000 // steps
	spinStretches = 50
)

func newSpinner(d time.Duration) spinner {
	if d <= 0 {
		return spinner{}
	}
	best := math.Inf(1)
	for range spinStretches {
		began := time.Now()
		if (spinner{spinStretch}).spin() == 0 { // which it never is
			continue
		}
		best = min(best, float64(time.Since(began)))
	}
	return spinner{int(float64(d) / best * spinStretch)}
}

// spin gives the last number, so that the work is not left out.
func (s spinner) spin() uint64 {
	x := uint64(88172645463325252) // any but 0
	for range s.steps {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}
