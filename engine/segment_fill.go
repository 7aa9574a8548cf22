package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"tact/storage"
)

const (
	// fillTogether is up to how many changes one fill makes in one batch; a larger
	// one is written down first, and then made in steps.
	fillTogether = 4096
	fillStep     = 256 // changes under one lock: about 0.3 ms
	fillFormat   = 1
	fillPrefix   = "fill/"
)

// FillMode says what becomes of the members of a static segment. The number is
// stored; it never changes.
type FillMode uint8

// Modes of a fill.
const (
	FillReplace FillMode = iota + 1 // exactly those given are members
	FillAdd
	FillRemove
)

// A Fill gathers people and then makes them the members of a static segment,
// adds them, or takes them out. It holds a bitmap of them (at most an eighth of a
// byte a person of the store), however long the list is. One goroutine uses it.
type Fill struct {
	e       *Engine
	segment storage.Name
	sets    []*roaring.Bitmap // by group
}

// FillResult says what a fill has changed.
type FillResult struct {
	Added, Removed, Members uint64
}

// fills is one fill at a time: two that replace the same members would leave a
// mixture.
type fills struct {
	mu sync.Mutex
	// pending: some fill was written down and has not ended.
	pending bool
}

// BeginFill starts to gather people for a static segment.
func (e *Engine) BeginFill(segment string) (*Fill, error) {
	snap := e.snap.Load()
	if err := snap.publishedSegment(segment); err != nil {
		return nil, err
	}
	id, static := snap.segments[segment]
	if !static {
		return nil, &Problem{
			Class: ProblemConflict, Code: "dynamic_segment", Field: "segment",
			Detail: fmt.Sprintf("segment %q has a rule: its members are those for whom it holds", segment),
		}
	}
	f := &Fill{e: e, segment: id, sets: make([]*roaring.Bitmap, e.store.Groups())}
	for i := range f.sets {
		f.sets[i] = roaring.New()
	}
	return f, nil
}

// Add gathers one person; a ProblemMissing names an id that nobody has. A
// visitor, who is gone after a day, is nobody here.
// Cost: one look-up.
func (f *Fill) Add(id []byte) error {
	if err := checkUserID(id, "user_id"); err != nil {
		return err
	}
	s := f.e.store
	g := s.GroupOf(s.SlotOf(workspaceID, id))
	g.Lock()
	ord, ok := g.Find(workspaceID, s.IndexHash(workspaceID, id), id)
	if ok {
		ok = g.Row(ord).Flags&storage.RowVisitor == 0
	}
	g.Unlock()
	if !ok {
		return &Problem{
			Class: ProblemMissing, Code: "user_not_found", Field: "user_id",
			Detail: fmt.Sprintf("no user %q", id),
		}
	}
	f.sets[g.GroupID()].Add(uint32(ord))
	return nil
}

// AddPeople gathers people that a query has found.
func (f *Fill) AddPeople(p *People) {
	for i := range p.Groups {
		f.sets[p.Groups[i].Group].Or(p.Groups[i].Ords)
	}
}

// Count returns how many people were gathered.
func (f *Fill) Count() (n uint64) {
	for _, set := range f.sets {
		n += set.GetCardinality()
	}
	return n
}

// Commit changes the members and returns when that is durable. Up to 4,096
// changes become durable together. More are written down first, as one document:
// from then on they come about whole, also after a crash, though a reader may see
// some before the others. An error of kind ProblemBusy means in doubt: the same
// call again ends in the same members.
func (f *Fill) Commit(mode FillMode, timeout time.Duration) (FillResult, error) {
	e := f.e
	e.fills.mu.Lock()
	defer e.fills.mu.Unlock()
	if err := e.endFills(); err != nil {
		return FillResult{}, err
	}
	var out FillResult
	for i, set := range f.sets {
		add, remove := e.fillDiff(storage.GroupID(i), f.segment, set, mode)
		out.Added += add.GetCardinality()
		out.Removed += remove.GetCardinality()
	}
	job := &fillJob{segment: f.segment, mode: mode, sets: f.sets}
	var err error
	if out.Added+out.Removed <= fillTogether {
		b := e.Begin()
		e.store.Together(func() { err = b.fillAll(job) })
		if err == nil {
			err = b.Commit(timeout)
		}
	} else {
		err = e.runFill(job)
	}
	if err != nil {
		return FillResult{}, err
	}
	out.Members = e.staticCount(f.segment)
	return out, nil
}

// fillJob is a fill with its people.
type fillJob struct {
	segment storage.Name
	mode    FillMode
	sets    []*roaring.Bitmap
}

// fillDiff returns who of a group has to be put in and taken out.
func (e *Engine) fillDiff(
	id storage.GroupID, segment storage.Name, set *roaring.Bitmap, mode FillMode,
) (add, remove *roaring.Bitmap) {
	g := e.store.Group(id)
	g.Lock()
	defer g.Unlock()
	members := g.SegmentBitmap(segment)
	if members == nil {
		members = roaring.New()
	}
	add, remove = roaring.New(), roaring.New()
	if mode != FillRemove {
		add = roaring.AndNot(set, members)
	}
	switch mode {
	case FillRemove:
		remove = roaring.And(set, members)
	case FillReplace:
		remove = roaring.AndNot(members, set)
	}
	return add, remove
}

// fillAll makes the changes of a job, group by group.
func (b *Batch) fillAll(job *fillJob) error {
	for i, set := range job.sets {
		add, remove := b.e.fillDiff(storage.GroupID(i), job.segment, set, job.mode)
		for _, part := range [...]struct {
			ords *roaring.Bitmap
			in   bool
		}{{remove, false}, {add, true}} {
			it := part.ords.ManyIterator()
			var ords [fillStep]uint32
			for n := it.NextMany(ords[:]); n > 0; n = it.NextMany(ords[:]) {
				if err := b.fillSome(storage.GroupID(i), job.segment, ords[:n], part.in); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// fillSome moves a few people of a group. Who has gone since is passed over.
func (b *Batch) fillSome(
	id storage.GroupID, segment storage.Name, ords []uint32, in bool,
) error {
	g := b.e.store.Group(id)
	names := [1]storage.Name{segment}
	g.Lock()
	defer g.Unlock()
	for _, o := range ords {
		if g.Row(storage.Ord(o)) == nil {
			continue
		}
		b.patch = storage.Patch{}
		if in {
			b.patch.SegmentsAdd = names[:]
		} else {
			b.patch.SegmentsRemove = names[:]
		}
		b.stamp(storage.EffectPatch, storage.Ord(o))
		b.effect.Patch = &b.patch
		if err := b.append(g); err != nil {
			return err
		}
	}
	return nil
}

// runFill writes a job down, makes it come about, and strikes it out.
func (e *Engine) runFill(job *fillJob) error {
	value, err := job.append(nil)
	if err != nil {
		return err
	}
	key := fillKey(job.segment)
	if err := e.store.PutDoc(storage.Doc{Key: key, Value: value}); err != nil {
		return storeProblem(err)
	}
	e.fills.pending = true
	return e.endFills()
}

func fillKey(segment storage.Name) string { return fmt.Sprintf("%s%d", fillPrefix, segment) }

// endFills ends the fills that were written down. fills.mu is held.
func (e *Engine) endFills() error {
	if !e.fills.pending {
		return nil
	}
	jobs := map[string]*fillJob{}
	var fault error
	err := e.store.ScanDocs(fillPrefix, func(key string, value []byte) bool {
		if len(value) == 0 {
			return true // struck out
		}
		job, err := decodeFill(value, e.store.Groups())
		if err != nil {
			fault = fmt.Errorf("document %q: %w", key, err)
			return false
		}
		jobs[key] = job
		return true
	})
	if err := errors.Join(fault, err); err != nil {
		return err
	}
	for key, job := range jobs {
		b := e.Begin()
		if err := b.fillAll(job); err != nil {
			return err
		}
		if err := b.Commit(startWait); err != nil {
			return err
		}
		if err := e.store.PutDoc(storage.Doc{Key: key}); err != nil {
			return storeProblem(err)
		}
	}
	e.fills.pending = false
	return nil
}

// resumeFills ends what a crash has left of fills: by the loop, as soon as the
// store takes it.
func (e *Engine) resumeFills() {
	e.fills.mu.Lock()
	defer e.fills.mu.Unlock()
	if err := e.endFills(); err != nil {
		e.log.Warn("a fill of a segment has not ended yet", "err", err)
	}
}

// append writes a job:
//
//	format u8 | mode u8 | segment u32 | list of (bytes of a portable bitmap), by group
func (j *fillJob) append(dst []byte) ([]byte, error) {
	dst = binary.LittleEndian.AppendUint32(append(dst, fillFormat, byte(j.mode)), uint32(j.segment))
	dst = binary.AppendUvarint(dst, uint64(len(j.sets)))
	for _, set := range j.sets {
		set.RunOptimize()
		b, err := set.ToBytes()
		if err != nil {
			return nil, fmt.Errorf("write down a fill: %w", err)
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(b))), b...)
	}
	return dst, nil
}

func decodeFill(b []byte, groups int) (*fillJob, error) {
	if len(b) > 0 && b[0] > fillFormat {
		return nil, storage.ErrNewerFormat
	}
	if len(b) < 6 || b[0] != fillFormat || b[1] < byte(FillReplace) || b[1] > byte(FillRemove) {
		return nil, storage.ErrCorrupt
	}
	j := &fillJob{
		mode: FillMode(b[1]), segment: storage.Name(binary.LittleEndian.Uint32(b[2:])),
	}
	b = b[6:]
	n, size := binary.Uvarint(b)
	if size <= 0 || n != uint64(groups) {
		return nil, storage.ErrCorrupt
	}
	b = b[size:]
	for range groups {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return nil, storage.ErrCorrupt
		}
		set := roaring.New()
		part := b[size : size+int(n)]
		if read, err := set.FromBuffer(part); err != nil || read != int64(n) || set.Validate() != nil {
			return nil, storage.ErrCorrupt
		}
		j.sets = append(j.sets, set)
		b = b[size+int(n):]
	}
	if len(b) > 0 {
		return nil, storage.ErrCorrupt
	}
	return j, nil
}

// staticCount returns how many people are in a static segment.
func (e *Engine) staticCount(segment storage.Name) (n uint64) {
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		g.Lock()
		if b := g.SegmentBitmap(segment); b != nil {
			n += b.GetCardinality()
		}
		g.Unlock()
	}
	return n
}
