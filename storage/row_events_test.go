package storage

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// eventsPerson applies n events of a person of whom nothing else happens.
func eventsPerson(t *testing.T, s *state, r *rand.Rand, frame *uint64, now *UnixMsec, n int) {
	t.Helper()
	for range n {
		*frame++
		*now += UnixMsec(r.IntN(3_600_000))
		e := &Effect{Kind: EffectEvent, Time: *now, Event: EventEffect{
			Event: Name(1 + r.IntN(6)), Occurred: *now - UnixMsec(r.IntN(40)*3_600_000),
			Shift:   int32(r.IntN(3) * 3600),
			Indexed: []AttrValue{{ID: 9, Value: Value{Kind: KindInt, Num: r.Uint64N(1000)}}},
		}}
		if r.IntN(4) == 0 {
			e = &Effect{Kind: EffectOutcome, Time: *now, Outcome: OutcomeEffect{
				Outcome: 3, Event: 7, Offer: Name(r.IntN(3)), Treatment: 2, Placement: 4,
				Occurred: *now, Value: r.Float64(), Shift: 3600,
			}}
		}
		if err := s.apply(*frame, e); err != nil {
			t.Fatal(err)
		}
	}
}

// Tail and activity with the events beside them are, after any number of writings, what
// memory holds, and no part stays that is of no use.
func TestEventsBesideTheirTail(t *testing.T) {
	most := 0
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 3))
		s, d := onePerson(t), newFakeDisk()
		frame, now := uint64(1), UnixMsec(1_700_000_000_000)
		for range 60 {
			eventsPerson(t, s, r, &frame, &now, r.IntN(5))
			if r.IntN(10) == 0 {
				eventsPerson(t, s, r, &frame, &now, 20)
			}
			d.flush(t, s, frame, 10)
			l := d.load(t)
			parts := 0
			for at := range d.rows {
				if at.kind >= RowEvents {
					parts++
				}
			}
			most = max(most, parts)
			if row := l.rows.at(0); int(row.events) != parts || parts > rowEventsMax {
				t.Fatalf("seed %d: %d parts on disk, %d known", seed, parts, row.events)
			}
			want := sumOf(t, s)
			if got := sumOf(t, l); got != want {
				t.Fatalf("seed %d, frame %d: sealed: checksum %x, want %x", seed, frame, got, want)
			}
			if err := errors.Join(l.check(), s.check()); err != nil {
				t.Fatal(err)
			}
			openAll(t, l)
			if got := sumOf(t, l); got != want {
				t.Fatalf("seed %d: open: checksum %x, want %x", seed, got, want)
			}
			if err := l.check(); err != nil {
				t.Fatal(err)
			}
			if r.IntN(3) == 0 {
				s = l // goes on as after a start
			}
		}
		if seed%2 == 0 { // written whole without a look at them
			l := d.load(t)
			l.markAllDirty()
			d.flush(t, l, frame, 10)
			s = d.load(t)
			if s.rows.at(0).events != 0 || sumOf(t, s) != sumOf(t, l) {
				t.Fatalf("seed %d: written whole: %d parts left", seed, s.rows.at(0).events)
			}
		}
		if err := s.apply(frame+1, &Effect{Kind: EffectErase, Time: now}); err != nil {
			t.Fatal(err)
		}
		d.flush(t, s, frame+1, 10)
		if len(d.rows) != 0 {
			t.Fatalf("seed %d: of somebody erased %d parts stay", seed, len(d.rows))
		}
	}
	if most != rowEventsMax {
		t.Fatalf("at most %d parts lay beside a tail, want %d", most, rowEventsMax)
	}
}

// The first event of somebody who was stored before activities were kept is written with
// the whole tail and the activity that it begins.
func TestEventAfterAnOldTail(t *testing.T) {
	for _, events := range []int{1, 3, 20, TailMax, TailMax + 16} {
		r := rand.New(rand.NewPCG(uint64(events), 3))
		s, d := onePerson(t), newFakeDisk()
		frame, now := uint64(1), UnixMsec(1_700_000_000_000)
		eventsPerson(t, s, r, &frame, &now, events)
		row := s.rows.at(0)
		s.slab.drop(row.activity)
		row.activity = 0
		for c := (tailCursor{b: s.slab.get(row.tail)}); c.next(); {
			c.body[0] &^= tailWaits
		}
		d.flush(t, s, frame, 10)
		s = d.load(t)
		for range 12 {
			eventsPerson(t, s, r, &frame, &now, 1)
			d.flush(t, s, frame, 10)
			l := d.load(t)
			openAll(t, l)
			if err := errors.Join(l.check(), l.damaged()); err != nil {
				t.Fatalf("%d events: %v", events, err)
			}
			if got, want := sumOf(t, l), sumOf(t, s); got != want {
				t.Fatalf("%d events: checksum %x, want %x", events, got, want)
			}
		}
	}
}

// What begins when parts of events are opened is written when all is written whole.
func TestPartsBeginAnActivity(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 3))
	s, d := onePerson(t), newFakeDisk()
	frame, now := uint64(1), UnixMsec(1_700_000_000_000)
	eventsPerson(t, s, r, &frame, &now, TailMax)
	d.flush(t, s, frame, 10)
	eventsPerson(t, s, r, &frame, &now, 2)
	d.flush(t, s, frame, 10)
	want := sumOf(t, s)
	if s.rows.at(0).activity == 0 || s.rows.at(0).events != 1 {
		t.Fatal("nothing has begun in a part")
	}
	s = d.load(t)
	s.markAllDirty()
	d.flush(t, s, frame, 10)
	s = d.load(t)
	openAll(t, s)
	if got := sumOf(t, s); got != want {
		t.Fatalf("checksum %x, want %x", got, want)
	}
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
}

// A part that is missing, old or another's is found at the start, or when it is opened.
func TestEventsDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	s, d := onePerson(t), newFakeDisk()
	frame, now := uint64(1), UnixMsec(1_700_000_000_000)
	eventsPerson(t, s, r, &frame, &now, TailMax+30) // so that some have left the tail
	at := func(k RowKind) rowKey { return rowKey{0, 1, 1, k} }
	d.flush(t, s, frame, 10)
	old := maps.Clone(d.rows)
	for range 3 {
		eventsPerson(t, s, r, &frame, &now, 2)
		d.flush(t, s, frame, 10)
	}
	f := func(name string, change func(rows map[rowKey][]byte)) {
		t.Helper()
		whole := d.rows
		defer func() { d.rows = whole }()
		d.rows = maps.Clone(whole)
		change(d.rows)
		l := newState(3, stateOptions{})
		l.beginRows(&d.room.rows)
		var err error
		for _, k := range slices.SortedFunc(maps.Keys(d.rows), func(a, b rowKey) int {
			return int(a.kind) - int(b.kind)
		}) {
			err = errors.Join(err, l.loadRow(k, d.rows[k], d.keys[k.person]))
		}
		l.endRows()
		if err == nil {
			l.tail(0)
			err = l.damaged()
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
	f("the first is missing", func(m map[rowKey][]byte) { delete(m, at(RowEvents)) })
	f("the second is missing", func(m map[rowKey][]byte) { delete(m, at(RowEvents+1)) })
	f("no tail", func(m map[rowKey][]byte) { delete(m, at(RowTail)) })
	f("no activity", func(m map[rowKey][]byte) { delete(m, at(RowActivity)) })
	f("a tail of which only some wait", func(m map[rowKey][]byte) {
		l := d.load(t)
		l.activity(0)
		row := l.rows.at(0)
		c := tailCursor{b: l.slab.get(row.tail)}
		c.next()
		c.body[0] |= tailWait
		l.slab.drop(row.activity)
		row.activity = 0
		l.markAllDirty()
		other := fakeDisk{rows: m, keys: d.keys, meta: d.meta}
		other.write(t, l, testSealer(), 10)
		delete(m, at(RowActivity))
	})
	f("an activity alone", func(m map[rowKey][]byte) {
		for k := range m {
			if k.kind == RowTail || k.kind >= RowEvents {
				delete(m, k)
			}
		}
	})
	f("one in the place of another", func(m map[rowKey][]byte) {
		m[at(RowEvents)], m[at(RowEvents+1)] = m[at(RowEvents+1)], m[at(RowEvents)]
	})
	f("an older profile and tail alone", func(m map[rowKey][]byte) {
		m[at(RowEvents+3)] = old[at(RowActivity)]
	})
	f("a kind too many", func(m map[rowKey][]byte) {
		m[at(RowEvents+rowEventsMax)] = m[at(RowEvents+2)]
	})
}

// Of a person with a long history few bytes are written for an event.
func TestEventWritesLittle(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 3))
	s, seal := onePerson(t), testSealer()
	frame, now := uint64(1), UnixMsec(1_700_000_000_000)
	write := func() (n int) {
		for _, o := range s.takeDirty(nil, 10) {
			for kind := range rowKinds {
				b, state, err := s.appendRow(nil, o, kind, seal)
				if err != nil {
					t.Fatal(err)
				}
				if state != rowPartKept {
					n += 15 + len(b)
				}
			}
		}
		return n
	}
	eventsPerson(t, s, r, &frame, &now, 64)
	whole, all := write(), 0
	const events = 9 * (rowEventsMax + 1)
	for range events {
		eventsPerson(t, s, r, &frame, &now, 1)
		all += write()
	}
	if whole < 900 || all > events*whole/3 {
		t.Fatalf("%d bytes for %d events, %d for the whole", all, events, whole)
	}
}
