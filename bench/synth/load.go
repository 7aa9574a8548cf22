package synth

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"tact/engine"
)

// How Load works: each worker commits chunks of people, so that one chunk is
// prepared while others wait for the disk.
const (
	loadChunk  = 500
	commitWait = 30 * time.Second
	busyPause  = time.Second // after a chunk that was not durable in time
	busyTries  = 60
)

// Load puts every person of p, with events and static segments, into e, which
// must hold the definitions of p's shape. It returns how many events there
// were. progress, when set, is told how many people are durable so far, one
// call at a time. A load that stopped may be started again: nothing is there twice.
//
// Cost: some 10 µs a person on each core; memory for a few chunks.
func Load(
	ctx context.Context, e *engine.Engine, p *Population, progress func(people int),
) (events int, err error) {
	l := &loading{engine: e, people: p, progress: progress}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			if err := l.work(ctx); err != nil {
				cancel(err)
			}
		})
	}
	workers.Wait()
	return int(l.events.Load()), context.Cause(ctx)
}

type loading struct {
	engine   *engine.Engine
	people   *Population
	progress func(people int)
	next     atomic.Int64
	events   atomic.Int64
	mu       struct {
		sync.Mutex
		done int
	}
}

// work takes chunks until there are no more.
func (l *loading) work(ctx context.Context) error {
	r, b := l.people.Reader(), l.engine.Begin()
	for ctx.Err() == nil {
		from := int(l.next.Add(loadChunk)) - loadChunk
		until := min(from+loadChunk, l.people.Len())
		if from >= until {
			return nil
		}
		if err := l.insist(ctx, r, b, from, until); err != nil {
			return fmt.Errorf("load people %d to %d: %w", from+1, until, err)
		}
		l.mu.Lock()
		l.mu.done += until - from
		if l.progress != nil {
			l.progress(l.mu.done)
		}
		l.mu.Unlock()
	}
	return nil
}

// insist sends a chunk until it is durable: a disk that stalls for a moment puts
// it in doubt, and what is sent again is there once.
func (l *loading) insist(ctx context.Context, r *Reader, b *engine.Batch, from, until int) error {
	for try := 0; ; try++ {
		events, err := l.chunk(r, b, from, until)
		var problem *engine.Problem
		if err == nil {
			l.events.Add(int64(events))
			return nil
		}
		if try == busyTries || !errors.As(err, &problem) || problem.Class != engine.ProblemBusy {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(busyPause):
		}
	}
}

// chunk sends people [from, until) once and returns how many events they have.
func (l *loading) chunk(r *Reader, b *engine.Batch, from, until int) (events int, err error) {
	for i := from; i < until; i++ {
		n, err := l.person(r, b, i)
		if err != nil {
			return 0, err
		}
		events += n
	}
	if err := l.segments(b, from, until); err != nil {
		return 0, err
	}
	return events, b.Commit(commitWait)
}

func (l *loading) person(r *Reader, b *engine.Batch, index int) (events int, err error) {
	doc := r.User(index)
	if res := b.User(doc); res.Status == engine.LineRejected {
		return 0, fmt.Errorf("load person %s: %w", doc.UserID, res.Err)
	}
	docs := r.Events(index)
	for i := range docs {
		if res := b.Event(&docs[i]); res.Status == engine.LineRejected {
			return 0, fmt.Errorf("load event %s: %w", docs[i].EventID, res.Err)
		}
	}
	return len(docs), nil
}

// segments adds the people of a chunk to their static segments.
func (l *loading) segments(b *engine.Batch, from, until int) error {
	if l.people.o.Shape == Bench {
		return nil
	}
	for bit, segment := range Segments() {
		var add [][]byte
		for i := from; i < until; i++ {
			if l.people.InSegments(i)&(1<<bit) != 0 {
				add = append(add, AppendUserID(nil, i))
			}
		}
		if len(add) == 0 {
			continue
		}
		res := b.SegmentMembers([]byte(segment), add, nil)
		if res.Status == engine.LineRejected {
			return fmt.Errorf("load segment %s: %w", segment, res.Err)
		}
	}
	return nil
}
