package rule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// life is what a drawn person did: the log of it, and what is kept of the log.
type life struct {
	log      []storage.Effect // in order of arrival
	home     *time.Location
	tail     storage.Tail
	activity storage.Activity
}

const dayOfMs = storage.UnixMsec(dayMs)

// life draws a person: nobody, a rare guest or a daily one.
func (d draw) life(t testing.TB) life {
	return d.busy(t, []int{0, 2, 8, 30, 70, 200}[d.IntN(6)])
}

// busy draws a log of n events before now, some of which come late, some of
// which lie a little ahead of now.
func (d draw) busy(t testing.TB, n int) life {
	l := life{home: zone(t, d.one(zones()...))}
	span := []storage.UnixMsec{dayOfMs, 40 * dayOfMs, 200 * dayOfMs, 600 * dayOfMs}[d.IntN(4)]
	for i := range n {
		came := d.now - span + span*storage.UnixMsec(i+1)/storage.UnixMsec(n)
		at := came - storage.UnixMsec(d.IntN(1000))
		switch d.IntN(12) {
		case 0:
			at -= storage.UnixMsec(d.IntN(120)) * dayOfMs
		case 1:
			at = came + storage.UnixMsec(d.IntN(300_000))
		case 2:
			at -= at % dayOfMs
		}
		l.log = append(l.log, d.fact(at, came, l.home))
	}
	var err error
	if l.tail, l.activity, err = storage.BuildHistory(l.log, 0); err != nil {
		t.Fatal(err)
	}
	return l
}

func (d draw) fact(at, came storage.UnixMsec, home *time.Location) storage.Effect {
	_, shift := time.UnixMilli(int64(at)).In(home).Zone()
	e := storage.Effect{Kind: storage.EffectEvent, Time: came}
	if d.IntN(5) == 0 {
		e.Kind = storage.EffectOutcome
		e.Outcome = storage.OutcomeEffect{
			Event: storage.Name(11 + d.IntN(2)), Offer: storage.Name(d.IntN(4)), Occurred: at,
			Shift: int32(shift),
		}
		return e
	}
	e.Event = storage.EventEffect{
		Event: storage.Name(1 + d.IntN(3)), Occurred: at, Shift: int32(shift),
	}
	values := []storage.AttrValue{
		{ID: 1, Value: floatValue(float64(d.IntN(64)) / 4)},
		{ID: 2, Value: val(storage.KindBool, int64(d.IntN(2)))},
		{ID: 3, Value: text(storage.KindString, d.one("a", "b", "c", "Ann"))},
		{ID: 4, Value: val(storage.KindInt, int64(d.IntN(9)-3))},
		{ID: 6, Value: listValue([][]string{{}, {"a"}, {"b", "Ann", "a"}, {"c"}}[d.IntN(4)]...)},
		{ID: 7, Value: listValue([][]string{{"3"}, {"7.5", "x", "-1e1"}, {"100", "0.5"}}[d.IntN(3)]...)},
		{ID: 8, Value: val(storage.KindDate, int64(at)/dayMs+int64(d.IntN(9)-4))},
		{ID: 9, Value: val(storage.KindTime, int64(at)+int64(d.IntN(9)-4)*dayMs/3)},
	}
	for _, v := range values {
		if e.Event.Event == 1 && d.IntN(5) > 0 {
			e.Event.Indexed = append(e.Event.Indexed, v)
		}
	}
	return e
}

// event draws a condition on events.
func (d draw) event() string {
	n := strconv.Itoa(d.IntN(4))
	many := `{"` + d.one("gte", "gt", "lt", "lte", "is", "is_not") + `":` + d.one(n, n, "20", "80") + `}`
	switch d.IntN(12) {
	case 0:
		return `{"not_seen_for":"` + d.one("5m", "1d", "7d", "200d") + `"}`
	case 1:
		return `{"sequence":[` + d.step() + `,` + d.step() + d.one("", ","+d.step()) + `],"within":"` +
			d.one("1h", "1d", "7d", "100d") + `"` + d.one("", `,"without":`+d.step()) + `}`
	case 2:
		return `{"outcome":"` + d.one("impression", "click") + `"` + d.one("",
			`,"offers":{"ids":["story"]}`, `,"offers":{"groups":["growth"]}`, `,"offers":"all"`,
			`,"offers":{"labels":{"season":"autumn"}}`,
			`,"offers":{"groups":["growth"],"not":{"labels":{"kind":"loyal"}}}`) +
			`,"count":` + many + d.window() + `}`
	case 3:
		return `{"event":"*","count":` + many + d.window() + `}`
	case 4:
		return `{"event":"` + d.one("*", "order", "visit") + `","distinct":"day","count":` + many +
			d.window() + `}`
	case 5:
		return `{"event":"order","distinct":` + many + `,"of":"` +
			d.one("sku", "qty", "new", "items[].sku", "items[].price") + `"` +
			d.window() + `}`
	case 6:
		return `{"event":"order","` + d.one("sum", "min", "max", "avg") + `":{"` +
			d.one("gte", "lt", "is_not") + `":` + d.one("0", "3.5", "7", "100", "500") + `},"of":"` +
			d.one("amount", "qty", "items[].price") + `"` + d.window() + d.where() + `}`
	case 7:
		return `{"event":"` + d.one("order", "visit", "*") + `","` + d.one("first", "last") + `":{"` +
			d.one(`within_last":"3d`, `within_last":"90s`, `before":"`+d.day(), `is":"`+d.day(),
				`after":"`+d.day()+`T10:00:00Z`) + `"}` + d.window() + `}`
	case 8:
		return `{"event":"order","` + d.one("first", "last") + `":{"` + d.one("is", "is_not") +
			`":"a"},"of":"` + d.one("sku", "items[].sku") + `"` + d.window() + d.where() + `}`
	case 9:
		return `{"event":"order"` + d.window() + d.where() + `}`
	}
	return `{"event":"` + "order" + `","count":` + many + d.window() + d.where() + `}`
}

func (d draw) step() string {
	return d.one(`{"event":"visit"}`, `{"event":"order"`+d.where()+`}`, `{"event":"open"}`,
		`{"event":"*"}`, `{"outcome":"click","offers":{"groups":["growth"]}}`)
}

func (d draw) where() string {
	return d.one("", "", `,"where":[{"property":"new","is":true}]`,
		`,"where":[{"property":"new","is_not":true}]`, `,"where":[{"property":"new","is":false}]`,
		`,"where":[{"property":"new","is_set":`+d.one("true", "false")+`}]`,
		`,"where":[{"property":"amount","gte":3},{"property":"sku","in":["a","b"]}]`,
		`,"where":[{"property":"items[].sku","`+d.one("in", "not_in")+`":["a","c"]}]`,
		`,"where":[{"property":"items[].sku","`+d.one("is", "is_not", "starts_with")+`":"Ann"}]`,
		`,"where":[{"property":"items[].price","gt":`+d.one("-20", "3", "50")+`}]`,
		`,"where":[{"property":"items[].price","is_set":`+d.one("true", "false")+`}]`,
		`,"where":[{"property":"due","`+d.one("within_last", "within_next")+`":"`+
			d.one("2d", "30d")+`"}]`,
		`,"where":[{"property":"slot","`+d.one("within_last", "within_next")+`":"`+
			d.one("90s", "36h", "9d")+`"}]`,
		`,"where":[{"property":"slot","`+d.one("is", "before", "gte")+`":"`+d.day()+`"}]`,
		`,"where":[{"property":"due","months_since":{"lt":`+d.one("1", "0")+`}}]`)
}

func (d draw) window() string {
	unit := d.one("hour", "day", "week", "month", "quarter", "year")
	return d.one("", "", `,"within":"`+d.one("90s", "1h", "1d", "7d", "30d", "90d", "300d", "500d")+`"`,
		`,"within":"`+d.one("1d", "30d", "150d")+`"`,
		`,"window":{"calendar":"`+unit+`","every":`+d.one("1", "1", "2", "3")+`,"zone":"`+
			d.one("user", "workspace", "UTC")+`","week_start":"`+d.one("sunday", "monday")+`"}`,
		`,"window":{"between":["`+d.day()+`T03:04:05Z","9999-01-01T00:00:00Z"]}`,
		`,"window":{"between":["2022-01-01T00:00:00Z","2024-02-28T15:00:00+09:00"]}`)
}

// raw lists the events of the log that pass a match, newest first, from the
// words of the rule alone.
func (l *life) raw(m *match, w *Who) []naiveFact {
	var all []naiveFact
	for _, e := range l.log {
		f := naiveFact{count: 1, props: map[storage.Name]storage.Value{}}
		event, item := e.Event.Event, storage.Name(0)
		f.at = e.Event.Occurred
		if e.Kind == storage.EffectOutcome {
			event, item, f.at = e.Outcome.Event, e.Outcome.Offer, e.Outcome.Occurred
		}
		f.day = dayIn(l.home, f.at)
		for _, p := range e.Event.Indexed {
			f.props[p.ID] = p.Value
		}
		pass := m.outcome == (e.Kind == storage.EffectOutcome) && (m.any || event == m.event) &&
			(m.offers == nil || slices.Contains(m.offers, item))
		for i := range m.where {
			v, ok := f.props[m.where[i].leaf.id]
			pass = pass && (ok && propertyPerson(&m.where[i].leaf, v, w)) != m.where[i].negative
		}
		if pass {
			all = append(all, f)
		}
	}
	slices.Reverse(all)
	slices.SortStableFunc(all, func(a, b naiveFact) int { return int(b.at - a.at) })
	return all
}

// byDay says whether one of the conditions was answered by calendar day.
func (p *Program) byDay(w *Who) bool {
	e := evaluation{who: w, flip: never, atoms: p.UserAtoms}
	e.clock.now = w.Now
	e.zoned(true)
	for i := range p.UserAtoms {
		e.judge(&p.UserAtoms[i].test)
	}
	return e.byDay
}

// Law 6: what the kept part of a log answers is what the log itself answers, now
// and at times before: exactly inside the tail, by calendar day beyond it, which
// it says.
func TestTheLogIsTheTruth(t *testing.T) {
	var exact, byDay, unknown, held int
	r := newRun(t, 2e6)
	for seed := uint64(0); r.more(); seed++ {
		w := newWorld(t, 5000+seed, 12)
		for range 40 {
			n := mustParse(t, w.event()).rule
			for n.kind == nodeNot {
				n = n.subs[0]
			}
			if n.kind != nodeLeaf || n.leaf.behaviour.agg == aggSequence {
				continue
			}
			leaf, b := n.leaf, n.leaf.behaviour
			tree := &Tree{rule: n}
			s := build(t, nil, tree)
			for _, l := range w.lives {
				who := &Who{
					Zone: zone(t, w.one(zones()...)), Home: l.home, Now: w.now, Tail: l.tail,
					Activity: l.activity,
				}
				switch w.IntN(4) {
				case 0:
					who.Now += storage.UnixMsec(w.IntN(100)) * dayOfMs / 3
				case 1:
					who.Now -= storage.UnixMsec(w.IntN(600)) * dayOfMs / 5
				}
				user, _ := s.fresh(who, nil)
				got := s.conds[0].Holds(rowOf(user, nil))
				lo, hi, until := b.window.naive(who)
				_, reach := naiveFacts(b, who, [3]storage.UnixMsec{lo, hi, until})
				facts := l.raw(&b.steps[0], who)
				floor := l.tail.Floor()
				if byDay := s.program.byDay(who); byDay != (reach == reachDays) {
					t.Fatalf("seed %d: %s: by day %v, naive says %v", seed,
						tree.Explain(nil, nil, ""), byDay, reach)
				}
				switch reach {
				case reachExact:
					facts = slices.DeleteFunc(facts, func(f naiveFact) bool {
						return f.at < lo || f.at > hi
					})
					exact++
				case reachDays:
					facts = slices.DeleteFunc(facts, func(f naiveFact) bool {
						return lo != sinceEver && f.day < dayIn(l.home, lo) || f.day > dayIn(l.home, hi) ||
							f.at > hi && floor <= hi+1
					})
					byDay++
				default:
					unknown++
					if facts = slices.DeleteFunc(facts, func(f naiveFact) bool {
						return f.at < lo || f.at > hi
					}); !got || leaf.naiveFacts(facts, who) {
						continue // not held, or proved by the tail alone
					}
				}
				if want := leaf.naiveFacts(facts, who); got != want {
					t.Fatalf("seed %d: %s: bits say %v, the log says %v; reach %v, floor %d, from %d, "+
						"window %d to %d, now %d, %d events", seed, tree.Explain(nil, nil, ""), got, want,
						reach, floor, l.activity.From(), lo, hi, who.Now, len(l.log))
				}
				r.done++
				if got {
					held++
				}
			}
		}
	}
	t.Logf("%d exact, %d by day, %d unknown, %d held", exact, byDay, unknown, held)
	if byDay < r.done/50 || unknown < r.done/100 || held < r.done/5 {
		t.Fatalf("the cases are too alike: %d exact, %d by day, %d unknown, %d held",
			exact, byDay, unknown, held)
	}
}

// ask judges a rule about a person who did what facts say: each is
// "event time [property=value …]".
func ask(t *testing.T, rule, now string, facts ...string) bool {
	t.Helper()
	tail, activity := historyOf(t, now, facts...)
	return holds(t, mustParse(t, rule), &Who{
		Now: moment(t, now), Zone: zone(t, "America/New_York"), Home: zone(t, "Europe/Berlin"),
		Tail: tail, Activity: activity,
	}, nil)
}

// historyOf is what a person did whose facts are as ask takes them.
func historyOf(t *testing.T, now string, facts ...string) (storage.Tail, storage.Activity) {
	t.Helper()
	var log []storage.Effect
	for _, f := range facts {
		words := strings.Fields(f)
		e := storage.Effect{Kind: storage.EffectEvent}
		declared := testNames().Events[words[0]]
		e.Event = storage.EventEffect{Event: declared.ID, Occurred: moment(t, words[1])}
		e.Time = e.Event.Occurred
		if name, offer, ok := strings.Cut(words[0], "@"); ok {
			e = storage.Effect{Kind: storage.EffectOutcome, Time: e.Time}
			e.Outcome.Event, e.Outcome.Occurred = testNames().Outcomes[name], e.Time
			for _, o := range testNames().Offers {
				if o.ID == offer {
					e.Outcome.Offer = o.Name
				}
			}
		}
		for _, w := range words[2:] {
			name, value, _ := strings.Cut(w, "=")
			p := declared.Properties[name]
			v := text(storage.KindString, value)
			if p.Each {
				v = listValue(strings.Split(value, "|")...)
				e.Event.Indexed = append(e.Event.Indexed, storage.AttrValue{ID: p.ID, Value: v})
				continue
			}
			switch p.Type {
			case definition.TypeDate:
				v = date(t, value)
			case definition.TypeTime:
				v = val(storage.KindTime, int64(moment(t, value)))
			case definition.TypeBool:
				v = val(storage.KindBool, 0)
				if value == "true" {
					v.Num = 1
				}
			case definition.TypeInt:
				n, err := strconv.ParseInt(value, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				v = val(storage.KindInt, n)
			case definition.TypeFloat:
				x, err := strconv.ParseFloat(value, 64)
				if err != nil {
					t.Fatal(err)
				}
				v = floatValue(x)
			}
			e.Event.Indexed = append(e.Event.Indexed, storage.AttrValue{ID: p.ID, Value: v})
		}
		log = append(log, e)
	}
	tail, activity, err := storage.BuildHistory(log, moment(t, now))
	if err != nil {
		t.Fatal(err)
	}
	return tail, activity
}

// What each word of a condition on events means.
func TestEventMeaning(t *testing.T) {
	const now = "2024-03-10T12:00:00Z"
	f := func(want bool, rule string, facts ...string) {
		t.Helper()
		if got := ask(t, rule, now, facts...); got != want {
			t.Errorf("%s with %q: %v", rule, facts, got)
		}
	}
	const within = `{"event":"order","within":"1d"}`
	f(false, within)
	f(true, within, "order 2024-03-10T12:00:00Z")
	f(true, within, "order 2024-03-09T12:00:00.001Z")
	f(false, within, "order 2024-03-09T12:00:00Z") // exactly W ago is outside
	f(false, within, "order 2024-03-10T12:00:00.001Z")
	f(false, within, "visit 2024-03-10T11:00:00Z")
	f(true, `{"event":"*","within":"1d"}`, "visit 2024-03-10T11:00:00Z")
	f(false, `{"event":"*"}`, "impression@story 2024-03-10T11:00:00Z")
	f(true, `{"outcome":"impression"}`, "impression@story 2024-03-10T11:00:00Z")
	f(false, `{"outcome":"click"}`, "impression@story 2024-03-10T11:00:00Z")
	const growth = `{"outcome":"impression","offers":{"groups":["growth"],"ids":["story"]}}`
	f(true, growth, "impression@points 2024-03-10T11:00:00Z")
	f(false, `{"outcome":"impression","offers":{"ids":["story"]}}`,
		"impression@points 2024-03-10T11:00:00Z")
	two := []string{
		"order 2024-03-01T10:00:00Z amount=10 new=true sku=a",
		"order 2024-03-02T10:00:00Z amount=5.5 sku=a", "order 2024-03-02T22:59:00Z new=false",
	}
	f(true, `{"event":"order","count":{"is":3}}`, two...)
	f(true, `{"event":"order","sum":{"is":15.5},"of":"amount"}`, two...)
	f(true, `{"event":"order","avg":{"is":7.75},"of":"amount"}`, two...)
	f(true, `{"event":"order","min":{"is":5.5},"of":"amount"}`, two...)
	f(true, `{"event":"order","max":{"gte":10},"of":"amount"}`, two...)
	f(false, `{"event":"visit","count":{"gte":0},"within":"1d","window":"lifetime"}`[:0]+
		`{"event":"order","min":{"gte":0},"of":"amount","within":"1h"}`, two...) // nothing is no value
	f(true, `{"event":"order","sum":{"lt":1},"of":"amount","within":"1h"}`, two...)
	f(true, `{"event":"order","distinct":{"is":1},"of":"sku"}`, two...)
	f(true, `{"event":"order","distinct":"day","count":{"is":2}}`, two...)
	// 23:30 in UTC is the next day in Berlin.
	f(true, `{"event":"order","distinct":"day","count":{"is":3}}`,
		append(two, "order 2024-03-02T23:30:00Z")...)
	f(true, `{"event":"order","first":{"before":"2024-03-02"}}`, two...)
	f(true, `{"event":"order","last":{"after":"2024-03-02T22:00:00Z"}}`, two...)
	f(false, `{"event":"visit","last":{"after":"2000-01-01"}}`, two...)
	f(true, `{"event":"order","first":{"is":"a"},"of":"sku"}`, two...)
	f(false, `{"event":"order","last":{"is":"a"},"of":"sku"}`, two...) // it has none
	const where = `{"event":"order","where":[{"property":"new","`
	f(true, where+`is":true}],"count":{"is":1}}`, two...)
	f(true, where+`is_not":true}],"count":{"is":2}}`, two...)
	f(true, where+`is_set":false}],"count":{"is":1}}`, two...)
	f(true, `{"event":"order","window":{"between":["2024-03-02T10:00:00Z","2024-03-02T22:59:00Z"]},`+
		`"count":{"is":1}}`, two...)
	f(true, `{"not_seen_for":"7d"}`, two...)
	f(false, `{"not_seen_for":"8d"}`, two...)
	f(true, `{"not_seen_for":"8d"}`)
	steps := []string{
		"visit 2024-03-01T10:00:00Z", "open 2024-03-02T10:00:00Z",
		"order 2024-03-03T10:00:00Z",
	}
	f(true, `{"sequence":[{"event":"visit"},{"event":"order"}],"within":"2d"}`, steps...)
	f(false, `{"sequence":[{"event":"visit"},{"event":"order"}],"within":"47h"}`, steps...)
	f(false, `{"sequence":[{"event":"order"},{"event":"visit"}],"within":"20d"}`, steps...)
	f(false, `{"sequence":[{"event":"visit"},{"event":"order"}],"within":"2d","without":`+
		`{"event":"open"}}`, steps...)
	f(true, `{"sequence":[{"event":"visit"},{"event":"order"}],"within":"2d","without":`+
		`{"event":"order","where":[{"property":"new","is":true}]}}`, steps...)
	f(false, `{"sequence":[{"event":"order"},{"event":"order"}],"within":"2d"}`, steps...)
}

// Calendar windows have 23 and 25 hours where the clock changes, and follow the
// person, the workspace or UTC.
func TestCalendarWindowsOfEvents(t *testing.T) {
	f := func(want bool, window, now, event string) {
		t.Helper()
		if got := ask(t, `{"event":"order","window":{"calendar":`+window+`}}`, now,
			"order "+event); got != want {
			t.Errorf("%s at %s with %s: %v", window, now, event, got)
		}
	}
	// New York, 10 March 2024: 02:00 becomes 03:00; the day has 23 hours.
	f(true, `"day","zone":"user"`, "2024-03-11T03:59:59Z", "2024-03-10T05:00:00Z")
	f(false, `"day","zone":"user"`, "2024-03-11T04:00:00Z", "2024-03-10T05:00:00Z")
	f(false, `"day","zone":"user"`, "2024-03-11T03:59:59Z", "2024-03-10T04:59:59Z")
	// 3 November 2024: 02:00 becomes 01:00; the day has 25 hours.
	f(true, `"day","zone":"user"`, "2024-11-04T04:59:59Z", "2024-11-03T04:00:00Z")
	f(false, `"day","zone":"user"`, "2024-11-04T05:00:00Z", "2024-11-03T04:00:00Z")
	// Berlin, the workspace: midnight is 23:00 UTC in winter.
	f(true, `"day"`, "2024-02-29T22:00:00Z", "2024-02-28T23:00:00Z")
	f(false, `"day"`, "2024-02-29T22:00:00Z", "2024-02-28T22:59:59Z")
	f(true, `"day","zone":"UTC"`, "2024-02-29T22:00:00Z", "2024-02-29T00:00:00Z")
	f(true, `"month","zone":"UTC"`, "2024-02-29T22:00:00Z", "2024-02-01T00:00:00Z")
	f(false, `"month","zone":"UTC"`, "2024-03-01T00:00:00Z", "2024-02-29T23:59:59Z")
	f(true, `"week","zone":"UTC"`, "2024-03-10T23:00:00Z", "2024-03-04T00:00:00Z")
	f(false, `"week","zone":"UTC","week_start":"sunday"`, "2024-03-10T23:00:00Z",
		"2024-03-09T23:59:59Z")
}

// Of a person whose tail is not the whole life: sums answer what they can, the
// tail proves what it can, and the rest is unknown.
func TestBeyondTheTail(t *testing.T) {
	var facts []string
	day := time.Date(2024, 1, 1, 10, 0, 0, 0, time.UTC)
	for i := range 100 {
		facts = append(facts, fmt.Sprintf("order %s amount=2 sku=%c new=%v",
			day.AddDate(0, 0, i/2).Format(time.RFC3339), 'a'+i%2, i == 0))
	}
	now := "2024-02-20T06:00:00Z"
	f := func(want bool, rule string) {
		t.Helper()
		if got := ask(t, rule, now, facts...); got != want {
			t.Errorf("%s: %v", rule, got)
		}
	}
	f(true, `{"event":"order","count":{"is":100}}`)
	f(true, `{"event":"order","sum":{"is":200},"of":"amount"}`)
	f(true, `{"event":"order","where":[{"property":"new","is":true}]}`)
	f(true, `{"event":"order","where":[{"property":"new","is":true}],"count":{"is":1}}`)
	f(true, `{"event":"order","where":[{"property":"new","is":false}],"count":{"is":99}}`)
	f(true, `{"event":"order","count":{"is":100},"within":"60d"}`)
	f(true, `{"event":"order","distinct":"day","count":{"is":50},"within":"60d"}`)
	f(true, `{"event":"order","first":{"is":"2024-01-01"}}`)
	// By day: 5 January counts whole, though the window begins at 06:00.
	f(true, `{"event":"order","count":{"is":92},"within":"46d"}`)
	// A text property: 64 events are in the tail, half of them a.
	f(false, `{"event":"order","where":[{"property":"sku","is":"a"}],"count":{"gte":33}}`)
	f(true, `{"event":"order","where":[{"property":"sku","is":"a"}],"count":{"gte":32}}`)
	f(false, `{"event":"order","where":[{"property":"sku","is":"a"}],"count":{"lte":99}}`)
	f(false, `{"safety":true,"event":"order","where":[{"property":"sku","is":"a"}]}`)
	f(false, `{"safety":true,"not":{"event":"order","where":[{"property":"sku","is":"z"}]}}`)
	f(true, `{"safety":true,"event":"order","count":{"gte":2},"within":"300d"}`)
	f(true, `{"not":{"event":"order","where":[{"property":"sku","is":"z"}]}}`)
	// Of 600 days in a row 401 to 440 are kept.
	facts = facts[:0]
	for i := range 600 {
		facts = append(facts, "order "+day.AddDate(0, 0, i-550).Format(time.RFC3339))
	}
	f(true, `{"event":"order","count":{"is":600}}`)
	f(true, `{"event":"order","count":{"is":300},"within":"300d"}`)
	f(false, `{"event":"order","count":{"gte":100},"within":"500d"}`)
	f(true, `{"event":"order","count":{"gte":10},"within":"500d"}`)
}

// What was answered by calendar day says so, in both languages, whether the rule
// holds or not; what the tail or the whole life answers does not.
func TestByDayReads(t *testing.T) {
	var facts []string
	day := time.Date(2024, 1, 1, 10, 0, 0, 0, time.UTC)
	for i := range 100 {
		facts = append(facts, "order "+day.AddDate(0, 0, i/2).Format(time.RFC3339))
	}
	const now = "2024-02-20T06:00:00Z"
	tail, activity := historyOf(t, now, facts...)
	who := &Who{Now: moment(t, now), Home: zone(t, "Europe/Berlin"), Tail: tail, Activity: activity}
	f := func(rule, en, zh string) {
		t.Helper()
		tree := mustParse(t, rule)
		if got := tree.Explain(who, nil, "en"); got != en {
			t.Errorf("\n got %s\nwant %s", got, en)
		}
		if got := tree.Explain(who, nil, "zh"); got != zh {
			t.Errorf("\n got %s\nwant %s", got, zh)
		}
		var bits [PageWords]uint64
		s, judge := build(t, nil, tree), tree.Population(nil).Judge()
		s.program.ByDay(who, 0, &bits)
		judge.Holds(who)
		if want := strings.Contains(en, "(by calendar day)"); judge.ByDay() != want ||
			(bits != [PageWords]uint64{}) != want {
			t.Errorf("%s: bits %v, judge %v", en, bits, judge.ByDay())
		}
	}
	f(`{"event":"order","count":{"gte":90},"within":"46d"}`,
		`order at least 90 times in the last 46 days (by calendar day): holds`,
		`最近 46 天 order 至少 90 次(按自然日):满足`)
	f(`{"event":"order","count":{"gte":95},"within":"46d"}`,
		`order at least 95 times in the last 46 days (by calendar day): refused by `+
			`«order at least 95 times in the last 46 days (by calendar day)»`,
		`最近 46 天 order 至少 95 次(按自然日):不满足,因为 「最近 46 天 order 至少 95 次(按自然日)」`)
	f(`{"event":"order","count":{"gte":10},"within":"20d"}`,
		`order at least 10 times in the last 20 days: holds`, `最近 20 天 order 至少 10 次:满足`)
	f(`{"event":"order","count":{"is":100}}`, `order exactly 100 times: holds`,
		`order 恰好 100 次:满足`)
	who.Now = moment(t, "2024-01-10T06:00:00Z") // before the tail begins
	f(`{"event":"order","count":{"is":20}}`, `order exactly 20 times (by calendar day): holds`,
		`order 恰好 20 次(按自然日):满足`)
}

// Asked at a time in the past, what came later does not count.
func TestInThePast(t *testing.T) {
	var facts []string
	day := time.Date(2024, 1, 1, 10, 0, 0, 0, time.UTC)
	for i := range 100 { // the tail begins on 19 January
		facts = append(facts, fmt.Sprintf("order %s amount=%d new=%v",
			day.AddDate(0, 0, i/2).Format(time.RFC3339), 1+i/2, i < 2))
	}
	tail, activity := historyOf(t, "2024-02-20T06:00:00Z", facts...)
	f := func(want bool, at, rule string) {
		t.Helper()
		who := &Who{Now: moment(t, at), Tail: tail, Activity: activity}
		if got := holds(t, mustParse(t, rule), who, nil); got != want {
			t.Errorf("%s at %s: %v", rule, at, got)
		}
	}
	count := func(n int, window string) string {
		return fmt.Sprintf(`{"event":"order","count":{"is":%d}%s}`, n, window)
	}
	f(true, "2024-02-10T09:59:59Z", count(80, ""))
	f(true, "2024-02-10T10:00:00Z", count(82, ""))
	f(true, "2024-01-10T09:59:59Z", count(20, "")) // before the tail: the day counts whole
	f(true, "2023-12-31T23:00:00Z", count(0, ""))
	f(true, "2024-02-10T09:59:59Z", count(78, `,"within":"39d"`))
	f(true, "2024-02-10T10:00:00Z", count(80, `,"within":"39d"`))
	f(true, "2024-01-10T12:00:00Z", count(12, `,"within":"5d"`)) // 5 to 10 January
	f(true, "2024-02-10T09:59:59Z", `{"event":"order","sum":{"is":1640},"of":"amount"}`)
	f(true, "2024-02-10T09:59:59Z", `{"event":"order","avg":{"is":20.5},"of":"amount"}`)
	f(true, "2024-02-10T09:59:59Z", `{"event":"order","min":{"is":1},"of":"amount"}`)
	f(false, "2024-02-10T09:59:59Z", `{"event":"order","max":{"gte":1},"of":"amount"}`) // not known
	f(true, "2024-02-10T09:59:59Z",
		`{"event":"order","where":[{"property":"new","is":false}],"count":{"is":78}}`)
	f(true, "2024-02-10T09:59:59Z", `{"event":"order","distinct":"day","count":{"is":39},"within":"39d"}`)
	f(true, "2024-02-10T10:00:00Z", `{"event":"order","distinct":"day","count":{"is":40},"within":"39d"}`)
	f(true, "2024-02-10T12:00:00Z", `{"event":"order","last":{"is":"2024-02-10"}}`)
	f(false, "2024-01-10T12:00:00Z", `{"event":"order","last":{"within_last":"1d"}}`) // not known
	f(true, "2024-01-10T12:00:00Z", `{"event":"order","first":{"is":"2024-01-01"}}`)
}

// Of several events in the millisecond in which the tail begins the last to come is
// known.
func TestLastInOneMillisecond(t *testing.T) {
	const same = "2024-01-01T10:00:00.123Z"
	facts := []string{"visit " + same, "order " + same + " sku=a", "order " + same + " sku=b"}
	for i := range 62 {
		facts = append(facts, fmt.Sprintf("open 2024-01-02T10:00:%02d.5Z", i%60))
	}
	const now = "2024-01-03T00:00:00Z"
	f := func(want bool, rule string) {
		t.Helper()
		if got := ask(t, rule, now, facts...); got != want {
			t.Errorf("%s: %v", rule, got)
		}
	}
	f(true, `{"event":"order","last":{"is":"b"},"of":"sku"}`)
	f(true, `{"event":"order","last":{"within_last":"3d"},"where":[{"property":"sku","is":"a"}]}`)
	f(false, `{"event":"order","first":{"is":"a"},"of":"sku"}`) // the first of all is not known
}

// Law 5 beyond the tail: a day leaves on time, also where its clock changes, and
// a window that comes into the tail is judged anew.
func TestNeverLateByDay(t *testing.T) {
	changes := 0
	for seed := range uint64(12 * effort()) {
		d := newDraw(900 + seed)
		l := d.busy(t, 200)
		who := &Who{Zone: l.home, Home: l.home, Now: d.now, Tail: l.tail, Activity: l.activity}
		if seed%2 == 0 {
			who.Scratch = &Scratch{}
		}
		if seed%3 == 0 { // what came after it does not count yet
			who.Now -= storage.UnixMsec(d.IntN(200)) * dayOfMs / 2
		}
		within := d.one(`,"within":"3d"}`, `,"within":"30d"}`, `,"within":"90d"}`, `,"within":"200d"}`,
			`}`, `,"window":{"between":["2022-01-01T00:00:00Z","2024-02-28T15:00:00+09:00"]}}`)
		var trees []*Tree
		for k := 1; k < 100; k += 1 + k/16 {
			trees = append(trees, mustParse(t, fmt.Sprintf(`{"event":"%s","count":{"gte":%d}%s`,
				[]string{"order", "*"}[k%2], k, within)))
		}
		s := build(t, nil, trees...)
		var row, anew [PageWords]uint64
		next := s.program.EvalUser(who, 0, row[:])
		for step := 0; step < 60 && next != math32; step++ {
			before := row
			for _, at := range around(world{draw: d}, who.Now, next) {
				if at <= who.Now {
					continue
				}
				if who.Now = at; seconds(at) >= next {
					next = s.program.EvalUser(who, s.program.Rev, row[:])
				}
				anew = [PageWords]uint64{}
				if s.program.EvalUser(who, 0, anew[:]); row != anew {
					t.Fatalf("seed %d: a bit changed before %d, at %d in %s: %x %x", seed, next, at,
						l.home, row, anew)
				}
			}
			if before != row {
				changes++
			}
		}
	}
	if changes < 100 {
		t.Fatalf("only %d changes", changes)
	}
}

// A rule about events reads as one line in English and in Chinese.
func TestExplainEvents(t *testing.T) {
	f := func(rule, en, zh string) {
		t.Helper()
		tree := mustParse(t, rule)
		if got := tree.Explain(nil, nil, "en"); got != en {
			t.Errorf("\n got %s\nwant %s", got, en)
		}
		if got := tree.Explain(nil, nil, "zh"); got != zh {
			t.Errorf("\n got %s\nwant %s", got, zh)
		}
	}
	f(`{"all":[{"attribute":"gender","is":"female"},{"event":"order","count":{"gte":2},"within":"30d"},`+
		`{"not":{"event":"order","where":[{"property":"new","is":true}]}}]}`,
		`gender is "female" and order at least 2 times in the last 30 days and `+
			`never did order where new is true`,
		`gender 是 “female” 且 最近 30 天 order 至少 2 次 且 从未有 order(其中 new 是 true)`)
	f(`{"event":"order","sum":{"gte":100},"of":"amount","window":{"calendar":"month"}}`,
		`sum of amount of order in this calendar month ≥ 100`, `本月 order 的 amount 合计 ≥ 100`)
	f(`{"outcome":"click","offers":{"groups":["growth"],"not":{"labels":{"kind":"loyal"}}},`+
		`"count":{"lt":3}}`, `click of [growth, not (kind=loyal)] fewer than 3 times`,
		`click 于 [growth, not (kind=loyal)] 少于 3 次`)
	f(`{"sequence":[{"event":"visit"},{"event":"order"}],"within":"7d","without":{"event":"open"}}`,
		`visit then order within 7 days without open`, `visit 然后 order,在 7 天 内,其间没有 open`)
	f(`{"not":{"not_seen_for":"7d"}}`, `not (not seen for 7 days)`, `非(未活跃满 7 天)`)
	f(`{"event":"order","last":{"within_last":"3d"}}`, `last order within the last 3 days`,
		`order 的最近一次时间 在最近 3 天 内`)
	f(`{"event":"order","first":{"is":"a"},"of":"sku"}`, `first sku of order is "a"`,
		`order 的 sku 首次的值 是 “a”`)
	f(`{"event":"order","distinct":{"gte":3},"of":"sku","within":"1w"}`,
		`number of different sku of order in the last 1 week ≥ 3`,
		`最近 1 周 order 的 sku 不同值个数 ≥ 3`)
	f(`{"event":"*","distinct":"day","count":{"gte":3},"window":{"calendar":"week","every":2}}`,
		`number of days with anything in this calendar period of 2 weeks ≥ 3`,
		`本 2 周自然周期 任意事件 的发生天数 ≥ 3`)
	f(`{"not":{"event":"order","count":{"gte":2}}}`, `count of order not (≥ 2)`,
		`order 的次数 非(≥ 2)`)
	f(`{"not":{"event":"visit","within":"1h"}}`, `did not do visit in the last 1 hour`,
		`最近 1 小时 没有 visit`)
	for _, agg := range [][3]string{
		{"min", "least", "最小值"}, {"max", "greatest", "最大值"}, {"avg", "average", "平均值"},
	} {
		f(`{"event":"order","`+agg[0]+`":{"lt":9},"of":"items[].price","window":{"between":`+
			`["2024-01-01T00:00:00Z","2024-02-01T00:00:00Z"]}}`,
			agg[1]+` items[].price of order in 2024-01-01T00:00:00Z–2024-02-01T00:00:00Z < 9`,
			`在 2024-01-01T00:00:00Z–2024-02-01T00:00:00Z 之间 order 的 items[].price `+agg[2]+` < 9`)
	}
	f(`{"context":"hour_of_week","between":[9,17]}`, `context hour_of_week between 9 and 17`,
		`上下文 hour_of_week 介于 9 与 17 之间`)
}

// A segment is its rule, in place: also under a not, where what it asks to be
// known is still asked.
func TestSegmentInPlace(t *testing.T) {
	names := testNames()
	parse := func(text string) *Tree {
		t.Helper()
		tree, faults := Parse(mustNode(t, text), names, "rule")
		if len(faults) > 0 {
			t.Fatalf("%s: %+v", text, faults)
		}
		return tree
	}
	names.Rules = map[string]*Tree{}
	names.Rules["adult"] = parse(`{"safety":true,"attribute":"age","gte":18}`)
	names.Rules["buyer"] = parse(`{"event":"order","within":"30d"}`)
	names.Rules["both"] = parse(`{"all":[{"segment":"adult"},{"segment":"buyer"}]}`)
	names.Rules["ill"] = parse(`{"attribute":"illness","is":"yes"}`)
	f := func(text, same string) {
		t.Helper()
		got, want := parse(text), parse(same)
		if g, w := got.Explain(nil, nil, ""), want.Explain(nil, nil, ""); g != w ||
			got.Safety() != want.Safety() {
			t.Errorf("%s\n got %s\nwant %s", text, g, w)
		}
	}
	f(`{"segment":"buyer"}`, `{"event":"order","within":"30d"}`)
	f(`{"segment":"adult"}`, `{"all":[{"attribute":"age","gte":18},{"attribute":"age","is_set":true}]}`)
	f(`{"not":{"segment":"adult"}}`,
		`{"all":[{"not":{"attribute":"age","gte":18}},{"attribute":"age","is_set":true}]}`)
	f(`{"all":[{"segment":"ill"}]}`, `{"all":[{"attribute":"illness","is":"yes"}]}`)
	tree := parse(`{"not":{"segment":"both"}}`)
	nobody := &Who{Now: 1}
	if holds(t, tree, nobody, nil) {
		t.Error("not in an adult segment holds for a person without an age")
	}
	deep := `{"tag":"churn"}`
	for range MaxDepth - 1 {
		deep = `{"not":` + deep + `}`
	}
	names.Rules["deep"] = parse(deep)
	if _, faults := Parse(mustNode(t, `{"not":{"segment":"deep"}}`), names, "rule"); len(faults) != 1 ||
		faults[0].Field != "rule.not.segment" {
		t.Errorf("%+v", faults)
	}
}
