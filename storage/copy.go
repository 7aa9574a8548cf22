package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/eventlog"
)

// ErrCopying reports a second copy of a store while one is made.
var ErrCopying = errors.New("another copy of the store is being made")

// copyChunk is how many bytes are read through one iterator: one that is open
// keeps the files on the disk that compactions replace.
const copyChunk = 32 << 20

// A Copy is the store as it was right behind one commit, for reading while the
// store is in use: everything appended before BeginCopy is in it. One at a time
// exists; Close ends it. From its beginning frames behind it are not trimmed; Keep
// makes that last until the next one.
//
// It costs the disk space of what is overwritten while it is open.
type Copy struct {
	CopyHead
	s        *Store
	snapshot *pebble.Snapshot
	log      []LogFile
}

// CopyHead describes a copy.
type CopyHead struct {
	StoreID [16]byte
	Groups  int
	Epoch   uint32
	People  int64
	Until   UnixMsec   // the newest time of any effect
	Ends    []FrameEnd // by group: its last frame
	First   []uint64   // by group: the first frame that rows or event log lack
}

// FrameEnd is a frame and its hash, which the next one holds; zeros: none.
type FrameEnd struct{ Number, Hash uint64 }

// LogFile is a file of the event log and how much of it counts.
type LogFile struct {
	eventlog.File
	file vfs.File
}

// ReadAt reads the file.
func (f *LogFile) ReadAt(b []byte, at int64) (int, error) { return f.file.ReadAt(b, at) }

// BeginCopy waits until what was appended is durable and begins a copy. It errors
// with ErrCopying, ErrClosed, ErrUnknown or ErrFenced.
func (s *Store) BeginCopy() (c *Copy, err error) {
	if !s.copying.TryLock() {
		if s.closed.Load() {
			return nil, ErrClosed
		}
		return nil, ErrCopying
	}
	defer func() {
		if err != nil {
			s.copying.Unlock()
		}
	}()
	if s.closed.Load() {
		return nil, ErrClosed
	}
	for _, g := range s.groups {
		g.Lock()
		last := g.LastFrame()
		g.Unlock()
		if err := s.Wait(g.id, last, 0); err != nil {
			return nil, fmt.Errorf("copy: group %d: %w", g.id, err)
		}
	}
	// With the logger's turn held no frame is trimmed and no file of the event log
	// leaves between the look at the state and the look at the files.
	s.logs.turn.Lock()
	defer s.logs.turn.Unlock()
	c = &Copy{s: s, snapshot: s.db.db.NewSnapshot()}
	if err := c.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("copy: %w", err), c.release())
	}
	s.logs.hold.taking = frameNumbers(c.Ends)
	return c, nil
}

func frameNumbers(ends []FrameEnd) []uint64 {
	var numbers []uint64
	for _, e := range ends {
		numbers = append(numbers, e.Number)
	}
	return numbers
}

func (c *Copy) open() error {
	s := c.s
	c.CopyHead = CopyHead{StoreID: s.man.id, Groups: s.man.groups, Epoch: s.epoch}
	from := view{c.snapshot}
	for i, g := range s.groups {
		number, hash, err := lastFrame(from, GroupID(i))
		if err != nil {
			return err
		}
		c.Ends = append(c.Ends, FrameEnd{number, hash})
		if number > 0 {
			value, err := from.get(appendFrameKey(nil, g.id, number))
			if err != nil {
				return err
			}
			info, err := InspectFrame(value, nil)
			if err != nil {
				return err
			}
			c.Until = max(c.Until, info.Until)
		}
		g.Lock()
		c.People += int64(g.mu.state.people)
		g.Unlock()
	}
	state, err := from.get([]byte{prefixNode, nodeLog})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	files, logged, err := eventlog.Contents(state)
	if err != nil {
		return logFault(err)
	}
	if err := c.findFirst(logged); err != nil {
		return err
	}
	for _, f := range files {
		file, err := s.o.FS.Open(s.o.FS.PathJoin(s.dir, folderLog, f.Name))
		if err != nil {
			return err
		}
		c.log = append(c.log, LogFile{f, file})
	}
	return nil
}

// findFirst finds from where on frames are needed. logged is what the event log
// holds.
func (c *Copy) findFirst(logged []uint64) error {
	for i := range c.s.groups {
		var first uint64 // the frame of the watermark is needed too
		value, err := view{c.snapshot}.get(appendGroupKey(nil, GroupID(i)))
		if err == nil {
			first, _, err = parseGroupRecord(value)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if i < len(logged) {
			first = min(first, logged[i]+1)
		} else {
			first = 0
		}
		c.First = append(c.First, first)
	}
	return nil
}

// release lets go of what the copy reads.
func (c *Copy) release() error {
	var errs []error
	for i := range c.log {
		errs = append(errs, c.log[i].file.Close())
	}
	return errors.Join(append(errs, c.snapshot.Close())...)
}

// Close ends the copy. Frames behind it that Keep was not called for may go.
func (c *Copy) Close() error {
	c.s.logs.turn.Lock()
	c.s.logs.hold.taking = nil
	c.s.logs.turn.Unlock()
	err := c.release()
	c.s.copying.Unlock()
	return err
}

// Log returns the files of the event log.
func (c *Copy) Log() []LogFile { return c.log }

// Scan calls f for every key in [from, to), nil: to the end, in rising order. The
// slices are valid during the call.
func (c *Copy) Scan(from, to []byte, f func(key, value []byte) error) error {
	return c.s.scanChunks(c.snapshot, from, to, f)
}

// ScanKeys calls f for the key of every person that is in the copy and in the store
// now: one that was thrown away meanwhile is left out.
func (c *Copy) ScanKeys(f func(key, value []byte) error) error {
	due, err := c.purges()
	if err != nil {
		return err
	}
	now := c.s.db.db.NewSnapshot()
	err = c.scanKeys(now, func(key, value []byte) error {
		if due[string(key)] {
			return nil
		}
		return f(key, value)
	})
	return errors.Join(err, now.Close())
}

// ScanOwnNames calls f for the names of CopyOwnName that are in the copy, with what
// stands there now: one that was forgotten meanwhile is gone.
func (c *Copy) ScanOwnNames(f func(key, value []byte) error) error {
	for _, kind := range [...]DictKind{DictSource, DictConsentText} {
		from := []byte{prefixName, byte(kind)}
		err := c.Scan(from, after(from), func(key, _ []byte) error {
			value, err := c.s.db.get(key)
			if err != nil {
				return err
			}
			return f(key, value)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// NamesGone returns the keys of the names of CopyOwnName that were forgotten.
func (s *Store) NamesGone() (keys [][]byte, err error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	for _, kind := range [...]DictKind{DictSource, DictConsentText} {
		from := []byte{prefixName, byte(kind)}
		err := s.db.scan(from, after(from), func(key, value []byte) error {
			if string(value) == nameGone {
				keys = append(keys, bytes.Clone(key))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// purges returns the keys of the keys of people who are erased and not purged yet.
func (c *Copy) purges() (map[string]bool, error) {
	due := make(map[string]bool)
	err := c.s.Erasures(func(e Erasure) bool {
		if e.Purged == 0 {
			due[string(appendPersonKeyKey(nil, e.Slot, e.Workspace, e.Person))] = true
		}
		return true
	})
	return due, err
}

func (c *Copy) scanKeys(now pebble.Reader, f func(key, value []byte) error) error {
	from := []byte{prefixPersonKey}
	it, err := now.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: after(from)})
	if err != nil {
		return readFault(err)
	}
	defer it.Close()
	it.First()
	return c.Scan(from, after(from), func(key, value []byte) error {
		for it.Valid() && bytes.Compare(it.Key(), key) < 0 {
			it.Next()
		}
		if err := it.Error(); err != nil {
			return readFault(err)
		}
		if !it.Valid() || !bytes.Equal(it.Key(), key) {
			return nil
		}
		return f(key, value)
	})
}

// FrameBehind returns the first frame of a group behind the one of that number;
// ErrNotFound: there is none.
func (c *Copy) FrameBehind(g GroupID, number uint64) (info FrameInfo, err error) {
	err = c.Frames(g, number, func(value []byte) error {
		if info, err = InspectFrame(value, nil); err != nil {
			return err
		}
		return errFirst
	})
	switch {
	case err == nil:
		return info, ErrNotFound
	case errors.Is(err, errFirst):
		return info, nil
	}
	return info, err
}

// Estimate returns about how many bytes [from, to) takes on the disk.
func (c *Copy) Estimate(from, to []byte) int64 {
	n, err := c.s.db.db.EstimateDiskUsage(from, to)
	if err != nil {
		return 0 // of a progress bar
	}
	return int64(n)
}

// Frames calls f for every frame of a group behind the one of that number.
func (c *Copy) Frames(g GroupID, behind uint64, f func(value []byte) error) error {
	from := appendFrameKey(nil, g, behind+1)
	return c.Scan(from, after(from[:3]), func(_, value []byte) error { return f(value) })
}

// PersonKeys calls f for those of some keys, which InspectFrame gave, that are stored
// now and of nobody who is erased.
func (c *Copy) PersonKeys(keys [][]byte, f func(key, value []byte) error) error {
	due, err := c.purges()
	for i := 0; i < len(keys) && err == nil; i++ {
		var value []byte
		if value, err = c.s.db.get(keys[i]); errors.Is(err, ErrNotFound) || due[string(keys[i])] {
			err = nil
			continue
		}
		if err == nil {
			err = f(keys[i], value)
		}
	}
	return err
}

var (
	// errChunk ends a walk for the sake of a new iterator.
	errChunk = errors.New("enough for one iterator")
	// errFirst ends a walk that wanted one frame.
	errFirst = errors.New("the first is enough")
)

func (s *Store) scanChunks(of pebble.Reader, from, to []byte,
	f func(key, value []byte) error,
) error {
	next := append([]byte(nil), from...)
	for {
		if s.closed.Load() {
			return ErrClosed
		}
		read := 0
		err := view{of}.scan(next, to, func(key, value []byte) error {
			if read > copyChunk {
				next = append(next[:0], key...)
				return errChunk
			}
			read += len(key) + len(value)
			return f(key, value)
		})
		if !errors.Is(err, errChunk) {
			return err
		}
	}
}

var _ io.ReaderAt = (*LogFile)(nil)
