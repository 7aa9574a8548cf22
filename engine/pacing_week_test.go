package engine

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// paceWeek is one paced budget of a day under an uneven week of traffic, with
// kills, power losses and clean ends, each with a time of nobody serving.
type paceWeek struct {
	*loss
	t       *testing.T
	limit   int64
	perDay  int
	worst   float64   // greatest distance from the plan, as a share of the limit
	spent   []float64 // of each day, as a share of the limit, at its end
	over    bool
	crashes int
}

// weekShape is the traffic by local hour: not the start profile.
func weekShape(day, hour int) float64 {
	weekday := [24]float64{
		2, 1, 1, 1, 2, 4, 9, 16, 22, 18, 15, 17, 25, 22, 15, 13, 14, 18, 26, 24, 20, 17, 11, 5,
	}
	weekend := [24]float64{
		5, 3, 2, 1, 1, 2, 3, 6, 10, 15, 20, 23, 24, 24, 23, 22, 21, 22, 24, 26, 27, 24, 17, 10,
	}
	if day%7 >= 5 {
		return weekend[hour] * 1.3
	}
	return weekday[hour]
}

// run plays some days from a Monday's midnight on, in Shanghai.
func (w *paceWeek) run(by string, days int) {
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	midnight := time.Date(2026, 9, 21, 0, 0, 0, 0, time.FixedZone("", 8*3600)).UnixMilli()
	w.m.wall = midnight
	var err error
	w.e, err = w.open()
	must(err)
	_, faults, _, err := w.e.Publish(testFiles(capWorld+"scope: total\nper: all\n"+
		"count_on: impression\nwindow: {calendar: day}\n"+fmt.Sprintf("limit: %d\n", w.limit)+
		"pacing: {by: "+by+", hours: learned}\n"), "test", "", 0)
	must(err)
	if len(faults) > 0 {
		w.t.Fatal(faults)
	}
	norm := 0.0
	for h := range 24 {
		norm += weekShape(0, h)
	}
	quiet, user := int64(0), 0 // until when a restart's backlog is being served
	for minute := range days * 24 * 60 {
		at := midnight + int64(minute)*60_000
		day, hour := minute/1440, minute%1440/60
		if down := at - int64(w.e.Now()); down > 0 {
			w.m.pass(time.Duration(down) * time.Millisecond)
		}
		w.e.tick()
		if w.rng.IntN(480) == 0 && minute%1440 < 1380 {
			w.crashes++
			w.end()
			w.m.pass(time.Duration(w.rng.IntN(5)) * time.Minute)
			w.e, err = w.open()
			must(err)
			quiet = int64(w.e.Now()) + 10*60_000
		}
		if int64(w.e.Now()) >= at+60_000 {
			continue // nobody served in this minute
		}
		rate := float64(w.perDay) / 60 * weekShape(day, hour) / norm
		n := int(rate)
		if w.rng.Float64() < rate-float64(n) {
			n++
		}
		for range n {
			user++
			w.one(user)
		}
		w.measure(int64(w.e.Now()) > quiet && minute%1440 > 10, minute%1440 == 1439)
	}
	must(w.e.CheckStore())
	must(w.e.Close())
}

// one asks for a person, who sees what comes nineteen times of twenty.
func (w *paceWeek) one(user int) {
	req := DecideRequest{
		UserID: fmt.Appendf(nil, "u%d", user), Timeout: 5 * time.Second,
		Placements: []PlacementAsk{{Key: []byte("k"), PlacementID: []byte("spot")}},
	}
	if err := w.e.Decide(&req, &w.out); err != nil {
		w.t.Fatal(err)
	}
	if len(w.out.Items) == 0 || w.rng.IntN(20) == 0 {
		return
	}
	doc := OutcomeDoc{
		Token: bytes.Clone(w.out.Items[0].Token), Outcome: []byte("impression"), BodyHash: 1,
	}
	if r, err := w.line(func(b *Batch) LineResult { return b.Outcome(&doc) }); err != nil ||
		r.Err != nil {
		w.t.Fatal(err, r.Err)
	}
}

// measure compares what is given, spent and held, with the plan.
func (w *paceWeek) measure(steady, ends bool) {
	snap, now := w.e.snap.Load(), w.e.clock.Now()
	c := &snap.Plan.Caps[0]
	_, since := snap.Plan.TotalRule(c.Counter, now)
	used := w.e.store.Totals().UsedSince(storage.CounterKey{Cap: c.Counter}, since)
	w.over = w.over || used > w.limit
	if steady {
		away := math.Abs(float64(used-snap.planned(c.Counter, now))) / float64(w.limit)
		w.worst = max(w.worst, away)
	}
	if ends {
		w.spent = append(w.spent, float64(used)/float64(w.limit))
	}
}

// end ends the engine: cleanly, by a kill, or by a loss of power.
func (w *paceWeek) end() {
	percent := []int{100, 100, 0, 50}[w.rng.IntN(4)]
	cut := w.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(w.seed, w.rng.Uint64())),
	})
	if err := w.e.Close(); err != nil {
		w.t.Fatal(err)
	}
	if w.rng.IntN(4) > 0 {
		w.fs = cut
	}
}

// TestPacingOverCrashes: a paced budget over days of uneven traffic that the pacing
// has to learn, with a crash every eight hours on average. What decisions give,
// spent and held together, is compared with the plan at every minute, as a share of
// the day's limit, but for ten minutes after a start and after midnight. It stays
// within 2 %, never passes the limit, and uses every day up. TACT_EFFORT=1: seven
// days of 2,000 units and some 16,000 requests each; else two of 400 units.
func TestPacingOverCrashes(t *testing.T) {
	days, limit := 2, int64(400)
	if x, err := strconv.ParseFloat(os.Getenv("TACT_EFFORT"), 64); err == nil && x >= 1 {
		days, limit = 7, 2000
	}
	for i, by := range []string{"even", "front_loaded", "asap"} {
		w := &paceWeek{
			loss: newLoss(uint64(40 + i)), t: t, limit: limit, perDay: 8 * int(limit),
		}
		w.run(by, days)
		if by == "asap" {
			w.worst = 0 // it has no plan to be away from
		}
		t.Logf("%s: %d days, %d crashes, at most %.2f %% of the limit away from the plan, "+
			"given by the days' ends %.3f", by, days, w.crashes, 100*w.worst, w.spent)
		if w.over {
			t.Errorf("%s: more than the limit was given", by)
		}
		if w.worst > 0.02 {
			t.Errorf("%s: %.2f %% away from the plan", by, 100*w.worst)
		}
		for _, s := range w.spent {
			if s < 0.98 {
				t.Errorf("%s: a day gave %.3f of its limit", by, s)
			}
		}
	}
}
