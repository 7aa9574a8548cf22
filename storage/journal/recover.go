package journal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync/atomic"
)

const (
	filePrefix = "journal-"
	fileMagic  = "tactjrnl"
	fileFormat = 2 // 1 has no grants, and is read but not written on
)

func fileName(seq uint64) string { return fmt.Sprintf("%s%08d", filePrefix, seq) }

// Recovery is what a start finds.
type Recovery struct {
	Records  []Record // of the dead epoch, behind the watermark, rising numbers
	Gapless  uint64   // every number up to it is known
	Floor    Msec     // server time does not begin below it
	Synced   Msec     // M of the dead epoch
	Harmless bool     // nothing that was answered is gone
	Why      string   // what made it harmless or not, for the log
	// Later, of Options.OlderCopy, is the highest epoch that the store does not know;
	// Floor lies above its times. 0 = none was met.
	Later uint32
}

// Incident returns the incident of one group. known is the highest reservation
// of the group up to which all are known; high is server time now.
func (r *Recovery) Incident(st State, known uint64, high Msec) Incident {
	return Incident{Epoch: st.Epoch, Synced: r.Synced, High: high, Known: known}
}

// Recover reads what the dead epoch left. It changes nothing on disk but makes
// a first file where there never was one. Start follows when the store has made
// what Recovery holds durable in one batch; Abandon ends without.
//
// It errors with ErrCorrupt when the journal is missing or cut although records
// may be needed, or lacks one up to Options.Known, and with ErrRolledBack when
// the store is an older copy.
func Recover(o Options, st State) (*Journal, *Recovery, error) {
	o.fill()
	if err := o.validate(); err != nil {
		return nil, nil, err
	}
	j := &Journal{
		o: o, salt: saltOf(o.StoreID), table: crc32.MakeTable(crc32.Castagnoli),
		kick: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
		durable: make([]atomic.Uint64, o.Groups),
	}
	rec := &Recovery{Floor: max(st.ahead(), st.Synced), Synced: st.Synced, Gapless: st.Water}
	f := finder{j: j, st: st, rec: rec, seen: make(map[uint64]bool)}
	if err := f.files(); err != nil {
		return nil, nil, errors.Join(err, j.Abandon())
	}
	tail, witnessed, err := f.ringRecords()
	if err != nil {
		return nil, nil, errors.Join(err, j.Abandon())
	}
	f.judge(tail, witnessed)
	if f.cut != "" && !f.full && !o.OlderCopy {
		err := fmt.Errorf("%w: %s", ErrCorrupt, f.cut)
		return nil, nil, errors.Join(err, j.Abandon())
	}
	if rec.Gapless < o.Known && !o.OlderCopy {
		err := fmt.Errorf("%w: record %d is missing, record %d was durable",
			ErrCorrupt, rec.Gapless+1, o.Known)
		return nil, nil, errors.Join(err, j.Abandon())
	}
	if err := j.useFile(); err != nil {
		return nil, nil, errors.Join(err, j.Abandon())
	}
	return j, rec, nil
}

// ahead is the high-water below which something answered and lost may lie; 0
// when nothing can be.
func (s State) ahead() Msec {
	if s.Clean || !s.Shared {
		return 0
	}
	return s.Ahead
}

// finder gathers the records of the dead epoch from the files and the ring.
type finder struct {
	j    *Journal
	st   State
	rec  *Recovery
	seen map[uint64]bool
	cut  string // what is missing of the files
	full bool   // nothing of the files is needed

	whole bool // some file was read whole
}

// files reads every journal file of the store, oldest first.
func (f *finder) files() error {
	names, err := f.j.o.Disk.List()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, filePrefix) })
	slices.Sort(names)
	for _, name := range names {
		if err := f.file(name); err != nil {
			return err
		}
	}
	if !f.whole && f.st.Epoch != 0 && f.cut == "" {
		f.cut = "there is no journal file"
	}
	return nil
}

// file reads one file. The last whole one is written on.
func (f *finder) file(name string) error {
	j := f.j
	file, err := j.o.Disk.Open(name)
	if err != nil {
		return fmt.Errorf("journal %s: %w", name, err)
	}
	j.older = append(j.older, name)
	image, fault := readFile(file)
	if newer := newerFormat(image); newer > 0 && fault == nil {
		err := fmt.Errorf("%w: %s: format %d, this version knows up to %d",
			ErrNewerFormat, name, newer, fileFormat)
		return errors.Join(err, file.Close())
	}
	slots, seq, ok := j.parseHeader(image)
	older := ok && binary.LittleEndian.Uint32(image[8:]) < fileFormat
	if fault != nil || !ok {
		f.cut = fmt.Sprintf("%s has no whole header", name)
		return errors.Join(fault, file.Close())
	}
	if want := j.o.page + slots*SlotSize; len(image) != want {
		f.cut = fmt.Sprintf("%s has %d bytes of %d", name, len(image), want)
		image = image[:len(image)-(len(image)-j.o.page)%SlotSize]
	} else {
		f.cut, f.whole = "", true
	}
	if err := f.slots(image[j.o.page:], slots); err != nil {
		return errors.Join(err, file.Close())
	}
	j.seq = max(j.seq, seq)
	if slots != j.o.Slots || f.cut != "" || older {
		return file.Close()
	}
	if j.file != nil {
		err = j.file.Close()
	}
	j.file = file
	return err
}

// newerFormat returns the format of a whole header when this version does not
// know it, else 0.
func newerFormat(b []byte) uint32 {
	le := binary.LittleEndian
	if len(b) < 44 || string(b[:8]) != fileMagic || le.Uint32(b[40:]) != sum(0, b[:40]) ||
		le.Uint32(b[8:]) <= fileFormat {
		return 0
	}
	return le.Uint32(b[8:])
}

func (j *Journal) parseHeader(b []byte) (slots int, seq uint64, ok bool) {
	le := binary.LittleEndian
	if len(b) < j.o.page || string(b[:8]) != fileMagic || le.Uint32(b[8:])-1 >= fileFormat ||
		le.Uint32(b[40:]) != sum(0, b[:40]) || string(b[16:32]) != string(j.o.StoreID[:]) ||
		le.Uint32(b[12:])-1 >= maxSlots {
		return 0, 0, false
	}
	return int(le.Uint32(b[12:])), le.Uint64(b[32:]), true
}

// readFile reads a file whole, in pieces that direct I/O takes.
func readFile(file File) ([]byte, error) {
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	b := aligned(int(size+pageSize-1) / pageSize * pageSize)
	n, err := file.ReadAt(b, 0)
	if int64(n) >= size {
		return b[:size], nil
	}
	return b[:n], err
}

// slots enters the records that count. A record in another slot than its
// number's was not written by us.
func (f *finder) slots(b []byte, slots int) error {
	bug := &f.j.o.bugs
	for i := 0; i < slots && (i+1)*SlotSize <= len(b); i++ {
		r, ok := parse(b[i*SlotSize:(i+1)*SlotSize], f.j.salt, bug.noChecksum)
		switch {
		case !ok || r.Number%uint64(slots) != uint64(i):
			continue
		case r.Epoch > f.st.Epoch:
			if bug.noChecksum || f.later(r.Epoch, max(r.Time, r.Ahead)) {
				continue
			}
			return fmt.Errorf("%w: the journal is in epoch %d, the store in %d",
				ErrRolledBack, r.Epoch, f.st.Epoch)
		case r.Epoch != f.st.Epoch && !bug.noEpoch:
			continue
		}
		f.add(r)
	}
	return nil
}

func (f *finder) add(r Record) {
	rec := f.rec
	rec.Synced = max(rec.Synced, r.Synced)
	rec.Floor = max(rec.Floor, r.Time, r.Synced)
	if f.st.ahead() != 0 {
		rec.Floor = max(rec.Floor, r.Ahead)
	}
	if r.Number <= f.st.Water || f.seen[r.Number] {
		return
	}
	f.seen[r.Number] = true
	r.Payload = slices.Clone(r.Payload)
	rec.Records = append(rec.Records, r)
}

// ringRecords adds what the ring holds, when it is of the dead epoch, and
// returns its tail.
func (f *finder) ringRecords() (tail uint64, witnessed bool, err error) {
	j := f.j
	if j.o.Shm == nil {
		return 0, false, nil
	}
	mem, err := j.o.Shm.Open(int(j.fileSize()))
	if err != nil {
		j.stats.ringFault.Store(err.Error())
		j.o.Logger.Warn("journal: no ring in shared memory, every grant waits", "error", err)
		return 0, false, nil
	}
	j.ring = &ring{mem}
	if l, ok := j.o.Shm.(locker); ok {
		if err := l.LockFault(); err != nil {
			j.stats.lockFault.Store(err.Error())
			j.o.Logger.Warn("journal: the ring is not locked in memory, and may be swapped out",
				"error", err)
		}
	}
	epoch, tail, ok := j.ring.witness(j.o.StoreID, j.o.Slots)
	switch {
	case !ok:
		return 0, false, nil
	case j.o.OlderCopy:
		return 0, false, f.laterRing(epoch)
	case epoch > f.st.Epoch:
		return 0, false, fmt.Errorf("%w: the ring is in epoch %d, the store in %d",
			ErrRolledBack, epoch, f.st.Epoch)
	case epoch < f.st.Epoch || f.st.Epoch == 0:
		return 0, false, nil
	}
	return tail, true, f.slots(mem[j.o.page:], j.o.Slots)
}

// later takes note of what a store that is known to be an older copy has not seen.
func (f *finder) later(epoch uint32, at Msec) bool {
	if f.j.o.OlderCopy {
		f.rec.Later, f.rec.Floor = max(f.rec.Later, epoch), max(f.rec.Floor, at)
	}
	return f.j.o.OlderCopy
}

// laterRing reads epochs and times out of a ring, and no records.
func (f *finder) laterRing(epoch uint32) error {
	f.later(epoch, 0)
	b := f.j.ring.mem[f.j.o.page:]
	for i := range f.j.o.Slots {
		r, ok := parse(b[i*SlotSize:(i+1)*SlotSize], f.j.salt, false)
		if ok {
			f.rec.Floor = max(f.rec.Floor, r.Time, r.Ahead)
		}
	}
	return nil
}

// judge sorts the records and says whether anything may be gone (R1 to R3).
func (f *finder) judge(tail uint64, witnessed bool) {
	rec := f.rec
	slices.SortFunc(rec.Records, func(a, b Record) int { return cmp.Compare(a.Number, b.Number) })
	highest := f.st.Water
	for _, r := range rec.Records {
		if r.Number == rec.Gapless+1 {
			rec.Gapless++
		}
		highest = max(highest, r.Number)
	}
	switch {
	case f.st.Epoch == 0:
		rec.Harmless, f.full, rec.Why = true, true, "no journal before"
	case f.st.Clean:
		rec.Harmless, f.full, rec.Why = true, true, "ended cleanly"
	case witnessed && rec.Gapless >= tail:
		rec.Harmless, f.full, rec.Why = true, true, "the ring holds every record"
	case !f.st.Shared:
		rec.Harmless, rec.Why = true, "nothing was answered before it was durable"
	case f.j.o.bugs.sameBoot:
		rec.Harmless, rec.Why = true, "no reboot"
	case witnessed:
		rec.Why = fmt.Sprintf("the ring ends at record %d, known are those up to %d",
			tail, rec.Gapless)
	default:
		rec.Why = "the ring in shared memory is gone"
	}
	if f.j.o.bugs.knownHighest {
		rec.Gapless = highest
	}
}

// useFile makes sure that there is a file of the right size to write to.
func (j *Journal) useFile() error {
	if j.file != nil {
		j.older = slices.DeleteFunc(j.older, func(n string) bool { return n == fileName(j.seq) })
		j.direct = j.file.Direct()
		return nil
	}
	j.seq++
	file, err := j.o.Disk.Create(fileName(j.seq), j.header(j.seq), j.fileSize())
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.file, j.direct = file, file.Direct()
	return nil
}

// Start begins an epoch: the store has made st durable, in one batch with all
// that Recover found. Run follows, in a goroutine of its own, unless the caller
// drives the syncs.
func (j *Journal) Start(st State, now Msec) error {
	for _, name := range j.older {
		if err := j.o.Disk.Remove(name); err != nil {
			return fmt.Errorf("journal: remove %s: %w", name, err)
		}
	}
	j.older = nil
	if j.ring != nil {
		j.ring.begin(j.o.StoreID, j.o.Slots, st.Epoch)
		j.mem = j.ring.mem
	} else {
		j.mem = make([]byte, j.fileSize())
	}
	j.out = aligned(min(j.o.batch+2, j.o.Slots*SlotSize/j.o.page+2) * j.o.page)
	j.mu.Lock()
	defer j.mu.Unlock()
	m := &j.mu
	m.place = make([]place, j.o.Slots)
	m.ids = make([]uint64, j.o.Groups)
	m.owed = make([]uint64, j.o.Groups)
	m.mark, m.ahead, m.aheadSaved = st.Synced, st.Ahead, st.Ahead
	m.now, m.nowMono, m.lead = now, j.o.Mono(), j.leadOf(now)
	m.sharing = m.nowMono - 1
	m.started = true
	j.epoch.Store(st.Epoch)
	j.open.Store(j.ring != nil)
	return nil
}

// First returns the state that begins an epoch, to be made durable in the batch
// that ends a recovery.
func (j *Journal) First(epoch uint32, rec *Recovery, now Msec) State {
	ahead := j.aheadOf(now, j.leadOf(now))
	return State{Epoch: epoch, Synced: rec.Synced, Ahead: ahead, Shared: j.ring != nil}
}

// Quiesce stops answers before durability: the first step of a clean end.
func (j *Journal) Quiesce() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.quiet = true
	j.open.Store(false)
}

// Close ends the journal and, when the store has written its clean mark, removes
// the ring.
func (j *Journal) Close(clean bool) error {
	j.Quiesce()
	j.Stop()
	j.waits.fail(ErrDead)
	return errors.Join(j.file.Close(), j.closeRing(clean))
}

// Abandon lets go of what Recover holds.
func (j *Journal) Abandon() error {
	var err error
	if j.file != nil {
		err = j.file.Close()
	}
	return errors.Join(err, j.closeRing(false))
}

func (j *Journal) closeRing(remove bool) error {
	if j.ring == nil {
		return nil
	}
	j.mu.Lock()
	j.mu.started, j.ring = false, nil
	j.mu.Unlock()
	return j.o.Shm.Close(remove)
}

// Stop ends Run. Close follows when Run has returned.
func (j *Journal) Stop() {
	select {
	case <-j.stop:
	default:
		close(j.stop)
	}
}
