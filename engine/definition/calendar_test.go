package definition

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// easterSunday is the Gregorian Easter (J. Meeus, Astronomical Algorithms, 2nd
// ed., chapter 8).
func easterSunday(year int) time.Time {
	a, b, c := year%19, year/100, year%100
	d, e := b/4, b%4
	f := (b + 8) / 25
	g := (b - f + 1) / 3
	h := (19*a + b - d - g + 15) % 30
	i, k := c/4, c%4
	l := (32 + 2*e + 2*i - h - k) % 7
	m := (a + 11*h + 22*l) / 451
	n := h + l - 7*m + 114
	return time.Date(year, time.Month(n/31), n%31+1, 0, 0, 0, 0, time.UTC)
}

// The holidays of the example that are computed are what the rules give, and
// the Chinese ones hang together: no worked weekend is a day off, each is a
// Saturday or a Sunday, and each announced holiday lies in its year.
func TestExampleCalendars(t *testing.T) {
	calendars := map[string]*Calendar{}
	for _, c := range loadExample(t).Calendars {
		if c.Source == "" {
			t.Errorf("%s has no source", c.ID)
		}
		calendars[c.ID] = c
	}
	date := func(day int32) time.Time { return time.Unix(int64(day)*86400, 0).UTC() }
	western := calendars["western_holidays"]
	f := func(id string, year int, first time.Time, days int) {
		t.Helper()
		if !slices.ContainsFunc(western.Days, func(d CalendarDay) bool {
			return d.ID == id && date(d.From) == first && d.Until == d.From+int32(days)
		}) {
			t.Errorf("%s %d does not begin on %s", id, year, first.Format(time.DateOnly))
		}
	}
	for year := 2025; year <= 2027; year++ {
		f("easter", year, easterSunday(year).AddDate(0, 0, -2), 4)
		thanks := time.Date(year, 11, 22, 0, 0, 0, 0, time.UTC)
		for thanks.Weekday() != time.Thursday {
			thanks = thanks.AddDate(0, 0, 1)
		}
		f("thanksgiving", year, thanks, 1)
		f("black_friday", year, thanks.AddDate(0, 0, 1), 1)
		f("christmas", year, time.Date(year, 12, 24, 0, 0, 0, 0, time.UTC), 3)
	}
	// The days themselves, by the Chinese calendar (Hong Kong Observatory, Gregorian-Lunar
	// Calendar Conversion Table of each year).
	for _, day := range []string{
		"new_year 2025-01-01", "spring_festival 2025-01-29", "qingming 2025-04-04",
		"dragon_boat 2025-05-31", "national_day 2025-10-06", // 2025-10-06: Mid-Autumn too
		"new_year 2026-01-01", "spring_festival 2026-02-17", "qingming 2026-04-05",
		"dragon_boat 2026-06-19", "mid_autumn 2026-09-25", "national_day 2026-10-01",
		"new_year 2027-01-01", "spring_festival 2027-02-06", "qingming 2027-04-05",
		"dragon_boat 2027-06-09", "mid_autumn 2027-09-15", "national_day 2027-10-01",
	} {
		id, on, _ := strings.Cut(day, " ")
		if !slices.ContainsFunc(calendars["cn_public_holidays"].Days, func(d CalendarDay) bool {
			return d.ID == id && date(d.From).Format(time.DateOnly) <= on &&
				on < date(d.Until).Format(time.DateOnly)
		}) {
			t.Errorf("%s is not in the calendar", day)
		}
	}
	for _, w := range calendars["cn_working_weekends"].Days {
		if day := date(w.From).Weekday(); day != time.Saturday && day != time.Sunday {
			t.Errorf("%s is a %s", date(w.From), day)
		}
		for _, d := range calendars["cn_public_holidays"].Days {
			if d.From <= w.From && w.From < d.Until {
				t.Errorf("%s is off and worked", date(w.From))
			}
		}
	}
}

func TestPacingFaults(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		got := wrong("kind: cap\nid: c\nper: offer\ncount_on: accept\nlimit: 5\n" + text)
		if !slices.Equal(got, want) {
			t.Errorf("%s\n got %q\nwant %q", text, got, want)
		}
	}
	const total = "scope: total\nwindow: {calendar: day}\n"
	f(total + "pacing: even\n")
	f(total + "pacing: {by: front_loaded, hours: " +
		"[0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 4, 4, 5, 4, 3.5, 3, 3, 4, 5, 6, 6, 5, 2, 1]}\n")
	f("scope: total\nwindow: lifetime\npacing: asap\n")
	f("scope: person\nwindow: {calendar: day}\npacing: even\n",
		"f.yaml:8:9: cap/c: pacing: pacing belongs to a cap of scope total")
	f(total+"pacing: {by: fast, hours: [1, 2]}\n",
		`f.yaml:8:14: cap/c: pacing.by: "fast" is none of asap, even, front_loaded`,
		"f.yaml:8:27: cap/c: pacing.hours: 24 weights are expected, one for each hour of the day")
	f(total+"pacing: {by: even, hours: [0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}\n",
		"f.yaml:8:27: cap/c: pacing.hours: the weights are all 0")
	f(total+"pacing: {by: even, hours: [-1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1]}\n",
		"f.yaml:8:28: cap/c: pacing.hours[0]: a number from 0 to 1e+06 is expected, not -1")
}

func TestQuietFaults(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		if got := wrong(text); !slices.Equal(got, want) {
			t.Errorf("%s\n got %q\nwant %q", text, got, want)
		}
	}
	const calendar = "kind: calendar\nid: c\ndays:\n  - {id: a, date: 2026-01-01}\n---\n"
	f("kind: calendar\nid: c\ndays:\n  - {from: 2026-02-29, until: 2026-03-01}\n"+
		"  - {from: 2026-03-02, until: 2026-03-02}\n  - {from: 2026-01-01, until: 2027-01-03}\n"+
		"  - {date: 2026-01-01, until: 2026-01-02}\n  - {date: 1970-01-01}\n",
		`f.yaml:4:12: calendar/c: days[0].from: "2026-02-29" is not a date, such as 2026-11-22`,
		"f.yaml:5:31: calendar/c: days[1].until: the end is not after the start: until is the "+
			"first day that is over",
		"f.yaml:6:31: calendar/c: days[2].until: the days span more than 366 days",
		"f.yaml:7:5: calendar/c: days[3]: a day has one date, or from and until",
		`f.yaml:8:12: calendar/c: days[4].date: "1970-01-01" is not in the years 1971 to 2199`)
	f(calendar+"kind: quiet_hours\nid: q\non: [c/b, d, \"c//a\"]\nexcept: [c, c/a]\n"+
		"segment: s\nwindow: []\n",
		"f.yaml:8:6: quiet_hours/q: on[0]: calendar c has no days with id b (did you mean a?)",
		`f.yaml:8:11: quiet_hours/q: on[1]: there is no calendar "d" (did you mean c?)`,
		`f.yaml:8:14: quiet_hours/q: on[2]: "c//a" is not a calendar, nor calendar/day`,
		`f.yaml:10:10: quiet_hours/q: segment: there is no segment "s"`,
		"f.yaml:11:1: quiet_hours/q: window: unknown key (did you mean windows?)")
	f("kind: quiet_hours\nid: q\napplies_to: {channels: [sms], message_classes: [mandatory]}\n"+
		"except: []\n",
		"f.yaml:1:1: quiet_hours/q: quiet hours have windows of the day, or days of a calendar "+
			"(on), or both",
		"f.yaml:3:13: quiet_hours/q: applies_to: quiet hours never bind mandatory messages",
		"f.yaml:4:9: quiet_hours/q: except: an empty list: leave the key out")
	// Two documents and the workspace close the day together; days and calendars do not count.
	const parts = "kind: workspace\nid: w\nquiet_hours: {channels: [sms], windows: " +
		`[{from: "00:00", until: "08:00"}]}` + "\n---\nkind: quiet_hours\nid: a\n" +
		"applies_to: {channels: [sms]}\nwindows: [{from: \"08:00\", until: \"16:00\"}]\n---\n" +
		"kind: quiet_hours\nid: b\nwindows: [{from: \"15:00\", until: \"24:00\""
	f(parts+"}]\n",
		"f.yaml:8:10: quiet_hours/a: windows: no minute of the day (in January) is outside the "+
			"quiet hours of marketing on sms in every zone: a whole day needs a calendar (on) or days",
		"f.yaml:12:10: quiet_hours/b: windows: no minute of the day (in January) is outside the "+
			"quiet hours of marketing on sms in every zone: a whole day needs a calendar (on) or days")
	f(parts + ", days: [monday]}]\n")
	f(parts + "}]\nsegment: s\n---\nkind: segment\nid: s\nmembers: static\n")
}
