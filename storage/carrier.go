package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/journal"
)

// The carrier is the journal beside the frames. Every reservation lies in a
// frame of its group as every other effect does; its record in the journal is
// durable sooner, and with a ring in shared memory outlives a kill. What a start
// finds in the journal and in no frame is appended to a frame before the epoch's
// first, in the one batch that also holds the new floor, the incident when there
// is one and the new epoch's journal state.
type carrier struct {
	j     *journal.Journal
	rec   *journal.Recovery
	saved journal.State // durable
	next  journal.State // of the batch on its way
	moved bool          // the batch holds next
	first bool          // next begins the epoch
	found int           // records that no frame held
	burnt int64         // units of totals that this start has burnt
	upTo  []uint64      // by group: newest frame that is durable with the batch
}

// JournalStats are the figures of the journal and of the stand-ins that losses
// brought, since the start.
type JournalStats struct {
	journal.Stats
	Incident bool   // this start followed a loss that cannot be ruled out
	Why      string // what made it so or not
	Found    int    // records that no frame held
	Charged  uint64 // stand-ins written down
	Released uint64 // and given back
	Taken    uint64 // counters whose lost use has come
	Burnt    int64  // units of totals that this start counts as used: see EffectBurn
}

func (c *carrier) stats() JournalStats {
	return JournalStats{
		Stats: c.j.Stats(), Incident: !c.rec.Harmless, Why: c.rec.Why, Found: c.found,
		Burnt: c.burnt,
	}
}

const (
	journalStateFormat = 1
	journalClean       = 1
	journalShared      = 2
)

// appendJournalState appends format u8 | epoch u32 | water u64 | synced i64 |
// ahead i64 | flags u8 (1 clean, 2 ring) | crc.
func appendJournalState(b []byte, st journal.State) []byte {
	le := binary.LittleEndian
	b = append(b, journalStateFormat)
	b = le.AppendUint32(b, st.Epoch)
	b = le.AppendUint64(b, st.Water)
	b = le.AppendUint64(b, uint64(st.Synced))
	b = le.AppendUint64(b, uint64(st.Ahead))
	var flags byte
	if st.Clean {
		flags |= journalClean
	}
	if st.Shared {
		flags |= journalShared
	}
	return sealRecord(append(b, flags))
}

func parseJournalState(b []byte) (st journal.State, err error) {
	body, err := checkedValue(b, journalStateFormat)
	if err == nil && (len(body) != 30 || body[29] > journalClean|journalShared) {
		err = ErrCorrupt
	}
	if err != nil {
		return st, fmt.Errorf("journal state: %w", err)
	}
	return journal.State{
		Epoch: le32(body[1:]), Water: le64(body[5:]), Synced: journal.Msec(le64(body[13:])),
		Ahead: journal.Msec(le64(body[21:])), Clean: body[29]&journalClean != 0,
		Shared: body[29]&journalShared != 0,
	}, nil
}

// openJournal reads what the dead epoch left.
func (s *Store) openJournal(side *sidecarRecord) error {
	value, err := s.db.get([]byte{prefixNode, nodeJournal})
	switch {
	case errors.Is(err, ErrNotFound): // written before there was a journal
	case err != nil:
		return err
	default:
		if s.carry.saved, err = parseJournalState(value); err != nil {
			return err
		}
	}
	o := s.journalOptions()
	if side.ends.epoch == s.carry.saved.Epoch {
		o.Known = side.ends.journal
	}
	o.OlderCopy = s.older.is
	s.carry.j, s.carry.rec, err = journal.Recover(o, s.carry.saved)
	if errors.Is(err, journal.ErrRolledBack) && s.older.accepts(s.o.Caps) {
		o.OlderCopy = true
		s.carry.j, s.carry.rec, err = journal.Recover(o, s.carry.saved)
	}
	switch {
	case errors.Is(err, journal.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case errors.Is(err, journal.ErrNewerFormat):
		return fmt.Errorf("%w: %w", ErrNewerFormat, err)
	case errors.Is(err, journal.ErrRolledBack):
		return fmt.Errorf("%w: %w", ErrRolledBack, err)
	case err != nil:
		return err
	}
	s.carry.upTo = make([]uint64, len(s.groups))
	return nil
}

func (s *Store) journalOptions() journal.Options {
	o := journal.Options{
		StoreID: s.man.id, Groups: s.man.groups, Slots: s.o.JournalSlots, Lease: s.o.Lease,
		Logger: s.o.Logger, Disk: vfsDisk{s.o.FS, s.dir}, Shm: s.o.hooks.shm,
		Wall: func() journal.Msec { return journal.Msec(s.o.Now()) },
		OnSync: func(epoch uint32, number uint64) {
			s.witness(logEnds{epoch: epoch, journal: number})
		},
	}
	if s.o.FS == vfs.Default {
		o.Disk = journal.Folder(s.dir)
	} else if o.Slots == 0 {
		o.Slots = 512 // in memory: of a test
	}
	if s.o.RingDir != "" {
		o.Shm = journal.SharedFile(s.ringFile())
	}
	if s.o.hooks.disk != nil {
		o.Disk = s.o.hooks.disk(o.Disk)
	}
	return o
}

// ringFile is where the store's ring lies.
func (s *Store) ringFile() string {
	return filepath.Join(s.o.RingDir, journal.RingName(s.man.id))
}

// beginJournal appends, within one batch, what recovery found and the incident.
// at is the time of the new epoch, already above everything that is durable.
func (s *Store) beginJournal(at UnixMsec) error {
	c := &s.carry
	st := c.saved
	known := make([]uint64, len(s.groups))
	for i, g := range s.groups {
		known[i] = uint64(i)<<48 | g.mu.state.reserved
	}
	for i := range c.rec.Records {
		r := &c.rec.Records[i]
		if r.ID != 0 && r.Number <= c.rec.Gapless && int(r.Group) < len(known) {
			known[r.Group] = max(known[r.Group], r.ID)
		}
	}
	for i, g := range s.groups {
		e := Effect{Kind: EffectTime, Ord: NoOrd, Time: at, Floor: UnixSec(at / 1000)}
		if !c.rec.Harmless {
			e.Incident = c.rec.Incident(st, known[i], journal.Msec(at))
		}
		g.Lock()
		err := s.recarry(g)
		if err == nil {
			g.sealLocked() // the new floor begins behind them
			_, err = g.Append(&e)
		}
		if older, ok := s.rollback(g, at); ok && err == nil {
			_, err = g.Append(&older)
		}
		g.Unlock()
		if err != nil {
			return fmt.Errorf("group %d: first frame: %w", i, err)
		}
	}
	if err := s.endBlocks(at); err != nil {
		return err
	}
	c.next, c.first = c.j.First(s.epoch, c.rec, journal.Msec(at)), true
	return nil
}

// recarry appends the records of a group that no frame holds, in a frame before
// the one that begins the epoch. They are judged as they were when they were made:
// under the new floor a reservation that had run out, and whose use was granted to
// one of them, would live again. The group is locked.
func (s *Store) recarry(g *Group) error {
	c := recarrier{g: g, start: true}
	for i := range s.carry.rec.Records {
		r := &s.carry.rec.Records[i]
		if r.Group != uint16(g.id) || r.Kind == journal.Time {
			continue
		}
		held, err := s.framed(g, r.Frame)
		if err != nil {
			return err
		}
		if held {
			continue
		}
		if _, err := c.append(r); err != nil {
			return fmt.Errorf("journal record %d: %w", r.Number, err)
		}
		s.carry.found++
	}
	return nil
}

// framed reports whether there is a frame of the group, or was before it was
// trimmed.
func (s *Store) framed(g *Group, number uint64) (bool, error) {
	_, err := s.db.get(appendFrameKey(nil, g.id, number))
	if errors.Is(err, ErrNotFound) {
		return s.inLog(g, number)
	}
	return err == nil, err
}

// fillJournal puts the journal's state into the batch when it has changed.
func (s *Store) fillJournal(b *pebble.Batch) error {
	c := &s.carry
	if c.j == nil || len(c.upTo) == 0 {
		return nil
	}
	if !c.first {
		for i, g := range s.groups {
			c.upTo[i] = g.durable.Load()
		}
		for _, p := range s.com.parts {
			c.upTo[p.group.id] = max(c.upTo[p.group.id], p.frame.number)
		}
		c.next = c.j.Prospect(c.upTo)
		if c.next.Epoch == 0 {
			return nil // not begun
		}
	}
	if c.moved = c.next != c.saved; !c.moved {
		return nil
	}
	return b.Set([]byte{prefixNode, nodeJournal}, appendJournalState(nil, c.next), nil)
}

// settleJournal is told that the batch is durable.
func (s *Store) settleJournal() {
	c := &s.carry
	if !c.moved {
		return
	}
	c.saved, c.moved = c.next, false
	if c.first { // its journal begins when this is told
		c.first = false
		return
	}
	c.j.Settle(c.saved)
}

// runJournal begins the epoch, whose first batch is durable.
func (s *Store) runJournal(at UnixMsec) error {
	c := &s.carry
	if err := c.j.Start(c.next, journal.Msec(at)); err != nil {
		return err
	}
	log := s.o.Logger.Info
	if !c.rec.Harmless {
		log = s.o.Logger.Warn
	}
	log("journal: begun", "harmless", c.rec.Harmless, "why", c.rec.Why, "found", c.found,
		"ring", c.j.Stats().Ring, "burnt_units", c.burnt)
	c.rec.Records = nil
	s.loops.Add(1)
	go func() { defer s.loops.Done(); c.j.Run() }()
	return nil
}

// reloadJournal applies again what the journal holds of a group whose memory was
// dropped. What cannot be applied is in no frame: its record keeps its slot, so that
// nothing takes it for durable and the next start finds it, and the error says that the
// group knows less than was answered. The group is locked.
func (s *Store) reloadJournal(g *Group) error {
	if s.carry.j == nil {
		return nil
	}
	c := recarrier{g: g}
	fenced := g.mu.fenced
	g.mu.fenced, g.mu.admitted = nil, true
	var errs []error
	s.carry.j.Unsettled(uint16(g.id), func(r *journal.Record) uint64 {
		if r.Frame <= g.mu.last {
			return r.Frame // it is durable, and only the watermark has not passed it
		}
		frame, err := c.append(r)
		if err != nil {
			errs = append(errs, fmt.Errorf("journal record %d is not held again: %w", r.Number, err))
			return neverDurable
		}
		return frame
	})
	g.mu.fenced = fenced
	return errors.Join(errs...)
}

// neverDurable is a frame that no group comes to.
const neverDurable = math.MaxUint64

// vfsDisk is a journal's disk on the file system that the store was given.
type vfsDisk struct {
	fs  vfs.FS
	dir string
}

func (d vfsDisk) path(name string) string { return d.fs.PathJoin(d.dir, name) }

func (d vfsDisk) Create(name string, header []byte, size int64) (journal.File, error) {
	fresh := d.path("new-" + name)
	f, err := d.fs.Create(fresh, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(append(header, make([]byte, size-int64(len(header)))...))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	if err := d.fs.Rename(fresh, d.path(name)); err != nil {
		return nil, err
	}
	if err := syncFolder(d.fs, d.dir); err != nil {
		return nil, err
	}
	return d.Open(name)
}

func (d vfsDisk) Open(name string) (journal.File, error) {
	f, err := d.fs.OpenReadWrite(d.path(name), vfs.WriteCategoryUnspecified)
	return vfsFile{f}, err
}

func (d vfsDisk) List() ([]string, error) { return d.fs.List(d.dir) }

func (d vfsDisk) Remove(name string) error {
	return errors.Join(d.fs.Remove(d.path(name)), syncFolder(d.fs, d.dir))
}

type vfsFile struct{ vfs.File }

func (f vfsFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, errors.Join(err, f.SyncData())
}

func (f vfsFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f vfsFile) Direct() bool { return false }
