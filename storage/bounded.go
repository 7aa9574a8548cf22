package storage

import (
	"sync/atomic"
	"time"
)

// A bounded answer is given before the effect is durable. What a crash can take of
// such effects is, in each group, the end of what was appended; and all of it was
// answered within Options.BoundedMax, T:
//
// Let e be the oldest effect that was lost, appended at a. Whatever was answered
// after it and lost was answered at a time when e was not durable, so when Lag was
// at least that time less a; and an answer is bounded only while Lag is at most T.
// So it was answered by a + T.
//
// The committer makes effects durable that nobody waits for every T/2; while a disk
// is slow bounded answers become strict ones, that wait.
type bounded struct {
	begun time.Time
	// open is in nanoseconds since begun: no effect that no batch has taken is older;
	// 0: there is none. flying is the same of the batch under way.
	open   atomic.Int64
	flying atomic.Int64
	behind atomic.Bool // the batch under way is older than T
}

// now is the time since begun, never 0.
func (b *bounded) now() int64 { return max(1, int64(time.Since(b.begun))) }

// appended notes that there is something to commit.
func (b *bounded) appended() { b.open.CompareAndSwap(0, b.now()) }

// taken notes that the committer begins to take what is there: what is appended
// from here on may be taken too, and counts as older than it is.
// Lag reads open first, so there is no moment at which what waits is in neither.
func (b *bounded) taken() {
	since := b.open.Load()
	b.flying.Store(since)
	if since != 0 {
		b.open.Store(0)
	}
}

// settled notes that what was taken is durable, or is there no more.
func (b *bounded) settled() {
	b.flying.Store(0)
	b.behind.Store(false)
}

// age is for how long the batch under way has been waiting.
func (b *bounded) age() time.Duration {
	if since := b.flying.Load(); since != 0 {
		return time.Duration(b.now() - since)
	}
	return 0
}

// Lag returns an upper bound of how long the oldest effect that is not durable has
// been waiting; 0: there is none.
func (s *Store) Lag() time.Duration {
	b := &s.com.bounded
	since := b.open.Load()
	if flying := b.flying.Load(); flying != 0 && (since == 0 || flying < since) {
		since = flying
	}
	if since == 0 {
		return 0
	}
	return time.Duration(b.now() - since)
}

// Behind reports whether effects wait for longer than Options.BoundedMax: nothing
// may be called bounded then. It is a hint, late by a moment; Bounded is exact.
// Cost: one atomic load.
func (s *Store) Behind() bool { return s.com.bounded.behind.Load() }

// Bounded reports whether a frame may be answered for before it is durable: a crash
// takes it only with what was answered in the same Options.BoundedMax. False: wait
// for it. A frame that was dropped or fenced meanwhile gives the error of Wait.
func (s *Store) Bounded(id GroupID, frame uint64) (bool, error) {
	g := s.Group(id)
	if g == nil {
		return false, ErrNotFound
	}
	if err := g.waits.known(frame, g.durable.Load); err != nil {
		return false, err
	}
	if s.dead.err() != nil {
		return false, nil
	}
	return s.Lag() <= s.o.BoundedMax, nil
}

// known returns what Wait would say at once of a frame; nil when it would wait.
func (l *waitList) known(frame uint64, durable func() uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.lost {
		if r.lo <= frame && frame <= r.hi {
			return ErrUnknown
		}
	}
	if frame <= durable() {
		return nil
	}
	return l.fenced
}

// A Cut is what the start found of the life before.
type Cut struct {
	Clean bool   // it ended by Close: nothing is missing
	Epoch uint32 // of that life; 0: this is the first
	// Until is by group the time of its newest durable effect. After an end that was
	// not clean, what was answered as bounded after it, in the last
	// Options.BoundedMax of that life, is missing; nothing that was strict is.
	Until []UnixMsec
}

// Cut returns what the start found.
func (s *Store) Cut() Cut { return s.cut }

// findCut notes where the life before ended. The groups are loaded, the epoch is
// still that life's.
func (s *Store) findCut(clean bool) {
	s.cut = Cut{Clean: clean || s.epoch == 0, Epoch: s.epoch}
	newest := UnixMsec(0)
	for _, g := range s.groups {
		at := UnixMsec(g.high.Load())
		s.cut.Until = append(s.cut.Until, at)
		newest = max(newest, at)
	}
	if !s.cut.Clean {
		s.o.Logger.Warn("the last end was not clean: what was answered as bounded may be cut",
			"epoch", s.epoch, "newest_ms", newest, "at_most", s.o.BoundedMax)
	}
}
