package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableLooks is how many tables are looked at beside each other.
const tableLooks = 8

// verifyTables compares the first and the last entry of every table with what
// the MANIFEST says of it. Pebble compares sizes only: a table that stands in the
// place of another one of its size would be read as if it were that one. The
// entries are compared with their sequence numbers, which no two entries share
// unless the lowest level has forgotten them; there no two tables share a key.
// The tables are looked at several at a time, since each look waits for the disk; of
// several faults the first in the order of levels and keys is told.
// Cost: an open and four reads a table.
func verifyTables(fs vfs.FS, dir string, db *pebble.DB) error {
	levels, err := db.SSTables()
	if err != nil {
		return readFault(err)
	}
	var tables []*pebble.SSTableInfo
	for level := range levels {
		for i := range levels[level] {
			if t := &levels[level][i]; !t.Virtual {
				tables = append(tables, t)
			}
		}
	}
	errs := make([]error, len(tables))
	var next atomic.Int64
	var failed atomic.Bool
	var looks sync.WaitGroup
	for range min(tableLooks, len(tables)) {
		looks.Go(func() {
			for !failed.Load() {
				i := int(next.Add(1) - 1)
				if i >= len(tables) {
					return
				}
				name := tableFile(tables[i])
				if err := verifyTable(fs, fs.PathJoin(dir, name), &tables[i].TableInfo); err != nil {
					errs[i] = tableClass(name, err)
					failed.Store(true)
				}
			}
		})
	}
	looks.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func tableFile(t *pebble.SSTableInfo) string { return fmt.Sprintf("%06d.sst", uint64(t.FileNum)) }

func verifyTable(fs vfs.FS, path string, want *pebble.TableInfo) error {
	r, err := openTable(fs, path)
	if err != nil {
		return err
	}
	first, last, err := tableBounds(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return tableFault(err)
	}
	if !first.is(&want.Smallest) || !last.is(&want.Largest) {
		return fmt.Errorf("%w: it is not the table that was written: it begins with %s and ends "+
			"with %s, the MANIFEST says %s and %s", ErrCorrupt, first, last, want.Smallest, want.Largest)
	}
	return nil
}

// tableClass names the table in an error about its bytes.
func tableClass(name string, err error) error {
	if errors.Is(err, ErrCorrupt) {
		return tableDamage(name, err)
	}
	return fmt.Errorf("%s/%s: %w", folderDatabase, name, err)
}

func openTable(fs vfs.FS, path string) (*sstable.Reader, error) {
	f, err := fs.Open(path, vfs.RandomReadsOption)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return newReader(readable)
}

func newReader(readable objstorage.Readable) (*sstable.Reader, error) {
	r, err := sstable.NewReader(context.Background(), readable, sstable.ReaderOptions{})
	if err != nil {
		return nil, tableFault(errors.Join(err, readable.Close()))
	}
	return r, nil
}

// tableFault gives what a table's reader says its class: all that is not the
// system's is about the bytes.
func tableFault(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return pebbleFault(err, folderDatabase)
}

// tableKey is an entry's key with its sequence number and kind.
type tableKey struct {
	key     []byte
	trailer uint64
	there   bool
}

func (k *tableKey) is(want *pebble.InternalKey) bool {
	return k.there && bytes.Equal(k.key, want.UserKey) && k.trailer == uint64(want.Trailer)
}

func (k tableKey) String() string {
	if !k.there {
		return "nothing"
	}
	return fmt.Sprintf("%x#%d", k.key, k.trailer>>8)
}

// less orders as Pebble does: keys rise, sequence numbers fall.
func (k *tableKey) less(o *tableKey) bool {
	if c := bytes.Compare(k.key, o.key); c != 0 {
		return c < 0
	}
	return k.trailer > o.trailer
}

// tableBounds returns the first and the last entry of a table, ranges of
// deletions included.
func tableBounds(r *sstable.Reader) (first, last tableKey, err error) {
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return first, last, err
	}
	if kv := it.First(); kv != nil {
		first = tableKey{bytes.Clone(kv.K.UserKey), uint64(kv.K.Trailer), true}
	}
	if kv := it.Last(); kv != nil {
		last = tableKey{bytes.Clone(kv.K.UserKey), uint64(kv.K.Trailer), true}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return first, last, err
	}
	ranges, err := r.NewRawRangeDelIter(context.Background(), sstable.NoFragmentTransforms,
		sstable.NoReadEnv)
	if err != nil || ranges == nil {
		return first, last, err
	}
	defer ranges.Close()
	span, err := ranges.First()
	if err != nil {
		return first, last, err
	}
	if span != nil {
		k := span.SmallestKey()
		first.lower(tableKey{bytes.Clone(k.UserKey), uint64(k.Trailer), true})
	}
	if span, err = ranges.Last(); err != nil {
		return first, last, err
	}
	if span != nil {
		k := span.LargestKey()
		last.raise(tableKey{bytes.Clone(k.UserKey), uint64(k.Trailer), true})
	}
	return first, last, nil
}

func (k *tableKey) lower(o tableKey) {
	if !k.there || o.less(k) {
		*k = o
	}
}

func (k *tableKey) raise(o tableKey) {
	if !k.there || k.less(&o) {
		*k = o
	}
}
