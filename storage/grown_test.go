package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/zeebo/xxh3"

	"tact/storage/lossy"
)

// grown fills a store as one of a version without an event log has it: all frames
// lie in Pebble.
func grown(t *testing.T, bytes int64) *lossy.FS {
	t.Helper()
	fs := lossy.New()
	o := testOptions(fs)
	o.LogEvery = time.Hour
	s := mustOpen(t, fs, o)
	random := rand.New(rand.NewPCG(5, 5))
	raw := make([]byte, 16<<10)
	g := s.Group(0)
	var frame uint64
	for size := int64(0); size < bytes; size += 8 * int64(len(raw)) {
		g.Lock()
		if g.Len() == 0 {
			person, ord := g.NextPerson()
			appendLocked(t, g, &Effect{Kind: EffectCreate, Ord: ord, Time: testDay, Create: CreateEffect{
				Workspace: 1, Person: person, ID: []byte("ann"), IDHash: 7, Key: g.NewKey(),
			}})
		}
		for range 8 {
			for i := 0; i < len(raw); i += 8 {
				binary.LittleEndian.PutUint64(raw[i:], random.Uint64())
			}
			frame = appendLocked(t, g, &Effect{Kind: EffectEvent, Time: testDay, Event: EventEffect{
				Event: 1, Occurred: testDay, Raw: slices.Clone(raw),
			}})
		}
		g.Unlock()
		if err := s.Wait(0, frame, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.db.get([]byte{prefixNode, nodeLog}); !errors.Is(err, ErrNotFound) {
		t.Fatalf("the store knows of an event log: %v", err)
	}
	mustClose(t, s)
	if err := fs.RemoveAll("store/" + folderLog); err != nil {
		t.Fatal(err)
	}
	return fs
}

// toldOf is what the log of the first epoch holds of the group, in order, and the
// person's row.
func toldOf(t *testing.T, s *Store) string {
	t.Helper()
	sum, n := xxh3.New(), 0
	err := s.ScanLog(&LogQuery{Personal: true}, func(e *LogEntry) error {
		if e.Epoch > 1 || e.Group != 0 {
			return nil
		}
		n++
		_, err := fmt.Fprintf(sum, "%d %d %v %x", e.Frame, e.Effect.Kind, e.Lost, e.Effect.Event.Raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	g := s.Group(0)
	g.Lock()
	defer g.Unlock()
	return fmt.Sprintf("%d effects, %016x, %d in the tail", n, sum.Sum64(), g.Tail(0).Len())
}

// A large store of before there was an event log, whose frames were never trimmed,
// is moved into one by the newest code, in several passes: nothing is lost, nothing
// comes twice, at any power cut on the way, and at the end the frames are gone.
// TACT_EFFORT=1 moves 192 MiB.
func TestGrownStoreOfBeforeTheEventLog(t *testing.T) {
	bite := int64(2 << 20)
	if trials(t, 10, 0) >= 10 {
		bite = logBite
	}
	fs := grown(t, 3*bite)
	o := testOptions(fs)
	o.LogEvery, o.hooks.logBite = time.Hour, bite
	s := mustOpen(t, fs, o)
	want := toldOf(t, s)
	mustClose(t, s)
	o.LogEvery, o.LogBlock, o.LogAge = time.Millisecond, 1, time.Millisecond
	o.KeepEffects, o.KeepDecisions = -1, -1
	s = mustOpen(t, fs, o)
	cuts := 0
	var seen uint64
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		st := s.Stats().Log
		if st.Passes > seen && cuts < 2 {
			seen = st.Passes
			cuts++
			left := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * (cuts - 1), RNG: rand.New(
				rand.NewPCG(seen, 1))})
			cut := mustOpen(t, left, testOptions(left))
			if got := toldOf(t, cut); got != want {
				t.Fatalf("after a power cut behind pass %d: %s, want %s", seen, got, want)
			}
			mustCheck(t, cut)
			mustClose(t, cut)
		}
		if st.Pending == 0 && st.Passes >= 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d passes, %d bytes wait", st.Passes, st.Pending)
		}
	}
	if err := s.FlushLog(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.VerifyLog(), s.Check()); err != nil {
		t.Fatal(err)
	}
	if got := toldOf(t, s); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	frames := 0
	lower := appendFrameKey(nil, 0, 0)
	if err := s.db.scan(lower, after(lower[:3]), func(_, _ []byte) error {
		frames++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if frames > 8 { // the watermark's frame, and what this start wrote
		t.Errorf("%d frames are left", frames)
	}
	mustClose(t, s)
}
