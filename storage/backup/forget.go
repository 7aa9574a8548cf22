package backup

import (
	"bytes"
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

// Gone names people of one store.
type Gone struct {
	Store  [16]byte // id of the store: numbers of people mean nothing in another
	People []Person
	// Names are keys, of storage.CopyOwnName, of names that nobody has any more.
	Names [][]byte
}

// Forgotten says what Forget has done.
type Forgotten struct {
	Backups int // that held the key of somebody, or a claim
	Keys    int // thrown away
	Claims  int // of identities, thrown away
	Names   int // thrown away
}

const (
	peopleLock = "people.lock"
	// Backups may lie in folders of folders, as --to of a server says.
	walkDepth = 4
	lockWait  = time.Minute
)

// Forget throws the keys of people, the claims of their identities, and names, out of
// every backup of their store in dir and in the folders below it. What is left of
// them is sealed with keys that are nowhere. People that a backup does not have are
// no fault; a folder that does not exist holds nothing; backups of other stores are
// not touched.
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
func Forget(ctx context.Context, dir string, gone Gone, o Options) (
	done Forgotten, err error,
) {
	o.fill()
	f := forgetter{o: &o, people: gone.People, store: hexStore(gone.Store), done: &done}
	f.names = make(map[string]bool, len(gone.Names))
	for _, key := range gone.Names {
		f.names[string(key)] = true
	}
	limit, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	err = walk(o.FS, dir, walkDepth, func(dir string, backups []string) error {
		return f.folder(limit, dir, backups)
	})
	if err != nil {
		return done, fmt.Errorf("forget in backups %s: %w", dir, err)
	}
	return done, nil
}

type forgetter struct {
	o      *Options
	people []Person
	names  map[string]bool
	store  string
	done   *Forgotten
}

// walk calls f for every folder below dir, and dir, that holds backups, with their
// paths. One that cannot be worked on does not keep the others from it.
func walk(fs vfs.FS, dir string, depth int, f func(dir string, backups []string) error) error {
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
			errs = append(errs, walk(fs, path, depth-1, f))
		}
	}
	if len(backups) > 0 {
		errs = append(errs, f(dir, backups))
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
	if x.Store == "" { // written by an older version
		m, err := readManifest(fs, dir)
		if err != nil {
			return fmt.Errorf("whose backup it is: %w", err)
		}
		x.of = m.Store
	}
	if x.of != f.store {
		return nil
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
	parts := make(map[uint32]map[person]Person)
	for _, who := range f.people {
		p := person{groupOf(who.Slot, x.Groups), who.ID}
		at := p.part(x.Parts)
		if parts[at] == nil {
			parts[at] = make(map[person]Person)
		}
		parts[at][p] = who
	}
	for i := range x.Files {
		p := &x.Files[i]
		here := parts[p.Part]
		if len(here) == 0 && (p.Part != 0 || len(f.names) == 0) {
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
	r := rewriter{folder{fs: fs, dir: dir}, x, u, id}
	return r.settle()
}

type partOf struct {
	*peoplePart
	people map[person]Person
}

// part writes a people file anew when it holds anything of somebody.
func (f *forgetter) part(dir string, x *peopleIndex, u *unpacker, id ID, p partOf) error {
	keys, claims, names := 0, 0, 0
	gone := func(key, value []byte) bool {
		owner, err := ownerOf(key, value, x.Groups)
		who, ok := p.people[owner]
		switch {
		case err == nil && storage.CopyKindOf(key) == storage.CopyOwnName:
			if !f.names[string(key)] || bytes.Equal(value, storage.CopyNameGone()) {
				return false
			}
			names++
			return true
		case err != nil || !ok:
		case storage.CopyKindOf(key) == storage.CopyIdentity:
			claims++
			return true
		case sameKey(key, who):
			keys++
			return true
		}
		return false
	}
	r := rewriter{folder{fs: f.o.FS, dir: dir}, x, u, id}
	changed, err := r.part(p.peoplePart, gone)
	if changed { // it was asked twice about each
		f.done.Keys += keys / 2
		f.done.Claims += claims / 2
		f.done.Names += names / 2
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
			switch {
			case !gone(key, value):
				return w.add(key, value)
			case storage.CopyKindOf(key) == storage.CopyOwnName: // names have no holes
				return w.add(key, storage.CopyNameGone())
			}
			return nil
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
