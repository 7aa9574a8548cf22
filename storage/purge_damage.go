package storage

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A purge goes on around damage: what lies in a table that cannot be rewritten, because
// a block of it cannot be read, stays due, and everybody else is purged. The keys of
// those who stay are thrown away and deleted all the same, durably: nobody reads them
// any more, and only their bytes are still in the file.

// PurgeFault says that damage keeps erased people from being purged.
type PurgeFault struct {
	People int      // how many are known to be held up
	Since  UnixMsec // when it was first met
	Err    error    // DamageText names the file
}

// PurgeFault returns what keeps erased people from being purged, nil for nothing.
func (s *Store) PurgeFault() *PurgeFault { return s.purge.fault.Load() }

// hinder notes the damage that a step met; held says of whom it holds up which.
func (d *purgeDue) hinder(err error, held func(i int) bool) {
	d.fault = errors.Join(d.fault, err)
	n := 0
	for i := range d.people {
		if held(i) {
			d.held++
			continue
		}
		d.people[n], d.ords[n], d.named[n] = d.people[i], d.ords[i], d.named[i]
		n++
	}
	d.people, d.ords, d.named = d.people[:n], d.ords[:n], d.named[:n]
}

// tellPurge says once what hinders the purge, when that has changed, and once that
// nothing does any more.
func (s *Store) tellPurge(due *purgeDue, err error) {
	before := s.purge.fault.Load()
	switch {
	case errors.Is(err, ErrCorrupt):
		f := &PurgeFault{People: due.held, Since: s.o.Now(), Err: err}
		if before != nil {
			f.Since = before.Since
		}
		s.purge.fault.Store(f)
		if before == nil || before.People != f.People || before.Err.Error() != err.Error() {
			s.o.Logger.Error("damage keeps keys of erased people on the disk, which nobody reads any "+
				"more; it is tried again", "people", f.People, "damage", DamageText(err))
		}
	case err == nil && before != nil:
		s.purge.fault.Store(nil)
		s.o.Logger.Info("the purge of erased people is not held up by damage any more")
	}
}

// compactAround rewrites the tables that hold the keys, which rise, around those that
// cannot be read. It returns the keys that are held up, and why.
// Cost: a try for each damaged table, and one more for each side of it.
func (s *Store) compactAround(keys [][]byte) (held [][]byte, fault error) {
	if len(keys) == 0 {
		return nil, nil
	}
	first, last := keys[0], keys[len(keys)-1]
	err := s.compact(first, append(slices.Clone(last), 0))
	if err == nil {
		return nil, nil
	}
	if !errors.Is(err, ErrCorrupt) {
		return nil, err
	}
	info := pebble.ExtractDataCorruptionInfo(err)
	if info == nil || len(keys) == 1 {
		return keys, err
	}
	lo := 0
	for lo < len(keys) && bytes.Compare(keys[lo], info.Bounds.Start) < 0 {
		lo++
	}
	hi := lo
	for hi < len(keys) && info.Bounds.End.IsUpperBoundFor(bytes.Compare, keys[hi]) {
		hi++
	}
	if lo == hi && (lo == 0 || lo == len(keys)) {
		// The damaged table holds none of them: it hinders whatever goes through it.
		return keys, err
	}
	left, e1 := s.compactAround(keys[:lo])
	right, e2 := s.compactAround(keys[hi:])
	return slices.Concat(left, keys[lo:hi], right), errors.Join(err, e1, e2)
}

// purgeAgain is how long a purge that damage holds up waits, in times of
// Options.PurgeEvery: each try reads the table again.
const purgeAgain = 10

// pauseAfter is how long the purger waits behind a pass.
func (s *Store) pauseAfter() time.Duration {
	if s.purge.fault.Load() != nil {
		return purgeAgain * s.o.PurgeEvery
	}
	return s.o.PurgeEvery
}
