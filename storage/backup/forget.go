package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// Person says where somebody lies in a store.
type Person struct {
	Slot      storage.Slot
	Workspace storage.WorkspaceID
	ID        storage.PersonID
}

// Forgotten says what Forget has done.
type Forgotten struct {
	Backups int // that held the key of somebody, or a claim
	Keys    int // thrown away
	Claims  int // of identities, thrown away
}

const (
	peopleLock = "people.lock"
	// Backups may lie in folders of folders, as --to of a server says.
	walkDepth = 4
	lockWait  = time.Minute
)

// Forget throws the keys of people, and the claims of their identities, out of
// every backup in dir and in the folders below it. What is left of them is sealed
// with keys that are nowhere. People that a backup does not have are no fault; a
// folder that does not exist holds nothing.
//
// It is to be called after the keys are durably gone from the store: a backup that
// is being taken is waited for where it writes keys, up to a minute, and reads
// none that are gone. When it errors, something may be left: call it again. A
// crash leaves of each backup the files of before or of after, and the next call
// ends what it began. Old files are overwritten with zeros before they are
// removed; what the medium keeps of them is beyond it.
//
// Cost: one part in parts of the people files of each backup is read and written
// again for each person; about 8,192 people make a part.
func Forget(ctx context.Context, dir string, people []Person, o Options) (
	done Forgotten, err error,
) {
	o.fill()
	f := forgetter{o: &o, people: people, done: &done}
	limit, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	if err := f.walk(limit, dir, walkDepth); err != nil {
		return done, fmt.Errorf("forget in backups %s: %w", dir, err)
	}
	return done, nil
}

type forgetter struct {
	o      *Options
	people []Person
	done   *Forgotten
}

// walk visits the folders in dir. One that cannot be cleaned does not keep the
// others from it.
func (f *forgetter) walk(ctx context.Context, dir string, depth int) error {
	fs := f.o.FS
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) || depth == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	var backups []string
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if errors.Is(err, os.ErrNotExist) || err == nil && !info.IsDir() {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		inside, err := fs.List(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
		case slices.ContainsFunc(inside, func(n string) bool {
			return strings.HasPrefix(n, peoplePrefix) || n == peopleFile
		}):
			backups = append(backups, path)
		default:
			errs = append(errs, f.walk(ctx, path, depth-1))
		}
	}
	if len(backups) > 0 {
		errs = append(errs, f.folder(ctx, dir, backups))
	}
	return errors.Join(errs...)
}

// folder cleans the backups of one folder, with its people locked.
func (f *forgetter) folder(ctx context.Context, dir string, backups []string) error {
	held, err := lock(ctx, f.o.FS, f.o.FS.PathJoin(dir, peopleLock))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range backups {
		if err := f.backup(path); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	return errors.Join(append(errs, held.Close())...)
}

func (f *forgetter) backup(dir string) error {
	fs := f.o.FS
	x, id, err := readPeople(fs, dir)
	if errors.Is(err, os.ErrNotExist) { // a backup that did not end: nobody restores it
		return sweepPeople(fs, dir, nil)
	}
	if err != nil {
		return err
	}
	// What an interrupted call has left must go, or keys stay that nobody looks for.
	if err := sweepPeople(fs, dir, x); err != nil {
		return err
	}
	u, err := newUnpacker()
	if err != nil {
		return err
	}
	defer u.unpack.Close()
	gone := *f.done
	for i := range x.Files {
		p := &x.Files[i]
		var here []Person
		for _, who := range f.people {
			if (person{groupOf(who.Slot, x.Groups), who.ID}).part(x.Parts) == p.Part {
				here = append(here, who)
			}
		}
		if len(here) == 0 {
			continue
		}
		if err := f.part(dir, x, u, id, partOf{p, here}); err != nil {
			return err
		}
	}
	if gone == *f.done {
		return nil
	}
	f.done.Backups++
	r := rewriter{folder{fs, dir}, x, u, id}
	return r.settle()
}

type partOf struct {
	*peoplePart
	people []Person
}

// part writes a people file anew when it holds anything of somebody.
func (f *forgetter) part(dir string, x *peopleIndex, u *unpacker, id ID, p partOf) error {
	keys, claims := 0, 0
	gone := func(key, value []byte) bool {
		owner, err := ownerOf(key, value, x.Groups)
		for _, who := range p.people {
			switch {
			case err != nil || owner.id != who.ID || owner.group != groupOf(who.Slot, x.Groups):
			case storage.CopyKindOf(key) == storage.CopyIdentity:
				claims++
				return true
			case sameKey(key, who):
				keys++
				return true
			}
		}
		return false
	}
	r := rewriter{folder{f.o.FS, dir}, x, u, id}
	changed, err := r.part(p.peoplePart, gone)
	if changed { // it was asked twice about each
		f.done.Keys += keys / 2
		f.done.Claims += claims / 2
	}
	return err
}

// rewriter writes people files anew.
type rewriter struct {
	at folder
	x  *peopleIndex
	u  *unpacker
	id ID
}

// part writes a file without what is gone, when anything is, and enters it in the
// index, which is to be written. gone is asked twice then.
func (r *rewriter) part(p *peoplePart, gone func(key, value []byte) bool) (bool, error) {
	found := false
	err := r.x.readPart(r.at, r.u, r.id, p, func(key, value []byte) error {
		found = gone(key, value) || found
		return nil
	})
	if err != nil || !found {
		return false, err
	}
	id := streamID{kindPeople, p.Part, r.id}
	fresh, err := createPart(r.at.fs, r.at.dir, id, r.x.Generation+1)
	if err != nil {
		return false, err
	}
	pack, err := newPacker()
	if err != nil {
		return false, errors.Join(err, fresh.to.close())
	}
	w, err := newWriter(fresh.to, id, pack)
	if err == nil {
		err = r.x.readPart(r.at, r.u, r.id, p, func(key, value []byte) error {
			if gone(key, value) {
				return nil
			}
			return w.add(key, value)
		})
	}
	if err == nil {
		err = w.end()
	}
	if err := errors.Join(err, fresh.to.close()); err != nil {
		return false, err
	}
	*p = peoplePart{
		Part: p.Part, File: fresh.name, Bytes: fresh.to.bytes, Rows: w.rows, Hash: fresh.to.digest(),
	}
	return true, nil
}

// settle makes the rewritten parts count and wipes the old ones.
func (r *rewriter) settle() error {
	r.x.Generation++
	if err := syncFolder(r.at.fs, r.at.dir); err != nil {
		return err
	}
	if err := writeSealed(r.at.fs, r.at.dir, peopleFile, r.x); err != nil {
		return err
	}
	return sweepPeople(r.at.fs, r.at.dir, r.x)
}

// sweepPeople wipes people files that x does not name; without x, all.
func sweepPeople(fs vfs.FS, dir string, x *peopleIndex) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	var errs []error
	swept := false
	for _, name := range names {
		if !strings.HasPrefix(name, peoplePrefix) || x != nil &&
			slices.ContainsFunc(x.Files, func(p peoplePart) bool { return p.File == name }) {
			continue
		}
		swept = true
		errs = append(errs, wipe(fs, fs.PathJoin(dir, name)))
	}
	if swept {
		errs = append(errs, syncFolder(fs, dir))
	}
	return errors.Join(errs...)
}
