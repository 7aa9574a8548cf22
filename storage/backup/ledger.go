package backup

import (
	"bytes"
	"context"
	"fmt"

	"tact/storage"
)

// Ledger reads whom the backups in dir, and in the folders below it, know to be
// erased: in each folder by the newest backup of each store. It is what Forget takes.
// A folder that does not exist knows of nobody. The error is of the first ledger that
// cannot be read.
// Cost: reading all but rows, frames and event log of those backups.
func Ledger(ctx context.Context, dir string, o Options) (all []Gone, err error) {
	o.fill()
	unpack, err := newUnpacker()
	if err != nil {
		return nil, err
	}
	defer unpack.unpack.Close()
	x := restorer{o: &o, pace: newPace(ctx, 0, nil), unpack: unpack}
	err = walk(o.FS, dir, walkDepth, func(dir string, _ []string) error {
		x.dir = dir
		listed, err := List(dir, o)
		if err != nil {
			return err
		}
		for _, store := range stores(listed) {
			gone, err := x.ledger(&listed[newest(listed, store)].Manifest)
			if err != nil {
				return fmt.Errorf("%s: %w", dir, err)
			}
			all = append(all, gone)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("whom the backups in %s know to be erased: %w", dir, err)
	}
	return all, nil
}

// ledger reads the ledger in one backup.
func (x *restorer) ledger(m *Manifest) (gone Gone, err error) {
	if gone.Store, err = parseID(m.Store); err != nil {
		return gone, err
	}
	index, id, err := readPeople(x.o.FS, x.at(m).dir)
	if err != nil {
		return gone, err
	}
	for i := range index.Files {
		if index.Files[i].Part != 0 {
			continue
		}
		err := index.readPart(x.at(m), x.unpack, id, &index.Files[i], func(key, value []byte) error {
			if storage.CopyKindOf(key) == storage.CopyOwnName &&
				bytes.Equal(value, storage.CopyNameGone()) {
				gone.Names = append(gone.Names, bytes.Clone(key))
			}
			return nil
		})
		if err != nil {
			return gone, err
		}
	}
	err = x.eachErased(m, func(key, value []byte) error {
		e, err := storage.CopyErasure(key, value)
		gone.People = append(gone.People, Person{e.Slot, e.Workspace, e.Person})
		return err
	})
	return gone, err
}

// eachErased calls f for every entry of the ledger of erasures in one backup.
func (x *restorer) eachErased(m *Manifest, f func(key, value []byte) error) error {
	return x.each(m, kindState, func(key, value []byte) error {
		if storage.CopyKindOf(key) != storage.CopyErased {
			return nil
		}
		return f(key, value)
	})
}
