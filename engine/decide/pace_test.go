package decide

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// dayShape is the traffic of a shop: little at night, most in the evening.
func dayShape() []float64 {
	return []float64{
		3, 2, 1, 1, 1, 2, 5, 9, 13, 15, 16, 18, 20, 17, 15, 15, 16, 19, 24, 30, 33, 28, 18, 8,
	}
}

func pacedPlan(by definition.Pacing, unit definition.Unit, limit int, hours []float64) *Plan {
	d := &definition.Cap{
		Meta: meta("cap", "budget"), Scope: definition.ScopeTotal, Limit: limit, Pacing: by,
		Traffic: hours,
		Window:  definition.Window{Unit: unit, Every: 1, Zone: "workspace", WeekStart: 1},
	}
	p := &Plan{Caps: []Cap{{Def: d, Scope: d.Scope, Limit: limit, Window: d.Window, pace: newPace(d)}}}
	p.Workspace.Zone, _ = time.LoadLocation("Asia/Shanghai")
	return p
}

// TestPacingWeek: seven days of seeded traffic, the week's shape times noise,
// with bursts, silences and a cap that starts again with every day. Nothing is
// ever given beyond the limit; while requests come, what is given stays within
// 2 % of the day's limit of the plan; and every day's limit is used up.
func TestPacingWeek(t *testing.T) {
	const limit, perDay = 5000, 40_000
	f := func(by definition.Pacing, plan func(share float64) float64) {
		t.Helper()
		p := pacedPlan(by, definition.UnitDay, limit, dayShape())
		zone := p.Workspace.Zone
		first := time.Date(2026, 3, 2, 0, 0, 0, 0, zone) // a Monday
		r := rand.New(rand.NewPCG(7, uint64(by)))
		worst := 0.0
		for day := range 7 {
			// The plan is told in shares of the declared traffic; what comes is another
			// level on each day, with more at the weekend.
			level := 0.6 + r.Float64()
			if day >= 5 {
				level *= 1.5
			}
			silence := r.IntN(20 * 3600)
			burst := r.IntN(23 * 3600)
			used, shape, total := int64(0), dayShape(), 0.0
			for _, w := range shape {
				total += w
			}
			passed := 0.0
			for s := range 24 * 3600 {
				at := storage.UnixMsec((first.Unix() + int64(day*24*3600+s)) * 1000)
				rate := level * perDay * shape[s/3600] / total / 3600
				quiet := s >= silence && s < silence+1800
				switch {
				case quiet:
					rate = 0
				case s >= burst && s < burst+600:
					rate *= 20
				}
				n := int(rate)
				if r.Float64() < rate-float64(n) {
					n++
				}
				for range n {
					if used < limit && used <= p.PacedUnits(0, at, nil) {
						used++
					}
				}
				if used > limit {
					t.Fatalf("%d: %d units given", by, used)
				}
				passed += shape[s/3600] / total / 3600
				// An hour after a silence the backlog is gone.
				if s > 600 && (s < silence || s > silence+1800+3600) {
					worst = max(worst, math.Abs(float64(used)-limit*plan(passed))/limit)
				}
			}
			if used < limit*98/100 {
				t.Errorf("%d: day %d gave %d of %d", by, day, used, limit)
			}
		}
		t.Logf("pacing %d: at most %.2f %% of the day's limit away from the plan", by, 100*worst)
		if worst > 0.02 {
			t.Errorf("pacing %d: %.2f %% away from the plan", by, 100*worst)
		}
	}
	f(definition.PacingEven, func(share float64) float64 { return share })
	f(definition.PacingFrontLoaded, func(share float64) float64 {
		return 1 - (1-share)*(1-share)
	})
}

// TestPacedUnits: the law of PacedUnits at known times, and PacedUntil against
// a walk by seconds.
func TestPacedUnits(t *testing.T) {
	at := func(text string) storage.UnixMsec {
		t.Helper()
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return storage.UnixMsec(v.UnixMilli())
	}
	f := func(p *Plan, when string, want int64) {
		t.Helper()
		if got := min(p.PacedUnits(0, at(when), nil)+1, int64(p.Caps[0].Limit)); got != want {
			t.Errorf("%s: %d, want %d", when, got, want)
		}
	}
	even := pacedPlan(definition.PacingEven, definition.UnitDay, 240, nil)
	f(even, "2026-03-02T00:00:00+08:00", 1)
	f(even, "2026-03-02T12:00:00+08:00", 121)
	f(even, "2026-03-02T23:59:59+08:00", 240)
	f(even, "2026-03-03T00:00:00+08:00", 1)
	front := pacedPlan(definition.PacingFrontLoaded, definition.UnitDay, 240, nil)
	f(front, "2026-03-02T12:00:00+08:00", 181)
	month := pacedPlan(definition.PacingEven, definition.UnitMonth, 3100, nil)
	f(month, "2026-03-11T00:00:00+08:00", 1001)
	hours := make([]float64, 24)
	hours[9], hours[20] = 1, 3
	shaped := pacedPlan(definition.PacingEven, definition.UnitDay, 400, hours)
	f(shaped, "2026-03-02T08:59:59+08:00", 1)
	f(shaped, "2026-03-02T15:00:00+08:00", 101)
	f(shaped, "2026-03-02T20:30:00+08:00", 251)
	asap := pacedPlan(definition.PacingASAP, definition.UnitDay, 240, nil)
	f(asap, "2026-03-02T00:00:00+08:00", 240)
	life := pacedPlan(definition.PacingEven, definition.UnitNone, 300, nil)
	life.Caps[0].offers = bitset{3}
	life.Offers = []Offer{
		{StartMs: int64(at("2026-04-01T00:00:00+08:00")), EndMs: int64(at("2026-04-20T00:00:00+08:00"))},
		{StartMs: int64(at("2026-04-11T00:00:00+08:00")), EndMs: int64(at("2026-05-01T00:00:00+08:00"))},
	}
	c := &compiler{plan: life, set: &definition.Set{}}
	c.paceDates(&life.Caps[0])
	f(life, "2026-03-31T00:00:00+08:00", 1)
	f(life, "2026-04-11T00:00:00+08:00", 101)
	f(life, "2026-05-02T00:00:00+08:00", 300)
	life.Offers[1].EndMs = 0
	if c.paceDates(&life.Caps[0]); len(c.faults) != 1 || c.faults[0].Field != "pacing" {
		t.Errorf("%+v", c.faults)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		p := one(r, even, front, shaped)
		from := at("2026-03-02T00:00:00+08:00") + storage.UnixMsec(r.Int64N(86_400_000))
		used := p.PacedUnits(0, from, nil) + 1 + r.Int64N(3)
		want := from / 1000
		for want++; p.PacedUnits(0, want*1000, nil) < used && want*1000 < at("2026-03-03T00:00:00+08:00"); {
			want++
		}
		if got := p.PacedUntil(0, used, from, nil); int64(got) != int64(want) {
			t.Fatalf("used %d at %d: until %d, want %d", used, from, got, want)
		}
	}
}
