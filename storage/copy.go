package storage

import (
	"bytes"
	"encoding/binary"
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

// FrameInfo is what a frame says of itself.
type FrameInfo struct {
	Group       GroupID
	Epoch       uint32
	Number      uint64
	Previous    uint64 // hash of the frame before
	Hash        uint64
	Round       uint64   // of the commit, in the epoch; 0: not known
	From, Until UnixMsec // times of its first and its last effect
}

// InspectFrame checks a frame and its records. created is called with the store's
// key of the key of every person who is created in it; nil: nobody asks.
func InspectFrame(value []byte, created func(key []byte)) (info FrameInfo, err error) {
	h, records, err := parseFrame(value)
	if err != nil {
		return info, err
	}
	info = FrameInfo{
		Group: h.group, Epoch: h.epoch, Number: h.number, Previous: h.prev, Round: h.round,
		Hash: frameHash(value), From: h.time, Until: h.time,
	}
	for range h.count {
		r, rest, err := h.next(records)
		if err != nil {
			return info, err
		}
		records, info.Until = rest, r.time
		if r.kind == EffectCreate && created != nil {
			in := effectReader{b: r.clear}
			ws, slot, who := WorkspaceID(in.u32()), Slot(in.u16()), PersonID(in.u64())
			if in.bad {
				return info, fmt.Errorf("%w: malformed create", ErrCorrupt)
			}
			created(appendPersonKeyKey(nil, slot, ws, who))
		}
	}
	return info, nil
}

// CopyKind says what a key of the store stands for, as far as a copy of the store
// must know.
type CopyKind uint8

// Kinds of keys, for copies.
const (
	CopyOther     CopyKind = iota // documents, names, lists, records of the node
	CopyRow                       // part of a person, of a group, of the members of segments
	CopyIdentity                  // identity → person, by a keyed hash
	CopyPersonKey                 // what opens the sealed parts of a person
	CopyFrame
	CopyDerived // of the frames: not to be copied
	CopyName
	CopyDoc
	CopyListed // on a suppression list
	CopyErased // entry of the ledger of erasures
)

// CopyKindOf tells what a key stands for.
func CopyKindOf(key []byte) CopyKind {
	switch {
	case len(key) == 0:
		return CopyOther
	case key[0] < identitySlots>>8:
		return CopyRow
	case key[0] < prefixFrame:
		return CopyIdentity
	}
	switch key[0] {
	case prefixFrame:
		return CopyFrame
	case prefixGroup, prefixMember, prefixDedup, prefixMoved:
		return CopyRow
	case prefixPersonKey:
		return CopyPersonKey
	case prefixName:
		return CopyName
	case prefixDoc:
		return CopyDoc
	case prefixList:
		return CopyListed
	case prefixErased:
		return CopyErased
	case prefixPurge:
		return CopyDerived // there is nothing to purge in a copy without keys
	case prefixNode:
		return copyNodeKind(key)
	}
	return CopyOther
}

func copyNodeKind(key []byte) CopyKind {
	if len(key) == 2 {
		switch key[1] {
		case nodeEpoch, nodeJournal, nodeCommit, nodeHold:
			return CopyDerived // of the life of this store alone
		}
	}
	return CopyOther
}

// AppendPersonKey appends the key under which the key of a person is stored:
// 0x30 | slot u16 | workspace u32 | person u64.
func AppendPersonKey(dst []byte, slot Slot, ws WorkspaceID, person PersonID) []byte {
	return appendPersonKeyKey(dst, slot, ws, person)
}

// CopyDocKey returns the name of a document, and its content, as ScanDocs does.
func CopyDocKey(key, value []byte) (name string, content []byte, err error) {
	content, err = parseDoc(string(key[1:]), value)
	return string(key[1:]), content, err
}

// CopyDocRow is the other way round.
func CopyDocRow(name string, content []byte) (key, value []byte) {
	return docKey(name), sealRecord(append([]byte{docFormat}, content...))
}

// frameHold says which frames are not trimmed although rows and log hold them: they
// are what the next incremental backup is made of. The logger's turn guards it.
type frameHold struct {
	kept   []uint64 // by group: frames above are held; nil: nobody waits for them
	taking []uint64 // by group, for the copy that is being made
}

// holdFormat: the record under 0x70 0x06 is
// format u8 | groups u16 | groups × frame u64 | CRC32C u32.
const holdFormat = 1

func appendHold(b []byte, kept []uint64) []byte {
	b = binary.LittleEndian.AppendUint16(append(b, holdFormat), uint16(len(kept)))
	for _, n := range kept {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return sealRecord(b)
}

func parseHold(b []byte, groups int) (kept []uint64, err error) {
	body, err := checkedValue(b, holdFormat)
	if err == nil && (len(body) != 3+8*groups || int(le16(body[1:])) != groups) {
		err = ErrCorrupt
	}
	if err != nil {
		return nil, fmt.Errorf("held frames: %w", err)
	}
	for i := range groups {
		kept = append(kept, le64(body[3+8*i:]))
	}
	return kept, nil
}

// loadHold reads which frames are held. The event log is open.
func (s *Store) loadHold() error {
	value, err := s.db.get([]byte{prefixNode, nodeHold})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	h := &s.logs.hold
	if h.kept, err = parseHold(value, len(s.groups)); err != nil {
		return err
	}
	for i, g := range s.groups {
		lower := appendFrameKey(nil, g.id, h.kept[i]+1)
		size, err := s.db.db.EstimateDiskUsage(lower, after(lower[:3]))
		if err != nil {
			return readFault(err)
		}
		s.logs.held.Add(int64(size))
	}
	return nil
}

// Keep holds the frames behind the copy until the next copy is kept, or until they
// are more than Options.HoldBytes.
func (c *Copy) Keep() error {
	s := c.s
	s.logs.turn.Lock()
	defer s.logs.turn.Unlock()
	kept := frameNumbers(c.Ends)
	b := s.db.db.NewBatch()
	if err := b.Set([]byte{prefixNode, nodeHold}, appendHold(nil, kept), nil); err != nil {
		return fmt.Errorf("hold frames: %w", err)
	}
	if err := s.putSynced(b); err != nil {
		return fmt.Errorf("hold frames: %w", err)
	}
	s.logs.hold.kept = kept
	s.logs.held.Store(0)
	return nil
}

// holdBound lowers the first frame of a group that is to stay. The logger's turn is
// taken.
func (l *logger) holdBound(group int, bound uint64) uint64 {
	for _, held := range [...][]uint64{l.hold.kept, l.hold.taking} {
		if held != nil {
			bound = min(bound, held[group]+1)
		}
	}
	return bound
}

// letGo gives up frames that are held when there are too many: the next backup will
// be a full one.
func (s *Store) letGo() error {
	l := &s.logs
	if l.hold.kept == nil || l.held.Load() <= s.o.HoldBytes {
		return nil
	}
	b := s.db.db.NewBatch()
	defer b.Close()
	if err := b.Delete([]byte{prefixNode, nodeHold}, nil); err != nil {
		return fmt.Errorf("held frames: %w", err)
	}
	if err := s.db.write(b); err != nil {
		return fmt.Errorf("held frames: %w", err)
	}
	s.o.Logger.Warn("frames for the next incremental backup take too much: it will be a full one",
		"bytes", l.held.Load(), "limit", s.o.HoldBytes)
	l.hold.kept = nil
	l.held.Store(0)
	return nil
}

// HeldBytes returns about how many bytes of frames wait for the next incremental
// backup; held is false when none is expected.
func (s *Store) HeldBytes() (bytes int64, held bool) {
	s.logs.turn.Lock()
	defer s.logs.turn.Unlock()
	return s.logs.held.Load(), s.logs.hold.kept != nil
}

var _ io.ReaderAt = (*LogFile)(nil)
