package synth

import "math/bits"

// draw is a stream of random numbers: splitmix64. It is written out here, and
// everything is drawn with integers, so that a seed gives the same bytes on
// every machine and with every version of Go.
//
// Source: G. Steele, D. Lea, C. Flood, Fast Splittable Pseudorandom Number
// Generators, OOPSLA 2014; the constants are those of its reference code.
type draw struct{ state uint64 }

const golden = 0x9E3779B97F4A7C15

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// newDraw gives the stream of one person for one purpose. Streams do not depend
// on each other, so that a new purpose changes nothing of what was drawn before.
func newDraw(seed, index, purpose uint64) draw {
	return draw{mix(mix(seed+golden*purpose) + golden*(index+1))}
}

func (d *draw) next() uint64 {
	d.state += golden
	return mix(d.state)
}

// below gives a number in [0, n). The bias is below n/2^64.
func (d *draw) below(n int) int {
	hi, _ := bits.Mul64(d.next(), uint64(n))
	return int(hi)
}

// chance is true perMille times in 1,000.
func (d *draw) chance(perMille int) bool { return d.below(1000) < perMille }

// activity is how many events a person has: a Poisson draw with the mean of a
// level. limit is e^-mean in units of 2^-64.
type activity struct {
	mean   string
	weight int
	limit  uint64
}

// activities are the levels, skewed as in real apps: a tenth never comes, a
// few come daily. The mean over all is 4.8 events.
func activities() []activity {
	return []activity{
		{mean: "0", weight: 10},
		{mean: "1", weight: 25, limit: 0x5e2d58d8b3bcdf1a},
		{mean: "2", weight: 20, limit: 0x22a555477f03973f},
		{mean: "4", weight: 20, limit: 0x04b0556e084f3d1d},
		{mean: "8", weight: 13, limit: 0x0015fc21041027ac},
		{mean: "16", weight: 9, limit: 0x000001e355bbaee8},
		{mean: "30", weight: 3, limit: 0x00000000001a56e0},
	}
}

// maxEvents bounds a Poisson draw; a mean of 30 passes it once in 10^16 draws.
const maxEvents = 96

// poisson counts the uniform draws whose product stays above e^-mean.
//
// Source: D. Knuth, The Art of Computer Programming, volume 2, 3.4.1, algorithm Q.
func (d *draw) poisson(a activity) int {
	if a.limit == 0 {
		return 0
	}
	product := d.next()
	n := 0
	for product >= a.limit && n < maxEvents {
		product, _ = bits.Mul64(product, d.next())
		n++
	}
	return n
}

// weighted picks an index with the chance of its weight.
type weighted struct{ upTo []int }

func newWeighted(n int, weight func(i int) int) weighted {
	w := weighted{upTo: make([]int, n)}
	sum := 0
	for i := range w.upTo {
		sum += weight(i)
		w.upTo[i] = sum
	}
	return w
}

// zipf weights n things by 1/rank, in integers.
func zipf(n int) weighted {
	return newWeighted(n, func(i int) int { return (1 << 30) / (i + 1) })
}

func (w weighted) pick(d *draw) int {
	at := d.below(w.upTo[len(w.upTo)-1])
	lo, hi := 0, len(w.upTo)-1
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if at < w.upTo[mid] {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
