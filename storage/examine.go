package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/eventlog"
	"tact/storage/journal"
)

// A Diagnosis is what Examine found.
type Diagnosis struct {
	Known     bool // the store's own records were read: else nothing but findings is known
	StoreID   [16]byte
	Groups    int
	Epoch     uint32 // starts of the store
	Clean     bool   // the last process ended it
	Users     int
	Documents int
	Frames    int
	Tables    int   // of Pebble, every block of which was read
	Bytes     int64 // of the tables
	Findings  []Finding
	// Unknown says what could not be looked at or judged, and why: what damage hides, and
	// what this process may not read or lock.
	Unknown []string
}

// Finding is one thing that is not as it should be.
type Finding struct {
	Damage  bool   // a start refuses the store; else it mends this, or goes on
	Refusal bool   // with Damage: the bytes are right, and a start wants to be told something
	File    string // in the store's folder, or a part of the content
	What    string // what is wrong
	Holds   string // what lies there, "" when that is not known
	WayBack string // what to do
}

// Damaged says whether there is damage among the findings.
func (d *Diagnosis) Damaged() bool {
	for i := range d.Findings {
		if d.Findings[i].Damage {
			return true
		}
	}
	return false
}

// What to do about a finding.
const (
	wayRestore = "copy the whole folder away first; then put back a backup, or a copy of the " +
		"folder that was taken while no server used it, after tact mark"
	wayNothing = "nothing: the next start writes it anew"
	wayNewer   = "use the version that wrote it, or a newer one"
	wayOlder   = "use the newer folder. If it is gone for good: start it once with --caps " +
		"protect, which exceeds no cap, or --caps trust, which forgets what was answered since"
)

// errNotWritten refuses what would change an examined store.
var errNotWritten = errors.New("an examined store is not written")

// examiner looks at a store that nobody uses.
type examiner struct {
	*Store
	d   *Diagnosis
	rec sidecarRecord
	doc func(key string, value []byte)

	last []uint64 // frame of each group
}

// Examine looks at everything in the store in dir, which no process may use, and
// changes nothing: it reads every table and the event log whole, and of the content
// what a start reads and all frames and documents. doc, when not nil, is called for every
// document. It errors when it cannot look: ErrNotFound without a store, ErrLocked,
// an error of the disk. A folder that may be read and not written is looked at without
// its lock. Of o it uses FS, RingDir, JournalSlots, Caps and Logger.
// Cost: as a start, and a read of all tables.
func Examine(dir string, o Options, doc func(key string, value []byte)) (*Diagnosis, error) {
	o.fill()
	lock, unlocked, err := lockToRead(o.FS, dir)
	if err != nil {
		return nil, err
	}
	if o.FS == vfs.Default && o.JournalSlots == 0 {
		o.JournalSlots = journal.DefaultSlots
	}
	o.FS = readFS{FS: o.FS}
	o.hooks.disk = func(d journal.Disk) journal.Disk {
		return readJournal{d, vfsDisk{vfs.NewMem(), ""}}
	}
	s := &Store{dir: dir, o: o, totals: NewTotals()}
	s.dead.ch = make(chan struct{})
	x := examiner{Store: s, d: &Diagnosis{}, doc: doc}
	if unlocked != "" {
		x.unknown("whether a server uses the folder, which would make this worthless", unlocked)
	}
	if err := errors.Join(x.look(), lock.Close()); err != nil {
		return nil, fmt.Errorf("examine %s: %w", dir, err)
	}
	return x.d, nil
}

// lockExamined takes the folder, when it holds anything of a store.
func lockExamined(fs vfs.FS, dir string) (io.Closer, error) {
	names, err := fs.List(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("examine: %w", err)
	}
	for _, name := range names {
		if name == folderDatabase || strings.HasPrefix(name, "sidecar-") {
			return lockFolder(fs, dir)
		}
	}
	return nil, fmt.Errorf("%w: %s holds no store", ErrNotFound, dir)
}

// lockToRead takes the folder like lockExamined. Where it may be read and not written
// it asks whether another process has it; unlocked says why nobody can know, "" when
// it is known.
func lockToRead(fs vfs.FS, dir string) (lock io.Closer, unlocked string, err error) {
	lock, err = lockExamined(fs, dir)
	if err == nil || !notAllowed(err) {
		return lock, "", err
	}
	switch held, known := lockHeld(fs.PathJoin(dir, fileLock)); {
	case held:
		return nil, "", fmt.Errorf("%w: %s", ErrLocked, dir)
	case known:
		return noLock{}, "", nil
	}
	return noLock{}, err.Error(), nil
}

// notAllowed reports whether the system lets this process read at most.
func notAllowed(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// noLock stands for a lock that could not be taken.
type noLock struct{}

func (noLock) Close() error { return nil }

// found notes an error about a part, if there is one, with its class and the file that
// it is about. Errors of the disk itself are returned: they are not about the bytes.
//
// What follows from damage that was found before is none of its own: another error
// about the same file, and one that names no file. It is unknown then how the part is.
func (x *examiner) found(part, holds string, err error) error {
	f := Finding{Damage: true, File: part, Holds: holds, WayBack: wayRestore}
	follows := x.d.Damaged()
	switch {
	case err == nil:
		return nil
	case notAllowed(err):
		x.unknown(part, err.Error())
		return nil
	case errors.Is(err, ErrNewerFormat):
		f.WayBack, follows = wayNewer, false
	case errors.Is(err, ErrRolledBack):
		f.WayBack = wayOlder
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNotFound):
	default:
		return err
	}
	var d *Damage
	if errors.As(err, &d) {
		f.File, f.What = d.File, d.What
	} else {
		f.What = plainText(err)
		f.File = cmp.Or(damagedFiles(f.What), part)
	}
	if f.Holds == "" && strings.HasSuffix(f.File, ".log") {
		f.Holds = "the newest changes"
	}
	for i := range x.d.Findings {
		if at := &x.d.Findings[i]; at.Damage && at.File == f.File {
			x.unknown(part, f.File+" is damaged")
			return nil
		}
	}
	if follows && f.File == part {
		x.unknown(part, "it may only follow from the damage that was found: "+f.What)
		return nil
	}
	x.d.Findings = append(x.d.Findings, f)
	return nil
}

// unknown notes what could not be looked at or judged.
func (x *examiner) unknown(what, why string) {
	if text := what + ": " + why; !slices.Contains(x.d.Unknown, text) {
		x.d.Unknown = append(x.d.Unknown, text)
	}
}

func (x *examiner) notice(file, what, way string) {
	x.d.Findings = append(x.d.Findings, Finding{File: file, What: what, WayBack: way})
}

func (x *examiner) look() error {
	if err := x.lookSidecars(); err != nil {
		return err
	}
	fs := x.o.FS
	path := fs.PathJoin(x.dir, folderDatabase)
	if there, err := exists(fs, path); err != nil || !there {
		return errors.Join(err, x.found(folderDatabase, "everything",
			fmt.Errorf("%w: the folder is missing", ErrCorrupt)))
	}
	if len(x.rec.durable) > 0 {
		n := len(x.d.Findings)
		err := x.found("MANIFEST", "the list of all tables", x.rec.verify(fs, path))
		if err != nil || len(x.d.Findings) > n {
			x.unknown("everything else", "without a right list of the tables none is read")
			return err
		}
	}
	if err := x.lookOptions(path); err != nil {
		return err
	}
	faults := &faultLog{log: slog.New(slog.DiscardHandler), die: x.die} // what it says is found
	pdb, err := x.pebble(path, true, faults).open()
	if err != nil {
		x.unknown("everything else", "the database does not open")
		return x.found(folderDatabase, "everything", x.openFault(err))
	}
	x.db = newDatabase(pdb, faults)
	err = errors.Join(x.lookTables(path), x.lookContent())
	return errors.Join(err, x.closePebble(pdb, faults))
}

// lookSidecars reads both sidecars and the witness.
func (x *examiner) lookSidecars() error {
	const putBack = "the folder was put back as it was earlier"
	if err := x.loadOlderCopy(); errors.Is(err, ErrRolledBack) {
		x.older.is = true
		x.d.Findings = append(x.d.Findings, Finding{
			Damage: true, Refusal: true, File: fileOlderCopy, What: putBack +
				", and nobody has said what becomes of its caps: a start refuses it", WayBack: "start it " +
				"once with --caps protect, which exceeds no cap, or --caps trust, which forgets what " +
				"came since",
		})
	} else if x.older.marked {
		x.notice(fileOlderCopy, putBack,
			fmt.Sprintf("nothing: the next start does %s to the caps", x.older.Caps))
	} else if err := x.found(fileOlderCopy, "what becomes of caps", err); err != nil {
		return err
	}
	fs, whole := x.o.FS, 0
	var faults []error
	for i := range 2 {
		b, err := readFile(fs, fs.PathJoin(x.dir, sidecarFile(i)))
		var rec sidecarRecord
		if err == nil {
			rec, err = parseSidecar(b)
		}
		switch {
		case err == nil:
			if whole++; whole == 1 || rec.seq > x.rec.seq {
				x.rec = rec
			}
		case errors.Is(err, ErrNewerFormat):
			return x.found(sidecarFile(i), "", err)
		case errors.Is(err, ErrCorrupt), errors.Is(err, os.ErrNotExist):
			faults = append(faults, fmt.Errorf("%s: %w", sidecarFile(i), err))
		default:
			return err
		}
	}
	if whole == 0 {
		return x.found("sidecar-a, sidecar-b", "what the log and the MANIFEST are compared with",
			fmt.Errorf("%w: neither is whole: %w", ErrCorrupt, errors.Join(faults...)))
	}
	for _, err := range faults {
		what := plainText(err)
		x.notice(damagedFiles(what), what+"; the other one counts", wayNothing)
	}
	ends, err := loadWitness(fs, x.dir, x.rec.id)
	switch {
	case err == nil:
		x.rec.ends.raise(ends)
	case errors.Is(err, ErrNewerFormat):
		return x.found(fileWitness, "", err)
	case errors.Is(err, ErrCorrupt):
		x.notice(fileWitness, plainText(err)+"; the sidecar counts", wayNothing)
	case !errors.Is(err, ErrNotFound):
		return err
	}
	return nil
}

// lookTables reads every block of every table.
func (x *examiner) lookTables(path string) error {
	levels, err := x.db.db.SSTables()
	if err != nil {
		return readFault(err)
	}
	for _, level := range levels {
		for i := range level {
			t := &level[i].TableInfo
			x.d.Tables++
			x.d.Bytes += int64(t.Size)
			name := fmt.Sprintf("%06d.sst", uint64(t.FileNum))
			err := x.lookTable(x.o.FS.PathJoin(path, name), t)
			if err != nil {
				err = tableClass(name, err)
			}
			if err := x.found(folderDatabase+"/"+name, tableHolds(t), err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *examiner) lookTable(path string, t *pebble.TableInfo) error {
	r, err := openTable(x.o.FS, path)
	if err != nil {
		return err
	}
	// Which block it is, if it is one, says more than that the table is not the right one.
	if err := errors.Join(r.ValidateBlockChecksums(), r.Close()); err != nil {
		return tableFault(err)
	}
	return verifyTable(x.o.FS, path, t)
}

// tableHolds says what lies between the first and the last key of a table.
func tableHolds(t *pebble.TableInfo) string {
	first, last := keyHolds(t.Smallest.UserKey), keyHolds(t.Largest.UserKey)
	if first == last {
		return first
	}
	return "from " + first + " to " + last
}

// keyHolds names what a key stands for.
func keyHolds(key []byte) string {
	if len(key) == 0 {
		return "nothing"
	}
	switch first := key[0]; {
	case first < 0x10:
		return "people"
	case first < 0x20:
		return "identities"
	}
	names := map[byte]string{
		prefixFrame: "frames", prefixGroup: "records of groups", prefixMember: "members of segments",
		prefixPersonKey: "people's keys", prefixName: "names", prefixDedup: "idempotency keys",
		prefixDoc: "definitions and other documents", prefixNode: "records of the store",
		prefixList: "suppression lists", prefixMoved: "where decisions lie",
		prefixErased: "the ledger of erasures", prefixPurge: "purges that are due",
	}
	if name, ok := names[key[0]]; ok {
		return name
	}
	return fmt.Sprintf("keys that begin with %02x", key[0])
}

// lookContent reads what the keys hold.
func (x *examiner) lookContent() error {
	d := x.d
	if err := x.found("records of the store", "", x.lookRecords()); err != nil {
		return err
	}
	if x.man.groups == 0 {
		x.unknown("everything else", "the store's own record cannot be read")
		return nil
	}
	d.Known = true
	d.StoreID, d.Groups, d.Epoch, d.Clean = x.man.id, x.man.groups, x.epoch, x.rec.clean
	looks := []struct {
		part string
		f    func() error
	}{
		{"names", x.loadNames},
		{"suppression lists", x.loadLists},
		{"documents", x.lookDocuments},
	}
	for _, l := range looks {
		if err := x.found(l.part, "", l.f()); err != nil {
			return err
		}
	}
	for g := range x.man.groups {
		if err := x.lookGroup(GroupID(g)); err != nil {
			return err
		}
	}
	if err := x.lookLog(); err != nil {
		return err
	}
	return x.lookJournal()
}

// lookOptions reads the database's file of options, which a start can do without.
func (x *examiner) lookOptions(path string) error {
	desc, err := pebble.Peek(path, x.o.FS)
	if err != nil || desc.OptionsFilename == "" {
		return nil // the open says it
	}
	err = optionsFault(x.o.FS, desc.OptionsFilename)
	var d *Damage
	if errors.As(err, &d) {
		x.notice(d.File, d.What+"; nothing of the store is in it", wayNothing)
		return nil
	}
	return x.found(folderDatabase, "", err)
}

// lookLog reads every block of the event log.
func (x *examiner) lookLog() error {
	const holds = "what happened and was decided, older than the last frames"
	value, err := x.db.get([]byte{prefixNode, nodeLog})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return x.found(folderLog, holds, err)
	}
	fs := x.o.FS
	log, err := eventlog.Open(fs, fs.PathJoin(x.dir, folderLog), eventlog.Options{
		StoreID: x.man.id, Key: x.logKey(), Groups: x.man.groups, Random: x.o.Rand,
	}, value)
	if err != nil {
		return x.foundEach(folderLog, holds, err)
	}
	err = errors.Join(log.Verify(), log.Close())
	for g, last := range x.last {
		if logged := log.Logged(uint16(g)); logged > last {
			err = errors.Join(err, fmt.Errorf("%w: it has frame %d of group %d, which ends at %d",
				ErrCorrupt, logged, g, last))
		}
	}
	return x.foundEach(folderLog, holds, err)
}

// foundEach is found for each of the errors of the event log that were joined.
func (x *examiner) foundEach(part, holds string, err error) error {
	all, ok := err.(interface{ Unwrap() []error })
	if ok && strings.Contains(err.Error(), "\n") { // joined, a line each
		var errs []error
		for _, e := range all.Unwrap() {
			errs = append(errs, x.foundEach(part, holds, e))
		}
		return errors.Join(errs...)
	}
	return x.found(part, holds, logFault(err))
}

// lookRecords compares the store's own records with the sidecar, when there is
// one.
func (x *examiner) lookRecords() error {
	if len(x.rec.durable) > 0 {
		return x.compare(x.db.view, &x.rec)
	}
	value, err := x.db.get([]byte{prefixNode, nodeManifest})
	if err != nil {
		return err
	}
	man, err := parseManifest(value)
	if err != nil {
		return err
	}
	return x.compare(x.db.view, &sidecarRecord{id: man.id, durable: make([]uint64, man.groups)})
}

func (x *examiner) lookDocuments() error {
	return x.ScanDocs("", func(key string, value []byte) bool {
		x.d.Documents++
		if x.doc != nil {
			x.doc(key, value)
		}
		return true
	})
}

// lookGroup loads a group as a start does, compares its parts with each other,
// and reads all of its frames.
func (x *examiner) lookGroup(g GroupID) error {
	part := fmt.Sprintf("group %d", g)
	l, err := x.loadGroup(g)
	if err == nil {
		err = l.state.check()
		x.d.Users += l.state.people
		x.last = append(x.last, l.last)
	} else {
		x.last = append(x.last, 1<<63)
	}
	if err := x.found(part, "people, and what is behind them", err); err != nil {
		return err
	}
	from := appendFrameKey(nil, g, 0)[:3]
	var before uint64
	err = x.db.scan(from, after(from), func(_, value []byte) error {
		h, _, err := parseFrame(value)
		if err == nil && before != 0 && h.prev != before {
			err = fmt.Errorf("%w: frame %d does not follow the one before it", ErrCorrupt, h.number)
		}
		before = frameHash(value)
		x.d.Frames++
		return err
	})
	return x.found(part, "frames", err)
}

// lookJournal reads the journal and the ring as a start does.
func (x *examiner) lookJournal() error {
	if x.o.RingDir != "" {
		x.o.hooks.shm = readRing{x.ringFile()}
		x.o.RingDir = ""
	}
	err := x.openJournal(&x.rec)
	if err != nil {
		return x.found("journal", "reservations that were answered last", err)
	}
	if rec := x.carry.rec; !rec.Harmless {
		x.notice("journal", rec.Why, "nothing: the next start charges everybody who may have "+
			"lost a reservation one pending use, and gives it back when its life is over")
	}
	return x.carry.j.Abandon()
}

// readFS is a file system that is not written.
type readFS struct{ vfs.FS }

func (f readFS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, fmt.Errorf("%s: %w", name, errNotWritten)
}

func (f readFS) OpenReadWrite(
	name string, _ vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	return f.FS.Open(name, opts...)
}

func (f readFS) Link(_, name string) error                 { return f.refuse(name) }
func (f readFS) Remove(name string) error                  { return f.refuse(name) }
func (f readFS) RemoveAll(name string) error               { return f.refuse(name) }
func (f readFS) Rename(name, _ string) error               { return f.refuse(name) }
func (f readFS) MkdirAll(name string, _ os.FileMode) error { return f.refuse(name) }

// Lock takes nothing: the store's own lock is held, or cannot be.
func (f readFS) Lock(string) (io.Closer, error) { return noLock{}, nil }

func (f readFS) refuse(name string) error {
	return fmt.Errorf("%s: %w", name, errNotWritten)
}

func (f readFS) Unwrap() vfs.FS { return f.FS }

// readJournal is the disk of an examined journal: a file that a start would make
// lies in memory.
type readJournal struct {
	journal.Disk
	memory journal.Disk
}

func (d readJournal) Create(name string, header []byte, size int64) (journal.File, error) {
	return d.memory.Create(name, header, size)
}

func (d readJournal) Remove(string) error { return errNotWritten }

// readRing is a copy of a ring.
type readRing struct{ path string }

func (r readRing) Open(size int) ([]byte, error) {
	b, err := os.ReadFile(r.path)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(b) != size {
		return make([]byte, size), nil
	}
	return b, err
}

func (r readRing) Close(bool) error { return nil }
