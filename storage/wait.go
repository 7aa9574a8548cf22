package storage

import (
	"fmt"
	"sync"
	"time"
)

// lostMax bounds the remembered ranges of dropped frames; beyond it neighbours
// are merged, which can only turn a yes into ErrUnknown.
const lostMax = 64

// frameRange is the frames lo..hi, both included.
type frameRange struct{ lo, hi uint64 }

// A waiter is one call of Wait. It is pooled with its timer and channel.
type waiter struct {
	frame uint64
	done  chan error // capacity 1: the waker never blocks
	timer *time.Timer
}

// waitList holds the calls of Wait of one group.
type waitList struct {
	mu     sync.Mutex
	list   []*waiter
	lost   []frameRange // frames dropped by a reload: never durable
	fenced error        // what a Wait beyond the durable frames is told
}

// waiterPool keeps waiters between calls.
type waiterPool struct{ pool sync.Pool }

func (p *waiterPool) take(frame uint64, timeout time.Duration) *waiter {
	w, ok := p.pool.Get().(*waiter)
	if !ok {
		w = &waiter{done: make(chan error, 1), timer: time.NewTimer(timeout)}
	} else {
		w.timer.Reset(timeout)
	}
	w.frame = frame
	return w
}

func (p *waiterPool) give(w *waiter) {
	w.timer.Stop()
	p.pool.Put(w)
}

// Wait returns when a frame of a group is durable: nil; ErrUnknown when that is
// not known after timeout (0 = Options.CommitMax) or the commit went wrong;
// ErrFenced when the group was fenced before the call. It sets the committer
// off. It does not allocate once waiters are pooled.
func (s *Store) Wait(id GroupID, frame uint64, timeout time.Duration) error {
	g := s.Group(id)
	if g == nil {
		return fmt.Errorf("%w: group %d", ErrNotFound, id)
	}
	if timeout <= 0 {
		timeout = s.o.CommitMax
	}
	w := s.com.waiters.take(frame, timeout)
	defer s.com.waiters.give(w)
	if settled, err := g.waits.enter(w, g.durable.Load); settled {
		return err
	}
	s.com.kickOff()
	select {
	case err := <-w.done:
		return err
	case <-w.timer.C:
	}
	if g.waits.leave(w) {
		return ErrUnknown
	}
	return <-w.done
}

// Durable returns the highest frame of a group that is known to be durable.
func (s *Store) Durable(id GroupID) uint64 {
	if g := s.Group(id); g != nil {
		return g.durable.Load()
	}
	return 0
}

// enter adds w, or says at once what is known of its frame.
func (l *waitList) enter(w *waiter, durable func() uint64) (settled bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.lost {
		if r.lo <= w.frame && w.frame <= r.hi {
			return true, ErrUnknown
		}
	}
	if w.frame <= durable() {
		return true, nil
	}
	if l.fenced != nil {
		return true, l.fenced
	}
	l.list = append(l.list, w)
	return false, nil
}

// leave takes w out; false when somebody has answered it already.
func (l *waitList) leave(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.list {
		if other == w {
			last := len(l.list) - 1
			l.list[i] = l.list[last]
			l.list[last] = nil
			l.list = l.list[:last]
			return true
		}
	}
	return false
}

// wake answers everybody whose frame is at most durable.
func (l *waitList) wake(durable uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.list[:0]
	for _, w := range l.list {
		if w.frame <= durable {
			w.done <- nil
		} else {
			kept = append(kept, w)
		}
	}
	clear(l.list[len(kept):])
	l.list = kept
}

// fail answers everybody with ErrUnknown and later calls with why, until
// restore.
func (l *waitList) fail(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.list {
		w.done <- ErrUnknown
	}
	clear(l.list)
	l.list = l.list[:0]
	l.fenced = why
}

// restore ends a fence. lo..hi, when not empty, are frames that were dropped.
func (l *waitList) restore(lo, hi uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fenced = nil
	if lo > hi {
		return
	}
	l.lost = append(l.lost, frameRange{lo, hi})
	if len(l.lost) > lostMax {
		l.lost[1].lo = l.lost[0].lo
		l.lost = append(l.lost[:0], l.lost[1:]...)
	}
}
