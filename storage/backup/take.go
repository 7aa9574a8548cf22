package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"

	"tact/storage"
)

const (
	backupLock   = "backup.lock"
	keysTogether = 1 << 16 // keys looked up under one look at who is erased
)

// Take takes a backup of a store in use into the folder dir, which is made when it
// is not there. It is an incremental one when the newest backup there is of the
// same store and every frame since is still held, unless o.Full; else a full one,
// whose WhyFull says why.
//
// Writers do not wait for it: it reads a snapshot. It goes at o.Rate and ends with
// ctx; what is there then does not count and is removed by the next. Memory: some
// 40 MiB, and 32 KiB for each 8,192 people.
// It errors with ErrBusy, storage.ErrCopying or what the disk says.
func Take(ctx context.Context, s *storage.Store, dir string, o Options) (*Manifest, error) {
	o.fill()
	t := taker{s: s, dir: dir, o: &o}
	m, err := t.take(ctx)
	if err != nil {
		return nil, fmt.Errorf("backup in %s: %w", dir, err)
	}
	return m, nil
}

// taker takes one backup.
type taker struct {
	s      *storage.Store
	dir    string
	o      *Options
	copy   *storage.Copy
	chain  []*Manifest // the backups that this one goes on from; none: it is full
	m      Manifest
	id     ID
	out    output
	people int // upper bound of the people whose keys it holds
	pace   *pace
}

func (t *taker) take(ctx context.Context) (_ *Manifest, err error) {
	fs := t.o.FS
	if err := fs.MkdirAll(t.dir, 0o700); err != nil {
		return nil, err
	}
	once, cancel := context.WithCancel(ctx)
	cancel() // who works here may do so for hours
	held, err := lock(once, fs, fs.PathJoin(t.dir, backupLock))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	all, err := t.clean(ctx)
	if err != nil {
		return nil, err
	}
	if t.copy, err = t.s.BeginCopy(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.copy.Close()) }()
	if err := t.begin(ctx, all); err != nil {
		return nil, err
	}
	defer t.out.abandon()
	for _, part := range []func() error{t.frames, t.rows, t.state, t.log, t.out.end} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	if err := t.finish(ctx); err != nil {
		return nil, err
	}
	if err := t.copy.Keep(); err != nil {
		t.o.Logger.Warn("the next backup will be a full one: frames are not held", "error", err)
	}
	return &t.m, nil
}

// clean removes what did not end, and lists the rest.
func (t *taker) clean(ctx context.Context) ([]Listed, error) {
	fs := t.o.FS
	all, err := List(t.dir, *t.o)
	if err != nil {
		return nil, err
	}
	held, err := lock(ctx, fs, fs.PathJoin(t.dir, peopleLock))
	if err != nil {
		return nil, err
	}
	return all, errors.Join(sweepUnfinished(fs, t.dir, all), held.Close())
}

// begin decides on the kind and makes the folder.
func (t *taker) begin(ctx context.Context, all []Listed) error {
	random := t.o.Random
	if random == nil {
		random = rand.Reader
	}
	if _, err := io.ReadFull(random, t.id[:]); err != nil {
		return fmt.Errorf("random source: %w", err)
	}
	c, now := t.copy, t.o.Now()
	t.m = Manifest{
		Format: manifestFormat, ID: t.id.String(), Kind: Incremental,
		Store: hexStore(c.StoreID), Groups: c.Groups, Epoch: c.Epoch,
		From: int64(c.Until), Until: int64(c.Until), Started: now.UnixMilli(), People: c.People,
	}
	for _, end := range c.Ends {
		t.m.Position = append(t.m.Position, position{end.Number, strconv.FormatUint(end.Hash, 16)})
	}
	why, err := t.follow(all)
	if err != nil {
		return err
	}
	if why != "" {
		t.m.Kind, t.m.WhyFull, t.chain = Full, why, nil
	} else {
		before := t.chain[len(t.chain)-1]
		t.m.Parent, t.m.From = before.ID, before.Until
	}
	number := 1
	if len(all) > 0 {
		last, _ := numberOf(all[len(all)-1].Name)
		number = last + 1
	}
	t.m.Name = nameOf(number, now, t.m.Kind)
	fs := t.o.FS
	dir := fs.PathJoin(t.dir, t.m.Name)
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	pack, err := newPacker()
	t.pace = newPace(ctx, t.o.Rate, t.progress())
	t.out = output{at: folder{fs: fs, dir: dir}, id: t.id, pace: t.pace, pack: pack}
	return err
}

// progress tells how far the backup is.
func (t *taker) progress() func(int64) {
	if t.o.Progress == nil {
		return nil
	}
	of := int64(0)
	for i := range t.copy.Log() {
		f := &t.copy.Log()[i]
		of += f.Bytes - t.have(f.Name)
	}
	if len(t.chain) == 0 {
		of += t.copy.Estimate([]byte{0}, []byte{0xFF})
	} else {
		held, _ := t.s.HeldBytes()
		of += held
	}
	return func(done int64) { t.o.Progress(done, max(of, done)) }
}

// follow finds the backups that an incremental one goes on from, or says why it
// must be full.
func (t *taker) follow(all []Listed) (why string, err error) {
	if t.o.Full {
		return "asked for", nil
	}
	at := newest(all, "")
	if at < 0 {
		return "the first in this folder", nil
	}
	last := &all[at]
	t.chain = chainTo(all, at)
	switch {
	case last.Broken != nil:
		return last.Broken.Error(), nil
	case last.Store != t.m.Store || last.Groups != t.m.Groups:
		return fmt.Sprintf("%s is of another store", last.Name), nil
	}
	for g := range t.copy.Groups {
		follows, err := t.follows(storage.GroupID(g), &last.Position[g])
		if err != nil {
			return "", err
		}
		if !follows {
			return fmt.Sprintf("frames since %s are gone: they were not held any more, or the store "+
				"was restored", last.Name), nil
		}
	}
	return "", nil
}

// follows tells whether a group's frames go on from a position without a gap.
func (t *taker) follows(g storage.GroupID, p *position) (bool, error) {
	end := t.copy.Ends[g]
	if end.Number <= p.Frame {
		return end.Number == p.Frame && strconv.FormatUint(end.Hash, 16) == p.Hash, nil
	}
	next, err := t.copy.FrameBehind(g, p.Frame)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil && strconv.FormatUint(next.Previous, 16) == p.Hash, err
}

// frames copies the frames behind the backup before; in a full one, those that the
// rows and the event log lack.
func (t *taker) frames() error {
	for g := range t.copy.Groups {
		behind := max(t.copy.First[g], 1) - 1
		if len(t.chain) > 0 {
			behind = t.chain[len(t.chain)-1].Position[g].Frame
		}
		err := t.copy.Frames(storage.GroupID(g), behind, func(value []byte) error {
			_, err := storage.InspectFrame(value, func([]byte) { t.people++ })
			if err != nil {
				return err
			}
			t.m.Frames++
			return t.out.add(kindFrames, []byte{byte(g >> 8), byte(g)}, value)
		})
		if err != nil {
			return err
		}
	}
	return t.out.end()
}

// rows copies what belongs to people and groups; an incremental backup has none:
// frames make them.
func (t *taker) rows() error {
	if len(t.chain) > 0 {
		return nil
	}
	t.people = int(t.copy.People)
	return t.scan(kindRows, func(k storage.CopyKind) bool { return k == storage.CopyRow })
}

// state copies what is neither: it is small, and whole in every backup.
func (t *taker) state() error {
	return t.scan(kindState, func(k storage.CopyKind) bool {
		switch k {
		case storage.CopyName, storage.CopyDoc, storage.CopyListed, storage.CopyErased,
			storage.CopyOther:
			return true
		}
		return false
	})
}

// scan copies the keys of some kinds.
func (t *taker) scan(to fileKind, want func(storage.CopyKind) bool) error {
	for first := range 256 {
		kind := storage.CopyKindOf([]byte{byte(first)})
		if !want(kind) {
			continue
		}
		var end []byte
		if first < 255 {
			end = []byte{byte(first + 1)}
		}
		err := t.copy.Scan([]byte{byte(first)}, end, func(key, value []byte) error {
			if !want(storage.CopyKindOf(key)) {
				return nil
			}
			return t.out.add(to, key, value)
		})
		if err != nil {
			return err
		}
	}
	return t.out.end()
}

// have is how much of a segment of the event log the backups before hold.
func (t *taker) have(segment string) (n int64) {
	for _, m := range t.chain {
		for i := range m.Files {
			if e := &m.Files[i]; e.Segment == segment {
				n = max(n, e.Offset+e.Bytes)
			}
		}
	}
	return n
}

// log copies what is new of the event log.
func (t *taker) log() error {
	for i := range t.copy.Log() {
		f := &t.copy.Log()[i]
		from := t.have(f.Name)
		if from >= f.Bytes {
			continue
		}
		if err := t.out.piece(f.Name, from, io.NewSectionReader(f, from, f.Bytes-from)); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

// finish writes the people files and the manifest, with the people locked: who is
// forgotten meanwhile is forgotten here behind it.
func (t *taker) finish(ctx context.Context) (err error) {
	fs := t.o.FS
	held, err := lock(ctx, fs, fs.PathJoin(t.dir, peopleLock))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	if err := t.keys(); err != nil {
		return err
	}
	t.m.Files = t.out.files
	t.m.Bytes = t.out.bytes
	x, _, err := readPeople(fs, t.out.at.dir)
	if err != nil {
		return err
	}
	for i := range x.Files {
		t.m.Bytes += x.Files[i].Bytes
	}
	t.m.Ended = t.o.Now().UnixMilli()
	// The names of the folder and of the files in it are durable before the manifest.
	if err := errors.Join(syncFolder(fs, t.out.at.dir), syncFolder(fs, t.dir)); err != nil {
		return err
	}
	return writeSealed(fs, t.out.at.dir, manifestFile, &t.m)
}

// keys writes the people files: of a full backup the keys that are there still and
// the claims of identities, of an incremental one the keys of who was created.
func (t *taker) keys() error {
	head := peopleIndex{
		Store: t.m.Store, Groups: t.copy.Groups, Parts: peopleParts(t.people),
	}
	w, err := newPeopleWriter(t.o.FS, t.out.at.dir, head, t.id, t.pace)
	if err != nil {
		return err
	}
	defer w.abandon()
	if err := t.copy.ScanOwnNames(w.add); err != nil {
		return err
	}
	if len(t.chain) > 0 {
		if err := t.newKeys(w); err != nil {
			return err
		}
		return w.close()
	}
	if err := t.copy.Scan([]byte{0x10}, []byte{0x20}, w.add); err != nil {
		return err
	}
	if err := t.copy.ScanKeys(w.add); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	return dropOrphans(t.out.at, t.id)
}

func (t *taker) newKeys(w *peopleWriter) error {
	last := t.chain[len(t.chain)-1]
	var created [][]byte
	for g := range t.copy.Groups {
		err := t.copy.Frames(storage.GroupID(g), last.Position[g].Frame, func(value []byte) error {
			_, err := storage.InspectFrame(value, func(key []byte) { created = append(created, key) })
			if err != nil || len(created) < keysTogether {
				return err
			}
			err = t.copy.PersonKeys(created, w.add)
			created = created[:0]
			return err
		})
		if err != nil {
			return err
		}
	}
	return t.copy.PersonKeys(created, w.add)
}

// dropOrphans takes claims out that point at somebody without a key.
func dropOrphans(at folder, id ID) error {
	x, _, err := readPeople(at.fs, at.dir)
	if err != nil {
		return err
	}
	u, err := newUnpacker()
	if err != nil {
		return err
	}
	defer u.unpack.Close()
	r := rewriter{at, x, u, id}
	any := false
	for i := range x.Files {
		p := &x.Files[i]
		known := make(map[person]bool, p.Rows/2)
		err := x.readPart(at, u, id, p, func(key, value []byte) error {
			if storage.CopyKindOf(key) == storage.CopyPersonKey {
				owner, err := ownerOf(key, value, x.Groups)
				known[owner] = true
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
		changed, err := r.part(p, func(key, value []byte) bool {
			owner, err := ownerOf(key, value, x.Groups)
			return err == nil && storage.CopyKindOf(key) == storage.CopyIdentity && !known[owner]
		})
		if err != nil {
			return err
		}
		any = any || changed
	}
	if !any {
		return nil
	}
	return r.settle()
}
