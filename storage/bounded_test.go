package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
)

// boundedAnswer is an effect that was answered before it was known to be durable.
type boundedAnswer struct {
	group    GroupID
	frame    uint64
	appended time.Time // a moment after
	answered time.Time // a moment before
}

// boundedRun writes on a disk that is slow now and then, answers bounded where it
// may, cuts the power and says what was answered and how far the groups survived.
func boundedRun(seed uint64, early bool) (answers []boundedAnswer, last []uint64, err error) {
	rng := rand.New(rand.NewPCG(seed, 11))
	fs := lossy.New()
	o := testOptions(fs)
	o.BoundedMax = 4 * time.Millisecond
	pauses := make(chan time.Duration, 1000)
	for range cap(pauses) {
		pauses <- time.Duration(rng.IntN(4)*rng.IntN(4)) * time.Millisecond
	}
	o.hooks.commit = func(int) error { // a slow disk
		select {
		case d := <-pauses:
			time.Sleep(d)
		default:
		}
		return nil
	}
	s, err := Open("store", o)
	if err != nil {
		return nil, nil, err
	}
	stop := make(chan struct{})
	errs := make([]error, 2)
	var mu sync.Mutex
	var given []boundedAnswer
	var writers sync.WaitGroup
	for i := range errs {
		writers.Go(func() {
			errs[i] = boundedWrite(s, GroupID(i), early, stop, func(a boundedAnswer) {
				mu.Lock()
				given = append(given, a)
				mu.Unlock()
			})
		})
	}
	time.Sleep(time.Duration(5+rng.IntN(25)) * time.Millisecond)
	mu.Lock() // what is answered from here on does not count
	cut := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
	answers = slices.Clone(given)
	mu.Unlock()
	close(stop)
	writers.Wait()
	if err := errors.Join(append(errs, s.Close())...); err != nil {
		return nil, nil, err
	}
	o.FS, o.hooks.commit = cut, nil
	if s, err = Open("store", o); err != nil {
		return nil, nil, err
	}
	if c := s.Cut(); c.Clean || c.Epoch != 1 {
		return nil, nil, fmt.Errorf("the start found %+v", c)
	}
	for _, g := range s.groups {
		last = append(last, g.durable.Load()-1) // Open has appended one
	}
	return answers, last, errors.Join(s.Check(), s.Close())
}

// boundedWrite appends until it is told to stop; early is a planted bug: it answers
// without a look at what waits.
func boundedWrite(s *Store, id GroupID, early bool, stop <-chan struct{},
	answer func(boundedAnswer),
) error {
	g := s.Group(id)
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		g.Lock()
		frame, err := g.Append(&Effect{Kind: EffectTime, Ord: NoOrd, Time: testDay})
		g.Unlock()
		a := boundedAnswer{group: id, frame: frame, appended: time.Now()}
		if err != nil {
			return err
		}
		a.answered = time.Now()
		bounded, err := s.Bounded(id, frame)
		if err == nil && !bounded && !early {
			if err = s.Wait(id, frame, 0); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		answer(a)
		time.Sleep(100 * time.Microsecond)
	}
}

// boundedSpan is the span of time in which the lost effects were answered.
func boundedSpan(answers []boundedAnswer, last []uint64) (lost int, span time.Duration) {
	var first, end time.Time
	for _, a := range answers {
		if a.frame <= last[a.group] {
			continue
		}
		if lost == 0 || a.appended.Before(first) {
			first = a.appended
		}
		if a.answered.After(end) {
			end = a.answered
		}
		lost++
	}
	return lost, end.Sub(first)
}

// What a loss of power takes of bounded answers was answered within BoundedMax, and
// what is left of a group is a beginning of it.
func TestBoundedAnswers(t *testing.T) {
	total := 0
	for seed := range uint64(max(10, effort(t, 800))) {
		answers, last, err := boundedRun(seed, false)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		lost, span := boundedSpan(answers, last)
		total += lost
		if span > 4*time.Millisecond {
			t.Fatalf("seed %d: %d lost answers span %v", seed, lost, span)
		}
	}
	if total == 0 {
		t.Fatal("nothing was ever lost: the test shows nothing")
	}
	t.Logf("%d bounded answers were lost", total)
}

// Answering without a look at what waits is the bug that the run must find.
func TestBoundedAnswersFindsEarly(t *testing.T) {
	for seed := range uint64(50) {
		answers, last, err := boundedRun(seed, true)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if lost, span := boundedSpan(answers, last); span > 4*time.Millisecond {
			t.Logf("seed %d: %d lost answers span %v", seed, lost, span)
			return
		}
	}
	t.Fatal("50 seeds did not notice answers that look at nothing")
}

// An end in order is told from one that was not.
func TestCut(t *testing.T) {
	fs := vfs.NewMem()
	for epoch := range uint32(3) {
		s := mustOpen(t, fs, testOptions(nil))
		if c := s.Cut(); !c.Clean || c.Epoch != epoch {
			t.Errorf("start %d: %+v", epoch, c)
		}
		mustClose(t, s)
	}
}
