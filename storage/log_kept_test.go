package storage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// toldByLog is all that the log tells of group 0.
func toldByLog(t *testing.T, s *Store) string {
	t.Helper()
	var b bytes.Buffer
	for _, decisions := range []bool{false, true} {
		q := LogQuery{Decisions: decisions, Personal: true}
		if err := s.ScanLog(&q, func(e *LogEntry) error {
			clear, personal := appendClear(nil, &e.Effect), appendPersonal(nil, &e.Effect)
			fmt.Fprintln(&b, e.Frame, e.Effect.Kind, e.Effect.Ord, e.Effect.Time, e.Lost)
			if e.Effect.Kind != EffectCreate { // whose key is drawn
				fmt.Fprintf(&b, "%x %q\n", clear, personal)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// What comes into the log is the same whether frames are taken from memory, read back,
// or both in turn.
func TestLogFromMemory(t *testing.T) {
	f := func(most int64) (string, uint64) {
		o := testOptions(nil)
		o.LogEvery, o.hooks.keptFrames = time.Hour, most
		s := mustOpen(t, vfs.NewMem(), o)
		defer mustClose(t, s)
		for range 3 { // the last two begin where frames were let go of
			logged(t, s, 100)
			if err := s.FlushLog(); err != nil {
				t.Fatal(err)
			}
			if n := len(s.logs.kept.groups[0].list); n != 0 {
				t.Errorf("%d frames are kept behind a pass", n)
			}
		}
		return toldByLog(t, s), s.logs.kept.taken.Load()
	}
	read, none := f(-1)
	all, taken := f(0)
	if none != 0 || taken < 300 {
		t.Errorf("%d and %d frames from memory, want 0 and 300", none, taken)
	}
	if all != read {
		t.Error("the log tells something else when frames come from memory")
	}
	both, some := f(10_000)
	if some == 0 || some >= taken {
		t.Errorf("%d of %d frames from memory: the bound does nothing", some, taken)
	}
	if both != read {
		t.Error("the log tells something else when only some frames come from memory")
	}
}

// What a frame told of a person is wiped with the frame that erases the person, or with
// the end of the pass that reads it then; and what a pass takes is wiped with it.
func TestKeptFramesForget(t *testing.T) {
	o := testOptions(nil)
	o.LogEvery = time.Hour
	s := mustOpen(t, vfs.NewMem(), o)
	defer mustClose(t, s)
	id := "marked-person-1"
	mark := []byte(id + "-event")
	g := s.GroupOf(s.SlotOf(1, []byte(id)))
	k := &s.logs.kept.groups[g.id]
	tell := func() []byte {
		t.Helper()
		crowd(t, s, 2)
		mustWait(t, s, g, g.lastTold(t))
		for i := range k.chunks {
			if buf := k.chunks[i].buf; bytes.Contains(buf, mark) {
				return buf
			}
		}
		t.Fatal("the frame is not kept")
		return nil
	}
	was := tell()
	erasePerson(t, s, id)
	if bytes.Contains(was, mark) || len(k.list) > 0 {
		t.Error("what an erased person did is still there")
	}
	was = tell()
	v := s.logs.kept.view(g.id, g.durable.Load())
	erasePerson(t, s, id)
	if !slices.ContainsFunc(v.list, func(f keptFrame) bool {
		return bytes.Contains(v.records(&f), mark)
	}) {
		t.Error("what a pass reads was taken away")
	}
	s.logs.kept.settle(g.id, 0)
	if bytes.Contains(was, mark) {
		t.Error("what an erased person did is still there behind the pass")
	}
	was = tell()
	if err := s.FlushLog(); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(was, mark) {
		t.Error("what is in the log by now was not wiped")
	}
}

// The room of all groups together never passes the bound and is given back; of the frames
// of a group the newest are kept, whole, whatever a pass reads meanwhile.
func TestKeptFramesAreBounded(t *testing.T) {
	const most = 1 << 20
	var k keptAll
	k.open([]*Group{{}, {}, {}}, most)
	told := make([][]uint64, len(k.groups)) // numbers of what each group was given
	r := rand.New(rand.NewPCG(1, 2))
	given, whole := false, 0
	for number := uint64(1); number < 6000; number++ {
		at := GroupID(r.IntN(len(k.groups)))
		f := &frame{buf: bytes.Repeat([]byte{byte(number | 1)}, 1+r.IntN(20_000))}
		g := &k.groups[at]
		since := g.since
		k.keep(&frameHead{group: at, number: number}, f)
		told[at] = append(told[at], number)
		checkKept(t, g, told[at])
		given = given || g.since > since
		checkRoom(t, &k, most)
		if r.IntN(50) == 0 {
			k.view(at, number)
		} else if !g.read {
			checkView(t, &k, at, number)
		}
		if r.IntN(50) == 0 {
			upTo := number - uint64(r.IntN(20))
			k.settle(at, upTo)
			checkKept(t, g, told[at])
			if len(g.list) == 0 && len(g.chunks) > 0 || len(g.stale) > 0 {
				t.Fatalf("a group without frames keeps %d chunks", len(g.chunks))
			}
		}
		if len(g.list) > 1 {
			whole++
		}
	}
	if !given || whole < 1000 {
		t.Errorf("the bound was met: %v, %d times there was more than a frame", given, whole)
	}
}

// checkKept sees that every frame from since on is there, with all its bytes, and nothing
// of those before.
func checkKept(t *testing.T, g *keptFrames, told []uint64) {
	t.Helper()
	for len(told) > 0 && told[0] < g.since {
		told = told[1:]
	}
	if len(told) != len(g.list) {
		t.Fatalf("%d frames are kept from %d on, want %d", len(g.list), g.since, len(told))
	}
	for i, f := range g.list {
		records := g.chunks[f.chunk-g.gone].buf[f.from:f.to]
		all := bytes.Count(records, []byte{byte(told[i] | 1)}) == len(records)
		if f.head.number != told[i] || len(records) == 0 || !all {
			t.Fatalf("frame %d is not as it was: number %d", told[i], f.head.number)
		}
		if gone := g.chunks[0].buf[:f.from]; i == 0 && bytes.Count(gone, []byte{0}) != len(gone) {
			t.Fatalf("what lay before frame %d was not wiped", told[i])
		}
	}
}

// checkView sees that a view shows the same, and that what is let go of meanwhile stays
// until it ends.
func checkView(t *testing.T, k *keptAll, at GroupID, last uint64) {
	t.Helper()
	g := &k.groups[at]
	v := k.view(at, last)
	if len(v.list) > 0 && last%61 == 0 {
		k.drop(g, 1, last+1)
	}
	for i := range v.list {
		f := &v.list[i]
		all := bytes.Count(v.records(f), []byte{byte(f.head.number | 1)})
		if all == 0 || all != int(f.to-f.from) {
			t.Fatalf("frame %d of a view is not as it was", f.head.number)
		}
	}
	k.settle(at, 0)
}

// checkRoom sees that the room of all groups is what is counted, and within the bound;
// what a pass may read of what went is counted until it ends.
func checkRoom(t *testing.T, k *keptAll, most int64) {
	t.Helper()
	free := int64(len(k.free) * k.chunk)
	room := free
	for i := range k.groups {
		for _, c := range k.groups[i].chunks {
			room += int64(cap(c.buf))
		}
		for _, buf := range k.groups[i].stale {
			room += int64(cap(buf))
		}
	}
	if room != k.bytes || room > most || free > most/8 {
		t.Fatalf("room for %d bytes, %d counted, %d allowed", room, k.bytes, most)
	}
}

// lastTold is the last frame that anything was done in.
func (g *Group) lastTold(t *testing.T) uint64 {
	t.Helper()
	g.Lock()
	defer g.Unlock()
	return g.lastFrame()
}
