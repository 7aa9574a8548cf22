package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"tact/storage/eventlog"
)

// The purger takes the keys of erased people off the disk. In memory a key is gone with
// its person's erasure; on the disk it lies in the table of keys, in older versions of
// that table, and in logs of commits, also in ones that Pebble keeps to write over.
//
// Laws:
//  1. A key is deleted only when the rows reflect the erasure (its frame is at or
//     below the watermark): until then a start needs it to replay what came before.
//  2. An entry of the ledger is called purged only when every log that could hold the
//     key is gone, every table that held it is rewritten without it and deleted, and
//     nobody reads an older state of the store.
//  3. Many erasures cost one purge: what is due is taken together.
//  4. Damage holds up only those whose keys it keeps on the disk: see PurgeFault.
//
// A crash at any point leaves entries that are due, and a later pass does all again.
type purger struct {
	ask   chan chan error // passes that somebody waits for
	added atomic.Int64    // erasures committed
	fresh atomic.Bool     // logs are not written over meanwhile
	fault atomic.Pointer[PurgeFault]
}

const (
	// purgeMax bounds the erasures of one pass: 64 MiB of memory.
	purgeMax = 1 << 18
	// purgeAlone is how many keys are compacted one by one in a large table.
	purgeAlone = 16
	// purgeSmall is up to which size the table of keys is rewritten whole.
	purgeSmall = 64 << 20
	// purgeWait bounds the wait for readers and for files to be deleted.
	purgeWait = 20 * time.Second
	purgeLook = 20 * time.Millisecond
)

// errPurgeLater says that a pass could not end: what was due is due still.
var errPurgeLater = errors.New("the purge of erased people goes on later")

// purgeLoop runs a pass every Options.PurgeEvery when anything is due, and when asked.
func (s *Store) purgeLoop() {
	defer s.loops.Done()
	done := int64(-1) // of purge.added; entries of an earlier process are due
	timer := time.NewTimer(s.o.PurgeEvery)
	defer timer.Stop()
	for {
		var told chan error
		select {
		case <-s.stop:
			return
		case <-s.dead.ch:
			return
		case told = <-s.purge.ask:
		case <-timer.C:
		}
		added := s.purge.added.Load()
		var err error
		if told != nil || added != done {
			var left int
			if left, err = s.purgePass(); err == nil && left == 0 {
				done = added
			}
			if err != nil && !errors.Is(err, errPurgeLater) && !errors.Is(err, ErrCorrupt) {
				s.db.faults.Errorf("purge: %v", err)
			}
			if left > 0 && err == nil {
				err = errPurgeLater
			}
		}
		if told != nil {
			told <- err
		}
		timer.Reset(s.pauseAfter())
	}
}

// Purge makes what is left on the disk of everybody whose erasure is durable
// unreadable for good, and returns when it is so: no file of the store holds their
// keys any more. It errors with the context's error when that takes longer, and with
// ErrClosed; the purge goes on then. ErrCorrupt says that damage holds some of them up,
// who are tried again; everybody else is purged.
// Cost: a rewrite of the tables that hold the keys, a second or two.
func (s *Store) Purge(ctx context.Context) error {
	for {
		told := make(chan error, 1)
		select {
		case s.purge.ask <- told:
		case <-s.stop:
			return ErrClosed
		case <-s.dead.ch:
			return fmt.Errorf("%w: %w", ErrFenced, s.dead.err())
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case err := <-told:
			if !errors.Is(err, errPurgeLater) {
				return err
			}
		case <-s.stop:
			return ErrClosed
		case <-s.dead.ch:
			return fmt.Errorf("%w: %w", ErrFenced, s.dead.err())
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-time.After(purgeLook):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// purgePass purges what is due, and returns how many entries could not be taken yet.
// Its error is ErrCorrupt when damage holds some of them up and the rest is purged.
func (s *Store) purgePass() (left int, err error) {
	due, left, err := s.duePurges()
	if err == nil {
		err = s.purgeDue(&due)
	}
	if err == nil {
		err = due.fault
	}
	s.tellPurge(&due, err)
	return left, err
}

func (s *Store) purgeDue(due *purgeDue) error {
	if len(due.people) == 0 {
		return nil
	}
	s.purge.fresh.Store(true)
	defer s.purge.fresh.Store(false)
	path := s.o.FS.PathJoin(s.dir, folderDatabase)
	before, err := s.o.FS.List(path)
	if err != nil {
		return err
	}
	due.names = s.unusedNames(due.names)
	for _, step := range []func() error{
		func() error { return s.dropDue(due) },
		s.awaitReaders,
		// Once more: what Pebble rewrote while somebody read an older state has the
		// keys beside their first deletion, and only another one makes it look again.
		func() error { return s.deleteKeys(due) },
		s.flushMemory,
		func() error { return s.compactKeys(due) },
		func() error { return s.compactNames(due) },
		func() error { return s.awaitTables(path) },
		func() error { return s.dropLogs(path, before) },
		// The keys are gone: what the log holds in the clear is counted behind that.
		func() error { return s.settlePurges(due, false) },
		func() error { return s.countLogged(due) },
		func() error { return s.settlePurges(due, true) },
	} {
		if err := step(); err != nil || len(due.people) == 0 {
			return err
		}
	}
	return nil
}

// dropDue deletes what is due, and forgets the names.
func (s *Store) dropDue(due *purgeDue) error {
	s.dict.held.Lock() // so that Check sees the names of the disk and of memory alike
	defer s.dict.held.Unlock()
	err := s.deleteKeys(due)
	if err == nil {
		s.dict.drop(due.names)
	}
	return err
}

// awaitReaders waits until nobody reads a state of the store from before now.
func (s *Store) awaitReaders() error {
	return s.purgeAwait(func() (bool, error) { return s.db.db.Metrics().Snapshots.Count == 0, nil })
}

// awaitTables waits until the tables that are there and not in use are deleted.
func (s *Store) awaitTables(path string) error {
	before, err := s.o.FS.List(path)
	if err != nil {
		return err
	}
	return s.purgeAwait(func() (bool, error) { return s.tablesGone(path, before) })
}

// purgeDue is what one pass takes off the disk.
type purgeDue struct {
	people []Erasure
	ords   []Ord  // of people; NoOrd: an older version has not noted it
	named  []bool // of people: they had names
	names  []NameRef
	held   int   // left out, since damage holds them up
	fault  error // the damage
}

// duePurges returns the entries that the rows reflect, with the names that their
// people held, and how many others there are.
func (s *Store) duePurges() (due purgeDue, left int, err error) {
	prefix := []byte{prefixPurge}
	names := map[NameRef]bool{}
	err = s.db.scan(prefix, after(prefix), func(_, row []byte) error {
		if len(row) < erasedKeyBytes {
			return fmt.Errorf("purge of %d bytes: %w", len(row), ErrCorrupt)
		}
		entry, in := row[:erasedKeyBytes], effectReader{b: row[erasedKeyBytes:]}
		own, ord := readNameRefs(&in), NoOrd
		if len(in.b) > 0 {
			ord = Ord(in.u32())
		}
		if err := in.end(); err != nil {
			return err
		}
		value, err := s.db.get(entry)
		var e Erasure
		if err == nil {
			e, err = parseErasure(entry, value)
		}
		if errors.Is(err, ErrCorrupt) { // of this one alone
			due.held, due.fault = due.held+1, errors.Join(due.fault, err)
			return nil
		}
		if err != nil {
			return err
		}
		g := s.Group(e.Group)
		if g == nil {
			return fmt.Errorf("ledger of erasures: group %d: %w", e.Group, ErrCorrupt)
		}
		if g.written.Load() < e.Frame {
			s.flush.hurry.Store(true)
			left++
			return nil
		}
		if len(due.people) == purgeMax {
			left++
			return nil
		}
		due.people, due.ords = append(due.people, e), append(due.ords, ord)
		due.named = append(due.named, len(own) > 0)
		for _, n := range own {
			if !names[n] {
				names[n], due.names = true, append(due.names, n)
			}
		}
		return nil
	})
	if errors.Is(err, ErrCorrupt) { // what was found before it can be done
		due.held, due.fault, err = due.held+1, errors.Join(due.fault, err), nil
	}
	return due, left, err
}

// deleteKeys deletes the keys from the table of keys, and the texts of the names.
func (s *Store) deleteKeys(due *purgeDue) error {
	b := s.db.db.NewBatch()
	var err error
	var key []byte
	for i := range due.people {
		e := &due.people[i]
		key = appendPersonKeyKey(key[:0], e.Slot, e.Workspace, e.Person)
		err = errors.Join(err, b.Delete(key, nil))
	}
	for _, n := range due.names {
		key = appendNameKey(key[:0], n.Kind, n.ID)
		err = errors.Join(err, b.Set(key, []byte(nameGone), nil))
	}
	if err == nil {
		err = s.db.commitSynced(b)
	}
	return errors.Join(err, b.Close())
}

// flushMemory lets Pebble write its tables in memory: the logs before are of no use
// then. While fresh is set none of them is written over.
func (s *Store) flushMemory() error {
	flushed, err := s.db.db.AsyncFlush()
	if err != nil || flushed == nil {
		return err
	}
	select {
	case <-flushed:
		return nil
	case <-s.stop:
	case <-s.dead.ch:
	}
	return errPurgeLater
}

// compactKeys rewrites the tables that hold the keys.
func (s *Store) compactKeys(due *purgeDue) error {
	keys := make([][]byte, len(due.people))
	for i := range due.people {
		e := &due.people[i]
		keys[i] = appendPersonKeyKey(nil, e.Slot, e.Workspace, e.Person)
	}
	slices.SortFunc(keys, slices.Compare)
	from, to := []byte{prefixPersonKey}, []byte{prefixPersonKey + 1}
	size, err := s.db.db.EstimateDiskUsage(from, to)
	if err != nil {
		err = readFault(err)
	} else if size <= purgeSmall || len(keys) > purgeAlone {
		err = s.compact(from, to)
	} else {
		for _, key := range keys {
			if err = s.compact(key, append(slices.Clone(key), 0)); err != nil {
				break
			}
		}
	}
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	held, fault := s.compactAround(keys)
	if fault != nil && !errors.Is(fault, ErrCorrupt) {
		return fault
	}
	due.hinder(fault, func(i int) bool {
		e := &due.people[i]
		key := appendPersonKeyKey(nil, e.Slot, e.Workspace, e.Person)
		_, ok := slices.BinarySearchFunc(held, key, slices.Compare)
		return ok
	})
	return nil
}

// compactNames rewrites the tables that hold the names.
func (s *Store) compactNames(due *purgeDue) error {
	if len(due.names) == 0 {
		return nil
	}
	err := s.compact([]byte{prefixName}, []byte{prefixName + 1})
	if errors.Is(err, ErrCorrupt) {
		due.hinder(err, func(i int) bool { return due.named[i] })
		return nil
	}
	return err
}

func (s *Store) compact(from, to []byte) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.db.db.Compact(ctx, from, to, false)
	if errors.Is(err, context.Canceled) {
		return errPurgeLater
	}
	if err != nil {
		return fmt.Errorf("rewrite tables for a purge: %w", readFault(err))
	}
	return nil
}

// tablesGone reports whether every table there was is in use still or deleted.
func (s *Store) tablesGone(path string, before []string) (bool, error) {
	now, err := s.o.FS.List(path)
	if err != nil {
		return false, err
	}
	levels, err := s.db.db.SSTables()
	if err != nil {
		return false, readFault(err)
	}
	live := make(map[string]bool)
	for _, level := range levels {
		for i := range level {
			live[fmt.Sprintf("%06d.sst", uint64(level[i].FileNum))] = true
		}
	}
	for _, name := range now {
		if strings.HasSuffix(name, ".sst") && !live[name] && slices.Contains(before, name) {
			return false, nil
		}
	}
	return true, nil
}

// dropLogs deletes the logs of commits that were there before the keys were deleted:
// all that was in them has been flushed since, and Pebble keeps some only to write
// over them.
func (s *Store) dropLogs(path string, before []string) error {
	fs := s.o.FS
	for _, name := range before {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		err := fs.Remove(fs.PathJoin(path, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return syncFolder(fs, path)
}

// settlePurges notes in the ledger that the keys are gone, and behind the count that
// nothing is due.
func (s *Store) settlePurges(due *purgeDue, done bool) error {
	b := s.db.db.NewBatch()
	var errs []error
	now := max(s.o.Now(), 1)
	for i := range due.people {
		e := &due.people[i]
		if e.Purged == 0 {
			e.Purged = max(now, e.At)
		}
		errs = append(errs, b.Set(e.appendKey(nil), e.append(nil), nil))
		if done {
			errs = append(errs, b.Delete(appendPurgeKey(nil, e.Group, e.Person), nil))
		}
	}
	err := errors.Join(errs...)
	if err == nil {
		err = s.db.commitSynced(b)
	}
	return errors.Join(err, b.Close())
}

// countLogged counts what the log holds of those who are due. Damage to the log is no
// fault of the purge: they stay uncounted then.
// Cost: reading the blocks of the log that hold them.
func (s *Store) countLogged(due *purgeDue) error {
	at := make(map[PersonRef]*LogHoldings, len(due.people))
	among := make(eventlog.Ords)
	counts := make([]LogHoldings, len(due.people))
	for i, ord := range due.ords {
		if ord == NoOrd {
			continue
		}
		g := due.people[i].Group
		counts[i].Counted = true
		at[PersonRef{Group: g, Ord: ord}] = &counts[i]
		among[uint16(g)] = append(among[uint16(g)], uint32(ord))
	}
	for _, ords := range among {
		slices.Sort(ords)
	}
	for _, decisions := range [...]bool{false, true} {
		err := s.ScanLog(&LogQuery{Decisions: decisions, among: among}, func(e *LogEntry) error {
			n := at[PersonRef{Group: e.Group, Ord: e.Effect.Ord}]
			switch e.Effect.Kind {
			case EffectEvent, EffectOutcome:
				n.Events++
			case EffectDecision:
				n.Decisions++
			case EffectErase:
			default:
				n.Changes++
			}
			return nil
		})
		if errors.Is(err, ErrCorrupt) {
			s.db.faults.Errorf("what the log held of erased people is not counted: %v", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	for i := range due.people {
		due.people[i].Logged = counts[i]
	}
	return nil
}

// purgeAwait waits until f, for a while.
func (s *Store) purgeAwait(f func() (bool, error)) error {
	late := time.NewTimer(purgeWait)
	defer late.Stop()
	for {
		ok, err := f()
		if ok || err != nil {
			return err
		}
		select {
		case <-time.After(purgeLook):
		case <-late.C:
			return fmt.Errorf("%w: somebody reads an older state", errPurgeLater)
		case <-s.stop:
			return errPurgeLater
		case <-s.dead.ch:
			return errPurgeLater
		}
	}
}
