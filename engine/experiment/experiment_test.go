package experiment

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/zeebo/xxh3"

	"tact/engine/definition"
)

func ids(n int) [][]byte {
	units := make([][]byte, n)
	for i := range units {
		units[i] = fmt.Appendf(nil, "u%d", i)
	}
	return units
}

func compiled(t testing.TB, def *definition.Experiment, who Identity) *Experiment {
	t.Helper()
	e, faults := Compile(def, who)
	if len(faults) > 0 {
		t.Fatalf("faults: %+v", faults)
	}
	return e
}

func simple(from, until, coverage int, weights ...float64) *definition.Experiment {
	def := &definition.Experiment{Range: definition.Range{From: from, Until: until}}
	def.Coverage = coverage
	for i, w := range weights {
		def.Variants = append(def.Variants, definition.Variant{ID: fmt.Sprint(i), Weight: w})
	}
	return def
}

// chiSquareP is P(chi-square > x), by the transformation of Wilson and Hilferty (PNAS 17,
// 1931), which suits many degrees of freedom.
func chiSquareP(x float64, freedom int) float64 {
	k := 2.0 / (9 * float64(freedom))
	z := (math.Cbrt(x/float64(freedom)) - (1 - k)) / math.Sqrt(k)
	return math.Erfc(z/math.Sqrt2) / 2
}

// The hash is the reference's: XSUM_XXH3_testdata of xxHash,
// tests/sanity_test_vectors.h (cli/xsum_sanity_check.c in older releases).
func TestHashReference(t *testing.T) {
	const prime32, prime64 = 2654435761, 11400714785074694797
	buffer := make([]byte, 512)
	for i, generator := 0, uint64(prime32); i < len(buffer); i++ {
		buffer[i] = byte(generator >> 56)
		generator *= prime64
	}
	f := func(n int, seed, want uint64) {
		t.Helper()
		if got := xxh3.HashSeed(buffer[:n], seed); got != want {
			t.Errorf("%d bytes, seed %x: %x, want %x", n, seed, got, want)
		}
		if got := Seed(string(buffer[:n])); seed == 0 && got != want {
			t.Errorf("seed of %d bytes: %x, want %x", n, got, want)
		}
	}
	f(0, 0, 0x2D06800538D394C2)
	f(0, prime64, 0xA8A6B918B2F0364A)
	f(1, 0, 0xC44BDFF4074EECDB)
	f(1, prime64, 0x032BE332DD766EF8)
	f(6, 0, 0x27B56A84CD2D7325)
	f(6, prime64, 0x84589C116AB59AB9)
	f(12, 0, 0xA713DAF0DFBB77E7)
	f(12, prime64, 0xE7303E1B2336DE0E)
	f(24, 0, 0xA3FE70BF9D3510EB)
	f(24, prime64, 0x850E80FC35BDD690)
	f(48, 0, 0x397DA259ECBA1F11)
	f(48, prime64, 0xADC2CBAA44ACC616)
	f(80, 0, 0xBCDEFBBB2C47C90A)
	f(80, prime64, 0xC6DD0CB699532E73)
	f(195, 0, 0xCD94217EE362EC3A)
	f(195, prime64, 0xBA68003D370CB3D9)
	f(403, 0, 0xCDEB804D65C6DEA4)
	f(403, prime64, 0x6259F6ECFD6443FD)
	f(512, 0, 0x617E49599013CB6B)
}

// Format vectors: computed once by this package, compared for ever. A change
// here moves every person of every running experiment.
func TestFormatVectors(t *testing.T) {
	f := func(salt, unit string, want uint32) {
		t.Helper()
		if got := Bucket(Seed(salt), []byte(unit)); got != want {
			t.Errorf("f(%q, %q, %d)", salt, unit, got)
		}
	}
	f("", "", 2546)
	f("", "u1", 2942)
	f("tact/v1/gate/hero_copy", "u1", 8936)
	f("tact/v1/gate/hero_copy", "u2", 2620)
	f("tact/v1/variant/hero_copy", "u1", 7596)
	f("tact/v1/layer/home", "u1", 9202)
	f("tact/v1/own-layer/hero_copy", "u1", 3971)
	f("tact/v1/holdout/q4_global", "小雨", 9334)
	f("tact/v1/holdout/q4_global", "a-canonical-id-of-forty-characters-000001", 9722)

	e := compiled(t, simple(0, 5000, 8000, 50, 50), Identity{Salt: "hero_copy", LayerSalt: "home"})
	h, _ := CompileHoldout(&definition.Holdout{Range: definition.Range{Until: 200}},
		Identity{Salt: "q4_global"})
	seeds := func(name string, got, want uint64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: 0x%X", name, got)
		}
	}
	seeds("layer", e.LayerSeed, 0xD0EB59833B213B19)
	seeds("gate", e.GateSeed, 0x18C535EFF220FB80)
	seeds("variant", e.VariantSeed, 0xE4BB8A671ABDD6E6)
	seeds("holdout", h.Seed, 0x487DFD28CD12CEBF)
}

func TestUniform(t *testing.T) {
	if p := chiSquareP(10328.0, 9999); math.Abs(p-0.0105) > 0.001 {
		t.Fatalf("chi-square table: %v", p) // normal approximation: z = 2.31
	}
	units := ids(100_000)
	for s := range 100 {
		seed := Seed(fmt.Sprintf("tact/v1/gate/experiment_%d", s))
		var counts [Buckets]int
		for _, unit := range units {
			bucket := Bucket(seed, unit)
			if bucket >= Buckets {
				t.Fatalf("bucket %d", bucket)
			}
			counts[bucket]++
		}
		x, expected := 0.0, float64(len(units))/Buckets
		for _, n := range counts {
			x += (float64(n) - expected) * (float64(n) - expected) / expected
		}
		// Too even is as suspicious as too uneven.
		if p := chiSquareP(x, Buckets-1); p < 1e-4 || p > 1-1e-4 {
			t.Errorf("salt %d: chi-square %.0f, p %g", s, x, p)
		}
	}
}

// tableP is the p-value of independence of a 10×10 table with fixed margins 1/10.
func tableP(units [][]byte, a, b uint64) float64 {
	var table [10][10]int
	for _, unit := range units {
		table[Bucket(a, unit)/1000][Bucket(b, unit)/1000]++
	}
	var rows, columns [10]float64
	for i := range table {
		for j, n := range table[i] {
			rows[i] += float64(n)
			columns[j] += float64(n)
		}
	}
	x := 0.0
	for i := range table {
		for j, n := range table[i] {
			expected := rows[i] * columns[j] / float64(len(units))
			x += (float64(n) - expected) * (float64(n) - expected) / expected
		}
	}
	return chiSquareP(x, 81)
}

func TestIndependent(t *testing.T) {
	units := ids(100_000)
	def := simple(0, 5000, 5000, 1, 1)
	for s := range 10 {
		one := compiled(t, def, Identity{Salt: fmt.Sprintf("a%d", s), LayerSalt: "home"})
		two := compiled(t, def, Identity{Salt: fmt.Sprintf("b%d", s), LayerSalt: "home"})
		holdout, _ := CompileHoldout(&definition.Holdout{}, Identity{Salt: fmt.Sprintf("a%d", s)})
		pairs := map[string][2]uint64{
			"two variants":      {one.VariantSeed, two.VariantSeed},
			"gate and variant":  {one.GateSeed, one.VariantSeed},
			"layer and gate":    {one.LayerSeed, one.GateSeed},
			"layer and variant": {one.LayerSeed, one.VariantSeed},
			"holdout and gate":  {holdout.Seed, one.GateSeed},
		}
		for name, pair := range pairs {
			if p := tableP(units, pair[0], pair[1]); p < 1e-4 {
				t.Errorf("%s, salts %d: p %g", name, s, p)
			}
		}
	}
	// The test can fail: a seed is not independent of itself.
	if p := tableP(units, 7, 7); p > 1e-9 {
		t.Errorf("same seed: p %g", p)
	}
}

func TestMonotone(t *testing.T) {
	units := ids(5_000)
	variant := make([]int, len(units))
	for i := range variant {
		variant[i] = -1
	}
	for coverage := 0; coverage <= Buckets; coverage += 50 {
		e := compiled(t, simple(0, Buckets, coverage, 20, 30, 50), Identity{Salt: "ramp"})
		in := 0
		for i, unit := range units {
			v, ok := e.Assign(unit)
			if !ok && variant[i] >= 0 {
				t.Fatalf("%s left at coverage %d", unit, coverage)
			}
			if !ok {
				continue
			}
			in++
			if variant[i] >= 0 && variant[i] != v {
				t.Fatalf("%s moved from %d to %d at coverage %d", unit, variant[i], v, coverage)
			}
			variant[i] = v
		}
		share := float64(coverage) / Buckets
		spread := 5 * math.Sqrt(float64(len(units))*share*(1-share))
		if off := math.Abs(float64(in) - share*float64(len(units))); off > spread {
			t.Errorf("coverage %d: %d of %d are in", coverage, in, len(units))
		}
	}
	for i, v := range variant {
		if v < 0 {
			t.Fatalf("%s is not in at 100 %%", units[i])
		}
	}
}

func TestExclusive(t *testing.T) {
	units := ids(50_000)
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		cut := 1 + random.IntN(Buckets-1)
		who := func(s string) Identity {
			return Identity{Salt: fmt.Sprint(s, round), LayerSalt: fmt.Sprint("layer", round)}
		}
		low := compiled(t, simple(0, cut, Buckets, 1, 1), who("low"))
		high := compiled(t, simple(cut, Buckets, Buckets, 1, 1), who("high"))
		inLow := 0
		for _, unit := range units {
			_, a := low.Assign(unit)
			_, b := high.Assign(unit)
			if a == b {
				t.Fatalf("cut %d: %s is in both or in neither: %v", cut, unit, a)
			}
			if a {
				inLow++
			}
		}
		share := float64(cut) / Buckets
		spread := 5*math.Sqrt(float64(len(units))*share*(1-share)) + 1
		if off := math.Abs(float64(inLow) - share*float64(len(units))); off > spread {
			t.Errorf("cut %d: %d of %d are below", cut, inLow, len(units))
		}
	}
	// Experiments without a layer do not exclude each other.
	own := func(salt string) *Experiment {
		return compiled(t, simple(0, 5000, Buckets, 1), Identity{Salt: salt})
	}
	both, a, b := 0, own("a"), own("b")
	for _, unit := range units {
		if a.InRange(unit) && b.InRange(unit) {
			both++
		}
	}
	if both < 12_000 || both > 13_000 {
		t.Errorf("own layers: %d of 50000 are in both, want about a quarter", both)
	}
}

func TestHoldout(t *testing.T) {
	units := ids(100_000)
	f := func(from, until int, want float64) {
		t.Helper()
		def := &definition.Holdout{Range: definition.Range{From: from, Until: until}}
		h, faults := CompileHoldout(def, Identity{ID: 3, Salt: "q4_global"})
		if len(faults) > 0 || h.ID != 3 {
			t.Fatalf("%+v %+v", h, faults)
		}
		held := 0
		for _, unit := range units {
			if h.Holds(unit) {
				held++
			}
		}
		n := float64(len(units))
		if math.Abs(float64(held)-want*n) > 5*math.Sqrt(n*want*(1-want)) {
			t.Errorf("[%d, %d): %d held, want %g", from, until, held, want*n)
		}
	}
	f(0, 200, 0.02)
	f(200, 1000, 0.08)
	f(0, 0, 0)
	f(0, Buckets, 1)

	live := Holdout{StartMs: 100, EndMs: 200}
	for at, want := range map[int64]bool{99: false, 100: true, 199: true, 200: false} {
		if live.Live(at) != want {
			t.Errorf("live at %d: %v", at, !want)
		}
	}
	if ever := (&Holdout{}); !ever.Live(0) || !ever.Live(math.MaxInt64) {
		t.Error("a holdout without times is always live")
	}
}

func TestExact(t *testing.T) {
	f := func(weights []float64, want ...uint32) {
		t.Helper()
		e := compiled(t, simple(0, Buckets, Buckets, weights...), Identity{Salt: "x"})
		for i, v := range e.Variants {
			if got := v.Until - v.From; got != want[i] {
				t.Errorf("%v: variant %d has %d, want %d", weights, i, got, want[i])
			}
		}
	}
	f([]float64{1}, 10000)
	f([]float64{50, 50}, 5000, 5000)
	f([]float64{0.2, 0.3, 0.5}, 2000, 3000, 5000)
	f([]float64{1, 1, 1}, 3334, 3333, 3333) // the earlier first among equals
	f([]float64{1, 1, 1, 1, 1, 1}, 1667, 1667, 1667, 1667, 1666, 1666)
	f([]float64{2, 1}, 6667, 3333)
	f([]float64{1, 2}, 3333, 6667)
	f([]float64{0, 1, 0}, 0, 10000, 0)
	f([]float64{1e308, 1e308}, 5000, 5000)
	f([]float64{5e-324, 5e-324}, 5000, 5000)
	f([]float64{99.99, 0.01}, 9999, 1)

	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		weights := make([]float64, 1+random.IntN(20))
		sum := 0.0
		for i := range weights {
			weights[i] = 1 + 99*random.Float64()
			sum += weights[i]
		}
		e := compiled(t, simple(0, Buckets, Buckets, weights...), Identity{Salt: "x"})
		at := uint32(0)
		for i, v := range e.Variants {
			share := weights[i] / sum * Buckets
			if v.From != at || math.Abs(float64(v.Until-v.From)-share) > 1 {
				t.Fatalf("%v: variant %d is [%d, %d)", weights, i, v.From, v.Until)
			}
			at = v.Until
		}
		if at != Buckets {
			t.Fatalf("%v: ends at %d", weights, at)
		}
	}
}

func TestFaults(t *testing.T) {
	f := func(def *definition.Experiment, who Identity, fields ...string) {
		t.Helper()
		e, faults := Compile(def, who)
		if e != nil || len(faults) != len(fields) {
			t.Fatalf("%+v", faults)
		}
		for i := range faults {
			if faults[i].Field != fields[i] || faults[i].Message == "" {
				t.Errorf("%+v, want field %s", faults[i], fields[i])
			}
		}
	}
	who := Identity{Salt: "x"}
	f(simple(0, Buckets, Buckets), who, "variants")
	f(simple(0, Buckets, Buckets, 0, 0), who, "variants")
	f(simple(0, Buckets, Buckets, -1, math.NaN(), math.Inf(1), 2), who,
		"variants[0].weight", "variants[1].weight", "variants[2].weight")
	f(simple(0, Buckets, Buckets, 1e9, 1), who, "variants[1].weight")
	f(simple(5000, 4000, -1, 1), who, "range", "coverage")
	f(simple(5000, 5000, 10001, 1), who, "range", "coverage")
	f(simple(-1, 10001, 0, 1), Identity{}, "range", "id")
	f(simple(0, Buckets, Buckets, 1, 1), Identity{Salt: "x", Variants: []uint32{1}}, "variants")
	f(simple(0, Buckets, Buckets, make([]float64, MaxVariants+1)...), who, "variants")

	h, faults := CompileHoldout(&definition.Holdout{
		Range: definition.Range{From: 3, Until: 2}, StartMs: 5, EndMs: 5,
	}, Identity{})
	if h != nil || len(faults) != 3 {
		t.Errorf("%+v", faults)
	}
}

func TestIdentity(t *testing.T) {
	e := compiled(t, simple(0, Buckets, Buckets, 1, 1),
		Identity{ID: 9, Salt: "x", Variants: []uint32{40, 41}})
	if e.ID != 9 || e.Variants[0].ID != 40 || e.Variants[1].ID != 41 {
		t.Errorf("%+v", e)
	}
}

func TestAssignDoesNotAllocate(t *testing.T) {
	e := compiled(t, simple(0, 9000, 9000, 1, 1, 1), Identity{Salt: "x", LayerSalt: "y"})
	h, _ := CompileHoldout(&definition.Holdout{Range: definition.Range{Until: 200}},
		Identity{Salt: "z"})
	units := ids(64)
	i, in := 0, 0
	allocations := testing.AllocsPerRun(1000, func() {
		unit := units[i%len(units)]
		i++
		if _, ok := e.Assign(unit); ok && !h.Holds(unit) {
			in++
		}
	})
	if allocations != 0 || in == 0 {
		t.Errorf("%v allocations, %d in", allocations, in)
	}
}
