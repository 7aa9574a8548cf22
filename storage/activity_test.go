package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
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

// dayOf is the calendar day of an instant in a zone shift seconds ahead of UTC.
func dayOf(at UnixMsec, shift int32) int32 {
	return int32(math.Floor(float64(int64(at)+int64(shift)*1000) / 86_400_000))
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
		day := f.day
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
	want := sumFacts(p.everything())
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
		for c := (tailCursor{b: s.slab.get(r.tail)}); c.next(); {
			c.body[0] &^= tailWaits
		}
		add(events)
		a := s.whole.view(s.slab.get(r.activity), Tail{s.slab.get(r.tail)})
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
				occurred: UnixMsec(500-i/events%days) * dayMsec, day: int32(500 - i/events%days),
			}
			for p := range props {
				in.props = append(in.props, AttrValue{
					ID: Name(p + 1), Value: Value{Kind: KindFloat, Num: math.Float64bits(rng.Float64())},
				})
			}
			b = d.add(nil, Activity{b: b}, &in)
			if err := checkActivity(b); err != nil {
				t.Fatal(err)
			}
		}
		return Activity{b: b}
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

// appendLong packs an activity as row format 2 had it: each entry with its floor and
// its days.
func (a Activity) appendLong(dst []byte) []byte {
	dst = append(dst, a.b[:activityHeader]...)
	for c := a.Cursor(); c.Next(); {
		e := binary.AppendUvarint(nil, uint64(c.Event))
		e = appendBool(binary.AppendUvarint(e, uint64(c.Item)), c.Outcome)
		e = binary.AppendUvarint(binary.AppendVarint(e, int64(c.First)), uint64(c.Last-c.First))
		e = binary.AppendUvarint(e, c.Count)
		e = binary.AppendUvarint(e, uint64(int64(c.Floor)+activityDay))
		e = append(append(append(e, byte(c.nProps)), c.ids...), c.totals...)
		if c.oneDay {
			e = binary.AppendVarint(append(e, 1), int64(c.day))
			e = append(binary.AppendUvarint(e, c.Count), c.totals...)
		} else {
			e = append(binary.AppendUvarint(e, uint64(c.nDays)), c.days...)
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(e))), e...)
	}
	return dst
}

// An activity as row format 2 had it says what the present one says, takes more bytes,
// and goes on as the present one does.
func TestActivityLong(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	short := 0
	for i := range 300 {
		p := modelPerson{}
		var now, other activityDraft
		b := startActivity(nil, 0)
		old := b
		for range 1 + rng.IntN(12) {
			at := UnixMsec(1+rng.IntN(1+i%5)) * dayMsec / 2
			in := activityEdit{
				key: activityKey{event: Name(1 + rng.IntN(4))}, occurred: at, now: 9 * dayMsec,
				day: dayOf(at, int32(rng.IntN(2*shiftMax)-shiftMax)),
			}
			for id := range rng.IntN(3) {
				in.props = append(in.props, AttrValue{
					ID: Name(id + 1), Value: Value{Kind: KindInt, Num: rng.Uint64() >> 20},
				})
			}
			p.left = append(p.left, in)
			b, old = now.add(nil, Activity{b: b}, &in), other.add(nil, Activity{b: old}, &in)
			for _, b := range [][]byte{b, old} {
				if err := errors.Join(checkActivity(b), p.compareActivity(Activity{b: b})); err != nil {
					t.Fatalf("draw %d: %v", i, err)
				}
			}
			if old = (Activity{b: old}).appendLong(nil); len(old) <= len(b) {
				t.Fatalf("draw %d: %d bytes, now %d", i, len(old), len(b))
			}
			if err := errors.Join(checkActivity(old), p.compareActivity(Activity{b: old})); err != nil {
				t.Fatalf("draw %d, as it was: %v", i, err)
			}
		}
		for c := (Activity{b: b}).Cursor(); c.Next(); {
			if c.oneDay {
				short++
			}
		}
	}
	if short < 100 {
		t.Errorf("%d entries of one day", short)
	}
}

// What no version writes is told: a flag that is not known, a day far from the last
// event or below the floor, days behind the one.
func TestActivityDamage(t *testing.T) {
	var d activityDraft
	in := activityEdit{key: activityKey{event: 1}, occurred: 5 * dayMsec, now: 5 * dayMsec, day: 5}
	whole := d.add(nil, Activity{b: startActivity(nil, 0)}, &in)
	f := func(name string, good bool, change func(entry []byte) []byte) {
		t.Helper()
		entry := change(bytes.Clone(whole[activityHeader+1:]))
		b := append(append(bytes.Clone(whole[:activityHeader]), byte(len(entry))), entry...)
		if err := checkActivity(b); (err == nil) != good {
			t.Errorf("%s: %x: %v", name, b, err)
		}
	}
	last := len(whole) - activityHeader - 2
	f("whole", true, func(e []byte) []byte { return e })
	f("flag", false, func(e []byte) []byte { e[2] |= 8; return e })
	f("two days ahead", true, func(e []byte) []byte { e[last] = 4; return e })
	f("three days ahead", false, func(e []byte) []byte { e[last] = 6; return e })
	f("three days behind", false, func(e []byte) []byte { e[last] = 5; return e })
	f("a byte behind", false, func(e []byte) []byte { return append(e, 0) })
	f("no day", false, func(e []byte) []byte { return e[:last] })
	f("a floor behind the day", false, func(e []byte) []byte {
		count := bytes.LastIndexByte(e, 1) // of the event, in front of the properties
		e[2] &^= activityEvery
		floor := binary.AppendUvarint(nil, activityDay+6)
		return append(append(bytes.Clone(e[:count+1]), floor...), e[count+1:]...)
	})
}

// Days are kept for ActivityDays at least, and longer where they are few.
func TestActivityDaysExpire(t *testing.T) {
	f := func(days, every, oldest, count int) {
		t.Helper()
		var d activityDraft
		b := startActivity(nil, 0)
		for i := 0; i < days; i += every {
			at := UnixMsec(i)*dayMsec + 5
			b = d.add(nil, Activity{b: b}, &activityEdit{occurred: at, now: at, day: dayOf(at, 0)})
		}
		c := Activity{b: b}.Cursor()
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

// An event of one property is read with the count that row format 2 had, and without;
// both ways of saying it at once are damage.
func TestTailOneProperty(t *testing.T) {
	e := EventEffect{Event: 7, Clamped: true, Indexed: []AttrValue{
		{ID: 2, Value: Value{Kind: KindFloat, Num: math.Float64bits(12.34)}},
	}}
	now := appendEventBody(nil, &e)
	old := append([]byte{tailProps | tailClamped, 7, 1}, now[2:]...)
	for _, b := range [][]byte{now, old} {
		got, ok := parseTailBody(b)
		v, has := got.Prop(2)
		if !ok || !has || v.Kind != KindFloat || v.Num != e.Indexed[0].Value.Num ||
			got.Event != 7 || !got.Clamped {
			t.Errorf("%x: %+v %t %+v", b, got, ok, v)
		}
	}
	if len(now) != 6 || len(old) != 7 {
		t.Errorf("%d bytes, %d before", len(now), len(old))
	}
	old[0] |= tailOneProp
	if _, ok := parseTailBody(old); ok {
		t.Error("a count and none are taken")
	}
}
