package decide

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tact/storage"
)

// wallWindow is a window as the clock on the wall shows it, found by plain dates
// and minutes that are walked one by one: a second opinion on CalendarWindow.
type wallWindow struct {
	unit      string // "" = rolling or lifetime
	every     int
	weekStart time.Weekday
	rolling   int64
}

// first is the first date and hour of the window that holds t, and of the next
// one, as the wall shows them; both in UTC, so that every one of them exists.
func (w *wallWindow) first(t time.Time) (from, next time.Time) {
	n := w.every
	date := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	epoch := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	days := int(date.Sub(epoch).Hours()) / 24
	switch w.unit {
	case "hour":
		hours := days*24 + t.Hour()
		from = epoch.Add(time.Duration(hours-hours%n) * time.Hour)
		return from, from.Add(time.Duration(n) * time.Hour)
	case "day":
		from = date.AddDate(0, 0, -(days % n))
		return from, from.AddDate(0, 0, n)
	case "week":
		zero := epoch
		for zero.Weekday() != w.weekStart {
			zero = zero.AddDate(0, 0, -1)
		}
		from = zero
		for from.AddDate(1, 0, 0).Before(date) { // years in whole strides of weeks
			from = from.AddDate(0, 0, 7*n*(52/n))
		}
		for !from.AddDate(0, 0, 7*n).After(date) {
			from = from.AddDate(0, 0, 7*n)
		}
		return from, from.AddDate(0, 0, 7*n)
	}
	months := map[string]int{"month": 1, "quarter": 3, "year": 12}[w.unit] * n
	since := (t.Year()-1970)*12 + int(t.Month()) - 1
	from = epoch.AddDate(0, since-since%months, 0)
	return from, from.AddDate(0, months, 0)
}

// shows is what the wall of a zone shows at an instant, as if it were UTC.
func shows(at int64, zone *time.Location) time.Time {
	t := time.Unix(at, 0).In(zone)
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// reaches walks to the first instant at which the wall shows w or later.
func reaches(w time.Time, zone *time.Location) int64 {
	guess := time.Date(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), 0, 0, zone)
	at := guess.Add(-3 * time.Hour).Unix() // no clock is put on or back by more
	for shows(at, zone).Before(w) {
		at += 60
	}
	return at
}

// capCase is one cap with its person, in the plan and as a list of uses.
type capCase struct {
	*world
	r       *rand.Rand
	w       wallWindow
	follows bool // the cap's calendar is the person's
	limit   int
	great   bool // the limit may grow above 64: counts are kept, not times
	id      string
	zones   []*time.Location // in which the cap is judged now: of somebody unknown, in all
	unknown bool             // nobody knows the person's zone yet
	home    *time.Location
	uses    []int64
	seen    map[int64]bool
	moved   bool // the person's zone has changed
	refused int
}

// String tells what a failure needs.
func (c *capCase) String() string {
	return fmt.Sprintf("%+v limit %d great %v in %v, uses %v", c.w, c.limit, c.great, c.zones, c.uses)
}

func capZoneNames() []string {
	return []string{
		"UTC", "Asia/Shanghai", "America/New_York", "Europe/Berlin", "America/Sao_Paulo",
		"Australia/Lord_Howe", "Asia/Beirut", "Asia/Kathmandu", "Africa/Cairo", "Pacific/Auckland",
	}
}

// newCapCase draws a cap and publishes it.
func newCapCase(t *testing.T, w *world, r *rand.Rand, id string) *capCase {
	t.Helper()
	c := &capCase{
		world: w, r: r, limit: 1 + r.IntN(4), great: r.IntN(4) == 0, id: id, seen: map[int64]bool{},
	}
	follow := one(r, "user", "user", "workspace", "UTC")
	var window string
	if c.w.rolling = 0; r.IntN(4) == 0 {
		c.w.rolling = one(r, int64(3600), 86400, 7*86400, 30*86400)
		window = fmt.Sprintf("{rolling: %ds}", c.w.rolling)
		c.great = false // its cells have a test of their own
	} else {
		c.w.unit = one(r, "hour", "day", "day", "week", "month", "quarter", "year")
		c.w.every, c.w.weekStart = 1+r.IntN(3), time.Weekday(r.IntN(7))
		window = fmt.Sprintf("{calendar: %s, every: %d, zone: %s", c.w.unit, c.w.every, follow)
		if c.w.unit == "week" {
			window += ", week_start: " + strings.ToLower(c.w.weekStart.String())
		}
		window += "}"
	}
	limit := fmt.Sprint(c.limit)
	if c.great {
		limit = fmt.Sprintf("{attribute: age, default: %d, max: 100}", c.limit)
	}
	home := one(r, capZoneNames()...)
	w.t, w.plan, c.follows, c.home = t, nil, follow == "user", w.zone(home)
	c.zones = []*time.Location{c.home}
	list := home
	if c.follows && r.IntN(3) == 0 { // nobody knows where the person lives
		for range 1 + r.IntN(2) {
			name := one(r, capZoneNames()...)
			if !slices.Contains(c.zones, w.zone(name)) {
				list += ", " + name
				c.zones = append(c.zones, w.zone(name))
			}
		}
		c.unknown = true
	}
	text := fmt.Sprintf(capCaseWorld, home, list, window, limit)
	if faults := w.publish(text, 1000); faults != "" {
		t.Fatalf("%s\n%s", faults, text)
	}
	if follow == "UTC" {
		c.zones[0] = time.UTC
	}
	w.create(id, 1000)
	return c
}

const capCaseWorld = `
{kind: workspace, id: default, timezone: %s, zones: [%s]}
---
{kind: attribute, id: age, type: int}
---
{kind: offer, id: a, group: g, message_class: marketing,
 treatments: [{id: t, channel: web, content: {type: text, body: a}}]}
---
{kind: placement, id: spot, channel: web, policy: p}
---
{kind: decision_policy, id: p, candidates: {offers: {groups: [g]}}}
---
{kind: cap, id: c, scope: person, per: all, count_on: decision, window: %s, limit: %s}
`

// move gives the person another zone.
func (c *capCase) move() {
	name := one(c.r, capZoneNames()...)
	zone := c.name(storage.DictZone, name)
	c.patch(c.people[c.id], 1000, &storage.Patch{Zone: &zone})
	if c.follows {
		c.moved = c.moved || len(c.uses) > 0
		c.zones, c.unknown = []*time.Location{c.zone(name)}, false
	}
}

// start is the first instant of the window that holds now: the earliest of several
// zones.
func (c *capCase) start(now int64) int64 {
	if c.w.unit == "" {
		return now - c.w.rolling + 1
	}
	start := now
	for _, zone := range c.zones {
		from, _ := c.w.first(shows(now, zone))
		start = min(start, reaches(from, zone))
	}
	return start
}

// next is the first instant after now at which a window of some zone begins.
func (c *capCase) next(now int64) int64 {
	var all []int64
	for _, zone := range c.zones {
		_, next := c.w.first(shows(now, zone))
		all = append(all, reaches(next, zone))
	}
	return slices.Min(all)
}

// count is how many uses lie in the window of now, or later.
func (c *capCase) count(now int64) int {
	start, n := c.start(now), 0
	for _, at := range c.uses {
		if at >= start {
			n++
		}
	}
	return n
}

// frees walks from window to window, or from use to use, until there is room.
func (c *capCase) frees(now int64) int64 {
	if c.w.unit == "" {
		for _, at := range slices.Sorted(slices.Values(c.uses)) {
			if at += c.w.rolling; at > now && c.count(at) < c.limit {
				return at
			}
		}
		return -1
	}
	for at := now; ; {
		if at = c.next(at); c.count(at) < c.limit {
			return at
		}
	}
}

// decide asks at an instant, compares, and counts what was granted.
func (c *capCase) decide(t *testing.T, at int64) {
	t.Helper()
	out := c.pick(&Request{Slots: []SlotRequest{{Policy: -1}}}, c.id, storage.UnixMsec(at*1000),
		&Overlay{}, true)
	n := c.count(at)
	granted := len(out.Items) > 0
	if !granted {
		c.refused++
	} else {
		c.uses = append(c.uses, at)
	}
	switch {
	case granted && n >= c.limit:
		t.Fatalf("granted at %d with %d uses: %v", at, n, c)
	case granted:
	case c.great && c.moved: // counted by the end of the day of another zone: errs to less
	case n < c.limit:
		t.Fatalf("refused at %d with %d uses: %v", at, n, c)
	default:
		if len(out.Capped) != 1 || int64(out.Capped[0].Until) != c.frees(at) {
			t.Fatalf("refused at %d: %+v, frees at %d: %v", at, out.Capped, c.frees(at), c)
		}
	}
}

// near draws an instant: anywhere, by a turn of the zone's clock, by 29 February
// or by New Year.
func (c *capCase) near() int64 {
	at := 946_684_800 + c.r.Int64N(35*365*86400)
	year := 2000 + c.r.IntN(34)
	switch c.r.IntN(5) {
	case 0:
		return at
	case 1:
		at = time.Date(year/4*4, 2, 28+c.r.IntN(3), c.r.IntN(24), 0, 0, 0, c.zones[0]).Unix()
	case 2:
		at = time.Date(year, 12, 31, 23, 59, 50+c.r.IntN(20), 0, c.zones[0]).Unix()
	default:
		if _, end := time.Unix(at, 0).In(c.zones[0]).ZoneBounds(); !end.IsZero() {
			at = end.Unix()
		}
	}
	return at + c.r.Int64N(2*7200) - 7200
}

// run plays n instants around a start: mostly on, sometimes back.
func (c *capCase) run(t *testing.T, at int64, n int) {
	t.Helper()
	for range n {
		c.decide(t, at)
		switch c.r.IntN(12) {
		case 0:
			at -= one(c.r, int64(1), 1800, 3600, 86400, 40*86400)
		case 1:
			c.move()
		case 2:
			if end := c.frees(at); len(c.uses) >= c.limit && end > 0 {
				at = end - 1 // the last second that is refused
				continue
			}
		case 3:
			at++
		case 4, 5, 6: // to the next turn of the clock
			_, end := time.Unix(at+86400, 0).In(c.zones[0]).ZoneBounds()
			if !end.IsZero() && end.Unix() < 2_500_000_000 {
				at = end.Unix() - 1 - c.r.Int64N(one(c.r, int64(1), 3600, 14_400, 86400))
			}
		case 7, 8:
			at += c.r.Int64N(2400)
		default:
			at += c.r.Int64N(one(c.r, int64(600), 7200, 100_000, 86400*10, 86400*100) + 1)
		}
	}
}

// TestCapWindows: over caps of every window, instants at turns of the clock, leap
// days and year ends, people who move or of whom no zone is known, and time that steps
// back, a cap grants,
// refuses and says when it frees as a walk over the wall's clock does: 20,000
// instants.
func TestCapWindows(t *testing.T) {
	w := newWorld(t)
	grants, refusals, unknown := 0, 0, 0
	seeds(t, 800, func(seed uint64) {
		r := rand.New(rand.NewPCG(seed, 77))
		c := newCapCase(t, w, r, fmt.Sprint("w", seed))
		if r.IntN(2) == 0 {
			c.move()
		}
		c.run(t, c.near(), 25)
		grants, refusals = grants+len(c.uses), refusals+c.refused
		if c.unknown {
			unknown++
		}
	})
	t.Logf("%d instants: %d granted, %d refused; %d people of no known zone", grants+refusals, grants,
		refusals, unknown)
}

// FuzzCapWindows begins at an instant of the fuzzer's.
func FuzzCapWindows(f *testing.F) {
	w := newWorld(f)
	n := 0
	f.Add(uint64(1), int64(1_711_846_800))
	f.Add(uint64(2), int64(1_709_164_799))
	f.Fuzz(func(t *testing.T, seed uint64, at int64) {
		if at < 946_684_800 || at > 2_100_000_000 {
			t.Skip()
		}
		n++
		c := newCapCase(t, w, rand.New(rand.NewPCG(seed, 78)), fmt.Sprint("f", n))
		c.run(t, at, 12)
	})
}
