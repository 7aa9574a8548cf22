package bench

import (
	"math"
	"math/rand/v2"
	"slices"
)

// A Change is one figure in two documents.
type Change struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	Before  float64 `json:"before"` // medians: of the ratio when there is a reference
	After   float64 `json:"after"`
	Ratio   float64 `json:"ratio"` // After / Before; 1 = no change
	Low     float64 `json:"low"`   // interval of Ratio, 95 %
	High    float64 `json:"high"`
	Verdict Verdict `json:"verdict"`
}

// Verdict says what a comparison may claim.
type Verdict string

// Verdicts.
const (
	Slower       Verdict = "slower"        // the interval lies above 1
	Faster       Verdict = "faster"        // the interval lies below 1
	NoDifference Verdict = "no difference" // the interval holds 1
	Unmeasured   Verdict = "not measured"  // in one of the two
	OnlyBefore   Verdict = "only before"
	OnlyAfter    Verdict = "only after"
)

// Compare compares the figures of two documents by name, in the order of the
// older one. A count is compared as it is.
//
// The interval is that of the ratio of medians by the percentile bootstrap,
// 2,000 resamples of a fixed seed. Source: B. Efron, R. Tibshirani, An
// Introduction to the Bootstrap (1993), chapter 13. With five pairs it is wide:
// what it calls different is different, what it does not may be.
// Cost: 2,000 resamples a figure, about a millisecond.
func Compare(before, after *Document) []Change {
	newer := make(map[string]*Figure, len(after.Figures))
	for i := range after.Figures {
		newer[after.Figures[i].Name] = &after.Figures[i]
	}
	var out []Change
	for i := range before.Figures {
		a := &before.Figures[i]
		b := newer[a.Name]
		delete(newer, a.Name)
		if b == nil {
			out = append(out, Change{Name: a.Name, Unit: a.Unit, Before: a.Median(), Verdict: OnlyBefore})
			continue
		}
		out = append(out, compareFigure(a, b))
	}
	for i := range after.Figures {
		if f := &after.Figures[i]; newer[f.Name] != nil {
			out = append(out, Change{Name: f.Name, Unit: f.Unit, After: f.Median(), Verdict: OnlyAfter})
		}
	}
	for i := range out {
		c := &out[i]
		for _, v := range [...]*float64{&c.Before, &c.After, &c.Ratio, &c.Low, &c.High} {
			if math.IsNaN(*v) || math.IsInf(*v, 0) {
				*v = 0 // JSON has no word for it
			}
		}
	}
	return out
}

func compareFigure(a, b *Figure) Change {
	c := Change{Name: a.Name, Unit: a.Unit, Before: a.Median(), After: b.Median()}
	c.Ratio = c.After / c.Before
	c.Low, c.High = c.Ratio, c.Ratio
	x, y := a.ratios(), b.ratios()
	switch {
	case a.Missing != "" || b.Missing != "" || a.Reference != b.Reference ||
		math.IsNaN(c.Ratio) || math.IsInf(c.Ratio, 0):
		c.Verdict = Unmeasured
		return c
	case len(x) > 0 && len(y) > 0:
		c.Low, c.High = bootstrap(x, y)
	}
	switch {
	case c.Low > 1:
		c.Verdict = Slower
	case c.High < 1:
		c.Verdict = Faster
	default:
		c.Verdict = NoDifference
	}
	return c
}

const (
	resamples  = 2000
	confidence = 0.95
)

// bootstrap gives the interval of median(y)/median(x).
func bootstrap(x, y []float64) (low, high float64) {
	random := rand.New(rand.NewPCG(1, 2))
	ratios := make([]float64, 0, resamples)
	draw := make([]float64, max(len(x), len(y)))
	pick := func(from []float64) float64 {
		d := draw[:len(from)]
		for i := range d {
			d[i] = from[random.IntN(len(from))]
		}
		slices.Sort(d)
		return median(d)
	}
	for range resamples {
		if m := pick(x); m > 0 {
			ratios = append(ratios, pick(y)/m)
		}
	}
	if len(ratios) == 0 {
		return 0, math.Inf(1)
	}
	slices.Sort(ratios)
	tail := (1 - confidence) / 2
	at := func(q float64) float64 {
		return ratios[min(int(q*float64(len(ratios))), len(ratios)-1)]
	}
	return at(tail), at(1 - tail)
}
