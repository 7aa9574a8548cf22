package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const buildBatch = 4 << 20

// A Build makes a store out of what copies hold. Keys of people come first, rows
// second and in the order of their keys, frames third. What belongs to a person
// whose key is not there is left out: see Gone.
//
// The folder must not exist; until Finish has returned there is no store in it.
type Build struct {
	s      *Store
	faults *faultLog
	db     *pebble.DB
	batch  *pebble.Batch
	keys   *pebble.Iterator
	epoch  uint32 // the highest seen
	ends   []uint64
	gone   map[PersonRef]bool
	erased []Erasure
}

// BeginBuild begins a store of that id and number of groups in dir. It errors with
// os.ErrExist when there is something.
func BeginBuild(dir string, o Options, head CopyHead) (*Build, error) {
	o.fill()
	if there, err := exists(o.FS, dir); err != nil || there {
		return nil, errors.Join(err, fmt.Errorf("%s: %w", dir, os.ErrExist))
	}
	if err := makeFolder(o.FS, dir); err != nil {
		return nil, err
	}
	lock, err := lockFolder(o.FS, dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, o: o, lock: lock, totals: NewTotals()}
	s.dead.ch = make(chan struct{})
	b := &Build{
		s: s, ends: make([]uint64, head.Groups), epoch: head.Epoch, gone: make(map[PersonRef]bool),
	}
	b.faults = &faultLog{log: o.Logger, die: s.die}
	rec := sidecarRecord{id: head.StoreID, durable: make([]uint64, head.Groups)}
	if err := s.side.open(o.FS, dir, rec, 0); err != nil {
		return nil, errors.Join(err, b.Abandon())
	}
	// The first log of a new Pebble store is of no use: see create.
	for range 2 {
		if b.db != nil {
			if err := s.closePebble(b.db, b.faults); err != nil {
				return nil, errors.Join(err, b.Abandon())
			}
			b.db = nil
		}
		db, err := s.pebble(b.path(), false, b.faults).open()
		if err != nil {
			return nil, errors.Join(err, b.Abandon())
		}
		b.db, b.batch = db, db.NewBatch()
	}
	return b, nil
}

func (b *Build) path() string { return b.s.o.FS.PathJoin(b.s.dir, folderCreating) }

// Put adds a key that is not a row, a frame or Derived.
func (b *Build) Put(key, value []byte) error {
	switch CopyKindOf(key) {
	case CopyDerived:
		return nil
	case CopyErased:
		return b.putErased(key, value)
	}
	return b.set(key, value)
}

// putErased adds an entry of the ledger of erasures. No file of the built store holds
// the person's key: it is purged.
func (b *Build) putErased(key, value []byte) error {
	e, err := parseErasure(key, value)
	if err != nil {
		return err
	}
	if e.Purged == 0 {
		e.Purged = b.s.o.Now()
	}
	b.erased = append(b.erased, e)
	return b.set(key, e.append(nil))
}

// Erased returns the entries of the ledger of erasures that were put.
func (b *Build) Erased() []Erasure { return b.erased }

// PutRow adds a key of CopyRow. kept is false when its person's key is not there.
func (b *Build) PutRow(key, value []byte) (kept bool, err error) {
	if key[0] >= identitySlots>>8 {
		return true, b.set(key, value)
	}
	k, ok := parseRowKey(key)
	if !ok {
		return false, fmt.Errorf("%w: row key %x", ErrCorrupt, key)
	}
	if there, err := b.hasKey(key); err != nil || there {
		return there, errors.Join(err, b.set(key, value))
	}
	row, err := parseRow(k.kind, value)
	if err != nil {
		return false, err
	}
	b.gone[PersonRef{b.group(k.slot), row.ord, k.person}] = true
	return false, nil
}

func (b *Build) group(slot Slot) GroupID { return GroupID(int(slot) * len(b.ends) / Slots) }

// hasKey tells whether there is the key of the person of a row. Rows come in order,
// and so do the keys.
func (b *Build) hasKey(row []byte) (bool, error) {
	if b.keys == nil {
		if err := b.flush(); err != nil {
			return false, err
		}
		var err error
		prefix := []byte{prefixPersonKey}
		b.keys, err = b.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
		if err != nil {
			return false, readFault(err)
		}
		b.keys.First()
	}
	for b.keys.Valid() && bytes.Compare(b.keys.Key()[1:], row[:14]) < 0 {
		b.keys.Next()
	}
	if err := b.keys.Error(); err != nil {
		return false, readFault(err)
	}
	return b.keys.Valid() && bytes.Equal(b.keys.Key()[1:], row[:14]), nil
}

// PutFrame adds a frame. Who is created in it and has no key is a gap.
func (b *Build) PutFrame(value []byte) error {
	h, records, err := parseFrame(value)
	if err != nil {
		return err
	}
	if int(h.group) >= len(b.ends) {
		return fmt.Errorf("%w: frame of group %d", ErrCorrupt, h.group)
	}
	for range h.count {
		r, rest, err := h.next(records)
		if err != nil {
			return err
		}
		records = rest
		switch {
		case r.kind == EffectCreate:
			err = b.created(h.group, &r)
		case r.kind == EffectDecision && !h.made(decisionOf(&r)):
			err = b.set(appendMovedKey(nil, decisionOf(&r)), appendMoved(nil, h.number))
		}
		if err != nil {
			return err
		}
	}
	b.epoch, b.ends[h.group] = max(b.epoch, h.epoch), max(b.ends[h.group], h.number)
	return b.set(appendFrameKey(nil, h.group, h.number), value)
}

func (b *Build) created(g GroupID, r *record) error {
	in := effectReader{b: r.clear}
	ws, slot, who := WorkspaceID(in.u32()), Slot(in.u16()), PersonID(in.u64())
	if in.bad || slot >= Slots {
		return fmt.Errorf("%w: malformed create", ErrCorrupt)
	}
	if err := b.flush(); err != nil {
		return err
	}
	key := appendPersonKeyKey(nil, slot, ws, who)
	_, err := view{b.db}.get(key)
	if errors.Is(err, ErrNotFound) {
		b.gone[PersonRef{g, r.ord, who}] = true
		return b.set(key, []byte{personKeyGone})
	}
	return err
}

// Seen raises the epoch behind which the built store begins.
func (b *Build) Seen(epoch uint32) { b.epoch = max(b.epoch, epoch) }

// LogFile makes a file of the event log.
func (b *Build) LogFile(name string) (vfs.File, error) {
	fs, dir := b.s.o.FS, b.s.o.FS.PathJoin(b.s.dir, folderLog)
	if err := makeFolder(fs, dir); err != nil {
		return nil, err
	}
	return fs.Create(fs.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
}

func (b *Build) set(key, value []byte) error {
	if err := b.batch.Set(key, value, nil); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	if b.batch.Len() < buildBatch {
		return nil
	}
	return b.flush()
}

func (b *Build) flush() error {
	if b.batch.Empty() {
		return nil
	}
	err := b.s.beside(b.faults, func() error {
		return errors.Join(b.batch.Commit(pebble.NoSync), b.batch.Close())
	})
	b.batch = b.db.NewBatch()
	return err
}

// Gone returns the people who were left out, in no order.
func (b *Build) Gone() []PersonRef {
	var gone []PersonRef
	for ref := range b.gone {
		gone = append(gone, ref)
	}
	slices.SortFunc(gone, func(x, y PersonRef) int {
		return bytes.Compare(goneKey(x), goneKey(y))
	})
	return gone
}

func goneKey(r PersonRef) []byte {
	be := binary.BigEndian
	return be.AppendUint32(be.AppendUint16(nil, uint16(r.Group)), uint32(r.Ord))
}

// Finish makes the folder a store, marked as an older copy of itself, that Open opens:
// see OlderCopy. The Build is of no use then.
func (b *Build) Finish(older OlderCopy) error {
	s, fs := b.s, b.s.o.FS
	epoch := appendEpoch(nil, b.epoch, s.o.Now())
	err := b.set([]byte{prefixNode, nodeEpoch}, epoch)
	if err == nil {
		err = b.flush()
	}
	if err == nil && b.keys != nil {
		err, b.keys = b.keys.Close(), nil
	}
	if err == nil {
		err = s.beside(b.faults, b.db.Flush)
	}
	if err == nil {
		err = errors.Join(b.batch.Close(), s.closePebble(b.db, b.faults))
		b.db, b.batch = nil, nil
	}
	if err == nil {
		if there, thereErr := exists(fs, fs.PathJoin(s.dir, folderLog)); there {
			err = syncFolder(fs, fs.PathJoin(s.dir, folderLog))
		} else {
			err = thereErr
		}
	}
	if err == nil {
		err = writeOlderCopy(fs, s.dir, older)
	}
	if err == nil {
		err = fs.Rename(b.path(), fs.PathJoin(s.dir, folderDatabase))
	}
	if err == nil {
		err = errors.Join(syncFolder(fs, s.dir),
			s.side.update(func(r *sidecarRecord) { copy(r.durable, b.ends); r.clean = true }))
	}
	if err = errors.Join(err, b.Abandon()); err != nil {
		return fmt.Errorf("build %s: %w", s.dir, err)
	}
	return nil
}

// Abandon lets go of what is open. Without Finish the folder holds no store.
func (b *Build) Abandon() error {
	var errs []error
	if b.keys != nil {
		errs = append(errs, b.keys.Close())
		b.keys = nil
	}
	if b.db != nil && b.s.dead.err() == nil {
		errs = append(errs, b.batch.Close(), b.s.closePebble(b.db, b.faults))
	}
	b.db = nil
	return errors.Join(append(errs, b.s.side.close(), b.s.unlock())...)
}

// leaveOut applies a create without a person: its key was thrown away. The ordinal
// and the id are not given to anybody else.
func (s *state) leaveOut(frame uint64, e *Effect) error {
	if e.Ord >= maxOrds {
		return fmt.Errorf("%w: create of ordinal %d", ErrCorrupt, e.Ord)
	}
	s.nextOrd = max(s.nextOrd, e.Ord+1)
	s.person = max(s.person, e.Create.Person)
	if frame > s.metaFrame {
		s.edit.confirmed = s.edit.confirmed[:0]
		s.applyGroup(frame, e)
	}
	return nil
}

// CloseGaps takes out of an open store what the groups still hold of people who
// were left out by a Build: their places in segments, and claims of identities that
// point at them.
func (s *Store) CloseGaps(gone []PersonRef) error {
	if len(gone) == 0 {
		return nil
	}
	lost := make(map[PersonRef]bool, len(gone))
	for _, ref := range gone {
		lost[ref] = true
	}
	frames := make(map[*Group]uint64)
	push := func(g *Group, e *Effect) error {
		g.Lock()
		defer g.Unlock()
		frame, err := g.Append(e)
		frames[g] = frame
		return err
	}
	for _, ref := range gone {
		g := s.Group(ref.Group)
		if err := push(g, &Effect{Kind: EffectForget, Ord: ref.Ord}); err != nil {
			return fmt.Errorf("forget ordinal %d of group %d: %w", ref.Ord, ref.Group, err)
		}
	}
	for _, g := range s.groups {
		for _, c := range g.claimsOf(lost) {
			e := &Effect{Kind: EffectClaim, Ord: NoOrd, Claim: c}
			if err := push(g, e); err != nil {
				return fmt.Errorf("claim in group %d: %w", g.id, err)
			}
		}
	}
	for g, frame := range frames {
		if err := s.Wait(g.id, frame, 0); err != nil {
			return err
		}
	}
	return nil
}

// EraseAgain erases everybody whom entries of a ledger name and who is there: they
// were erased after the copy that the store was made of. It returns how many.
func (s *Store) EraseAgain(ledger []Erasure) (n int, err error) {
	named := make(map[PersonRef]bool, len(ledger))
	for i := range ledger {
		named[PersonRef{Group: ledger[i].Group, Person: ledger[i].Person}] = true
	}
	var lost []PersonRef
	for _, g := range s.groups {
		for o := range g.Len() {
			g.Lock()
			row := g.Row(Ord(o))
			if row == nil || !named[PersonRef{Group: g.id, Person: row.Person}] {
				g.Unlock()
				continue
			}
			lost = append(lost, PersonRef{g.id, Ord(o), row.Person})
			_, _, err := g.Erase(Ord(o), s.HighWater(), 0)
			g.Unlock()
			if err != nil {
				return n, err
			}
			n++
		}
	}
	return n, s.CloseGaps(lost)
}

// claimsOf returns what takes the claims out that point at people who are lost.
func (g *Group) claimsOf(lost map[PersonRef]bool) (out []ClaimEffect) {
	g.Lock()
	defer g.Unlock()
	g.mu.state.identities.each(func(c claim) {
		if lost[c.target] {
			out = append(out, ClaimEffect{Workspace: c.ws, Slot: c.slot, Hash: c.hash})
		}
	})
	return out
}

// Unborn takes out the key of a person who was created in a frame that is left out;
// key is what InspectFrame gives. What is not deleted is nobody's.
func (b *Build) Unborn(key []byte) {
	if err := b.batch.Delete(key, nil); err != nil {
		b.s.die(err)
	}
}
