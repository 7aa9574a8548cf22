package storage

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Numbers of sums and floats of events come back bit by bit, and amounts of money are
// short.
func TestNumbersKeepTheirBits(t *testing.T) {
	f := func(v float64, size int) {
		t.Helper()
		b := appendNumber(nil, v)
		r := reader{b: b}
		got := r.number()
		if r.bad || len(r.b) != 0 || v != 0 && math.Float64bits(got) != math.Float64bits(v) {
			t.Errorf("%v: %x read as %v", v, b, got)
		}
		if size != 0 && len(b) != size {
			t.Errorf("%v: %d bytes, want %d", v, len(b), size)
		}
		b = appendValue(nil, Value{Kind: KindFloat, Num: math.Float64bits(v)})
		r = reader{b: b}
		if x := r.value(); r.bad || x.Kind != KindFloat || x.Num != math.Float64bits(v) {
			t.Errorf("value %v: %x read as %v", v, b, math.Float64frombits(x.Num))
		}
	}
	f(0, 1)
	f(math.Copysign(0, -1), 1)
	f(5, 1)
	f(-3, 1)
	f(0.5, 2)
	f(12.34, 2)
	f(-12.34, 2)
	f(999.99, 3)
	tenth := 0.1
	f(tenth+0.2, 9)
	f(1.0/3, 9)
	f(1<<52, 9)
	f(1e300, 9)
	f(math.MaxFloat64, 9)
	f(math.SmallestNonzeroFloat64, 9)
	f(float64(1<<50-1)/100, 0)
	f(float64(1<<50)/100, 0)
	r := rand.New(rand.NewPCG(3, 3))
	for range 20_000 {
		f(float64(r.Int64N(1<<52)-1<<51)/100, 0)
		f(float64(r.IntN(200_000)-100_000)/100, 0)
		f(math.Ldexp(r.Float64()-0.5, r.IntN(200)-100), 0)
	}
}
