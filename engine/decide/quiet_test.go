package decide

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// dstDays are days on which the clock of a zone is set, by half an hour, an
// hour or a day, and an ordinary one.
func dstDays() []struct {
	zone string
	day  time.Time
} {
	day := func(y int, m time.Month, d int) time.Time {
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	}
	return []struct {
		zone string
		day  time.Time
	}{
		{"Europe/Berlin", day(2026, 3, 29)},
		{"Europe/Berlin", day(2026, 10, 25)},
		{"America/New_York", day(2026, 3, 8)},
		{"America/New_York", day(2026, 11, 1)},
		{"Australia/Lord_Howe", day(2026, 4, 5)},  // half an hour back
		{"Australia/Lord_Howe", day(2026, 10, 4)}, // and forward
		{"America/Sao_Paulo", day(2018, 11, 4)},   // midnight itself is skipped
		{"Pacific/Apia", day(2011, 12, 30)},       // the day that was not
		{"Africa/Casablanca", day(2026, 2, 15)},   // back for Ramadan
		{"Asia/Shanghai", day(2026, 2, 17)},
	}
}

// randomQuiet makes a set of quiet hours with a calendar around a day.
func randomQuiet(r *rand.Rand, around int32) (*definition.QuietRule, []*definition.Calendar) {
	q := &definition.QuietRule{
		Meta: meta("quiet_hours", "q"), Offers: definition.Selector{All: true},
		Classes: []definition.MessageClass{definition.Marketing}, Hold: true,
	}
	cal := &definition.Calendar{Meta: meta("calendar", "cal")}
	for range 1 + r.IntN(4) {
		from := around - 3 + r.Int32N(6)
		cal.Days = append(cal.Days, definition.CalendarDay{
			ID: one(r, "a", "b"), From: from, Until: from + 1 + r.Int32N(3),
		})
	}
	if r.IntN(4) == 0 { // whole days, never all of a week
		q.Windows = append(q.Windows, definition.MinuteSpan{
			Until: 1440, Days: 1 + uint8(r.IntN(126)),
		})
	}
	for range r.IntN(3) {
		from, until := r.IntN(1440), r.IntN(1440)
		if r.IntN(2) == 0 {
			from, until = from/30*30, until/30*30
		}
		if from == until {
			until = 1440
		}
		q.Windows = append(q.Windows, definition.MinuteSpan{
			From: from, Until: until, Days: one(r, 0, uint8(r.IntN(128))),
		})
	}
	if len(q.Windows) == 0 || r.IntN(2) == 0 {
		q.On = one(r, []string{"cal"}, []string{"cal/a"})
	}
	if r.IntN(3) == 0 {
		q.Except = []string{"cal/b"}
	}
	return q, []*definition.Calendar{cal}
}

// TestQuietUntil: over zones and days on which clocks are set, what is quiet and
// when it is over are what reading the wall minute by minute says.
func TestQuietUntil(t *testing.T) {
	const span = 12 * dayMinutes // the calendars end within it
	seeds(t, 70, func(seed uint64) {
		r := rand.New(rand.NewPCG(seed, 9))
		days := dstDays()
		d := days[r.IntN(len(days))]
		rule, calendars := randomQuiet(r, int32(d.day.Unix()/daySeconds))
		// A second set, so that one window may run into another.
		second, more := randomQuiet(r, int32(d.day.Unix()/daySeconds))
		more[0].ID = "cal2"
		second.ID = "q2"
		for _, list := range []*[]string{&second.On, &second.Except} {
			for i := range *list {
				(*list)[i] = strings.Replace((*list)[i], "cal", "cal2", 1)
			}
		}
		c := &compiler{set: &definition.Set{
			Calendars: append(calendars, more...), Quiet: []*definition.QuietRule{rule, second},
		}, plan: &Plan{}}
		c.quietHours()
		zones := []*time.Location{loadZone(t, d.zone)}
		if r.IntN(3) == 0 {
			zones = append(zones, loadZone(t, days[r.IntN(len(days))].zone))
		}
		c.plan.Workspace = Workspace{Zones: zones, Protect: true}
		m := &modelRun{model: &model{catalogue: &catalogue{set: c.set}}}
		quiet := func(at int64) bool {
			for _, zone := range zones {
				for _, q := range c.set.Quiet {
					if m.wallQuiet(q, time.Unix(at, 0).In(zone)) {
						return true
					}
				}
			}
			return false
		}
		for range 4 {
			at := d.day.Unix() + (r.Int64N(4*dayMinutes)-2*dayMinutes)*60
			want := at
			for want < at+span*60 && quiet(want) {
				want += 60
			}
			late := r.Int64N(60) // inside the minute: the answer is the same
			run := run{p: c.plan, who: &Person{}, out: &Result{}, at: &Moment{
				Ms: storage.UnixMsec((at+late)*1000 + r.Int64N(1000)),
			}}
			reason := run.quiet(3)
			if want == at {
				if reason != ReasonNone {
					t.Fatalf("%s: %s at an open minute", time.Unix(at, 0).In(zones[0]), reason)
				}
				continue
			}
			got := int64(run.quietUntil(3))
			if reason != TimezoneUnknown || got != want && want < at+span*60 {
				t.Fatalf("%v %s, quiet hours %+v and %+v of %+v:\n%s until %s, want %s", zones,
					time.Unix(at, 0).In(zones[0]), rule, second, c.set.Calendars, reason,
					time.Unix(got, 0).In(zones[0]), time.Unix(want, 0).In(zones[0]))
			}
		}
	})
}

func loadZone(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// TestQuietForEver: quiet hours that never end say so, in bounded time.
func TestQuietForEver(t *testing.T) {
	f := func(q Quiet) {
		t.Helper()
		q.everybody = true
		p := &Plan{Quiet: []Quiet{q}, Workspace: Workspace{Zone: time.UTC}}
		r := run{p: p, out: &Result{}, who: &Person{Zone: time.UTC}, at: &Moment{Ms: 1_772_409_600_000}}
		if reason := r.quiet(1); reason != QuietHoursNow {
			t.Fatal(reason)
		}
		if until := r.quietUntil(1); until != Never {
			t.Errorf("until %d", until)
		}
	}
	f(Quiet{windows: []definition.MinuteSpan{{Until: dayMinutes}}})
	f(Quiet{windows: []definition.MinuteSpan{{Until: 700}, {From: 700, Until: dayMinutes}}})
	f(Quiet{windows: []definition.MinuteSpan{{From: 1, Until: 700}, {From: 700, Until: 1}}})
}

// TestQuietFaults: what compiling cannot take is a fault that names the field.
func TestQuietFaults(t *testing.T) {
	var set definition.Set
	for i := range MaxQuiet + 1 {
		set.Quiet = append(set.Quiet, &definition.QuietRule{
			Meta:    meta("quiet_hours", fmt.Sprintf("q%02d", i)),
			Windows: []definition.MinuteSpan{{From: 60, Until: 120}},
		})
	}
	set.Quiet[3].On = []string{"nowhere"}
	c := &compiler{set: &set, plan: &Plan{}}
	c.quietHours()
	var got []string
	for _, f := range c.faults {
		got = append(got, f.Doc+" "+f.Field+": "+f.Message)
	}
	want := []string{
		`quiet_hours/q03 on: there is no calendar "nowhere"`,
		"quiet_hours/q64 : more than 64 sets of quiet hours",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
