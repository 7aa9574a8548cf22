package storage

import (
	"errors"

	"tact/storage/eventlog"
)

// LogCursor is how far a reader of the event log has come: of each group up to which
// frame. The zero value is before everything.
type LogCursor struct {
	Epoch  uint32 // of the store that made it
	Groups []LogPosition
}

// LogPosition is how far a reader has come in one group.
type LogPosition struct {
	Frame uint64   // this and those before it were read
	Time  UnixMsec // whatever is not later in the group was read
}

// Classes of errors of FollowLog.
var (
	// ErrUnknownCursor reports a cursor that another store made, or this one in a time
	// that is gone with an older copy.
	ErrUnknownCursor = errors.New("the cursor is of another store, or of a time that a restore " +
		"took back")
	// ErrLogGone reports that effects behind a cursor have left the event log.
	ErrLogGone = errors.New("what comes behind the cursor has left the event log")
	// ErrLogMoved reports that files left the event log while it was read.
	ErrLogMoved = errors.New("files left the event log while it was read")
)

// FollowLog is ScanLog of what comes behind a cursor, which it moves: every durable
// effect that q asks for is yielded once by calls that hand the cursor on, over starts
// and crashes, whatever moves from frames into the log meanwhile. After limit effects,
// 0 for no limit, it ends with the frame that they end in, and more is true: a frame is
// what became durable in a group together. On an error the cursor stays as it was.
//
// Errors: those of f and of ScanLog, ErrUnknownCursor, ErrLogGone, ErrLogMoved.
func (s *Store) FollowLog(
	q *LogQuery, c *LogCursor, limit int64, f func(*LogEntry) error,
) (more bool, err error) {
	w := follower{in: *q, limit: limit, f: f}
	w.in.upTo = make([]uint64, len(s.groups))
	for i, g := range s.groups {
		w.in.upTo[i] = g.durable.Load()
	}
	before := s.logs.log.Stats()[eventlog.Effects]
	if err := s.follows(c, &w, &before); err != nil {
		return false, err
	}
	switch err := s.ScanLog(&w.in, w.take); {
	case errors.Is(err, errLogLimit):
		more = true
	case err != nil:
		return false, err
	default: // one clock serves all groups: in none comes anything older than in another
		newest := UnixMsec(0)
		for _, p := range w.next {
			newest = max(newest, p.Time)
		}
		for i := range w.next {
			w.next[i] = LogPosition{w.in.upTo[i], newest}
		}
	}
	after := s.logs.log.Stats()[eventlog.Effects]
	if after.GoneDays != before.GoneDays || after.GoneSize != before.GoneSize {
		return false, ErrLogMoved
	}
	c.Epoch, c.Groups = s.epoch, w.next
	return more, nil
}

// CanFollow tells what FollowLog would refuse at once: ErrUnknownCursor, ErrLogGone.
func (s *Store) CanFollow(c *LogCursor) error {
	w := follower{}
	w.in.upTo = make([]uint64, len(s.groups))
	for i, g := range s.groups {
		w.in.upTo[i] = g.durable.Load()
	}
	stats := s.logs.log.Stats()[eventlog.Effects]
	return s.follows(c, &w, &stats)
}

// followSlack is by how much an effect may be older than one before it in its group, in
// ms: more than requests take between reading the clock and being written down.
const followSlack = 60_000

// errLogLimit ends a scan at its limit.
var errLogLimit = errors.New("limit")

// follows begins behind a cursor, if this store can.
func (s *Store) follows(c *LogCursor, w *follower, stats *eventlog.StreamStats) error {
	w.next = make([]LogPosition, len(s.groups))
	w.in.behind = make([]uint64, len(s.groups))
	if c.Groups == nil {
		return nil
	}
	// An older copy of the store goes on many epochs further on.
	if c.Epoch > s.epoch || s.epoch-c.Epoch >= rollbackEpochs/2 || len(c.Groups) != len(s.groups) {
		return ErrUnknownCursor
	}
	copy(w.next, c.Groups)
	for i, p := range c.Groups {
		w.in.behind[i] = p.Frame
		if p.Frame > w.in.upTo[i] {
			return ErrUnknownCursor
		}
	}
	if stats.GoneDays+stats.GoneSize == 0 {
		return nil
	}
	first, err := s.logs.log.First(eventlog.Effects)
	if err != nil {
		return logFault(err)
	}
	for i, p := range c.Groups {
		from := first[i]
		if from == 0 { // nothing is left of the group
			from = s.logs.log.Logged(uint16(i)) + 1
		}
		if p.Frame+1 < from && int64(p.Time) < stats.GoneUntil {
			return ErrLogGone
		}
	}
	return nil
}

// follower takes what a scan yields up to the end of a frame.
type follower struct {
	in    LogQuery
	limit int64
	f     func(*LogEntry) error

	n    int64
	at   uint64 // frame of the last effect taken
	of   GroupID
	next []LogPosition
}

func (w *follower) take(e *LogEntry) error {
	if w.limit > 0 && w.n >= w.limit && (e.Frame != w.at || e.Group != w.of) {
		return errLogLimit
	}
	if err := w.f(e); err != nil {
		return err
	}
	w.n++
	w.at, w.of = e.Frame, e.Group
	w.next[e.Group] = LogPosition{e.Frame, max(e.Effect.Time-followSlack, 0)}
	return nil
}
