package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Classes of errors.
var (
	// ErrCorrupt reports a journal that is missing, cut or not what was written.
	ErrCorrupt = errors.New("journal is corrupt")
	// ErrNewerFormat reports a journal that a newer version wrote.
	ErrNewerFormat = errors.New("the journal has a newer format")
	// ErrRolledBack reports a journal or a ring of a later epoch than the
	// store's: the store is an older copy.
	ErrRolledBack = errors.New("the store is an older copy of itself")
	// ErrLate reports a record that was not durable in time.
	ErrLate = errors.New("the journal is late")
	// ErrDead reports a journal that takes and makes durable nothing more.
	ErrDead = errors.New("the journal has stopped")
)

// DefaultSlots is Options.Slots when it is 0.
const DefaultSlots = 16384

// maxSlots bounds Options.Slots, and what a header may claim.
const maxSlots = 1 << 24

// Options says how to open a journal.
type Options struct {
	Disk    Disk
	Shm     Shm // nil: no ring, and every grant waits
	StoreID [16]byte
	Groups  int
	Slots   int           // records it holds, a multiple of 16; default DefaultSlots
	Ahead   time.Duration // how far the high-water is written ahead; default 2 s
	Lease   time.Duration // of a session; default 30 min
	Every   time.Duration // pause between syncs nobody waits for; default 5 ms
	Mono    func() int64  // milliseconds of a clock that no one sets; nil = the machine's
	// Wall is the clock that server time follows and may be ahead of, as after a start
	// whose floor is; nil = server time is never ahead. Any goroutine calls it.
	Wall   func() Msec
	Logger *slog.Logger // nil = discard
	// Known is a record of the dead epoch that is known to have been durable: when
	// it or one before it is missing, the journal is corrupt. 0 = nothing is known.
	Known uint64
	// OnSync is told, before those who wait are, up to which record of an epoch
	// everything lies in the file or in durable frames; nil = nobody.
	OnSync func(epoch uint32, number uint64)
	// OlderCopy says that the store is known to be an older copy of itself: the ring,
	// and records of epochs that the store does not know, belong to what it has not
	// seen. They are left out instead of refused, and so is a missing file.
	OlderCopy bool

	page  int // bytes; default 4096
	batch int // pages of one sync; default 256
	bugs  bugs
}

// bugs are planted by tests only: each breaks one law.
type bugs struct {
	noChecksum   bool // a torn record is taken
	noEpoch      bool // a dead record is taken
	leaseEarly   bool // a lease is in force before its record is durable
	twoUnsynced  bool // two answered records of one counter are not durable
	twoUses      bool // one record may use a counter twice
	creditLater  bool // a sync is credited with what was stored during it
	reuseEarly   bool // a slot is used again before its frame is durable
	waterEarly   bool // the watermark passes a frame that is not durable
	aheadBehind  bool // the high-water is written behind
	leaseAtBoot  bool // a lease is judged at the time of the start
	knownHighest bool // D is the highest number instead of the gap-free one
	sameBoot     bool // no reboot is taken for no loss
}

func (o *Options) fill() {
	if o.Slots == 0 {
		o.Slots = DefaultSlots
	}
	if o.page == 0 {
		o.page = pageSize
	}
	if o.batch == 0 {
		o.batch = 256
	}
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Ahead, 2*time.Second)
	set(&o.Lease, 30*time.Minute)
	set(&o.Every, 5*time.Millisecond)
	if o.Mono == nil {
		base := time.Now()
		o.Mono = func() int64 { return time.Since(base).Milliseconds() }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *Options) validate() error {
	switch per := o.page / SlotSize; {
	case o.Disk == nil:
		return errors.New("journal: no disk")
	case o.Groups < 1 || o.Groups >= noGroup:
		return fmt.Errorf("journal: %d groups", o.Groups)
	case o.Slots < 2*per || o.Slots%per != 0 || o.Slots > maxSlots:
		return fmt.Errorf("journal: %d slots: want a multiple of %d, at least %d",
			o.Slots, per, 2*per)
	}
	return nil
}

// State is what the store keeps of the journal in its own atomic batches.
type State struct {
	Epoch  uint32 // whose records count; 0 = there never was a journal
	Water  uint64 // every record up to it lies in durable frames
	Synced Msec   // M
	Ahead  Msec   // durable high-water
	Clean  bool   // the epoch was ended, and nothing was open
	Shared bool   // the epoch has a ring: grants may have been answered at once
}

// Journal is one node's journal. Its methods may be called from any goroutine
// unless they say otherwise.
type Journal struct {
	o      Options
	salt   uint32
	table  *crc32.Table // of the records' checksums
	ring   *ring        // nil: none
	mem    []byte
	file   File
	direct bool     // file, as it was opened
	seq    uint64   // of file
	older  []string // files to be removed at Start
	out    []byte   // pages on their way, aligned
	kick   chan struct{}
	stop   chan struct{}
	done   chan struct{}

	epoch   atomic.Uint32
	open    atomic.Bool     // grants may be answered at once
	synced  atomic.Uint64   // every record up to it is durable
	durable []atomic.Uint64 // by group: highest id whose record is durable
	backlog atomic.Uint64   // records that hold a slot
	stats   counters
	waits   waitList

	mu struct {
		sync.Mutex
		started    bool
		dead       error
		tail       uint64 // number of the last record
		water      uint64 // durable watermark
		now        Msec   // newest time
		nowMono    int64  // when it was met
		lead       Msec   // by which it was ahead of Options.Wall when that was looked at
		again      bool   // it was met again since
		mark       Msec   // M
		ahead      Msec   // newest high-water written
		aheadSaved Msec   // durable
		place      []place
		ids        []uint64 // by group: id of the newest record
		sharing    int64    // of nowMono: until when leases may be open
		quiet      bool     // answers at once have ended for good
		owing      bool     // a lease found no slot
		paid       bool     // the batch on its way holds the frames of all such leases
		owed       []uint64 // by group: the newest frame of such a lease
	}
}

// place is what memory knows of the record in a slot.
type place struct {
	group uint16
	frame uint64
	id    uint64
}

// Ask says what a grant wants.
type Ask struct {
	// AtOnce says that nothing but the journal's own laws stands against an
	// answer before the record is durable.
	AtOnce bool
	// Behind says that another record of one of its counters may have been answered and
	// is not Durable.
	Behind  bool
	Several bool  // the record takes several uses of a counter
	Lease   Lease // the owner's lease before this record
	Carries bool  // the record carries a new lease
	// Why is set by Put: what stood against an answer at once, CauseNone when
	// nothing did or AtOnce was not set.
	Why Cause
}

// A Cause says which law keeps a grant waiting for the disk.
type Cause uint8

// Causes, in the order in which they are looked for.
const (
	CauseNone    Cause = iota
	CauseFull          // J3: no slot is free
	CauseClosed        // there is no ring, or answers at once have ended for a while
	CauseLease         // A1: no lease is durable and in force
	CauseTime          // A1: the time is not below the durable high-water
	CauseCounter       // A1: an answered record of a counter is not durable
	CauseSeveral       // A1: several uses of one counter
)

// Put stores a record and returns its number. atOnce says that the reservation
// may be answered now; otherwise Wait. Number 0 says that the journal does not
// take the record: it is full, has stopped, or the payload is too long; the
// caller then waits for the frame. Records of one group must be put in the
// order of their ids. r is filled in; its payload is copied.
func (j *Journal) Put(r *Record, a *Ask) (number uint64, atOnce bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	a.Why = CauseNone
	if !j.takes(r) {
		a.Why = CauseFull
		j.stats.refused.Add(1)
		if a.Carries {
			j.owe(r)
		}
		return 0, false
	}
	j.meet(r.Time)
	if a.AtOnce {
		a.Why = j.hinders(r, a)
		atOnce = a.Why == CauseNone
	}
	j.store(r)
	if !r.Kind.holds() {
		return r.Number, false
	}
	if !atOnce {
		j.stats.waited.Add(1)
		return r.Number, false
	}
	j.stats.atOnce.Add(1)
	return r.Number, true
}

// owe closes the journal for answers at once until the frame of a lease that found
// no slot is durable: till then its id would be credited with the syncs of others.
func (j *Journal) owe(r *Record) {
	m := &j.mu
	if !m.started {
		return
	}
	m.owed[r.Group] = max(m.owed[r.Group], r.Frame)
	m.owing, m.paid = true, false
	if j.open.Swap(false) {
		j.stats.closed.Add(1)
		j.o.Logger.Warn("journal: full, a lease was not taken; grants wait until its frame is durable",
			"backlog", m.tail-m.water, "slots", j.o.Slots)
	}
}

// reopen lets grants be answered at once again, when no lease is owed any more.
func (j *Journal) reopen() {
	m := &j.mu
	if !m.owing || !m.paid {
		return
	}
	clear(m.owed)
	m.owing, m.paid = false, false
	if j.ring != nil && m.dead == nil && !m.quiet {
		j.open.Store(true)
		j.o.Logger.Info("journal: grants are answered at once again")
	}
}

// aheadOf returns the high-water that goes with a time that is ahead of the wall clock
// by lead: the time stands until the wall has caught up, so the high-water need not lie
// as far ahead of it. Were it always so far ahead, each start would begin that much
// above the floor of the one before, and a process that is killed again and again would
// run away from the wall.
func (j *Journal) aheadOf(now, lead Msec) Msec {
	if j.o.bugs.aheadBehind {
		return now
	}
	return now + max(0, Msec(j.o.Ahead/time.Millisecond)-lead)
}

// leadOf returns by how much a time is ahead of the wall clock.
func (j *Journal) leadOf(now Msec) Msec {
	if j.o.Wall == nil {
		return 0
	}
	return max(0, now-j.o.Wall())
}

func (j *Journal) takes(r *Record) bool {
	full := j.mu.tail-j.mu.water >= uint64(j.o.Slots)
	if j.o.bugs.reuseEarly {
		full = false
	}
	return j.mu.started && j.mu.dead == nil && !full && len(r.Payload) <= MaxPayload &&
		(int(r.Group) < len(j.durable) || r.Kind == Time)
}

// meet raises the newest time. One that is met again in its millisecond is not timed
// anew: stayAhead does that for all of them.
func (j *Journal) meet(now Msec) {
	switch m := &j.mu; {
	case now > m.now:
		m.now, m.nowMono, m.again = now, j.o.Mono(), false
	case now == m.now:
		m.again = true
	}
}

// hinders is law A1: what keeps the grant from being answered at once.
func (j *Journal) hinders(r *Record, a *Ask) Cause {
	bug := &j.o.bugs
	if !j.Fast() {
		return CauseClosed
	}
	durable := j.durable[r.Group].Load()
	if bug.leaseEarly {
		durable = 1<<64 - 1
	}
	// A request may come with a time from before the last sync: it is judged by
	// the newest time, which is what syncs are marked with.
	if !a.Lease.inForce(j.epoch.Load(), durable, j.mu.now) {
		return CauseLease
	}
	if j.mu.now > j.mu.aheadSaved && !bug.aheadBehind {
		return CauseTime
	}
	if a.Several && !bug.twoUses {
		return CauseSeveral
	}
	if a.Behind && !bug.twoUnsynced {
		return CauseCounter
	}
	return CauseNone
}

// Durable returns the highest id of a group whose record is durable: every record with
// an id up to it is, or was not taken and waits for its frame. It rises only.
func (j *Journal) Durable(group uint16) uint64 { return j.durable[group].Load() }

// Fast reports whether any grant may be answered at once: there is a ring, and no
// full journal has ended it for a while.
func (j *Journal) Fast() bool { return j.ring != nil && j.open.Load() }

// crowded reports that slots run short: no lease begins then, so that a record
// that carries one always finds a slot.
func (j *Journal) crowded() bool { return j.backlog.Load() > uint64(j.o.Slots)/2 }

// store gives r its number and writes it into memory.
func (j *Journal) store(r *Record) {
	m := &j.mu
	r.Number, r.Epoch, r.Synced = m.tail+1, j.epoch.Load(), m.mark
	r.Ahead = j.aheadOf(max(m.now, r.Time), m.lead)
	m.ahead = max(m.ahead, r.Ahead)
	at := int(r.Number % uint64(j.o.Slots))
	m.place[at] = place{r.Group, r.Frame, r.ID}
	if r.Kind.holds() {
		m.ids[r.Group] = max(m.ids[r.Group], r.ID)
	}
	if r.Kind != Time {
		m.sharing = m.nowMono + j.o.Lease.Milliseconds()
	}
	r.put(j.slot(at), j.salt, j.table)
	m.tail = r.Number
	j.backlog.Store(m.tail - m.water)
	if j.ring != nil {
		j.ring.setTail(r.Number)
	}
}

// slot returns the memory of a slot. The memory has the layout of the file: a
// page of header, then the slots.
func (j *Journal) slot(i int) []byte {
	from := j.o.page + i*SlotSize
	return j.mem[from : from+SlotSize : from+SlotSize]
}

// Prospect returns the state that the store should put into the batch that is
// about to make frames durable: durable has the newest such frame of every
// group. Settle follows when the batch is synced.
func (j *Journal) Prospect(durable []uint64) State {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := &j.mu
	st := State{
		Epoch: j.epoch.Load(), Water: m.water, Synced: m.mark, Ahead: m.ahead, Shared: j.ring != nil,
	}
	for st.Water < m.tail {
		p := &m.place[(st.Water+1)%uint64(j.o.Slots)]
		if p.group != noGroup && p.frame > durable[p.group] && !j.o.bugs.waterEarly {
			break
		}
		st.Water++
	}
	m.paid = m.owing
	for g, frame := range m.owed {
		m.paid = m.paid && frame <= durable[g]
	}
	return st
}

// Settle is told that the batch with a state of Prospect is durable: slots up
// to its watermark may be used again, and those who wait for them are woken.
func (j *Journal) Settle(st State) {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := &j.mu
	if st.Epoch != j.epoch.Load() || st.Water < m.water {
		return
	}
	for n := m.water + 1; n <= st.Water; n++ {
		p := &m.place[n%uint64(j.o.Slots)]
		if p.group != noGroup && p.id != 0 {
			raise(&j.durable[p.group], p.id)
		}
	}
	m.water = st.Water
	j.reopen()
	m.aheadSaved = max(m.aheadSaved, st.Ahead)
	j.backlog.Store(m.tail - m.water)
	if st.Water > j.synced.Load() {
		j.synced.Store(st.Water)
		j.waits.wake(st.Water)
	}
}

// Still calls f while no record is stored: what f copies of the shared memory is what a
// kill at this moment leaves.
func (j *Journal) Still(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
}

// Unsettled calls f for every record of a group whose frame is not known to be
// durable, oldest first: what has to be applied again when the group's memory is
// dropped. f returns the frame that holds the effect from now on; one that no group
// comes to keeps the record where it is.
func (j *Journal) Unsettled(group uint16, f func(r *Record) (frame uint64)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for n := j.mu.water + 1; n <= j.mu.tail; n++ {
		at := int(n % uint64(j.o.Slots))
		p := &j.mu.place[at]
		if p.group != group {
			continue
		}
		if r, ok := parse(j.slot(at), j.salt, false); ok {
			r.Frame = p.frame
			p.frame = f(&r)
		}
	}
}

// Synced returns the number up to which every record is durable.
func (j *Journal) Synced() uint64 { return j.synced.Load() }

func raise(a *atomic.Uint64, v uint64) {
	for {
		old := a.Load()
		if old >= v || a.CompareAndSwap(old, v) {
			return
		}
	}
}

// ring is the memory that outlives the process, with its header:
//
//	page 0: "tactring" | format u32 | slots u32 | store id 16 | epoch u32 | crc u32
//	        at 128: tail u64
//	then the slots, as in the file
type ring struct {
	mem []byte
}

const (
	ringMagic  = "tactring"
	ringFormat = 2 // 1 has no grants
	ringTail   = 128
)

func (r *ring) setTail(n uint64) { storeTail(r.mem[ringTail:ringTail+8], n) }

// begin empties the ring for an epoch. Until the header is whole it is nobody's
// witness.
func (r *ring) begin(id [16]byte, slots int, epoch uint32) {
	clear(r.mem)
	b := r.mem
	copy(b, ringMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], ringFormat)
	le.PutUint32(b[12:], uint32(slots))
	copy(b[16:], id[:])
	le.PutUint32(b[32:], epoch)
	le.PutUint32(b[36:], sum(0, b[:36]))
}

// witness reads the header: the epoch it stands for and its tail.
func (r *ring) witness(id [16]byte, slots int) (epoch uint32, tail uint64, ok bool) {
	b, le := r.mem, binary.LittleEndian
	if string(b[:8]) != ringMagic || le.Uint32(b[8:])-1 >= ringFormat ||
		le.Uint32(b[36:]) != sum(0, b[:36]) || string(b[16:32]) != string(id[:]) {
		return 0, 0, false
	}
	epoch = le.Uint32(b[32:])
	return epoch, le.Uint64(b[ringTail:]), le.Uint32(b[12:]) == uint32(slots)
}
