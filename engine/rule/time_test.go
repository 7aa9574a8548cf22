package rule

import (
	"testing"
	"time"

	"tact/storage"
)

// The edges of spans, to the millisecond.
func TestWithinEdges(t *testing.T) {
	at := moment(t, "2026-11-22T10:00:00.5Z")
	who := person(t, attr(7, val(storage.KindTime, int64(at))))
	f := func(rule string, after storage.UnixMsec, want bool) {
		t.Helper()
		who.Now = at + after
		if got := holds(t, mustParse(t, `{"attribute":"joined",`+rule+`}`), who, nil); got != want {
			t.Errorf("%s %d ms later: %v", rule, after, got)
		}
	}
	f(`"within_last":"90s"`, -1, false)
	f(`"within_last":"90s"`, 0, true)
	f(`"within_last":"90s"`, 89_999, true)
	f(`"within_last":"90s"`, 90_000, false)
	f(`"within_next":"90s"`, -90_000, false)
	f(`"within_next":"90s"`, -89_999, true)
	f(`"within_next":"90s"`, 0, true)
	f(`"within_next":"90s"`, 1, false)
}

// next is the second of the flip, never later, and 0xFFFFFFFF without one.
func TestNextChange(t *testing.T) {
	now := "2026-11-22T10:00:00Z"
	f := func(rule string, patch *storage.Patch, zoneName, want string) {
		t.Helper()
		who := &Who{Profile: people(t, patch)[0], Zone: zone(t, zoneName), Now: moment(t, now)}
		s := build(t, nil, mustParse(t, rule))
		var bits [PageWords]uint64
		got := "never"
		if next := s.program.EvalUser(who, 0, bits[:]); next != math32 {
			got = time.Unix(int64(next), 0).In(who.Zone).Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", rule, got, want)
		}
	}
	joined := func(s string) *storage.Patch {
		return attr(7, val(storage.KindTime, int64(moment(t,
			s))))
	}
	born := func(s string) *storage.Patch { return attr(6, date(t, s)) }
	adult := `{"attribute":"birthday","years_since":{"gte":18}}`
	f(`{"attribute":"joined","within_last":"30d"}`, joined("2026-11-22T09:59:59.7Z"), "UTC",
		"2026-12-22T09:59:59Z")
	f(`{"attribute":"joined","within_last":"30d"}`, joined("2026-11-23T10:00:00Z"), "UTC",
		"2026-11-23T10:00:00Z")
	f(`{"attribute":"joined","within_last":"30d"}`, joined("2026-01-01T00:00:00Z"), "UTC", "never")
	f(adult, born("2008-11-23"), "UTC", "2026-11-23T00:00:00Z")
	f(adult, born("2008-11-23"), "Asia/Shanghai", "2026-11-23T00:00:00+08:00")
	f(adult, born("2008-02-29"), "UTC", "never")
	f(adult, born("2009-02-28"), "Asia/Shanghai", "2027-02-28T00:00:00+08:00")
	f(`{"attribute":"birthday","years_since":{"is":18}}`, born("2008-02-29"), "Asia/Shanghai",
		"2027-02-28T00:00:00+08:00")
	f(adult, born("2009-07-01"), "America/New_York",
		"2027-03-14T03:00:00-04:00") // the clocks turn first
	f(`{"attribute":"birthday","anniversary":{"before":"3d"}}`, born("1996-11-26"), "UTC",
		"2026-11-23T00:00:00Z")
	f(`{"attribute":"birthday","anniversary":{"before":"3d"}}`, born("1996-11-22"), "UTC",
		"2026-11-23T00:00:00Z")
	f(`{"attribute":"birthday","within_next":"7d"}`, born("2026-12-01"), "UTC",
		"2026-11-25T00:00:00Z")
	f(`{"attribute":"birthday","before":"2026-12-01"}`, born("2026-11-30"), "UTC", "never")
	f(`{"tag":"churn"}`, &storage.Patch{TagsAdd: []storage.TagValue{{
		ID:      1,
		Expires: 1_800_000_000,
	}}}, "UTC", "2027-01-15T08:00:00Z")
	f(`{"not":{"tag":"churn"}}`, &storage.Patch{TagsAdd: []storage.TagValue{{ID: 1}}}, "UTC",
		"never")
}

// The 29th of February counts on the 28th in other years, the 31st on the last
// day of a shorter month; the calendar is that of package time.
func TestCalendar(t *testing.T) {
	years := func(born, today string, want int64) {
		t.Helper()
		from, _ := parseDate(born)
		to, _ := parseDate(today)
		if addMonths(from, 12*want) > to || addMonths(from, 12*(want+1)) <= to {
			t.Errorf("not %d years from %s to %s", want, born, today)
		}
	}
	years("2008-02-29", "2026-02-27", 17)
	years("2008-02-29", "2026-02-28", 18)
	years("2008-02-29", "2028-02-28", 19)
	years("2008-02-29", "2028-02-29", 20)
	years("2009-02-28", "2028-02-28", 19)
	years("2026-11-23", "2026-11-22", -1)
	start := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	for day := int64(dayMin); day <= dayMax; day += 7 {
		at := start.AddDate(0, 0, int(day-dayMin))
		y, m, d := civil(day)
		if y != int64(at.Year()) || m != int64(at.Month()) || d != int64(at.Day()) || dayOf(y, m,
			d) != day {
			t.Fatalf("day %d is %d-%d-%d, not %s", day, y, m, d, at)
		}
		n := day % 500
		later := addMonths(day, n)
		ly, lm, ld := civil(later)
		last := time.Date(int(ly), time.Month(lm+1), 0, 0, 0, 0, 0, time.UTC).Day()
		if ly*12+lm != y*12+m+n || ld != min(d, int64(last)) {
			t.Fatalf("%d months after %s is %d-%d-%d", n, at, ly, lm, ld)
		}
	}
	if dayOf(1970, 1, 1) != 0 || dayOf(2026, -1, 1) != dayOf(2025, 11, 1) {
		t.Error("days do not start in 1970")
	}
}

// Through turns of the clock and leap days a row kept by next is, minute by
// minute, what Naive says: also where midnight does not exist, comes twice, or
// a whole day is missing.
func TestTurns(t *testing.T) {
	rules := []string{
		`{"attribute":"birthday","years_since":{"gte":3}}`,
		`{"attribute":"birthday","months_since":{"between":[36,36]}}`,
		`{"attribute":"birthday","anniversary":{"before":"1d","after":"0d"}}`,
		`{"attribute":"birthday","within_last":"1096d"}`,
		`{"attribute":"birthday","within_last":"1095d"}`,
		`{"attribute":"joined","years_since":{"gte":3}}`,
		`{"attribute":"joined","within_last":"1095d"}`,
	}
	var trees []*Tree
	for _, r := range rules {
		trees = append(trees, mustParse(t, r))
	}
	s := build(t, nil, trees...)
	f := func(zoneName, around string) {
		t.Helper()
		z := zone(t, zoneName)
		middle := moment(t, around)
		local := time.UnixMilli(int64(middle)).In(z)
		day, _ := parseDate(local.AddDate(-3, 0, 0).Format("2006-01-02"))
		patches := make([]*storage.Patch, 5)
		for i := range patches {
			patches[i] = attr(6, val(storage.KindDate, day+int64(i)-2))
			patches[i].Attrs = append(patches[i].Attrs, storage.AttrValue{
				ID: 7, Value: val(storage.KindTime, int64(middle)+(int64(i)-2-3*365)*dayMs),
			})
		}
		for i, profile := range people(t, patches...) {
			who := &Who{Profile: profile, Zone: z, Now: middle - dayMs*5/2}
			var row [PageWords]uint64
			next := s.program.EvalUser(who, 0, row[:])
			for ; who.Now < middle+dayMs*5/2; who.Now += 60_000 {
				if seconds(who.Now) >= next {
					next = s.program.EvalUser(who, s.program.Rev, row[:])
				}
				for k, tree := range trees {
					if got, want := s.conds[k].Holds(rowOf(row, nil)), tree.Naive(who, nil); got != want {
						t.Fatalf("%s in %s at %s, person %d: %v, naive says %v", rules[k], zoneName,
							time.UnixMilli(int64(who.Now)).In(z), i, got, want)
					}
				}
			}
		}
	}
	f("America/New_York", "2026-03-08T07:00:00Z")
	f("America/New_York", "2026-11-01T06:00:00Z")
	f("America/Sao_Paulo", "2018-11-04T03:00:00Z") // no midnight
	f("America/St_Johns", "2006-10-29T02:31:00Z")  // the clock turns back over midnight at 00:01
	f("Asia/Beirut", "2022-03-26T22:00:00Z")       // no midnight
	f("Pacific/Apia", "2011-12-30T10:00:00Z")      // 30 December 2011 is missing
	f("Pacific/Kwajalein", "1993-08-21T12:00:00Z") // 21 August 1993 is missing
	f("America/Havana", "2026-11-01T05:00:00Z")    // midnight comes twice
	f("Australia/Lord_Howe", "2026-04-04T15:00:00Z")
	f("Asia/Shanghai", "2024-02-29T00:00:00Z")
	f("UTC", "2023-02-28T12:00:00Z")
	f("UTC", "2100-02-28T12:00:00Z")
}
