package storage

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/journal"
)

// Classes of errors. Callers test them with errors.Is; the text around them
// names the file, group or key.
var (
	// ErrCorrupt reports bytes on disk that are not what was written, or that are
	// missing. Nothing has been deleted.
	ErrCorrupt = errors.New("store is corrupt")
	// ErrNewerFormat reports a store written by a newer version.
	ErrNewerFormat = errors.New("store has a newer format")
	// ErrLocked reports that another process serves the folder.
	ErrLocked = errors.New("another tact runs on this folder")
	// ErrUnknown reports that a frame was not durable in time: its effects may or
	// may not be there after a restart.
	ErrUnknown = errors.New("outcome unknown: not known to be durable")
	// ErrFenced reports a group that takes no appends: a commit is late or has
	// gone wrong.
	ErrFenced = errors.New("group is fenced")
	// ErrDiskFull reports less free disk space than Options.MinFree.
	ErrDiskFull = errors.New("disk is nearly full")
	// ErrMemoryCap reports that the resident data has reached Options.MemoryCap:
	// no new people.
	ErrMemoryCap = errors.New("memory cap is reached")
	// ErrClosed reports a call after Close.
	ErrClosed = errors.New("store is closed")
	// ErrRolledBack reports that the journal or the ring in shared memory knows a
	// later start of the store than the store itself, or that a mark in the folder says
	// so: it is an older copy, and nobody has said what becomes of its caps.
	ErrRolledBack = errors.New("store is an older copy of itself")
	// ErrNotFound reports a decision, document or name that is not there.
	ErrNotFound = errors.New("not found")
	// ErrLimit reports a full dictionary or a name that is too long.
	ErrLimit = errors.New("limit is reached")
)

// Options says how to open a store. The zero value works; it is immutable
// after Open.
type Options struct {
	Groups     int           // log groups, fixed at creation; power of two, 1..1024; default 16
	CommitMax  time.Duration // longest wait for a commit before ErrUnknown; default 2 s
	FlushEvery time.Duration // pause between write-behind passes; default 1 s
	BoundedMax time.Duration // an effect nobody waits for is committed by then; default 50 ms
	LogEvery   time.Duration // pause between looks at what goes into the event log; default 1 s
	LogBlock   int64         // bytes of a group's frames that become a block; default 2 MiB
	LogAge     time.Duration // frames this old become a block however few they are; default 1 h
	PurgeEvery time.Duration // pause between looks for keys of erased people; default 1 min
	LogSegment int64         // bytes of a file of the event log; default 128 MiB
	// KeepEffects and KeepDecisions are how long the event log keeps what happened
	// (default 90 days) and what was decided (30 days); negative = for ever. LogBytes
	// bounds both together: the oldest leave first; 0 = a quarter of the disk.
	KeepEffects   time.Duration
	KeepDecisions time.Duration
	LogBytes      int64
	HoldBytes     int64  // frames kept for the next incremental backup; default 1 GiB
	MemoryCap     int64  // resident bytes from which new people are refused; 0 = no cap
	MinFree       int64  // free disk bytes kept; default 256 MiB or 2 % (at most 4 GiB)
	Ballast       int64  // bytes of the reserve file; default 32 MiB, 0 when FS is set
	FS            vfs.FS // nil = the disk
	// RingDir is a folder of a tmpfs for the ring of caps' records: with it a
	// grant may be answered before it is durable. "" = every grant waits.
	RingDir      string
	Caps         CapsPolicy      // of a store that is an older copy of itself; default refuse
	JournalSlots int             // records of the journal, a multiple of 16; default 16384
	Lease        time.Duration   // of a session whose grants do not wait; default 30 min
	Rand         io.Reader       // source of keys and nonces; nil = crypto/rand
	Now          func() UnixMsec // wall clock, for the record of an epoch; nil = time.Now
	Logger       *slog.Logger    // nil = discard

	hooks hooks
}

// hooks let tests of this package fail a commit, lie about durability or set
// the free space.
type hooks struct {
	commit   func(frames int) error // called before a batch reaches Pebble
	synced   func()                 // called after each synced commit
	rows     func(*Group)           // called before rows that may be written are
	ackEarly func()                 // planted bug: wake waiters before the sync
	memTable uint64                 // bytes of Pebble's table in memory
	logBite  int64                  // replaces the constant, unless 0
	// keptFrames replaces keptFramesMost, unless 0; below 0 nothing is kept.
	keptFrames int64
	freeSpace  func() (free, total uint64) // replaces the file system's answer
	opened     func(stage string) error    // called between the steps of Open
	shm        journal.Shm                 // the ring's memory
	disk       func(journal.Disk) journal.Disk
	recarry    func(r *journal.Record) error // called before a record's effect is appended again
}

func (o *Options) fill() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if o.Groups == 0 {
		o.Groups = 16
	}
	set(&o.CommitMax, 2*time.Second)
	set(&o.FlushEvery, time.Second)
	set(&o.BoundedMax, 50*time.Millisecond)
	set(&o.LogEvery, time.Second)
	set(&o.LogAge, logBlockAge)
	set(&o.PurgeEvery, time.Minute)
	set(&o.KeepEffects, logKeepEffects)
	set(&o.KeepDecisions, logKeepDecisions)
	if o.HoldBytes == 0 {
		o.HoldBytes = 1 << 30
	}
	if o.LogBlock == 0 {
		o.LogBlock = logBlockBytes
	}
	if o.FS == nil {
		o.FS = vfs.Default
		if o.Ballast == 0 {
			o.Ballast = 32 << 20
		}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Now == nil {
		o.Now = func() UnixMsec { return UnixMsec(time.Now().UnixMilli()) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *Options) validate() error {
	var errs []error
	if o.Groups < 1 || o.Groups > 1024 || o.Groups&(o.Groups-1) != 0 {
		errs = append(errs, fmt.Errorf("groups is %d: want a power of two in 1..1024", o.Groups))
	}
	positive := func(name string, d time.Duration) {
		if d < time.Millisecond {
			errs = append(errs, fmt.Errorf("%s is %v: want at least 1 ms", name, d))
		}
	}
	positive("commit max", o.CommitMax)
	positive("flush every", o.FlushEvery)
	positive("bounded max", o.BoundedMax)
	positive("log every", o.LogEvery)
	positive("log age", o.LogAge)
	if o.Caps > CapsLift {
		errs = append(errs, fmt.Errorf("caps policy is %d", o.Caps))
	}
	positive("purge every", o.PurgeEvery)
	if o.MemoryCap < 0 || o.MinFree < 0 || o.Ballast < 0 {
		errs = append(errs, errors.New("memory cap, min free and ballast must not be negative"))
	}
	if o.LogBlock < 0 || o.LogSegment < 0 || o.LogBytes < 0 {
		errs = append(errs, errors.New("sizes of the event log must not be negative"))
	}
	return errors.Join(errs...)
}

// Store is one node's store: its groups in memory, their frames and rows in one
// Pebble store. All methods may be called from any goroutine.
type Store struct {
	dir    string
	o      Options
	lock   io.Closer
	db     *database
	man    manifest
	epoch  uint32
	groups []*Group
	dict   dictionary
	totals *Totals
	side   sidecar
	guard  guard
	com    committer
	carry  carrier
	older  olderCopy
	// incidents are those of every group, as they are since the start.
	incidents []incidents
	blind     UnixSec
	flush     flusher
	logs      logger
	purge     purger
	cut       Cut
	macs      macPool
	lists     lists
	follow    func(*Group, []Touch)

	gate   sync.RWMutex // held shared while effects of several groups belong together
	dead   deathNote
	closed atomic.Bool
	// opening is of the open alone.
	opening opening
	puts    atomic.Int64 // of documents, under way
	// copying is held while a copy is made, and for good once the store closes.
	copying sync.Mutex
	stop    chan struct{}
	loops   sync.WaitGroup
}

// Epoch counts the opens of the store, from 1.
func (s *Store) Epoch() uint32 { return s.epoch }

// Groups returns the number of groups.
func (s *Store) Groups() int { return len(s.groups) }

// StoreID names the store for ever.
func (s *Store) StoreID() [16]byte { return s.man.id }

// HighWater returns the newest time any group has seen, 0 for an empty store.
// After a restart it is the newest durable one.
func (s *Store) HighWater() UnixMsec {
	var high int64
	for _, g := range s.groups {
		high = max(high, g.high.Load())
	}
	return UnixMsec(high)
}

// GroupOf returns the group that owns a slot.
func (s *Store) GroupOf(slot Slot) *Group {
	return s.groups[int(slot)*len(s.groups)/Slots]
}

// Group returns a group by its number, nil when there is none.
func (s *Store) Group(id GroupID) *Group {
	if int(id) >= len(s.groups) {
		return nil
	}
	return s.groups[id]
}

// Totals returns the node's ledger of total caps.
func (s *Store) Totals() *Totals { return s.totals }

// DiskFull reports whether appends are refused for want of disk space.
func (s *Store) DiskFull() bool { return s.guard.full.Load() }

// Err returns why the store has died, nil while it works. A dead store goes on
// telling what it holds in memory, takes nothing, and keeps the folder locked
// until the process ends: it is to be opened again by a new one.
func (s *Store) Err() error { return s.dead.err() }

// deathNote records the first fatal fault of a store.
type deathNote struct {
	once sync.Once
	ch   chan struct{} // closed at death
	why  atomic.Pointer[error]
}

func (d *deathNote) err() error {
	if p := d.why.Load(); p != nil {
		return *p
	}
	return nil
}

// write notes the first fault, and says whether it is the first.
func (d *deathNote) write(err error) (first bool) {
	d.once.Do(func() {
		d.why.Store(&err)
		close(d.ch)
		first = true
	})
	return first
}

// die fences every group for good, and says so. Pebble calls it, through its
// logger, with locks of its own held: it must not call Pebble.
func (s *Store) die(err error) {
	if s.dead.write(err) {
		s.o.Logger.Error("the store has stopped: nothing is taken until it is opened again",
			"error", err)
	}
}

// Close flushes what is in memory, marks the shutdown as clean and lets the
// folder go. The store must not be used afterwards. That of a dead store returns
// its error within Options.CommitMax or two.
func (s *Store) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return ErrClosed
	}
	s.copying.Lock()
	for _, g := range s.groups {
		g.fence(ErrClosed)
	}
	s.carry.j.Quiesce()
	close(s.stop)
	s.carry.j.Stop()
	s.awaitLoops()
	select { // an edit of a list whose caller has gone
	case s.lists.turn <- struct{}{}:
	case <-s.dead.ch:
	case <-time.After(s.o.CommitMax):
	}
	return errors.Join(s.closeDatabase(), s.unlock())
}

// awaitLoops waits for the loops to end; those of a dead store may be inside
// Pebble for ever.
func (s *Store) awaitLoops() {
	ended := make(chan struct{})
	go func() { s.loops.Wait(); close(ended) }()
	select {
	case <-ended:
		return
	case <-s.dead.ch:
	}
	select {
	case <-ended:
	case <-time.After(s.o.CommitMax):
	}
}

// unlock lets the folder go. A dead store keeps it as long as the process lives:
// what is left of Pebble may still write.
func (s *Store) unlock() error {
	if s.dead.err() != nil {
		return nil
	}
	return s.lock.Close()
}
