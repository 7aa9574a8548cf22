package loadtest

import (
	"fmt"
	"math"
	"math/bits"
	"time"
)

// draw is a stream of random numbers: splitmix64, written out so that a seed
// gives the same schedule and the same users with every version of Go.
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

// newDraw gives the stream of one arrival: streams do not depend on each other.
func newDraw(seed uint64, index int64) draw {
	return draw{mix(mix(seed+golden) + golden*(uint64(index)+1))}
}

func (d *draw) next() uint64 {
	d.state += golden
	return mix(d.state)
}

// below gives a number in [0, n). The bias is below n/2^64.
func (d *draw) below(n uint64) uint64 {
	hi, _ := bits.Mul64(d.next(), n)
	return hi
}

// unit gives a number in [0, 1).
func (d *draw) unit() float64 { return float64(d.next()>>11) / (1 << 53) }

// exponential gives a number with mean 1.
func (d *draw) exponential() float64 { return -math.Log1p(-d.unit()) }

// Arrivals says how arrivals are spread over time.
type Arrivals string

// The two kinds of arrivals. Poisson is what many independent people make.
const (
	Constant Arrivals = "constant" // equal gaps
	Poisson  Arrivals = "poisson"  // exponential gaps, from the seed
)

// Burst raises the rate for the last part of every period. The zero value is no
// burst.
type Burst struct {
	Times float64       `json:"times"`    // multiple of the rate during a burst, > 1
	Every time.Duration `json:"every_ns"` // period
	For   time.Duration `json:"for_ns"`   // length of a burst, below Every
}

func (b Burst) validate() error {
	if b == (Burst{}) {
		return nil
	}
	if !(b.Times > 1) || math.IsInf(b.Times, 0) || b.For <= 0 || b.For >= b.Every {
		return fmt.Errorf("burst %v: needs a multiple above 1 and 0 < length < period", b)
	}
	return nil
}

// in says whether a burst is on at the time t after the start.
func (b Burst) in(t time.Duration) bool {
	return b.Every > 0 && t%b.Every >= b.Every-b.For
}

// schedule says when each arrival of a phase is due. Arrival k is due when the
// integral of the rate reaches x(k): k for constant arrivals, and the sum of k+1
// exponential draws for Poisson arrivals, which makes them a Poisson process
// also where the rate changes.
//
// Source: for the change of rate, E. Çınlar, Introduction to Stochastic
// Processes (1975), 4.7: a time change of a unit-rate process.
type schedule struct {
	rate     float64       // arrivals a second outside bursts, > 0
	arrivals Arrivals      //
	burst    Burst         //
	length   time.Duration // arrivals are due in [0, length)
	seed     uint64
}

// expected is the integral of the rate over [0, t): arrivals.
func (s *schedule) expected(t time.Duration) float64 {
	if s.burst.Every == 0 {
		return s.rate * t.Seconds()
	}
	quiet := s.burst.Every - s.burst.For
	whole, rest := t/s.burst.Every, t%s.burst.Every
	x := float64(whole) * s.expectedPeriod()
	x += s.rate * min(rest, quiet).Seconds()
	return x + s.rate*s.burst.Times*max(rest-quiet, 0).Seconds()
}

func (s *schedule) expectedPeriod() float64 {
	quiet := s.burst.Every - s.burst.For
	return s.rate * (quiet.Seconds() + s.burst.Times*s.burst.For.Seconds())
}

// due is the inverse of expected, to the nanosecond.
func (s *schedule) due(x float64) time.Duration {
	if s.burst.Every == 0 {
		return nanoseconds(x / s.rate)
	}
	period := s.expectedPeriod()
	whole := math.Floor(x / period)
	rest := x - whole*period
	quiet := (s.burst.Every - s.burst.For).Seconds()
	at := rest / s.rate
	if rest > s.rate*quiet {
		at = quiet + (rest-s.rate*quiet)/(s.rate*s.burst.Times)
	}
	return time.Duration(whole)*s.burst.Every + nanoseconds(at)
}

func nanoseconds(seconds float64) time.Duration {
	return time.Duration(math.Round(seconds * 1e9))
}

// cursor walks those arrivals of a schedule whose number is first, first+stride,
// … so that processes and threads share one schedule without talking.
type cursor struct {
	schedule *schedule
	index    int64 // of the next arrival
	stride   int64
	draws    draw
	drawn    int64   // arrivals drawn
	sum      float64 // of their exponential gaps
}

func (s *schedule) cursor(first, stride int64) *cursor {
	return &cursor{schedule: s, index: first, stride: stride, draws: draw{mix(s.seed + golden)}}
}

// next gives the number of the next arrival and when it is due after the start;
// ok is false at the end of the schedule.
//
// Cost: O(1) for constant arrivals, O(stride) draws of 10 ns for Poisson ones.
func (c *cursor) next() (index int64, due time.Duration, ok bool) {
	x := float64(c.index)
	if c.schedule.arrivals == Poisson {
		for ; c.drawn <= c.index; c.drawn++ {
			c.sum += c.draws.exponential()
		}
		x = c.sum
	}
	index, due = c.index, c.schedule.due(x)
	c.index += c.stride
	return index, due, due < c.schedule.length
}

// Share says which part of a schedule is this process's: every Of-th arrival,
// from the Index-th on. The zero value is the whole.
type Share struct {
	Index int `json:"index"` // 1 to Of
	Of    int `json:"of"`
}

// ParseShare reads i/n.
func ParseShare(text string) (Share, error) {
	var s Share
	var rest string
	n, _ := fmt.Sscanf(text+" ", "%d/%d%s", &s.Index, &s.Of, &rest)
	if n != 2 || s.validate() != nil {
		return Share{}, fmt.Errorf("share %q: want i/n with 1 ≤ i ≤ n ≤ %d", text, maxShares)
	}
	return s, nil
}

const maxShares = 1024

func (s Share) validate() error {
	if s == (Share{}) || s.Of >= 1 && s.Of <= maxShares && s.Index >= 1 && s.Index <= s.Of {
		return nil
	}
	return fmt.Errorf("share %d/%d: out of range", s.Index, s.Of)
}

// stride gives the number of the share's first arrival and the step to the next.
func (s Share) stride() (first, stride int64) {
	if s.Of == 0 {
		return 0, 1
	}
	return int64(s.Index - 1), int64(s.Of)
}

// count is how many arrivals of a share the schedule holds.
//
// Cost: O(1) for constant arrivals, 20 ns an arrival for Poisson ones.
func (s *schedule) count(share Share) int64 {
	first, stride := share.stride()
	if s.arrivals == Poisson {
		n := int64(0)
		for c := s.cursor(first, stride); ; n++ {
			if _, _, ok := c.next(); !ok {
				return n
			}
		}
	}
	total := int64(s.expected(s.length))
	for total > 0 && s.due(float64(total-1)) >= s.length {
		total--
	}
	for s.due(float64(total)) < s.length {
		total++
	}
	return (total - first + stride - 1) / stride
}
