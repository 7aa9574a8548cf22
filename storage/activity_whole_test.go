package storage

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Whatever happens in whatever zone, the activity that is shown is every event, and
// nothing is summed up before it leaves the tail, but where its day lies too far away.
func TestActivityShowsWhatWaits(t *testing.T) {
	far, waited, left := 0, 0, 0
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 77))
		s, r, p := newState(0, stateOptions{}), &Row{Person: 1}, modelPerson{}
		now, counted := UnixMsec(600*dayMsec), false
		for range 1 + random.IntN(160) {
			now += UnixMsec(random.Int64N(1 + []int64{1, 3_600_000, 3 * dayMsec}[random.IntN(3)]))
			shift := int32(random.IntN(2*14*3600) - 14*3600)
			if random.IntN(20) == 0 {
				shift = int32(random.IntN(2)*2-1) * shiftMax
			}
			occurred := now - UnixMsec(random.Int64N(1+[]int64{1, dayMsec, 100 * dayMsec}[random.IntN(3)]))
			e := Effect{Kind: EffectEvent, Time: now, Event: EventEffect{
				Event: Name(1 + random.IntN(5)), Occurred: occurred, Shift: shift,
				Indexed: []AttrValue{{ID: Name(1 + random.IntN(3)), Value: Value{
					Kind: KindInt, Num: random.Uint64N(100),
				}}},
			}}
			if err := s.applyEvent(1, r, &e); err != nil {
				t.Fatal(err)
			}
			in := activityEdit{
				key: activityKey{event: e.Event.Event}, occurred: occurred, now: now,
				day: dayOf(occurred, shift), props: e.Event.Indexed,
			}
			if ahead := in.day - dayOf(occurred, 0); ahead < -1 || ahead > 1 {
				far++
				counted = true
				p.left = append(p.left, in)
				continue
			}
			p.fact(in)
			if (r.activity != 0) != (counted || len(p.left) > 0) {
				t.Fatalf("seed %d: %d have left the tail, activity %d", seed, len(p.left), r.activity)
			}
			if random.IntN(5) == 0 {
				continue
			}
			a := s.whole.view(s.slab.get(r.activity), Tail{s.slab.get(r.tail)})
			if a.sums != nil {
				waited++
			}
			left = max(left, len(p.left))
			if counted {
				continue // where it lies in the tail, others leave earlier than in the model
			}
			if err := p.compareActivity(a); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if err := p.compareCounts(s, r); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if far < 10 || waited < 500 || left < 50 {
		t.Errorf("%d far, %d waited, %d left at most: the test says little", far, waited, left)
	}
}

// compareCounts compares what does not depend on the order in which events are summed up.
func (p *modelPerson) compareCounts(s *state, r *Row) error {
	want := sumFacts(p.everything())
	a, n := s.whole.view(s.slab.get(r.activity), Tail{s.slab.get(r.tail)}), 0
	for c := a.Cursor(); c.Next(); n++ {
		w := want[c.key()]
		if w == nil || c.Count != w.count || c.First != w.first || c.Last != w.last {
			return fmt.Errorf("%v: %d, want %+v", c.key(), c.Count, w)
		}
		for d := c.Days(0); d.Next(); {
			if d.Count != w.days[d.Day] {
				return fmt.Errorf("%v: day %d: %d, want %d", c.key(), d.Day, d.Count, w.days[d.Day])
			}
		}
	}
	if n != len(want) {
		return fmt.Errorf("%d entries, want %d", n, len(want))
	}
	return nil
}

// Two views of one group may be walked over in turn, over all events and over one.
func TestTwoActivities(t *testing.T) {
	s := newState(0, stateOptions{})
	rows := [2]Row{{Person: 1}, {Person: 2}}
	for i := range 7 {
		e := Effect{Kind: EffectEvent, Time: 1000, Event: EventEffect{
			Event: Name(1 + i%2), Occurred: UnixMsec(i),
		}}
		if err := s.applyEvent(1, &rows[min(i/2, 1)], &e); err != nil {
			t.Fatal(err)
		}
	}
	var views [2]Activity
	for i := range views {
		views[i] = s.whole.view(s.slab.get(rows[i].activity), Tail{s.slab.get(rows[i].tail)})
	}
	count := func(i int, event Name, want uint64) {
		t.Helper()
		n := uint64(0)
		for c := views[i].CursorOf(event); c.Next(); {
			n += c.Count
		}
		if n != want {
			t.Fatalf("view %d, event %d: %d, want %d", i, event, n, want)
		}
	}
	for range 2 {
		count(0, 0, 2)
		count(1, 0, 5)
		count(1, 1, 3)
		count(0, 1, 1)
		count(0, 2, 1)
		count(1, 2, 2)
		count(1, 0, 5)
		count(1, 3, 0)
	}
}

// BenchmarkActivityWhole sums up the 27 events of a tail, eight of them different.
func BenchmarkActivityWhole(b *testing.B) {
	s, r := newState(0, stateOptions{}), &Row{Person: 1}
	for i := range 27 {
		e := Effect{Kind: EffectEvent, Time: UnixMsec(400*dayMsec + i*8_000_000), Event: EventEffect{
			Event: Name(1 + i*5%8), Occurred: UnixMsec(400*dayMsec + i*8_000_000),
			Indexed: []AttrValue{{ID: 9, Value: Value{Kind: KindInt, Num: uint64(i)}}},
		}}
		if err := s.applyEvent(1, r, &e); err != nil {
			b.Fatal(err)
		}
	}
	for name, event := range map[string]Name{"all": 0, "one": 3} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a := s.whole.view(s.slab.get(r.activity), Tail{s.slab.get(r.tail)})
				a.CursorOf(event)
			}
		})
	}
}
