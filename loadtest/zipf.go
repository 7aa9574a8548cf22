package loadtest

import "math"

// zipf draws ranks in [1, n] with probability proportional to rank^-s, by
// rejection from the integral of a continuous hat. Any s > 0 will do.
//
// Source: W. Hörmann, G. Derflinger, Rejection-inversion to generate variates
// from monotone discrete distributions, ACM TOMACS 6 (1996), 169-184.
// Cost: below 1.2 tries a draw, each a few exp and log.
type zipf struct {
	n, s         float64
	hiFirst, hiN float64 // hat integral at 1.5 less the first mass, and at n + 0.5
	near         float64 // ranks closer to the hat than this need no second look
}

func newZipf(n uint64, s float64) *zipf {
	z := &zipf{n: float64(n), s: s}
	z.hiFirst = z.integral(1.5) - 1
	z.hiN = z.integral(z.n + 0.5)
	z.near = 2 - z.inverse(z.integral(2.5)-z.mass(2))
	return z
}

func (z *zipf) mass(x float64) float64 { return math.Exp(-z.s * math.Log(x)) }

// integral is that of x^-s: (x^(1-s) - 1)/(1-s), and log x where s is 1.
func (z *zipf) integral(x float64) float64 {
	log := math.Log(x)
	return expRatio((1-z.s)*log) * log
}

// inverse is the inverse of integral.
func (z *zipf) inverse(x float64) float64 {
	t := max(x*(1-z.s), -1) // rounding could leave the domain of the logarithm
	return math.Exp(logRatio(t) * x)
}

// expRatio is (e^x - 1)/x, also near 0.
func expRatio(x float64) float64 {
	if math.Abs(x) < 1e-8 {
		return 1 + x/2
	}
	return math.Expm1(x) / x
}

// logRatio is log(1+x)/x, also near 0.
func logRatio(x float64) float64 {
	if math.Abs(x) < 1e-8 {
		return 1 - x/2
	}
	return math.Log1p(x) / x
}

// rank draws from d.
func (z *zipf) rank(d *draw) uint64 {
	for {
		u := z.hiN + d.unit()*(z.hiFirst-z.hiN)
		x := z.inverse(u)
		k := min(max(math.Floor(x+0.5), 1), z.n)
		if k-x <= z.near || u >= z.integral(k+0.5)-z.mass(k) {
			return uint64(k)
		}
	}
}
