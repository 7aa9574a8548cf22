package engine

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"tact/storage/lossy"
)

// With a ring, decisions that use a total are answered at once from its block. A
// kill burns nothing; a loss of power burns the rest of the block, and the metrics
// and the totals say so. The lost impression that comes after all takes the place
// of a burnt unit.
func TestTotalsFromBlocks(t *testing.T) {
	l := newLoss(1)
	l.fs = lossy.New()
	if _, err := os.Stat("/dev/shm"); err != nil {
		t.Skip("no shared memory here")
	}
	l.withRing(t, func() { totalsFromBlocks(t, l) })
}

func totalsFromBlocks(t *testing.T, l *loss) {
	var err error
	must := func(e error) {
		t.Helper()
		if e != nil {
			t.Fatal(e)
		}
	}
	l.e, err = l.open()
	must(err)
	_, faults, _, err := l.e.Publish(testFiles(capWorld+"scope: total\nper: all\n"+
		"count_on: impression\nwindow: {calendar: day}\nlimit: 1000\n"), "test", "", 0)
	must(err)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	ask := func(n int) {
		t.Helper()
		for i := range n {
			req := DecideRequest{
				UserID: fmt.Appendf(nil, "u%d", i%20), Timeout: 5 * time.Second,
				Placements: []PlacementAsk{{Key: []byte("k"), PlacementID: []byte("spot")}},
			}
			must(l.e.Decide(&req, &l.out))
			if len(l.out.Items) != 1 {
				t.Fatalf("%+v", l.out.Slots)
			}
		}
	}
	total := func() TotalView {
		t.Helper()
		got := l.e.Totals()
		if len(got) != 1 {
			t.Fatalf("%+v", got)
		}
		return got[0]
	}
	restart := func(disk *lossy.FS, keepRing bool) int64 {
		t.Helper()
		l.losses++
		must(l.lose(keepRing))
		if disk == nil {
			disk = l.clone(100)
		}
		must(l.e.Close())
		l.fs = disk
		l.e, err = l.open()
		must(err)
		return l.e.StoreStats().Journal.Burnt
	}
	for i := range 20 { // the people are known: their rows are durable
		doc := UserDoc{UserID: fmt.Appendf(nil, "u%d", i)}
		r, err := l.line(func(b *Batch) LineResult { return b.User(&doc) })
		must(err)
		must(r.Err)
	}
	feed := func() {
		t.Helper()
		for range 1000 {
			if l.e.feedTotals(); l.e.store.Totals().Blocks() > 0 {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatal("no block came")
	}
	ask(40)
	feed()
	atOnce := l.e.StoreStats().Journal.AtOnce
	ask(20)
	if now := l.e.StoreStats().Journal.AtOnce; now == atOnce {
		t.Fatal("nothing was answered at once")
	}
	if burnt := restart(nil, true); burnt != 0 || total().Held != 60 {
		t.Fatalf("a kill burnt %d: %+v, %s", burnt, total(), l.e.StoreStats().Journal.Why)
	}
	ask(40)
	feed()
	block := l.e.store.Totals().Blocks()
	must(l.e.store.Wait(0, 0, 0))
	cut := l.clone(0)
	token := []byte(nil)
	for atOnce = l.e.StoreStats().Journal.AtOnce; token == nil; {
		if ask(1); l.e.StoreStats().Journal.AtOnce > atOnce {
			token = bytes.Clone(l.out.Items[0].Token)
		}
	}
	burnt := restart(cut, false)
	got := total()
	if burnt < 1 || burnt > block || got.Burnt != burnt || got.Spent != burnt {
		t.Fatalf("%d burnt of a block of %d: %+v", burnt, block, got)
	}
	var text strings.Builder
	l.e.WriteMetrics(&text)
	if !strings.Contains(text.String(), fmt.Sprintf("tact_totals_burnt_units %d\n", burnt)) {
		t.Fatal("the metric does not say what was burnt")
	}
	doc := OutcomeDoc{Token: token, Outcome: []byte("impression"), BodyHash: 1}
	r, err := l.line(func(b *Batch) LineResult { return b.Outcome(&doc) })
	must(err)
	must(r.Err)
	l.e.feedTotals()
	if after := total(); after.Spent != burnt || after.Burnt != burnt-1 {
		t.Fatalf("%+v, then %+v", got, after)
	}
	must(l.e.CheckStore())
	must(l.e.Close())
}
