package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// ErrChangesGone reports changes of membership that are no longer kept.
var ErrChangesGone = errors.New("changes are no longer kept")

// Change is one person entering or leaving a tracked segment. In a group changes
// are numbered from 1, without a gap, in the order in which they came about.
type Change struct {
	Number  uint64
	Segment Name
	Ord     Ord
	Entered bool
	Cause   MemberCause
	At      UnixMsec // from when on it is so
	Time    UnixMsec // when it was recorded
}

// ReadChanges appends to dst up to max changes of a group that come after a
// number and that are durable, in order. Fewer, or none, may come although there
// are more: the caller asks again. ErrChangesGone: the next one is no longer kept;
// KeptChanges says which is.
//
// Changes are kept for seven days, and at most 32 MiB of them a group (about two
// million that came one by one).
func (s *Store) ReadChanges(id GroupID, from uint64, max int, dst []Change) ([]Change, error) {
	g := s.Group(id)
	if g == nil {
		return dst, fmt.Errorf("%w: group %d", ErrNotFound, id)
	}
	if s.closed.Load() {
		return dst, ErrClosed
	}
	g.mu.Lock()
	m := &g.mu.state.members
	lost, onDisk := m.lost, from < m.taken
	if !onDisk && from >= lost {
		dst = m.appendLog(dst, from, max, g.durable.Load())
	}
	g.mu.Unlock()
	if from < lost {
		return dst, ErrChangesGone
	}
	if !onDisk {
		return dst, nil
	}
	return s.readLog(id, from, max, dst)
}

// KeptChanges returns the number before the oldest change that is kept, and that
// of the newest one that is durable.
func (s *Store) KeptChanges(id GroupID) (before, newest uint64) {
	g := s.Group(id)
	if g == nil {
		return 0, 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m := &g.mu.state.members
	newest = m.taken
	durable := g.durable.Load()
	for i := range m.log {
		if e := &m.log[i]; e.frame <= durable {
			newest = e.first + uint64(e.n) - 1
		}
	}
	return m.lost, newest
}

// appendLog appends the changes that the flusher has not taken yet.
func (m *memberships) appendLog(dst []Change, from uint64, max int, durable uint64) []Change {
	for i := range m.log {
		e := &m.log[i]
		if e.frame > durable {
			break
		}
		if e.first+uint64(e.n) <= from+1 {
			continue
		}
		for j, o := range m.ords[e.from : e.from+e.n] {
			number := e.first + uint64(j)
			if number <= from {
				continue
			}
			if max--; max < 0 {
				return dst
			}
			dst = append(dst, Change{number, e.segment, o, e.entered, e.cause, e.at, e.time})
		}
	}
	return dst
}

// readLog appends changes from disk. What the flusher has taken and not written
// yet is not there: the numbers end before it.
func (s *Store) readLog(g GroupID, from uint64, max int, dst []Change) ([]Change, error) {
	prefix := appendMemberKey(nil, g, memberLog)
	it, err := s.db.db.NewIter(&pebble.IterOptions{
		LowerBound: prefix, UpperBound: after(prefix),
	})
	if err != nil {
		return dst, readFault(err)
	}
	defer it.Close()
	// The block that holds the next change begins at it or before it.
	ok := it.SeekLT(appendChangesKey(nil, g, from+2))
	if !ok {
		ok = it.First()
	}
	expected := from + 1
	for ; ok && max > 0; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return dst, readFault(err)
		}
		gap := false
		err = eachChange(value, func(r *changeRun, o Ord) bool {
			if gap = gap || r.number > expected; gap || max == 0 || r.number < expected {
				return true
			}
			expected++
			max--
			dst = append(dst, Change{
				r.number, r.segment, o, r.entered, r.cause, r.at, r.time,
			})
			return true
		})
		if err != nil {
			return dst, err
		}
		if gap {
			return dst, nil
		}
	}
	if err := it.Error(); err != nil {
		return dst, readFault(err)
	}
	return dst, nil
}
