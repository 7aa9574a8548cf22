package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"tact/storage"
)

const (
	maxChanges     = 10_000
	defaultChanges = 1_000
	// changesRead is how many changes of a group one read looks at: those of other
	// segments are passed over.
	changesRead  = 4_096
	maxChangesAt = 1 << 18 // of one call
	changesPause = 25 * time.Millisecond
	maxWait      = 30 * time.Second
)

// ChangesLatest is the cursor behind everything that has happened so far.
const ChangesLatest = "latest"

// SegmentChange is one person entering or leaving a tracked segment.
type SegmentChange struct {
	ID      string // names the change for ever: a second delivery has the same
	Segment string
	UserID  string // "" when the person is gone
	Entered bool
	Cause   string // change, time, publish, backfill, forgotten, ended
	At      storage.UnixMsec
}

// Changes is a run of changes and the place behind it.
type Changes struct {
	List   []SegmentChange
	Cursor string
	More   bool // there is more to be read now
}

// Subscription reads the changes of tracked segments in order: of one person in
// the order in which they came about, each once. It remembers nothing but its
// place, so it holds up nobody, however slow its reader is; and the place, kept
// by the reader, serves after a restart as long as the changes behind it are kept
// (seven days). One goroutine at a time may use it.
type Subscription struct {
	e        *Engine
	segments map[storage.Name]struct{} // empty = all
	at       []uint64                  // by group: the last change read
	buf      []storage.Change
}

// Subscribe begins to read behind a cursor: "" = the oldest change kept,
// ChangesLatest, or what Cursor returned. Without segments it reads of all
// that are or were tracked.
func (e *Engine) Subscribe(segments []string, cursor string) (*Subscription, error) {
	snap := e.snap.Load()
	s := &Subscription{e: e, segments: make(map[storage.Name]struct{})}
	for _, id := range segments {
		if err := snap.publishedSegment(id); err != nil {
			return nil, err
		}
		at := snap.trackedAt(id)
		if at < 0 {
			return nil, notTracked(id)
		}
		s.segments[snap.audience.Segments[at].Name] = struct{}{}
	}
	return s, s.seek(cursor)
}

// seek reads a cursor: format u8, then of every group the last number read, as
// uvarints, in base64.
func (s *Subscription) seek(cursor string) error {
	groups := s.e.store.Groups()
	s.at = make([]uint64, groups)
	if cursor == "" || cursor == ChangesLatest {
		for i := range s.at {
			before, newest := s.e.store.KeptChanges(storage.GroupID(i))
			s.at[i] = before
			if cursor == ChangesLatest {
				s.at[i] = newest
			}
		}
		return nil
	}
	bad := invalid("bad_cursor", "after", "not a cursor of this server")
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) == 0 || b[0] != 1 {
		return bad
	}
	b = b[1:]
	for i := range s.at {
		v, n := binary.Uvarint(b)
		_, newest := s.e.store.KeptChanges(storage.GroupID(i))
		if n <= 0 || v > newest {
			return bad
		}
		s.at[i], b = v, b[n:]
	}
	if len(b) > 0 {
		return bad
	}
	return nil
}

// Cursor returns the place behind what was read.
func (s *Subscription) Cursor() string {
	b := []byte{1}
	for _, n := range s.at {
		b = binary.AppendUvarint(b, n)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// Next returns up to limit changes that are durable, waiting for the first until
// ctx ends, or for wait; 0: it does not wait. It is a ProblemGone when what comes
// next is no longer kept. Cost: the changes of all segments behind the cursor, at
// most 262,144 of them; who waits looks 40 times a second.
func (s *Subscription) Next(ctx context.Context, limit int, wait time.Duration) (Changes, error) {
	if limit <= 0 {
		limit = defaultChanges
	}
	limit = min(limit, maxChanges)
	deadline := time.Now().Add(min(wait, maxWait))
	for {
		out, err := s.read(limit)
		if err != nil || len(out.List) > 0 || out.More {
			return out, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, nil
		case <-time.After(min(left, changesPause)):
		}
	}
}

// read takes up to limit changes of all groups, and puts them in the order of
// their times as far as that keeps the order within each group.
func (s *Subscription) read(limit int) (Changes, error) {
	var out Changes
	var picked []pickedChange
	looked := 0
	share := max(limit/len(s.at), 16)
	for i := range s.at {
		taken := 0
		for taken < share && len(picked) < limit {
			room := min(changesRead, maxChangesAt-looked)
			if room <= 0 {
				out.More = true
				break
			}
			var err error
			s.buf, err = s.e.store.ReadChanges(storage.GroupID(i), s.at[i], room, s.buf[:0])
			if errors.Is(err, storage.ErrChangesGone) {
				return out, &Problem{
					Class: ProblemGone, Code: "cursor_expired", Field: "after",
					Detail: "changes behind this cursor are no longer kept; read on without it, " +
						"after reading the members anew",
				}
			}
			if err != nil {
				return out, err
			}
			if len(s.buf) == 0 {
				break
			}
			looked += len(s.buf)
			for j := range s.buf {
				if taken == share || len(picked) == limit {
					break
				}
				c := &s.buf[j]
				s.at[i] = c.Number
				if _, ok := s.segments[c.Segment]; ok || len(s.segments) == 0 {
					picked = append(picked, pickedChange{storage.GroupID(i), *c})
					taken++
				}
			}
		}
		out.More = out.More || taken == share || len(picked) == limit
	}
	// Times never fall with the numbers of a group.
	slices.SortFunc(picked, func(a, b pickedChange) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.group, b.group),
			cmp.Compare(a.Number, b.Number))
	})
	out.List = s.name(picked)
	out.Cursor = s.Cursor()
	return out, nil
}

type pickedChange struct {
	group storage.GroupID
	storage.Change
}

// name looks up who the changes are about.
func (s *Subscription) name(picked []pickedChange) []SegmentChange {
	list := make([]SegmentChange, len(picked))
	for i := range picked {
		p := &picked[i]
		g := s.e.store.Group(p.group)
		g.Lock()
		id := bytes.Clone(g.ID(p.Ord))
		g.Unlock()
		list[i] = SegmentChange{
			ID:      fmt.Sprintf("%d-%d", p.group, p.Number),
			Segment: s.e.store.NameOf(storage.DictSegment, p.Segment),
			UserID:  string(id), Entered: p.Entered, Cause: causeWord(p.Cause), At: p.At,
		}
	}
	return list
}

func causeWord(c storage.MemberCause) string {
	switch c {
	case storage.CauseChange:
		return "change"
	case storage.CauseTime:
		return "time"
	case storage.CausePublish:
		return "publish"
	case storage.CauseBackfill:
		return "backfill"
	case storage.CauseForgotten:
		return "forgotten"
	}
	return "ended"
}
