package storage

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// activitySums is the naive twin of an entry.
type activitySums struct {
	first, last UnixMsec
	count       uint64
	now         UnixMsec // of the last event
	props       map[Name]Sums
	days        map[int32]uint64
	cells       map[int32]map[Name]Sums
}

func sumFacts(facts []activityEdit) map[activityKey]*activitySums {
	all := map[activityKey]*activitySums{}
	for _, f := range facts {
		a := all[f.key]
		if a == nil {
			a = &activitySums{
				first: f.occurred, last: f.occurred, props: map[Name]Sums{},
				days: map[int32]uint64{}, cells: map[int32]map[Name]Sums{},
			}
			all[f.key] = a
		}
		day := int32(math.Floor(float64(int64(f.occurred)+int64(f.shift)*1000) / 86_400_000))
		a.first, a.last, a.now = min(a.first, f.occurred), max(a.last, f.occurred), f.now
		a.count++
		a.days[day]++
		if a.cells[day] == nil {
			a.cells[day] = map[Name]Sums{}
		}
		seen := map[Name]bool{}
		for _, p := range f.props {
			v, ok := p.Value.numeric()
			if !ok || seen[p.ID] {
				seen[p.ID] = true
				continue
			}
			seen[p.ID] = true
			life, cell := a.props[p.ID], a.cells[day][p.ID]
			life.add(v)
			cell.add(v)
			a.props[p.ID], a.cells[day][p.ID] = life, cell
		}
	}
	return all
}

// compareActivity compares an activity with every event there ever was.
func (p *modelPerson) compareActivity(a Activity) error {
	want := sumFacts(p.facts)
	n := 0
	for c := a.Cursor(); c.Next(); n++ {
		w := want[c.key()]
		if w == nil || c.First != w.first || c.Last != w.last || c.Count != w.count {
			return fmt.Errorf("%v: %d to %d, %d; want %+v", c.key(), c.First, c.Last, c.Count, w)
		}
		if oldest := int32(w.now/dayMsec) - ActivityDays; c.Floor > oldest+1 {
			return fmt.Errorf("%v: days from %d on, want %d", c.key(), c.Floor, oldest)
		}
		for prop := Name(1); prop < 10; prop++ {
			if s, ok := c.Sums(prop); !ok || s != w.props[prop] {
				return fmt.Errorf("%v: property %d %+v, want %+v", c.key(), prop, s, w.props[prop])
			}
			days := 0
			for d := c.Days(prop); d.Next(); days++ {
				if d.Count != w.days[d.Day] || d.Sums != w.cells[d.Day][prop] {
					return fmt.Errorf("%v: day %d: %d %+v, want %d %+v", c.key(), d.Day, d.Count,
						d.Sums, w.days[d.Day], w.cells[d.Day][prop])
				}
			}
			for day := range w.days {
				if day >= c.Floor {
					days--
				}
			}
			if days != 0 {
				return fmt.Errorf("%v: %d days too many", c.key(), days)
			}
		}
	}
	if n != len(want) || a.From() != 0 {
		return fmt.Errorf("%d entries, want %d; from %d", n, len(want), a.From())
	}
	return nil
}

// A person stored before activities were kept begins with what the tail holds,
// and says since when that is complete.
func TestActivityOfAnOldStore(t *testing.T) {
	f := func(events int, from UnixMsec, count uint64) {
		t.Helper()
		s, r := newState(0, stateOptions{}), &Row{Person: 1}
		add := func(i int) {
			e := Effect{Kind: EffectEvent, Time: 1000, Event: EventEffect{
				Event: 1, Occurred: UnixMsec(i + 1),
				Indexed: []AttrValue{{ID: 2, Value: Value{Kind: KindInt, Num: uint64(i)}}},
			}}
			if err := s.applyEvent(1, r, &e); err != nil {
				t.Fatal(err)
			}
		}
		for i := range events {
			add(i)
		}
		s.slab.drop(r.activity)
		r.activity = 0
		add(events)
		a := Activity{s.slab.get(r.activity)}
		c := a.Cursor()
		if !c.Next() || a.From() != from || c.Count != count {
			t.Fatalf("%d events: from %d, count %d; want %d, %d", events, a.From(), c.Count, from, count)
		}
		sums, _ := c.Sums(2)
		if sums.N != count || sums.Max != float64(events) {
			t.Fatalf("%+v", sums)
		}
	}
	f(3, 0, 4)
	f(TailMax, 0, TailMax+1)
	f(TailMax+10, 11, TailMax+1)
}

// A part never grows past its bound: the oldest days leave first, then new
// entries, and From or Floor say so.
func TestActivityIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	f := func(events, props, days int) Activity {
		t.Helper()
		var d activityDraft
		b := startActivity(nil, 0)
		for i := range 6000 {
			in := activityEdit{
				key: activityKey{event: Name(1 + i%events)}, now: dayMsec * 500,
				occurred: UnixMsec(500-i/events%days) * dayMsec,
			}
			for p := range props {
				in.props = append(in.props, AttrValue{
					ID: Name(p + 1), Value: Value{Kind: KindFloat, Num: math.Float64bits(rng.Float64())},
				})
			}
			b = d.add(nil, Activity{b}, &in)
			if err := checkActivity(b); err != nil {
				t.Fatal(err)
			}
		}
		return Activity{b}
	}
	a := f(3, 8, 399)
	for c := a.Cursor(); c.Next(); {
		if c.Count != 2000 || a.From() != 0 {
			t.Fatalf("count %d, from %d", c.Count, a.From())
		}
	}
	if a = f(600, 1, 1); a.From() == 0 || le16(a.b[8:]) != ActivityKeys {
		t.Fatalf("from %d, %d entries", a.From(), le16(a.b[8:]))
	}
}

// Days are kept for ActivityDays at least, and longer where they are few.
func TestActivityDaysExpire(t *testing.T) {
	f := func(days, every, oldest, count int) {
		t.Helper()
		var d activityDraft
		b := startActivity(nil, 0)
		for i := 0; i < days; i += every {
			at := UnixMsec(i)*dayMsec + 5
			b = d.add(nil, Activity{b}, &activityEdit{occurred: at, now: at})
		}
		c := Activity{b}.Cursor()
		if err := checkActivity(b); err != nil || !c.Next() {
			t.Fatal(err)
		}
		n, last := 0, int32(0)
		for w := c.Days(0); w.Next(); n++ {
			last = w.Day
		}
		if last != int32(oldest) || n != count || c.Count != uint64((days+every-1)/every) {
			t.Fatalf("%d days back to %d, want %d back to %d", n, last, count, oldest)
		}
	}
	f(440, 1, 0, 440)
	f(441, 1, 40, 401)
	f(1000, 1, 560, 440)
	f(3*439, 3, 0, 439)
	f(3*441, 3, 3*441-3-399, 134)
}

// An event costs no allocation once the buffers have grown.
func TestEventDoesNotAllocate(t *testing.T) {
	s, r := newState(0, stateOptions{}), &Row{Person: 1}
	now := UnixMsec(500 * dayMsec)
	e := Effect{Kind: EffectEvent, Event: EventEffect{Event: 1, Indexed: []AttrValue{
		{ID: 2, Value: Value{Kind: KindInt, Num: 5}},
	}}}
	step := func() {
		now += 3 * 3600 * 1000
		e.Time, e.Event.Occurred = now, now
		e.Event.Event = 1 + e.Event.Event%5
		if err := s.applyEvent(1, r, &e); err != nil {
			t.Fatal(err)
		}
	}
	for range 4000 {
		step()
	}
	if n := testing.AllocsPerRun(500, step); n > 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkEvent(b *testing.B) {
	s, r := newState(0, stateOptions{}), &Row{Person: 1}
	now := UnixMsec(500 * dayMsec)
	e := Effect{Kind: EffectEvent, Event: EventEffect{Event: 1, Indexed: []AttrValue{
		{ID: 2, Value: Value{Kind: KindFloat, Num: math.Float64bits(12.5)}},
		{ID: 3, Value: Value{Kind: KindBool, Num: 1}},
	}}}
	for b.Loop() {
		now += 12 * 3600 * 1000
		e.Time, e.Event.Occurred = now, now
		if err := s.applyEvent(1, r, &e); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(s.slab.get(r.activity))), "activity-bytes")
	b.ReportMetric(float64(len(s.slab.get(r.tail))), "tail-bytes")
}
