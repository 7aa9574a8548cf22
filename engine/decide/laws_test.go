package decide

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// visible copies what a result says, without its scratch.
func visible(out *Result) Result {
	return Result{
		Slots: slices.Clone(out.Slots), Items: slices.Clone(out.Items),
		Keys: slices.Clone(out.Keys), Capped: slices.Clone(out.Capped),
		Assignments: slices.Clone(out.Assignments), Trace: slices.Clone(out.Trace),
	}
}

// randomSession publishes a random catalogue and loads one person.
func randomSession(t *testing.T, w *world, seed uint64, now int64) *session {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 2))
	c := randomCatalogue(r)
	c.fix(now)
	w.plan = nil
	if faults := w.compile(c.set, storage.UnixMsec(now)); len(faults) > 0 {
		t.Fatalf("%+v", faults)
	}
	w.grants = w.grants[:0]
	f := randomFacts(r, fmt.Sprint("u", seed))
	w.load(f, storage.UnixMsec(now))
	return &session{world: w, m: &model{catalogue: c}, f: f, r: r, now: now}
}

// TestPure (law 1): the same call gives the same result, also with another
// Result that held something else before.
func TestPure(t *testing.T) {
	w := newWorld(t)
	seeds(t, 300, func(seed uint64) {
		s := randomSession(t, w, seed, startMs)
		req, over, _ := s.request()
		first := fmt.Sprintf("%+v", visible(s.pick(req, s.f.id, storage.UnixMsec(s.now), over, false)))
		other, over2, _ := s.request()
		s.pick(other, s.f.id, storage.UnixMsec(s.now+5), over2, false)
		again := fmt.Sprintf("%+v", visible(s.pick(req, s.f.id, storage.UnixMsec(s.now), over, false)))
		if first != again {
			t.Errorf("first %s\nagain %s", first, again)
		}
	})
}

// TestRefusalIsAnAnswer (law 2).
func TestRefusalIsAnAnswer(t *testing.T) {
	w := newWorld(t)
	seeds(t, 300, func(seed uint64) {
		s := randomSession(t, w, seed, startMs)
		req, over, _ := s.request()
		out := s.pick(req, s.f.id, storage.UnixMsec(s.now), over, false)
		if len(out.Slots) != len(req.Slots) {
			t.Fatalf("%d slots for %d", len(out.Slots), len(req.Slots))
		}
		for _, slot := range out.Slots {
			if (slot.Count == 0) != (slot.Reason != ReasonNone) ||
				(slot.Kind == SlotNone) != (slot.Count == 0) {
				t.Errorf("slot %+v", slot)
			}
		}
	})
}

// TestCapsHold (law 3): over random picks, confirms and releases of one person
// no window ever holds more confirmed uses than the limit. It does not trust
// Pick's own counting: it keeps the times of all confirms and grants.
func TestCapsHold(t *testing.T) {
	w := newWorld(t)
	now := startMs
	seeds(t, 150, func(seed uint64) {
		s := randomSession(t, w, seed, now)
		for range 40 {
			now += one(s.r, int64(1000), 60_000, 1_800_000, 21_600_000)
			s.now = now
			if s.step(t); t.Failed() {
				return
			}
			s.checkLimits(t)
		}
		now += 1000
	})
}

// checkLimits counts the uses that stand, at each of their times.
func (s *session) checkLimits(t *testing.T) {
	t.Helper()
	for _, c := range s.m.set.Caps {
		limit := (&modelRun{model: s.m, f: s.f}).limit(c)
		if c.Scope == definition.ScopeTotal || c.CountOn&definition.CountReactions != 0 {
			continue
		}
		zone, err := time.LoadLocation(s.m.set.Workspace.Timezone)
		if s.f.zone != "" && c.Window.Zone == "user" {
			zone, err = time.LoadLocation(s.f.zone)
		}
		if c.Window.Zone == "UTC" {
			zone = time.UTC
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, end := range s.m.uses {
			n := 0
			for _, u := range s.m.uses {
				in := u.cap == c.ID && u.dim == end.dim && u.grant < 0 && u.at <= end.at
				switch {
				case c.Window.Until != 0:
					in = in && u.at >= c.Window.From && u.at < c.Window.Until
				case c.Window.Rolling > 0:
					in = in && u.at > end.at-c.Window.Rolling
				case c.Window.Unit != definition.UnitNone:
					in = in && label(&c.Window, u.at, zone) == label(&c.Window, end.at, zone)
				}
				if in {
					n++
				}
			}
			if end.cap == c.ID && end.grant < 0 && n > limit {
				t.Errorf("cap %+v: %d uses of %q up to %d: %+v", *c, n, end.dim, end.at, s.m.uses)
			}
		}
	}
}

// names lists a result by text ids: positions differ between plans.
func (w *world) names(out *Result) string {
	var b strings.Builder
	for _, it := range out.Items {
		fmt.Fprintln(&b, it.Slot, w.plan.Treatments[it.Treatment].Key, it.Score, it.Hold, it.KeyCount)
	}
	for _, slot := range out.Slots {
		fmt.Fprintln(&b, slot.Kind, slot.Reason)
	}
	for _, c := range out.Capped {
		fmt.Fprintln(&b, w.plan.Offers[c.Offer].ID, w.plan.Caps[c.Cap].ID, c.Until)
	}
	return b.String()
}

// compare publishes another set and asks the same again by text ids.
func (s *session) compare(t *testing.T, change func(set *definition.Set)) {
	t.Helper()
	ask := func() string {
		req := &Request{}
		for _, id := range []string{"p0", "p1", "p2"} {
			at, _ := s.plan.PlacementByID([]byte(id))
			req.Slots = append(req.Slots, SlotRequest{Placement: at, Policy: -1})
		}
		req.Words = make([]uint64, s.plan.Program.RequestWords)
		s.plan.Program.EvalRequest([]rule.ContextValue(nil), req.Words)
		return s.names(s.pick(req, s.f.id, storage.UnixMsec(s.now), nil, false))
	}
	before := ask()
	set := *s.m.set
	change(&set)
	if faults := s.compile(&set, storage.UnixMsec(s.now)); len(faults) > 0 {
		t.Fatalf("%+v", faults)
	}
	if after := ask(); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
}

// TestUnrelatedOffersDoNotMatter (law 4).
func TestUnrelatedOffersDoNotMatter(t *testing.T) {
	w := newWorld(t)
	seeds(t, 300, func(seed uint64) {
		s := randomSession(t, w, seed, startMs)
		for _, p := range s.m.set.Policies {
			p.Candidates = definition.Selector{Groups: []string{"g", "other"}}
		}
		if faults := w.compile(s.m.set, 0); len(faults) > 0 {
			t.Fatal(faults)
		}
		s.compare(t, func(set *definition.Set) {
			set.Offers = slices.Clone(set.Offers)
			for _, id := range []string{"a0", "o11", "zz"} {
				set.Offers = append(set.Offers, &definition.Offer{
					Meta: meta("offer", id), Group: "new", Purpose: "x", Value: 9, Lever: 1,
					Propensity: definition.Operand{Const: 1}, Context: definition.Operand{Const: 1},
					Treatments: []*definition.Treatment{{ID: "t"}},
				})
			}
		})
	})
}

// TestOrderDoesNotMatter (law 5).
func TestOrderDoesNotMatter(t *testing.T) {
	w := newWorld(t)
	seeds(t, 300, func(seed uint64) {
		s := randomSession(t, w, seed, startMs)
		s.compare(t, func(set *definition.Set) {
			set.Offers, set.Caps = slices.Clone(set.Offers), slices.Clone(set.Caps)
			set.Placements, set.Policies = slices.Clone(set.Placements), slices.Clone(set.Policies)
			set.Experiments = slices.Clone(set.Experiments)
			slices.Reverse(set.Offers)
			slices.Reverse(set.Caps)
			slices.Reverse(set.Placements)
			slices.Reverse(set.Policies)
			slices.Reverse(set.Experiments)
		})
	})
}

// wideCatalogue is n offers over 16 web placements, each with a rule, some with
// caps and dates, in one policy a placement.
func wideCatalogue(n int) *definition.Set {
	set := &definition.Set{}
	set.Workspace.Timezone = "UTC"
	set.Calendars = []*definition.Calendar{{
		Meta: meta("calendar", "c"), Days: []definition.CalendarDay{{From: 20000, Until: 30000}},
	}}
	for i := range 4 { // of the last offers, at every hour but one
		set.Quiet = append(set.Quiet, &definition.QuietRule{
			Meta: meta("quiet_hours", fmt.Sprint("q", i)), Classes: []definition.MessageClass{0},
			Offers: definition.Selector{IDs: []string{"o990", "o991", "o992"}}, Hold: true,
			Windows: []definition.MinuteSpan{{From: 60 * (i + 1), Until: 60 * i}}, On: []string{"c"},
		})
	}
	set.Attributes = []*definition.Attribute{
		{Meta: meta("attribute", "age"), Type: definition.TypeInt},
	}
	set.Caps = []*definition.Cap{{
		Meta: meta("cap", "c"), Per: definition.PerOffer, CountOn: definition.CountImpression,
		Window: definition.Window{Rolling: 86400}, Limit: 3, ConfirmGrace: 300,
		Offers: definition.Selector{All: true},
	}}
	for i := range 16 {
		set.Placements = append(set.Placements, &definition.Placement{
			Meta: meta("placement", fmt.Sprint("p", i)), Policy: "pol", Count: 1,
		})
	}
	set.Policies = []*definition.Policy{{
		Meta: meta("decision_policy", "pol"), Candidates: definition.Selector{All: true},
		Propensity: 1, Context: 1, Value: 1, Lever: 1,
	}}
	for i := range n {
		set.Offers = append(set.Offers, &definition.Offer{
			Meta: meta("offer", fmt.Sprint("o", i)), Purpose: "marketing", Lever: 1,
			Value:       float64(1 + i%97),
			Propensity:  definition.Operand{Const: 1 / float64(1+i%13)},
			Context:     definition.Operand{Const: 1},
			Eligibility: mapping("attribute", text("age"), "gte", number(int64(i%40))),
			Treatments: []*definition.Treatment{{
				ID: "t", Placements: []string{fmt.Sprint("p", i%16)},
			}},
		})
	}
	return set
}

// TestNoAllocation (law 7), for picks, refusals with a trace, and caps.
func TestNoAllocation(t *testing.T) {
	w := newWorld(t)
	if faults := w.compile(wideCatalogue(1000), 0); len(faults) > 0 {
		t.Fatal(faults)
	}
	f := &facts{id: "u", attrs: map[string]float64{"age": 20}, zone: "Asia/Shanghai"}
	w.load(f, storage.UnixMsec(startMs))
	check := func(req *Request) {
		t.Helper()
		w.pick(req, "u", storage.UnixMsec(startMs), nil, true) // some contact history
		w.group.Lock()
		defer w.group.Unlock()
		who := w.person("u", storage.UnixMsec(startMs))
		at := moment(storage.UnixMsec(startMs + 5000))
		n := testing.AllocsPerRun(100, func() { w.plan.Pick(req, &who, &at, nil, &w.out) })
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
	words := make([]uint64, w.plan.Program.RequestWords)
	check(&Request{Slots: []SlotRequest{{Placement: 3, Policy: -1}}, Words: words})
	check(&Request{
		Slots: []SlotRequest{
			{Placement: 3, Policy: -1, Count: 9},
			{Placement: 4, Policy: -1},
		},
		Words: words, Explain: true,
	})
	check(&Request{Slots: []SlotRequest{{Placement: 2, Policy: -1, Allow: []int32{}}}, Words: words})
}

// TestNeverMerges: a rule that can never hold stays so beside others of its word.
func TestNeverMerges(t *testing.T) {
	got := mergeTerms([]rule.Term{{Word: 0, Mask: 1}, never()})
	if len(got) != 1 || got[0] != never() {
		t.Errorf("got %+v", got)
	}
	got = mergeTerms([]rule.Term{{Word: 2, Mask: 4, Want: 4}, {Word: 2, Mask: 4}})
	if len(got) != 1 || got[0] != never() {
		t.Errorf("got %+v", got)
	}
	got = mergeTerms([]rule.Term{{Word: 2, Mask: 4, Want: 4}, {Word: 2, Mask: 8}})
	if len(got) != 1 || got[0] != (rule.Term{Word: 2, Mask: 12, Want: 4}) {
		t.Errorf("got %+v", got)
	}
}

// TestCalendarWindow: the window of an instant holds exactly the seconds with
// its label, through changes of daylight saving.
func TestCalendarWindow(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	names := []string{
		"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "America/Sao_Paulo",
		"Australia/Lord_Howe", "Asia/Beirut",
	}
	for range int(3000 * effort()) {
		zone, err := time.LoadLocation(one(r, names...))
		if err != nil {
			t.Fatal(err)
		}
		w := &definition.Window{
			Unit: definition.Unit(1 + r.IntN(6)), Every: 1 + r.IntN(3), WeekStart: r.IntN(7),
		}
		at := 200_000_000 + r.Int64N(2_000_000_000)
		start, end := rule.CalendarWindow(w, at, zone)
		want := label(w, at, zone)
		ok := start <= at && at < end && label(w, start, zone) == want &&
			label(w, end-1, zone) == want && label(w, end, zone) != want
		if w.Unit != definition.UnitHour {
			ok = ok && label(w, start-1, zone) != want
		}
		if !ok {
			t.Errorf("%+v at %d in %s: [%d, %d) is not window %d", *w, at, zone, start, end, want)
		}
	}
}

// Around every turn of a zone's clock the windows of hours and days follow one
// another without a gap, each with all instants that the wall shows so: an hour that
// comes twice is one window, a midnight that comes twice begins the day at the first.
func TestCalendarWindowAtTurns(t *testing.T) {
	for _, name := range []string{
		"Europe/Berlin", "America/New_York", "America/Havana", "America/Sao_Paulo", "Africa/Cairo",
		"Asia/Beirut", "Australia/Lord_Howe", "Asia/Tehran",
	} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		turn := time.Date(2015, 1, 1, 0, 0, 0, 0, zone)
		for turns := 0; ; turns++ {
			if _, turn = turn.ZoneBounds(); turn.IsZero() || turn.Year() > 2026 {
				if turns < 4 {
					t.Errorf("%s: %d turns", name, turns)
				}
				break
			}
			for at := turn.Unix() - 3*3600; at < turn.Unix()+27*3600; at += 900 {
				for _, unit := range []definition.Unit{definition.UnitHour, definition.UnitDay} {
					w := &definition.Window{Unit: unit, Every: 1}
					start, end := rule.CalendarWindow(w, at, zone)
					want := label(w, at, zone)
					if start > at || at >= end || label(w, start, zone) != want ||
						label(w, start-1, zone) == want || label(w, end-1, zone) != want ||
						label(w, end, zone) == want {
						t.Fatalf("unit %d at %d in %s: [%d, %d)", unit, at, name, start, end)
					}
				}
			}
		}
	}
}

func BenchmarkPick(b *testing.B) {
	w := newWorld(b)
	if faults := w.compile(wideCatalogue(1000), 0); len(faults) > 0 {
		b.Fatal(faults)
	}
	w.load(&facts{id: "u", attrs: map[string]float64{"age": 20}}, storage.UnixMsec(startMs))
	req := &Request{
		Slots: []SlotRequest{{Placement: 3, Policy: -1}},
		Words: make([]uint64, w.plan.Program.RequestWords),
	}
	w.group.Lock()
	defer w.group.Unlock()
	who := w.person("u", storage.UnixMsec(startMs))
	at := moment(storage.UnixMsec(startMs))
	b.ReportAllocs()
	for b.Loop() {
		w.plan.Pick(req, &who, &at, nil, &w.out)
	}
}
