package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"tact/storage"
)

// Verified says what Verify has found.
type Verified struct {
	Backups []Checked // oldest first
	Bytes   int64     // read
}

// Checked is one backup with what is wrong in it.
type Checked struct {
	Listed
	Files  int
	Damage []error // beyond Fault: what is not what was written, or cannot be read
}

// Damaged tells whether there is anything that was written and is not there, or is not
// what it was. A backup that did not end is not damaged.
func (v *Verified) Damaged() bool {
	for i := range v.Backups {
		if v.Backups[i].Damaged() {
			return true
		}
	}
	return false
}

// Damaged tells whether the backup cannot be trusted, by itself or by one it goes on from.
func (c *Checked) Damaged() bool {
	return len(c.Damage) > 0 || c.Broken != nil || c.Fault != nil && !c.Unfinished()
}

// Spans returns the times that can be restored, oldest first.
func (v *Verified) Spans() []Span {
	var all []Listed
	for i := range v.Backups {
		if len(v.Backups[i].Damage) == 0 {
			all = append(all, v.Backups[i].Listed)
		}
	}
	return Spans(all)
}

// Verify reads every file of every backup in dir and compares it with its checksums, and
// the frames of each backup with those of the one that it goes on from. Nothing is
// written, and no lock is taken: it is in nobody's way. What is wrong is in Verified; it
// errors with ErrNone, what the disk says of the folder, or the cause of ctx.
// Memory: some MiB. Cost: one read of the folder, at o.Rate.
func Verify(ctx context.Context, dir string, o Options) (*Verified, error) {
	o.fill()
	all, err := List(dir, o)
	if err == nil && len(all) == 0 {
		err = ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", dir, err)
	}
	unpack, err := newUnpacker()
	if err != nil {
		return nil, err
	}
	defer unpack.unpack.Close()
	x := restorer{dir: dir, o: &o, unpack: unpack}
	v := &Verified{}
	of := int64(0)
	for i := range all {
		of += all[i].Bytes
	}
	x.pace = newPace(ctx, o.Rate, func(done int64) {
		v.Bytes = done
		if o.Progress != nil {
			o.Progress(done, max(done, of))
		}
	})
	hurt := make(map[string]error)
	for i := range all {
		c := Checked{Listed: all[i]}
		if c.Fault == nil {
			var before *Manifest
			if p := parentOf(all, i); p >= 0 {
				before = &all[p].Manifest
			}
			c.Files, c.Damage = x.check(&all[i].Manifest, before)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("verify %s: %w", dir, context.Cause(ctx))
		}
		if len(c.Damage) > 0 {
			hurt[c.Name] = c.Damage[0]
		}
		v.Backups = append(v.Backups, c)
	}
	judge(folder{fs: o.FS, dir: dir}, all, hurt)
	for i := range all {
		v.Backups[i].Broken = all[i].Broken
	}
	return v, nil
}

// check reads all files of a backup, which goes on from another, or from none.
func (x *restorer) check(m, before *Manifest) (files int, faults []error) {
	at := x.at(m)
	note := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	id, err := parseID(m.ID)
	if err != nil {
		return 0, []error{err}
	}
	frames := newFrameChain(m, before)
	for i := range m.Files {
		files++
		e := &m.Files[i]
		note(x.checkFile(at, id, e, frames))
	}
	if len(faults) == 0 {
		note(frames.end(m))
	}
	x.checkPeople(m, &files, note)
	return files, faults
}

func (x *restorer) checkFile(at folder, id ID, e *fileEntry, frames *frameChain) error {
	switch e.Kind {
	case kindLog.String():
		return checkPiece(at, e)
	case kindFrames.String():
		return readStream(at, x.unpack, streamID{kindFrames, e.Number, id}, e,
			func(_, value []byte) error { return frames.next(value) })
	case kindRows.String(), kindState.String():
		kind := kindRows
		if e.Kind == kindState.String() {
			kind = kindState
		}
		return readStream(at, x.unpack, streamID{kind, e.Number, id}, e,
			func(_, _ []byte) error { return nil })
	}
	return errBytes("%s is of an unknown kind, %q", e.File, e.Kind)
}

// checkPiece reads a piece of the event log.
func checkPiece(at folder, e *fileEntry) error {
	in, err := openEntry(at, e)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, struct{ io.Reader }{in})
	if err = errors.Join(err, in.Close()); err == nil {
		err = in.verify()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.File, err)
	}
	return nil
}

// checkPeople reads the people files, each part by itself.
func (x *restorer) checkPeople(m *Manifest, files *int, note func(error)) {
	at := x.at(m)
	index, _, err := peopleOf(at, m)
	if err != nil {
		note(err)
		return
	}
	*files += 1 + len(index.Files)
	note(eachPerson(at, m, x.unpack, func(_, _ []byte) error { return nil }))
}

// frameChain follows the frames of a backup, group by group.
type frameChain struct {
	ends []uint64 // hash of the last frame; 0: none is known
}

func newFrameChain(m, before *Manifest) *frameChain {
	c := &frameChain{make([]uint64, m.Groups)}
	if before != nil && before.Groups == m.Groups {
		for g := range before.Position {
			// A malformed hash is 0: nothing is compared with it.
			c.ends[g], _ = strconv.ParseUint(before.Position[g].Hash, 16, 64)
		}
	}
	return c
}

func (c *frameChain) next(value []byte) error {
	info, err := storage.InspectFrame(value, nil)
	if err != nil {
		return err
	}
	if int(info.Group) >= len(c.ends) ||
		c.ends[info.Group] != 0 && info.Previous != c.ends[info.Group] {
		return errBytes("a frame before frame %d of group %d is missing", info.Number, info.Group)
	}
	c.ends[info.Group] = info.Hash
	return nil
}

// end compares the last frames with the manifest.
func (c *frameChain) end(m *Manifest) error {
	for g, hash := range c.ends {
		if hash != 0 && strconv.FormatUint(hash, 16) != m.Position[g].Hash {
			return errBytes("frames of group %d do not go up to %d", g, m.Position[g].Frame)
		}
	}
	return nil
}
