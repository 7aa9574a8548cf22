package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
	"tact/storage/docs"
)

// Restoring says what to restore.
type Restoring struct {
	At storage.UnixMsec // the state as it was then; 0 = the newest
	// Store is the id of the store, in hex; "" = the only one of which there are backups.
	Store string
	// Erased are further folders of backups of the same store, whose newest ledger of
	// erasures counts too. That of dir counts in any case.
	Erased []string
	// Caps says what the caps do that may have been used since: CapsProtect or CapsTrust.
	Caps    storage.CapsPolicy
	Storage storage.Options // of the restored store, while it is made
	// Settle is called with the store open, before it has its name: what must not
	// come back is taken out there, and what caps count is decided.
	Settle func(s *storage.Store, r *Restored) error
}

// Restored says what was restored.
type Restored struct {
	From    []string         // the backups it was made of, oldest first
	Ignored []Ignored        // backups that are not usable, and were not needed
	Until   storage.UnixMsec // the newest time of anything in it
	People  int64
	LeftOut int // people whose keys were thrown away
	Erased  int // people who were erased after the copy, and are again
	Frames  uint64
	Bytes   int64 // read
}

// Restore makes a store in the new folder to, of the backups in dir, as it was at
// r.At: behind the last commit all of which happened up to then. Everything read
// is checked, and what is in memory is compared with the disk, before the folder
// has its name. Until then it lies in storage.RestoringFolder(to), which one restore at
// a time works in; what an earlier one has left there when it was cut is removed first.
// Who fails leaves nothing. The first Open does to the caps what r.Caps says.
//
// It errors with os.ErrExist, ErrWorking, ErrNone, ErrManyStores, ErrNotCovered,
// ErrDamaged, storage.ErrNewerFormat or what the disk or Settle says.
//
// Memory: that of the restored store. Cost: reading the backups once, some 2 µs an
// effect of the frames, and a load of the store or two.
func Restore(ctx context.Context, dir, to string, r Restoring, o Options) (*Restored, error) {
	o.fill()
	x := restorer{dir: dir, to: to, r: &r, o: &o}
	if err := x.restore(ctx); err != nil {
		return nil, fmt.Errorf("restore %s from %s: %w", to, dir, err)
	}
	return &x.done, nil
}

type restorer struct {
	dir, to string
	r       *Restoring
	o       *Options
	pace    *pace
	unpack  *unpacker
	making  string      // where the store is made
	chain   []*Manifest // what it is made of, oldest first
	later   *Manifest   // the last of chain when only a part of it is; nil: all
	build   *storage.Build
	limit   commit // of later: the first one that is not taken
	epoch   uint32 // the highest that any backup knows
	done    Restored
}

// commit is a place in the order of commits.
type commit struct {
	epoch uint32
	round uint64
}

func (c commit) before(o commit) bool {
	return c.epoch < o.epoch || c.epoch == o.epoch && c.round < o.round
}

func (x *restorer) restore(ctx context.Context) (err error) {
	fs := x.o.FS
	if _, err := fs.Stat(x.to); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, os.ErrExist)
	}
	if x.r.Caps != storage.CapsProtect && x.r.Caps != storage.CapsTrust {
		return errors.New("it must be said what becomes of the caps: protect or trust")
	}
	if x.unpack, err = newUnpacker(); err != nil {
		return err
	}
	defer x.unpack.unpack.Close()
	if err := x.plan(); err != nil {
		return err
	}
	x.pace = newPace(ctx, x.o.Rate, x.progress())
	x.r.Storage.FS = fs
	shop := workshop{fs: fs, dir: storage.RestoringFolder(x.to), log: x.o.Logger}
	if err := shop.open(); err != nil {
		return err
	}
	x.making = fs.PathJoin(shop.dir, fs.PathBase(x.to))
	if err := x.finish(); err != nil {
		return errors.Join(err, shop.close(true))
	}
	if err := shop.close(false); err != nil {
		x.o.Logger.Warn("the store is restored; a folder is left that may be removed",
			"folder", shop.dir, "error", err)
	}
	return nil
}

// finish makes the store and gives it its name.
func (x *restorer) finish() error {
	fs := x.o.FS
	if _, err := fs.Stat(x.to); !errors.Is(err, os.ErrNotExist) { // made by another until now
		return errors.Join(err, os.ErrExist)
	}
	if err := x.make(); err != nil {
		return err
	}
	if err := x.settle(); err != nil {
		return err
	}
	// The store that this is a copy of may have gone on until the start that counts.
	err := storage.MarkOlderCopy(x.making, storage.OlderCopy{
		Caps: x.r.Caps, Newest: storage.UnixMsec(x.o.Now().UnixMilli()),
	}, x.r.Storage)
	if err != nil {
		return err
	}
	if err := fs.Rename(x.making, x.to); err != nil {
		return err
	}
	return syncFolder(fs, fs.PathDir(x.to))
}

// plan chooses the backups.
func (x *restorer) plan() error {
	all, err := List(x.dir, *x.o)
	if err != nil {
		return err
	}
	for i := range all {
		x.epoch = max(x.epoch, all[i].Epoch)
	}
	last, err := choose(all, choice{int64(x.r.At), x.r.Store})
	if err != nil {
		return err
	}
	x.done.Ignored = ignored(all)
	x.chain = chainTo(all, last)
	if int64(x.r.At) != 0 && all[last].Until > int64(x.r.At) {
		x.later = &all[last].Manifest
	}
	for _, m := range x.chain {
		x.done.From = append(x.done.From, m.Name)
	}
	return nil
}

// progress tells how much of the chosen backups is read.
func (x *restorer) progress() func(int64) {
	if x.o.Progress == nil {
		return nil
	}
	of := int64(0)
	for _, m := range x.chain {
		of += m.Bytes
	}
	return func(done int64) { x.o.Progress(done, max(done, of)) }
}

// make builds the store.
func (x *restorer) make() error {
	first := x.chain[0]
	store, err := parseID(first.Store)
	if err != nil {
		return err
	}
	head := storage.CopyHead{StoreID: store, Groups: first.Groups}
	if x.build, err = storage.BeginBuild(x.making, x.r.Storage, head); err != nil {
		return err
	}
	x.build.Seen(x.epoch)
	for _, step := range []func() error{
		x.findLimit, x.people, x.rows, x.frames, x.state, x.log, x.rest,
	} {
		if err := step(); err != nil {
			return errors.Join(err, x.build.Abandon())
		}
	}
	x.done.LeftOut = len(x.build.Gone())
	return x.build.Finish(storage.OlderCopy{
		Caps: x.r.Caps, Newest: storage.UnixMsec(x.o.Now().UnixMilli()),
	})
}

func (x *restorer) at(m *Manifest) folder {
	return folder{x.o.FS, x.o.FS.PathJoin(x.dir, m.Name), x.pace}
}

// each calls f for every record of the files of a kind of one backup.
func (x *restorer) each(m *Manifest, kind fileKind, f func(key, value []byte) error) error {
	id, err := parseID(m.ID)
	if err != nil {
		return err
	}
	for i := range m.Files {
		e := &m.Files[i]
		if e.Kind != kind.String() {
			continue
		}
		err := readStream(x.at(m), x.unpack, streamID{kind, e.Number, id}, e,
			func(key, value []byte) error {
				x.done.Bytes += int64(len(key) + len(value))
				return errors.Join(x.pace.due(), f(key, value))
			})
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

// findLimit finds the first commit of which something happened behind the time
// asked for.
func (x *restorer) findLimit() error {
	if x.later == nil {
		return nil
	}
	x.limit = commit{epoch: ^uint32(0)}
	return x.each(x.later, kindFrames, func(_, value []byte) error {
		info, err := storage.InspectFrame(value, nil)
		at := commit{info.Epoch, info.Round}
		if err == nil && info.Until > x.r.At && at.before(x.limit) {
			x.limit = at
		}
		return err
	})
}

// people puts the names of the last backup, and the keys and claims of all, those of
// the part of the last one that is left out included: frames takes them out again.
func (x *restorer) people() error {
	for _, m := range x.chain {
		err := eachPerson(x.at(m), m, x.unpack, func(key, value []byte) error {
			return errors.Join(x.pace.due(), x.build.Put(key, value))
		})
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

func (x *restorer) rows() error {
	return x.each(x.chain[0], kindRows, func(key, value []byte) error {
		_, err := x.build.PutRow(key, value)
		return err
	})
}

// frames puts the frames of all backups up to the limit, and takes out the keys of
// those who were created behind it.
func (x *restorer) frames() error {
	ends := make([]uint64, x.chain[0].Groups) // hash of the last frame
	for _, m := range x.chain {
		err := x.each(m, kindFrames, func(_, value []byte) error {
			info, err := storage.InspectFrame(value, nil)
			if err != nil {
				return err
			}
			x.build.Seen(info.Epoch)
			if m == x.later && !(commit{info.Epoch, info.Round}).before(x.limit) {
				_, err := storage.InspectFrame(value, x.build.Unborn)
				return err
			}
			if int(info.Group) >= len(ends) || ends[info.Group] != 0 && info.Previous != ends[info.Group] {
				return errBytes("%s: a frame before frame %d of group %d is missing",
					m.Name, info.Number, info.Group)
			}
			ends[info.Group] = info.Hash
			x.done.Frames++
			x.done.Until = max(x.done.Until, info.Until)
			return x.build.PutFrame(value)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// state puts names, documents, lists and the rest. Names and lists are those of the
// last backup: frames need the names, and who is on a list stays there. The rest is
// that of the last backup before the time asked for, with the revisions of the
// definitions that were published up to it.
func (x *restorer) state() error {
	whole := x.chain[len(x.chain)-1]
	if x.later != nil {
		whole = x.chain[len(x.chain)-2]
	}
	if err := x.erased(); err != nil {
		return err
	}
	revisions := docs.Published{Until: x.r.At}
	err := x.each(whole, kindState, func(key, value []byte) error {
		switch kind := storage.CopyKindOf(key); {
		case kind == storage.CopyErased:
			return nil
		case x.later == nil:
		case kind == storage.CopyName || kind == storage.CopyOwnName || kind == storage.CopyListed:
			return nil
		case kind == storage.CopyDoc:
			name, content, err := storage.CopyDocKey(key, value)
			if err != nil {
				return err
			}
			if n, ok := docs.CurrentOf(name, content); ok {
				revisions.After = n
			}
		}
		return x.build.Put(key, value)
	})
	if err != nil || x.later == nil {
		return err
	}
	err = x.each(x.later, kindState, func(key, value []byte) error {
		switch storage.CopyKindOf(key) {
		case storage.CopyName, storage.CopyListed, storage.CopyOwnName:
			return x.build.Put(key, value)
		case storage.CopyDoc:
			name, content, err := storage.CopyDocKey(key, value)
			if err != nil {
				return err
			}
			if err = revisions.Add(name, content); errors.Is(err, docs.ErrCorrupt) {
				err = errBytes("%v", err)
			}
			return err
		}
		return nil
	})
	for _, d := range revisions.Docs() {
		if err == nil {
			err = x.build.Put(storage.CopyDocRow(d.Key, d.Value))
		}
	}
	return err
}

// erased puts the ledgers of erasures of the newest backup in the folder and of the
// newest in those that Restoring names: whoever was erased since stays erased.
func (x *restorer) erased() error {
	for _, dir := range append([]string{x.dir}, x.r.Erased...) {
		all, err := List(dir, *x.o)
		if err != nil {
			return err
		}
		if dir != x.dir {
			for _, b := range ignored(all) {
				b.Name = x.o.FS.PathJoin(dir, b.Name)
				x.done.Ignored = append(x.done.Ignored, b)
			}
		}
		last := newest(all, x.chain[0].Store)
		if last < 0 {
			return fmt.Errorf("%w of this store in %s", ErrNone, dir)
		}
		from := restorer{dir: dir, o: x.o, r: x.r, pace: x.pace, unpack: x.unpack}
		if err := from.eachErased(&all[last].Manifest, x.build.Put); err != nil {
			return err
		}
	}
	return nil
}

// log puts the pieces of the event log together. It is that of the last backup
// before the time asked for: what came later lies in frames.
func (x *restorer) log() error {
	open := make(map[string]vfs.File)
	sizes := make(map[string]int64)
	err := x.pieces(open, sizes)
	for _, f := range open {
		err = errors.Join(err, f.Sync(), f.Close())
	}
	return err
}

func (x *restorer) pieces(open map[string]vfs.File, sizes map[string]int64) error {
	for _, m := range x.chain {
		if m == x.later {
			break
		}
		for i := range m.Files {
			e := &m.Files[i]
			if e.Kind != kindLog.String() {
				continue
			}
			if e.Offset != sizes[e.Segment] || e.Segment == "" {
				return errBytes("%s: %s is no continuation of %s", m.Name, e.File, e.Segment)
			}
			if open[e.Segment] == nil {
				f, err := x.build.LogFile(e.Segment)
				if err != nil {
					return err
				}
				open[e.Segment] = f
			}
			if err := x.piece(m, e, open[e.Segment]); err != nil {
				return fmt.Errorf("%s: %s: %w", m.Name, e.File, err)
			}
			sizes[e.Segment] += e.Bytes
		}
	}
	return nil
}

func (x *restorer) piece(m *Manifest, e *fileEntry, to vfs.File) error {
	in, err := openEntry(x.at(m), e)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{to}, in, make([]byte, 256<<10)); err != nil {
		return err
	}
	x.done.Bytes += e.Bytes
	return in.verify()
}

// rest reads what nothing was taken from: a backup with a wrong byte is refused, also where
// the byte is not needed, for the next one may be.
func (x *restorer) rest() error {
	whole := x.chain[len(x.chain)-1]
	if x.later != nil {
		whole = x.chain[len(x.chain)-2]
	}
	for _, m := range x.chain {
		if m != whole && m != x.later {
			err := x.each(m, kindState, func(_, _ []byte) error { return nil })
			if err != nil {
				return err
			}
		}
		for i := range m.Files {
			if e := &m.Files[i]; m == x.later && e.Kind == kindLog.String() {
				if err := checkPiece(x.at(m), e); err != nil {
					return fmt.Errorf("%s: %w", m.Name, err)
				}
			}
		}
	}
	return nil
}

// settle opens the store, takes out what must not come back and compares what is in
// memory with the disk.
func (x *restorer) settle() (err error) {
	gone := x.build.Gone()
	s, err := storage.Open(x.making, x.r.Storage)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.CloseGaps(gone); err != nil {
		return err
	}
	if x.done.Erased, err = s.EraseAgain(x.build.Erased()); err != nil {
		return err
	}
	if x.r.Settle != nil {
		if err := x.r.Settle(s, &x.done); err != nil {
			return err
		}
	}
	x.done.People = int64(s.Stats().People)
	return errors.Join(s.Check(), s.VerifyLog())
}
