package storage

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/journal"
	"tact/storage/lossy"
)

// decided reserves a use and appends the decision that made it, with a record of
// some size.
func decided(
	t *testing.T, s *Store, g *Group, ord Ord, request uint64, size int,
) (DecisionEffect, Ticket) {
	t.Helper()
	g.Lock()
	defer g.Unlock()
	now := secondOf(s.HighWater())
	e := Effect{Kind: EffectReserve, Ord: ord, Time: s.HighWater(), Reserve: ReserveEffect{
		ID: g.NextReservation(), Granted: now, Expires: now + 600, Grace: 300,
		Keys: []HeldKey{personKey(Name(request))},
	}}
	var held Ticket
	var err error
	if request%2 == 0 {
		_, err = g.Hold(&e, WaitNone)
	} else {
		_, held, err = g.Reserve(&e, WaitNone)
	}
	if err != nil {
		t.Fatal(err)
	}
	d := DecisionEffect{
		ID: g.NextDecision(s.HighWater()), Request: request, Body: 7, Until: now + 600,
		Record: bytes.Repeat([]byte{byte(request)}, size),
		Counts: []StatsCount{{Key: StatsKey{Offer: 1, What: 2}, N: 1}},
	}
	e = Effect{Kind: EffectDecision, Ord: ord, Time: s.HighWater(), Decision: d}
	_, ticket, err := g.Decide(&e, held, true)
	if err != nil {
		t.Fatal(err)
	}
	return d, ticket
}

// A reservation and its decision are one record where they fit into one, else two or
// more; one that no decision follows has its own.
func TestGrantIsOneRecord(t *testing.T) {
	s, g, ord := carried(t, lossy.New(), nil)
	var last uint64
	f := func(what string, want uint64, put func() Ticket) {
		t.Helper()
		ticket := put()
		if err := s.WaitTicket(0, ticket, time.Minute); err != nil {
			t.Fatal(err)
		}
		if ticket.Record != last+want {
			t.Errorf("%s: %+v behind record %d, want %d more", what, ticket, last, want)
		}
		last = ticket.Record
	}
	joined := func(request uint64, size int) func() Ticket {
		return func() Ticket {
			_, ticket := decided(t, s, g, ord, request, size)
			return ticket
		}
	}
	f("the first", 1, func() Ticket { return hold(t, s, g, ord, personKey(1)) })
	f("short", 1, joined(2, 90))
	f("apart", 2, joined(3, 90))
	f("long", 2, joined(4, 115))
	f("longer", 3, joined(6, 200))
	f("behind one without a decision", 2, func() Ticket {
		g.Lock()
		now := secondOf(s.HighWater())
		e := Effect{Kind: EffectReserve, Ord: ord, Time: s.HighWater(), Reserve: ReserveEffect{
			ID: g.NextReservation(), Granted: now, Expires: now + 600, Keys: []HeldKey{personKey(1)},
		}}
		if _, err := g.Hold(&e, WaitNone); err != nil {
			t.Fatal(err)
		}
		g.Unlock()
		return joined(8, 90)()
	})
	if err := errors.Join(s.Check(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// FuzzJoint reads the payload of a grant's record, and writes what it takes back.
func FuzzJoint(f *testing.F) {
	e := Effect{Kind: EffectReserve, Reserve: ReserveEffect{
		ID: ReservationID{2, 1<<48 | 3}, Granted: 5, Expires: 9, Keys: []HeldKey{personKey(7)},
	}}
	reserve := appendClear(nil, &e)
	for _, request := range []uint64{0, 11} {
		d := Effect{Kind: EffectDecision, Decision: DecisionEffect{
			ID: DecisionID{1, 2}, Request: request, Record: []byte("what was read"),
		}}
		f.Add(appendJoint(nil, reserve, appendClear(nil, &d)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := journal.Record{Epoch: 2, ID: 1<<48 | 3, Payload: b}
		both, at, ok := parseJoint(nil, &r)
		if !ok {
			return
		}
		if again := appendJoint(nil, both[:at], both[at:]); !bytes.Equal(again, b) {
			t.Fatalf("%x is written back as %x", b, again)
		}
	})
}

// known tells whether a request is answered as it was.
func known(t *testing.T, s *Store, g *Group, ord Ord, d *DecisionEffect) {
	t.Helper()
	g.Lock()
	id, body, ok := g.Contact(ord).Request(d.Request, secondOf(s.HighWater()))
	n := uint64(0)
	g.StatsRange(func(k StatsKey, rows uint64, _ float64) {
		if k == d.Counts[0].Key {
			n += rows
		}
	})
	g.Unlock()
	if !ok || id != d.ID || body != d.Body {
		t.Fatalf("request %d: %x, %d, %v", d.Request, id, body, ok)
	}
	got, who, err := s.ReadDecision(id)
	if err != nil || who != ord || !bytes.Equal(got.Record, d.Record) {
		t.Fatalf("decision %x: %d bytes of %d, %v", id, len(got.Record), len(d.Record), err)
	}
	if n != 3 {
		t.Errorf("%d decisions are counted, want 3", n)
	}
}

// A decision that held a use outlives its frame: a kill, and a power loss once the
// answer did not have to wait any more.
func TestDecisionsOutliveTheirFrame(t *testing.T) {
	f := func(what string, killed bool) {
		t.Helper()
		fs, ring := lossy.New(), &ringMemory{}
		s, g, ord := carried(t, fs, ring)
		var all []DecisionEffect
		for i, size := range []int{1000, 100, partsMax*partBytes - 100} {
			d, ticket := decided(t, s, g, ord, uint64(i+1), size)
			if ticket.Frame != 0 {
				t.Fatalf("%s: decision %d waits for its frame", what, i)
			}
			if err := s.WaitTicket(0, ticket, time.Minute); err != nil {
				t.Fatal(err)
			}
			all = append(all, d)
		}
		left := &ringMemory{}
		if killed {
			left = ring.copy(s)
		} else { // one that waits for its record waits for all before it
			last := hold(t, s, g, ord, personKey(50), personKey(50))
			if err := s.WaitTicket(0, last, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		cut := fs.CrashClone(vfs.CrashCloneCfg{})
		if _, ticket := decided(t, s, g, ord, 9, partsMax*partBytes); ticket.Frame == 0 {
			t.Error("a decision of too many parts does not wait for its frame")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for start := range 3 { // the last ones find the decisions in a frame
			s, g, ord = carried(t, cut, left)
			for i := range all {
				known(t, s, g, ord, &all[i])
			}
			if start == 1 {
				next := cut.CrashClone(vfs.CrashCloneCfg{})
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				cut, left = next, &ringMemory{}
				continue
			}
			if err := errors.Join(s.Check(), s.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	f("a kill", true)
	f("a power loss", false)
}

// A part that is gone takes its decision with it, and no other.
func TestPartsThatAreMissing(t *testing.T) {
	part := func(frame uint64, ord uint32, i, n byte) journal.Record {
		return journal.Record{Frame: frame, Ord: ord, Payload: []byte{i, n, i + 1}}
	}
	f := func(want string, records ...journal.Record) {
		t.Helper()
		var p partReader
		var got []byte
		for i := range records {
			if b, whole := p.add(&records[i]); whole {
				got = append(append(got, b...), ';')
			}
		}
		if string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f("\x01\x02;", part(1, 1, 0, 2), part(1, 1, 1, 2))
	f("", part(1, 1, 0, 2))
	f("", part(1, 1, 1, 2))
	f("\x01;", part(1, 1, 0, 2), part(1, 1, 0, 1))
	f("", part(1, 1, 0, 3), part(1, 1, 2, 3), part(1, 1, 1, 3))
	f("", part(1, 1, 0, 2), part(2, 1, 1, 2))
	f("", part(1, 1, 0, 2), part(1, 2, 1, 2))
	f("", part(1, 1, 0, 2), part(1, 1, 1, 3))
	f("", part(1, 1, 2, 2), part(1, 1, 0, 200), journal.Record{Payload: []byte{0}})
	f("\x01\x02;\x01;", part(1, 1, 1, 2), part(1, 1, 0, 2), part(1, 1, 1, 2), part(1, 1, 0, 1))
}

func FuzzMovedDecision(f *testing.F) {
	f.Add(appendMoved(nil, 77))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := parseMoved(b)
		if err == nil && !bytes.Equal(appendMoved(nil, frame), b) {
			t.Errorf("%x is written back as another value", b)
		}
	})
}

// A reservation that had run out when its use was granted again does not live again
// with the record of that grant: after a loss records are judged as they were when
// they were made.
func TestRecordsKeepTheirFloor(t *testing.T) {
	fs, ring := lossy.New(), &ringMemory{}
	s, g, ord := carried(t, fs, ring)
	start := s.HighWater()
	reserve := func(now UnixMsec) (ReservationID, Ticket) {
		g.Lock()
		defer g.Unlock()
		e := Effect{Kind: EffectReserve, Ord: ord, Time: now, Reserve: ReserveEffect{
			ID: g.NextReservation(), Granted: secondOf(now), Expires: secondOf(now) + 600, Grace: 300,
			Keys: []HeldKey{personKey(1)},
		}}
		_, ticket, err := g.Reserve(&e, WaitNone)
		if err != nil {
			t.Fatal(err)
		}
		return e.Reserve.ID, ticket
	}
	old, _ := reserve(start)
	g.Lock()
	frame := g.LastFrame()
	g.Unlock()
	if err := s.Wait(0, frame, 0); err != nil {
		t.Fatal(err)
	}
	young, ticket := reserve(start + 3600_000) // the old one's use, again
	if err := s.WaitTicket(0, ticket, time.Minute); err != nil {
		t.Fatal(err)
	}
	cut := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for start := range 2 { // from the journal, then from the frames
		s, g, ord = carried(t, cut, &ringMemory{})
		g.Lock()
		_, was := g.Contact(ord).Reservation(old)
		_, is := g.Contact(ord).Reservation(young)
		g.Unlock()
		if was != ReservationReleased || is != ReservationOpen {
			t.Errorf("start %d: the old reservation is in state %d, the young one in %d",
				start, was, is)
		}
		next := cut.CrashClone(vfs.CrashCloneCfg{})
		if err := errors.Join(s.Check(), s.Close()); err != nil {
			t.Fatal(err)
		}
		cut = next
	}
}

// A decision that gives a durable reservation again is answered at once where a ring
// has it or nobody can ask again, and else waits for its record: a kill would take it,
// and a retry would be answered otherwise. One whose reservation lies in an earlier frame that is
// not durable waits for its own frame, with all that it made itself.
func TestAKeptDecisionOutlivesAKill(t *testing.T) {
	f := func(what string, o Options, request uint64, waits bool) {
		t.Helper()
		s, err := Open("store", o)
		if err != nil {
			t.Fatal(err)
		}
		g, ord := ann(t, s)
		if err := s.WaitTicket(0, hold(t, s, g, ord, personKey(1)), time.Minute); err != nil {
			t.Fatal(err)
		}
		decide := func(held Ticket) (frame uint64, ticket Ticket) {
			t.Helper()
			g.Lock()
			defer g.Unlock()
			e := Effect{Kind: EffectDecision, Ord: ord, Time: s.HighWater(), Decision: DecisionEffect{
				ID: g.NextDecision(s.HighWater()), Record: []byte("kept"), Request: request,
				Until: secondOf(s.HighWater()) + 600,
			}}
			frame, ticket, err := g.Decide(&e, held, true)
			if err != nil {
				t.Fatal(err)
			}
			return frame, ticket
		}
		if _, ticket := decide(Ticket{}); ticket.Waits() != waits {
			t.Errorf("%s: %+v", what, ticket)
		}
		held := Ticket{Frame: 1, Record: 1, Cause: WaitKept}
		if frame, ticket := decide(held); ticket != (Ticket{Frame: frame, Cause: WaitKept}) {
			t.Errorf("%s: %+v in frame %d", what, ticket, frame)
		}
		if err := errors.Join(s.Check(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	o := simOptions()
	o.Groups, o.JournalSlots = 1, 64
	for _, ring := range []bool{true, false} {
		for _, request := range []uint64{0, 7} {
			o.FS, o.hooks.shm = vfs.NewMem(), nil
			if ring {
				o.hooks.shm = &ringMemory{}
			}
			f(fmt.Sprintf("ring: %v, request %d", ring, request), o, request, !ring && request != 0)
		}
	}
}
