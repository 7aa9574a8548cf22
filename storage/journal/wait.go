package journal

import (
	"sync"
	"time"
)

// A waiter is one call of Wait. It is pooled with its timer and channel.
type waiter struct {
	number uint64
	done   chan error // capacity 1: the waker never blocks
	timer  *time.Timer
}

// waitList holds the calls of Wait.
type waitList struct {
	mu   sync.Mutex
	list []*waiter
	dead error
	pool sync.Pool
}

func (l *waitList) take(number uint64, timeout time.Duration) *waiter {
	w, ok := l.pool.Get().(*waiter)
	if !ok {
		w = &waiter{done: make(chan error, 1), timer: time.NewTimer(timeout)}
	} else {
		w.timer.Reset(timeout)
	}
	w.number = number
	return w
}

// Wait returns nil when a record is durable, ErrLate when it is not after the
// timeout, and ErrDead when the journal has stopped: the caller then waits for
// the frame. It sets the writer off. It does not allocate once waiters are
// pooled.
func (j *Journal) Wait(number uint64, timeout time.Duration) error {
	if number <= j.synced.Load() {
		return nil
	}
	w := j.waits.take(number, timeout)
	defer func() { w.timer.Stop(); j.waits.pool.Put(w) }()
	if settled, err := j.waits.enter(w, j.synced.Load); settled {
		return err
	}
	j.Hasten()
	select {
	case err := <-w.done:
		return err
	case <-w.timer.C:
	}
	if j.waits.leave(w) {
		j.stats.late.Add(1)
		return ErrLate
	}
	return <-w.done
}

// Hasten sets the writer off, for somebody who is about to wait: it wakes up while
// the caller goes on. It does not block.
func (j *Journal) Hasten() {
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

func (l *waitList) enter(w *waiter, synced func() uint64) (settled bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.number <= synced() {
		return true, nil
	}
	if l.dead != nil {
		return true, ErrDead
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
			l.list[i], l.list[last] = l.list[last], nil
			l.list = l.list[:last]
			return true
		}
	}
	return false
}

// wake answers everybody whose record is durable.
func (l *waitList) wake(synced uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.list[:0]
	for _, w := range l.list {
		if w.number <= synced {
			w.done <- nil
		} else {
			kept = append(kept, w)
		}
	}
	clear(l.list[len(kept):])
	l.list = kept
}

// fail sends everybody to the frames.
func (l *waitList) fail(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.list {
		w.done <- ErrDead
	}
	clear(l.list)
	l.list, l.dead = l.list[:0], why
}
