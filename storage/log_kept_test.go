package storage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
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
		if !bytes.Contains(k.buf, mark) {
			t.Fatal("the frame is not kept")
		}
		return k.buf
	}
	was := tell()
	erasePerson(t, s, id)
	if bytes.Contains(was, mark) || len(k.list) > 0 {
		t.Error("what an erased person did is still there")
	}
	was = tell()
	list, read, _ := s.logs.kept.view(g.id, g.durable.Load())
	erasePerson(t, s, id)
	if len(list) == 0 || !bytes.Contains(read, mark) {
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

// The room of all groups together never passes the bound, and is given back.
func TestKeptFramesAreBounded(t *testing.T) {
	const most = 1 << 20
	groups := []*Group{{}, {}, {}}
	var k keptAll
	k.open(groups, most)
	r := rand.New(rand.NewPCG(1, 2))
	given := false
	for number := uint64(1); number < 3000; number++ {
		at := r.IntN(len(groups))
		f := &frame{buf: make([]byte, r.IntN(20_000))}
		k.keep(&frameHead{group: GroupID(at), number: number}, f)
		var room int64
		for i := range k.groups {
			room += int64(cap(k.groups[i].buf))
		}
		if room != k.bytes.Load() || room > most {
			t.Fatalf("room for %d bytes, %d counted, %d allowed", room, k.bytes.Load(), most)
		}
		given = given || k.groups[at].since == number+1
		if r.IntN(50) == 0 {
			k.view(GroupID(at), number)
			k.settle(GroupID(at), number)
			if left := cap(k.groups[at].buf); left > keptIdle {
				t.Fatalf("a group without frames keeps %d bytes", left)
			}
		}
	}
	if !given {
		t.Error("the bound was never met")
	}
}

// lastTold is the last frame that anything was done in.
func (g *Group) lastTold(t *testing.T) uint64 {
	t.Helper()
	g.Lock()
	defer g.Unlock()
	return g.lastFrame()
}
