package storage

import (
	"sync/atomic"
	"time"
)

// Opening says where the time of an open went, and how much there was to do. The
// parts follow each other; what is left of Took is the lock, the sidecar and Pebble's
// own open for reading.
type Opening struct {
	Took    time.Duration
	Verify  time.Duration // ends of tables and logs compared with what is known of them
	Names   time.Duration // names and suppression lists
	Groups  time.Duration // rows, indexes, and the frames behind the rows
	Logs    time.Duration // event log and journal
	Write   time.Duration // Pebble opened for writing: its log becomes tables
	Epoch   time.Duration // the new epoch made durable
	First   time.Duration // the first frames of the epoch made durable
	Parts   int64         // parts of people read from rows
	Frames  int64         // replayed: those behind the rows
	Effects int64         // in them
	Bytes   int64         // of them
}

// opening measures an open. The counts are added to by all groups.
type opening struct {
	begun, last                   time.Time
	report                        Opening
	parts, frames, effects, bytes atomic.Int64
}

func (o *opening) begin() {
	o.begun = time.Now()
	o.last = o.begun
}

// skip leaves the time since the last part out.
func (o *opening) skip() { o.last = time.Now() }

// part ends a part that began where the last one ended.
func (o *opening) part(d *time.Duration) {
	now := time.Now()
	*d = now.Sub(o.last)
	o.last = now
}

func (o *opening) end() {
	r := &o.report
	r.Took = time.Since(o.begun)
	r.Parts, r.Frames = o.parts.Load(), o.frames.Load()
	r.Effects, r.Bytes = o.effects.Load(), o.bytes.Load()
}

// Opening tells how this open of the store went.
func (s *Store) Opening() Opening { return s.opening.report }

// sayOpening writes to the log where the time went.
func (s *Store) sayOpening() {
	s.opening.end()
	r := &s.opening.report
	ms := func(d time.Duration) int64 { return d.Milliseconds() }
	s.o.Logger.Info("the store is open", "ms", ms(r.Took), "verify_ms", ms(r.Verify),
		"names_ms", ms(r.Names), "groups_ms", ms(r.Groups), "logs_ms", ms(r.Logs),
		"write_ms", ms(r.Write), "epoch_ms", ms(r.Epoch), "first_ms", ms(r.First),
		"parts", r.Parts, "frames", r.Frames, "effects", r.Effects, "bytes", r.Bytes)
}
