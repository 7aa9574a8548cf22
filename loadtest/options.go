package loadtest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Mode says what a run does.
type Mode string

// The modes. All but Saturate are open loop: arrivals do not wait for replies.
const (
	AtRate   Mode = "rate"     // a constant or Poisson rate
	Bursts   Mode = "burst"    // the same with bursts
	Soak     Mode = "soak"     // the same for long, and whether the end is slower than the start
	Saturate Mode = "saturate" // closed loop: as many as the server answers
	Step     Mode = "step"     // rising rates until the SLO breaks: the curve
	Search   Mode = "search"   // the same, then bisection: the highest rate under the SLO
	Overload Mode = "overload" // multiples of the capacity: goodput, and recovery after
)

// ErrOptions reports options that cannot be carried out.
var ErrOptions = errors.New("options")

// SLO is a bound on one percentile of latency.
type SLO struct {
	Percentile float64       `json:"percentile"` // 0 < p < 100
	Below      time.Duration `json:"below_ns"`
}

// ParseSLO reads a bound such as p99.9<1ms.
func ParseSLO(text string) (SLO, error) {
	p, below, ok := strings.Cut(text, "<")
	percent, okP := strings.CutPrefix(strings.TrimSpace(p), "p")
	percentile, err := strconv.ParseFloat(percent, 64)
	limit, errLimit := time.ParseDuration(strings.TrimSpace(below))
	if !ok || !okP || err != nil || errLimit != nil || !(percentile > 0 && percentile < 100) ||
		limit <= 0 {
		return SLO{}, fmt.Errorf("slo %q: want a bound such as p99.9<1ms", text)
	}
	return SLO{percentile, limit}, nil
}

func (s SLO) String() string {
	if s == (SLO{}) {
		return ""
	}
	return "p" + strconv.FormatFloat(s.Percentile, 'g', -1, 64) + "<" + s.Below.String()
}

// Options say what to load, how, and for how long. Zero values take the defaults
// beside the fields.
type Options struct {
	Address     string // http://HOST:PORT
	Key         string // sent as a bearer token, never written anywhere
	AllowRemote bool   // load machines other than this one

	Mode Mode    // default rate
	Rate float64 // arrivals a second; default 1,000; where
	// Step and Search begin: default 30 % of the saturation
	Load     float64       // rate as a share of the own saturation, measured first; 0: Rate
	Arrivals Arrivals      // default constant
	Duration time.Duration // of the measured run; default 10 s
	Step     time.Duration // of each step, multiple and saturation on the way; default 5 s
	WarmUp   time.Duration // longest warm-up; default 5 s; negative: none
	Burst    Burst         // of mode burst; default 10 times for 200 ms every 2 s
	SLO      SLO           // of Step and Search, default p99.9<1ms. Its bound makes a reply a
	// good one; without it, Timeout does
	Growth   float64   // factor between steps; default 1.3
	Within   float64   // relative precision of the bisection; default 0.03
	Capacity float64   // of Overload; 0: measured by saturation
	Multiple []float64 // of the capacity; default 1, 2, 5, 10

	Connections int           // default 64; Overload 512
	Backlog     int           // longest waiting line; default what a timeout can hold
	Timeout     time.Duration // of a request; default 2 s
	Churn       int           // requests of a connection before it is closed; 0: kept alive
	Slow        int           // slow clients beside the load
	SlowOver    time.Duration // how long each takes to send a request; default 2 s
	Pacers      int           // threads; default 1 for every 30,000 arrivals a second
	Seed        uint64        // default 1
	Share       Share         // this process's part; modes rate, burst, soak, saturate
	StartAt     time.Time     // when the measured run begins, for several processes
	MaxDuration time.Duration // hard bound on the measured and searched time; default 10 min
	MaxRequests int64         // hard bound on arrivals; default 20M
	Scenario    Scenario
	ServerPIDs  []int        // of the server on this machine, for its CPU a request; none: unknown
	Floor       FloorStarter // interleave with a bare server; nil: no
	Rounds      int          // pairs of the interleaving; default 5

	Commit   string                             // what was built, for the result
	Flags    []string                           // how it was asked for, for the result
	Say      func(line string)                  // one line as each part ends; nil: silence
	Progress func(elapsed, whole time.Duration) // of the part under way; nil: silence
}

func (o *Options) withDefaults() error {
	o.Mode, o.Arrivals = cmp.Or(o.Mode, AtRate), cmp.Or(o.Arrivals, Constant)
	o.Growth, o.Within = cmp.Or(o.Growth, 1.3), cmp.Or(o.Within, 0.03)
	o.Duration, o.Step = cmp.Or(o.Duration, 10*time.Second), cmp.Or(o.Step, 5*time.Second)
	o.WarmUp = cmp.Or(o.WarmUp, 5*time.Second)
	o.Timeout, o.SlowOver = cmp.Or(o.Timeout, 2*time.Second), cmp.Or(o.SlowOver, 2*time.Second)
	o.Seed, o.Rounds = cmp.Or(o.Seed, 1), cmp.Or(o.Rounds, 5)
	o.MaxDuration = cmp.Or(o.MaxDuration, 10*time.Minute)
	o.MaxRequests = cmp.Or(o.MaxRequests, 20_000_000)
	if o.Mode == Bursts {
		o.Burst = cmp.Or(o.Burst, Burst{10, 2 * time.Second, 200 * time.Millisecond})
	}
	if o.Mode == Step || o.Mode == Search {
		o.SLO = cmp.Or(o.SLO, SLO{99.9, time.Millisecond})
	} else {
		o.Rate = cmp.Or(o.Rate, 1000)
	}
	if len(o.Multiple) == 0 {
		o.Multiple = []float64{1, 2, 5, 10}
	}
	connections := 64
	if o.Mode == Overload {
		connections = 512
	}
	o.Connections = cmp.Or(o.Connections, connections)
	if o.Backlog == 0 {
		o.Backlog = 1 << 20 // 50 MB at worst; jobs leave it with their timeout
	}
	o.Scenario.Nonce = strconv.FormatInt(time.Now().UnixMilli(), 36)
	return errors.Join(o.validate(), o.Scenario.withDefaults())
}

func (o *Options) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	switch o.Mode {
	case AtRate, Bursts, Soak, Saturate, Step, Search, Overload:
	default:
		check(false, "mode %q: is none of rate, burst, soak, saturate, step, search, overload", o.Mode)
	}
	positive := func(x float64) bool { return x > 0 && !math.IsInf(x, 0) }
	check(o.Arrivals == Constant || o.Arrivals == Poisson,
		"arrivals %q: want constant or poisson", o.Arrivals)
	check(o.Rate >= 0 && o.Rate <= maxRate, "rate %v: want above 0, at most %.0f", o.Rate, maxRate)
	check(o.Load >= 0 && o.Load <= 10, "load %v: want a share of the saturation", o.Load)
	check(o.Duration > 0 && o.Duration <= o.MaxDuration,
		"duration %v: above the hard maximum %v", o.Duration, o.MaxDuration)
	check(o.Step > 0 && o.Step <= o.MaxDuration, "step %v: want above 0, at most %v",
		o.Step, o.MaxDuration)
	check(o.Growth > 1 && o.Growth <= 10, "growth %v: want above 1, at most 10", o.Growth)
	check(o.Within >= 0.001 && o.Within < 1, "precision %v: want 0.001 to 1", o.Within)
	check(o.Capacity >= 0, "capacity %v: is negative", o.Capacity)
	for _, m := range o.Multiple {
		check(positive(m) && m <= 100, "multiple %v: want above 0, at most 100", m)
	}
	check(o.Connections > 0 && o.Connections <= 50_000, "connections %d: want 1 to 50,000",
		o.Connections)
	check(o.Backlog > 0 && o.Backlog <= 1<<24, "backlog %d: want 1 to %d", o.Backlog, 1<<24)
	check(o.Timeout >= time.Millisecond && o.Timeout <= time.Minute,
		"timeout %v: want 1 ms to 1 min", o.Timeout)
	check(o.Churn >= 0 && o.Slow >= 0 && o.Slow <= 10_000, "churn or slow clients: out of range")
	check(o.Pacers >= 0 && o.Pacers <= 64, "pacers %d: at most 64", o.Pacers)
	check(o.Rounds >= 1 && o.Rounds <= 100, "rounds %d: want 1 to 100", o.Rounds)
	errs = append(errs, o.Burst.validate(), o.Share.validate(), o.validateTogether())
	return errors.Join(errs...)
}

// maxRate is beyond what one process can send.
const maxRate = 1e7

// validateTogether finds options that do not go together.
func (o *Options) validateTogether() error {
	var errs []error
	whole := o.Mode == Step || o.Mode == Search || o.Mode == Overload
	if o.Share.Of > 1 && (whole || o.Floor != nil || o.Load > 0) {
		errs = append(errs, errors.New(
			"shares go with rate, burst, soak and saturate, without load or floor"))
	}
	if o.Floor != nil && o.Mode != AtRate && o.Mode != Saturate {
		errs = append(errs, errors.New("a floor goes with rate and saturate"))
	}
	if o.Burst != (Burst{}) && o.Mode != Bursts {
		errs = append(errs, errors.New("bursts go with mode burst"))
	}
	if open := o.Mode == AtRate || o.Mode == Soak || o.Mode == Bursts; open && o.Load == 0 {
		s := schedule{rate: o.Rate, burst: o.Burst}
		if n := s.expected(o.Duration); n > float64(o.MaxRequests) {
			errs = append(errs, fmt.Errorf("%.0f arrivals: above the hard maximum %d",
				n, o.MaxRequests))
		}
	}
	return errors.Join(errs...)
}

// bound is the latency up to which a reply is worth something.
func (o *Options) bound() time.Duration { return cmp.Or(o.SLO.Below, o.Timeout) }

// pacers is how many threads send at a rate.
func (o *Options) pacers(rate float64) int {
	if o.Pacers > 0 {
		return o.Pacers
	}
	return min(1+int(rate/30_000), runtime.NumCPU())
}

// ParseRate reads arrivals a second, or with % a share of the saturation.
func ParseRate(text string) (rate, load float64, err error) {
	number, share := strings.CutSuffix(strings.TrimSpace(text), "%")
	x, err := strconv.ParseFloat(number, 64)
	if err != nil || !(x > 0) || x > maxRate {
		return 0, 0, fmt.Errorf("rate %q: want arrivals a second, or a share such as 70%%", text)
	}
	if share {
		return 0, x / 100, nil
	}
	return x, 0, nil
}

// ParseBurst reads times,length,period such as 10,200ms,2s.
func ParseBurst(text string) (Burst, error) {
	fault := fmt.Errorf("burst %q: want times,length,period such as 10,200ms,2s", text)
	parts := strings.Split(text, ",")
	if len(parts) != 3 {
		return Burst{}, fault
	}
	times, errTimes := strconv.ParseFloat(parts[0], 64)
	length, errLength := time.ParseDuration(parts[1])
	period, errPeriod := time.ParseDuration(parts[2])
	b := Burst{times, period, length}
	if errTimes != nil || errLength != nil || errPeriod != nil || b == (Burst{}) ||
		b.validate() != nil {
		return Burst{}, fault
	}
	return b, nil
}

// ParseMix reads weights of scenarios such as page=70,events=30.
func ParseMix(text string) (map[string]int, error) {
	mix := map[string]int{}
	for part := range strings.SplitSeq(text, ",") {
		name, weight, ok := strings.Cut(part, "=")
		n, err := strconv.Atoi(weight)
		if _, twice := mix[name]; !ok || err != nil || n < 0 || twice {
			return nil, fmt.Errorf("mix %q: want weights such as page=70,events=30", text)
		}
		mix[name] = n
	}
	return mix, nil
}
