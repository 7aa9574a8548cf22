package loadtest

import (
	"math"
	"slices"
	"testing"
	"time"
)

func dues(s *schedule, first, stride int64) []time.Duration {
	var all []time.Duration
	for c := s.cursor(first, stride); ; {
		_, due, ok := c.next()
		if !ok {
			return all
		}
		all = append(all, due)
	}
}

func TestConstantSchedule(t *testing.T) {
	f := func(rate float64, length time.Duration, n int) {
		t.Helper()
		s := &schedule{rate: rate, arrivals: Constant, length: length}
		all := dues(s, 0, 1)
		if len(all) != n || s.count(Share{}) != int64(n) {
			t.Fatalf("%d arrivals, counted %d, want %d", len(all), s.count(Share{}), n)
		}
		for i, due := range all {
			if want := float64(i) / rate * 1e9; math.Abs(float64(due)-want) > 1 {
				t.Fatalf("arrival %d is due after %v, want %v ns", i, due, want)
			}
		}
	}
	f(1000, time.Second, 1000)
	f(3, time.Second, 3)
	f(7, 3*time.Second, 21)
	f(0.5, 10*time.Second, 5)
	f(33_333, time.Second, 33_333)
	f(2.5, time.Second, 3) // at 0, 0.4 and 0.8 s
	f(1e6, 100*time.Millisecond, 100_000)
}

// Shares and pacers split a schedule without gap or overlap.
func TestSharesAddUp(t *testing.T) {
	f := func(s *schedule, of int) {
		t.Helper()
		s.seed = 7
		whole := dues(s, 0, 1)
		var sum []time.Duration
		counted := int64(0)
		for i := range of {
			first, stride := Share{i + 1, of}.stride()
			sum = append(sum, dues(s, first, stride)...)
			counted += s.count(Share{i + 1, of})
		}
		slices.Sort(sum)
		if !slices.Equal(whole, sum) || counted != int64(len(whole)) {
			t.Errorf("%d arrivals, %d in shares, %d counted", len(whole), len(sum), counted)
		}
	}
	f(&schedule{rate: 1000, arrivals: Constant, length: time.Second}, 1)
	f(&schedule{rate: 1001, arrivals: Constant, length: time.Second}, 7)
	f(&schedule{rate: 1000, arrivals: Poisson, length: time.Second}, 3)
	f(&schedule{
		rate: 500, arrivals: Poisson, length: time.Second,
		burst: Burst{10, 300 * time.Millisecond, 30 * time.Millisecond},
	}, 5)
}

// The gaps of Poisson arrivals are exponential: their mean is right, and their
// counts in ten classes of equal probability pass a chi-square test at 0.1 %
// (27.88 for 9 degrees of freedom, NIST handbook 1.3.6.7.4). The seeds are
// fixed, so this never fails by chance.
func TestPoissonGaps(t *testing.T) {
	const rate, n = 10_000.0, 100_000
	for seed := range uint64(5) {
		s := &schedule{rate: rate, arrivals: Poisson, length: 10 * time.Second, seed: seed}
		all := dues(s, 0, 1)
		if math.Abs(float64(len(all))-n) > 4*math.Sqrt(n) {
			t.Errorf("seed %d: %d arrivals, want about %d", seed, len(all), n)
		}
		var classes [10]float64
		last := time.Duration(0)
		for _, due := range all {
			u := 1 - math.Exp(-(due-last).Seconds()*rate)
			classes[min(int(u*10), 9)]++
			last = due
		}
		mean := last.Seconds() / float64(len(all))
		if math.Abs(mean*rate-1) > 0.015 {
			t.Errorf("seed %d: mean gap %v, want %v", seed, mean, 1/rate)
		}
		expected := float64(len(all)) / 10
		chi := 0.0
		for _, got := range classes {
			chi += (got - expected) * (got - expected) / expected
		}
		if chi > 27.88 {
			t.Errorf("seed %d: chi-square %.1f, classes %v", seed, chi, classes)
		}
	}
}

// due is the inverse of expected, and bursts hold their multiple of the rate.
func TestBursts(t *testing.T) {
	b := Burst{10, 2 * time.Second, 200 * time.Millisecond}
	s := &schedule{rate: 100, arrivals: Constant, length: 4 * time.Second, burst: b}
	in, out := 0, 0
	for _, due := range dues(s, 0, 1) {
		if b.in(due) {
			in++
		} else {
			out++
		}
	}
	if in != 400 || out != 360 {
		t.Errorf("%d in bursts and %d between, want 400 and 360", in, out)
	}
	for x := 0.0; x < 2000; x += 0.7 {
		if got := s.expected(s.due(x)); math.Abs(got-x) > 1e-5 {
			t.Fatalf("expected(due(%v)) = %v", x, got)
		}
	}
}

func TestZipf(t *testing.T) {
	f := func(n uint64, s float64) {
		t.Helper()
		z := newZipf(n, s)
		const draws = 200_000
		counts := make([]float64, n+1)
		d := newDraw(3, 1)
		for range draws {
			k := z.rank(&d)
			if k < 1 || k > n {
				t.Fatalf("rank %d of %d", k, n)
			}
			counts[k]++
		}
		sum := 0.0
		for k := uint64(1); k <= n; k++ {
			sum += math.Pow(float64(k), -s)
		}
		for k := uint64(1); k <= min(n, 20); k++ {
			want := draws * math.Pow(float64(k), -s) / sum
			if math.Abs(counts[k]-want) > 5*math.Sqrt(want)+1 {
				t.Errorf("s %v: rank %d came %v times, want %.0f", s, k, counts[k], want)
			}
		}
	}
	f(1, 1)
	f(10, 0.5)
	f(1000, 0.99)
	f(1000, 1)
	f(50, 2)
}

func TestParse(t *testing.T) {
	if s, err := ParseShare("2/3"); err != nil || s != (Share{2, 3}) {
		t.Errorf("share %v %v", s, err)
	}
	for _, text := range []string{"", "0/3", "4/3", "1/0", "1", "1/2x", "a/b", "1/2/3", "1/9999"} {
		if s, err := ParseShare(text); err == nil {
			t.Errorf("share %q: %v", text, s)
		}
	}
	if s, err := ParseSLO("p99.9<1ms"); err != nil || s != (SLO{99.9, time.Millisecond}) ||
		s.String() != "p99.9<1ms" {
		t.Errorf("slo %v %v", s, err)
	}
	for _, text := range []string{"", "p99", "99<1ms", "p0<1ms", "p100<1ms", "p99<0s", "pNaN<1ms"} {
		if s, err := ParseSLO(text); err == nil {
			t.Errorf("slo %q: %v", text, s)
		}
	}
	if b, err := ParseBurst("10,200ms,2s"); err != nil ||
		b != (Burst{10, 2 * time.Second, 200 * time.Millisecond}) {
		t.Errorf("burst %v %v", b, err)
	}
	for _, text := range []string{"", "10", "1,1s,2s", "10,2s,2s", "10,0s,2s", "NaN,1s,2s", "0,0s,0s"} {
		if b, err := ParseBurst(text); err == nil {
			t.Errorf("burst %q: %v", text, b)
		}
	}
	if rate, load, err := ParseRate("70%"); rate != 0 || load != 0.7 || err != nil {
		t.Errorf("rate %v %v %v", rate, load, err)
	}
	for _, text := range []string{"", "0", "-1", "NaN", "Inf", "1e9", "%"} {
		if rate, load, err := ParseRate(text); err == nil {
			t.Errorf("rate %q: %v %v", text, rate, load)
		}
	}
	if m, err := ParseMix("page=70,events=30"); err != nil || m["page"] != 70 || m["events"] != 30 {
		t.Errorf("mix %v %v", m, err)
	}
	for _, text := range []string{"", "page", "page=x", "page=-1", "page=1,page=2"} {
		if m, err := ParseMix(text); err == nil {
			t.Errorf("mix %q: %v", text, m)
		}
	}
}
