package storage

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// compareLog reads everything that happened to a group back: what lies in blocks
// and what lies in frames is what was appended, in its order.
func (g *simGroup) compareLog(s *Store, group *Group) error {
	for _, decisions := range []bool{false, true} {
		var want []simEffect
		for _, l := range g.log {
			if (l.effect.Kind == EffectDecision) == decisions {
				want = append(want, l)
			}
		}
		n := 0
		q := LogQuery{Decisions: decisions, Personal: true}
		err := s.ScanLog(&q, func(e *LogEntry) error {
			if e.Group != group.id {
				return nil
			}
			if n == len(want) {
				return fmt.Errorf("more than %d effects", n)
			}
			w := &want[n]
			n++
			return sameEffect(group, e, w)
		})
		if err != nil {
			return fmt.Errorf("effect %d: %w", n, err)
		}
		if n != len(want) {
			return fmt.Errorf("%d effects, want %d", n, len(want))
		}
	}
	return nil
}

func sameEffect(group *Group, got *LogEntry, want *simEffect) error {
	e, w := &got.Effect, want.effect
	if got.Frame != want.frame || e.Kind != w.Kind || e.Ord != w.Ord || e.Time != w.Time ||
		e.Config != w.Config || e.DedupKey != w.DedupKey || e.DedupBody != w.DedupBody {
		return fmt.Errorf("frame %d: %+v, want %+v in frame %d", got.Frame, e, w, want.frame)
	}
	if a, b := appendClear(nil, e), appendClear(nil, w); !bytes.Equal(a, b) {
		return fmt.Errorf("frame %d kind %d: clear part %x, want %x", got.Frame, e.Kind, a, b)
	}
	if _, there := group.personKey(w.Ord); !there && w.Ord != NoOrd {
		return nil // whose key is gone; frames and blocks may still differ in what they had
	}
	if got.Lost {
		return fmt.Errorf("frame %d kind %d: lost, and the person is there", got.Frame, e.Kind)
	}
	if a, b := appendPersonal(nil, e), appendPersonal(nil, w); !bytes.Equal(a, b) {
		return fmt.Errorf("frame %d kind %d: personal part %x, want %x", got.Frame, e.Kind, a, b)
	}
	return nil
}

// logged appends events of one person and decisions, and returns the decisions.
func logged(t *testing.T, s *Store, n int) []DecisionID {
	t.Helper()
	g := s.Group(0)
	var ids []DecisionID
	for i := range n {
		g.Lock()
		if i == 0 && g.Len() == 0 {
			person, ord := g.NextPerson()
			e := Effect{Kind: EffectCreate, Ord: ord, Time: testDay, Create: CreateEffect{
				Workspace: 1, Person: person, ID: []byte("ann"), IDHash: 7, Key: g.NewKey(),
			}}
			appendLocked(t, g, &e)
		}
		appendLocked(t, g, &Effect{Kind: EffectEvent, Time: testDay, Event: EventEffect{
			Event: Name(1 + i%3), Occurred: testDay, EventID: fmt.Appendf(nil, "event-%d", i),
			Raw: []byte(`{"amount":12.5}`),
		}})
		id := g.NextDecision(testDay)
		ids = append(ids, id)
		frame := appendLocked(t, g, &Effect{Kind: EffectDecision, Time: testDay, Decision: DecisionEffect{
			ID: id, Record: fmt.Appendf(nil, "record %d", i), Personal: []byte("dear ann"),
			Request: uint64(i), Until: secondOf(testDay) + 60,
		}})
		g.Unlock()
		if err := s.Wait(0, frame, 0); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func appendLocked(t *testing.T, g *Group, e *Effect) uint64 {
	t.Helper()
	frame, err := g.Append(e)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// framesOf counts the frames that Pebble still holds.
func framesOf(t *testing.T, s *Store, g GroupID) (n int) {
	t.Helper()
	prefix := appendFrameKey(nil, g, 0)[:3]
	err := s.db.scan(prefix, after(prefix), func(_, _ []byte) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Frames that rows and log hold are trimmed; decisions, events and a start do not
// need them.
func TestFramesAreTrimmed(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, fs, testOptions(nil))
	ids := logged(t, s, 200)
	if n := framesOf(t, s, 0); n < 200 {
		t.Fatalf("%d frames before", n)
	}
	mustClose(t, s) // writes the rows
	s = mustOpen(t, fs, testOptions(nil))
	if err := s.FlushLog(); err != nil {
		t.Fatal(err)
	}
	if n := framesOf(t, s, 0); n > 3 {
		t.Fatalf("%d frames are left", n)
	}
	for round := range 2 {
		for i, id := range ids {
			d, ord, err := s.ReadDecision(id)
			if err != nil || ord != 0 || string(d.Record) != fmt.Sprintf("record %d", i) ||
				d.Request != uint64(i) || string(d.Personal) != "dear ann" || d.ID != id ||
				d.Until != secondOf(testDay)+60 {
				t.Fatalf("round %d: decision %d: %+v %d %v", round, i, d, ord, err)
			}
		}
		n := 0
		q := LogQuery{Types: []Name{2}, Person: &PersonRef{}, Personal: true}
		err := s.ScanLog(&q, func(e *LogEntry) error {
			want := fmt.Sprintf("event-%d", 1+3*n)
			if string(e.Effect.Event.EventID) != want || e.Effect.Event.Event != 2 {
				return fmt.Errorf("%+v, want %s", e.Effect.Event, want)
			}
			n++
			return nil
		})
		if err != nil || n != 67 {
			t.Fatalf("round %d: %d events: %v", round, n, err)
		}
		mustCheck(t, s)
		mustClose(t, s)
		s = mustOpen(t, fs, testOptions(nil))
	}
	if _, _, err := s.ReadDecision(DecisionID{15: 1}); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	mustClose(t, s)
}

// What is kept is bounded by days, and the figures say what has left.
func TestLogRetention(t *testing.T) {
	fs := vfs.NewMem()
	now := testDay
	o := testOptions(nil)
	o.Now = func() UnixMsec { return now }
	o.LogSegment = 1
	s := mustOpen(t, fs, o)
	ids := logged(t, s, 20)
	if err := s.FlushLog(); err != nil {
		t.Fatal(err)
	}
	now += 31 * 24 * 3600 * 1000
	s.logs.turn.Lock()
	err := s.logPass(nil, true)
	s.logs.turn.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	st := s.Stats().Log
	if st.Decisions.GoneDays == 0 || st.Decisions.GoneUntil != testDay || st.Effects.GoneDays != 0 {
		t.Fatalf("%+v", st)
	}
	for stop := false; !stop; { // rows must be written before frames go
		stop = s.Group(0).written.Load() >= s.logs.log.Logged(0)
	}
	if err := s.FlushLog(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.ReadDecision(ids[0]); !errors.Is(err, ErrNotFound) {
		t.Fatalf("a decision of 31 days ago: %v", err)
	}
	mustCheck(t, s)
	mustClose(t, s)
	s = mustOpen(t, fs, o)
	if again := s.Stats().Log.Decisions; again.GoneDays != st.Decisions.GoneDays {
		t.Fatalf("after a start: %+v", again)
	}
	mustClose(t, s)
}
