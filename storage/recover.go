package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// clockAheadMax is how far the wall clock may be ahead of the store's newest
// time at an open and still be adopted: beyond 30 days it is more likely wrong.
const clockAheadMax UnixMsec = 30 * 24 * 3600 * 1000

// closeCommits is how long closing may take, in times of Options.CommitMax.
const closeCommits = 20

// Open opens the store in dir, making it when there is none, and brings its
// memory back from rows and frames. It refuses with ErrLocked, ErrCorrupt,
// ErrNewerFormat, ErrRolledBack or ErrRestoring; it deletes nothing then.
//
// The order is: take the lock; compare the MANIFEST with the sidecar; open
// Pebble for reading, since an open for writing already deletes files, compare
// its tables with the MANIFEST and the ends of both logs with what the sidecar and
// the witness know, and load everything; open for writing; make the new epoch
// durable; append to every group the time and its floor, durable. So what is found
// to be damaged is found before anything is changed.
// Cost: about 1 µs a person and 2 µs a frame effect, spread over the CPUs.
func Open(dir string, o Options) (*Store, error) {
	o.fill()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("store options: %w", err)
	}
	s := &Store{dir: dir, o: o, stop: make(chan struct{}), totals: NewTotals()}
	s.dead.ch = make(chan struct{})
	s.lists.turn = make(chan struct{}, 1)
	s.com.kick = make(chan struct{}, 1)
	s.com.seal = newSealer(s.o.Rand)
	s.flush.seal = newSealer(s.o.Rand)
	s.com.bounded.begun = time.Now()
	s.com.jobs = make(chan *pebble.Batch)
	s.purge.ask = make(chan chan error)
	s.com.results = make(chan error, 1)
	if err := Restoring(dir, o); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := makeFolder(o.FS, dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := lockFolder(o.FS, dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.lock = lock
	s.opening.begin()
	if err := s.boot(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, errors.Join(err, s.abandon()))
	}
	return s, nil
}

func makeFolder(fs vfs.FS, dir string) error {
	there, err := exists(fs, dir)
	if there || err != nil {
		return err
	}
	if err := fs.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return syncFolder(fs, fs.PathDir(dir))
}

// abandon lets go of what a failed boot holds.
func (s *Store) abandon() error {
	var errs []error
	if s.logs.log != nil {
		errs = append(errs, s.logs.log.Close())
	}
	if s.carry.j != nil {
		errs = append(errs, s.carry.j.Abandon())
	}
	if s.db != nil && s.dead.err() == nil {
		errs = append(errs, s.closePebble(s.db.db, s.db.faults))
	}
	errs = append(errs, s.side.close()) // Pebble tells it of a new MANIFEST until it is closed
	return errors.Join(append(errs, s.unlock())...)
}

func (s *Store) boot() error {
	fs := s.o.FS
	rec, err := s.findStore()
	if err != nil {
		return err
	}
	path := fs.PathJoin(s.dir, folderDatabase)
	if err := rec.verify(fs, path); err != nil {
		return err
	}
	if err := s.loadOlderCopy(); err != nil {
		return err
	}
	s.side.begin(rec.marks)
	faults := &faultLog{log: s.o.Logger, die: s.die}
	if err := s.load(path, &rec, faults); err != nil {
		return err
	}
	if err := s.openDatabase(path, faults); err != nil {
		return err
	}
	s.opening.part(&s.opening.report.Write)
	if err := s.stage("opened"); err != nil {
		return err
	}
	s.findCut(rec.clean)
	if err := s.beginEpoch(); err != nil {
		return err
	}
	s.opening.part(&s.opening.report.Epoch)
	if err := s.stage("epoch"); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	s.opening.part(&s.opening.report.First)
	s.sayOpening()
	return nil
}

// load brings everything into memory from a Pebble that is open for reading.
func (s *Store) load(path string, rec *sidecarRecord, faults *faultLog) error {
	pdb, err := s.pebble(path, true, faults).open()
	if err != nil {
		return s.openFault(err)
	}
	s.db = newDatabase(pdb, faults)
	err = s.loadAll(path, rec)
	s.db = nil
	if s.dead.err() != nil {
		return errors.Join(err, s.dead.err()) // its locks may be held for ever
	}
	return errors.Join(err, s.closePebble(pdb, faults))
}

// beside runs what calls Pebble where nobody waits for it for ever.
func (s *Store) beside(faults *faultLog, f func() error) error {
	return pebbleOpen{faults: faults, dead: &s.dead}.beside(f)
}

// closePebble closes a Pebble, which may flush first: there is an end to that.
func (s *Store) closePebble(db *pebble.DB, faults *faultLog) error {
	limit := time.AfterFunc(closeCommits*s.o.CommitMax, func() {
		s.die(errors.New("the disk does not take what is to be written at the end"))
	})
	defer limit.Stop()
	return s.beside(faults, db.Close)
}

func (s *Store) loadAll(path string, rec *sidecarRecord) error {
	o := &s.opening
	o.skip()
	if err := verifyTables(s.o.FS, path, s.db.db); err != nil {
		return err
	}
	if err := s.compare(s.db.view, rec); err != nil {
		return err
	}
	o.part(&o.report.Verify)
	if err := errors.Join(s.loadNames(), s.loadLists()); err != nil {
		return err
	}
	o.part(&o.report.Names)
	if err := s.loadGroups(); err != nil {
		return err
	}
	o.part(&o.report.Groups)
	if err := s.openLog(); err != nil {
		return err
	}
	if err := s.openJournal(rec); err != nil {
		return err
	}
	o.part(&o.report.Logs)
	return nil
}

// openDatabase opens Pebble for writing. The witness hears of every sync.
func (s *Store) openDatabase(path string, faults *faultLog) error {
	db, err := s.pebble(path, false, faults).open()
	if err != nil {
		return err
	}
	s.db = newDatabase(db, faults)
	if s.db.commits.last, err = s.db.lastCommit(); err != nil {
		return err
	}
	s.db.commits.synced = func(number uint64) { s.witness(logEnds{commit: number}) }
	return nil
}

// witness notes what was synced.
func (s *Store) witness(e logEnds) {
	if err := s.side.witness.see(e); err != nil {
		s.o.Logger.Error("the witness of what was synced is not written any more", "error", err)
	}
}

// pebble says how to open the Pebble store in path. The sidecar hears of new
// MANIFESTs.
func (s *Store) pebble(path string, readOnly bool, faults *faultLog) pebbleOpen {
	return pebbleOpen{
		fs: databaseFS{s.o.FS, &s.side, faults, &s.purge.fresh}, dir: path, readOnly: readOnly,
		memTable: s.o.hooks.memTable, faults: faults, dead: &s.dead,
	}
}

func (s *Store) stage(name string) error {
	if s.o.hooks.opened == nil {
		return nil
	}
	return s.o.hooks.opened(name)
}

// findStore returns the sidecar's record, after making the store when the folder
// has none.
func (s *Store) findStore() (rec sidecarRecord, err error) {
	fs := s.o.FS
	there, err := exists(fs, fs.PathJoin(s.dir, folderDatabase))
	if err != nil {
		return rec, err
	}
	rec, slot, err := loadSidecar(fs, s.dir)
	if !there {
		if err == nil && rec.epoch > 0 {
			return rec, fmt.Errorf("%w: %s has sidecars but no folder %s",
				ErrCorrupt, s.dir, folderDatabase)
		}
		return s.create()
	}
	if errors.Is(err, ErrNotFound) {
		return rec, fmt.Errorf("%w: %s has lost %s and %s",
			ErrCorrupt, s.dir, sidecarFile(0), sidecarFile(1))
	}
	if err != nil {
		return rec, err
	}
	if err := s.askWitness(&rec); err != nil {
		return rec, err
	}
	return rec, s.side.open(fs, s.dir, rec, slot)
}

// askWitness adds what the witness knows. One that is torn or missing knows
// nothing; a store of a version without one has none.
func (s *Store) askWitness(rec *sidecarRecord) error {
	ends, err := loadWitness(s.o.FS, s.dir, rec.id)
	switch {
	case err == nil:
		rec.ends.raise(ends)
	case errors.Is(err, ErrCorrupt):
		s.o.Logger.Warn("the witness is not whole: it is not asked", "error", err)
	case !errors.Is(err, ErrNotFound):
		return err
	}
	return nil
}

// create makes a store in a folder of its own and renames it when it is whole.
// The first log of a new Pebble store is written in an old format without sync
// chunks, in which a flipped bit is lost silently: so it is closed and opened
// again before anything is kept in it.
func (s *Store) create() (rec sidecarRecord, err error) {
	fs := s.o.FS
	path := fs.PathJoin(s.dir, folderCreating)
	if err := fs.RemoveAll(path); err != nil {
		return rec, fmt.Errorf("remove unfinished %s: %w", path, err)
	}
	m, err := makeManifest(&s.o)
	if err != nil {
		return rec, err
	}
	rec = sidecarRecord{id: m.id, durable: make([]uint64, m.groups)}
	if err := s.side.open(fs, s.dir, rec, 0); err != nil {
		return rec, err
	}
	faults := &faultLog{log: s.o.Logger, die: s.die}
	for round := range 2 {
		db, err := s.pebble(path, false, faults).open()
		if err != nil {
			return rec, err
		}
		err = s.beside(faults, func() error {
			var err error
			if round == 1 {
				err = errors.Join(
					db.Set([]byte{prefixNode, nodeManifest}, m.append(nil), pebble.Sync),
					db.Set([]byte{prefixNode, nodeEpoch}, appendEpoch(nil, 0, m.created), pebble.Sync))
			}
			return errors.Join(err, db.Close())
		})
		if err != nil {
			return rec, fmt.Errorf("create %s: %w", path, err)
		}
	}
	if err := s.stage("created"); err != nil {
		return rec, err
	}
	if err := fs.Rename(path, fs.PathJoin(s.dir, folderDatabase)); err != nil {
		return rec, fmt.Errorf("create %s: %w", path, err)
	}
	if err := syncFolder(fs, s.dir); err != nil {
		return rec, err
	}
	return s.side.record(), nil
}

// compare compares what the store says of itself with the sidecar.
func (s *Store) compare(db view, rec *sidecarRecord) error {
	value, err := db.get([]byte{prefixNode, nodeManifest})
	if err != nil {
		return fmt.Errorf("%w: the store's manifest record: %w", ErrCorrupt, err)
	}
	if s.man, err = parseManifest(value); err != nil {
		return err
	}
	if s.man.id != rec.id || s.man.groups != len(rec.durable) {
		return fmt.Errorf("%w: the sidecars belong to another store", ErrCorrupt)
	}
	if value, err = db.get([]byte{prefixNode, nodeEpoch}); err != nil {
		return fmt.Errorf("%w: the epoch record: %w", ErrCorrupt, err)
	}
	if s.epoch, err = parseEpoch(value); err != nil {
		return err
	}
	if s.epoch < rec.epoch {
		return s.logDamage("the log ends in epoch %d, the sidecar knows epoch %d", s.epoch, rec.epoch)
	}
	last, err := db.lastCommit()
	if err != nil {
		return err
	}
	if last < rec.ends.commit {
		return s.logDamage("the log ends at batch %d, batch %d was synced", last, rec.ends.commit)
	}
	s.macs.key = s.man.keys.IdentityKey
	for g, want := range rec.durable {
		number, _, err := lastFrame(db, GroupID(g))
		if err != nil {
			return err
		}
		if number < want {
			return s.logDamage("the log of group %d ends at frame %d, the sidecar knows frame %d "+
				"to be durable", g, number, want)
		}
	}
	return nil
}

// lastFrame returns the number and the hash of a group's last frame, zeros when
// it has none.
func lastFrame(db view, g GroupID) (number, hash uint64, err error) {
	prefix := appendFrameKey(nil, g, 0)[:3]
	key, value, err := db.last(prefix)
	if errors.Is(err, ErrNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	if len(key) != 11 {
		return 0, 0, fmt.Errorf("%w: frame key of %d bytes", ErrCorrupt, len(key))
	}
	number = binary.BigEndian.Uint64(key[3:])
	if _, _, err := parseFrame(value); err != nil {
		return 0, 0, fmt.Errorf("group %d frame %d: %w", g, number, err)
	}
	return number, frameHash(value), nil
}

// beginEpoch makes the next epoch durable in Pebble, then in the sidecar.
func (s *Store) beginEpoch() error {
	s.epoch++
	if s.older.is {
		s.epoch = max(s.epoch, s.carry.rec.Later) + rollbackEpochs
	}
	value := appendEpoch(nil, s.epoch, s.o.Now())
	b := s.db.db.NewBatch()
	if err := b.Set([]byte{prefixNode, nodeEpoch}, value, nil); err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	if err := s.beside(s.db.faults, func() error { return s.db.commitSynced(b) }); err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	return s.side.update(func(r *sidecarRecord) { r.epoch, r.clean = s.epoch, false })
}

func (s *Store) loadNames() error {
	prefix := []byte{prefixName}
	return s.db.scan(prefix, after(prefix), func(key, value []byte) error {
		if len(key) != 6 {
			return fmt.Errorf("%w: name key of %d bytes", ErrCorrupt, len(key))
		}
		id := Name(binary.BigEndian.Uint32(key[2:]))
		return s.dict.load(DictKind(key[1]), id, string(value))
	})
}

// loadGroups brings all groups back, twice as many at a time as there are CPUs:
// some of them wait for the disk.
func (s *Store) loadGroups() error {
	n := s.man.groups
	s.groups = make([]*Group, n)
	s.com.chain = make([]uint64, n)
	s.flush.groups = make([]flushGroup, n)
	errs := make([]error, n)
	next := make(chan GroupID)
	var wg sync.WaitGroup
	for range min(n, 2*runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			var room loadRoom
			for i := range next {
				errs[i] = s.bringBack(&room, i)
			}
		})
	}
	for i := range n {
		next <- GroupID(i)
	}
	close(next)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, g := range s.groups {
		g.mu.state.attachTotals(s.totals)
	}
	return nil
}

// bringBack makes a group of what is on disk.
func (s *Store) bringBack(room *loadRoom, id GroupID) error {
	l, err := s.loadGroupIn(room, id)
	if err != nil {
		return fmt.Errorf("group %d: %w", id, err)
	}
	g := &Group{id: id, store: s}
	s.groups[id] = g
	g.mu.state, g.mu.last = l.state, l.last
	g.show(l.state)
	g.openLocked(l.last + 1)
	g.durable.Store(l.last)
	g.written.Store(l.watermark)
	g.born.Store(uint32(l.state.nextOrd))
	g.high.Store(int64(l.state.highWater()))
	g.bytes.Store(l.state.residentBytes())
	s.com.chain[id] = l.hash
	s.flush.groups[id] = flushGroup{watermark: l.watermark, meta: l.meta}
	return nil
}

// start begins the loops and makes the first frames of the epoch durable: they
// carry the floor of every group, see Instant.
func (s *Store) start() error {
	s.watchSpace()
	s.loops.Add(1)
	go s.commitLoop()
	go s.syncLoop()
	now := s.o.Now()
	floor := UnixMsec(s.carry.rec.Floor)
	if high := max(s.HighWater(), floor); high > 0 && now > high+clockAheadMax {
		s.o.Logger.Warn("the clock is more than 30 days ahead of the store: not adopted",
			"clock", now, "store", high)
		now = high
	}
	full := s.guard.full.Swap(false) // the floor needs a few bytes, and they are there
	err := s.appendFirst(max(now, s.HighWater(), floor))
	s.guard.full.Store(full)
	if err != nil {
		close(s.stop)
		s.carry.j.Stop()
		s.loops.Wait()
		close(s.com.jobs)
		return err
	}
	if err := s.logs.log.Sweep(); err != nil {
		s.o.Logger.Warn("event log: files of no use stay", "error", err)
	}
	s.loops.Add(4)
	go s.purgeLoop()
	go s.logLoop()
	go s.flushLoop()
	go s.watchLoop()
	return nil
}

// appendFirst makes the first frames of the epoch durable, in one batch: what the
// journal alone held, the time and its floor, the journal's new state.
func (s *Store) appendFirst(at UnixMsec) error {
	var err error
	s.Together(func() { err = s.beginJournal(at) })
	if err != nil {
		return err
	}
	for i, g := range s.groups {
		g.Lock()
		frame := g.LastFrame()
		g.Unlock()
		if err := s.Wait(GroupID(i), frame, 0); err != nil {
			return fmt.Errorf("group %d: first frame: %w", i, err)
		}
	}
	s.knowBurnt()
	s.knowIncidents()
	if err := s.runJournal(at); err != nil {
		return err
	}
	return s.settleRollback()
}

// closeDatabase ends what the loops used. A dead store's Pebble cannot be
// closed: its locks may be held for ever.
func (s *Store) closeDatabase() error {
	close(s.com.jobs)
	clean := false
	err := s.dead.err()
	if err == nil {
		err = s.beside(s.db.faults, func() (err error) {
			clean, err = s.endDatabase()
			return err
		})
	}
	if s.dead.err() != nil {
		clean = false
	}
	return errors.Join(err, s.side.close(), s.carry.j.Close(clean))
}

// endDatabase writes what is left, marks the end as clean and closes Pebble.
func (s *Store) endDatabase() (clean bool, err error) {
	errs := []error{s.flushAll(), s.logs.log.Close()}
	b := s.db.db.NewBatch()
	state := s.carry.saved
	state.Clean = errs[0] == nil
	err = b.Set([]byte{prefixNode, nodeJournal}, appendJournalState(nil, state), nil)
	errs = append(errs, err, s.db.commitSynced(b), b.Close())
	clean = errors.Join(errs...) == nil
	errs = append(errs, s.writeWatermark(clean), s.closePebble(s.db.db, s.db.faults))
	return clean, errors.Join(errs...)
}
