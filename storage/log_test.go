package storage

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/eventlog"
	"tact/storage/lossy"
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

// A frame stays until the event log and the rows hold it, whichever is later.
func TestTrimWaitsForBoth(t *testing.T) {
	o := testOptions(nil)
	o.FlushEvery, o.LogEvery = time.Hour, time.Hour
	f := func(s *Store, held string, held200 bool) {
		t.Helper()
		if !held200 {
			t.Fatalf("%s: 200 frames are not there", held)
		}
		if n := framesOf(t, s, 0); n < 200 {
			t.Errorf("%s, and %d of 200 frames are left", held, n)
		}
		mustCheck(t, s)
		mustClose(t, s)
	}
	s := mustOpen(t, vfs.NewMem(), o)
	logged(t, s, 200)
	if err := s.FlushLog(); err != nil {
		t.Fatal(err)
	}
	f(s, "the log holds them, no row does", s.logs.log.Logged(0) >= 200)

	s = mustOpen(t, vfs.NewMem(), o)
	logged(t, s, 200)
	if err := s.flushPass(s.groups[0], flushPassRows); err != nil {
		t.Fatal(err)
	}
	if err := s.trimFrames(); err != nil {
		t.Fatal(err)
	}
	f(s, "the rows hold them, the log does not", s.groups[0].written.Load() >= 200)
}

// The log of commits is bounded, however much is written: Pebble lets go of it as
// the tables in memory reach the disk.
func TestCommitLogIsBounded(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(nil)
	o.hooks.memTable = 256 << 10
	s := mustOpen(t, fs, o)
	var written, most int64
	for i := 0; written < 16<<20; i++ {
		g := s.Group(GroupID(i % 2))
		g.Lock()
		frame := appendLocked(t, g, &Effect{
			Kind: EffectDecision, Ord: NoOrd, Time: testDay,
			Decision: DecisionEffect{ID: g.NextDecision(testDay), Record: make([]byte, 60<<10)},
		})
		g.Unlock()
		mustWait(t, s, g, frame)
		written += 60 << 10
		names, err := fs.List("store/db")
		if err != nil {
			t.Fatal(err)
		}
		var size int64
		for _, name := range names {
			if info, err := fs.Stat("store/db/" + name); err == nil && strings.HasSuffix(name, ".log") {
				size += info.Size()
			}
		}
		most = max(most, size)
	}
	// Four tables in memory at most, one log each, and one that is kept for later use.
	if limit := int64(6 * 2 * o.hooks.memTable); most > limit {
		t.Errorf("%d bytes of logs, at most %d", most, limit)
	}
	t.Logf("at most %d bytes of logs while %d were written", most, written)
	mustClose(t, s)
}

// A reservation of a total without a timer is a fault that Check finds.
func TestCheckFindsLostTimer(t *testing.T) {
	s := mustOpen(t, vfs.NewMem(), testOptions(nil))
	defer mustClose(t, s)
	g, o, _ := addPerson(t, s, "ann")
	key := HeldKey{Key: CounterKey{Cap: 1}, Limit: 1, Total: true}
	mustAppend(t, g, &Effect{Kind: EffectReserve, Ord: o, Time: testDay, Reserve: ReserveEffect{
		ID: ReservationID{Epoch: 1, Number: 1}, Granted: secondOf(testDay),
		Expires: secondOf(testDay) + 60, Keys: []HeldKey{key},
	}})
	mustCheck(t, s)
	g.Lock()
	kept := g.mu.state.held.heap
	g.mu.state.held.heap = nil
	g.Unlock()
	if err := s.Check(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a lost timer: %v", err)
	}
	g.Lock()
	g.mu.state.held.heap = kept
	g.Unlock()
}

// What is kept is bounded by days, and the figures say what has left.
func TestLogRetention(t *testing.T) {
	fs := vfs.NewMem()
	var now atomic.Int64
	now.Store(int64(testDay))
	o := testOptions(nil)
	o.Now = func() UnixMsec { return UnixMsec(now.Load()) }
	o.LogSegment = 1
	s := mustOpen(t, fs, o)
	ids := logged(t, s, 20)
	if err := s.FlushLog(); err != nil {
		t.Fatal(err)
	}
	now.Add(31 * 24 * 3600 * 1000)
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

// A record of any bytes becomes an effect or is refused: no panic.
func FuzzLogRecord(f *testing.F) {
	s := mustOpen(f, vfs.NewMem(), testOptions(nil))
	f.Cleanup(func() { mustClose(f, s) })
	if _, err := s.Intern(DictProperty, "amount"); err != nil {
		f.Fatal(err)
	}
	g := newGenerator(3)
	for range 60 {
		e := g.next()
		f.Add(byte(e.Kind), appendClear(nil, e), appendPersonal(nil, e), []byte(`{"amount":1}`))
	}
	f.Add(byte(EffectEvent), []byte{logIndexed, 1, 1, byte(KindInt)}, []byte{}, []byte(`{"amount":1}`))
	f.Add(byte(EffectDecision), appendLogDecision(nil, &Effect{
		Time: testDay, Decision: DecisionEffect{Request: 7, Until: secondOf(testDay), Record: []byte("r")},
	}, DecisionID{}), []byte("dear"), []byte{})
	codec := logCodec{store: s}
	f.Fuzz(func(t *testing.T, kind byte, clear, personal, raw []byte) {
		r := eventlog.Record{
			Kind: kind, Clear: clear, Personal: personal, Raw: raw, Time: int64(testDay), Type: 1,
		}
		var e Effect
		if err := codec.effect(&r, &e); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// BenchmarkLogPass is what the logger costs an event: reading its frame, opening
// it, writing the block.
func BenchmarkLogPass(b *testing.B) {
	const people, events = 2000, 40_000
	o := testOptions(nil)
	o.LogEvery, o.LogAge = time.Hour, time.Hour
	s := mustOpen(b, vfs.NewMem(), o)
	defer mustClose(b, s)
	var ords []Ord
	var g *Group
	for i := 0; len(ords) < people; i++ {
		at, ord, _ := addPerson(b, s, fmt.Sprintf("person-%d", i))
		if at == s.Group(0) {
			g, ords = at, append(ords, ord)
		}
	}
	var busy time.Duration
	records := uint64(0)
	for b.Loop() {
		var frame uint64
		for i := range events {
			frame = mustAppend(b, g, &Effect{
				Kind: EffectEvent, Ord: ords[i*7%people], Time: testDay, DedupKey: uint64(i) + 1,
				Event: EventEffect{
					Event: Name(1 + i%5), Occurred: testDay, EventID: fmt.Appendf(nil, "event-%d", i),
					Raw: fmt.Appendf(nil, `{"amount":%d.5,"sku":"SKU-%d"}`, i%90, i%400),
				},
			})
		}
		mustWait(b, s, g, frame)
		before, start := s.logs.records.Load(), processorTime(b)
		if err := s.FlushLog(); err != nil {
			b.Fatal(err)
		}
		busy += processorTime(b) - start
		records += s.logs.records.Load() - before
	}
	b.ReportMetric(float64(busy.Nanoseconds())/float64(records), "cpu-ns/event")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Whoever was taken out by what is not durable may come back: the log waits with what
// is sealed with their key. Found by seed 2382 of TestPowerLoss.
func TestLogWaitsForGoing(t *testing.T) {
	o := testOptions(nil)
	o.CommitMax, o.LogEvery, o.FlushEvery = 200*time.Millisecond, time.Hour, time.Hour
	var held atomic.Bool
	free := make(chan struct{})
	o.hooks.commit = func(int) error {
		if held.Load() {
			<-free
		}
		return nil
	}
	s := mustOpen(t, lossy.New(), o)
	id := []byte("ann")
	g := s.GroupOf(s.SlotOf(1, id))
	g.Lock()
	person, ord := g.NextPerson()
	key := g.NewKey()
	g.Unlock()
	frame := mustAppend(t, g, &Effect{
		Kind: EffectCreate, Ord: ord, Time: testDay,
		Create: CreateEffect{
			Workspace: 1, Slot: s.SlotOf(1, id), Person: person, ID: id,
			IDHash: s.IndexHash(1, id), Visitor: true, Key: key,
		},
	})
	if err := s.Wait(g.id, frame, time.Minute); err != nil {
		t.Fatal(err)
	}
	held.Store(true)
	going := mustAppend(t, g, &Effect{Kind: EffectForget, Ord: ord, Time: testDay})
	if err := s.FlushLog(); err != nil {
		t.Fatal(err)
	}
	if at := s.logs.log.Logged(uint16(g.id)); at >= frame {
		t.Errorf("frame %d is in the log, its person is not gone for sure", at)
	}
	held.Store(false)
	close(free)
	if err := s.Wait(g.id, going, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := s.FlushLog(); err != nil {
		t.Fatal(err)
	}
	if at := s.logs.log.Logged(uint16(g.id)); at != going {
		t.Errorf("the log ends at frame %d, want %d", at, going)
	}
	mustClose(t, s)
}
