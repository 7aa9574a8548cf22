package engine

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

// The last 32 uses before the limit of a total are answered one by one when they are
// durable: a loss of power burns none of them, and the limit is reached, not passed.
func TestLastUnitsWait(t *testing.T) {
	l := newLoss(1)
	if _, err := os.Stat("/dev/shm"); err != nil {
		t.Skip("no shared memory here")
	}
	l.withRing(t, func() {
		if err := lastUnitsWait(l); err != nil {
			t.Fatal(err)
		}
	})
}

func lastUnitsWait(l *loss) (err error) {
	const limit = 100
	if l.e, err = l.open(); err != nil {
		return err
	}
	_, faults, _, err := l.e.Publish(testFiles(capWorld+fmt.Sprintf("scope: total\nper: all\n"+
		"count_on: impression\nwindow: {calendar: day}\nlimit: %d\n", limit)), "test", "", 0)
	if err != nil || len(faults) > 0 {
		return fmt.Errorf("%v, %w", faults, err)
	}
	who := "u%d"
	ask := func(n int) (given int, err error) {
		for i := range n {
			req := DecideRequest{
				UserID: fmt.Appendf(nil, who, i%10), Timeout: 5 * time.Second,
				Placements: []PlacementAsk{{Key: []byte("k"), PlacementID: []byte("spot")}},
			}
			err = errors.Join(err, l.e.Decide(&req, &l.out))
			given += len(l.out.Items)
		}
		return given, err
	}
	atOnce := func() uint64 { return l.e.StoreStats().Journal.AtOnce }
	early := uint64(0)
	const unknown = 8
	for used := 0; used < limit-oneByOne-unknown; used++ {
		l.e.feedTotals()
		if n, err := ask(1); err != nil || n != 1 {
			return fmt.Errorf("use %d: %d given, %w", used, n, err)
		}
		time.Sleep(time.Millisecond) // a block is durable by the next
	}
	if early = atOnce(); early == 0 {
		return errors.New("nothing was answered at once")
	}
	l.e.feedTotals()
	time.Sleep(2 * time.Millisecond)
	l.e.feedTotals() // a block of what is left before the last
	// People who are not known yet draw nothing of the block: it reaches into the last.
	early, who = atOnce(), "v%d"
	if n, err := ask(unknown); err != nil || n != unknown || l.e.store.Totals().Blocks() == 0 {
		return fmt.Errorf("%d given to unknown people, %d in blocks: %w", n,
			l.e.store.Totals().Blocks(), err)
	}
	who = "u%d"
	if n, err := ask(1); err != nil || n != 1 || atOnce() != early {
		return fmt.Errorf("%d given of the last, %d answered at once, out of a block: %w", n,
			atOnce()-early, err)
	}
	for range 5 {
		l.e.feedTotals()
		time.Sleep(2 * time.Millisecond)
	}
	if n, err := ask(oneByOne/2 - 1); err != nil || n != oneByOne/2-1 || atOnce() != early {
		return fmt.Errorf("%d given of the last, %d answered at once: %w", n, atOnce()-early, err)
	}
	cut := l.clone(0)
	l.losses++
	if err := errors.Join(l.lose(false), l.e.Close()); err != nil {
		return err
	}
	l.fs = cut
	if l.e, err = l.open(); err != nil {
		return err
	}
	if burnt := l.e.StoreStats().Journal.Burnt; burnt != 0 {
		return fmt.Errorf("%d of the last units are burnt", burnt)
	}
	if n, err := ask(oneByOne); err != nil || n != oneByOne/2 {
		return fmt.Errorf("%d given behind the loss, want %d: %w", n, oneByOne/2, err)
	}
	return errors.Join(l.e.CheckStore(), l.e.Close())
}
