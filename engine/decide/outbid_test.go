package decide

import (
	"math"
	"math/rand/v2"
	"testing"
)

// A candidate that outbid passes over scores less than the best, by the very
// product that Pick computes, however near the two are.
func TestOutbidNeverPassesOverABetterOne(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	factor := func() float64 { // over the whole range of ordinary ones
		return math.Pow(10, -60+120*random.Float64()) * random.Float64()
	}
	p := &Plan{Offers: make([]Offer, 1), scored: 1}
	passed := 0
	for range 300_000 {
		f := factors{context: factor(), value: factor(), lever: factor()}
		if !ordinary(f.context) || !ordinary(f.value) || !ordinary(f.lever) {
			continue
		}
		propensity := random.Float64()
		if random.IntN(4) == 0 {
			propensity = math.Pow(10, -70*random.Float64())
		}
		c := candidate{bound: f.product(1, f.context, f.lever)}
		score := f.product(propensity, f.context, f.lever)
		best := score
		for range random.IntN(3) { // a few steps away, up or down
			best = math.Nextafter(best, math.Inf(2*random.IntN(2)-1))
		}
		if random.IntN(2) == 0 {
			best = score * (1 + math.Pow(10, -14+4*random.Float64()))
		}
		r := run{p: p, out: new(Result)}
		w := &r.out.work
		w.scored, w.scoredSet = []float64{propensity}, newBitset(1)
		w.scoredSet.add(0)
		if r.outbid(&c, best) {
			passed++
			if score >= best {
				t.Fatalf("a score of %g is passed over for %g: %+v × %g", score, best, f, propensity)
			}
		}
	}
	if passed < 1000 {
		t.Fatalf("only %d were passed over", passed)
	}
}
