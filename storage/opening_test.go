package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
)

// A process that is killed again and again before the flusher's pause is over replays
// what came since the start before, and not all that ever came.
func TestKilledStartsReplayLittle(t *testing.T) {
	fs := lossy.New()
	o := testOptions(fs)
	o.FlushEvery, o.BoundedMax = time.Hour, time.Hour
	const starts, people = 12, 40
	for start := range starts {
		s := mustOpen(t, fs, o)
		if r := s.Opening(); start > 0 && (r.Effects < people || r.Effects > 3*people) {
			t.Errorf("start %d: %d effects of %d frames are replayed, %d people came before it",
				start, r.Effects, r.Frames, people)
		}
		if r := s.Opening(); r.Parts != int64(people*max(0, start-1)) {
			t.Errorf("start %d: %d parts are read from rows, want %d", start, r.Parts,
				people*max(0, start-1))
		}
		for i, g := range s.groups { // what was replayed is written at once
			opened := g.durable.Load()
			for tries := 0; start > 0 && g.written.Load() < opened; tries++ {
				if tries == 10_000 {
					t.Fatalf("start %d: rows of group %d are not written", start, i)
				}
				time.Sleep(time.Millisecond)
			}
		}
		for i := range people {
			g, _, frame := addPerson(t, s, fmt.Sprintf("person-%d-%d", start, i))
			mustWait(t, s, g, frame)
		}
		cut := fs.CrashClone(vfs.CrashCloneCfg{
			UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, uint64(start))),
		})
		if err := errors.Join(s.Check(), s.Close()); err != nil {
			t.Fatal(err)
		}
		fs = cut
		o.FS = fs
	}
}
